"""A slow EWMA beside a GARCH: what neither says alone, both say better.

The two err in different ways. A GARCH that was fitted on a month tends to that month's mean within hours; an EWMA of a day's
half-life believes the last days for ever. Equal weights in the logarithm of the variance are what the literature on combinations
would choose without looking [1]_; what they are worth, `helios volatility FILE --skill` says for any file.

References
----------
.. [1] Timmermann, "Forecast combinations", Handbook of Economic Forecasting 1, 2006, section 4.
"""

from __future__ import annotations

import math

import numpy as np

from helios.domain.decisions import FloatArray
from helios.risk.garch import VarianceParameters, ewma, filter_variance


class EwmaBlend:
    """The EWMA's state, moved bar by bar, and what it makes of a GARCH's variance of the coming day.

    Parameters
    ----------
    weight : float
        Of the EWMA in the logarithm; 0 leaves the GARCH alone.
    decay : float
        Per bar.
    bars_per_day : int
    """

    def __init__(self, weight: float, decay: float, bars_per_day: int) -> None:
        self._weight = weight
        self._decay = decay
        self._bars_per_day = bars_per_day
        self.stop()

    @property
    def daily_variance(self) -> float:
        """The EWMA's own variance of the coming day, percent squared; NaN where it does not run."""
        return self._variance * self._bars_per_day

    @property
    def is_running(self) -> bool:
        """Whether it changes anything."""
        return self._parameters is not None

    def stop(self) -> None:
        """Leave every variance as it is from now on."""
        self._parameters: VarianceParameters | None = None
        self._variance = math.nan

    def begin(self, returns_pct: FloatArray, daily_variances: FloatArray) -> FloatArray:
        """Start over a window, so that the state depends on the window alone.

        Parameters
        ----------
        returns_pct : ndarray of shape (n,)
            NaN where missing; at least 30 are known.
        daily_variances : ndarray of shape (n,)
            The GARCH's for the day after each of them, percent squared.

        Returns
        -------
        mixed : ndarray of shape (n,)
        """
        if self._weight <= 0.0:
            return daily_variances
        self._parameters = ewma(returns_pct[np.isfinite(returns_pct)], self._decay)
        variances = filter_variance(returns_pct, self._parameters)
        self._variance = float(variances[-1])
        return np.asarray(daily_variances ** (1.0 - self._weight) * (variances[1:] * self._bars_per_day) ** self._weight)

    def push(self, return_pct: float) -> None:
        """Move on by one bar; a missing return (NaN) counts as its expected square."""
        if self._parameters is not None:
            self._variance = self._parameters.step(self._variance, return_pct)

    def mixed(self, daily_variance: float) -> float:
        """Return the variance of the coming day, percent squared, from the GARCH's."""
        if self._parameters is None:
            return daily_variance
        return float(daily_variance ** (1.0 - self._weight) * self.daily_variance**self._weight)

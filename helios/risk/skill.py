"""Is the day-ahead variance forecast worth its fit? Its loss beside an EWMA's and a constant's, on the same days.

The realised variance of a day is the sum of its squared bar returns [2]_, the loss is QLIKE, whose ranking of forecasts
survives the noise in that proxy [1]_, and the difference of two losses is judged by Diebold and Mariano [3]_ with a HAC
variance, because days that begin an hour apart share 23 hours.

References
----------
.. [1] Patton, "Volatility forecast comparison using imperfect volatility proxies", Journal of Econometrics 160, 2011, eq. 24.
.. [2] Andersen and Bollerslev, "Answering the skeptics", International Economic Review 39, 1998.
.. [3] Diebold and Mariano, "Comparing predictive accuracy", Journal of Business & Economic Statistics 13, 1995.
.. [4] Newey and West, "A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent covariance
   matrix", Econometrica 55, 1987.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from helios.domain.decisions import FloatArray

NS_PER_DAY = 86_400_000_000_000
RISKMETRICS_DAILY = 0.94
"""Decay of an EWMA a day by the convention of RiskMetrics; per bar its n-th root."""
MIN_KNOWN = 0.9
"""Share of a day's bars that must have a price for the day to be judged."""
_WARM_UP = 30


class Losses(NamedTuple):
    """QLIKE of one day's variance by forecaster; below zero is impossible, zero is a forecast that came true exactly."""

    model: float
    ewma: float
    ewma_daily: float
    constant: float


def qlike(realised: float, forecast: float) -> float:
    """Return r - ln r - 1 with r = realised / forecast: the Gaussian quasi-likelihood loss, zero where the two agree.

    Infinite where nothing moved: no positive forecast is right then. NaN if the forecast is not positive or either is NaN.
    """
    if not forecast > 0.0 or math.isnan(realised):
        return math.nan
    ratio = realised / forecast
    return ratio - math.log(ratio) - 1.0 if ratio > 0.0 else math.inf


class _Ewma:
    # variance per bar; the plain mean until thirty returns are known, as the recursion has to begin somewhere
    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._n = 0
        self.variance = 0.0

    def update(self, square: float) -> None:
        self._n += 1
        weight = 1.0 / self._n if self._n <= _WARM_UP else 1.0 - self._decay
        self.variance += weight * (square - self.variance)


class _Origin(NamedTuple):
    # what was forecast at a bar, and the sums as they stood then
    bar: int
    squares: float
    n_known: int
    forecasts: Losses


class SkillTracker:
    """Loss of a symbol's day-ahead forecasts so far, in constant memory.

    A day begins at every full hour of market time and is judged when it is over; only days for which all four forecasters had
    a forecast and nine tenths of the bars a price are counted, so that the means are over the same days.

    The rivals: an EWMA with the decay the desk falls back to, an EWMA with RiskMetrics' 0.94 a day, and a constant, the mean
    of all squares so far. A missing close leaves them as they are; the return over k bars enters as k-th part of its square,
    and as its whole square into the realised variance, whose bars without a price add nothing.

    Parameters
    ----------
    bars_per_day : int, default=288
    daily_decay : float, default=0.5
        Of the first EWMA, per day.

    Attributes
    ----------
    n : int
        Days judged; they overlap, so that n / 24 of them are independent.
    n_skipped : int
        Days that were not: too many prices missing, nothing moved, or a forecast missing.
    """

    def __init__(self, bars_per_day: int = 288, daily_decay: float = 0.5) -> None:
        self._bars_per_day = bars_per_day
        self._bar_ns = NS_PER_DAY // bars_per_day
        self._every_ns = NS_PER_DAY // min(24, bars_per_day)
        self._ewma, self._ewma_daily = (_Ewma(d ** (1.0 / bars_per_day)) for d in (daily_decay, RISKMETRICS_DAILY))
        self._bar, self._bar_time = 0, 0
        self._close, self._close_bar = math.nan, 0
        self._squares, self._n_known = 0.0, 0
        self._open: deque[_Origin] = deque()
        self._sums = [0.0] * len(Losses._fields)
        self.n = 0
        self.n_skipped = 0

    def seed(self, closes: FloatArray, end_time: int) -> None:
        """Let the rivals learn from closes of consecutive bars that end at `end_time`; no day of them is judged."""
        n = len(closes)
        for i, close in enumerate(closes.tolist()):
            self.update(close, end_time - (n - 1 - i) * self._bar_ns, math.nan)
        self.n_skipped = 0

    def update(self, close: float, bar_time: int, daily_variance: float) -> Losses | None:
        """Take in a bar and the forecast made at its close; return the losses of the day that ends with it, if one was counted.

        Parameters
        ----------
        close : float
            NaN, zero or negative where unknown.
        bar_time : int
            Close time of the bar, ns UTC. One that is not newer than the last changes nothing; bars that never came are missing.
        daily_variance : float
            Forecast of the coming day's variance as a squared fraction; NaN where there is none.
        """
        if bar_time <= self._bar_time:
            return None
        self._bar += max(1, (bar_time - self._bar_time) // self._bar_ns) if self._bar_time else 1
        self._bar_time = bar_time
        if 0.0 < close < math.inf:
            self._learn(close)
        losses = self._judge()
        if bar_time % self._every_ns == 0 and not math.isnan(daily_variance):
            per_bar = (self._ewma.variance, self._ewma_daily.variance, self._squares / max(self._bar - 1, 1))
            forecasts = Losses(daily_variance, *(self._bars_per_day * v for v in per_bar))
            self._open.append(_Origin(self._bar, self._squares, self._n_known, forecasts))
        return losses

    def scores(self) -> dict[str, float | int | None]:
        """Return the mean loss by forecaster and `n`; None before the first day is over."""
        means = zip(Losses._fields, self._sums, strict=True)
        return {name: total / self.n if self.n else None for name, total in means} | {"n": self.n}

    def _learn(self, close: float) -> None:
        if not math.isnan(self._close):
            square = math.log(close / self._close) ** 2
            self._squares += square
            self._n_known += 1
            per_bar = square / (self._bar - self._close_bar)
            self._ewma.update(per_bar)
            self._ewma_daily.update(per_bar)
        self._close, self._close_bar = close, self._bar

    def _judge(self) -> Losses | None:
        losses = None
        while self._open and self._bar - self._open[0].bar >= self._bars_per_day:
            origin = self._open.popleft()
            is_whole = self._bar - origin.bar == self._bars_per_day
            losses = self._losses(origin) if is_whole else None
            if losses is None:
                self.n_skipped += 1
        return losses

    def _losses(self, origin: _Origin) -> Losses | None:
        if self._n_known - origin.n_known < MIN_KNOWN * self._bars_per_day:
            return None
        realised = self._squares - origin.squares
        losses = Losses(*(qlike(realised, forecast) for forecast in origin.forecasts))
        if not all(math.isfinite(loss) for loss in losses):
            return None
        self.n += 1
        self._sums = [total + loss for total, loss in zip(self._sums, losses, strict=True)]
        return losses


@dataclass(frozen=True, slots=True)
class Comparison:
    """The mean of loss differences (below zero: the first forecaster is better) and how sure one may be that it is not zero."""

    difference: float
    statistic: float
    p_value: float


def diebold_mariano(losses: FloatArray, rival: FloatArray, lags: int) -> Comparison:
    """Compare two series of losses of the same days, two-sided.

    Parameters
    ----------
    losses, rival : ndarray of shape (n,)
    lags : int
        Lags of the Bartlett kernel of Newey and West; for days that overlap k-fold at least k, better twice.

    Returns
    -------
    comparison : Comparison
        Statistic and p-value are NaN below two days or where the two losses are always the same.
    """
    d = np.asarray(losses - rival, dtype=np.float64)
    n = d.size
    if n < 2:
        return Comparison(math.nan if n == 0 else float(d[0]), math.nan, math.nan)
    mean = float(d.mean())
    e = d - mean
    variance = float(e @ e)
    for lag in range(1, min(lags, n - 1) + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * float(e[lag:] @ e[:-lag])
    if not variance > 0.0:
        return Comparison(mean, math.nan, math.nan)
    statistic = mean * n / math.sqrt(variance)
    return Comparison(mean, statistic, float(2.0 * norm.sf(abs(statistic))))

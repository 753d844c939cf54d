"""Risk measures of return and equity series.

Rule for NaN in all of them: NaN observations are left out; fewer than two left, or a zero in the denominator, gives NaN.
"""

from __future__ import annotations

import math

import numpy as np

from helios.domain.decisions import FloatArray

DAYS_PER_YEAR = 365


def value_at_risk(returns: FloatArray, level: float = 0.95) -> float:
    """Return historical VaR: the loss (positive fraction) exceeded in a share 1 - level of observations.

    The (1 - level) quantile of returns, linearly interpolated, negated; negative where even that quantile is a gain.
    """
    known = _known(returns)
    return float(-np.quantile(known, 1.0 - level)) if known.size >= 2 else math.nan


def conditional_value_at_risk(returns: FloatArray, level: float = 0.95) -> float:
    """Return historical CVaR: the mean loss over observations at or beyond VaR; never below VaR."""
    known = _known(returns)
    if known.size < 2:
        return math.nan
    return float(-np.mean(known[known <= np.quantile(known, 1.0 - level)]))


def sharpe_ratio(returns: FloatArray, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised mean over standard deviation (n - 1) of excess returns."""
    known = _known(returns)
    deviation = float(np.std(known, ddof=1)) if known.size >= 2 else 0.0
    return _over(float(np.mean(known)) * math.sqrt(periods_per_year), deviation) if known.size >= 2 else math.nan


def sortino_ratio(returns: FloatArray, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised mean over the root mean square of the losses (gains count as 0), target 0."""
    known = _known(returns)
    if known.size < 2:
        return math.nan
    downside = math.sqrt(float(np.mean(np.minimum(known, 0.0) ** 2)))
    return _over(float(np.mean(known)) * math.sqrt(periods_per_year), downside)


def max_drawdown(equity: FloatArray) -> float:
    """Return the largest fall from a running peak as a positive fraction of it."""
    known = _known(equity)
    if known.size < 2 or not np.all(np.maximum.accumulate(known) > 0.0):
        return math.nan
    return float(np.max(1.0 - known / np.maximum.accumulate(known)))


def calmar_ratio(equity: FloatArray, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the compound annual growth over the largest drawdown."""
    known = _known(equity)
    if known.size < 2 or known[0] <= 0.0 or known[-1] < 0.0:
        return math.nan
    growth = float(known[-1] / known[0]) ** (periods_per_year / (known.size - 1)) - 1.0
    return _over(growth, max_drawdown(known))


def _known(values: FloatArray) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    return array[~np.isnan(array)]


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0.0 else math.nan

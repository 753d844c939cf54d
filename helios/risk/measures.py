"""Risk measures of return and equity series.

Units: returns and drawdowns are fractions, losses positive fractions, ratios plain numbers; what is annualised uses 365 days
unless told the periods of a year. Rule for what is missing, in all of them: observations that are not finite are left out; fewer
than two left, or a zero in the denominator, gives NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from helios.config import LimitConfig
from helios.domain.decisions import FloatArray

DAYS_PER_YEAR = 365
MIN_CORRELATION_RETURNS = 10


class CorrelationRegime(StrEnum):
    """How much the universe moves as one."""

    CRISIS = "CRISIS"
    COUPLED = "COUPLED"
    DECOUPLED = "DECOUPLED"
    UNKNOWN = "UNKNOWN"


def value_at_risk(returns: FloatArray, level: float = 0.95) -> float:
    """Return historical VaR: the loss (positive fraction) that the next period exceeds with probability 1 - level.

    The return of rank (1 - level)(n + 1), between two of them linearly, negated; the worst return where that rank is below 1 (99 %
    with fewer than 99 observations). Negative where even that is a gain. Rank and n + 1 make the probability exact for
    exchangeable returns; numpy's default rank promises 1 % and gives 1.4 % with 250 observations.

    References
    ----------
    .. [1] Hyndman and Fan, "Sample quantiles in statistical packages", American Statistician 50, 1996, definition 6.
    """
    known = _known(returns)
    return float(-np.quantile(known, 1.0 - level, method="weibull")) if known.size >= 2 else math.nan


def conditional_value_at_risk(returns: FloatArray, level: float = 0.95) -> float:
    """Return historical CVaR: the mean loss over the worst share 1 - level of the observations; never below VaR.

    The worst (1 - level) n observations count, the last of them by its fraction, so that the measure is coherent.

    References
    ----------
    .. [1] Rockafellar and Uryasev, "Conditional value-at-risk for general loss distributions", J. Banking & Finance 26, 2002,
       proposition 8.
    """
    known = np.sort(_known(returns))
    if known.size < 2:
        return math.nan
    mass = (1.0 - level) * known.size
    weights = np.clip(mass - np.arange(known.size), 0.0, 1.0)
    return float(-(weights @ known) / mass) if mass > 0.0 else float(-known[0])


def volatility(returns: FloatArray, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised standard deviation (n - 1)."""
    known = _known(returns)
    return float(np.std(known, ddof=1)) * math.sqrt(periods_per_year) if known.size >= 2 else math.nan


def sharpe_ratio(returns: FloatArray, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised mean over standard deviation (n - 1) of excess returns."""
    known = _known(returns)
    deviation = float(np.std(known, ddof=1)) if known.size >= 2 else 0.0
    if known.size < 2 or deviation <= 1e-15 * float(np.max(np.abs(known))):  # equal returns: rounding alone is no risk
        return math.nan
    return _over(float(np.mean(known)) * math.sqrt(periods_per_year), deviation)


def sortino_ratio(returns: FloatArray, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the annualised mean over the root mean square of the losses (gains count as 0), target 0."""
    known = _known(returns)
    if known.size < 2:
        return math.nan
    downside = math.sqrt(float(np.mean(np.minimum(known, 0.0) ** 2)))
    return _over(float(np.mean(known)) * math.sqrt(periods_per_year), downside)


def omega_ratio(returns: FloatArray, threshold: float = 0.0) -> float:
    """Return the sum of what exceeds `threshold` over the sum of what falls short of it."""
    known = _known(returns) - threshold
    if known.size < 2:
        return math.nan
    return _over(float(np.sum(np.maximum(known, 0.0))), float(-np.sum(np.minimum(known, 0.0))))


def tail_ratio(returns: FloatArray, level: float = 0.95) -> float:
    """Return the gain at the `level` quantile over the loss at the 1 - level quantile, both as absolute values."""
    known = _known(returns)
    if known.size < 2:
        return math.nan
    low, high = np.quantile(known, [1.0 - level, level])
    return _over(abs(float(high)), abs(float(low)))


def beta(returns: FloatArray, market: FloatArray) -> float:
    """Return the slope of `returns` on `market` over the periods in which both are known."""
    r, m = np.asarray(returns, dtype=np.float64), np.asarray(market, dtype=np.float64)
    both = np.isfinite(r) & np.isfinite(m)
    if both.sum() < 2:
        return math.nan
    r, m = r[both] - np.mean(r[both]), m[both] - np.mean(m[both])
    return _over(float(r @ m), float(m @ m))


def drawdowns(equity: FloatArray) -> FloatArray:
    """Return at every known point the fall from the highest before it, as a positive fraction; empty where a peak is not positive."""
    known = _known(equity)
    peaks = np.maximum.accumulate(known)
    return 1.0 - known / peaks if known.size >= 2 and np.all(peaks > 0.0) else np.empty(0)


def max_drawdown(equity: FloatArray) -> float:
    """Return the largest fall from a running peak as a positive fraction of it."""
    falls = drawdowns(equity)
    return float(np.max(falls)) if falls.size else math.nan


def ulcer_index(equity: FloatArray) -> float:
    """Return the root mean square of the drawdowns (Martin and McCann 1989), a fraction rather than percent."""
    falls = drawdowns(equity)
    return math.sqrt(float(np.mean(falls**2))) if falls.size else math.nan


def calmar_ratio(equity: FloatArray, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Return the compound annual growth over the largest drawdown."""
    known = _known(equity)
    if known.size < 2 or known[0] <= 0.0 or known[-1] < 0.0:
        return math.nan
    with np.errstate(over="ignore"):
        growth = float(np.power(known[-1] / known[0], periods_per_year / (known.size - 1))) - 1.0
    return _over(growth, max_drawdown(known)) if math.isfinite(growth) else math.nan


def win_rate(profits: FloatArray) -> float:
    """Return the share of trades with a profit; break-even counts as a trade and not as a win. One trade is enough."""
    known = _known(profits)
    return float(np.mean(known > 0.0)) if known.size else math.nan


def profit_factor(profits: FloatArray) -> float:
    """Return the sum of profits over the sum of losses; NaN without a loss."""
    known = _known(profits)
    return _over(float(np.sum(np.maximum(known, 0.0))), float(-np.sum(np.minimum(known, 0.0))))


def mean_correlation(returns: FloatArray) -> float:
    """Return the mean of all pairwise correlations.

    Parameters
    ----------
    returns : ndarray of shape (n_observations, n_assets)
        Each pair uses the rows both know, at least 10; pairs with fewer, or with an asset that does not move, are left out. NaN
        where no pair is left.
    """
    n_assets = returns.shape[1]
    values = [_correlation(returns[:, i], returns[:, j]) for i in range(n_assets) for j in range(i)]
    known = _known(np.array(values, dtype=np.float64))
    return float(np.mean(known)) if known.size else math.nan


def correlation_regime(correlation: float, config: LimitConfig) -> CorrelationRegime:
    """Return CRISIS above `crisis_correlation`, COUPLED above `coupled_correlation`, else DECOUPLED; UNKNOWN for NaN."""
    if math.isnan(correlation):
        return CorrelationRegime.UNKNOWN
    if correlation > config.crisis_correlation:
        return CorrelationRegime.CRISIS
    return CorrelationRegime.COUPLED if correlation > config.coupled_correlation else CorrelationRegime.DECOUPLED


@dataclass(frozen=True, slots=True)
class RiskComponents:
    """What the risk score is made of, each as a share of its limit or full scale (1 = at it); NaN where unknown."""

    drawdown: float = math.nan
    var_95: float = math.nan
    volatility: float = math.nan
    leverage: float = math.nan
    position: float = math.nan
    correlation: float = math.nan


RISK_WEIGHTS = RiskComponents(drawdown=0.30, var_95=0.25, volatility=0.15, leverage=0.10, position=0.10, correlation=0.10)
"""Losses weigh more than half, what could cause them the rest."""


def risk_score(components: RiskComponents) -> float:
    """Return 0 (no risk) to 100 (everything at or beyond its limit): 100 sum(w min(max(c, 0), 1)) / sum(w).

    Over the components that are known; NaN where less than half of the weight is. It never falls when a known component rises.
    """
    names = RiskComponents.__slots__
    known = [(getattr(RISK_WEIGHTS, n), getattr(components, n)) for n in names if not math.isnan(getattr(components, n))]
    total = sum(weight for weight, _ in known)
    return 100.0 * sum(w * min(max(c, 0.0), 1.0) for w, c in known) / total if total >= 0.5 else math.nan


def _correlation(a: FloatArray, b: FloatArray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < MIN_CORRELATION_RETURNS:
        return math.nan
    a, b = a[both] - np.mean(a[both]), b[both] - np.mean(b[both])
    return _over(float(a @ b), math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def _known(values: FloatArray) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0.0 else math.nan

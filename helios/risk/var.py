"""What may be lost in one period: VaR and CVaR by five methods, and the test of how often they were exceeded.

Every estimate is of one period of the returns it is given (a day for daily ones), as a positive fraction of the value held;
negative where even the tail gains. Observations that are not finite are left out; too few for the method, or figures outside the
method's domain, give NaN twice.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, ndtri, stdtrit, xlogy

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.risk.garch import MIN_RETURNS, VarianceParameters, ewma, filter_variance, fit_garch
from helios.risk.measures import conditional_value_at_risk, value_at_risk

MIN_FIT_RETURNS = 500
"""From here on a GARCH fit says more than the EWMA."""
EWMA_DECAY = 0.94
MIN_MOMENT_RETURNS = 20
_MAX_NU = 1e6
_JUDGED_BY = 250
"""So many returns a VaR of the past is made of: too few for a GARCH fit each day."""


class TailMethod(StrEnum):
    """How a tail is estimated."""

    HISTORICAL = "HISTORICAL"
    NORMAL = "NORMAL"
    STUDENT_T = "STUDENT_T"
    CORNISH_FISHER = "CORNISH_FISHER"
    FILTERED = "FILTERED"


class TailLoss(NamedTuple):
    """VaR and CVaR of one period, positive fractions."""

    var: float
    cvar: float


UNKNOWN = TailLoss(math.nan, math.nan)


def tail_loss(returns: FloatArray, level: float = 0.95, method: TailMethod = TailMethod.HISTORICAL) -> TailLoss:
    """Return VaR and CVaR of the next period.

    Parameters
    ----------
    returns : ndarray of shape (n_observations,)
        Oldest first.
    level : float
        0.95: the loss that 5 % of the periods exceed.

    Raises
    ------
    ValueError
        If `level` is not between 0.5 and 1.
    """
    if not 0.5 < level < 1.0:
        raise ValueError(f"level {level} is not between 0.5 and 1")
    if method is TailMethod.HISTORICAL:
        return TailLoss(value_at_risk(returns, level), conditional_value_at_risk(returns, level))
    if method is TailMethod.FILTERED:
        return filtered_tail_loss(returns, level)
    known = _known(returns)
    if known.size < MIN_MOMENT_RETURNS:
        return UNKNOWN
    mean, deviation = float(np.mean(known)), float(np.std(known, ddof=1))
    if method is TailMethod.NORMAL:
        return normal_tail_loss(mean, deviation, level)
    skewness, kurtosis = _shape(known)
    if method is TailMethod.STUDENT_T:
        return student_t_tail_loss(mean, deviation, degrees_of_freedom(kurtosis), level)
    return cornish_fisher_tail_loss(mean, deviation, skewness, kurtosis, level)


def normal_tail_loss(mean: float, deviation: float, level: float = 0.95) -> TailLoss:
    """Return VaR = -(mean + deviation z) and CVaR = -mean + deviation phi(z) / (1 - level), z the (1 - level) quantile."""
    z, alpha = float(ndtri(1.0 - level)), 1.0 - level
    return TailLoss(-(mean + deviation * z), -mean + deviation * _density(z) / alpha)


def student_t_tail_loss(mean: float, deviation: float, nu: float, level: float = 0.95) -> TailLoss:
    """Return the tail of a Student t with this mean and standard deviation.

    Parameters
    ----------
    nu : float
        Degrees of freedom above 2 (else the deviation does not exist: NaN).

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, Quantitative Risk Management, 2nd ed., 2015, example 2.15.
    """
    if not nu > 2.0:
        return UNKNOWN
    if nu >= _MAX_NU:
        return normal_tail_loss(mean, deviation, level)
    alpha = 1.0 - level
    scale, q = deviation * math.sqrt((nu - 2.0) / nu), float(stdtrit(nu, alpha))
    log_density = (
        math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi) - (nu + 1) / 2 * math.log1p(q * q / nu)
    )
    beyond = math.exp(log_density) / alpha * (nu + q * q) / (nu - 1.0)
    return TailLoss(-(mean + scale * q), -mean + scale * beyond)


def cornish_fisher_tail_loss(mean: float, deviation: float, skewness: float, kurtosis: float, level: float = 0.95) -> TailLoss:
    """Return the tail of the Cornish-Fisher expansion: the normal quantile bent by skewness and excess kurtosis.

    CVaR integrates the bent quantile in closed form. Where the bent quantiles are not in order (skewness or kurtosis outside the
    expansion's domain) there is no answer.

    References
    ----------
    .. [1] Maillard, "A user's guide to the Cornish Fisher expansion", 2012, equations 3 and 7.
    """
    if not _is_ordered(skewness, kurtosis):
        return UNKNOWN
    z, alpha = float(ndtri(1.0 - level)), 1.0 - level
    hazard = _density(z) / alpha  # means of z, z^2 and z^3 below its quantile
    one, two, three = -hazard, 1.0 - z * hazard, -(z * z + 2.0) * hazard
    var, cvar = (_bent(*powers, skewness, kurtosis) for powers in ((z, z * z, z**3), (one, two, three)))
    return TailLoss(-(mean + deviation * var), -(mean + deviation * cvar))


def filtered_tail_loss(returns: FloatArray, level: float = 0.95, parameters: VarianceParameters | None = None) -> TailLoss:
    """Return filtered historical simulation: past returns over their filtered volatility, times the present forecast.

    So a tail that was drawn in calm times is widened in a storm, and no distribution is assumed.

    Parameters
    ----------
    returns : ndarray of shape (n_observations,)
        Fractions, oldest first; a missing one keeps its place in the filter and is no part of the tail.
    parameters : VarianceParameters or None
        Of returns x 100; None fits a GARCH from 500 returns on, else, or where the fit fails, takes an EWMA of 0.94. NaN below 30.

    References
    ----------
    .. [1] Barone-Adesi, Giannopoulos and Vosper, "VaR without correlations for portfolios of derivative securities",
       J. Futures Markets 19, 1999.
    """
    in_place = np.asarray(returns, dtype=np.float64) * 100.0
    in_place = np.where(np.isfinite(in_place), in_place, np.nan)
    known = in_place[np.isfinite(in_place)]
    if known.size < MIN_RETURNS:
        return UNKNOWN
    chosen = _parameters(known) if parameters is None else parameters
    variances = filter_variance(in_place, chosen)
    with np.errstate(divide="ignore", invalid="ignore"):
        standardised = in_place / np.sqrt(variances[:-1])
    scaled = standardised * math.sqrt(variances[-1]) / 100.0
    return TailLoss(value_at_risk(scaled, level), conditional_value_at_risk(scaled, level))


class Exceedances(NamedTuple):
    """In how many periods the loss was larger than the VaR told before it, and Kupiec's p-value (small: too many or too few)."""

    n_exceeded: int
    n_periods: int
    p_value: float


def exceedances(
    returns: FloatArray, level: float = 0.95, method: TailMethod = TailMethod.FILTERED, n_least: int = MIN_RETURNS, n_last: int = 90
) -> Exceedances:
    """Judge a VaR by the past: every period of the last `n_last` against the VaR of the `n_least` to 250 periods before it.

    Periods without a return, or for which there was no VaR, are no part of it; the p-value is NaN where none is left.
    """
    known = np.isfinite(returns)
    n_exceeded = n_periods = 0
    for t in range(max(n_least, returns.size - n_last), returns.size):
        told = tail_loss(returns[max(0, t - _JUDGED_BY) : t], level, method).var if known[t] else math.nan
        n_periods += not math.isnan(told)
        n_exceeded += bool(-returns[t] > told)
    return Exceedances(n_exceeded, n_periods, kupiec(n_exceeded, n_periods, level) if n_periods else math.nan)


def portfolio_returns(weights: FloatArray, returns: FloatArray) -> FloatArray:
    """Return what these weights, held, would have earned in each period.

    Parameters
    ----------
    weights : ndarray of shape (n_assets,)
        Fractions of equity, negative for shorts; what is missing to 1 is cash and earns nothing.
    returns : ndarray of shape (n_observations, n_assets)
        Simple returns. A period is NaN where an asset with a weight is; one without a weight does not matter.
    """
    w, held = np.asarray(weights, dtype=np.float64), np.asarray(weights, dtype=np.float64) != 0.0
    earned: FloatArray = returns[:, held] @ w[held]
    return earned


def degrees_of_freedom(kurtosis: float) -> float:
    """Return the Student t's degrees of freedom that have this excess kurtosis, 4 + 6 / kurtosis; infinite from 0 down."""
    return 4.0 + 6.0 / kurtosis if kurtosis > 0.0 else math.inf


def kupiec(n_exceeded: int, n_observations: int, level: float = 0.95) -> float:
    """Return the p-value of Kupiec's test that losses exceed VaR in a share 1 - level of the periods; small: they do not.

    Likelihood ratio of the observed rate against the promised one, chi squared with one degree of freedom.

    Raises
    ------
    ValueError
        If there is no observation, or more exceed than were observed.

    References
    ----------
    .. [1] Kupiec, "Techniques for verifying the accuracy of risk measurement models", J. Derivatives 3, 1995.
    """
    if not 0 <= n_exceeded <= n_observations or n_observations == 0:
        raise ValueError(f"{n_exceeded} of {n_observations} is no count of exceeded periods")
    p, rate = 1.0 - level, n_exceeded / n_observations
    n_kept = n_observations - n_exceeded
    promised = xlogy(n_exceeded, p) + xlogy(n_kept, 1.0 - p)
    observed = xlogy(n_exceeded, rate) + xlogy(n_kept, 1.0 - rate)
    return float(chdtrc(1, max(0.0, 2.0 * float(observed - promised))))


def _parameters(known: FloatArray) -> VarianceParameters:
    if known.size >= MIN_FIT_RETURNS:
        try:
            return fit_garch(known)
        except SolverError:
            pass  # the EWMA needs no fit
    return ewma(known, EWMA_DECAY)


def _shape(known: FloatArray) -> tuple[float, float]:
    # skewness and excess kurtosis, as the moments of the sample are; 0 for returns that are all the same
    centred = known - np.mean(known)
    variance = float(np.mean(centred**2))
    if not variance > 0.0:
        return 0.0, 0.0
    return float(np.mean(centred**3)) / variance**1.5, float(np.mean(centred**4)) / variance**2 - 3.0


def _bent(one: float, two: float, three: float, skewness: float, kurtosis: float) -> float:
    bend = (two - 1.0) * skewness / 6.0 + (three - 3.0 * one) * kurtosis / 24.0
    return one + bend - (2.0 * three - 5.0 * one) * skewness**2 / 36.0


def _is_ordered(skewness: float, kurtosis: float) -> bool:
    # the derivative of the bent quantile is a parabola in z: it must not go below 0 anywhere
    a, b = kurtosis / 8.0 - skewness**2 / 6.0, skewness / 3.0
    c = 1.0 - kurtosis / 8.0 + 5.0 * skewness**2 / 36.0
    return a >= 0.0 and c >= 0.0 and b * b <= 4.0 * a * c


def _density(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def _known(values: FloatArray) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]

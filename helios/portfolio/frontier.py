"""Portfolios that need no or little opinion, the efficient frontier, and yearly figures of given weights.

Caps leave cash: every portfolio here is invested as fully as its limits allow, and the rest is cash. No cap is ever broken to reach
a sum of 1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.portfolio.optimiser import CLARABEL_SETTINGS, Constraints, matrix_root

cp: Any = cvxpy  # its names are re-exported implicitly, which strict type checking refuses
DAYS_PER_YEAR = 365
NEWTON_STEPS = 100
SMALLEST_SPAN = 1e-7
"""Of returns, in units of the largest: below it a frontier is one point."""


@dataclass(frozen=True, slots=True)
class YearlyFigures:
    """Expected return, volatility and Sharpe ratio a year (365 days), from daily moments."""

    expected_return: float
    volatility: float
    sharpe: float


def minimum_variance(sigma: FloatArray, max_position: float = 1.0, limits: Constraints | None = None) -> FloatArray:
    """Return the long-only weights of least variance, invested as fully as the caps allow.

    Parameters
    ----------
    sigma : ndarray of shape (n_assets, n_assets)
        Singular is fine: one of the best answers results.
    max_position : float
        Cap of each weight, where there are no `limits`; raised to 1 / n_assets where it would keep the weights from summing to 1.
    limits : Constraints or None
        Bounds, sectors and budget instead; weights then sum to `investable(limits)`. Lower bounds below 0 count as 0.

    Raises
    ------
    SolverError
        If `sigma` is not finite or the solver fails.
    """
    w, constraints = _invested(_size(sigma), max_position, limits)
    return _solved(cp.Problem(cp.Minimize(cp.sum_squares(_unit_root(sigma) @ w)), constraints), w)


def maximum_diversification(sigma: FloatArray) -> FloatArray:
    """Return the fully invested long-only weights of the largest ratio of mean volatility to portfolio volatility.

    The convex form: minimise y'Sigma y with s'y = 1, s the volatilities; w = y / sum(y).

    Raises
    ------
    SolverError
        If `sigma` is not finite, an asset has no variance, or the solver fails.

    References
    ----------
    .. [1] Choueifaty and Coignard, "Toward Maximum Diversification", J. Portfolio Management 2008.
    """
    n = _size(sigma)
    deviation = _volatilities(sigma)
    y = cp.Variable(n, nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(_unit_root(sigma) @ y)), [(deviation / deviation.mean()) @ y == 1])
    found = _solved(problem, y)
    shares: FloatArray = found / found.sum()
    return shares


def risk_parity(sigma: FloatArray, budgets: FloatArray | None = None) -> FloatArray:
    """Return the fully invested long-only weights to whose variance every asset contributes its share of the budget.

    The convex form: minimise x'Sigma x / 2 - sum(b log x), then w = x / sum(x); at the optimum x_i (Sigma x)_i = b_i. Newton's
    method, damped by the self-concordance of the logarithm, on correlations (volatilities divided out).

    Parameters
    ----------
    sigma : ndarray of shape (n_assets, n_assets)
    budgets : ndarray of shape (n_assets,) or None
        Shares of risk, above 0, in any scale; None: equal.

    Raises
    ------
    SolverError
        If `sigma` is not finite, an asset has no variance, a budget is not above 0, or no portfolio has these shares (some
        long-only portfolio is without risk).

    References
    ----------
    .. [1] Spinu, "An Algorithm for Computing Risk Parity Weights", 2013.
    """
    n = _size(sigma)
    shares = np.full(n, 1.0) if budgets is None else np.asarray(budgets, dtype=np.float64)
    if shares.shape != (n,) or not np.isfinite(shares).all() or (shares <= 0).any():
        raise SolverError("risk parity needs one risk budget above 0 for every asset")
    deviation = _volatilities(sigma)
    x = _equal_risk(sigma / np.outer(deviation, deviation), shares / shares.sum()) / deviation
    weights: FloatArray = x / x.sum()
    return weights


def fitted(weights: FloatArray, limits: Constraints) -> FloatArray:
    """Return long-only `weights` scaled down in common until every cap holds; what is left is cash.

    Scaling in common keeps what risk parity is about: each asset's share of the portfolio's risk.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        of_assets = np.where(weights > 0, limits.upper / weights, np.inf)
        gross = limits.sector_matrix @ weights
        of_sectors = np.where(gross > 0, limits.sector_cap / gross, np.inf)
    paid = float(limits.funded @ weights)
    budget = limits.budget / paid if paid > 0 else math.inf
    total = limits.gross_cap / float(weights.sum()) if weights.sum() > 0 else math.inf
    scaled: FloatArray = weights * max(min(1.0, budget, total, *of_assets, *of_sectors), 0.0)
    return scaled


def efficient_frontier(
    mu: FloatArray, sigma: FloatArray, n_points: int, max_position: float = 1.0, limits: Constraints | None = None
) -> FloatArray:
    """Return weights of least variance for `n_points` expected returns, from the minimum-variance one to the largest reachable.

    Parameters
    ----------
    mu, sigma : ndarray of shape (n_assets,), (n_assets, n_assets)
    n_points : int
        At least 2.
    max_position, limits
        As in `minimum_variance`.

    Returns
    -------
    weights : ndarray of shape (n_points, n_assets)

    Raises
    ------
    SolverError
        If an input is not finite, there are fewer than 2 points, or a point cannot be solved.
    """
    n = _size(sigma)
    if not np.isfinite(mu).all() or mu.shape != (n,) or n_points < 2:
        raise SolverError("the frontier needs a finite expected return of every asset and 2 points or more")
    scale = max(float(np.abs(mu).max()), 1e-12)
    w, constraints = _invested(n, max_position, limits)
    highest = float(mu @ _solved(cp.Problem(cp.Maximize((mu / scale) @ w), constraints), w))
    least = minimum_variance(sigma, max_position, limits)
    lowest = float(mu @ least)
    span = max(highest - lowest, 0.0) / scale
    if span < SMALLEST_SPAN:  # equal returns, or caps that leave one portfolio only
        return np.tile(least, (n_points, 1))
    wanted = cp.Parameter()
    problem = cp.Problem(cp.Minimize(cp.sum_squares(_unit_root(sigma) @ w)), [*constraints, (mu / scale) @ w >= wanted])
    points = []
    for share in np.linspace(0.0, 1.0, n_points):
        wanted.value = lowest / scale + span * min(share, 1.0 - 1e-6)  # the last is a single vertex: leave the solver some room
        points.append(_solved(problem, w))
    return np.array(points)


def risk_contributions(w: FloatArray, sigma: FloatArray) -> FloatArray:
    """Return each asset's share of the variance of `w`, w_i (Sigma w)_i / w'Sigma w; they sum to 1. NaN without risk."""
    variance = float(w @ sigma @ w)
    shares: FloatArray = w * (sigma @ w) / variance if variance > 0 else np.full(len(w), math.nan)
    return shares


def yearly_figures(w: FloatArray, mu: FloatArray, sigma: FloatArray, risk_free_yearly: float = 0.0) -> YearlyFigures:
    """Scale the daily `mu` and `sigma` of weights `w` to a year; cash (1 - sum of w) earns nothing. NaN Sharpe without risk."""
    earned = DAYS_PER_YEAR * float(mu @ w)
    volatility = math.sqrt(DAYS_PER_YEAR * max(float(w @ sigma @ w), 0.0))
    return YearlyFigures(earned, volatility, (earned - risk_free_yearly) / volatility if volatility > 0 else math.nan)


def investable(limits: Constraints) -> float:
    """Return the largest sum of long-only weights that bounds, sectors, budget and gross cap allow, at most 1.

    Raises
    ------
    SolverError
        If not even no position at all is allowed.
    """
    w = cp.Variable(len(limits.upper), nonneg=True)
    return min(float(_solved(cp.Problem(cp.Maximize(cp.sum(w)), [cp.sum(w) <= 1, *_caps(w, limits)]), w).sum()), 1.0)


def _invested(n: int, max_position: float, limits: Constraints | None) -> tuple[Any, list[Any]]:
    w = cp.Variable(n, nonneg=True)
    if limits is None:
        return w, [cp.sum(w) == 1, w <= max(max_position, 1.0 / n)]
    return w, [cp.sum(w) == investable(limits), *_caps(w, limits)]


def _caps(w: Any, limits: Constraints) -> list[Any]:
    return [
        w >= np.maximum(limits.lower, 0.0),
        w <= limits.upper,
        limits.sector_matrix @ w <= limits.sector_cap,
        limits.funded @ w <= limits.budget,
        cp.sum(w) <= limits.gross_cap,
    ]


def _equal_risk(correlations: FloatArray, budgets: FloatArray) -> FloatArray:
    x: FloatArray = np.sqrt(budgets) / math.sqrt(max(float(correlations.sum()), 1e-12) / len(budgets))
    for _ in range(NEWTON_STEPS):
        gradient = correlations @ x - budgets / x
        if float(np.abs(gradient * x).max()) <= 1e-13 * len(x) ** 0.5:
            return x
        hessian = correlations + np.diag(budgets / x**2)
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError as error:
            raise SolverError("risk parity has no answer for a singular covariance") from error
        relative = float(np.abs(step / x).max())
        x = x - step * (1.0 if relative <= 0.3 else 1.0 / (1.0 + relative))  # within the domain x > 0 whatever the step
    gap = np.abs(x * (correlations @ x) - budgets)
    if float((gap / budgets).max()) > 1e-8:
        raise SolverError("no long-only portfolio has these shares of risk")
    return x


def _unit_root(sigma: FloatArray) -> FloatArray:
    # Dividing by the mean variance changes no answer here and puts the objective near 1, where tolerances mean something.
    root: FloatArray = matrix_root(sigma) / math.sqrt(max(float(np.diag(sigma).mean()), 1e-16))
    return root


def _volatilities(sigma: FloatArray) -> FloatArray:
    variances = np.diag(sigma)
    if (variances <= 0).any():
        raise SolverError("an asset has no variance: there is no share of risk for it")
    deviation: FloatArray = np.sqrt(variances)
    return deviation


def _size(sigma: FloatArray) -> int:
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or not sigma.size or not np.isfinite(sigma).all():
        raise SolverError("the covariance is empty, not square or not finite")
    return int(sigma.shape[0])


def _solved(problem: Any, variable: Any) -> FloatArray:
    # Caps that leave hardly any choice keep the solver from its tenth digit; then its usual eight must do.
    for settings in (CLARABEL_SETTINGS, {"max_threads": 1}):
        ended = _solve(problem, settings)
        if ended == cp.OPTIMAL and variable.value is not None:
            return np.maximum(np.asarray(variable.value, dtype=np.float64), 0.0)
    raise SolverError(f"the solver ended as {ended}")


def _solve(problem: Any, settings: Mapping[str, object]) -> str:
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", UserWarning)  # cvxpy warns of inaccuracy; the status is the check
        try:
            problem.solve(solver=cp.CLARABEL, warm_start=False, **settings)
        except cp.error.SolverError:
            return "failed"
    return str(problem.status)

"""Minimum variance, risk parity, the efficient frontier, and yearly figures of given weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.portfolio.optimiser import CLARABEL_SETTINGS, matrix_root

cp: Any = cvxpy  # its names are re-exported implicitly, which strict type checking refuses
DAYS_PER_YEAR = 365


@dataclass(frozen=True, slots=True)
class YearlyFigures:
    """Expected return, volatility and Sharpe ratio a year (365 days), from daily moments."""

    expected_return: float
    volatility: float
    sharpe: float


def minimum_variance(sigma: FloatArray, max_position: float = 1.0) -> FloatArray:
    """Return the fully invested long-only weights of least variance.

    Parameters
    ----------
    sigma : ndarray of shape (n_assets, n_assets)
    max_position : float
        Cap of each weight; raised to 1 / n_assets where it would make the problem infeasible.

    Raises
    ------
    SolverError
        If `sigma` is not finite or the solver fails.
    """
    n = _size(sigma)
    w, constraints = _fully_invested(n, max_position)
    return _solved(cp.Problem(cp.Minimize(cp.sum_squares(_unit_root(sigma) @ w)), constraints), w)


def risk_parity(sigma: FloatArray) -> FloatArray:
    """Return the fully invested long-only weights to whose variance every asset contributes the same.

    The convex form: minimise x'Sigma x / 2 - sum log(x) / n, then w = x / sum(x); at the optimum x_i (Sigma x)_i = 1 / n.

    Raises
    ------
    SolverError
        If `sigma` is not finite, an asset has no variance, or the solver fails.

    References
    ----------
    .. [1] Spinu, "An Algorithm for Computing Risk Parity Weights", 2013.
    """
    n = _size(sigma)
    if (np.diag(sigma) <= 0).any():
        raise SolverError("risk parity needs a positive variance of every asset")
    x = cp.Variable(n)
    loss = cp.sum_squares(_unit_root(sigma) @ x) / 2 - cp.sum(cp.log(x)) / n
    found = _solved(cp.Problem(cp.Minimize(loss)), x)
    shares: FloatArray = found / found.sum()
    return shares


def efficient_frontier(mu: FloatArray, sigma: FloatArray, n_points: int, max_position: float = 1.0) -> FloatArray:
    """Return weights of least variance for `n_points` expected returns, from the minimum-variance one to the largest reachable.

    Returns
    -------
    weights : ndarray of shape (n_points, n_assets)

    Raises
    ------
    SolverError
        If an input is not finite or a point cannot be solved.
    """
    n = _size(sigma)
    if not np.isfinite(mu).all():
        raise SolverError("an expected return is not finite")
    scale = max(float(np.abs(mu).max()), 1e-12)
    w, constraints = _fully_invested(n, max_position)
    highest = float(mu @ _solved(cp.Problem(cp.Maximize((mu / scale) @ w), constraints), w))
    lowest = float(mu @ minimum_variance(sigma, max_position))
    wanted = cp.Parameter()
    problem = cp.Problem(cp.Minimize(cp.sum_squares(_unit_root(sigma) @ w)), [*constraints, (mu / scale) @ w >= wanted])
    points = []
    for target in np.linspace(lowest, highest, n_points):
        wanted.value = target / scale - 1e-9  # the last point is a single vertex: leave the solver a little room
        points.append(_solved(problem, w))
    return np.array(points)


def yearly_figures(w: FloatArray, mu: FloatArray, sigma: FloatArray, risk_free_yearly: float = 0.0) -> YearlyFigures:
    """Scale the daily `mu` and `sigma` of weights `w` to a year; cash (1 - sum of w) earns nothing. NaN Sharpe without risk."""
    earned = DAYS_PER_YEAR * float(mu @ w)
    volatility = math.sqrt(DAYS_PER_YEAR * max(float(w @ sigma @ w), 0.0))
    return YearlyFigures(earned, volatility, (earned - risk_free_yearly) / volatility if volatility > 0 else math.nan)


def _fully_invested(n: int, max_position: float) -> tuple[Any, list[Any]]:
    w = cp.Variable(n, nonneg=True)
    return w, [cp.sum(w) == 1, w <= max(max_position, 1.0 / n)]


def _unit_root(sigma: FloatArray) -> FloatArray:
    # Dividing by the mean variance changes no answer here and puts the objective near 1, where tolerances mean something.
    root: FloatArray = matrix_root(sigma) / math.sqrt(max(float(np.diag(sigma).mean()), 1e-16))
    return root


def _size(sigma: FloatArray) -> int:
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or not sigma.size or not np.isfinite(sigma).all():
        raise SolverError("the covariance is empty, not square or not finite")
    return int(sigma.shape[0])


def _solved(problem: Any, variable: Any) -> FloatArray:
    try:
        problem.solve(solver=cp.CLARABEL, **CLARABEL_SETTINGS)
    except cp.error.SolverError as error:
        raise SolverError(f"the solver gave up: {error}") from error
    if problem.status != cp.OPTIMAL or variable.value is None:
        raise SolverError(f"the solver ended as {problem.status}")
    return np.maximum(np.asarray(variable.value, dtype=np.float64), 0.0)

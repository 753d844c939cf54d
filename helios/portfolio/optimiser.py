"""Convex portfolio problems, compiled once per size (disciplined parametrised programming) and solved again with new numbers.

Clarabel is the solver: an interior-point method without randomness and without memory of the last solve. OSQP's warm start
would make an answer depend on the one before it, and a replay could then differ from the live session.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.portfolio.covariance import repair_psd

cp: Any = cvxpy  # its names are re-exported implicitly, which strict type checking refuses
CLARABEL_SETTINGS = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10, "max_threads": 1}


@dataclass(frozen=True, slots=True)
class Constraints:
    """What weights are allowed, all as fractions of equity.

    Attributes
    ----------
    lower, upper : ndarray of shape (n_assets,)
        Bounds of each weight; `lower` is 0 or more where nothing can be sold short.
    sector_matrix : ndarray of shape (n_sectors, n_assets)
        1 where the asset belongs to the sector.
    sector_cap : ndarray of shape (n_sectors,)
        Largest gross weight of each sector.
    funded : ndarray of shape (n_assets,)
        1 where the asset must be paid for in full (spot), 0 where it only needs margin (perpetuals).
    budget : float
        Largest sum of funded weights; what is left is cash, which earns 0.
    gross_cap : float
        Largest sum of absolute weights.
    """

    lower: FloatArray
    upper: FloatArray
    sector_matrix: FloatArray
    sector_cap: FloatArray
    funded: FloatArray
    budget: float = 1.0
    gross_cap: float = 1.0

    @classmethod
    def long_only(cls, n_assets: int, max_position: float = 1.0) -> Constraints:
        """Spot assets with one cap, every asset in its own sector."""
        ones = np.ones(n_assets)
        return cls(np.zeros(n_assets), max_position * ones, np.eye(n_assets), ones.copy(), ones.copy())


class MeanVarianceOptimiser:
    """Maximise mu'w - (gamma / 2) w'Sigma w - cost'|w - w0| within `Constraints`.

    Parameters
    ----------
    n_assets : int
        Size of the problem; one object per size, reused for any numbers. At most `n_assets` sectors.
    """

    def __init__(self, n_assets: int) -> None:
        if n_assets < 1:
            raise SolverError("a portfolio problem needs at least one asset")
        self.n_assets = n_assets
        self._utility = _Utility(n_assets)
        self._sharpe: _Sharpe | None = None

    def solve(
        self, mu: FloatArray, sigma: FloatArray, w0: FloatArray, cost: FloatArray, gamma: float, limits: Constraints
    ) -> FloatArray:
        """Return the best weights.

        Parameters
        ----------
        mu, w0, cost : ndarray of shape (n_assets,)
            Expected returns, present weights, cost per unit of |w - w0| (0 or more).
        sigma : ndarray of shape (n_assets, n_assets)
            Covariance in the time unit of `mu`; singular is fine.
        gamma : float
            Risk aversion, 0 or more.

        Returns
        -------
        w : ndarray of shape (n_assets,)
            Clipped to the bounds.

        Raises
        ------
        SolverError
            If an input is not finite, or the problem is infeasible or not solved to full accuracy: keep the present weights.
        """
        self._check(mu, sigma, w0, cost, limits)
        # One scale for all terms leaves the answer as it is and puts the objective near 1, where tolerances mean something.
        scale = max(float(np.abs(mu).max()), gamma * float(np.diag(sigma).max()), float(cost.max()), 1e-12)
        problem = self._utility
        problem.mu.value, problem.cost.value, problem.w0.value = mu / scale, cost / scale, w0
        problem.root.value = np.sqrt(gamma / 2 / scale) * matrix_root(sigma)
        problem.gross_cap.value, problem.budget.value = limits.gross_cap, limits.budget
        problem.bind(limits)
        return np.clip(_solved(problem.problem, problem.w), limits.lower, limits.upper)

    def max_sharpe(self, mu: FloatArray, sigma: FloatArray, limits: Constraints, risk_free: float = 0.0) -> FloatArray:
        """Return the weights of largest (mu'w - risk_free) / sqrt(w'Sigma w), invested as fully as the caps allow.

        The convex form: minimise y'Sigma y with (mu - risk_free)'y = 1, y = kappa w. Weights sum to min(1, sum of upper
        bounds); the rest is cash, so that caps that do not reach 1 are kept instead of broken. Costs and leverage play no part.

        Raises
        ------
        SolverError
            If no asset is expected to earn more than `risk_free`, or the solver fails.
        """
        zeros = np.zeros(self.n_assets)
        self._check(mu, sigma, zeros, zeros, limits)
        excess = mu - risk_free
        if not (excess[limits.upper > 0] > 0).any():
            raise SolverError("no asset is expected to earn more than the risk-free rate")
        if self._sharpe is None:
            self._sharpe = _Sharpe(self.n_assets)
        problem = self._sharpe
        # y has the size of 1 / excess: dividing by the largest excess and by the mean variance keeps it near 1.
        problem.excess.value = excess / float(np.abs(excess).max())
        problem.root.value = matrix_root(sigma) / np.sqrt(max(float(np.diag(sigma).mean()), 1e-16))
        problem.invested.value = min(1.0, float(limits.upper.sum()))
        problem.bind(limits)
        y = _solved(problem.problem, problem.y)
        kappa = float(np.asarray(problem.kappa.value))
        if kappa <= 1e-9:
            raise SolverError("the maximum Sharpe problem has no finite answer")
        return np.clip(y / kappa, limits.lower, limits.upper)

    def _check(self, mu: FloatArray, sigma: FloatArray, w0: FloatArray, cost: FloatArray, limits: Constraints) -> None:
        arrays = (mu, sigma, w0, cost, limits.lower, limits.upper, limits.sector_matrix, limits.sector_cap, limits.funded)
        if not all(np.isfinite(a).all() for a in arrays):
            raise SolverError("an input of the optimiser is not finite")
        if mu.shape != (self.n_assets,) or sigma.shape != (self.n_assets, self.n_assets):
            raise SolverError(f"shapes {mu.shape} and {sigma.shape} do not fit {self.n_assets} assets")
        if (cost < 0).any() or (limits.lower > limits.upper).any():
            raise SolverError("a cost is negative or a lower bound lies above its upper bound")
        if len(limits.sector_cap) > self.n_assets:
            raise SolverError("there are more sectors than assets")


class _Utility:
    """The compiled mean-variance problem; every number in it is a parameter."""

    def __init__(self, n: int) -> None:
        self.w, trade = cp.Variable(n), cp.Variable(n)  # cost * |w - w0| would multiply two parameters: not DPP
        self.mu, self.w0, self.root = cp.Parameter(n), cp.Parameter(n), cp.Parameter((n, n))
        self.cost = cp.Parameter(n, nonneg=True)
        self.lower, self.upper = cp.Parameter(n), cp.Parameter(n)
        self.sectors, self.sector_cap = cp.Parameter((n, n), nonneg=True), cp.Parameter(n)
        self.funded, self.budget, self.gross_cap = cp.Parameter(n), cp.Parameter(), cp.Parameter()
        gain = self.mu @ self.w - cp.sum_squares(self.root @ self.w) - self.cost @ cp.abs(trade)
        self.problem = cp.Problem(
            cp.Maximize(gain),
            [
                trade == self.w - self.w0,
                self.w >= self.lower,
                self.w <= self.upper,
                self.sectors @ cp.abs(self.w) <= self.sector_cap,
                self.funded @ self.w <= self.budget,
                cp.norm1(self.w) <= self.gross_cap,
            ],
        )

    def bind(self, limits: Constraints) -> None:
        _bind(self, limits)
        self.funded.value = limits.funded


class _Sharpe:
    """The compiled maximum Sharpe problem in y = kappa w."""

    def __init__(self, n: int) -> None:
        self.y, self.kappa = cp.Variable(n), cp.Variable(nonneg=True)
        self.excess, self.root = cp.Parameter(n), cp.Parameter((n, n))
        self.lower, self.upper = cp.Parameter(n), cp.Parameter(n)
        self.sectors, self.sector_cap = cp.Parameter((n, n), nonneg=True), cp.Parameter(n)
        self.invested = cp.Parameter(nonneg=True)
        self.problem = cp.Problem(
            cp.Minimize(cp.sum_squares(self.root @ self.y)),
            [
                self.excess @ self.y == 1,
                cp.sum(self.y) == self.invested * self.kappa,
                self.y >= cp.multiply(self.lower, self.kappa),
                self.y <= cp.multiply(self.upper, self.kappa),
                self.sectors @ cp.abs(self.y) <= cp.multiply(self.sector_cap, self.kappa),
            ],
        )

    def bind(self, limits: Constraints) -> None:
        _bind(self, limits)


def _bind(problem: _Utility | _Sharpe, limits: Constraints) -> None:
    n, k = len(limits.lower), len(limits.sector_cap)
    sectors, caps = np.zeros((n, n)), np.ones(n)
    sectors[:k], caps[:k] = limits.sector_matrix, limits.sector_cap
    problem.lower.value, problem.upper.value = limits.lower, limits.upper
    problem.sectors.value, problem.sector_cap.value = sectors, caps


def matrix_root(sigma: FloatArray) -> FloatArray:
    """Return R with R'R = `sigma` (after PSD repair); works for singular matrices, where Cholesky does not."""
    values, vectors = np.linalg.eigh(repair_psd(sigma))
    root: FloatArray = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return root


def _solved(problem: Any, variable: Any) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # cvxpy warns of inaccuracy; the status below is the check
        try:
            problem.solve(solver=cp.CLARABEL, warm_start=False, **CLARABEL_SETTINGS)
        except cp.error.SolverError as error:
            raise SolverError(f"the solver gave up: {error}") from error
    if problem.status != cp.OPTIMAL or variable.value is None:
        raise SolverError(f"the solver ended as {problem.status}")
    return np.asarray(variable.value, dtype=np.float64)

"""Portfolio problems of one size, solved again and again with new numbers.

`helios.portfolio.problems` says what is solved; `helios.portfolio.active_set` usually answers first, with proof. Where it cannot
(the covariance is singular, many rows bind at once, nothing is feasible), the compiled problem goes to Clarabel, and the limits
that bind there are solved exactly afterwards. Neither keeps anything of the last answer: a replay gives the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.numerics import one_thread
from helios.portfolio.active_set import ActiveSet, Guess
from helios.portfolio.constraints import FEASIBLE, Constraints, Region, check_limits, region
from helios.portfolio.covariance import repair_psd
from helios.portfolio.problems import CLARABEL_SETTINGS, CompiledProblem, RatioProblem, UtilityProblem

__all__ = ["CLARABEL_SETTINGS", "Constraints", "MeanVarianceOptimiser", "matrix_root"]

_NEAR = 1e-6
_Problem = TypeVar("_Problem", bound=CompiledProblem)


class MeanVarianceOptimiser:
    """Best weights of `n_assets` within `Constraints`: by utility, by Sharpe ratio, or by variance alone.

    Parameters
    ----------
    n_assets : int
        Size of the problem; one object per size, reused for any numbers. Problems are compiled when first needed.
    """

    def __init__(self, n_assets: int) -> None:
        if n_assets < 1:
            raise SolverError("a portfolio problem needs at least one asset")
        self.n_assets = n_assets
        self._compiled: dict[tuple[str, int], CompiledProblem] = {}

    def solve(
        self, mu: FloatArray, sigma: FloatArray, w0: FloatArray, cost: FloatArray, gamma: float, limits: Constraints
    ) -> FloatArray:
        """Maximise mu'w - (gamma / 2) w'Sigma w - cost'|w - w0|.

        Parameters
        ----------
        mu, w0, cost : ndarray of shape (n_assets,)
            Expected returns, present weights, cost per unit of |w - w0| (0 or more).
        sigma : ndarray of shape (n_assets, n_assets)
            Covariance in the time unit of `mu`; singular is fine.
        gamma : float
            Risk aversion, 0 or more.
        limits : Constraints

        Returns
        -------
        w : ndarray of shape (n_assets,)
            Within its bounds exactly, within every other limit to 1e-8.

        Raises
        ------
        SolverError
            If an input is not finite, or the problem is infeasible or not solved to full accuracy: keep the present weights.
        """
        self._check(mu, sigma, w0, cost, limits)
        if not np.isfinite(gamma) or gamma < 0 or (cost < 0).any():
            raise SolverError("a cost or the risk aversion is negative or not finite")
        # One scale for all terms leaves the answer as it is and puts the objective near 1, where tolerances mean something.
        scale = max(float(np.abs(mu).max()), gamma * float(np.diag(sigma).max()), float(cost.max()), 1e-12)
        within = region(limits, w0)
        with one_thread():
            H = _semidefinite(sigma) * (gamma / scale)
            exact = ActiveSet(H, mu / scale, cost / scale, within)
            start = np.clip(w0, within.lower, within.upper)
            w = exact.leap(exact.nearest(start))
            if w is None and within.violation(start) <= 0:
                w = exact.walk(start)
            if w is None:
                problem = self._problem("utility", within, UtilityProblem)
                problem.cost.value = cost / scale
                w = _refined(exact, problem, H, mu / scale, within)
        return _kept(w, within)

    def max_sharpe(
        self,
        mu: FloatArray,
        sigma: FloatArray,
        limits: Constraints,
        risk_free: float = 0.0,
        w0: FloatArray | None = None,
    ) -> FloatArray:
        """Return the weights of largest (mu'w - risk_free) / sqrt(w'Sigma w), invested as fully as the limits allow.

        Weights sum to 1 - cash, or to what caps, sectors, budget and leverage leave room for; the rest is cash, so that limits
        that do not reach 1 are kept instead of broken. Cash earns nothing: what is invested must earn the risk-free rate of the
        whole, and more cash asks more of each asset. Costs play no part; a turnover limit is measured from `w0` (None: from
        all cash).

        Raises
        ------
        SolverError
            If nothing allowed is expected to earn more than `risk_free`, or the solver fails.
        """
        w0 = np.zeros(self.n_assets) if w0 is None else w0
        zeros = np.zeros(self.n_assets)
        self._check(mu, sigma, w0, zeros, limits)
        within = region(limits, w0, is_invested=True)
        # With a given sum of weights T, mu'w - r = (mu - r / T)'w.
        excess = mu - risk_free / max(within.total or 0.0, 1e-12)
        if not np.isfinite(risk_free) or not (excess[limits.upper > 0] > 0).any():
            raise SolverError("no asset is expected to earn more than the risk-free rate")
        excess = excess / float(np.abs(excess).max())
        return self._invested(excess, sigma, within, is_ratio=True)

    def min_variance(self, sigma: FloatArray, limits: Constraints, w0: FloatArray | None = None) -> FloatArray:
        """Return the weights of least variance, invested as fully as the limits allow (see `max_sharpe`).

        Raises
        ------
        SolverError
            If an input is not finite, or the solver fails.
        """
        zeros = np.zeros(self.n_assets)
        w0 = zeros if w0 is None else w0
        self._check(zeros, sigma, w0, zeros, limits)
        return self._invested(zeros, sigma, region(limits, w0, is_invested=True), is_ratio=False)

    def _invested(self, mu: FloatArray, sigma: FloatArray, within: Region, is_ratio: bool) -> FloatArray:
        if within.violation(within.upper) <= 1e-12:
            return within.upper  # the sum leaves nothing to choose
        # y has the size of 1 / excess: excess near 1 and dividing by the mean variance keep it near 1.
        scale = max(float(np.diag(sigma).mean()), 1e-16)
        with one_thread():
            H = _semidefinite(sigma) / scale
            exact = ActiveSet(H, mu, np.zeros(self.n_assets), within, is_ratio)
            volatility = np.sqrt(np.maximum(np.diag(H), 1e-12))
            w = exact.leap(exact.filled(np.argsort(-mu / volatility if is_ratio else volatility, kind="stable")))
            if w is None:
                make = partial(RatioProblem, is_variance=not is_ratio)
                problem = self._problem("sharpe" if is_ratio else "variance", within, make)
                problem.total.value = within.total
                w = _refined(exact, problem, H, mu, within)
        return _kept(w, within)

    def _problem(self, name: str, within: Region, make: Callable[[int, int], _Problem]) -> _Problem:
        key = (name, len(within.gross_caps))
        if key not in self._compiled:
            self._compiled[key] = make(self.n_assets, key[1])
        return self._compiled[key]  # type: ignore[return-value]

    def _check(self, mu: FloatArray, sigma: FloatArray, w0: FloatArray, cost: FloatArray, limits: Constraints) -> None:
        n = self.n_assets
        if any(a.shape != (n,) for a in (mu, w0, cost)) or sigma.shape != (n, n):
            raise SolverError(f"shapes {mu.shape} and {sigma.shape} do not fit {n} assets")
        if not all(np.isfinite(a).all() for a in (mu, sigma, w0, cost)):
            raise SolverError("an input of the optimiser is not finite")
        check_limits(limits, n)


def matrix_root(sigma: FloatArray) -> FloatArray:
    """Return R with R'R = `sigma` (after PSD repair); works for singular matrices, where Cholesky does not."""
    values, vectors = np.linalg.eigh(repair_psd(sigma))
    root: FloatArray = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return root


def _semidefinite(sigma: FloatArray) -> FloatArray:
    # A Cholesky factor proves it at a tenth of the price of the eigenvalues.
    symmetric = (sigma + sigma.T) / 2
    try:
        np.linalg.cholesky(symmetric + 1e-12 * max(float(np.diag(sigma).max()), 1e-300) * np.eye(len(sigma)))
    except np.linalg.LinAlgError:
        return repair_psd(symmetric)
    return symmetric


def _refined(exact: ActiveSet, problem: CompiledProblem, H: FloatArray, mu: FloatArray, within: Region) -> FloatArray:
    # The interior point ends a hair inside the limits that bind: they are solved exactly where that passes every test.
    problem.bind(mu, within)
    inside = np.clip(problem.solved(H), within.lower, within.upper)
    guess: Guess = exact.nearest(inside, _NEAR)
    polished = exact.leap(guess)
    return inside if polished is None else polished


def _kept(w: FloatArray, within: Region) -> FloatArray:
    w = np.clip(w, within.lower, within.upper)
    if not within.violation(w) <= FEASIBLE:
        raise SolverError("the solver's answer breaks a limit")
    return w

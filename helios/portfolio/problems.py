"""The portfolio problems as cvxpy states them: the definition, compiled once per size, and the solver of last resort.

Every number is a parameter (disciplined parametrised programming), except the covariance: a parameter of n^2 entries would make
each solve re-multiply a tensor of that many columns and hand the solver a dense block instead of a quadratic term. The compiled
problem therefore holds the identity in its place, and the entries of the quadratic term are written over before each solve.

Clarabel is the solver: an interior-point method without randomness and without memory of the last solve. OSQP's warm start
would make an answer depend on the one before it, and a replay could then differ from the live session.
"""

from __future__ import annotations

import warnings
from typing import Any

import cvxpy
import numpy as np
import scipy.sparse

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.portfolio.constraints import Region

cp: Any = cvxpy  # its names are re-exported implicitly, which strict type checking refuses
CLARABEL_SETTINGS = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10, "max_threads": 1}


class CompiledProblem:
    """Parameters, the region's constraints and the solve that both problems share.

    Parameters
    ----------
    n_assets, n_rows : int
        Size; how many gross rows (sectors, leverage) the region has.
    """

    problem: Any
    weights: Any

    def __init__(self, n_assets: int, n_rows: int) -> None:
        n, m = n_assets, n_rows
        self.mu, self.w0, self.lower, self.upper = cp.Parameter(n), cp.Parameter(n), cp.Parameter(n), cp.Parameter(n)
        self.funded, self.budget = cp.Parameter(n), cp.Parameter()
        self.gross_rows = cp.Parameter((m, n), nonneg=True) if m else None
        self.gross_caps = cp.Parameter(m) if m else None
        self.turnover = cp.Parameter(nonneg=True)

    def constraints(self, w: Any, trade: Any, kappa: Any) -> list[Any]:
        """Return the region for weights `w` measured in units of `kappa`."""
        kept = [
            trade == w - cp.multiply(self.w0, kappa),
            w >= cp.multiply(self.lower, kappa),
            w <= cp.multiply(self.upper, kappa),
            self.funded @ w <= self.budget * kappa,
            cp.norm1(trade) <= self.turnover * kappa,
        ]
        if self.gross_rows is not None:
            kept.append(self.gross_rows @ cp.abs(w) <= cp.multiply(self.gross_caps, kappa))
        return kept

    def bind(self, mu: FloatArray, within: Region) -> None:
        """Set what both problems have in common."""
        self.mu.value, self.w0.value = mu, within.w0
        self.lower.value, self.upper.value = within.lower, within.upper
        self.funded.value, self.budget.value = within.funded, within.budget
        if self.gross_rows is not None and self.gross_caps is not None:
            self.gross_rows.value, self.gross_caps.value = within.gross_rows, within.gross_caps
        reach = float(np.maximum(np.abs(within.lower - within.w0), np.abs(within.upper - within.w0)).sum())
        self.turnover.value = min(within.turnover, 1.0 + reach)  # infinity is no number to a solver

    def solved(self, H: FloatArray) -> FloatArray:
        """Solve with the quadratic term w'Hw / 2.

        Raises
        ------
        SolverError
            If the problem is infeasible or not solved to full accuracy.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # cvxpy warns of inaccuracy; the status below is the check
            try:
                data, chain, inverse = self.problem.get_problem_data(cp.CLARABEL, solver_opts=dict(CLARABEL_SETTINGS))
                data["P"] = self._quadratic(H, data)
                raw = chain.solve_via_data(self.problem, data, solver_opts=dict(CLARABEL_SETTINGS))
                self.problem.unpack_results(raw, chain, inverse)
            except cp.error.SolverError as error:
                raise SolverError(f"the solver gave up: {error}") from error
        if self.problem.status == cp.INFEASIBLE:
            raise SolverError("no weights keep all of these limits")
        if self.problem.status != cp.OPTIMAL or self.weights.value is None:
            raise SolverError(f"the solver ended as {self.problem.status}")
        return np.asarray(self.weights.value, dtype=np.float64)

    def _quadratic(self, H: FloatArray, data: dict[str, Any]) -> Any:
        size, first = data["P"].shape[0], data["param_prob"].var_id_to_col[self.weights.id]
        rows, columns = np.indices(H.shape).reshape(2, -1) + first
        return scipy.sparse.coo_matrix((H.ravel(), (rows, columns)), shape=(size, size)).tocsc()


class UtilityProblem(CompiledProblem):
    """Minimise w'Hw / 2 - mu'w + cost'|w - w0| within a region."""

    def __init__(self, n_assets: int, n_rows: int) -> None:
        super().__init__(n_assets, n_rows)
        n = n_assets
        self.weights, trade = cp.Variable(n), cp.Variable(n)  # cost * |w - w0| would multiply two parameters: not DPP
        self.cost = cp.Parameter(n, nonneg=True)
        loss = cp.quad_form(self.weights, np.eye(n), assume_PSD=True) - self.mu @ self.weights + self.cost @ cp.abs(trade)
        self.problem = cp.Problem(cp.Minimize(loss), self.constraints(self.weights, trade, 1.0))


class RatioProblem(CompiledProblem):
    """Maximise mu'w / sqrt(w'Hw) with a given sum of weights: minimise y'Hy / 2 with mu'y = 1 and y = kappa w.

    With `is_variance` the normalisation is kappa = 1 instead, which leaves the least variance.
    """

    def __init__(self, n_assets: int, n_rows: int, is_variance: bool = False) -> None:
        super().__init__(n_assets, n_rows)
        n = n_assets
        self.weights, trade, self.kappa = cp.Variable(n), cp.Variable(n), cp.Variable(nonneg=True)
        self.total = cp.Parameter()
        normal = self.kappa == 1 if is_variance else self.mu @ self.weights == 1
        self.problem = cp.Problem(
            cp.Minimize(cp.quad_form(self.weights, np.eye(n), assume_PSD=True)),
            [normal, cp.sum(self.weights) == self.total * self.kappa, *self.constraints(self.weights, trade, self.kappa)],
        )

    def solved(self, H: FloatArray) -> FloatArray:
        """Return w = y / kappa. Raises SolverError also where no finite kappa exists."""
        y = super().solved(H)
        kappa = float(np.asarray(self.kappa.value))
        if kappa <= 1e-9:
            raise SolverError("the maximum Sharpe problem has no finite answer")
        return y / kappa

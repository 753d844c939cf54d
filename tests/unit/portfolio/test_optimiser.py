"""The optimiser: conditions of optimality, hard cases, and the failures that keep the present weights."""

from __future__ import annotations

from dataclasses import replace

import cvxpy
import numpy as np
import pytest

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.portfolio.constraints import region
from helios.portfolio.covariance import repair_psd
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser, matrix_root
from helios.portfolio.problems import UtilityProblem

ZERO3 = np.zeros(3)
MU = np.array([0.004, 0.003, 0.002])
SIGMA = np.diag([0.0009, 0.0016, 0.0004])
FREE = replace(Constraints.long_only(3), upper=np.full(3, 5.0), sector_cap=np.full(3, 9.0), budget=9.0, gross_cap=9.0)


def solve(mu: object = MU, sigma: object = SIGMA, limits: Constraints = FREE, gamma: float = 2.5, cost: float = 0.0) -> object:
    return MeanVarianceOptimiser(3).solve(np.asarray(mu), np.asarray(sigma), ZERO3, np.full(3, cost), gamma, limits)


def test_without_limits_the_answer_is_the_closed_form() -> None:
    np.testing.assert_allclose(solve(), MU / (2.5 * np.diag(SIGMA)), rtol=1e-6)


def test_a_cost_shifts_the_closed_form_by_its_amount() -> None:
    np.testing.assert_allclose(solve(cost=0.001), (MU - 0.001) / (2.5 * np.diag(SIGMA)), rtol=1e-6)


def test_a_gain_below_its_cost_leaves_the_weight_where_it_is() -> None:
    w0 = np.array([0.3, 0.1, 0.0])
    mu = 2.5 * SIGMA @ w0 + np.array([0.0009, -0.0009, 0.0005])
    w = MeanVarianceOptimiser(3).solve(mu, SIGMA, w0, np.full(3, 0.001), 2.5, FREE)
    np.testing.assert_allclose(w, w0, atol=1e-7)


def test_position_budget_sector_and_gross_caps_bind() -> None:
    rich = np.full(3, 0.1)
    capped = replace(FREE, upper=np.full(3, 0.2))
    np.testing.assert_allclose(solve(rich, limits=capped), 0.2, atol=1e-7)
    assert np.sum(solve(rich, limits=replace(FREE, budget=1.0))) == pytest.approx(1.0, abs=1e-7)
    together = replace(FREE, sector_matrix=np.array([[1.0, 1.0, 0.0], [0, 0, 1.0]]), sector_cap=np.array([0.6, 0.3]))
    w = np.asarray(solve(rich, limits=together))
    assert (w[0] + w[1], w[2]) == pytest.approx((0.6, 0.3), abs=1e-7)
    short = replace(FREE, lower=np.full(3, -5.0), gross_cap=1.5)
    assert np.abs(solve(np.array([0.1, -0.1, 0.1]), limits=short)).sum() == pytest.approx(1.5, abs=1e-7)


def test_only_what_must_be_funded_uses_the_budget() -> None:
    limits = replace(FREE, funded=np.array([1.0, 0.0, 1.0]), budget=0.5, upper=np.full(3, 1.0))
    w = np.asarray(solve(np.full(3, 0.1), limits=limits))
    assert w[0] + w[2] == pytest.approx(0.5, abs=1e-7)
    assert w[1] == pytest.approx(1.0, abs=1e-6)


def test_singular_covariance_and_one_asset_are_solved() -> None:
    same = np.full((3, 3), 0.0009)
    w = np.asarray(solve(np.full(3, 0.001), same))
    assert w.sum() == pytest.approx(0.001 / (2.5 * 0.0009), rel=1e-5)
    one = MeanVarianceOptimiser(1).solve(
        np.array([0.01]), np.array([[0.0009]]), np.zeros(1), np.zeros(1), 2.5, Constraints.long_only(1, 0.2)
    )
    np.testing.assert_allclose(one, 0.2, atol=1e-8)


@pytest.mark.parametrize(
    "limits",
    [
        replace(FREE, lower=np.full(3, 0.5), budget=1.0),
        replace(FREE, lower=np.full(3, 0.5), sector_cap=np.full(3, 0.1)),
        replace(FREE, lower=np.full(3, 6.0)),
        replace(FREE, upper=np.array([1.0, np.nan, 1.0])),
        replace(FREE, lower=np.full(3, 0.5), turnover=1.0),
        replace(FREE, lower=np.full(3, 0.5), max_trade=np.full(3, 0.4)),
        replace(FREE, lower=np.full(3, 0.3), cash=0.5),
        replace(FREE, turnover=float("nan")),
        replace(FREE, turnover=-0.1),
        replace(FREE, upper=np.ones(2)),
    ],
)
def test_infeasible_limits_raise(limits: Constraints) -> None:
    with pytest.raises(SolverError):
        solve(limits=limits)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_raises(bad: float) -> None:
    with pytest.raises(SolverError):
        solve(mu=[bad, 0.0, 0.0])
    with pytest.raises(SolverError):
        solve(sigma=np.diag([0.1, bad, 0.1]))


def test_no_assets_and_wrong_shapes_raise() -> None:
    with pytest.raises(SolverError):
        MeanVarianceOptimiser(0)
    with pytest.raises(SolverError):
        solve(mu=[0.1, 0.2])
    with pytest.raises(SolverError):
        solve(cost=-0.1)


def test_the_problem_is_compiled_once_and_takes_new_numbers() -> None:
    problem, within = UtilityProblem(3, 0), region(FREE, ZERO3)
    assert problem.problem.is_dcp(dpp=True)
    problem.cost.value = ZERO3
    problem.bind(MU, within)
    np.testing.assert_allclose(problem.solved(2.5 * SIGMA), MU / (2.5 * np.diag(SIGMA)), rtol=1e-6)
    compiled = problem.problem._cache.param_prog
    assert compiled is not None
    problem.bind(2 * MU, within)
    np.testing.assert_allclose(problem.solved(5.0 * SIGMA), MU / (2.5 * np.diag(SIGMA)), rtol=1e-6)
    assert problem.problem._cache.param_prog is compiled


def test_nothing_is_remembered_from_the_last_problem() -> None:
    used = MeanVarianceOptimiser(3)
    for other in (-MU, 3 * MU):
        used.solve(other, SIGMA, np.full(3, 0.2), np.full(3, 0.001), 2.5, FREE)
        used.max_sharpe(np.abs(other), SIGMA, Constraints.long_only(3, 0.5))
    for limits in (FREE, replace(FREE, gross_cap=1.2, budget=0.8)):
        fresh = MeanVarianceOptimiser(3).solve(MU, SIGMA, ZERO3, ZERO3, 2.5, limits)
        assert used.solve(MU, SIGMA, ZERO3, ZERO3, 2.5, limits).tobytes() == fresh.tobytes()


def test_a_singular_problem_is_answered_alike_before_and_after_others() -> None:
    sigma, mu, cost = np.full((3, 3), 0.0009), np.array([0.004, 0.004, 0.003]), np.full(3, 0.0001)
    limits = replace(Constraints.long_only(3, 0.5), turnover=0.6)
    solver = MeanVarianceOptimiser(3)
    first = solver.solve(mu, sigma, ZERO3, cost, 1.0, limits)
    solver.solve(-mu, SIGMA, ZERO3, cost, 1.0, limits)
    assert solver.solve(mu, sigma, ZERO3, cost, 1.0, limits).tobytes() == first.tobytes()


@pytest.mark.parametrize("outside", [np.array([0.9, 0.0, 0.0]), np.array([0.6, 0.6, 0.6])])
def test_present_weights_outside_the_limits_are_brought_inside(outside: object) -> None:
    limits = replace(Constraints.long_only(3, 0.5), sector_matrix=np.ones((1, 3)), sector_cap=np.array([0.8]))
    w = MeanVarianceOptimiser(3).solve(MU, SIGMA, np.asarray(outside), np.full(3, 0.01), 2.5, limits)
    assert (w <= 0.5).all() and w.sum() <= 0.8 + 1e-8


def test_turnover_trade_and_cash_limits_bind() -> None:
    rich, w0 = np.full(3, 0.1), np.array([0.1, 0.0, 0.0])
    solver = MeanVarianceOptimiser(3)
    w = solver.solve(rich, SIGMA, w0, ZERO3, 2.5, replace(FREE, turnover=0.4))
    assert np.abs(w - w0).sum() == pytest.approx(0.4, abs=1e-9)
    w = solver.solve(rich, SIGMA, w0, ZERO3, 2.5, replace(FREE, max_trade=np.array([0.05, 0.2, 0.0])))
    np.testing.assert_allclose(w, [0.15, 0.2, 0.0], atol=1e-12)
    w = solver.solve(rich, SIGMA, w0, ZERO3, 2.5, replace(FREE, cash=0.3))
    assert w.sum() == pytest.approx(0.7, abs=1e-9)
    assert solver.max_sharpe(rich, SIGMA, replace(Constraints.long_only(3), cash=0.25)).sum() == pytest.approx(0.75, abs=1e-9)


def test_no_turnover_means_the_present_weights() -> None:
    w0 = np.array([0.2, 0.3, 0.1])
    np.testing.assert_allclose(MeanVarianceOptimiser(3).solve(MU, SIGMA, w0, ZERO3, 2.5, replace(FREE, turnover=0.0)), w0, atol=1e-10)


def test_without_risk_aversion_the_best_asset_is_filled_first() -> None:
    w = MeanVarianceOptimiser(3).solve(MU, SIGMA, ZERO3, ZERO3, 0.0, Constraints.long_only(3, 0.6))
    np.testing.assert_allclose(w, [0.6, 0.4, 0.0], atol=1e-8)


def test_least_variance_of_independent_assets_is_the_closed_form() -> None:
    raw = 1 / np.diag(SIGMA)
    np.testing.assert_allclose(MeanVarianceOptimiser(3).min_variance(SIGMA, Constraints.long_only(3)), raw / raw.sum(), rtol=1e-9)
    capped = MeanVarianceOptimiser(3).min_variance(SIGMA, Constraints.long_only(3, 0.3))
    np.testing.assert_allclose(capped, 0.3)


def test_a_matrix_that_is_no_covariance_is_repaired_first() -> None:
    broken = SIGMA.copy()
    broken[0, 1] = broken[1, 0] = 0.0020  # a correlation of 1.67
    limits = Constraints.long_only(3)
    np.testing.assert_allclose(solve(sigma=broken, limits=limits), solve(sigma=repair_psd(broken), limits=limits), atol=1e-7)


def test_an_asset_without_risk_and_one_without_room_are_fine() -> None:
    limits = replace(Constraints.long_only(3), upper=np.array([0.4, 0.0, 1.0]))
    w = MeanVarianceOptimiser(3).max_sharpe(MU, np.diag([0.0009, 0.0016, 0.0]), limits)
    assert w[1] == 0.0 and w.sum() == pytest.approx(1.0)
    assert w[2] > 0.99
    one = MeanVarianceOptimiser(1)
    np.testing.assert_allclose(one.max_sharpe(MU[:1], SIGMA[:1, :1], Constraints.long_only(1, 0.4)), 0.4)
    np.testing.assert_allclose(one.min_variance(SIGMA[:1, :1], Constraints.long_only(1)), 1.0)


def test_max_sharpe_of_independent_assets_is_the_closed_form() -> None:
    w = MeanVarianceOptimiser(3).max_sharpe(MU, SIGMA, Constraints.long_only(3), risk_free=0.001)
    raw = (MU - 0.001) / np.diag(SIGMA)
    np.testing.assert_allclose(w, raw / raw.sum(), rtol=1e-5)


def test_max_sharpe_keeps_a_cap_that_cannot_reach_one() -> None:
    two = MeanVarianceOptimiser(2)
    w = two.max_sharpe(MU[:2], SIGMA[:2, :2], Constraints.long_only(2, 0.4))
    np.testing.assert_allclose(w, 0.4, atol=1e-6)


def test_max_sharpe_leaves_in_cash_what_the_sectors_have_no_room_for() -> None:
    sectors = replace(Constraints.long_only(3), sector_matrix=np.array([[1.0, 1.0, 0], [0, 0, 1.0]]), sector_cap=np.array([0.5, 0.2]))
    solver = MeanVarianceOptimiser(3)
    for w in (solver.max_sharpe(MU, SIGMA, sectors), solver.min_variance(SIGMA, sectors)):
        assert (w[0] + w[1], w[2]) == pytest.approx((0.5, 0.2), abs=1e-9)
    one = replace(sectors, sector_matrix=np.ones((1, 3)), sector_cap=np.array([0.6]))
    raw = MU / np.diag(SIGMA)
    np.testing.assert_allclose(solver.max_sharpe(MU, SIGMA, one), 0.6 * raw / raw.sum(), rtol=1e-8)


def test_max_sharpe_is_the_largest_of_what_is_reported_also_where_caps_leave_cash() -> None:
    limits, free = replace(Constraints.long_only(3, 0.6), budget=0.6), 0.0004
    mu = np.array([0.0009, 0.0012, 0.0030])

    def sharpe(w: FloatArray) -> float:
        return float(mu @ w - free) / float(np.sqrt(w @ SIGMA @ w))

    best = MeanVarianceOptimiser(3).max_sharpe(mu, SIGMA, limits, free)
    steps = np.linspace(0.0, 0.6, 121)
    others = [np.array([a, b, 0.6 - a - b]) for a in steps for b in steps if a + b <= 0.6]
    assert best.sum() == pytest.approx(0.6)
    assert sharpe(best) >= max(sharpe(w) for w in others) - 1e-12
    assert sharpe(best) == pytest.approx(max(sharpe(w) for w in others), rel=1e-3)


def test_max_sharpe_without_anything_worth_holding_raises() -> None:
    with pytest.raises(SolverError):
        MeanVarianceOptimiser(3).max_sharpe(-MU, SIGMA, Constraints.long_only(3))
    with pytest.raises(SolverError):
        MeanVarianceOptimiser(3).max_sharpe(MU, SIGMA, Constraints.long_only(3), risk_free=0.005)


def test_the_root_reproduces_the_matrix() -> None:
    root = matrix_root(np.array([[2.0, 1.0], [1.0, 0.5]]))
    np.testing.assert_allclose(root.T @ root, [[2.0, 1.0], [1.0, 0.5]], atol=1e-12)
    assert cvxpy.CLARABEL in cvxpy.installed_solvers()


def test_the_exact_solver_answers_by_itself_and_the_compiled_problem_is_the_exception() -> None:
    rng, n = np.random.default_rng(5), 6
    solver = MeanVarianceOptimiser(n)
    for _ in range(40):
        sigma = np.cov(rng.normal(0, 0.02, (40, n)).T)
        mu, w0 = np.abs(rng.normal(0.001, 0.004, n)), rng.dirichlet(np.ones(n)) * 0.5
        limits = Constraints.long_only(n, 0.4)
        solver.solve(mu, sigma, w0, np.full(n, 0.001), 2.5, replace(limits, upper=np.maximum(w0, 0.4)))
        solver.max_sharpe(mu, sigma, limits)
        solver.min_variance(sigma, limits)
    assert not solver._compiled

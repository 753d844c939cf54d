"""Minimum variance, risk parity, frontier and yearly figures against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helios.errors import SolverError
from helios.portfolio.frontier import (
    efficient_frontier,
    fitted,
    investable,
    maximum_diversification,
    minimum_variance,
    risk_contributions,
    risk_parity,
    yearly_figures,
)
from helios.portfolio.optimiser import Constraints

DIAGONAL = np.diag([0.0004, 0.0009, 0.0016])
SIGMA = np.array([[0.0004, 0.0001, 0.0002], [0.0001, 0.0009, 0.0003], [0.0002, 0.0003, 0.0016]])
MU = np.array([0.001, 0.002, 0.003])


def test_minimum_variance_of_independent_assets_is_inverse_variance() -> None:
    inverse = 1 / np.diag(DIAGONAL)
    np.testing.assert_allclose(minimum_variance(DIAGONAL), inverse / inverse.sum(), atol=1e-6)


def test_an_infeasible_cap_becomes_equal_weights() -> None:
    np.testing.assert_allclose(minimum_variance(DIAGONAL, 0.2), 1 / 3, atol=1e-7)


def test_risk_parity_equalises_the_contributions() -> None:
    w = risk_parity(SIGMA)
    contributions = w * (SIGMA @ w) / (w @ SIGMA @ w)
    assert w.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(contributions, 1 / 3, atol=1e-5)


def test_risk_parity_of_independent_assets_is_inverse_volatility() -> None:
    inverse = 1 / np.sqrt(np.diag(DIAGONAL))
    np.testing.assert_allclose(risk_parity(DIAGONAL), inverse / inverse.sum(), atol=1e-5)


def test_the_frontier_rises_in_return_and_risk_from_the_minimum() -> None:
    points = efficient_frontier(MU, SIGMA, 6)
    risk = np.einsum("ki,ij,kj->k", points, SIGMA, points)
    np.testing.assert_allclose(points[0], minimum_variance(SIGMA), atol=1e-3)
    assert (np.diff(points @ MU) > 0).all()
    assert (np.diff(risk) > -1e-10).all()
    assert points[-1] @ MU == pytest.approx(0.003, rel=1e-5)


def test_yearly_figures_scale_return_and_volatility_by_their_own_powers() -> None:
    figures = yearly_figures(np.array([0.5]), np.array([0.001]), np.array([[0.0004]]), risk_free_yearly=0.05)
    assert figures.expected_return == pytest.approx(0.1825)
    assert figures.volatility == pytest.approx(0.01 * math.sqrt(365))
    assert figures.sharpe == pytest.approx((0.1825 - 0.05) / figures.volatility)
    assert math.isnan(yearly_figures(np.zeros(1), np.zeros(1), np.zeros((1, 1))).sharpe)


@pytest.mark.parametrize("sigma", [np.empty((0, 0)), np.full((2, 2), np.nan), np.zeros((2, 3))])
def test_a_matrix_that_is_none_raises(sigma: np.ndarray) -> None:
    with pytest.raises(SolverError):
        minimum_variance(sigma)
    with pytest.raises(SolverError):
        risk_parity(sigma)


def test_an_asset_without_variance_has_no_risk_parity() -> None:
    with pytest.raises(SolverError):
        risk_parity(np.diag([0.1, 0.0]))


def capped(caps: float, sector: float, budget: float = 1.0, gross: float = 1.0) -> Constraints:
    """Three assets, the first two in one sector."""
    ones = np.ones(3)
    sectors = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return Constraints(0 * ones, caps * ones, sectors, np.full(2, sector), ones, budget, gross)


@pytest.mark.parametrize(
    ("limits", "total"),
    [
        (capped(0.2, 1), 0.6),
        (capped(0.4, 0.5), 0.9),
        (capped(1, 1), 1),
        (capped(1, 1, budget=0.7), 0.7),
        (capped(1, 1, gross=0.5), 0.5),
    ],
    ids=["position", "sector", "none", "budget", "gross"],
)
def test_caps_leave_cash_instead_of_being_broken(limits: Constraints, total: float) -> None:
    assert investable(limits) == pytest.approx(total)
    w = minimum_variance(SIGMA, limits=limits)
    assert w.sum() == pytest.approx(total)
    assert (w <= limits.upper + 1e-9).all()
    assert (limits.sector_matrix @ w <= limits.sector_cap + 1e-9).all()
    for point in efficient_frontier(MU, SIGMA, 3, limits=limits):
        assert point.sum() == pytest.approx(total)
        assert (limits.sector_matrix @ point <= limits.sector_cap + 1e-8).all()


def test_bounds_that_cannot_be_met_raise() -> None:
    ones = np.ones(2)
    impossible = Constraints(0.8 * ones, ones, np.eye(2), ones, ones)  # two lower bounds of 80 %
    with pytest.raises(SolverError):
        minimum_variance(SIGMA[:2, :2], limits=impossible)


def test_minimum_variance_under_a_sector_cap_is_that_of_the_closed_form() -> None:
    # Independent assets, sector of the first two binding at 0.5: within it inverse variances share.
    w = minimum_variance(DIAGONAL, limits=capped(1, 0.5))
    np.testing.assert_allclose(w, [0.5 * 9 / 13, 0.5 * 4 / 13, 0.5], atol=1e-6)


def test_given_risk_budgets_are_met() -> None:
    budgets = np.array([5.0, 3.0, 2.0])
    w = risk_parity(SIGMA, budgets)
    np.testing.assert_allclose(risk_contributions(w, SIGMA), [0.5, 0.3, 0.2], rtol=1e-9)


def test_risk_parity_does_not_depend_on_the_unit_of_any_asset() -> None:
    leverage = np.array([1.0, 1e-4, 1e3])
    w = risk_parity(SIGMA * np.outer(leverage, leverage)) * leverage
    np.testing.assert_allclose(w / w.sum(), risk_parity(SIGMA), rtol=1e-9)


@pytest.mark.parametrize("budgets", [np.array([1.0, 0.0, 1.0]), np.array([1.0, np.nan, 1.0]), np.ones(2)], ids=["zero", "nan", "two"])
def test_wrong_risk_budgets_raise(budgets: np.ndarray) -> None:
    with pytest.raises(SolverError):
        risk_parity(SIGMA, budgets)


def test_a_pair_without_risk_has_no_risk_parity() -> None:
    with pytest.raises(SolverError):
        risk_parity(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    np.testing.assert_allclose(risk_parity(np.ones((2, 2))), 0.5)  # identical assets do have one


def test_scaling_to_the_caps_keeps_the_shares_of_risk() -> None:
    w = fitted(risk_parity(SIGMA), capped(0.2, 0.3))
    assert w.max() <= 0.2 + 1e-12
    assert w[:2].sum() == pytest.approx(0.3)
    np.testing.assert_allclose(risk_contributions(w, SIGMA), 1 / 3, rtol=1e-9)
    np.testing.assert_array_equal(fitted(np.zeros(3), capped(0.2, 0.3)), np.zeros(3))


def test_maximum_diversification_is_not_diluted_by_a_copy() -> None:
    copies = np.array([[1.0, 1.0, 0.2], [1.0, 1.0, 0.2], [0.2, 0.2, 1.0]]) * 0.0004
    w = maximum_diversification(copies)
    np.testing.assert_allclose([w[:2].sum(), w[2]], 0.5, atol=1e-6)
    with pytest.raises(SolverError):
        maximum_diversification(np.diag([1.0, 0.0]))


def test_a_portfolio_without_risk_has_no_shares_of_it() -> None:
    assert np.isnan(risk_contributions(np.zeros(3), SIGMA)).all()


@pytest.mark.parametrize(("mu", "n"), [(np.full(3, np.nan), 5), (np.ones(2), 5), (np.ones(3), 1)])
def test_a_frontier_of_nothing_raises(mu: np.ndarray, n: int) -> None:
    with pytest.raises(SolverError):
        efficient_frontier(mu, SIGMA, n)


def test_the_frontier_of_equal_returns_is_one_portfolio() -> None:
    points = efficient_frontier(np.full(3, 0.001), SIGMA, 3)
    np.testing.assert_allclose(points, np.tile(minimum_variance(SIGMA), (3, 1)), atol=1e-4)


@pytest.mark.parametrize(
    ("sectors", "cap", "sector_cap", "total"),
    [([2, 1], 1.0, 0.4, 0.8), ([3, 1], 0.2, 0.4, 0.6), ([1, 2], 1 / 3, 0.2, 0.4), ([1, 1, 1], 1.0, 1 / 3, 1.0)],
    ids=["all-sectors-full", "one-free-choice", "position-above-sector", "no-choice"],
)
def test_the_frontier_holds_where_caps_leave_little_choice(sectors: list[int], cap: float, sector_cap: float, total: float) -> None:
    matrix = np.repeat(np.eye(len(sectors)), sectors, axis=1)
    n = sum(sectors)
    limits = Constraints(np.zeros(n), np.full(n, cap), matrix, np.full(len(sectors), sector_cap), np.ones(n))
    for seed in range(2):
        rng = np.random.default_rng(seed)
        sigma = np.cov(rng.normal(0, 0.03, (60, n)) @ rng.normal(size=(n, n)), rowvar=False)
        points = efficient_frontier(rng.normal(0.001, 0.002, n), sigma, 4, limits=limits)
        np.testing.assert_allclose(points.sum(axis=1), total, atol=1e-7)
        assert (points @ matrix.T <= sector_cap + 1e-7).all()

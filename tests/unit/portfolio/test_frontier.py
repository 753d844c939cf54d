"""Minimum variance, risk parity, frontier and yearly figures against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helios.errors import SolverError
from helios.portfolio.frontier import efficient_frontier, minimum_variance, risk_parity, yearly_figures

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

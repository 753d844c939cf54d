"""Covariance, price history and Black-Litterman: exact small cases."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from helios.domain.decisions import FloatArray
from helios.domain.market import MarketSnapshot
from helios.errors import ConfigError, InsufficientHistoryError, SolverError
from helios.pipeline.ports import SymbolContext
from helios.portfolio.black_litterman import posterior
from helios.portfolio.covariance import (
    ESTIMATORS,
    aligned_returns,
    closes_grid,
    correlation,
    estimate,
    repair_psd,
)
from helios.portfolio.history import DAY_NS, HOUR_NS, TURNOVER_NS, PriceHistory

RNG = np.random.default_rng(5)
SIGMA = np.array([[0.0009, 0.0004], [0.0004, 0.0016]])
PRIOR = np.array([0.6, 0.4])


def bar(symbol: str, t: int, close: float, volume: float = 0.0) -> SymbolContext:
    return SymbolContext(symbol, t, close, volume, MarketSnapshot(symbol, Decimal(1), t))


def test_covariance_uses_only_rows_that_all_assets_share() -> None:
    clean = RNG.normal(0, 0.02, (40, 3))
    holes = np.vstack([clean, np.full((5, 3), np.nan)])
    holes[-5:, 0] = 9.0  # an outlier in rows that the others do not have
    np.testing.assert_array_equal(estimate(holes), estimate(clean))


def test_covariance_shrinks_correlations_and_keeps_the_trace() -> None:
    returns = RNG.multivariate_normal([0, 0], SIGMA, 60)
    sample, shrunk = np.cov(returns, rowvar=False, ddof=0), estimate(returns)
    assert abs(shrunk[0, 1]) < abs(sample[0, 1])
    assert np.trace(shrunk) == pytest.approx(np.trace(sample))


def test_nineteen_rows_are_too_few_and_twenty_enough() -> None:
    returns = RNG.normal(size=(20, 2))
    assert estimate(returns).shape == (2, 2)
    with pytest.raises(InsufficientHistoryError):
        estimate(returns[:19])


def test_repair_sets_negative_eigenvalues_to_zero() -> None:
    repaired = repair_psd(np.array([[1.0, 2.0], [2.0, 1.0]]))  # eigenvalues 3 and -1
    np.testing.assert_allclose(repaired, [[1.5, 1.5], [1.5, 1.5]])


def test_returns_join_on_time_and_never_span_a_gap() -> None:
    closes = {"A": {0: 1.0, 10: 2.0, 20: 4.0, 30: 8.0}, "B": {10: 5.0, 30: 6.0, 35: 9.0}}
    returns = aligned_returns(closes, ["A", "B"], 10)
    np.testing.assert_array_equal(returns[:, 0], [1.0, 1.0, 1.0])
    assert np.isnan(returns[:, 1]).all()


def test_history_keeps_closes_on_the_hour_once() -> None:
    history = PriceHistory(keep_days=90)
    for minutes in range(0, 21 * 60 + 1, 5):
        history.observe([bar("A", minutes * HOUR_NS // 60, 100.0 + minutes)])
    assert history.universe(["A", "B"]) == ["A"]
    before = history.covariance(["A"])
    history.observe([bar("A", 20 * HOUR_NS, 1e9)])  # late: already seen
    np.testing.assert_array_equal(history.covariance(["A"]), before)


def test_hourly_covariance_is_scaled_to_a_day() -> None:
    history = PriceHistory(keep_days=90)
    steps = RNG.normal(0, 0.01, 1_000)
    closes = 100 * np.cumprod(np.concatenate([[1.0], 1 + steps]))
    history.seed("A", range(0, 1_001 * HOUR_NS, HOUR_NS), list(closes), 1.0)
    assert history.covariance(["A"])[0, 0] == pytest.approx(24 * steps.var(), rel=1e-6)


def test_daily_returns_are_preferred_from_sixty_on() -> None:
    steps = RNG.normal(0, 0.03, 60)
    closes = list(100 * np.cumprod(np.concatenate([[1.0], 1 + steps])))
    history = PriceHistory(keep_days=90)
    history.seed("A", range(0, 61 * DAY_NS, DAY_NS), closes, 1.0)
    assert history.covariance(["A"])[0, 0] == pytest.approx(steps.var(), rel=1e-6)


def test_old_closes_are_dropped() -> None:
    history = PriceHistory(keep_days=10)
    history.seed("A", range(0, 40 * DAY_NS, DAY_NS), [1.0 + i for i in range(40)], 1.0)
    assert history.universe(["A"]) == []


def test_turnover_fades_over_thirty_days_and_sets_the_prior() -> None:
    history = PriceHistory(keep_days=10)
    history.seed("A", [0], [1.0], 100.0)
    history.seed("B", [TURNOVER_NS], [1.0], 100.0)
    history.observe([bar("A", TURNOVER_NS, 1.0, volume=5.0)])
    a = 100 * np.exp(-1) + 5
    np.testing.assert_allclose(history.prior_weights(["A", "B"]), [a / (a + 100), 100 / (a + 100)])
    np.testing.assert_allclose(history.prior_weights(["X", "Y"]), 0.5)


def test_full_confidence_reproduces_the_view_and_none_the_prior() -> None:
    P, Q = np.array([[1.0, 0.0]]), np.array([0.02])
    sure = posterior(SIGMA, PRIOR, P, Q, np.array([1.0]), 2.5, 0.025)
    assert sure.mu[0] == pytest.approx(0.02, rel=1e-12)
    blind = posterior(SIGMA, PRIOR, P, Q, np.array([0.0]), 2.5, 0.025)
    np.testing.assert_array_equal(blind.mu, blind.pi)
    np.testing.assert_allclose(blind.pi, 2.5 * SIGMA @ PRIOR)


@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.9])
def test_one_view_moves_the_estimate_by_its_confidence(confidence: float) -> None:
    made = posterior(SIGMA, PRIOR, np.array([[0.0, 1.0]]), np.array([0.02]), np.array([confidence]), 2.5, 0.025)
    assert made.mu[1] == pytest.approx(made.pi[1] + confidence * (0.02 - made.pi[1]), rel=1e-12)


@pytest.mark.parametrize("confidence", [5e-324, 1e-300, 1e-16])
def test_a_confidence_next_to_none_is_none(confidence: float) -> None:
    made = posterior(SIGMA, PRIOR, np.eye(2)[:1], np.array([0.5]), np.array([confidence]), 2.5, 0.025)
    np.testing.assert_array_equal(made.mu, made.pi)


def test_risk_is_sigma_plus_a_small_uncertainty_not_the_uncertainty_alone() -> None:
    made = posterior(SIGMA, PRIOR, np.eye(2), np.zeros(2), np.array([0.5, 0.5]), 2.5, 0.025)
    assert (np.diag(made.sigma_plus) > np.diag(SIGMA)).all()
    assert (np.diag(made.sigma_plus) < 1.025 * np.diag(SIGMA)).all()


def test_the_same_certain_view_twice_is_no_contradiction() -> None:
    P, Q = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0.02, 0.02])
    assert posterior(SIGMA, PRIOR, P, Q, np.ones(2), 2.5, 0.025).mu[0] == pytest.approx(0.02, rel=1e-9)


@pytest.mark.parametrize(("Q", "c"), [(np.nan, 0.5), (0.01, 1.5), (0.01, np.nan)])
def test_a_view_that_is_no_number_raises(Q: float, c: float) -> None:
    with pytest.raises(SolverError):
        posterior(SIGMA, PRIOR, np.array([[1.0, 0.0]]), np.array([Q]), np.array([c]), 2.5, 0.025)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_estimator_is_psd_in_squared_units_and_leaves_out_incomplete_rows(name: str) -> None:
    returns = RNG.multivariate_normal([0, 0], SIGMA, 200)
    holes = np.vstack([returns[:100], [[np.nan, 9.0], [9.0, np.inf]], returns[100:]])
    sigma = estimate(holes, name)
    np.testing.assert_array_equal(sigma, estimate(returns, name))
    np.testing.assert_allclose(estimate(3 * returns, name), 9 * sigma, rtol=1e-9)
    np.testing.assert_allclose(sigma, SIGMA, rtol=0.6)
    wide = estimate(RNG.normal(0, 0.02, (25, 60)), name)  # fewer rows than assets
    assert np.linalg.eigvalsh(wide)[0] >= -1e-18
    np.testing.assert_array_equal(wide, wide.T)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_one_asset_and_one_that_does_not_move_are_estimated(name: str) -> None:
    moving = RNG.normal(0, 0.02, (50, 1))
    assert estimate(moving, name)[0, 0] == pytest.approx(moving.var(), rel=0.5)
    still = estimate(np.hstack([moving, np.zeros((50, 1))]), name)
    assert np.isfinite(still).all()
    assert still[0, 1] == pytest.approx(0, abs=1e-12)


def test_unknown_estimators_and_half_lives_raise() -> None:
    with pytest.raises(ConfigError, match="unknown covariance 'garch'"):
        estimate(np.zeros((30, 2)), "garch")
    with pytest.raises(ConfigError):
        estimate(np.zeros((30, 2)), "ewma", 0.0)
    with pytest.raises(InsufficientHistoryError):
        estimate(np.zeros((30, 0)))


def test_the_weighted_estimate_follows_what_happened_last() -> None:
    calm_then_wild = np.vstack([RNG.normal(0, 0.01, (90, 2)), RNG.normal(0, 0.05, (30, 2))])
    assert estimate(calm_then_wild, "ewma", 5.0)[0, 0] > 1.5 * estimate(calm_then_wild, "sample")[0, 0]


def test_denoising_keeps_the_common_factor_and_flattens_noise() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, (400, 20))
    np.testing.assert_allclose(correlation(estimate(noise, "denoised")), np.eye(20), atol=0.12)
    driven = noise + rng.normal(0, 0.04, (400, 1))
    values = np.linalg.eigvalsh(correlation(estimate(driven, "denoised")))
    assert values[-1] > 10
    np.testing.assert_allclose(values[:-1], values[0], rtol=0.1)  # the diagonal is put back to 1 after averaging
    np.testing.assert_allclose(np.diag(estimate(driven, "denoised")), driven.var(axis=0, ddof=1), rtol=1e-9)


def test_repair_refuses_what_is_no_number() -> None:
    with pytest.raises(SolverError):
        repair_psd(np.array([[np.nan, 0.0], [0.0, 1.0]]))


def test_the_grid_of_nanoseconds_has_a_time_for_every_row() -> None:
    days = [(20_089 + i) * DAY_NS for i in range(274)]  # a length that arange() over floats gets wrong
    times, grid = closes_grid({"A": dict.fromkeys(days, 1.0)}, ["A"], DAY_NS)
    assert times.tolist() == days
    assert grid.shape == (274, 1)


def model(P: FloatArray, Q: FloatArray, c: FloatArray, sigma: FloatArray = SIGMA, tau: float = 0.025) -> FloatArray:
    return posterior(sigma, np.full(len(sigma), 1 / len(sigma)), P, Q, c, 2.5, tau).mu


def test_no_views_are_the_prior_with_the_uncertainty_of_equilibrium() -> None:
    made = posterior(SIGMA, PRIOR, np.zeros((0, 2)), np.zeros(0), np.zeros(0), 2.5, 0.025)
    np.testing.assert_array_equal(made.mu, made.pi)
    np.testing.assert_allclose(made.sigma_plus, 1.025 * SIGMA)


def test_a_certain_relative_view_holds_exactly_and_leaves_what_it_does_not_ask() -> None:
    sigma = np.diag([0.0004, 0.0004, 0.0009])
    before, after = (
        model(np.zeros((0, 3)), np.zeros(0), np.zeros(0), sigma),
        model(np.array([[1.0, -1.0, 0.0]]), np.array([0.004]), np.array([1.0]), sigma),
    )
    assert after[0] - after[1] == pytest.approx(0.004, rel=1e-12)
    assert after[:2].sum() == pytest.approx(before[:2].sum())  # equal variances: half each
    assert after[2] == before[2]


def test_one_asset_and_identical_assets_have_an_answer() -> None:
    one = model(np.array([[1.0]]), np.array([0.01]), np.array([1.0]), np.array([[0.0004]]))
    assert one[0] == pytest.approx(0.01)
    twins = model(np.array([[1.0, 0.0]]), np.array([0.01]), np.array([1.0]), np.full((2, 2), 0.0004))
    np.testing.assert_allclose(twins, 0.01)
    apart = model(np.array([[1.0, -1.0]]), np.array([0.01]), np.array([1.0]), np.full((2, 2), 0.0004))
    np.testing.assert_allclose(apart, 2.5 * 0.0004)  # what never differs cannot be expected to


def test_a_singular_covariance_and_repeated_certain_views_have_an_answer() -> None:
    factor = np.array([[0.02], [0.03], [0.0]])
    P = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])
    made = model(P, np.array([0.01, 0.01, 0.5]), np.array([1.0, 1.0, 1.0]), factor @ factor.T)
    np.testing.assert_allclose(made, [0.01, 0.015, 0.0], atol=1e-15)  # the second moves with the first, the third never


@pytest.mark.parametrize("tau", [1e-12, 1e-6, 1.0, 1e6])
def test_the_posterior_return_does_not_depend_on_tau(tau: float) -> None:
    # Idzorek's Omega is in proportion to tau, which then drops out of the mean.
    P, Q, c = np.array([[1.0, 0.0], [1.0, -1.0]]), np.array([0.01, -0.002]), np.array([0.4, 0.7])
    np.testing.assert_allclose(model(P, Q, c, tau=tau), model(P, Q, c), rtol=1e-9)


def test_assets_that_move_a_thousandth_as_much_keep_their_views() -> None:
    sigma = np.diag([1e-3, 1e-17])
    made = model(np.eye(2), np.array([0.01, 1e-10]), np.array([0.5, 1.0]), sigma)
    assert made[1] == pytest.approx(1e-10, rel=1e-9)


def test_order_of_assets_and_views_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    sigma = np.cov(rng.normal(0, 0.03, (60, 5)), rowvar=False)
    P, Q, c = rng.normal(size=(3, 5)), rng.normal(0, 0.01, 3), rng.uniform(0.1, 1, 3)
    assets, views = rng.permutation(5), rng.permutation(3)
    shuffled = model(P[views][:, assets], Q[views], c[views], sigma[np.ix_(assets, assets)])
    np.testing.assert_allclose(shuffled, model(P, Q, c, sigma)[assets], rtol=1e-10)


@pytest.mark.parametrize(("delta", "tau"), [(0.0, 0.025), (2.5, 0.0), (np.nan, 0.1), (2.5, np.inf)])
def test_risk_aversion_and_tau_must_be_positive(delta: float, tau: float) -> None:
    with pytest.raises(SolverError):
        posterior(SIGMA, PRIOR, np.eye(2), np.zeros(2), np.ones(2), delta, tau)

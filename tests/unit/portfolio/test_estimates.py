"""Covariance, price history and Black-Litterman: exact small cases."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from helios.domain.market import MarketSnapshot
from helios.errors import InsufficientHistoryError, SolverError
from helios.pipeline.ports import SymbolContext
from helios.portfolio.black_litterman import posterior
from helios.portfolio.covariance import aligned_returns, repair_psd, shrunk_covariance
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
    np.testing.assert_array_equal(shrunk_covariance(holes), shrunk_covariance(clean))


def test_covariance_shrinks_correlations_and_keeps_the_trace() -> None:
    returns = RNG.multivariate_normal([0, 0], SIGMA, 60)
    sample, shrunk = np.cov(returns, rowvar=False, ddof=0), shrunk_covariance(returns)
    assert abs(shrunk[0, 1]) < abs(sample[0, 1])
    assert np.trace(shrunk) == pytest.approx(np.trace(sample))


def test_nineteen_rows_are_too_few_and_twenty_enough() -> None:
    returns = RNG.normal(size=(20, 2))
    assert shrunk_covariance(returns).shape == (2, 2)
    with pytest.raises(InsufficientHistoryError):
        shrunk_covariance(returns[:19])


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

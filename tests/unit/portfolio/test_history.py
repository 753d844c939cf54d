"""Price history: correlations over thirty days, the returns for the risk report, and what it costs for many symbols."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from helios.domain.decisions import FloatArray
from helios.errors import InsufficientHistoryError
from helios.portfolio.covariance import estimate
from helios.portfolio.gaps import mixed_covariance, pairwise_correlation
from helios.portfolio.history import DAY_NS, HOUR_NS, PriceHistory

NOW = 20_000 * DAY_NS


def daily(
    history: PriceHistory, symbol: str, returns: Sequence[float] | FloatArray, end_ns: int = NOW, step_ns: int = DAY_NS
) -> None:
    closes = 100 * np.cumprod(np.concatenate([[1.0], 1.0 + np.asarray(returns)]))
    times = range(end_ns - len(returns) * step_ns, end_ns + 1, step_ns)
    history.seed(symbol, times, closes.tolist(), 1.0)


def returns_of(seed: int, n: int) -> FloatArray:
    values: FloatArray = np.random.default_rng(seed).normal(0, 0.02, n)
    return values


def test_correlation_is_that_of_the_last_thirty_daily_returns() -> None:
    history, a, b = PriceHistory(90), returns_of(1, 80), returns_of(2, 80)
    daily(history, "A", a)
    daily(history, "B", 0.5 * a + b)
    expected = np.corrcoef(a[-30:], (0.5 * a + b)[-30:])[0, 1]
    for now in (NOW, NOW + 10 * HOUR_NS):  # at midnight and in the middle of a day
        found = history.correlations("A", ["B", "A", "unknown"], now)
        assert found["B"] == pytest.approx(expected, rel=1e-9)
        assert found["A"] == 1.0
        assert math.isnan(found["unknown"])


def test_the_opposite_of_a_price_has_the_sign_of_prices() -> None:
    history, a = PriceHistory(90), returns_of(1, 40)
    daily(history, "A", a)
    daily(history, "B", -a)
    assert history.correlations("A", ["B"], NOW)["B"] == pytest.approx(-1.0)


def test_with_fewer_than_thirty_days_hourly_returns_count() -> None:
    history, a, b = PriceHistory(90), returns_of(1, 5 * 24), returns_of(2, 5 * 24)
    daily(history, "A", a, step_ns=HOUR_NS)
    daily(history, "B", a + b, step_ns=HOUR_NS)
    assert history.correlations("A", ["B"], NOW)["B"] == pytest.approx(np.corrcoef(a, a + b)[0, 1], rel=1e-9)


@pytest.mark.parametrize(("n_common", "is_known"), [(9, False), (10, True)])
def test_ten_common_returns_are_needed(n_common: int, is_known: bool) -> None:
    history = PriceHistory(90)
    daily(history, "A", returns_of(1, 60))
    daily(history, "B", returns_of(2, n_common))
    assert math.isfinite(history.correlations("A", ["B"], NOW)["B"]) is is_known


def test_old_closes_and_prices_that_stand_still_have_no_correlation() -> None:
    history = PriceHistory(90)
    daily(history, "A", returns_of(1, 60))
    daily(history, "B", returns_of(2, 60), end_ns=NOW - 31 * DAY_NS)
    daily(history, "C", np.zeros(60))
    assert all(math.isnan(c) for c in history.correlations("A", ["B", "C"], NOW).values())
    assert math.isnan(history.correlations("A", ["A2"], NOW + 60 * DAY_NS)["A2"])


def test_closes_after_now_are_left_out() -> None:
    history, a, b = PriceHistory(90), returns_of(1, 80), returns_of(2, 80)
    daily(history, "A", a)
    daily(history, "B", b)
    past = history.correlations("A", ["B"], NOW - 20 * DAY_NS)["B"]
    assert past == pytest.approx(np.corrcoef(a[-50:-20], b[-50:-20])[0, 1], rel=1e-9)


def test_a_new_close_renews_what_was_kept() -> None:
    history, a, b = PriceHistory(90), returns_of(1, 30), returns_of(2, 30)
    daily(history, "A", a)
    daily(history, "B", b)
    before = history.correlations("A", ["B"], NOW)
    assert history.correlations("A", ["B"], NOW) == before
    daily(history, "B", a)
    assert history.correlations("A", ["B"], NOW)["B"] == pytest.approx(1.0)


def test_mean_correlation_is_that_of_all_known_pairs() -> None:
    history, a = PriceHistory(90), returns_of(1, 40)
    daily(history, "A", a)
    daily(history, "B", a)
    daily(history, "C", -a)
    daily(history, "D", returns_of(2, 5))  # too short for any pair
    assert history.mean_correlation(["A", "B", "C", "D"], NOW) == pytest.approx((1 - 1 - 1) / 3)
    assert math.isnan(history.mean_correlation(["A"], NOW))
    assert math.isnan(history.mean_correlation(["A", "D"], NOW))


def test_the_returns_matrix_names_times_and_gaps() -> None:
    history = PriceHistory(90)
    daily(history, "A", [0.01, 0.02, 0.03])
    daily(history, "B", [0.5], end_ns=NOW - DAY_NS)
    made = history.returns_matrix(["B", "A"])
    assert made.times.tolist() == [NOW - 2 * DAY_NS, NOW - DAY_NS, NOW]
    np.testing.assert_allclose(made.returns, [[np.nan, 0.01], [0.5, 0.02], [np.nan, 0.03]])
    assert history.returns_matrix([]).returns.shape == (0, 0)
    assert history.returns_matrix(["X"], HOUR_NS).returns.shape == (0, 1)


def test_pairwise_correlations_are_pandas() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.02, (40, 7)) + rng.normal(0, 0.02, (40, 1)) + 5.0
    x[rng.random(x.shape) < 0.3] = np.nan
    ours, n_rows = pairwise_correlation(x, 20)
    np.testing.assert_allclose(ours, pd.DataFrame(x).corr(min_periods=20).to_numpy(), atol=1e-12)
    assert n_rows[0, 1] == np.isfinite(x[:, [0, 1]]).all(axis=1).sum()
    assert np.isnan(pairwise_correlation(np.full((30, 2), np.nan))[0][0, 1])


def test_the_configured_estimator_is_used_with_its_half_life_in_days() -> None:
    steps = returns_of(3, 70)
    by_days, by_hours = PriceHistory(90, "ewma", 10.0), PriceHistory(90, "ewma", 2.0)
    daily(by_days, "A", steps)
    daily(by_hours, "A", steps, step_ns=HOUR_NS)
    assert by_days.covariance(["A"]) == pytest.approx(estimate(steps[:, None], "ewma", 10.0))
    assert by_hours.covariance(["A"]) == pytest.approx(24 * estimate(steps[:, None], "ewma", 48.0))


def market(n_rows: int, n_assets: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    returns: FloatArray = rng.normal(0, 0.02, (n_rows, n_assets)) + rng.normal(0, 0.02, (n_rows, 1))
    return returns


def test_one_missed_close_of_each_of_many_symbols_does_not_take_the_estimate_away() -> None:
    history, returns = PriceHistory(90), market(90, 60)
    rng, symbols = np.random.default_rng(1), [f"S{i}" for i in range(60)]
    for symbol, column in zip(symbols, returns.T, strict=True):
        closes = 100 * np.cumprod(np.concatenate([[1.0], 1 + column]))
        closes[rng.integers(1, 90, 3)] = np.nan  # not kept: hardly a day is left that all share
        history.seed(symbol, range(NOW - 90 * DAY_NS, NOW + 1, DAY_NS), closes.tolist(), 1.0)
    sigma = history.covariance(symbols)
    assert np.linalg.eigvalsh(sigma)[0] >= -1e-18
    np.testing.assert_allclose(sigma, estimate(returns), atol=0.6 * 0.0004)
    assert np.abs(sigma - estimate(returns)).mean() < 0.1 * 0.0004


def test_a_newcomer_takes_nothing_from_symbols_with_a_long_history() -> None:
    history, returns = PriceHistory(90), market(90, 3)
    for symbol, column in zip("ABC", returns.T, strict=True):
        daily(history, symbol, column)
    before = history.covariance(["A", "B", "C"])
    daily(history, "N", returns_of(9, 30) / 5, step_ns=HOUR_NS)
    after = history.covariance(["A", "B", "C", "N"])
    np.testing.assert_allclose(after[:3, :3], before, rtol=0.1)
    assert after[3, 3] == pytest.approx(24 * (returns_of(9, 30) / 5).var(ddof=1))


def test_pairs_without_a_common_row_get_the_typical_correlation_and_still_prices_none() -> None:
    returns = market(120, 4)
    returns[:60, 2], returns[60:, 3] = np.nan, np.nan  # the third and fourth never meet
    returns = np.column_stack([returns, np.zeros(120)])
    sigma = mixed_covariance(returns, np.empty((0, 5)), 24.0)
    deviation = np.sqrt(np.diag(sigma)[:4])
    found = (sigma[:4, :4] / np.outer(deviation, deviation))[np.triu_indices(4, 1)]
    assert found[-1] == pytest.approx(found[:-1].mean(), abs=0.02)
    np.testing.assert_array_equal(sigma[4], 0.0)


def test_the_mixed_estimate_of_whole_data_is_near_the_usual_one() -> None:
    returns = market(90, 5)
    np.testing.assert_allclose(mixed_covariance(returns, np.empty((0, 5)), 24.0), estimate(returns), rtol=0.12)


def test_a_symbol_without_twenty_returns_has_no_covariance() -> None:
    history = PriceHistory(90)
    daily(history, "A", returns_of(1, 80))
    daily(history, "B", returns_of(2, 12))
    with pytest.raises(InsufficientHistoryError):
        history.covariance(["A", "B"])

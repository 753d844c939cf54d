from __future__ import annotations

import numpy as np
import pytest

from helios.domain.enums import Action
from helios.errors import InsufficientHistoryError
from helios.learn.labels import (
    STOP,
    TARGET,
    TIME,
    BarrierSpec,
    class_counts,
    ewma_daily_volatility,
    fixed_horizon,
    forward_returns,
    label_bars,
    payoff_stats,
    triple_barrier,
)

BUY, SELL, HOLD = Action.BUY, Action.SELL, Action.HOLD


def outcome(closes, highs=None, lows=None, horizon=3, vol=0.01, stop=1.0, reward=2.0, cost=0.0):
    close = np.asarray(closes, dtype=float)
    high = close if highs is None else np.asarray(highs, dtype=float)
    low = close if lows is None else np.asarray(lows, dtype=float)
    return triple_barrier(close, high, low, np.full(len(close), vol), horizon, stop, reward, cost)


def test_long_target_is_reached() -> None:
    got = outcome([100, 101, 102.5, 100, 100])
    assert got.labels[0] == BUY
    assert got.exit_kinds[0, 0] == TARGET
    assert got.exit_returns[0, 0] == pytest.approx(0.02)


def test_short_target_is_reached() -> None:
    got = outcome([100, 99.5, 97.5, 100, 100])
    assert (got.labels[0], got.exit_kinds[0, 1]) == (SELL, TARGET)
    assert got.exit_returns[0, 1] == pytest.approx(0.02)


def test_stop_counts_first_when_one_bar_touches_both() -> None:
    got = outcome([100, 100, 100, 100, 100], highs=[100, 103, 100, 100, 100], lows=[100, 98, 100, 100, 100])
    assert got.exit_kinds[0].tolist() == [STOP, STOP]
    assert got.exit_returns[0].tolist() == pytest.approx([-0.01, -0.01])
    assert got.labels[0] == HOLD


def test_stop_before_target_stays_a_loss() -> None:
    got = outcome([100, 98.5, 103, 103, 103])
    assert got.exit_kinds[0, 0] == STOP


def test_high_of_the_entry_bar_itself_does_not_count() -> None:
    got = outcome([100, 100, 100, 100, 100], highs=[105, 100, 100, 100, 100], lows=[95, 100, 100, 100, 100])
    assert got.exit_kinds[0].tolist() == [TIME, TIME]


def test_time_barrier_takes_the_close_at_the_horizon() -> None:
    got = outcome([100, 100, 100, 100.5, 107])
    assert got.exit_kinds[0, 0] == TIME
    assert got.exit_returns[0].tolist() == pytest.approx([0.005, -0.005])
    assert got.labels[0] == BUY


def test_touch_on_the_last_bar_of_the_horizon_counts() -> None:
    assert outcome([100, 100, 100, 100.5, 100], highs=[100, 100, 100, 102.1, 100]).exit_kinds[0, 0] == TARGET


def test_touch_after_the_horizon_does_not_count() -> None:
    assert outcome([100, 100, 100, 100.5, 110], highs=[100, 100, 100, 100.5, 110]).exit_kinds[0, 0] == TIME


def test_cost_turns_a_small_gain_into_hold() -> None:
    assert outcome([100, 100, 100, 100.2, 100], cost=0.003).labels[0] == HOLD
    assert outcome([100, 100, 100, 100.4, 100], cost=0.003).labels[0] == BUY


def test_cost_is_inside_the_returns_of_both_sides() -> None:
    assert outcome([100, 100, 100, 101, 100], stop=5, cost=0.003).exit_returns[0].tolist() == pytest.approx([0.007, -0.013])


def test_last_horizon_rows_have_no_label() -> None:
    got = outcome(np.full(10, 100.0), horizon=4)
    assert (got.labels == -1).tolist() == [False] * 6 + [True] * 4
    assert np.isnan(got.exit_returns[6:]).all()


def test_barriers_scale_with_volatility() -> None:
    path = [100, 101.5, 100, 100, 100]
    assert outcome(path, vol=0.007).exit_kinds[0, 0] == TARGET
    assert outcome(path, vol=0.02).exit_kinds[0, 0] == TIME


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_row_without_volatility_has_no_label(bad: float) -> None:
    close = np.full(6, 100.0)
    got = triple_barrier(close, close, close, np.array([bad, *[0.01] * 5]), 2, 1.0, 2.0, 0.0)
    assert got.labels.tolist() == [-1, HOLD, HOLD, HOLD, -1, -1]


def test_unknown_exit_price_gives_no_label() -> None:
    assert outcome([100, 100, 100, np.nan, 100, 100]).labels[0] == -1


def test_mirrored_prices_swap_buy_and_sell() -> None:
    rng = np.random.default_rng(1)
    steps = np.cumsum(rng.normal(0, 0.2, 300))
    up = outcome(100 + steps, horizon=20, cost=0.001)
    down = outcome(100 - steps, horizon=20, cost=0.001)
    flipped = np.where(up.labels == BUY, SELL, np.where(up.labels == SELL, BUY, up.labels))
    assert (flipped == down.labels).mean() > 0.97  # relative barriers mirror up to (x - 1) / x


def test_labels_agree_with_a_readable_loop() -> None:
    rng = np.random.default_rng(2)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, 400)))
    high, low = close * (1 + rng.uniform(0, 0.004, 400)), close * (1 - rng.uniform(0, 0.004, 400))
    got = outcome(close, high, low, horizon=25, cost=0.002)
    for i in range(0, 375, 7):
        assert got.exit_returns[i].tolist() == pytest.approx([_walk(side, i, close, high, low) - 0.002 for side in (1, -1)])


def _walk(side: int, i: int, close, high, low) -> float:
    stop, target = close[i] * (1 - side * 0.01), close[i] * (1 + side * 0.02)
    for j in range(i + 1, i + 26):
        worst, best = (low[j], high[j]) if side > 0 else (high[j], low[j])
        if side * (worst - stop) <= 0:
            return -0.01
        if side * (best - target) >= 0:
            return 0.02
    return side * (close[i + 25] / close[i] - 1)


def test_more_cost_never_makes_more_trades() -> None:
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.003, 500)))
    holds = [int((outcome(close, horizon=30, cost=c).labels == HOLD).sum()) for c in (0.0, 0.002, 0.01)]
    assert holds == sorted(holds)


def test_too_short_history_is_an_error() -> None:
    with pytest.raises(InsufficientHistoryError):
        outcome([100, 100, 100])


def test_volatility_is_causal_and_scaled_to_a_day() -> None:
    rng = np.random.default_rng(4)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, 3000)))
    before = ewma_daily_volatility(close, 288, 288)
    close[2000:] *= 3
    after = ewma_daily_volatility(close, 288, 288)
    np.testing.assert_array_equal(before[:2000], after[:2000])
    assert before[1500] == pytest.approx(0.001 * np.sqrt(288), rel=0.2)
    assert np.isnan(before[:288]).all()


def test_changing_the_future_beyond_the_horizon_keeps_labels() -> None:
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, 1500)))
    spec = BarrierSpec(horizon_bars=50, volatility_half_life_bars=100)
    before = label_bars(close, close, close, spec).labels
    close[1200:] *= 0.5
    after = label_bars(close, close, close, spec).labels
    np.testing.assert_array_equal(before[:1150], after[:1150])
    assert (before[1150:1200] != after[1150:1200]).any()


def test_fixed_horizon_uses_the_threshold_and_drops_the_end() -> None:
    close = np.full(30, 100.0)
    close[20], close[21] = 103, 97
    labels = fixed_horizon(close)
    assert (labels[8], labels[9], labels[7]) == (BUY, SELL, HOLD)
    assert (labels[-12:] == -1).all()
    assert (labels[:-12] >= 0).all()


def test_forward_returns_are_unknown_at_the_end() -> None:
    out = forward_returns(np.array([100.0, 101.0, 99.0]), (1, 2, 9))
    np.testing.assert_allclose(out, [[0.01, -0.01, np.nan], [99 / 101 - 1, np.nan, np.nan], [np.nan] * 3])


def test_class_counts_keep_absent_classes() -> None:
    assert class_counts(np.array([2, 2, 0, -1], dtype=np.int8)).tolist() == [1, 0, 2]


def test_payoffs_are_those_of_the_exits_not_of_the_target_ratio() -> None:
    got = outcome([100, 102.5, 100, 100, 100.6, 100.6, 100.6, 100.6], stop=1.0, cost=0.001)
    stats = payoff_stats(got, Action.BUY)
    assert stats.n_trades == 5
    assert stats.stop_share + stats.target_share + stats.time_share == pytest.approx(1)
    wins = got.exit_returns[:5, 0][got.exit_returns[:5, 0] > 0]
    assert stats.mean_win == pytest.approx(wins.mean())
    with pytest.raises(InsufficientHistoryError):
        payoff_stats(got, Action.BUY, np.zeros(8, dtype=bool))

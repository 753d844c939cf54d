from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import Bar, MarketSnapshot
from helios.errors import DataError, InsufficientHistoryError
from helios.features.batch import features_of, log_returns, resample
from helios.features.definitions import CANDLE_COLUMNS, CORRELATION_COLUMN, SETTLED_BARS, WINDOW_WARMUP_BARS
from helios.features.stream import FeatureState, TimeframeFeatures
from helios.market.candles import CandleBuilder
from tests.unit.features.bars import START, as_bars, random_bars

MARKET = MarketSnapshot("X", Decimal(1), 0)


def streamed(rows: np.ndarray) -> np.ndarray:
    features = TimeframeFeatures()
    return np.array([features.update(bar) for bar in as_bars(rows)])


def fed(n_minutes: int, rows: np.ndarray | None = None) -> FeatureState:
    state, builder = FeatureState("X"), CandleBuilder("X")
    for minute in as_bars(random_bars(n_minutes) if rows is None else rows):
        for bar in builder.on_minute(minute):
            state.on_bar(bar)
    return state


def test_stream_equals_batch_after_price_jumps_by_a_thousand() -> None:
    rows = random_bars(3000, seed=1)
    rows[1000:, [0, 1, 2, 3, 5]] *= 1000.0
    rows[2000:, [0, 1, 2, 3, 5]] /= 1000.0
    rows[500:, 4:8] *= 1e6
    rows[1500:, 4:8] /= 1e6
    np.testing.assert_allclose(streamed(rows), features_of(rows), rtol=1e-9, atol=1e-14)


@pytest.mark.slow
def test_stream_does_not_drift_over_a_hundred_thousand_bars() -> None:
    rows = random_bars(100_000, seed=2)
    np.testing.assert_allclose(streamed(rows)[-5000:], features_of(rows)[-5000:], rtol=1e-9, atol=1e-14)


def test_unusable_bar_is_refused_and_changes_nothing() -> None:
    rows = random_bars(100, seed=3)
    features = TimeframeFeatures()
    for bar in as_bars(rows[:-1]):
        features.update(bar)
    bad = rows[-1:].copy()
    bad[0, 3] = np.nan
    with pytest.raises(DataError):
        features.update(as_bars(bad)[0])
    np.testing.assert_allclose(features.update(as_bars(rows[-1:])[0]), features_of(rows)[-1], rtol=1e-9, atol=1e-14)


def test_window_holds_the_last_sixty_rows_of_every_timeframe() -> None:
    rows = random_bars(2000, seed=4)
    times = START + np.arange(2000, dtype=np.int64) * Timeframe.M1.ns
    window = fed(2000, rows).window(START, 1.0, 2.0, MARKET)
    for i, timeframe in enumerate(FEATURE_TIMEFRAMES):
        bars, _ = resample(rows, times, timeframe)
        np.testing.assert_allclose(window.values[i], features_of(bars)[-60:], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(window.returns[i], log_returns(bars[:, 3])[-119:], rtol=1e-9)


def test_window_is_warm_once_the_slowest_timeframe_has_its_history() -> None:
    needed = WINDOW_WARMUP_BARS * 15
    state = fed(needed - 1)
    assert not state.is_warm
    assert not state.window(START, 1.0, 1.0, MARKET).is_warm
    for bar in (Bar("X", Timeframe.M15, START + (needed - 15) * Timeframe.M1.ns, 250, 251, 249, 250, 1.0),):
        state.on_bar(bar)
    window = state.window(START, 1.0, 1.0, MARKET)
    assert window.is_warm
    assert np.isfinite(window.values[:, :, CANDLE_COLUMNS]).all()
    assert np.isfinite(window.returns).all()
    assert np.isnan(window.values[:, :, CORRELATION_COLUMN]).all()


def test_young_window_is_padded_in_front() -> None:
    window = fed(4).window(START, 1.0, 1.0, MARKET)
    assert np.isnan(window.values[0, :56]).all()
    assert np.isfinite(window.values[0, 56:, 0]).all()
    assert np.isfinite(window.returns[0, -3:]).all()
    assert np.isnan(window.returns[0, :-3]).all()
    assert np.isnan(window.values[1:]).all()


def test_window_is_a_read_only_copy() -> None:
    state = fed(30)
    window = state.window(START, 5.0, 6.0, MARKET, is_stale=True)
    before = window.values.copy()
    state.on_bar(as_bars(random_bars(31))[30])
    np.testing.assert_array_equal(window.values, before)
    assert (window.close, window.volume_quote, window.is_stale, window.values.dtype) == (5.0, 6.0, True, np.float32)
    with pytest.raises(ValueError, match="read-only"):
        window.values[0, 0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        window.returns[0, 0] = 1.0


def test_longer_timeframes_and_known_bars_are_ignored() -> None:
    state, bars = FeatureState("X"), as_bars(random_bars(10))
    for bar in bars:
        state.on_bar(bar)
    before = state.latest()
    state.on_bar(bars[3])
    state.on_bar(as_bars(random_bars(1), Timeframe.H1)[0])
    np.testing.assert_array_equal(state.latest(), before)


def test_hole_between_bars_is_refused() -> None:
    state, bars = FeatureState("X"), as_bars(random_bars(10))
    state.on_bar(bars[0])
    with pytest.raises(DataError, match="missing"):
        state.on_bar(bars[2])


def test_vector_of_ninety_is_refused_with_too_little_history() -> None:
    with pytest.raises(InsufficientHistoryError, match="15m: 49 of 50"):
        fed(749).vector()


def test_vector_of_ninety_from_750_minutes() -> None:
    state = fed(750)
    vector = state.vector()
    assert vector.shape == (90,)
    assert np.isfinite(vector.reshape(3, 30)[:, CANDLE_COLUMNS]).all()
    np.testing.assert_array_equal(vector.reshape(3, 30), state.latest().astype(np.float32))


def test_reloaded_history_gives_the_window_of_a_state_that_never_died() -> None:
    rows = random_bars(3000, seed=5)
    whole, reloaded = features_of(rows)[-60:], features_of(rows[-SETTLED_BARS:])[-60:]
    np.testing.assert_allclose(reloaded, whole, rtol=1e-9, atol=1e-12)
    too_little = features_of(rows[-WINDOW_WARMUP_BARS:])[-60:]
    assert not np.allclose(too_little, whole, rtol=1e-9, atol=1e-12, equal_nan=True)

"""Whatever the market does, the features of a stream equal those of its history."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.features.batch import features_of, fill_minutes, resample
from helios.features.stream import TimeframeFeatures
from helios.market.candles import CandleBuilder
from tests.unit.features.bars import START, as_bars, random_bars

TIMEFRAMES = (Timeframe.M1, Timeframe.M5)


@st.composite
def markets(draw: st.DrawFn) -> tuple[np.ndarray, FloatArray]:
    """Minutes with holes, dead stretches, jumps and unknown flow."""
    n_bars = draw(st.integers(1, 300))
    rows = random_bars(n_bars, draw(st.integers(0, 10_000)), draw(st.sampled_from([1e-6, 2e-3, 0.1])))
    dead = draw(st.integers(0, n_bars - 1))
    rows[dead : dead + draw(st.integers(0, 120)), 4:8] = 0.0
    jump = draw(st.integers(0, n_bars - 1))
    rows[jump:, [0, 1, 2, 3, 5]] *= draw(st.sampled_from([1e-3, 1.0, 1e3]))
    flat = draw(st.integers(0, n_bars - 1))
    rows[flat : flat + draw(st.integers(0, 80)), :4] = rows[flat, 3]
    unknown = draw(st.integers(0, n_bars))
    rows[:unknown, draw(st.sampled_from([5, 6, 7, 8, 12])) :] = np.nan
    times = START + np.arange(n_bars, dtype=np.int64) * Timeframe.M1.ns
    share_lost = draw(st.sampled_from([0.0, 0.05, 0.5]))
    is_kept = np.random.default_rng(n_bars).random(n_bars) >= share_lost
    return times[is_kept], rows[is_kept]


@settings(max_examples=60, deadline=None)
@given(markets())
def test_stream_of_bars_equals_batch_of_history(market: tuple[np.ndarray, FloatArray]) -> None:
    times, rows = market
    builder = CandleBuilder("X", TIMEFRAMES)
    features = {timeframe: TimeframeFeatures() for timeframe in TIMEFRAMES}
    streamed: dict[Timeframe, list[FloatArray]] = {timeframe: [] for timeframe in TIMEFRAMES}
    for time, row in zip(times, rows):
        for bar in builder.on_minute(as_bars(row[None], start=int(time))[0]):
            streamed[bar.timeframe].append(features[bar.timeframe].update(bar))
    for timeframe in TIMEFRAMES:
        bars, _ = resample(rows, times, timeframe)
        got = np.array(streamed[timeframe]).reshape(-1, 30)
        np.testing.assert_allclose(got, features_of(bars), rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(markets())
def test_filled_minutes_are_contiguous_and_valid(market: tuple[np.ndarray, FloatArray]) -> None:
    times, rows = market
    filled_times, filled = fill_minutes(times, rows)
    assert (np.diff(filled_times) == Timeframe.M1.ns).all()
    known = np.isin(filled_times, times)
    np.testing.assert_array_equal(filled[known], rows)
    assert filled[~known, BAR_VALUES.index("volume")].sum() == 0.0
    assert (filled[:, 2] <= filled[:, [0, 3]].min(1, initial=np.inf)).all()
    assert (filled[:, 1] >= filled[:, [0, 3]].max(1, initial=-np.inf)).all()

"""A symbol's owner that dies and comes back from the store knows what it would have known."""

from __future__ import annotations

import numpy as np
import pytest

from actors.repair import HISTORY_BARS
from helios.domain.enums import MarketKind, Side, Timeframe
from helios.domain.market import Bar, Instrument, Trade
from helios.pipeline.symbol import SymbolState
from tests.support.pipeline_values import MINUTE_NS

BTC = Instrument("BTC/USDT", "BTC", "USDT", "test", "BTCUSDT", kind=MarketKind.PERP)
T0 = 20_000 * 86_400 * 1_000_000_000
N_MINUTES = 8_100


def minutes() -> list[Bar]:
    rng = np.random.default_rng(11)
    close = 50_000 * np.exp(np.cumsum(rng.standard_normal(N_MINUTES)) * 5e-4)
    open_ = np.append(50_000.0, close[:-1])
    high, low = np.maximum(open_, close) * 1.0004, np.minimum(open_, close) * 0.9996
    volume = np.where(rng.random(N_MINUTES) < 0.1, 0.0, rng.exponential(3.0, N_MINUTES))
    rows = np.column_stack([open_, high, low, close, volume, volume * close, np.ceil(volume * 4), volume * rng.random(N_MINUTES)])
    known = np.column_stack([rng.random((N_MINUTES, 2)), rng.normal(10, 1, N_MINUTES), rng.uniform(-1, 1, (N_MINUTES, 2))])
    return [Bar(BTC.symbol, Timeframe.M1, T0 + i * MINUTE_NS, *row) for i, row in enumerate(np.hstack([rows, known]).tolist())]


@pytest.fixture(scope="module")
def lived() -> tuple[SymbolState, dict[Timeframe, list[Bar]]]:
    state, stored = SymbolState(BTC), {timeframe: [] for timeframe in Timeframe}
    for minute in minutes():
        state.on_minute(minute)
        for bar in state.drain().bars:
            stored[bar.timeframe].append(bar)
    return state, stored


def reborn(stored: dict[Timeframe, list[Bar]]) -> SymbolState:
    state = SymbolState(BTC)
    state.warm({timeframe: stored[timeframe][-count:] for timeframe, count in HISTORY_BARS.items()})
    return state


def test_features_windows_and_history_are_the_same(lived: tuple[SymbolState, dict[Timeframe, list[Bar]]]) -> None:
    before, stored = lived
    after = reborn(stored)
    np.testing.assert_allclose(after.features.latest(), before.features.latest(), rtol=1e-9, atol=1e-12, equal_nan=True)
    views = [s.features.window(T0, 1.0, 1.0, s.market()) for s in (before, after)]
    np.testing.assert_allclose(views[1].values, views[0].values, rtol=1e-6, atol=1e-9, equal_nan=True)  # float32
    np.testing.assert_allclose(views[1].returns, views[0].returns, rtol=1e-12, equal_nan=True)
    assert after.features.is_warm
    assert after.last_price == before.last_price
    assert {tf: after.last_open(tf) for tf in HISTORY_BARS} == {tf: before.last_open(tf) for tf in HISTORY_BARS}


def test_what_follows_is_the_same(lived: tuple[SymbolState, dict[Timeframe, list[Bar]]]) -> None:
    _, stored = lived
    cut = N_MINUTES - 300  # the death, in the middle of every higher bar but the hour's
    known = {tf: [bar for bar in bars if bar.close_time <= T0 + cut * MINUTE_NS] for tf, bars in stored.items()}
    state = reborn(known)
    given: list[Bar] = []
    for minute in stored[Timeframe.M1][cut:]:
        state.on_minute(minute)
        given += state.drain().bars
    expected = [b for tf in (Timeframe.M1, Timeframe.M5, Timeframe.M15) for b in stored[tf] if b.close_time > T0 + cut * MINUTE_NS]
    mine = {(b.timeframe, b.open_time): repr(b) for b in given}
    assert [mine.get((b.timeframe, b.open_time)) for b in expected] == [repr(b) for b in expected]


def test_a_death_in_the_middle_of_a_minute_costs_no_bar(lived: tuple[SymbolState, dict[Timeframe, list[Bar]]]) -> None:
    _, stored = lived
    state = reborn(stored)
    end = stored[Timeframe.M1][-1].close_time
    assert state.last_open(Timeframe.M1) == end - MINUTE_NS
    # Trades of the minute of the death were lost; the venue's candle stands for them, the next minute is ours again.
    state.repair([Bar(BTC.symbol, Timeframe.M1, end, 10.0, 12.0, 9.0, 11.0, 5.0, 50.0)], end + MINUTE_NS)
    state.on_trade(Trade(BTC.symbol, "a", 12.5, 1.0, Side.BUY, end + MINUTE_NS + 1))
    state.on_time(end + 2 * MINUTE_NS)
    bars = [b for b in state.drain().bars if b.timeframe is Timeframe.M1]
    assert [(b.open_time - end) // MINUTE_NS for b in bars] == [0, 1]
    assert [b.close for b in bars] == [11.0, 12.5]

"""However a stream of events is cut into calls, a symbol ends with the same bars, windows and exits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import MarketKind, Side, Timeframe
from helios.domain.market import BookUpdate, Instrument, Trade
from helios.domain.orders import ExitPlan
from helios.pipeline.symbol import SymbolState, SymbolStep
from tests.support.pipeline_values import MINUTE_NS, T0

BTC = Instrument("BTC/USDT", "BTC", "USDT", "test", "BTCUSDT", kind=MarketKind.PERP)
END = T0 + 20 * MINUTE_NS
Event = Trade | BookUpdate


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    times = sorted(draw(st.lists(st.integers(0, 20 * 60 - 1), min_size=1, max_size=60)))
    events: list[Event] = [BookUpdate(BTC.symbol, True, (("95", "1"),), (("106", "2"),), 0, None, T0)]
    for number, second in enumerate(times, 1):
        ts = T0 + second * 1_000_000_000
        if draw(st.booleans()):
            events.append(
                Trade(BTC.symbol, str(number), draw(st.integers(96, 105)) * 1.0, 1.5, Side(draw(st.sampled_from((1, -1)))), ts)
            )
        else:
            level = (str(draw(st.integers(90, 95))), str(draw(st.integers(0, 3))))
            events.append(BookUpdate(BTC.symbol, False, (level,), (), None, None, ts))
    return events


def run(events: list[Event], cuts: list[int]) -> list[SymbolStep]:
    state = SymbolState(BTC, Timeframe.M5)
    state.arm([
        ExitPlan("long", BTC.symbol, Side.BUY, 100.0, 97.0, 104.0, 0.02, 0.01, 0),
        ExitPlan("short", BTC.symbol, Side.SELL, 100.0, 105.0, 96.0, 0.0, 0.0, 0),
    ])  # fmt: skip
    steps = []
    borders = [0, *sorted({min(c, len(events)) for c in cuts}), len(events)]
    for start, stop in pairwise(borders):
        chunk = events[start:stop]
        last = stop == len(events)
        state.on_events(chunk, END if last else (chunk[-1].ts_event if chunk else T0))
        steps.append(state.drain())
    return steps


@settings(max_examples=60, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=8))
def test_any_cut_of_the_stream_gives_the_same(events: list[Event], cuts: list[int]) -> None:
    (whole,) = run(events, [])
    parts = run(events, cuts)
    assert repr([b for p in parts for b in p.bars]) == repr(list(whole.bars))
    assert [e for p in parts for e in p.exits] == list(whole.exits)
    windows = [w for p in parts for w in p.windows]
    assert [(w.bar_time, w.close) for w in windows] == [(w.bar_time, w.close) for w in whole.windows]
    for mine, theirs in zip(windows, whole.windows):
        np.testing.assert_array_equal(mine.values, theirs.values)
        np.testing.assert_array_equal(mine.returns, theirs.returns)

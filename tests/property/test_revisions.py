"""However late trades arrive, once they have arrived the desk knows what it would have known had they come in time."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import MarketKind, Side, Timeframe
from helios.domain.market import Bar, Instrument, Trade
from helios.features.definitions import FEATURE_NAMES
from helios.market.settling import SETTLING_MINUTES
from helios.pipeline.symbol import SymbolState

S = 1_000_000_000
MINUTE = 60 * S
DAY0 = 20_000 * 86_400 * S
T0 = DAY0 + 23 * 60 * MINUTE  # an hour before the day ends: minutes of all timeframes are revised across their border
N_MINUTES = 87
HISTORY = [Bar("X", Timeframe.M1, DAY0 + i * MINUTE, 100.0, 100.5, 99.5, 100.0, 1.0, 100.0, 1.0, 0.5) for i in range(23 * 60)]
END = T0 + N_MINUTES * MINUTE
X = Instrument("X", "X", "USD", "test", "X", kind=MarketKind.PERP)
Arrival = tuple[int, Trade]


@st.composite
def tapes(draw: st.DrawFn) -> tuple[list[Trade], int]:
    # A trade at the very start, so that every minute has a price; then bursts and long silences.
    seconds = sorted({0, *draw(st.lists(st.integers(0, N_MINUTES * 60 - 1), min_size=5, max_size=120))})
    rng = random.Random(draw(st.integers(0, 2**32)))
    trades = [
        Trade("X", str(i), 100 + rng.randint(-50, 50) / 10, rng.randint(1, 9) / 4, rng.choice(list(Side)), T0 + s * S + i)
        for i, s in enumerate(seconds)
    ]
    return trades, draw(st.integers(0, 2**32))


def arrivals(trades: list[Trade], seed: int) -> list[Arrival]:
    # A third of the trades come up to half an hour late, some twice.
    rng = random.Random(seed)
    late_ns = (SETTLING_MINUTES - 1) * MINUTE
    arrived = [(t.ts_event + (rng.randint(0, late_ns) if i and rng.random() < 0.33 else 0), t) for i, t in enumerate(trades)]
    arrived += [(when + rng.randint(0, 60 * S), t) for when, t in arrived if rng.random() < 0.2]
    return sorted(arrived, key=lambda a: (a[0], a[1].trade_id))


def live(arrived: list[Arrival]) -> tuple[SymbolState, dict[tuple[Timeframe, int], Bar]]:
    state, known, clock = SymbolState(X, Timeframe.M5), {}, T0
    state.warm({Timeframe.M1: HISTORY})
    for when, trade in [*arrived, (END + (SETTLING_MINUTES + 1) * MINUTE, None)]:
        while clock + 10 * S <= when:  # the timer, six times a minute
            clock += 10 * S
            state.on_time(clock)
        if trade is not None:
            state.on_trade(trade)
        step = state.drain()
        known |= {(bar.timeframe, bar.open_time): bar for bar in (*step.bars, *step.revised)}
    return state, known


@settings(max_examples=40, deadline=None)
@given(tapes())
def test_late_and_doubled_trades_end_in_the_same_bars_and_features(tape: tuple[list[Trade], int]) -> None:
    trades, seed = tape
    late_state, late = live(arrivals(trades, seed))
    state, in_time = live([(t.ts_event, t) for t in trades])
    assert late_state.builder.late_trades == 0
    assert late.keys() == in_time.keys()
    assert {(Timeframe.D1, DAY0), (Timeframe.H1, T0)} <= late.keys()
    for key, bar in in_time.items():
        for name in ("open", "high", "low", "close", "trade_count"):
            assert getattr(late[key], name) == getattr(bar, name)
        np.testing.assert_allclose((late[key].volume, late[key].buy_volume), (bar.volume, bar.buy_volume), rtol=1e-12)
    momentum = FEATURE_NAMES.index("trade_momentum_10")  # a trade that came later was not among the last ten at the close
    mine, theirs = (np.delete(s.features.latest(), momentum, axis=1) for s in (late_state, state))
    np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12, equal_nan=True)

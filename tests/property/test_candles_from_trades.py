"""Whatever closes a bucket first, the bars are the same, contiguous and valid."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar, Trade
from helios.market.candles import CandleBuilder

S = 1_000_000_000
START = 20_000 * 86_400 * S
ticks = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 500), st.integers(1, 50), st.sampled_from(Side)), min_size=1, max_size=60
)


def tape(steps: list[tuple[int, int, int, Side]]) -> list[Trade]:
    now, trades = START, []
    for i, (wait_s, price, quantity, side) in enumerate(steps):
        now += wait_s * S
        trades.append(Trade("X", str(i), price / 10, quantity / 4, side, now))
    return trades


def bars_of(trades: list[Trade], clock: list[bool]) -> list[Bar]:
    # `clock[i]`: the timer fires just before trade i arrives.
    builder, bars = CandleBuilder("X"), []
    for trade, fires in zip(trades, clock, strict=False):
        if fires:
            bars += builder.advance(trade.ts_event)
        bars += builder.on_trade(trade)
    assert builder.late_trades == 0
    return bars + builder.advance(trades[-1].ts_event + 3600 * S)


def comparable(bars: list[Bar]) -> list[str]:
    return [repr(bar) for bar in bars]  # NaN equals itself in text


@settings(max_examples=60, deadline=None)
@given(ticks, st.lists(st.booleans(), min_size=60, max_size=60))
def test_clock_and_trades_close_the_same_bars(steps: list[tuple[int, int, int, Side]], clock: list[bool]) -> None:
    trades = tape(steps)
    assert comparable(bars_of(trades, clock)) == comparable(bars_of(trades, [False] * 60))


@settings(max_examples=60, deadline=None)
@given(ticks)
def test_bars_are_contiguous_valid_and_lose_no_volume(steps: list[tuple[int, int, int, Side]]) -> None:
    trades = tape(steps)
    bars = bars_of(trades, [False] * 60)
    minutes = [bar for bar in bars if bar.timeframe is Timeframe.M1]
    first = trades[0].ts_event - trades[0].ts_event % (60 * S)
    assert [bar.open_time for bar in minutes] == [first + i * 60 * S for i in range(len(minutes))]
    for bar in bars:
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert 0.0 <= bar.buy_volume <= bar.volume
    assert math.isclose(sum(bar.volume for bar in minutes), sum(trade.quantity for trade in trades))
    assert sum(bar.trade_count for bar in minutes) == len(trades)

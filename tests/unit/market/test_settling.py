"""What a late trade or the venue's own candle changes, and what it cannot."""

from __future__ import annotations

import math

import pytest

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Trade, VenueCandle
from helios.market.candles import CandleBuilder
from helios.market.settling import DOUBTS_ALLOWED

S = 1_000_000_000
MINUTE = 60 * S
T0 = 20_000 * 86_400 * S


def trade(seconds: float, price: float = 100.0, quantity: float = 1.0, side: Side = Side.BUY) -> Trade:
    ts = T0 + round(seconds * S)
    return Trade("X", f"{ts}-{price}-{quantity}", price, quantity, side, ts)


def candle(index: int, prices: tuple[float, float, float, float], volume: float, quote: float = math.nan) -> VenueCandle:
    return VenueCandle("X", Timeframe.M1, T0 + index * MINUTE, *prices, volume, quote)


def built(*trades: Trade, minutes: int = 1) -> CandleBuilder:
    builder = CandleBuilder("X")
    for given in trades:
        builder.on_trade(given)
    builder.advance(T0 + minutes * MINUTE)
    return builder


def test_a_candle_that_agrees_confirms_and_changes_nothing() -> None:
    builder = built(trade(1, 100, 2), trade(50, 101, 1))
    assert builder.settling.unconfirmed == [T0]
    builder.on_candle(candle(0, (100, 101, 100, 101), 3))
    assert builder.take_revised() == []
    assert (builder.settling.confirmed, builder.settling.corrected, builder.settling.unconfirmed) == (1, 0, [])


def test_a_candle_with_more_volume_is_right_and_the_flow_becomes_unknown() -> None:
    builder = built(trade(1, 100, 2))
    builder.on_candle(candle(0, (99, 105, 99, 104), 7, 700))
    (bar,) = builder.take_revised()
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume) == (99, 105, 99, 104, 7, 700)
    assert math.isnan(bar.buy_volume)
    assert math.isnan(bar.trade_count)
    assert builder.last_price == 104


def test_the_missing_trade_that_comes_after_the_candle_makes_the_flow_known_again() -> None:
    builder = built(trade(1, 100, 2))
    builder.on_candle(candle(0, (100, 104, 100, 104), 7, 728))
    builder.take_revised()
    builder.on_trade(trade(40, 104, 5, Side.SELL))
    (bar,) = builder.take_revised()
    assert (bar.close, bar.volume, bar.trade_count, bar.buy_volume, bar.quote_volume) == (104, 7, 2, 2, 728)


def test_a_candle_with_less_than_our_trades_is_doubted_and_then_believed() -> None:
    builder = built(trade(1, 100, 2), trade(30, 103, 5))
    stale = candle(0, (100, 100, 100, 100), 2)
    for _ in range(DOUBTS_ALLOWED):
        builder.on_candle(stale)
    assert builder.take_revised() == []
    assert builder.settling.doubtful == DOUBTS_ALLOWED
    assert builder.settling.unconfirmed == [T0]
    builder.on_candle(stale)
    (bar,) = builder.take_revised()
    assert (bar.close, bar.volume) == (100, 2)


def test_a_new_close_moves_the_flat_minutes_after_it_and_only_those() -> None:
    builder = built(trade(1, 100), trade(190, 102), minutes=5)
    builder.on_trade(trade(55, 90))
    assert [(b.open_time - T0) // MINUTE for b in builder.take_revised()] == [0, 1, 2]
    builder.on_trade(trade(239, 103))
    revised = builder.take_revised()
    assert [((b.open_time - T0) // MINUTE, b.close, b.volume) for b in revised] == [(3, 103, 2), (4, 103, 0)]
    assert builder.last_price == 103


def test_a_candle_that_comes_before_we_close_its_minute_corrects_it_at_once() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(1, 100, 2))
    builder.on_candle(candle(0, (100, 101, 100, 101), 3))
    bar = builder.advance(T0 + MINUTE)[0]
    assert (bar.close, bar.volume) == (101, 3)
    assert builder.take_revised() == []


def test_history_and_longer_candles_are_left_alone() -> None:
    builder = CandleBuilder("X")
    builder.on_candle(candle(0, (1, 1, 1, 1), 1))
    assert builder.advance(T0 + MINUTE) == []
    builder = built(trade(1))
    builder.on_candle(VenueCandle("X", Timeframe.M5, T0, 9, 9, 9, 9, 9))
    assert builder.take_revised() == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_late_trades_in_any_order_end_in_the_same_minute(order: tuple[int, int, int]) -> None:
    late = [trade(5, 103, 1), trade(20, 97, 2, Side.SELL), trade(58, 101, 3)]
    builder = built(trade(30, 100))
    for i in order:
        builder.on_trade(late[i])
    bar = builder.take_revised()[-1]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.buy_volume) == (103, 103, 97, 101, 7, 5)

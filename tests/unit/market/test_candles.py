from __future__ import annotations

import math
from dataclasses import replace

import pytest

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar, BookUpdate, Trade
from helios.errors import DataError, ProtocolError
from helios.market.book import OrderBook
from helios.market.candles import REMEMBERED_TRADE_IDS, CandleBuilder
from helios.market.settling import SETTLING_MINUTES

S = 1_000_000_000
MINUTE = 60 * S
DAY = 86_400 * S
T0 = 20_000 * DAY  # a UTC midnight


def trade(seconds: float, price: float = 100.0, quantity: float = 1.0, side: Side = Side.BUY, name: str | None = None) -> Trade:
    ts = T0 + round(seconds * S)
    return Trade("X", name or f"{ts}-{price}-{quantity}", price, quantity, side, ts)


def minute(index: int, close: float = 100.0, volume: float = 1.0, **known: float) -> Bar:
    return Bar("X", Timeframe.M1, T0 + index * MINUTE, close, close + 1, close - 1, close, volume, **known)


def book(bid: str, ask: str, bid_quantity: str = "1", ask_quantity: str = "1") -> OrderBook:
    made = OrderBook("X")
    made.apply(BookUpdate("X", True, ((bid, bid_quantity),), ((ask, ask_quantity),), None, None, 0))
    return made


def of(bars: list[Bar], timeframe: Timeframe) -> list[Bar]:
    return [bar for bar in bars if bar.timeframe is timeframe]


def test_trades_make_a_minute() -> None:
    builder = CandleBuilder("X")
    for given in (trade(1, 100, 2), trade(5, 103, 1, Side.SELL), trade(9, 99, 1), trade(59.9, 101, 4, Side.SELL)):
        assert builder.on_trade(given) == []
    (bar,) = builder.advance(T0 + MINUTE)
    assert (bar.open, bar.high, bar.low, bar.close) == (100, 103, 99, 101)
    assert (bar.volume, bar.trade_count, bar.buy_volume) == (8, 4, 3)
    assert bar.quote_volume == 2 * 100 + 103 + 99 + 4 * 101
    assert (bar.open_time, bar.close_time) == (T0, T0 + MINUTE)


def test_bucket_closes_at_its_own_end_and_not_before() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(10))
    assert builder.advance(T0 + MINUTE - 1) == []
    assert len(builder.advance(T0 + MINUTE)) == 1
    assert builder.advance(T0 + MINUTE) == []


def test_trade_of_the_next_minute_closes_the_one_before_first() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(10, 100))
    (bar,) = builder.on_trade(trade(60, 200))
    assert (bar.close, bar.volume) == (100, 1)
    assert builder.last_price == 200


def test_clock_closes_minutes_without_trades() -> None:
    builder = CandleBuilder("X", [Timeframe.M1])
    builder.on_trade(trade(10, 107, 3))
    bars = builder.advance(T0 + 4 * MINUTE + 5)
    assert [bar.open_time for bar in bars] == [T0 + i * MINUTE for i in range(4)]
    for empty in bars[1:]:
        assert (empty.open, empty.high, empty.low, empty.close) == (107, 107, 107, 107)
        assert (empty.volume, empty.quote_volume, empty.trade_count, empty.buy_volume) == (0, 0, 0, 0)


def test_120_minutes_of_ticks_close_120_minutes() -> None:
    builder = CandleBuilder("X")
    bars = [bar for second in range(7200) for bar in builder.on_trade(trade(second))] + builder.advance(T0 + 7200 * S)
    assert [len(of(bars, timeframe)) for timeframe in Timeframe] == [120, 24, 8, 2, 0]
    assert all(bar.volume == bar.timeframe.seconds for bar in bars)


def test_nothing_is_given_out_before_a_price_is_known() -> None:
    builder = CandleBuilder("X")
    assert builder.advance(T0 + 10 * MINUTE) == []
    assert builder.on_book(book("99", "101"), T0 + 30 * S) == []
    assert builder.advance(T0 + 10 * MINUTE) == []
    builder.on_trade(trade(601))
    (bar,) = builder.advance(T0 + 11 * MINUTE)
    assert bar.open_time == T0 + 10 * MINUTE
    assert bar.spread_bps == pytest.approx(200)


def test_bars_come_by_close_time_then_length() -> None:
    builder = CandleBuilder("X", reversed(list(Timeframe)))
    builder.on_trade(trade(0))
    bars = builder.advance(T0 + DAY)
    assert [(bar.close_time, bar.timeframe.ns) for bar in bars] == sorted((b.close_time, b.timeframe.ns) for b in bars)
    assert [bar.timeframe.value for bar in bars[-5:]] == ["1m", "5m", "15m", "1h", "1d"]
    assert [len(of(bars, timeframe)) for timeframe in Timeframe] == [1440, 288, 96, 24, 1]


def test_partial_first_bucket_of_a_higher_timeframe_is_not_given_out() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(61))
    bars = builder.advance(T0 + 15 * MINUTE)
    assert [bar.open_time for bar in of(bars, Timeframe.M5)] == [T0 + 5 * MINUTE, T0 + 10 * MINUTE]
    assert of(bars, Timeframe.M15) == []
    assert builder.first_live_minute == T0 + MINUTE


def test_timeframes_not_wanted_are_not_returned() -> None:
    builder = CandleBuilder("X", [Timeframe.M5])
    builder.on_trade(trade(0))
    assert [bar.timeframe for bar in builder.advance(T0 + 10 * MINUTE)] == [Timeframe.M5] * 2


def test_a_late_trade_joins_its_minute_which_comes_out_again() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(10, 100))
    builder.advance(T0 + MINUTE)
    assert builder.on_trade(trade(59, 500, 9)) == []
    (revised,) = builder.take_revised()
    assert (revised.open_time, revised.high, revised.close, revised.volume, revised.trade_count) == (T0, 500, 500, 10, 2)
    assert builder.take_revised() == []
    builder.on_trade(trade(61, 101))
    (bar,) = builder.advance(T0 + 2 * MINUTE)
    assert (bar.high, bar.volume, builder.late_trades) == (101, 1, 0)


def test_a_trade_for_a_minute_that_is_final_is_counted_and_changes_nothing() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(10, 100))
    builder.advance(T0 + (SETTLING_MINUTES + 1) * MINUTE)
    assert builder.on_trade(trade(59, 500, 9)) == []
    assert (builder.late_trades, builder.take_revised()) == (1, [])


def test_repeated_trade_is_dropped_and_counted() -> None:
    builder = CandleBuilder("X")
    for _ in range(3):
        builder.on_trade(trade(10, quantity=2, name="a"))
    (bar,) = builder.advance(T0 + MINUTE)
    assert (bar.volume, bar.trade_count, builder.duplicate_trades) == (2, 1, 2)


def test_the_newest_ids_are_remembered() -> None:
    builder = CandleBuilder("X")
    for i in range(REMEMBERED_TRADE_IDS + 1):
        builder.on_trade(trade(10, name=str(i)))
    builder.on_trade(trade(10, name="1"))
    assert builder.duplicate_trades == 1
    builder.on_trade(trade(10, name="0"))
    assert builder.duplicate_trades == 1


def test_open_and_close_go_by_venue_time() -> None:
    builder = CandleBuilder("X")
    for given in (trade(30, 100), trade(10, 90), trade(50, 110), trade(40, 105)):
        builder.on_trade(given)
    (bar,) = builder.advance(T0 + MINUTE)
    assert (bar.open, bar.close) == (90, 110)


@pytest.mark.parametrize(("price", "quantity"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, math.inf)])
def test_trade_without_price_or_quantity_is_a_protocol_error(price: float, quantity: float) -> None:
    with pytest.raises(ProtocolError):
        CandleBuilder("X").on_trade(trade(1, price, quantity))


def test_momentum_is_that_of_the_last_ten_trades_across_bars() -> None:
    builder = CandleBuilder("X")
    for i in range(9):
        builder.on_trade(trade(i, 100 + i, 1, Side.SELL))
    (before,) = builder.advance(T0 + MINUTE)
    assert math.isnan(before.trade_momentum)
    builder.on_trade(trade(61, 100, 3, Side.BUY))
    (bar,) = builder.advance(T0 + 2 * MINUTE)
    assert bar.trade_momentum == pytest.approx((3 - 9) / 12)
    builder.on_trade(trade(121, 100, 1, Side.BUY))
    (bar,) = builder.advance(T0 + 3 * MINUTE)
    assert bar.trade_momentum == pytest.approx((4 - 8) / 12)


def test_spread_is_weighted_by_time_and_carries_over() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(0))
    builder.on_book(book("99", "101", "3"), T0 + 30 * S)  # 200 bps, imbalance 0.5, from 0:30
    builder.on_book(book("99.5", "100.5"), T0 + 50 * S)  # 100 bps, imbalance 0, from 0:50
    first, second = builder.advance(T0 + 2 * MINUTE)
    assert first.spread_bps == pytest.approx((200 * 20 + 100 * 10) / 30)
    assert first.book_imbalance == pytest.approx(0.5 * 20 / 30)
    assert second.spread_bps == pytest.approx(100)
    assert second.depth_log == pytest.approx(math.log(200))


def test_microprice_is_that_of_the_book_at_the_close() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(0))
    builder.on_book(book("99", "101"), T0 + 1 * S)
    builder.on_book(book("99", "101", "3"), T0 + 2 * S)
    (bar,) = builder.advance(T0 + MINUTE)
    assert bar.microprice_bps == pytest.approx(50)


def test_time_without_a_book_in_step_has_no_weight() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(0))
    builder.on_book(book("99", "101"), T0)
    builder.on_book(OrderBook("X"), T0 + 10 * S)
    first, second = builder.advance(T0 + 2 * MINUTE)
    assert first.spread_bps == pytest.approx(200)
    assert math.isnan(first.microprice_bps)
    assert math.isnan(second.spread_bps)


def test_minutes_build_the_higher_bars() -> None:
    builder = CandleBuilder("X")
    bars: list[Bar] = []
    for i in range(5):
        known = {"trade_count": 2.0, "buy_volume": 0.5, "spread_bps": float(i)} if i != 2 else {"trade_count": 2.0}
        bars += builder.on_minute(minute(i, 100 + i, volume=i, **known))
    (bar,) = of(bars, Timeframe.M5)
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (100, 105, 99, 104, 10)
    assert bar.trade_count == 10
    assert math.isnan(bar.buy_volume)  # unknown in one minute, so unknown in the sum
    assert bar.spread_bps == pytest.approx((0 + 1 + 3 + 4) / 4)
    assert math.isnan(bar.depth_log)


def test_missing_minutes_are_filled_flat_listed_and_counted() -> None:
    builder = CandleBuilder("X")
    builder.on_minute(minute(0, 100, trade_count=3.0))
    bars = builder.on_minute(minute(4, 110, volume=7.0))
    ones = of(bars, Timeframe.M1)
    assert [bar.open_time for bar in ones] == [T0 + i * MINUTE for i in (1, 2, 3, 4)]
    assert [(bar.close, bar.volume) for bar in ones] == [(100, 0), (100, 0), (100, 0), (110, 7)]
    assert math.isnan(ones[0].trade_count)
    assert (builder.gaps, builder.filled_minutes) == ([(T0 + MINUTE, T0 + 4 * MINUTE)], 3)
    assert of(bars, Timeframe.M5)[0].volume == 8


def test_minute_given_twice_is_ignored_and_counted() -> None:
    builder = CandleBuilder("X")
    builder.on_minute(minute(3))
    assert builder.on_minute(minute(3, 105)) == []
    assert builder.on_minute(minute(1)) == []
    assert (builder.ignored_minutes, builder.last_price) == (2, 100)


def test_live_goes_on_where_history_ended() -> None:
    builder = CandleBuilder("X")
    for i in range(5):
        builder.on_minute(minute(i))
    assert [bar.open for bar in builder.on_trade(trade(301, 120))] == []
    (bar,) = builder.advance(T0 + 6 * MINUTE)
    assert (bar.open_time, bar.open, builder.gaps) == (T0 + 5 * MINUTE, 120, [])


def test_seed_is_not_returned_but_gives_price_and_time() -> None:
    builder = CandleBuilder("X", [Timeframe.M1])
    builder.seed(minute(7, 123))
    (bar,) = builder.advance(T0 + 9 * MINUTE)
    assert (bar.open_time, bar.close, bar.trade_count) == (T0 + 8 * MINUTE, 123, 0)


def test_seed_that_jumps_ahead_leaves_no_bar_with_a_hole() -> None:
    builder = CandleBuilder("X", [Timeframe.M5])
    builder.on_minute(minute(0))
    builder.seed(minute(3))
    assert builder.on_minute(minute(4)) == []
    assert len([bar for i in range(5, 10) for bar in builder.on_minute(minute(i))]) == 1


def test_seed_from_the_past_is_ignored() -> None:
    builder = CandleBuilder("X")
    builder.on_minute(minute(5, 120))
    builder.seed(minute(2, 90))
    assert (builder.last_price, builder.open_time, builder.ignored_minutes) == (120, T0 + 6 * MINUTE, 1)


def test_given_minute_replaces_trades_of_the_same_minute() -> None:
    builder = CandleBuilder("X", [Timeframe.M1])
    builder.on_trade(trade(5, 100, 1))
    (bar,) = builder.on_minute(minute(0, 104, 9))
    assert (bar.close, bar.volume) == (104, 9)
    assert builder.advance(T0 + MINUTE) == []


def test_live_minute_is_closed_before_a_later_given_one() -> None:
    builder = CandleBuilder("X", [Timeframe.M1])
    builder.on_trade(trade(5, 100, 3))
    bars = builder.on_minute(minute(2, 104, 9))
    assert [bar.volume for bar in bars] == [3, 0, 9]
    assert builder.gaps == [(T0 + MINUTE, T0 + 2 * MINUTE)]


@pytest.mark.parametrize("wrong", [
    replace(minute(0), timeframe=Timeframe.M5),
    replace(minute(0), open_time=T0 + 1),
    replace(minute(0), high=99.5),
    replace(minute(0), low=100.5),
    replace(minute(0), open=98.0),
    replace(minute(0), close=math.nan),
    replace(minute(0), volume=-1.0),
])  # fmt: skip
def test_minute_that_contradicts_itself_is_refused(wrong: Bar) -> None:
    with pytest.raises(DataError):
        CandleBuilder("X").on_minute(wrong)


def test_time_in_another_unit_is_refused_rather_than_filled_up_to() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(1))
    with pytest.raises(ProtocolError):
        builder.on_trade(trade(40 * 86_400))
    assert builder.open_time == T0

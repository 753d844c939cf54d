from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from helios.domain.enums import ExitReason, MarketKind, Side, Timeframe
from helios.domain.market import Bar, BookUpdate, Instrument, Trade
from helios.domain.orders import ExitPlan
from helios.errors import ProtocolError
from helios.features.definitions import FEATURE_NAMES
from helios.pipeline.series import turnover_quote
from helios.pipeline.symbol import SymbolState
from tests.support.pipeline_values import MINUTE_NS, T0, bar

BTC = Instrument("BTC/USDT", "BTC", "USDT", "test", "BTCUSDT", kind=MarketKind.PERP)
SPREAD = FEATURE_NAMES.index("spread_bps")
FAR = T0 + 10**18


def at(minute: float) -> int:
    return T0 + int(minute * MINUTE_NS)


def state(timeframe: Timeframe = Timeframe.M5) -> SymbolState:
    return SymbolState(BTC, timeframe)


def trade(minute: float, price: float = 100.0, number: int | None = None, quantity: float = 1.0) -> Trade:
    return Trade(BTC.symbol, str(minute if number is None else number), price, quantity, Side.BUY, at(minute))


def book(sequence: int, minute: float, is_snapshot: bool = False, bid: str = "99.9", ask: str = "100.1") -> BookUpdate:
    return BookUpdate(BTC.symbol, is_snapshot, ((bid, "3"),), ((ask, "1"),), sequence, None, at(minute))


def long(stop: float = 95.0, target: float = 110.0, expires_at: int = 0, name: str = "p1") -> ExitPlan:
    return ExitPlan(name, BTC.symbol, Side.BUY, 100.0, stop, target, 0.0, 0.0, expires_at)


def shape(bars: tuple[Bar, ...]) -> list[tuple[str, int]]:
    return [(b.timeframe.value, (b.open_time - T0) // MINUTE_NS) for b in bars]


def test_windows_come_at_decision_closes_only() -> None:
    symbol = state()
    for i in range(14):
        symbol.on_minute(bar(i))
    step = symbol.drain()
    assert [(w.bar_time - T0) // MINUTE_NS for w in step.windows] == [5, 10]
    assert [m.ts_event for m in step.marks] == [at(i + 1) for i in range(14)]


def test_a_decision_sees_every_timeframe_that_has_closed_by_then() -> None:
    symbol = state()
    for i in range(15):
        symbol.on_minute(bar(i, close=100.0 + i))
    first, second, third = symbol.drain().windows
    newest = third.values[:, -1, :]
    assert np.isnan(first.values[2]).all()
    assert np.isnan(second.values[2]).all()
    # open / close - 1 of the 15m bar: opened at 100, closed at 114.
    assert newest[2, 0] == np.float32(100.0 / 114.0 - 1.0)
    assert newest[1, 0] == np.float32(110.0 / 114.0 - 1.0)


def test_the_last_decision_before_a_higher_close_does_not_see_it() -> None:
    symbol = state(Timeframe.M1)
    for i in range(15):
        symbol.on_minute(bar(i))
    windows = symbol.drain().windows
    assert np.isnan(windows[13].values[2]).all()
    assert not np.isnan(windows[14].values[2, -1, 0])


def test_history_repair_and_live_bars_may_overlap() -> None:
    symbol, plain = state(), state()
    minutes = [bar(i, close=100.0 + i % 3) for i in range(40)]
    for minute in minutes:
        plain.on_minute(minute)
    symbol.warm({Timeframe.M1: minutes[:20], Timeframe.M5: [b for b in plain.drain().bars if b.timeframe is Timeframe.M5][:4]})
    assert symbol.drain().bars == ()
    symbol.repair(minutes[15:30])
    for minute in minutes[25:]:
        symbol.on_minute(minute)
    opened = [index for timeframe, index in shape(symbol.drain().bars) if timeframe == "1m"]
    assert opened == list(range(20, 40))
    assert symbol.history().closes.tolist() == plain.history().closes.tolist()


def test_warming_gives_out_nothing_and_says_how_far_it_got() -> None:
    symbol = state()
    symbol.warm(
        {Timeframe.M1: [bar(i) for i in range(10)], Timeframe.H1: [bar(-2, timeframe=Timeframe.H1), bar(-1, timeframe=Timeframe.H1)]}
    )
    step = symbol.drain()
    assert (step.bars, step.windows, step.exits) == ((), (), ())
    assert symbol.last_open(Timeframe.M1) == at(9)
    assert symbol.last_open(Timeframe.D1) is None
    assert symbol.history().hourly_times.tolist() == [T0 - 60 * MINUTE_NS, T0]
    assert symbol.last_price == 100.0


@pytest.mark.parametrize(("price", "worth"), [(1000.0, 100.1), (1.0, 99.9), (100.0, 100.0)])
def test_one_print_far_outside_the_book_values_nothing(price: float, worth: float) -> None:
    symbol = state()
    assert math.isnan(symbol.mark_price)
    symbol.on_trade(trade(0.1))
    assert symbol.mark_price == 100.0
    symbol.on_book(book(1, 0.2, is_snapshot=True))
    symbol.on_trade(trade(0.3, price))
    assert (symbol.mark_price, symbol.last_price) == (worth, price)
    symbol.on_time(at(1.1))
    assert [m.price for m in symbol.drain().marks] == [worth]
    symbol.lose_feed()  # a book that is not in step says nothing of the price
    assert symbol.mark_price == price


def test_repair_never_triggers_an_exit_but_a_live_minute_does() -> None:
    symbol = state()
    symbol.on_minute(bar(0))
    symbol.arm([long(stop=95.0)])
    symbol.repair([bar(1, low=80.0)])
    assert symbol.drain().exits == ()
    symbol.on_minute(bar(2, low=80.0))
    (exit_,) = symbol.drain().exits
    assert (exit_.reason, exit_.trigger_price) == (ExitReason.STOP, 95.0)


def test_an_exit_fires_once_though_the_price_stays_there_and_the_plan_is_armed_again() -> None:
    symbol = state()
    symbol.arm([long(stop=95.0)])
    for i, price in enumerate((100.0, 94.0, 93.0)):
        symbol.on_trade(trade(i / 10, price))
    symbol.arm([long(stop=95.0)])
    symbol.on_trade(trade(0.4, 92.0))
    symbol.on_time(at(1))
    (exit_,) = symbol.drain().exits
    assert (exit_.position_id, exit_.trigger_price, exit_.ts_event) == ("p1", 94.0, at(0.1))
    assert float(exit_.market.last) == 94.0


@pytest.mark.parametrize("wrong", [
    replace(trade(1), price=0.0), replace(trade(1), price=math.nan), replace(trade(1), price=-5.0),
    replace(trade(1), quantity=0.0), replace(trade(1), price=50.0, ts_event=FAR),
], ids=["zero", "nan", "negative", "no quantity", "far ahead"])  # fmt: skip
@pytest.mark.parametrize("take", [SymbolState.on_trade, SymbolState.on_price_only])
def test_an_impossible_print_stops_nobody_out_and_blinds_no_stop(take: Callable[..., None], wrong: Trade) -> None:
    symbol = state()
    symbol.on_trade(trade(0.5, 100.0))
    symbol.arm([long(stop=95.0)])
    with pytest.raises(ProtocolError):
        take(symbol, wrong)
    assert (symbol.drain().exits, symbol.last_price, symbol.last_event_ns) == ((), 100.0, at(0.5))
    symbol.on_trade(trade(0.7, 94.0))
    (exit_,) = symbol.drain().exits
    assert exit_.trigger_price == 94.0


def test_a_book_of_next_month_does_not_make_the_market_look_fresh() -> None:
    symbol = state()
    symbol.on_trade(trade(0.5))
    symbol.on_book(book(1, 0.6, is_snapshot=True))
    with pytest.raises(ProtocolError):
        symbol.on_book(replace(book(2, 0.7, bid="50"), ts_event=FAR))
    assert (symbol.last_event_ns, symbol.book.best_bid) == (at(0.6), 99.9)
    symbol.on_book(book(2, 0.8, bid="99.8"))
    assert symbol.market().ts_event == at(0.8)


def test_time_alone_ends_a_position_but_not_before_a_price_is_known() -> None:
    symbol = state()
    symbol.arm([long(expires_at=at(3))])
    symbol.on_time(at(4))
    assert symbol.drain().exits == ()
    symbol.on_trade(trade(2, 100.0))
    assert symbol.drain().exits == ()
    symbol.on_time(at(4))
    assert [e.reason for e in symbol.drain().exits] == [ExitReason.TIMEOUT]


def test_a_position_that_is_no_longer_armed_is_not_watched() -> None:
    symbol = state()
    symbol.arm([long()])
    symbol.arm([])
    symbol.on_trade(trade(0, 50.0))
    assert symbol.drain().exits == ()


def test_a_book_out_of_sequence_is_asked_for_and_unknown_until_a_snapshot_comes() -> None:
    symbol = state(Timeframe.M1)
    symbol.on_trade(trade(0))
    symbol.on_book(book(1, 0.1, is_snapshot=True))
    symbol.on_time(at(1))
    assert symbol.drain().windows[0].values[0, -1, SPREAD] == np.float32(0.2 / 100.0 * 1e4)
    symbol.on_book(book(3, 1.0))
    assert (symbol.needs_book, symbol.book_desyncs, symbol.market().bids) == (True, 1, ())
    symbol.on_book(book(4, 1.1))
    assert symbol.book_desyncs == 1
    symbol.on_trade(trade(1.5))
    symbol.on_time(at(3))
    assert math.isnan(symbol.drain().windows[-1].values[0, -1, SPREAD])
    symbol.on_book(book(9, 3.0, is_snapshot=True))
    symbol.on_book(book(10, 3.5, ask="100.1"))
    symbol.on_time(at(4))
    assert symbol.needs_book is False
    assert symbol.drain().windows[-1].values[0, -1, SPREAD] == np.float32(0.2 / 100.0 * 1e4)
    assert len(symbol.market().bids) == 1


def test_the_stale_mark_of_the_moment_is_kept_with_the_window() -> None:
    symbol = state(Timeframe.M1)
    symbol.on_minute(bar(0))
    symbol.is_stale = True
    symbol.on_minute(bar(1))
    symbol.is_stale = False
    symbol.on_minute(bar(2))
    assert [w.is_stale for w in symbol.drain().windows] == [False, True, False]


def test_bars_from_trades_equal_the_minutes_they_make() -> None:
    live, replayed = state(), state()
    rng = np.random.default_rng(3)
    prices = np.round(100.0 + np.cumsum(rng.normal(0, 0.1, 900)), 2)
    minutes: dict[int, list[float]] = {}
    for i, price in enumerate(prices):
        live.on_trade(trade(i / 60, float(price), number=i, quantity=0.5))
        minutes.setdefault(i // 60, []).append(float(price))
    live.on_time(at(15))
    for index, seen in minutes.items():
        replayed.on_minute(Bar(BTC.symbol, Timeframe.M1, at(index), seen[0], max(seen), min(seen), seen[-1], 0.5 * len(seen)))
    mine, theirs = live.drain(), replayed.drain()
    assert shape(mine.bars) == shape(theirs.bars)
    for a, b in zip(mine.bars, theirs.bars):
        assert (a.open, a.high, a.low, a.close, a.volume) == pytest.approx((b.open, b.high, b.low, b.close, b.volume), rel=1e-12)
    for timeframe in range(3):
        np.testing.assert_allclose(mine.windows[-1].returns[timeframe], theirs.windows[-1].returns[timeframe], rtol=1e-12)


def test_a_minute_without_trades_closes_flat_by_time() -> None:
    symbol = state()
    symbol.on_trade(trade(0.5, 101.0))
    symbol.on_time(at(3))
    bars = symbol.drain().bars
    assert [(b.open, b.close, b.volume) for b in bars] == [(101.0, 101.0, 1.0), (101.0, 101.0, 0.0), (101.0, 101.0, 0.0)]


def test_price_only_trades_move_exits_and_marks_but_no_candle() -> None:
    symbol = state()
    symbol.arm([long(stop=95.0)])
    symbol.on_price_only(trade(0.5, 90.0))
    symbol.on_time(at(5))
    step = symbol.drain()
    assert (step.bars, [e.reason for e in step.exits], symbol.last_price) == ((), [ExitReason.STOP], 90.0)


def test_drain_forgets() -> None:
    symbol = state()
    symbol.on_minute(bar(0))
    assert len(symbol.drain().bars) == 1
    assert symbol.drain().bars == ()


def test_turnover_is_as_reported_else_typical_price_times_volume() -> None:
    assert turnover_quote(replace(bar(0), quote_volume=7.0)) == 7.0
    assert turnover_quote(bar(0, close=90.0, low=80.0, high=100.0, volume=2.0)) == 180.0


def test_a_late_trade_is_in_its_candle_but_is_no_price_and_triggers_nothing() -> None:
    symbol = state()
    symbol.arm([long(stop=95.0)])
    symbol.on_trade(trade(0.5, 100.0))
    symbol.on_trade(trade(1.5, 101.0))
    symbol.on_trade(trade(0.6, 90.0))
    step = symbol.drain()
    assert step.exits == ()
    assert symbol.last_price == 101.0
    assert [(b.low, b.volume) for b in step.revised] == [(90.0, 2.0)]


def test_the_spread_of_before_an_outage_does_not_count_after_it() -> None:
    symbol = state()
    symbol.on_book(book(1, 0.1, is_snapshot=True, bid="99", ask="101"))
    symbol.on_trade(trade(0.5, 100.0))
    symbol.lose_feed()
    symbol.repair([bar(0), bar(1)], at(2))
    symbol.on_book(book(9, 2.5, is_snapshot=True, bid="99.9", ask="100.1"))
    symbol.on_time(at(3))
    minutes = [b for b in symbol.drain().bars if b.timeframe is Timeframe.M1]
    assert minutes[2].spread_bps == pytest.approx(20.0)


def trailing(opened: float = 0.0, **terms: float) -> ExitPlan:
    return replace(long(), target_price=math.nan, trailing_activate_pct=0.02, trailing_pct=0.01, opened_at=at(opened), **terms)


def reasons(symbol: SymbolState) -> list[ExitReason]:
    return [hit.reason for hit in symbol.drain().exits]


def stored(symbol: SymbolState) -> dict[Timeframe, list[Bar]]:
    bars = symbol.drain().bars
    return {timeframe: [b for b in bars if b.timeframe is timeframe] for timeframe in (Timeframe.M1, Timeframe.M5)}


@pytest.mark.parametrize("kept", [[Timeframe.M1], [Timeframe.M5], [Timeframe.M1, Timeframe.M5]], ids=["1m", "5m", "both"])
def test_an_owner_that_was_killed_takes_the_high_water_from_stored_bars(kept: list[Timeframe]) -> None:
    symbol = state()
    symbol.arm([trailing()])
    for minute, price in ((0.1, 100.0), (1.2, 105.0), (1.3, 104.5), (6.0, 104.2)):
        symbol.on_trade(trade(minute, price))
    symbol.on_time(at(10))
    history = stored(symbol)
    reborn = state()
    reborn.warm({timeframe: history[timeframe] for timeframe in kept})
    reborn.arm([trailing()])
    reborn.on_trade(trade(10.5, 103.96))
    assert reasons(reborn) == []
    reborn.on_trade(trade(10.6, 103.94))
    assert reasons(reborn) == [ExitReason.TRAILING_STOP]


def test_bars_of_before_the_opening_are_no_high_water() -> None:
    symbol = state()
    symbol.warm({Timeframe.M1: [bar(n, close=105.0) for n in range(5)]})
    symbol.arm([trailing(opened=5.0)])
    symbol.on_trade(trade(5.5, 101.0))
    assert reasons(symbol) == []


def test_what_the_price_reached_during_an_outage_counts_once_it_is_repaired() -> None:
    symbol = state()
    symbol.on_minute(bar(0))
    symbol.arm([trailing()])
    symbol.repair([bar(1, high=106.0, close=105.0)])
    assert reasons(symbol) == []  # the past fires nothing
    symbol.on_trade(trade(2.5, 104.0))
    assert reasons(symbol) == [ExitReason.TRAILING_STOP]


def test_a_late_trade_moves_no_stop_before_its_candle_is_corrected() -> None:
    symbol = state()
    symbol.arm([trailing()])
    symbol.on_trade(trade(0.5, 100.0))
    symbol.on_trade(trade(1.5, 101.0))
    symbol.on_price_only(trade(0.6, 106.0))
    symbol.on_trade(trade(1.6, 101.5))
    assert reasons(symbol) == []


def test_an_exit_that_failed_fires_again_on_the_next_price() -> None:
    symbol = state()
    symbol.arm([long(stop=95.0)])
    symbol.on_trade(trade(0.1, 94.0))
    symbol.arm([replace(long(stop=95.0), attempts=1)])
    symbol.on_trade(trade(0.2, 94.0))
    assert reasons(symbol) == [ExitReason.STOP, ExitReason.STOP]


def test_a_part_and_the_rest_may_both_be_left_in_one_replayed_minute() -> None:
    symbol = state()
    symbol.arm([replace(long(target=110.0), scale_out_fraction=0.5, scale_out_price=105.0)])
    symbol.on_minute(replace(bar(0, high=111.0, low=99.0, close=108.0), open=100.0))
    hits = symbol.drain().exits
    assert [(hit.reason, hit.fraction, hit.trigger_price) for hit in hits] == [
        (ExitReason.SCALE_OUT, 0.5, 105.0),
        (ExitReason.TARGET, 1.0, 110.0),
    ]
    assert [float(hit.market.last) for hit in hits] == [105.0, 110.0]

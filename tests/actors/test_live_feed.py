from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors import feed as feed_module
from actors import repair as module
from actors.repair import bar_of
from helios.clock import ManualClock
from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar, BookUpdate, Trade, VenueCandle
from helios.domain.orders import ExitPlan
from helios.pipeline.symbol import SymbolState
from tests.support.feed_bench import BTC, CONNECTED, DISCONNECTED, Bench, at, trade
from tests.support.pipeline_values import MINUTE_NS, T0
from tests.support.scripted_venue import VENUE_VOLUME, candle
from tests.support.waiting import until


async def test_history_is_learnt_up_to_the_present_minute_and_nothing_is_given_out(bench: Bench) -> None:
    assert bench.state.last_open(Timeframe.M1) == at(9)
    assert bench.state.last_open(Timeframe.M5) == at(5)
    await bench.reach(12)
    assert bench.minutes == {}


async def test_history_with_a_page_missing_is_asked_for_once_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    opens = [at(5 * n) for n in range(6)]
    bench.venue.unknown = set(opens[:3])  # an empty first page looks like a young pair
    real = bench.venue.candles

    async def healing(*args: Any) -> list[VenueCandle]:
        answer = await real(*args)
        bench.venue.unknown = set()
        return answer

    bench.venue.candles = healing  # type: ignore[method-assign]
    bars = await bench.feed.repairs._history(BTC.symbol, Timeframe.M5, opens[0], at(30), [])
    assert [bar.open_time for bar in bars] == opens
    assert {bar.volume for bar in bars} == {VENUE_VOLUME}


async def test_bars_around_a_hole_in_history_are_no_neighbours(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.venue.unknown = {at(0), at(10), at(15)}
    known = [bar_of(candle(BTC.symbol, Timeframe.M5, at(-5), 1.0))]  # from the store
    bars = await bench.feed.repairs._history(BTC.symbol, Timeframe.M5, at(0), at(30), known)
    assert [(bar.open_time, bar.volume) for bar in bars] == [
        (at(-5), 1.0), (at(0), 0.0), (at(5), VENUE_VOLUME), (at(10), 0.0), (at(15), 0.0),
        (at(20), VENUE_VOLUME), (at(25), VENUE_VOLUME),
    ]  # fmt: skip
    assert {bar.high for bar in bars[3:5]} == {bars[2].close}
    assert bench.feed.counters()["history_bars_flat"] == 3


async def test_what_a_restart_missed_and_older_holes_are_recorded_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = [Bar(BTC.symbol, Timeframe.M1, at(m), 1.0, 1.0, 1.0, 1.0, 1.0) for m in (2, 3, 5, 6)]
    hours = [Bar(BTC.symbol, Timeframe.H1, at(-60 * n), 1.0, 1.0, 1.0, 1.0, 1.0) for n in (2, 1)]

    async def stored(symbol: str) -> dict[Timeframe, list[Bar]]:
        return {Timeframe.M1: minutes, Timeframe.H1: hours}

    monkeypatch.setattr(bench.feed.repairs, "_stored", stored)
    state = SymbolState(BTC, Timeframe.M5)
    await bench.feed.repairs.warm(state)
    assert [(b.timeframe.value, (b.open_time - T0) // MINUTE_NS) for b in state.drain().bars] == [
        ("1m", 4), ("1m", 7), ("1m", 8), ("1m", 9),
    ]  # fmt: skip
    assert state.last_open(Timeframe.M1) == at(9)


async def test_the_minute_of_the_connection_is_the_venues_and_later_trades_are_kept(bench: Bench) -> None:
    await bench.say(CONNECTED, trade(10.7, 500.0), trade(11.2, 101.0))
    await bench.reach(10.9)
    assert bench.minutes == {}
    await bench.reach(11.3)
    assert bench.volumes() == {10: VENUE_VOLUME}
    assert bench.minutes[10].high < 500.0
    await bench.say(trade(11.5, 102.0))
    await bench.reach(12.1)
    assert bench.volumes() == {10: VENUE_VOLUME, 11: 2.0}
    assert (bench.minutes[11].open, bench.minutes[11].close) == (101.0, 102.0)
    assert bench.feed.details(0.0)["syncing"] == []


async def test_exits_are_judged_while_the_candles_are_being_repaired(bench: Bench) -> None:
    bench.state.arm([ExitPlan("p", BTC.symbol, Side.BUY, 100.0, 95.0, 110.0, 0.0, 0.0, 0)])
    await bench.say(CONNECTED, trade(10.7, 90.0))
    assert [e.trigger_price for s in bench.steps for e in s.exits] == [90.0]
    assert bench.minutes == {}


async def test_minutes_of_an_outage_come_from_the_venue_and_are_never_made_up(bench: Bench) -> None:
    await bench.say(CONNECTED)
    await bench.reach(11.1)
    await bench.say(trade(11.2, 101.0))
    await bench.reach(12.2)
    await bench.say(trade(12.3, 500.0), DISCONNECTED)
    assert bench.state.is_stale
    await bench.reach(15.2)
    assert bench.volumes() == {10: VENUE_VOLUME, 11: 1.0}
    await bench.say(CONNECTED, trade(15.5, 300.0))
    assert bench.state.is_stale
    await bench.reach(16.1)
    assert not bench.state.is_stale
    assert bench.volumes() == {10: VENUE_VOLUME, 11: 1.0, 12: VENUE_VOLUME, 13: VENUE_VOLUME, 14: VENUE_VOLUME, 15: VENUE_VOLUME}
    assert max(bench.minutes[m].high for m in range(12, 16)) < 300.0
    assert (Timeframe.M1, at(12), at(16)) in bench.venue.fetched
    assert (bench.feed.reconnects, bench.feed.repairs.repaired) == (1, 2)
    # The decision bar that closed meanwhile is given out, marked as not to be traded on.
    assert [(w.bar_time, w.is_stale) for s in bench.steps for w in s.windows] == [(at(15), True)]


async def test_a_gap_that_cannot_be_fetched_yet_is_asked_for_again(bench: Bench) -> None:
    await bench.say(CONNECTED, DISCONNECTED, CONNECTED)
    bench.venue.is_down = True
    await bench.reach(11.5)
    assert bench.state.is_stale
    assert bench.minutes == {}
    bench.venue.is_down = False
    await bench.reach(11.6)
    assert not bench.state.is_stale
    assert bench.volumes() == {10: VENUE_VOLUME}


async def test_the_snapshot_of_a_quiet_book_is_old_and_not_late(bench: Bench) -> None:
    levels = ((("99", "1"),), (("101", "1"),))
    await bench.say(CONNECTED, BookUpdate(BTC.symbol, True, *levels, 1, None, at(1.0)))
    assert bench.feed.details(0.0)["lag_s"] is None
    await bench.say(BookUpdate(BTC.symbol, False, *levels, 2, None, at(10.5)))
    assert bench.feed.details(0.0)["lag_s"] == 0.0


async def test_a_book_out_of_step_is_asked_for_once(bench: Bench) -> None:
    def book(sequence: int, is_snapshot: bool = False) -> BookUpdate:
        return BookUpdate(BTC.symbol, is_snapshot, (("99", "1"),), (("101", "1"),), sequence, None, at(10.6))

    await bench.say(CONNECTED, book(1, True), book(3), book(4), book(5))
    assert bench.venue.books_asked == [BTC.symbol]
    await bench.say(book(9, True), book(10))
    assert not bench.state.needs_book
    assert bench.venue.books_asked == [BTC.symbol]


async def test_a_book_whose_snapshot_does_not_come_is_asked_for_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "BOOK_RETRY_S", 0.1)
    broken = BookUpdate(BTC.symbol, True, (("99", "1"),), (("101", "1"),), 5, 12345, at(10.6))
    await bench.say(CONNECTED, broken)
    await until(lambda: len(bench.venue.books_asked) >= 2)
    assert bench.feed.counters()["book_checksum_mismatch"] == 1
    assert bench.alerts == []
    monkeypatch.setattr(feed_module, "BOOK_ALERT_S", 0.3)
    await until(lambda: bench.alerts == ["book_lost"])  # a person hears of a book that does not come back
    await bench.say(BookUpdate(BTC.symbol, True, (("99", "1"),), (("101", "1"),), 6, None, at(10.6)))
    await until(lambda: not bench.feed._book_lost_s)


async def test_a_gap_is_not_closed_before_the_venue_has_every_minute_of_it(bench: Bench) -> None:
    bench.venue.unknown = {at(10)}
    await bench.say(CONNECTED, trade(11.2, 101.0))
    await bench.reach(11.5)
    assert bench.state.is_stale or bench.minutes == {}
    assert bench.feed.repairs.open_symbols == [BTC.symbol]
    bench.venue.unknown = set()
    await until(lambda: bench.volumes() == {10: VENUE_VOLUME})
    assert bench.volumes() == {10: VENUE_VOLUME}
    assert bench.alerts == []


async def test_a_minute_told_twice_does_not_stand_for_one_that_was_not_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SHORT_ANSWERS", 2)
    whole = bench.venue.candles

    async def odd(symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        answer = await whole(symbol, timeframe, start_ns, end_ns)
        stray = [replace(c, open_time=c.open_time + 1) for c in answer] + [replace(c, open_time=end_ns) for c in answer[:1]]
        return [*reversed(answer), *answer, *stray]

    monkeypatch.setattr(bench.venue, "candles", odd)
    bench.venue.unknown.add(at(12))
    await bench.say(CONNECTED)
    await bench.reach(11.5)
    await until(lambda: 10 in bench.minutes)
    await bench.say(DISCONNECTED)
    await bench.reach(14.2)
    await bench.say(CONNECTED)
    await bench.reach(15.3)
    await until(lambda: 14 in bench.minutes)
    assert bench.volumes() == {10: VENUE_VOLUME, 11: VENUE_VOLUME, 12: 0.0, 13: VENUE_VOLUME, 14: VENUE_VOLUME}
    assert (bench.alerts, bench.feed.counters()["minutes_unrepaired"]) == (["gap_unrepaired"], 1)


async def test_minutes_the_venue_does_not_have_are_flat_unknown_counted_and_reported(bench: Bench) -> None:
    bench.venue.unknown = {at(10)}
    await bench.say(CONNECTED)
    await bench.reach(11.5)
    await until(lambda: bench.volumes() == {10: 0.0})
    assert bench.volumes() == {10: 0.0}
    assert math.isnan(bench.minutes[10].trade_count)
    assert bench.feed.counters()["minutes_unrepaired"] == 1
    assert bench.alerts == ["gap_unrepaired"]
    assert bench.feed.repairs.open_symbols == []


async def test_a_minute_that_the_venue_sees_otherwise_is_corrected(bench: Bench) -> None:
    await bench.say(CONNECTED)
    await bench.reach(11.1)
    await bench.say(trade(11.2, 104.0), trade(11.4, 104.0))
    await bench.reach(12.1)
    assert bench.volumes()[11] == 2.0
    await bench.reach(14.6)
    await until(lambda: 11 in bench.revised)
    assert bench.revised[11].volume == VENUE_VOLUME
    assert math.isnan(bench.revised[11].buy_volume)
    assert bench.feed.counters()["minutes_corrected"] >= 1


async def test_a_pushed_candle_confirms_and_a_late_trade_revises(bench: Bench) -> None:
    await bench.say(CONNECTED)
    await bench.reach(11.1)
    await bench.say(trade(11.2, 104.0))
    await bench.reach(12.1)
    await bench.say(VenueCandle(BTC.symbol, Timeframe.M1, at(11), 104.0, 104.0, 104.0, 104.0, 1.0))
    assert bench.feed.counters()["minutes_confirmed"] == 1
    await bench.say(trade(12.3, 105.0))
    await bench.reach(13.1)
    await bench.say(trade(12.9, 106.0))
    assert (bench.revised[12].close, bench.revised[12].volume) == (106.0, 2.0)


async def test_an_impossible_time_is_dropped_and_counted(bench: Bench) -> None:
    await bench.say(CONNECTED)
    await bench.reach(11.1)
    await bench.say(trade(11.2, 104.0), trade(60 * 24 * 90, 1.0))
    assert bench.feed.counters()["malformed"] == 1
    bench.venue.malformed = 5
    assert (bench.feed.counters()["malformed"], bench.feed.counters()["requests_failed"]) == (6, 4)  # the venue's own count too
    await bench.reach(12.1)
    assert bench.minutes[11].close == 104.0


async def test_a_handler_that_fails_costs_its_symbol_a_repair_and_never_the_listener(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.say(CONNECTED)
    await bench.reach(11.1)
    await bench.say(trade(11.2, 101.0))
    real, broken = bench.state.on_trade, trade(11.4, 102.0)

    def fragile(event: Trade) -> None:
        if event is broken:
            raise ZeroDivisionError("a bug of ours")
        real(event)

    monkeypatch.setattr(bench.state, "on_trade", fragile)
    await bench.say(broken, broken)
    assert bench.state.is_stale
    assert bench.feed.counters()["events_failed"] >= 1
    assert bench.alerts == ["handler_failed"]  # however often
    await bench.reach(12.1)
    await until(lambda: not bench.state.is_stale)
    await bench.say(trade(12.5, 103.0))
    await bench.reach(13.1)
    await until(lambda: 12 in bench.minutes)
    # The minute with the hole is the venue's, the next one our own again.
    assert (bench.volumes()[11], bench.volumes()[12]) == (VENUE_VOLUME, 1.0)


async def test_a_print_ahead_of_the_venues_clock_closes_nothing_and_hides_no_price(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "CLOCK_RETRY_S", 0.0)
    asked: list[int] = []

    async def clock() -> ManualClock:
        asked.append(1)
        return bench.venue.market_clock

    await bench.say(CONNECTED)
    await bench.reach(11.1)
    bench.state.arm([ExitPlan("p", BTC.symbol, Side.BUY, 100.0, 95.0, 110.0, 0.0, 0.0, 0)])
    monkeypatch.setattr(bench.venue, "clock", clock)
    task = asyncio.create_task(bench.feed.keep_time())
    await bench.say(trade(11.2, 104.0), trade(11.2 + 240, 50.0))
    await until(lambda: asked)
    assert not any(step.exits for step in bench.steps)
    assert (bench.feed.counters()["malformed"], len(bench.feed.take_trades())) == (1, 1)
    await bench.reach(11.5)
    await bench.say(trade(11.4, 94.0))
    await until(lambda: any(step.exits for step in bench.steps))
    await bench.reach(12.1)
    await until(lambda: 11 in bench.minutes)
    assert (max(bench.minutes), bench.minutes[11].high, bench.minutes[11].close) == (11, 104.0, 94.0)
    task.cancel()


async def test_a_clock_that_every_event_contradicts_is_set_by_them(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "AHEAD_BELIEVED", 5)
    await bench.say(CONNECTED)
    await bench.reach(11.1)
    ahead = [trade(11.2 + 240 + n / 100) for n in range(5)]
    await bench.say(*ahead[:4], trade(11.15), *ahead[:4])
    assert bench.feed.counters()["malformed"] == 8
    assert bench.feed.now_ns < at(12)
    await bench.say(ahead[4])
    await until(lambda: bench.feed.now_ns >= ahead[4].ts_event)
    assert bench.feed.now_ns >= ahead[4].ts_event
    assert (bench.feed.counters()["malformed"], bench.state.last_price) == (8, 100.0)


async def test_prints_beyond_what_the_record_takes_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "PRINTS_KEPT", 4)
    await bench.say(CONNECTED)
    await bench.reach(11.1)
    await bench.say(*(trade(11.2 + n / 100) for n in range(11)))
    kept = bench.feed.take_trades()
    assert [t.trade_id for t in kept] == [str(11.2 + n / 100) for n in range(11)][-len(kept) :]
    assert len(kept) + bench.feed.counters()["prints_unrecorded"] == 11
    assert len(kept) <= 4


async def test_an_impossible_print_during_a_repair_ends_nothing(bench: Bench) -> None:
    bench.venue.is_down = True
    await bench.say(CONNECTED, trade(11.2, 0.0), trade(11.3, 101.0))
    bench.venue.is_down = False
    await bench.reach(12.1)
    await until(lambda: 11 in bench.minutes)
    assert (bench.volumes()[11], bench.feed.counters()["malformed"], len(bench.feed.take_trades())) == (1.0, 1, 1)

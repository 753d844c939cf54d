"""The feed when the venue is away, answers nonsense, or its clock moves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors import feed as feed_module
from actors import repair as module
from helios.clock import ManualClock
from helios.domain.enums import Side
from helios.domain.market import BookUpdate
from helios.domain.orders import ExitPlan
from helios.errors import ConfigError, HeliosError, ProtocolError, TransportError, VenueError
from tests.support.feed_bench import BTC, CONNECTED, DISCONNECTED, Bench, at, trade
from tests.support.scripted_venue import VENUE_VOLUME
from tests.support.waiting import turns, until


async def test_an_outage_of_five_minutes_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "DOWN_ALERT_S", 0.2)
    await bench.say(CONNECTED)
    assert bench.feed.details(0.0)["down_s"] is None
    await bench.say(DISCONNECTED)
    assert bench.feed.details(0.0)["down_s"] >= 0.0
    await until(lambda: bool(bench.alerts))
    assert bench.alerts[0] == "feed_down"


async def test_an_exit_that_waited_for_the_book_goes_out_when_the_connection_is_cut(bench: Bench) -> None:
    # In a crash the venue's sockets go down: the print that began it must not wait for a book that never comes.
    await bench.say(CONNECTED)
    bench.state.arm([ExitPlan("p1", BTC.symbol, Side.BUY, 100.0, 95.0, 110.0, 0.0, 0.0, 0)])
    await bench.say(BookUpdate(BTC.symbol, True, (("99.9", "1"),), (("100.1", "1"),), None, None, at(10.4)), trade(10.45, 90.0))
    assert [hit for step in bench.steps for hit in step.exits] == []
    await bench.say(DISCONNECTED)
    assert [hit.trigger_price for step in bench.steps for hit in step.exits] == [90.0]


async def test_a_venue_that_is_away_from_the_start_is_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "DOWN_ALERT_S", 0.05)
    monkeypatch.setattr(feed_module, "WATCH_INTERVAL_S", 0.01)
    bench = Bench(tmp_path)

    async def away() -> ManualClock:
        raise TransportError("away")

    monkeypatch.setattr(bench.venue, "clock", away)
    tasks = [asyncio.create_task(loop) for loop in (bench.feed.run(), bench.feed.tick())]
    await until(lambda: len(bench.alerts) >= 2)  # once, and again after as long
    assert set(bench.alerts) == {"feed_down"}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("error", [VenueError(403, None, "not from there"), ProtocolError("nonsense"), TransportError("away")])
async def test_a_start_waits_for_the_venue_whatever_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: HeliosError
) -> None:
    bench = Bench(tmp_path)
    answers: list[HeliosError | ManualClock] = [error, bench.venue.market_clock]

    async def clock() -> ManualClock:
        answer = answers.pop(0)
        if isinstance(answer, HeliosError):
            raise answer
        return answer

    monkeypatch.setattr(bench.venue, "clock", clock)
    assert await bench.feed.repairs.retried(bench.venue.clock) is bench.venue.market_clock
    assert bench.feed.repairs.failed_fetches == 1


async def test_a_wrong_configuration_is_not_waited_for(tmp_path: Path) -> None:
    async def wrong() -> None:
        raise ConfigError("no such symbol")

    with pytest.raises(ConfigError):
        await Bench(tmp_path).feed.repairs.retried(wrong)


async def test_the_clock_is_set_again_and_an_unreachable_venue_leaves_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "CLOCK_INTERVAL_S", 0.02)
    monkeypatch.setattr(feed_module, "FIRST_CLOCK_INTERVALS_S", ())
    task = asyncio.create_task(bench.feed.keep_time())
    other = ManualClock(at(500), speed=1_000.0)
    answers = [other, TransportError("away")]

    async def clock() -> ManualClock:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(bench.venue, "clock", clock)
    await until(lambda: bench.feed.now_ns == at(500))
    assert bench.feed.now_ns == at(500)
    assert not task.done()
    task.cancel()


async def test_a_venue_that_cannot_be_reached_is_asked_for_as_long_as_it_takes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SHORT_ANSWERS", 2)
    bench.venue.is_down = True
    await bench.say(CONNECTED)
    await bench.reach(11.5)
    await until(lambda: bench.feed.repairs.failed_fetches > 4)
    assert bench.minutes == {}
    assert bench.feed.repairs.failed_fetches > 4
    assert bench.feed.repairs.open_symbols == [BTC.symbol]


async def test_a_long_repair_keeps_a_bounded_number_of_trades_and_loses_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD_BACK", 3)
    bench.venue.is_down = True
    await bench.say(CONNECTED)
    await bench.reach(11.5)
    await bench.say(*(trade(11.5 + i / 100, 500.0) for i in range(10)))
    await turns(0.3)
    bench.venue.is_down = False
    await bench.reach(12.5)
    assert bench.volumes() == {10: VENUE_VOLUME, 11: VENUE_VOLUME}
    assert bench.feed.repairs.open_symbols == []

"""The VALR driver's sockets: asked about, signed, replaced, refused, and fallen behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from helios.domain.market import Trade
from helios.errors import ConfigError
from helios.venues.base import FeedStatus
from helios.venues.local_budget import LocalBudget
from helios.venues.valr.limits import valr_rates
from helios.venues.valr.signing import sign
from helios.venues.valr.state import Phase
from helios.venues.valr.transport import ValrVenue
from tests.support.clocks import FakeTime
from tests.support.valr_server import ValrServer, trade_frame
from tests.support.valr_streams import (
    eventually,
    is_book,
    is_status,
    push_trades,
    streaming,
    trade_with_id,
    until,
)


@pytest.fixture
async def server() -> AsyncIterator[ValrServer]:
    async with ValrServer(keeps_time=True) as running:
        yield running


async def test_the_state_of_the_connection_can_be_asked_at_any_time(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR") as (venue, events):
        assert venue.state.phase is Phase.DOWN
        await until(events, is_book("BTC/ZAR", 100))
        live = venue.state
        assert (live.phase, live.connections, live.outages, live.down_since_ns) == (Phase.LIVE, 1, 0, None)
        assert 0 <= time.time_ns() - live.since_ns < 3_000_000_000
        await server.push(trade_frame("BTCZAR", quantity="0"))
        server.cut()
        await until(events, is_status("DISCONNECTED"))
        down = venue.state
        assert (down.phase, down.outages, down.malformed) == (Phase.DOWN, 1, {"quantity": 1})
        assert down.down_s(time.time_ns()) > 0.0
        await until(events, is_status("CONNECTED"))
        assert (venue.state.phase, venue.state.connections, venue.state.down_since_ns) == (Phase.LIVE, 2, None)
        assert venue.state.frames > live.frames


async def test_pairs_are_added_and_removed_while_streaming(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR") as (venue, events):
        await until(events, is_book("BTC/ZAR", 100))
        await venue.set_symbols(["ETH/ZAR"])
        await until(events, is_book("ETH/ZAR", 100))
        await server.push(trade_frame("BTCZAR"))
        await server.push(trade_frame("ETHZAR"))
        seen = await until(events, lambda event: isinstance(event, Trade))
        assert [event.symbol for event in seen if isinstance(event, Trade)] == ["ETH/ZAR"]
        with pytest.raises(ConfigError):
            await venue.set_symbols(["DOGE/ZAR"])
        server.cut()  # the successor carries the new list
        await until(events, is_book("ETH/ZAR", 100))
    assert server.connections == 2
    assert server.subscribes()[-1]["NEW_TRADE"] == ["ETHZAR"]


async def test_a_pair_that_the_socket_does_not_know_costs_the_others_nothing(
    server: ValrServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.valr_server.SOCKET_PAIRS", ["BTCZAR"])

    def asked() -> dict[str, list[str]]:
        return {event: pairs for rows in server.subscribes() for event, pairs in rows.items()}

    async with streaming(server, "BTC/ZAR", "ETH/ZAR") as (venue, events):
        seen = await until(events, is_book("BTC/ZAR", 100))
        seen += await until(events, is_status("ERROR")) if not any(map(is_status("ERROR"), seen)) else []
        await server.push(trade_frame("BTCZAR"))
        await until(events, lambda event: isinstance(event, Trade))
        events_asked = ("AGGREGATED_ORDERBOOK_UPDATE", "NEW_TRADE", "OB_L1_DIFF")  # the first instead of the refused last
        await eventually(lambda: venue.state.refused == tuple((event, "ETHZAR") for event in events_asked))
        await eventually(lambda: asked() == {"OB_L1_DIFF": ["BTCZAR"], "NEW_TRADE": ["BTCZAR"], "AGGREGATED_ORDERBOOK_UPDATE": []})
    assert server.connections == 1


async def test_an_authenticated_socket_signs_its_upgrade_and_is_not_replaced(server: ValrServer) -> None:
    options = {"credentials": ("the-key", "the-secret"), "max_age_s": 0.2}
    async with streaming(server, "BTC/ZAR", **options) as (venue, events):
        await until(events, is_book("BTC/ZAR", 100))
        await server.push({"type": "AUTHENTICATED"})
        await eventually(lambda: not any(link.session.must_reconnect(2**62) for link in venue._links))
        await asyncio.sleep(0.5)
        assert server.connections == 1
        assert "the-secret" not in repr(vars(venue.state.__class__))
    headers = server.upgrades[0]
    timestamp_ms = int(headers["X-VALR-TIMESTAMP"])
    assert abs(timestamp_ms - time.time() * 1000) < 5_000
    assert headers["X-VALR-API-KEY"] == "the-key"
    assert headers["X-VALR-SIGNATURE"] == sign("the-secret", timestamp_ms, "GET", "/ws/trade")


@pytest.mark.parametrize("refused", [401, 403, 1007])
async def test_a_key_that_the_venue_refuses_does_not_cost_the_public_data(
    server: ValrServer, refused: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuse_key(refused)
    async with streaming(server, "BTC/ZAR", credentials=("the-key", "the-secret")) as (_, events):
        seen = await until(events, is_book("BTC/ZAR", 100))
    statuses = [(event.status, event.detail) for event in seen if isinstance(event, FeedStatus)]
    assert [status for status, _ in statuses][-3:] == ["ERROR", "DISCONNECTED", "CONNECTED"]
    assert "key was refused" in dict(statuses)["ERROR"]
    assert "X-VALR-API-KEY" in server.upgrades[0]
    assert not [name for name in server.upgrades[-1] if name.lower().startswith("x-valr")]
    assert "the-secret" not in caplog.text + str(statuses)


async def test_without_a_key_nothing_is_signed(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR") as (_, events):
        await until(events, is_status("CONNECTED"))
    assert not [name for name in server.upgrades[0] if name.lower().startswith("x-valr")]


async def test_a_successor_that_does_not_open_is_tried_again_without_an_outage(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", max_age_s=0.3) as (venue, events):
        await until(events, is_book("BTC/ZAR", 100))
        server.refuse_next([503])
        pushing = asyncio.create_task(push_trades(server, 110))
        seen = await until(events, lambda event: isinstance(event, Trade) and event.trade_id == "t-109")
        await pushing
        assert [event.trade_id for event in seen if isinstance(event, Trade)] == [f"t-{n}" for n in range(110)]
        assert not [event for event in seen if isinstance(event, FeedStatus)]
        assert venue.state.outages == 0
    assert server.connections >= 2


async def test_an_old_socket_that_breaks_beside_its_live_successor_is_no_outage(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", max_age_s=0.3) as (venue, events):
        await until(events, is_book("BTC/ZAR", 100))
        pending = asyncio.ensure_future(until(events, lambda event: isinstance(event, Trade)))
        await eventually(lambda: len(server.sockets) == 2 and all(link.session.is_acknowledged for link in venue._links))
        first = next(iter(server.sockets))
        first.transport.abort()
        await eventually(lambda: venue.state.handovers == 1)
        await server.push(trade_frame("BTCZAR"))
        seen = await pending
        assert not [event for event in seen if isinstance(event, FeedStatus)]


async def test_too_many_connections_are_waited_out(server: ValrServer) -> None:
    clock = FakeTime(0.0)
    budget = LocalBudget(valr_rates(), monotonic_ns=lambda: int(clock.now_s * 1e9), sleep=clock.sleep)
    server.refuse_next([429])
    async with streaming(server, "BTC/ZAR", budget=budget) as (_, events):
        await until(events, is_status("CONNECTED"))
    assert len(clock.slept) == 1
    assert 0.0 < clock.slept[0] <= 60.0


@pytest.mark.parametrize("headers", [[("Retry-After", "7")], [("Retry-After", "7"), ("Retry-After", "9")]], ids=["once", "twice"])
async def test_the_retry_after_of_a_refused_upgrade_is_kept_to(server: ValrServer, headers: list[tuple[str, str]]) -> None:
    clock = FakeTime(0.0)
    budget = LocalBudget(valr_rates(), monotonic_ns=lambda: int(clock.now_s * 1e9), sleep=clock.sleep)
    server.refuse_next([429], headers)
    async with streaming(server, "BTC/ZAR", budget=budget) as (_, events):
        await until(events, is_status("CONNECTED"))
    assert clock.slept == [7.0]  # the wall clock's next minute would be another time


async def test_only_a_connection_that_brought_something_starts_the_back_off_anew(
    server: ValrServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = 0

    def delays(_: random.Random) -> Iterator[float]:
        nonlocal started
        started += 1
        return itertools.repeat(0.01)

    monkeypatch.setattr("helios.venues.valr.transport.backoff_delays", delays)
    monkeypatch.setattr("helios.venues.valr.transport.STABLE_S", 0.0)  # however long an attempt took
    server.refuse_next([503] * 3)
    async with streaming(server, "BTC/ZAR") as (_, events):
        await until(events, is_status("CONNECTED"))
        assert started == 1
        server.cut()
        await until(events, is_status("CONNECTED"))
        assert started == 2


async def test_clocks_that_differ_are_reported_on_the_stream(server: ValrServer) -> None:
    server.keeps_time = False
    server.now_s = int(time.time()) - 100
    async with streaming(server, "BTC/ZAR") as (_, events):
        assert "clock is +" in (await until(events, is_status("ERROR")))[-1].detail


async def test_the_tap_hears_every_frame_in_the_order_of_the_events(server: ValrServer) -> None:
    venue = ValrVenue(server.rest_url, server.ws_url)
    heard: list[tuple[str | bytes, int]] = []
    venue.on_frame = lambda frame, arrived_ns: heard.append((frame, arrived_ns))
    async with contextlib.aclosing(venue.stream(["BTC/ZAR"])) as events:
        await until(events, is_book("BTC/ZAR", 100))
        await server.push(trade_frame("BTCZAR"))
        (trade,) = await until(events, lambda event: isinstance(event, Trade))
        assert json.loads(heard[-1][0])["type"] == "NEW_TRADE"
        assert heard[-1][1] == trade.ts_init
    await venue.aclose()
    kinds = [json.loads(frame)["type"] for frame, _ in heard]
    assert sorted(kinds) == ["NEW_TRADE", "OB_L1_SNAPSHOT", "SUBSCRIBED", "SUBSCRIBED"]


async def test_a_consumer_that_falls_behind_loses_nothing_and_is_not_taken_for_a_dead_line(
    server: ValrServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helios.venues.valr.link.HIGH_WATER", 50)
    async with streaming(server, "BTC/ZAR", silence_timeout_s=0.4) as (_, events):
        await until(events, is_book("BTC/ZAR", 100))
        for n in range(400):
            await server.push(trade_with_id(f"t-{n}"))
        await asyncio.sleep(1.2)  # nobody takes anything meanwhile
        seen = await until(events, lambda event: isinstance(event, Trade) and event.trade_id == "t-399")
    assert [event.trade_id for event in seen if isinstance(event, Trade)] == [f"t-{n}" for n in range(400)]
    assert not [event for event in seen if isinstance(event, FeedStatus)]

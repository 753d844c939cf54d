"""The VALR driver against a scripted venue on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from helios.domain.market import BookUpdate, Trade
from helios.errors import ConfigError
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.local_budget import LocalBudget
from helios.venues.valr.limits import valr_rates
from helios.venues.valr.link import Link
from helios.venues.valr.relay import Relay
from helios.venues.valr.rest_codec import decode_pairs
from helios.venues.valr.session import TradeSession
from helios.venues.valr.signing import sign
from helios.venues.valr.state import Phase
from helios.venues.valr.transport import ValrVenue
from tests.support.clocks import FakeTime
from tests.support.valr_server import PAIRS, ValrServer, book_frame, trade_frame

LIMIT_S = 10.0


@pytest.fixture
async def server() -> AsyncIterator[ValrServer]:
    async with ValrServer(keeps_time=True) as running:
        yield running


@contextlib.asynccontextmanager
async def streaming(server: ValrServer, *symbols: str, silence_timeout_s: float = 5.0, **options: Any):
    venue = ValrVenue(server.rest_url, server.ws_url, silence_timeout_s=silence_timeout_s, rng=random.Random(1), **options)
    try:
        async with contextlib.aclosing(venue.stream(symbols)) as events:
            yield venue, events
    finally:
        await venue.aclose()


async def until(events: AsyncIterator[FeedEvent], found: Callable[[FeedEvent], bool]) -> list[FeedEvent]:
    seen: list[FeedEvent] = []
    async with asyncio.timeout(LIMIT_S):
        async for event in events:
            seen.append(event)
            if found(event):
                return seen
    raise AssertionError("the stream ended")


async def eventually(is_true: Callable[[], bool]) -> None:
    for _ in range(int(LIMIT_S * 100)):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


def is_status(status: str) -> Callable[[FeedEvent], bool]:
    return lambda event: isinstance(event, FeedStatus) and event.status == status


def is_book(symbol: str, sequence: int) -> Callable[[FeedEvent], bool]:
    return lambda event: isinstance(event, BookUpdate) and (event.symbol, event.sequence) == (symbol, sequence)


async def test_stream_connects_subscribes_all_and_then_yields_snapshot_diffs_and_trades(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", "ETH/ZAR") as (venue, events):
        first = await until(events, is_book("ETH/ZAR", 100))
        assert is_status("CONNECTED")(first[0])
        assert [event.symbol for event in first if isinstance(event, BookUpdate) and event.is_snapshot] == [
            "BTC/ZAR",
            "ETH/ZAR",
        ]
        await server.push(book_frame("BTCZAR", False, 101))
        await server.push(trade_frame("ETHZAR"))
        before_ns = time.time_ns()
        diff, trade = await until(events, lambda event: isinstance(event, Trade))
    assert isinstance(diff, BookUpdate)
    assert (diff.is_snapshot, diff.sequence, diff.asks) == (False, 101, (("1000010", "0.5"),))
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.price, trade.ts_event) == ("ETH/ZAR", 1000005.0, 1789997630123000000)
    assert 0 <= trade.ts_init - before_ns < 1_000_000_000
    assert server.subscribes() == [{"OB_L1_DIFF": ["BTCZAR", "ETHZAR"], "NEW_TRADE": ["BTCZAR", "ETHZAR"]}]
    assert not venue.is_connected


async def test_a_cut_reconnects_and_subscribes_everything_again_within_three_seconds(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", "ETH/ZAR") as (_, events):
        await until(events, is_book("ETH/ZAR", 100))
        started_s = time.monotonic()
        server.cut()
        seen = await until(events, is_book("ETH/ZAR", 100))
    assert time.monotonic() - started_s < 3.0
    assert [event.status for event in seen if isinstance(event, FeedStatus)] == ["DISCONNECTED", "CONNECTED"]
    assert server.connections == 2
    first, second = server.subscribes()
    assert first == second


async def test_a_silent_venue_is_given_up_and_connected_again(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", silence_timeout_s=0.4) as (_, events):
        await until(events, is_book("BTC/ZAR", 100))
        server.mute()
        started_s = time.monotonic()
        lost = await until(events, is_status("DISCONNECTED"))
        waited_s = time.monotonic() - started_s
        server.mute(False)
        await until(events, is_book("BTC/ZAR", 100))
    assert "silent" in lost[-1].detail
    assert 0.3 < waited_s < 1.5


async def test_a_quiet_market_is_kept_alive_by_pings(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", silence_timeout_s=0.4) as (_, events):
        await until(events, is_book("BTC/ZAR", 100))
        pending = asyncio.ensure_future(anext(events))
        await asyncio.sleep(1.2)
        assert not pending.done()
        assert [frame["type"] for frame in server.received].count("PING") >= 3
        await server.push(trade_frame("BTCZAR"))
        assert isinstance(await pending, Trade)
    assert server.connections == 1


async def test_an_ageing_socket_is_replaced_without_losing_or_repeating_a_trade(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", max_age_s=0.4) as (_, events):
        await until(events, is_book("BTC/ZAR", 100))
        pushing = asyncio.create_task(push_trades(server, 100))
        seen = await until(events, lambda event: isinstance(event, Trade) and event.trade_id == "t-99")
        await pushing
        assert [event.trade_id for event in seen if isinstance(event, Trade)] == [f"t-{n}" for n in range(100)]
        assert not [event for event in seen if isinstance(event, FeedStatus)]
        assert server.connections >= 2
        await eventually(lambda: len(server.sockets) <= 2)
    await eventually(lambda: not server.sockets)


async def test_what_the_old_socket_brought_while_its_successor_was_opening_comes_once(server: ValrServer) -> None:
    # The successor listens from the moment it is open, a little before the driver knows of it.
    wake = asyncio.Event()
    links = [Link(await connect(server.ws_url, ping_interval=None), acknowledged_session(), wake) for _ in range(2)]
    relay = Relay(links[0])
    relay.opening = asyncio.create_task(asyncio.sleep(0, links[1]))
    await server.push(trade_with_id("both"))
    seen: list[FeedEvent] = []
    while not seen:
        await wake.wait()
        wake.clear()
        seen += relay.take(None)
    await eventually(lambda: all(link.session.frames for link in links))
    relay.take_opened(0.0, wake)
    await server.push(trade_with_id("after"))
    await eventually(lambda: links[1].session.frames == 2)
    await links[0].close()
    relay.hand_over(None)
    seen += relay.take(None)
    await links[1].close()
    assert [event.trade_id for event in seen if isinstance(event, Trade)] == ["both", "after"]


def acknowledged_session() -> TradeSession:
    session = TradeSession({"BTCZAR": "BTC/ZAR"})
    session.connected(time.monotonic_ns())
    session.receive('{"type":"SUBSCRIBED","message":"NEW_TRADE:BTCZAR"}', time.monotonic_ns())
    session.frames = 0
    return session


async def push_trades(server: ValrServer, count: int) -> None:
    for number in range(count):
        frame = trade_frame("BTCZAR")
        frame["data"]["id"] = f"t-{number}"
        await server.push(frame)
        await asyncio.sleep(0.018)


async def test_request_book_brings_a_snapshot_of_that_symbol_only(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", "ETH/ZAR") as (venue, events):
        await until(events, is_book("ETH/ZAR", 100))
        await venue.request_book("BTC/ZAR")
        await venue.request_book("BTC/ZAR")  # already on its way
        await until(events, is_book("BTC/ZAR", 100))
        await server.push(trade_frame("BTCZAR"))
        (trade,) = await until(events, lambda event: isinstance(event, Trade))
    assert trade.symbol == "BTC/ZAR"
    assert server.subscribes()[1:] == [{"OB_L1_DIFF": ["ETHZAR"]}, {"OB_L1_DIFF": ["BTCZAR", "ETHZAR"]}]


async def test_malformed_frames_are_counted_and_the_stream_goes_on(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR") as (venue, events):
        await until(events, is_book("BTC/ZAR", 100))
        for bad in (trade_frame("BTCZAR", price="-100.50"), trade_frame("BTCZAR", quantity="0"), trade_frame(""), "nonsense"):
            await server.push(bad)
        await server.push(trade_frame("BTCZAR", price="7"))
        seen = await until(events, lambda event: isinstance(event, Trade))
        assert [event.price for event in seen] == [7.0]
        assert venue.protocol_errors == venue.counters()["malformed"] == 4
        server.cut()
        await until(events, is_status("DISCONNECTED"))
        assert venue.protocol_errors == 4


async def test_a_venue_error_frame_becomes_an_error_status(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR") as (_, events):
        await until(events, is_book("BTC/ZAR", 100))
        await server.push({"type": "ERROR", "message": "Invalid message - Invalid JSON"})
        assert (await until(events, is_status("ERROR")))[-1].detail == "Invalid message - Invalid JSON"


async def test_an_unknown_symbol_is_refused_before_connecting(server: ValrServer) -> None:
    async with streaming(server, "DOGE/ZAR") as (_, events):
        with pytest.raises(ConfigError, match="DOGE/ZAR"):
            await anext(events)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, '{"maintenance":true}'), (200, "[]"), (403, '{"code":-11,"message":"Not from there"}')],
    ids=["shape", "empty", "refusal"],
)
async def test_nonsense_or_a_refusal_instead_of_the_pairs_is_an_outage_like_any_other(
    server: ValrServer, status: int, body: str
) -> None:
    server.answer_next([(status, {}, body)])
    async with streaming(server, "BTC/ZAR", watches_clock=False) as (_, events):
        await until(events, is_status("DISCONNECTED"))
        await until(events, is_status("CONNECTED"))


async def test_known_instruments_are_not_asked_for_and_others_are(server: ValrServer) -> None:
    (known,) = [i for i in decode_pairs(json.dumps(PAIRS)) if i.symbol == "BTC/ZAR"]
    async with streaming(server, "BTC/ZAR", instruments=[known], watches_clock=False) as (venue, events):
        await until(events, is_book("BTC/ZAR", 100))
        assert server.requests == []
        await venue.set_symbols(["BTC/ZAR", "ETH/ZAR"])
        assert server.requests == ["/v1/public/pairs"]


async def test_a_clock_just_read_is_not_asked_for_again(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR") as (venue, events):
        await venue.clock()
        await until(events, is_book("BTC/ZAR", 100))
        await asyncio.sleep(0.05)
        assert sum("/time" in path for path in server.requests) == 3
        assert venue.skew is not None
        assert abs(venue.skew.offset_ns) < 1_000_000_000


async def test_a_venue_that_is_down_shows_as_disconnected_until_it_is_up(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR") as (venue, events):
        await venue.instruments()
        venue._ws_url = "ws://127.0.0.1:9/ws/trade"  # the discard port: nobody listens
        await until(events, is_status("DISCONNECTED"))
        venue._ws_url = server.ws_url
        await until(events, is_status("CONNECTED"))


async def test_cancelling_a_consumer_closes_its_socket(server: ValrServer) -> None:
    venue, before = ValrVenue(server.rest_url, server.ws_url), asyncio.all_tasks()

    async def consume() -> None:
        async with contextlib.aclosing(venue.stream(["BTC/ZAR"])) as events:
            async for _ in events:
                pass

    task = asyncio.create_task(consume())
    await eventually(lambda: venue.is_connected)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not server.sockets)
    assert not venue.is_connected
    await venue.aclose()
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_closing_the_venue_ends_its_streams(server: ValrServer) -> None:
    venue = ValrVenue(server.rest_url, server.ws_url)
    events = venue.stream(["BTC/ZAR"])
    await until(events, is_book("BTC/ZAR", 100))
    rest = asyncio.ensure_future(_drain(events))
    await venue.aclose()
    async with asyncio.timeout(LIMIT_S):
        assert await rest == []


async def test_closing_the_venue_while_it_connects_leaves_no_socket(server: ValrServer) -> None:
    venue = ValrVenue(server.rest_url, server.ws_url)
    await venue.instruments()
    pending = asyncio.ensure_future(_drain(venue.stream(["BTC/ZAR"])))
    await asyncio.sleep(0)
    await venue.aclose()
    async with asyncio.timeout(LIMIT_S):
        assert await pending == []
    await eventually(lambda: not server.sockets)


async def test_batches_are_the_stream_in_larger_pieces(server: ValrServer) -> None:
    venue = ValrVenue(server.rest_url, server.ws_url)
    sizes, ids = [], []
    async with contextlib.aclosing(venue.stream_batches(["BTC/ZAR"])) as batches, asyncio.timeout(LIMIT_S):
        async for batch in batches:
            assert batch
            if any(isinstance(event, BookUpdate) for event in batch):
                for socket in server.sockets:  # as many as fit into one read
                    for n in range(200):
                        socket.transport.write(text_frame(trade_with_id(f"t-{n}")))
            trades = [event.trade_id for event in batch if isinstance(event, Trade)]
            sizes += [len(trades)] if trades else []
            ids += trades
            if "t-199" in ids:
                break
    await venue.aclose()
    assert ids == [f"t-{n}" for n in range(200)]
    assert max(sizes) > 20


def trade_with_id(trade_id: str) -> str:
    frame = trade_frame("BTCZAR")
    frame["data"]["id"] = trade_id
    return json.dumps(frame)


def text_frame(text: str) -> bytes:
    """An unmasked text frame of 126 to 65,535 bytes (RFC 6455, section 5.2)."""
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text.encode()


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


async def _drain(events: AsyncIterator[FeedEvent]) -> list[FeedEvent]:
    return [event async for event in events]

"""The VALR driver against a scripted venue on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect

from helios.domain.market import BookUpdate, Trade
from helios.errors import ConfigError
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.valr.link import Link
from helios.venues.valr.relay import Relay
from helios.venues.valr.rest_codec import decode_pairs
from helios.venues.valr.session import TradeSession
from helios.venues.valr.transport import ValrVenue
from tests.support.valr_server import PAIRS, ValrServer, book_frame, trade_frame
from tests.support.valr_streams import (
    LIMIT_S,
    drain,
    eventually,
    is_book,
    is_status,
    push_trades,
    streaming,
    text_frame,
    trade_with_id,
    until,
)
from tests.support.waiting import awake


@pytest.fixture
async def server() -> AsyncIterator[ValrServer]:
    async with ValrServer(keeps_time=True) as running:
        yield running


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
        async with awake() as turns:
            server.cut()
            seen = await until(events, is_book("ETH/ZAR", 100))
    assert turns.seconds < 3.0
    assert [event.status for event in seen if isinstance(event, FeedStatus)] == ["DISCONNECTED", "CONNECTED"]
    assert server.connections == 2
    first, second = server.subscribes()
    assert first == second


async def test_a_silent_venue_is_given_up_and_connected_again(server: ValrServer) -> None:
    async with streaming(server, "BTC/ZAR", silence_timeout_s=0.4) as (_, events):
        await until(events, is_book("BTC/ZAR", 100))
        server.mute()
        started_s = time.monotonic()
        async with awake() as turns:
            lost = await until(events, is_status("DISCONNECTED"))
        waited_s = time.monotonic() - started_s
        server.mute(False)
        await until(events, is_book("BTC/ZAR", 100))
    assert "silent" in lost[-1].detail
    assert waited_s > 0.3
    assert turns.seconds < 1.5


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
    rest = asyncio.ensure_future(drain(events))
    await venue.aclose()
    async with asyncio.timeout(LIMIT_S):
        assert await rest == []


async def test_closing_the_venue_while_it_connects_leaves_no_socket(server: ValrServer) -> None:
    venue = ValrVenue(server.rest_url, server.ws_url)
    await venue.instruments()
    pending = asyncio.ensure_future(drain(venue.stream(["BTC/ZAR"])))
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

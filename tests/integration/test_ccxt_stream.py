"""CcxtVenue's stream against a made-up Binance on this machine: outages, gaps, nonsense, slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from actors.feed import BOOK_RETRY_S
from helios.domain.enums import MarketKind, Side
from helios.domain.market import BookUpdate, Trade
from helios.errors import ConfigError
from helios.market.book import OrderBook
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.ccxt.client import Endpoint
from helios.venues.ccxt.link import FIRST_BOOK_S
from helios.venues.ccxt.support import VENUES
from helios.venues.ccxt.venue import CcxtVenue
from tests.support.ccxt_binance import NOW_MS, BinanceMarket
from tests.support.ccxt_server import CcxtServer
from tests.support.waiting import awake
from tests.support.waiting import until as waited

LIMIT_S = 15.0
BTC, ETH = "BTC/USDT", "ETH/USDT"


@pytest.fixture
def market() -> BinanceMarket:
    return BinanceMarket()


@pytest.fixture
async def server(market: BinanceMarket) -> AsyncIterator[CcxtServer]:
    async with CcxtServer(market.ask, market.speak) as running:
        yield running


@contextlib.asynccontextmanager
async def streaming(server: CcxtServer, *symbols: str, **options: Any):
    endpoint = Endpoint(server.rest_url, server.ws_url)
    venue = CcxtVenue(VENUES["binance"], MarketKind.SPOT, endpoint, rng=random.Random(1), **options)
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


def is_status(status: str) -> Callable[[FeedEvent], bool]:
    return lambda event: isinstance(event, FeedStatus) and event.status == status


def is_book(event: FeedEvent) -> bool:
    return isinstance(event, BookUpdate)


def is_trade(event: FeedEvent) -> bool:
    return isinstance(event, Trade)


def of_kind(events: list[FeedEvent], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


async def test_connected_comes_first_then_a_snapshot_then_numbered_diffs(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC) as (venue, events):
        seen = await until(events, is_book)
        assert venue.is_connected
        await market.depth(server, {"100.50000000": "3.25000000"}, {"101.00000000": "0.00000000"})
        seen += await until(events, is_book)
        await market.depth(server, {"100.50000000": "0.00000000"}, {})
        seen += await until(events, is_book)
    assert is_status("CONNECTED")(seen[0])
    first, second, third = of_kind(seen, BookUpdate)
    assert first.is_snapshot
    assert len(first.bids) == len(first.asks) == 25
    # The 25th bid leaves the window when a better one comes, and is back when that goes.
    assert second == BookUpdate(
        BTC, False, (("97.60000000", "0"), ("100.50000000", "3.25000000")), (("101.00000000", "0"), ("103.50000000", "2.00000000")),
        first.sequence + 1, None, NOW_MS * 1_000_000, second.ts_init,
    )  # fmt: skip
    assert (third.bids, third.asks) == ((("100.50000000", "0"), ("97.60000000", "1.00000000")), ())
    assert third.sequence == first.sequence + 2


async def test_a_trade_names_the_taker_and_keeps_the_venue_time(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC) as (_, events):
        await until(events, is_book)
        await market.trade(server, "100.07", "0.123", is_maker_buyer=True)
        (trade,) = of_kind(await until(events, is_trade), Trade)
    assert (trade.symbol, trade.trade_id, trade.price, trade.quantity) == (BTC, "1", 100.07, 0.123)
    assert (trade.taker_side, trade.ts_event) == (Side.SELL, NOW_MS * 1_000_000)
    assert abs(trade.ts_init - time.time_ns()) < 60_000_000_000


async def test_in_a_burst_over_two_symbols_nothing_waits_for_its_next_message(market: BinanceMarket, server: CcxtServer) -> None:
    # ccxt's own futures hand out only the first symbol of a burst; the others would come with their next message, if ever.
    async with streaming(server, BTC, ETH) as (_, events):
        await until(events, is_book)
        await until(events, is_book)
        for number in range(50):
            await market.trade(server, "100.00", "1", s="BTCUSDT" if number % 2 else "ETHUSDT")
        seen = []
        for _ in range(50):
            seen += of_kind(await until(events, is_trade), Trade)
    assert [trade.trade_id for trade in seen] == [str(n) for n in range(1, 51)]
    assert {trade.symbol for trade in seen} == {BTC, ETH}


async def test_a_cut_is_one_outage_and_the_book_is_right_again(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC) as (_, events):
        seen = await until(events, is_book)
        await market.trade(server, "100.01", "1")
        seen += await until(events, is_trade)
        server.cut()
        market.bids["100.90000000"] = "7.00000000"  # happened while nobody listened
        market.update_id += 50
        seen += await until(events, is_status("CONNECTED"))
        seen += await until(events, is_book)
        await market.depth(server, {}, {"100.95000000": "0.50000000"})
        seen += await until(events, is_book)
        await market.trade(server, "100.02", "1", t=1)  # the venue repeats a print
        await market.trade(server, "100.03", "1")
        seen += await until(events, is_trade)
    assert [e.status for e in of_kind(seen, FeedStatus)] == ["CONNECTED", "DISCONNECTED", "CONNECTED"]
    assert [t.price for t in of_kind(seen, Trade)] == [100.01, 100.03]
    book = OrderBook(BTC)
    for update in of_kind(seen, BookUpdate):
        book.apply(update)
    bids, asks = book.levels(25)
    assert bids == tuple(sorted(market.bids.items(), key=lambda level: -float(level[0]))[:25])
    assert asks == tuple(sorted(market.asks.items(), key=lambda level: float(level[0]))[:25])


async def test_a_silent_socket_is_given_up(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC, silence_timeout_s=0.8) as (_, events):
        await until(events, is_book)
        server.mute()
        started_s = time.monotonic()
        async with awake() as turns:
            (lost,) = await until(events, is_status("DISCONNECTED"))
        took_s = time.monotonic() - started_s
        server.mute(False)
        await until(events, is_status("CONNECTED"))
    assert "silent" in lost.detail
    assert took_s > 0.4
    assert turns.seconds < 2.0


async def test_a_quiet_market_is_not_taken_for_a_dead_one(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC, silence_timeout_s=0.4) as (_, events):
        await until(events, is_book)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await anext(events)


async def test_a_held_up_loop_is_not_a_dead_venue(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC, silence_timeout_s=0.5) as (_, events):
        await until(events, is_book)
        time.sleep(1.5)  # noqa: ASYNC251 (that is the point)
        await market.trade(server, "100.04", "1")
        seen = await until(events, is_trade)
    assert of_kind(seen, FeedStatus) == []


async def test_a_gap_in_the_updates_starts_anew_with_a_snapshot(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC) as (_, events):
        await until(events, is_book)
        await market.depth(server, {"100.10000000": "1.00000000"}, {})
        await until(events, is_book)
        await market.depth(server, {"100.20000000": "1.00000000"}, {}, skip=5)
        (lost,) = await until(events, is_status("DISCONNECTED"))
        (*_, again) = await until(events, is_book)
    assert "Checksum" in lost.detail
    assert again.is_snapshot
    assert again.bids[0] == ("100.20000000", "1.00000000")


@pytest.mark.parametrize(
    "frame",
    [
        '{"e":"depthUpdate","s":"BTCUSDT","U":',
        '{"e":"trade","s":["BTCUSDT"]}',
        '{"e":"trade","s":"BTCUSDT","t":1,"p":"abc","q":"1","T":1}',
    ],
)
async def test_an_unreadable_frame_starts_anew_instead_of_hanging(market: BinanceMarket, server: CcxtServer, frame: str) -> None:
    async with streaming(server, BTC) as (venue, events):
        await until(events, is_book)
        await server.push(frame, await market.path(server, "btcusdt@trade"))
        (lost,) = await until(events, is_status("DISCONNECTED"))
        await until(events, is_status("CONNECTED"))
        assert venue.protocol_errors == 1
    assert "unreadable frame" in lost.detail


@pytest.mark.parametrize("changes", [{"q": "0"}, {"p": "-1"}, {"T": None, "E": None}])
async def test_a_malformed_trade_is_counted_and_dropped(market: BinanceMarket, server: CcxtServer, changes: dict[str, Any]) -> None:
    async with streaming(server, BTC) as (venue, events):
        await until(events, is_book)
        await market.trade(server, "100.05", "1", **changes)
        await market.trade(server, "100.06", "1")
        seen = await until(events, is_trade)
        assert venue.protocol_errors == 1
    assert [t.price for t in of_kind(seen, Trade)] == [100.06]
    assert of_kind(seen, FeedStatus) == []


async def test_a_book_asked_for_comes_as_a_snapshot_and_asked_for_twice_from_a_new_connection(
    market: BinanceMarket, server: CcxtServer
) -> None:
    async with streaming(server, BTC) as (venue, events):
        (*_, first) = await until(events, is_book)
        await venue.request_book(BTC)
        (again,) = await until(events, is_book)
        assert again.is_snapshot
        assert (again.bids, again.asks) == (first.bids, first.asks)
        (link,) = venue._links
        link.request_book(BTC, time.monotonic() + BOOK_RETRY_S)  # as the feed does while the book does not get better
        await until(events, is_status("DISCONNECTED"))
        (*_, anew) = await until(events, is_book)
        assert anew.is_snapshot
        # trades and books have a socket each, and nobody says which of the two is back first
        await waited(lambda: server.connections == 4)
    assert server.connections == 4


async def test_a_book_that_never_came_is_waited_for_but_not_for_ever(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC, first_data_timeout_s=60.0) as (venue, events):
        await venue.instruments()
        server.mute()
        pending = asyncio.ensure_future(until(events, is_status("DISCONNECTED")))
        await waited(lambda: bool(venue._links))
        (link,) = venue._links
        for after_s in (0.0, 6.0, 12.0):
            link.request_book(BTC, time.monotonic() + after_s)
        await asyncio.sleep(0.05)
        assert not pending.done()
        link.request_book(BTC, time.monotonic() + FIRST_BOOK_S)
        (*_, lost) = await pending
    assert "no book" in lost.detail


async def test_a_reader_that_lags_gets_every_trade_and_the_newest_book(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC) as (_, events):
        (*_, snapshot) = await until(events, is_book)
        for number in range(200):
            await market.trade(server, "100.00", f"{number + 1}")
            await market.depth(server, {"100.50000000": f"{number + 1}.00000000"}, {})
        await asyncio.sleep(0.5)  # everything has come in, nothing was read
        seen: list[FeedEvent] = []
        for _ in range(200):
            seen += await until(events, is_trade)
        while not (books := of_kind(seen, BookUpdate)):
            seen += await until(events, is_book)
    assert [t.quantity for t in of_kind(seen, Trade)] == [float(n + 1) for n in range(200)]
    assert len(books) < 20
    assert ("100.50000000", "200.00000000") in books[-1].bids
    assert books[0].sequence == snapshot.sequence + 1


async def test_a_refused_snapshot_is_an_outage_that_heals(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC) as (venue, events):
        await venue.instruments()
        server.answer_next([(503, {}, "<html>busy</html>")] * 4)  # ccxt itself tries three times
        seen = await until(events, is_book)
    assert "DISCONNECTED" in [e.status for e in of_kind(seen, FeedStatus)]


@pytest.mark.parametrize(("stable_s", "started_anew"), [(0.0, 1), (3_600.0, 0)], ids=["lived", "lived too short"])
async def test_only_a_connection_that_lived_starts_the_back_off_anew(
    market: BinanceMarket, server: CcxtServer, monkeypatch: pytest.MonkeyPatch, stable_s: float, started_anew: int
) -> None:
    started = 0

    def delays(_: random.Random) -> Iterator[float]:
        nonlocal started
        started += 1
        return itertools.repeat(0.01)

    monkeypatch.setattr("helios.venues.ccxt.venue.backoff_delays", delays)
    monkeypatch.setattr("helios.venues.ccxt.venue.STABLE_S", stable_s)
    server.answer_next([(403, {}, '{"code":-1100,"msg":"not from there"}')] * 2)
    async with streaming(server, BTC) as (_, events):
        await until(events, is_book)
        assert started == 1  # two attempts brought nothing, however long they took
        server.cut()
        await until(events, is_status("CONNECTED"))
        assert started == 1 + started_anew


async def test_a_subscription_without_data_is_given_up(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC, first_data_timeout_s=0.5) as (venue, events):
        await venue.instruments()
        server.mute()
        (lost,) = await until(events, is_status("DISCONNECTED"))
        server.mute(False)
        await until(events, is_book)
    assert "no data" in lost.detail or "silent" in lost.detail


@pytest.mark.parametrize(
    ("status", "body"), [(403, '{"code":-1100,"msg":"not from there"}'), (200, '{"symbols":7}')], ids=["refusal", "nonsense"]
)
async def test_markets_that_cannot_be_listed_at_the_start_are_an_outage_that_heals(
    server: CcxtServer, status: int, body: str
) -> None:
    server.answer_next([(status, {}, body)])
    async with streaming(server, BTC) as (_, events):
        seen = await until(events, is_status("CONNECTED"))
    assert [event.status for event in of_kind(seen, FeedStatus)] == ["ERROR", "DISCONNECTED", "CONNECTED"]


async def test_an_unknown_symbol_is_an_error_of_the_caller(server: CcxtServer) -> None:
    async with streaming(server, "XYZ/USDT") as (_, events):
        with pytest.raises(ConfigError, match="binance does not list XYZ/USDT"):
            await anext(events)


async def test_a_halted_market_is_not_listed(server: CcxtServer) -> None:
    async with streaming(server) as (venue, _):
        assert sorted(i.symbol for i in await venue.instruments()) == [BTC, ETH]


async def test_closing_ends_the_stream_and_leaves_no_task(market: BinanceMarket, server: CcxtServer) -> None:
    async with streaming(server, BTC) as (venue, events):
        await until(events, is_book)
        reading = asyncio.create_task(anext(events, None))
        await asyncio.sleep(0.05)
        await venue.aclose()
        async with asyncio.timeout(2.0):
            assert await reading is None
    await asyncio.sleep(0.1)
    ours = [t for t in asyncio.all_tasks() if "helios" in repr(t.get_coro()) or "ccxt/async" in repr(t.get_coro())]
    assert ours == []

"""Requests through ccxt against a made-up Binance on this machine: candles, clock, refusals, limits, nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from helios.domain.enums import MarketKind, Timeframe
from helios.domain.market import VenueCandle
from helios.errors import ConfigError, ProtocolError, TransportError, VenueError
from helios.venues.base import FeedStatus
from helios.venues.ccxt.client import Endpoint, make_exchange
from helios.venues.ccxt.rest import LONGEST_WAIT_S, RestCaller
from helios.venues.ccxt.support import VENUES, VenueSupport
from helios.venues.ccxt.venue import CcxtVenue
from tests.support.ccxt_binance import MINUTE_MS, NOW_MS, BinanceMarket
from tests.support.ccxt_server import CcxtServer
from tests.support.waiting import awake

BTC = "BTC/USDT"
MS_NS = 1_000_000
LAST_OPEN_MS = NOW_MS // MINUTE_MS * MINUTE_MS - MINUTE_MS  # of the newest closed minute
LIMITED = (429, {"Retry-After": "1"}, '{"code":-1003,"msg":"Too many requests"}')


@pytest.fixture
def market() -> BinanceMarket:
    return BinanceMarket()


@pytest.fixture
async def server(market: BinanceMarket) -> AsyncIterator[CcxtServer]:
    async with CcxtServer(market.ask, market.speak) as running:
        yield running


class Budget:
    """Counts and never waits."""

    def __init__(self) -> None:
        self.admitted: list[str] = []
        self.paused: list[tuple[str, float]] = []

    async def admit(self, route: str) -> None:
        self.admitted.append(route)

    async def pause(self, route: str, pause_s: float) -> None:
        self.paused.append((route, pause_s))


@contextlib.asynccontextmanager
async def venue_at(server: CcxtServer, support: VenueSupport = VENUES["binance"], **options: Any):
    venue = CcxtVenue(support, MarketKind.SPOT, Endpoint(server.rest_url, server.ws_url), rng=random.Random(1), **options)
    try:
        yield venue
    finally:
        await venue.aclose()


async def candles(venue: CcxtVenue, start_ms: int, end_ms: int, timeframe: Timeframe = Timeframe.M1) -> list[VenueCandle]:
    return await venue.candles(BTC, timeframe, start_ms * MS_NS, end_ms * MS_NS)


def opened(rows: list[VenueCandle]) -> list[int]:
    return [row.open_time // MS_NS for row in rows]


async def test_instruments_are_exact_and_halted_ones_left_out(server: CcxtServer) -> None:
    async with venue_at(server) as venue:
        found = {i.symbol: i for i in await venue.instruments()}
    assert sorted(found) == [BTC, "ETH/USDT"]
    btc = found[BTC]
    assert (str(btc.tick_size), str(btc.lot_size_base)) == ("0.01000000", "0.00001000")
    assert (btc.min_quantity_base, btc.min_notional_quote) == (Decimal("0.00001"), Decimal(5))
    assert (btc.maker_fee, btc.taker_fee) == (Decimal("0.001"), Decimal("0.001"))


async def test_the_clock_is_the_venues(server: CcxtServer) -> None:
    async with venue_at(server) as venue:
        clock = await venue.clock()
        assert abs(clock.now_ns() - NOW_MS * MS_NS) < 1_000_000_000
        assert clock.speed == 1.0


async def test_waiting_for_the_budget_does_not_falsify_the_clock(server: CcxtServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helios.venues.ccxt.venue.CLOCK_SAMPLES", 1)  # this venue's time stands still

    class Slow(Budget):
        async def admit(self, route: str) -> None:
            await asyncio.sleep(2.0)

    async with venue_at(server, budget=Slow()) as venue:
        clock = await venue.clock()
        assert abs(clock.now_ns() / 1_000_000 - NOW_MS) < 800.0  # half of the wait would be 1,000


async def test_candles_are_paged_closed_and_in_order(market: BinanceMarket, server: CcxtServer) -> None:
    start_ms = LAST_OPEN_MS - 2_499 * MINUTE_MS
    async with venue_at(server) as venue:
        rows = await candles(venue, start_ms, NOW_MS + 10 * MINUTE_MS)
    assert opened(rows) == [start_ms + i * MINUTE_MS for i in range(2_500)]
    first = rows[0]
    n = start_ms // MINUTE_MS % 1000
    assert (first.open, first.high, first.low, first.close) == (100 + n + 0.1, 100 + n + 0.9, 100 + n + 0.05, 100 + n + 0.5)
    assert first.volume_base == float(f"{n}.001")
    pages = [q for path, q in server.requests if path.endswith("/klines")]
    assert [int(q["startTime"]) for q in pages] == [start_ms + i * 1000 * MINUTE_MS for i in range(3)]


async def test_the_range_is_half_open_and_starts_at_a_bucket(server: CcxtServer) -> None:
    start_ms = LAST_OPEN_MS - 60 * MINUTE_MS
    async with venue_at(server) as venue:
        assert opened(await candles(venue, start_ms + 1, start_ms + 3 * MINUTE_MS)) == [
            start_ms + MINUTE_MS,
            start_ms + 2 * MINUTE_MS,
        ]
        assert await candles(venue, NOW_MS, NOW_MS + MINUTE_MS) == []
        assert await candles(venue, start_ms, start_ms) == []


async def test_a_venue_that_gives_only_the_newest_of_a_page_is_asked_for_the_rest(market: BinanceMarket, server: CcxtServer) -> None:
    market.newest_of_page = 100
    start_ms = LAST_OPEN_MS - 1_199 * MINUTE_MS
    async with venue_at(server) as venue:
        assert opened(await candles(venue, start_ms, NOW_MS)) == [start_ms + i * MINUTE_MS for i in range(1_200)]


async def test_a_hole_is_asked_for_again_and_stays_a_hole(market: BinanceMarket, server: CcxtServer) -> None:
    start_ms = LAST_OPEN_MS - 9 * MINUTE_MS
    market.missing = {start_ms + 3 * MINUTE_MS}
    async with venue_at(server) as venue:
        rows = await candles(venue, start_ms, NOW_MS)
    assert opened(rows) == [start_ms + i * MINUTE_MS for i in range(10) if i != 3]
    assert sum(path.endswith("/klines") for path, _ in server.requests) == 2


async def test_where_the_venue_leaves_out_quiet_periods_they_become_flat(market: BinanceMarket, server: CcxtServer) -> None:
    start_ms = LAST_OPEN_MS - 9 * MINUTE_MS
    market.missing = {start_ms + i * MINUTE_MS for i in (3, 4, 9)}
    async with venue_at(server, replace(VENUES["binance"], fills_holes=True)) as venue:
        rows = await candles(venue, start_ms, NOW_MS)
    assert opened(rows) == [start_ms + i * MINUTE_MS for i in range(9)]  # nothing is made up at the end
    before, flat = rows[2], rows[4]
    assert (flat.open, flat.high, flat.low, flat.close, flat.volume_base) == (*[before.close] * 4, 0.0)


async def test_a_market_younger_than_the_range_begins_where_it_begins(market: BinanceMarket, server: CcxtServer) -> None:
    market.first_bucket_ms = LAST_OPEN_MS - 4 * MINUTE_MS
    async with venue_at(server) as venue:
        rows = await candles(venue, LAST_OPEN_MS - 3_000 * MINUTE_MS, NOW_MS)
    assert opened(rows) == [market.first_bucket_ms + i * MINUTE_MS for i in range(5)]


async def test_429_pauses_as_long_as_the_venue_says(server: CcxtServer) -> None:
    budget = Budget()
    async with venue_at(server, budget=budget) as venue:
        await candles(venue, LAST_OPEN_MS, NOW_MS)
        server.answer_next([LIMITED])
        started_s = time.monotonic()
        async with awake() as turns:
            rows = await candles(venue, LAST_OPEN_MS, NOW_MS)
        assert time.monotonic() - started_s >= 1.0
        assert turns.seconds < 3.0
    assert len(rows) == 1
    assert budget.paused == [("public", 1.0)]


async def test_every_request_is_admitted_by_the_budget(server: CcxtServer) -> None:
    budget = Budget()
    async with venue_at(server, budget=budget) as venue:
        await venue.clock()
        await candles(venue, LAST_OPEN_MS, NOW_MS)
    assert set(budget.admitted) == {"public"}
    assert len(budget.admitted) >= len(server.requests)


@pytest.mark.parametrize(("weight", "units"), [(None, 1), (0.4, 1), (1, 1), (2.5, 3), (10, 10)])
async def test_a_request_takes_as_many_units_of_the_budget_as_it_weighs(weight: float | None, units: int) -> None:
    budget = Budget()
    exchange = make_exchange(VENUES["bybit"], VENUES["bybit"].access(MarketKind.SPOT), budget=budget, endpoint=Endpoint())
    try:
        await exchange.throttle(weight)
    finally:
        await exchange.close()
    assert budget.admitted == ["public"] * units


async def test_a_connection_is_admitted_by_the_budget(server: CcxtServer) -> None:
    budget = Budget()
    async with venue_at(server, budget=budget) as venue, contextlib.aclosing(venue.stream([BTC])) as events:
        status = await anext(events)
    assert isinstance(status, FeedStatus)
    assert status.status == "CONNECTED"
    assert budget.admitted.count("connect") == 1
    assert budget.admitted.count("public") >= len(server.requests)


async def test_418_is_a_ban_and_ends_the_call_when_it_is_long(server: CcxtServer) -> None:
    async with venue_at(server) as venue:
        await venue.clock()
        server.answer_next([(418, {"Retry-After": "7200"}, '{"code":-1003,"msg":"banned"}')])
        with pytest.raises(TransportError, match="no request for another"):
            await venue.clock()
        asked = len(server.requests)
        with pytest.raises(TransportError, match="no request for another"):
            await candles(venue, LAST_OPEN_MS, NOW_MS)
        assert len(server.requests) == asked  # a banned address keeps quiet


async def test_without_retry_after_the_pause_is_a_minute(server: CcxtServer) -> None:
    slept: list[float] = []
    now_s = [0.0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now_s[0] += seconds

    support = VENUES["binance"]
    exchange = make_exchange(support, support.access(MarketKind.SPOT), Endpoint(server.rest_url))
    try:
        caller = RestCaller(exchange, "binance", sleep=sleep, monotonic=lambda: now_s[0])
        server.answer_next([(429, {}, "{}"), (429, {"Retry-After": "soon"}, "{}")])
        assert await caller.call("time", exchange.fetch_time) == NOW_MS
        assert (slept, caller.rate_limited) == ([60.0, 60.0], 2)
        server.answer_next([(429, {}, "{}")] * 9)
        with pytest.raises(TransportError, match="rate limited 5 times"):
            await caller.call("time", exchange.fetch_time)
    finally:
        await exchange.close()
    assert max(slept) <= LONGEST_WAIT_S


@pytest.mark.parametrize("answer", [
    (200, {}, "<html>maintenance</html>"), (200, {}, '"text"'), (200, {}, ""),
    (502, {}, "<html><title>502 Bad Gateway</title></html>"), (503, {}, ""), (500, {}, '{"code":-1000,"msg":"unknown"}'),
])  # fmt: skip
async def test_a_passing_failure_is_tried_again(server: CcxtServer, answer: tuple[int, dict[str, str], str]) -> None:
    async with venue_at(server) as venue:
        await venue.instruments()
        server.answer_next([answer, answer])
        assert (await venue.clock()).speed == 1.0


async def test_a_lasting_failure_is_given_up(server: CcxtServer) -> None:
    async with venue_at(server) as venue:
        server.answer_next([(502, {}, "<html></html>")] * 20)
        with pytest.raises(TransportError, match="failed 5 times"):
            await venue.clock()


async def test_nobody_there_is_a_transport_error() -> None:
    venue = CcxtVenue(VENUES["binance"], MarketKind.SPOT, Endpoint("http://127.0.0.1:9", timeout_s=0.3), rng=random.Random(1))
    try:
        with pytest.raises(TransportError):
            await venue.clock()
    finally:
        await venue.aclose()


async def test_a_request_without_answer_times_out() -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(ignore, "127.0.0.1", 0)
    endpoint = Endpoint(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}", timeout_s=0.2)
    support = VENUES["binance"]
    exchange = make_exchange(support, support.access(MarketKind.SPOT), endpoint)
    try:
        async with awake() as turns:
            with pytest.raises(TransportError, match="RequestTimeout"):
                await RestCaller(exchange, "binance", max_retries=1, rng=random.Random(1)).call("time", exchange.fetch_time)
    finally:
        await exchange.close()
        silent.close()
    assert turns.seconds < 3.0


async def test_the_venues_own_error_is_told(server: CcxtServer) -> None:
    async with venue_at(server) as venue:
        await venue.instruments()
        await venue.clock()
        server.answer_next([(400, {}, '{"code":-1100,"msg":"Illegal characters"}')])
        with pytest.raises(VenueError) as caught:
            await candles(venue, LAST_OPEN_MS, NOW_MS)
    assert (caught.value.status, caught.value.code) == (400, -1100)
    assert "Illegal characters" in caught.value.message


@pytest.mark.parametrize("body", [
    '[[1790000000000,"1","2"]]', '[["x","1","1","1","1","1"]]', '[[1789999980000,"1","0.5","0.9","1","1"]]', "[7]", '{"a":1}',
])  # fmt: skip
async def test_nonsense_instead_of_candles_is_a_protocol_error(server: CcxtServer, body: str) -> None:
    async with venue_at(server) as venue:
        await venue.instruments()
        await venue.clock()
        server.answer_next([(200, {}, body)])
        with pytest.raises(ProtocolError):
            await candles(venue, LAST_OPEN_MS, NOW_MS)


async def test_an_impossible_candle_is_a_hole_and_costs_the_others_nothing(server: CcxtServer) -> None:
    rows = [[LAST_OPEN_MS - 60_000 * n, "1", "2" if n != 1 else "0.5", "1", "1", "1"] for n in (2, 1, 0)]
    async with venue_at(server) as venue:
        await venue.instruments()
        await venue.clock()
        server.answer_next([(200, {}, json.dumps(rows)), (200, {}, "[]")])  # asked for once more, in vain
        found = await candles(venue, LAST_OPEN_MS - 120_000, NOW_MS)
    assert [candle.open_time // 1_000_000 for candle in found] == [LAST_OPEN_MS - 120_000, LAST_OPEN_MS]


async def test_an_unknown_symbol_is_an_error_of_the_caller(server: CcxtServer) -> None:
    async with venue_at(server) as venue:
        with pytest.raises(ConfigError, match="does not list XYZ/USDT"):
            await venue.candles("XYZ/USDT", Timeframe.M1, 0, 1)


async def test_luno_says_that_candles_want_a_key(server: CcxtServer) -> None:
    async with venue_at(server, VENUES["luno"]) as venue:
        with pytest.raises(ConfigError, match="LUNO_API_KEY"):
            await venue.candles("XBT/ZAR", Timeframe.M1, 0, 1)
        assert abs((await venue.clock()).now_ns() - time.time_ns()) < 1_000_000_000  # no venue time: our own
    assert server.requests == []


@pytest.mark.parametrize("name", ["kraken", "coinbase", "luno"])
def test_a_test_site_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no test site"):
        CcxtVenue(VENUES[name], MarketKind.SPOT, Endpoint(sandbox=True))


@pytest.mark.parametrize(("name", "kind", "host"), [
    ("binance", MarketKind.SPOT, "testnet.binance.vision"), ("bybit", MarketKind.PERP, "testnet"),
    ("okx", MarketKind.SPOT, "wspap.okx.com"), ("kraken", MarketKind.PERP, "demo-futures"), ("delta", MarketKind.PERP, "testnet-api"),
])  # fmt: skip
def test_a_test_site_is_used_where_there_is_one(name: str, kind: MarketKind, host: str) -> None:
    support = VENUES[name]
    assert host in str(make_exchange(support, support.access(kind), Endpoint(sandbox=True)).urls["api"])


def test_another_region_replaces_the_host() -> None:
    support = VENUES["delta"]
    exchange = make_exchange(support, support.access(MarketKind.PERP), Endpoint("https://api.india.delta.exchange"))
    assert exchange.urls["api"]["public"] == "https://api.india.delta.exchange"

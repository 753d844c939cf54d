"""The REST client against a scripted venue on this machine, and its waits against a clock set by hand."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import pytest

from helios.domain.enums import Timeframe
from helios.errors import ProtocolError, TransportError, VenueError
from helios.venues.local_budget import LocalBudget
from helios.venues.valr.limits import relaxed_rates
from helios.venues.valr.rest import ValrRest
from helios.venues.valr.transport import ValrVenue
from tests.support.clocks import FakeTime
from tests.support.valr_server import ValrServer, iso

S = 1_000_000_000
HTML = "<html><title>502</title>Bad\nGateway</html>"


@pytest.fixture
async def server() -> AsyncIterator[ValrServer]:
    async with ValrServer() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as opened:
        yield opened


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture
def rest(server: ValrServer, client: httpx.AsyncClient, clock: FakeTime) -> ValrRest:
    return ValrRest(server.rest_url, client, budget_of(clock), clock.sleep, wall=clock.read, rng=random.Random(3))


def budget_of(clock: FakeTime, requests_per_s: float = 1000.0) -> LocalBudget:
    return LocalBudget(relaxed_rates(requests_per_s), monotonic_ns=lambda: round(clock.now_s * S), sleep=clock.sleep)


def buckets(server: ValrServer) -> list[str]:
    return [path for path in server.requests if "/buckets" in path]


async def test_a_thousand_candles_come_in_four_pages_without_gap_oldest_first(server: ValrServer, rest: ValrRest) -> None:
    end_ns = server.now_s * S
    start_ns = (server.now_s // 60 - 1000) * 60 * S
    candles = await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M1, start_ns, end_ns)
    assert len(candles) == 1000
    assert candles[0].open_time == start_ns
    assert {after.open_time - before.open_time for before, after in pairwise(candles)} == {60 * S}
    assert candles[-1].open_time + 60 * S <= end_ns
    assert len(buckets(server)) == 4
    minute = candles[17].open_time // (60 * S)
    assert candles[17].open == 1_000_000 + minute % 1000


async def test_the_unfinished_bucket_is_left_out(server: ValrServer, rest: ValrRest) -> None:
    opening_ns = server.now_s // 300 * 300 * S  # this bucket is still running
    candles = await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M5, opening_ns - 600 * S, opening_ns + 900 * S)
    assert [candle.open_time for candle in candles] == [opening_ns - 600 * S, opening_ns - 300 * S]


async def test_a_range_off_the_grid_starts_at_the_next_bucket(server: ValrServer, rest: ValrRest) -> None:
    candles = await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M1, 60 * S + 1, 240 * S, now_ns=server.now_s * S)
    assert [candle.open_time // S for candle in candles] == [120, 180]


async def test_an_empty_range_asks_nothing(server: ValrServer, rest: ValrRest) -> None:
    now_ns = server.now_s * S
    assert await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M1, now_ns, now_ns + 60 * S, now_ns=now_ns) == []
    assert server.requests == []


async def test_a_young_pair_starts_with_its_first_bucket(rest: ValrRest, server: ValrServer) -> None:
    server.first_bucket_s = 30_000
    candles = await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M1, 0, 31_200 * S, now_ns=server.now_s * S)
    assert [candles[0].open_time // S, len(candles)] == [30_000, 20]


async def test_a_hole_is_asked_for_once_more(server: ValrServer, client: httpx.AsyncClient, clock: FakeTime) -> None:
    server.skipped_buckets = {120, 180}
    healing = httpx.AsyncClient(event_hooks={"response": [_heal(server)]})
    async with healing:
        rest = ValrRest(server.rest_url, healing, budget_of(clock), clock.sleep, wall=clock.read)
        candles = await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M1, 0, 360 * S, now_ns=server.now_s * S)
    assert [candle.open_time // S for candle in candles] == [0, 60, 120, 180, 240, 300]
    assert "startTime=120&endTime=239" in buckets(server)[1]


def _heal(server: ValrServer):
    async def hook(_: httpx.Response) -> None:
        server.skipped_buckets = set()

    return hook


async def test_a_hole_that_stays_is_left_open_not_filled(server: ValrServer, rest: ValrRest) -> None:
    server.skipped_buckets = {120}
    candles = await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M1, 0, 300 * S, now_ns=server.now_s * S)
    assert [candle.open_time // S for candle in candles] == [0, 60, 180, 240]


async def test_429_waits_for_the_next_minute_and_goes_on_without_gap(server: ValrServer, rest: ValrRest, clock: FakeTime) -> None:
    server.answer_next([(429, {"x-valr-ratelimited": "true"}, "")])
    candles = await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M1, 0, 600 * S, now_ns=server.now_s * S)
    assert len(candles) == 10
    assert clock.slept == [60.0 - 1_790_000_030.0 % 60.0]
    assert rest.rate_limited == 1


@pytest.mark.parametrize(("header", "waited_s"), [("7", 7.0), ("90", 90.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 10.0)])
async def test_429_obeys_retry_after(server: ValrServer, rest: ValrRest, clock: FakeTime, header: str, waited_s: float) -> None:
    server.answer_next([(429, {"Retry-After": header}, "")])
    assert await rest.status() == "online"
    assert clock.slept == [waited_s]


@pytest.mark.parametrize("header", ["600", "999999999999"])
async def test_a_429_for_long_is_neither_disobeyed_nor_slept_through(
    server: ValrServer, rest: ValrRest, clock: FakeTime, header: str
) -> None:
    server.answer_next([(429, {"Retry-After": header}, "")])
    for _ in range(3):
        with pytest.raises(TransportError, match="may be sent"):
            await rest.status()
    assert (len(server.requests), clock.slept) == (1, [])
    clock.now_s += 3600.0
    assert await rest.status() == "online"


async def test_429_for_ever_is_given_up_for_later(server: ValrServer, rest: ValrRest, clock: FakeTime) -> None:
    server.answer_next([(429, {}, "")] * 5)
    with pytest.raises(TransportError, match="rate limited 5 times"):
        await rest.status()
    assert len(clock.slept) == 4


async def test_html_502_is_retried_with_back_off(server: ValrServer, rest: ValrRest, clock: FakeTime) -> None:
    server.answer_next([(502, {}, HTML)] * 2)
    assert await rest.status() == "online"
    assert len(clock.slept) == 2
    assert clock.slept[0] <= 0.5
    assert (rest.sent, rest.failed, rest.success_rate) == (3, 2, pytest.approx(1 / 3))
    assert clock.slept[1] <= 1.0


async def test_html_502_that_stays_is_a_transport_error(server: ValrServer, rest: ValrRest) -> None:
    server.answer_next([(502, {}, HTML)] * 5)
    with pytest.raises(TransportError, match=r"failed 5 times.*Bad Gateway"):
        await rest.status()
    assert len(server.requests) == 5


async def test_a_refusal_is_not_retried(server: ValrServer, rest: ValrRest) -> None:
    server.answer_next([(400, {}, '{"code":-21,"message":"Unsupported Currency Pair"}')])
    with pytest.raises(VenueError, match="Unsupported") as caught:
        await rest.pairs()
    assert (caught.value.status, caught.value.code, len(server.requests)) == (400, -21, 1)
    assert rest.success_rate == 1.0


@pytest.mark.parametrize("status", [200, 302, 400, 403, 404])
@pytest.mark.parametrize("body", [HTML, "", "\n  "])
async def test_a_page_of_the_front_end_is_asked_past_whatever_its_status(
    server: ValrServer, rest: ValrRest, status: int, body: str
) -> None:
    server.answer_next([(status, {}, body)] * 2)
    assert await rest.status() == "online"
    assert (len(server.requests), rest.failed) == (3, 2)


async def test_a_front_end_that_keeps_answering_in_html_is_a_transport_error(server: ValrServer, rest: ValrRest) -> None:
    server.answer_next([(400, {}, "<html>Your client has issued a malformed request</html>")] * 5)
    with pytest.raises(TransportError, match=r"failed 5 times.*status 400: .*malformed request"):
        await rest.pairs()


async def test_a_dead_address_is_a_transport_error(client: httpx.AsyncClient, clock: FakeTime) -> None:
    rest = ValrRest("http://127.0.0.1:9", client, budget_of(clock), clock.sleep, wall=clock.read, max_retries=1)
    with pytest.raises(TransportError, match="failed 2 times"):
        await rest.server_time_ns()


async def test_json_that_is_no_answer_to_the_question_is_a_protocol_error(server: ValrServer, rest: ValrRest) -> None:
    server.answer_next([(200, {}, '{"maintenance":true}')])
    with pytest.raises(ProtocolError):
        await rest.status()


async def test_the_limiter_spaces_requests_after_its_burst(server: ValrServer, client: httpx.AsyncClient) -> None:
    clock = FakeTime()
    rest = ValrRest(server.rest_url, client, budget_of(clock, 2.0), clock.sleep, wall=clock.read)
    for _ in range(5):
        await rest.status()
    assert clock.slept == pytest.approx([0.525, 0.525, 0.525])


async def test_venue_lists_instruments_sets_its_clock_and_translates_symbols(server: ValrServer) -> None:
    venue = ValrVenue(server.rest_url, server.ws_url, speed=60.0)
    try:
        candles = await venue.candles("ETH/ZAR", Timeframe.H1, 0, 7200 * S)
        clock = await venue.clock()
        assert [instrument.symbol for instrument in await venue.instruments()] == ["BTC/ZAR", "ETH/ZAR"]
    finally:
        await venue.aclose()
    assert [candle.symbol for candle in candles] == ["ETH/ZAR", "ETH/ZAR"]
    assert "/v1/public/ETHZAR/buckets" in buckets(server)[0]
    assert clock.speed == 60.0
    assert 0 <= clock.now_ns() - server.now_s * S < 60 * S  # one wall second is a market minute


# Books and trades


def public_trades(count: int) -> list[dict[str, object]]:
    """Oldest first, one a second, three at each instant."""
    return [
        {"price": str(1000 + n), "quantity": "0.5", "currencyPair": "BTCZAR", "tradedAt": iso(1_790_000_000 + n // 3),
         "takerSide": "sell", "sequenceId": 1368928567986638852 + n, "id": f"id-{n}", "quoteVolume": "500"}
        for n in range(count)
    ]  # fmt: skip


async def test_trades_are_paged_backwards_without_gap_or_repeat_and_come_oldest_first(server: ValrServer, rest: ValrRest) -> None:
    server.trades = public_trades(250)
    answer = await rest.trades("BTCZAR", "BTC/ZAR", 0)
    assert [trade.trade_id for trade in answer.trades] == [f"id-{n}" for n in range(250)]
    assert (answer.is_complete, answer.age_s) == (True, 12.0)
    assert [path.split("beforeId=")[-1] for path in server.requests[1:]] == ["id-150", "id-50"]
    assert answer.trades[0].ts_init == 1_790_000_030 * S


async def test_trades_stop_at_the_wanted_start_and_end(server: ValrServer, rest: ValrRest) -> None:
    server.trades = public_trades(900)
    start_ns, end_ns = 1_790_000_250 * S, 1_790_000_290 * S
    answer = await rest.trades("BTCZAR", "BTC/ZAR", start_ns, end_ns)
    assert [trade.trade_id for trade in answer.trades] == [f"id-{n}" for n in range(750, 870)]
    assert len(server.requests) == 2


async def test_trades_that_reach_too_far_back_are_marked_incomplete(server: ValrServer, rest: ValrRest) -> None:
    server.trades = public_trades(400)
    answer = await rest.trades("BTCZAR", "BTC/ZAR", 0, max_pages=2)
    assert (len(answer.trades), answer.is_complete) == (200, False)


async def test_a_venue_that_ignores_beforeid_is_not_asked_for_ever(server: ValrServer, rest: ValrRest) -> None:
    page = json.dumps(public_trades(100)[::-1])
    server.answer_next([(200, {}, page)] * 5)
    answer = await rest.trades("BTCZAR", "BTC/ZAR", 0)
    assert (len(answer.trades), len(server.requests), answer.age_s) == (100, 2, 30.0)


@pytest.mark.parametrize(("headers", "age_s"), [({"Age": "17"}, 17.0), ({}, 30.0), ({"Age": "soon"}, 30.0), ({"Age": "0"}, 0.0)])
async def test_a_book_tells_how_old_it_may_be(server: ValrServer, rest: ValrRest, headers: dict[str, str], age_s: float) -> None:
    row = {"side": "sell", "quantity": "0.09523556", "price": "67123", "currencyPair": "BTCUSDC", "orderCount": 1}
    body = {"Asks": [row], "Bids": [], "LastChange": "2026-03-08T17:31:26.406Z", "SequenceNumber": 1792329152}
    server.answer_next([(200, headers, json.dumps(body))])
    answer = await rest.order_book("BTCZAR", "BTC/ZAR")
    assert answer.age_s == age_s
    assert (answer.book.asks, answer.book.bids, answer.book.sequence) == ((("67123", "0.09523556"),), (), None)


async def test_a_gzip_body_is_unpacked(server: ValrServer, rest: ValrRest) -> None:
    server.answer_next([(200, {"Content-Encoding": "gzip"}, gzip.compress(b'{"status":"read-only"}'))])
    assert await rest.status() == "read-only"


async def test_a_body_that_only_claims_to_be_gzip_is_asked_for_again(server: ValrServer, rest: ValrRest) -> None:
    server.answer_next([(200, {"Content-Encoding": "gzip"}, b"plain")])
    assert await rest.status() == "online"
    assert len(server.requests) == 2


async def test_another_status_that_says_rate_limited_waits_as_well(server: ValrServer, rest: ValrRest, clock: FakeTime) -> None:
    server.answer_next([(403, {"x-valr-ratelimited": "true"}, HTML)])
    assert await rest.status() == "online"
    assert clock.slept == [pytest.approx(60.0 - 1_790_000_030.0 % 60.0)]


async def test_a_429_pauses_everybody_who_shares_the_budget(server: ValrServer, client: httpx.AsyncClient, clock: FakeTime) -> None:
    budget = budget_of(clock)
    one, other = (ValrRest(server.rest_url, client, budget, clock.sleep, wall=clock.read) for _ in range(2))
    server.answer_next([(429, {}, "")] * 5)
    with pytest.raises(TransportError):
        await one.status()
    before = len(clock.slept)
    await other.pairs()
    assert clock.slept[before:] == [pytest.approx(60.0)]


async def test_candles_resume_without_gap_where_a_429_interrupted_them(server: ValrServer, rest: ValrRest, clock: FakeTime) -> None:
    pages = 4
    server.answer_next([(429, {"x-valr-ratelimited": "true"}, HTML)])
    candles = await rest.candles("BTCZAR", "BTC/ZAR", Timeframe.M1, 0, 300 * pages * 60 * S, now_ns=server.now_s * S)
    assert [candle.open_time for candle in candles] == [n * 60 * S for n in range(300 * pages)]
    assert len(buckets(server)) == pages + 1
    assert max(clock.slept) <= 60.0


async def test_waiting_for_the_budget_does_not_falsify_the_clock() -> None:
    class Slow(LocalBudget):
        async def admit(self, route: str) -> None:
            await asyncio.sleep(1.2)

    async with ValrServer(keeps_time=True) as server:
        venue = ValrVenue(server.rest_url, server.ws_url, budget=Slow(relaxed_rates(1000.0)))
        clock = await venue.clock()
        error_s = (clock.now_ns() - time.time_ns()) / S
        await venue.aclose()
    assert abs(error_s) < 0.5  # half of the wait would be 0.6 s
    assert venue.skew is not None
    assert venue.skew.uncertainty_ns < 0.5 * S


async def test_the_skew_of_the_clocks_is_measured_with_its_uncertainty(server: ValrServer) -> None:
    server.now_s = int(time.time()) + 50
    venue = ValrVenue(server.rest_url, server.ws_url)
    skew = await venue.measure_skew()
    await venue.aclose()
    assert venue.skew is skew
    assert skew.is_alarming()
    assert 48.0 < skew.offset_ns / S < 51.0
    assert 0 < skew.uncertainty_ns < S

"""VALR's public REST calls over httpx: limited, retried, paged.

References
----------
.. [1] VALR API documentation, "Rate limiting" and "Public APIs", docs.valr.com, read 2026-11: at most 300 buckets and 100
   trades a request, counters start anew with each wall-clock minute, books and trades are cached for up to 30 s.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import httpx

from helios.domain.enums import Timeframe
from helios.domain.market import Instrument, Trade, VenueCandle
from helios.errors import TransportError
from helios.venues.backoff import backoff_delays
from helios.venues.budget import RequestBudget
from helios.venues.local_budget import LocalBudget
from helios.venues.valr.fields import NS_PER_S
from helios.venues.valr.limits import BUCKETS, PUBLIC, REST_ROUTES, valr_rates
from helios.venues.valr.rest_codec import (
    RestBook,
    RestTrades,
    decode_book,
    decode_buckets,
    decode_error,
    decode_pairs,
    decode_status,
    decode_time,
    decode_trades,
)

log = logging.getLogger(__name__)

BUCKETS_PER_REQUEST = 300
TRADES_PER_REQUEST = 100
CACHE_S = 30.0  # age of an answer that does not say how old it is: the venue keeps it no longer
MAX_REFILLS = 10
MINUTE_S = 60.0
LONGEST_PAUSE_S = 3600.0


class ValrRest:
    """Public endpoints. Each method raises TransportError (gave up), VenueError (refused) or ProtocolError (nonsense).

    A page of HTML, whatever its status, comes from the venue's front end and is asked past like any failure on the way.

    Parameters
    ----------
    base_url : str
        For example `https://api.valr.com`, without a path.
    client : httpx.AsyncClient
        Owned by the caller.
    budget : RequestBudget, optional
        Who says when a request may be sent; VALR's own limits, for this process alone, if not given.
    sleep, wall : callable
        Waiting, and epoch seconds.
    timeout_s : float, default=10.0
        Of each request.
    max_retries : int, default=4
        How often a failed request is sent again, and as often after a 429.
    rng : random.Random, optional
        Jitter of the back-off.
    """

    def __init__(
        self,
        base_url: str,
        client: httpx.AsyncClient,
        budget: RequestBudget | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        wall: Callable[[], float] = time.time,
        timeout_s: float = 10.0,
        max_retries: int = 4,
        rng: random.Random | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = client
        self._budget = budget or LocalBudget(valr_rates())
        self._sleep = sleep
        self._wall = wall
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._rng = rng or random.Random()
        self.sent = self.failed = self.rate_limited = 0

    @property
    def success_rate(self) -> float:
        """Share of the requests sent that were answered usefully; a refusal is an answer. 1 before the first."""
        return 1.0 - self.failed / self.sent if self.sent else 1.0

    async def pairs(self, venue: str = "valr") -> list[Instrument]:
        """Return the active instruments."""
        return decode_pairs(await self._get("/v1/public/pairs"), venue)

    async def server_time_ns(self) -> int:
        """Return the venue's time, ns UTC."""
        return (await self.server_time())[0]

    async def server_time(self) -> tuple[int, float]:
        """Return the venue's time (ns UTC) and the seconds from the request to its answer, our waits for the budget not included."""
        response = await self._fetch("/v1/public/time", None, BUCKETS)
        return decode_time(response.content), response.elapsed.total_seconds()

    async def status(self) -> str:
        """Return "online" or "read-only"."""
        return decode_status(await self._get("/v1/public/status", route=BUCKETS))

    async def candles(
        self, pair: str, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int, now_ns: int | None = None
    ) -> list[VenueCandle]:
        """Return the closed candles with start_ns <= open_time < end_ns, oldest first, empty buckets included.

        Parameters
        ----------
        pair, symbol : str
            The venue's name and ours.
        timeframe : Timeframe
            Length of a bucket.
        start_ns, end_ns : int
            Range of open times, ns UTC.
        now_ns : int, optional
            The venue's time; buckets not closed by then are left out. Asked for if not given.

        Returns
        -------
        candles : list of VenueCandle
            Contiguous, except before the pair's first bucket and where the venue has none even when asked twice.
        """
        now_ns = await self.server_time_ns() if now_ns is None else now_ns
        first_ns = -(-start_ns // timeframe.ns) * timeframe.ns
        stop_ns = min(-(-end_ns // timeframe.ns), now_ns // timeframe.ns) * timeframe.ns
        found: dict[int, VenueCandle] = {}
        for page_ns in range(first_ns, stop_ns, BUCKETS_PER_REQUEST * timeframe.ns):
            await self._page(found, pair, symbol, timeframe, page_ns, stop_ns)
        await self._fill(found, pair, symbol, timeframe, stop_ns)
        return [found[open_time] for open_time in sorted(found)]

    async def _page(
        self, found: dict[int, VenueCandle], pair: str, symbol: str, timeframe: Timeframe, start_ns: int, stop_ns: int
    ) -> None:
        page_stop_ns = min(stop_ns, start_ns + BUCKETS_PER_REQUEST * timeframe.ns)
        params = {
            "periodSeconds": str(timeframe.seconds),
            "startTime": str(start_ns // NS_PER_S),
            # Whether the venue includes a bucket that opens at endTime is not documented; a second less serves both.
            "endTime": str(page_stop_ns // NS_PER_S - 1),
            "skip": "0",
            "limit": str(BUCKETS_PER_REQUEST),
            "includeEmpty": "true",
        }
        body = await self._get(f"/v1/public/{pair}/buckets", params, BUCKETS)
        for candle in decode_buckets(body, symbol):
            if start_ns <= candle.open_time < page_stop_ns and candle.timeframe is timeframe:
                found[candle.open_time] = candle

    async def _fill(self, found: dict[int, VenueCandle], pair: str, symbol: str, timeframe: Timeframe, stop_ns: int) -> None:
        # A page may come back short while the venue is still writing its newest buckets: ask once more for each hole,
        # the newest few if there are many (a venue that ignores includeEmpty would have thousands).
        holes = _holes(sorted(found), timeframe.ns, stop_ns)
        for start_ns, hole_stop_ns in holes[-MAX_REFILLS:]:
            for page_ns in range(start_ns, hole_stop_ns, BUCKETS_PER_REQUEST * timeframe.ns):
                await self._page(found, pair, symbol, timeframe, page_ns, hole_stop_ns)
        left = sum((stop - start) // timeframe.ns for start, stop in _holes(sorted(found), timeframe.ns, stop_ns))
        if left:
            log.warning("%s %s: the venue has no bucket for %d periods", symbol, timeframe.value, left)

    async def order_book(self, pair: str, symbol: str) -> RestBook:
        """Return the top of the book with its age: a cache may serve it up to 30 s late, so it is never a live book."""
        response = await self._fetch(f"/v1/public/{pair}/orderbook", None, PUBLIC)
        return RestBook(decode_book(response.content, symbol, int(self._wall() * NS_PER_S)), _age_s(response))

    async def trades(self, pair: str, symbol: str, start_ns: int, end_ns: int | None = None, max_pages: int = 20) -> RestTrades:
        """Return the trades with start_ns <= ts_event < end_ns, oldest first, read page by page from the newest backwards.

        Parameters
        ----------
        pair, symbol : str
            The venue's name and ours.
        start_ns, end_ns : int
            Range of trade times, ns UTC; no end means up to the newest the venue's cache knows.
        max_pages : int, default=20
            Requests at most (30 a minute are allowed); `is_complete` tells whether they sufficed.
        """
        found: dict[str, Trade] = {}
        oldest: Trade | None = None
        age_s = 0.0
        for _ in range(max_pages):
            response = await self._fetch(f"/v1/public/{pair}/trades", _trade_params(oldest), PUBLIC)
            age_s = max(age_s, _age_s(response)) if oldest is None else age_s  # older pages do not change any more
            page = decode_trades(response.content, symbol, int(self._wall() * NS_PER_S))
            fresh = [trade for trade in page if trade.trade_id not in found]
            found.update((trade.trade_id, trade) for trade in fresh)
            oldest = page[-1] if page else oldest
            # The end of history, a venue that ignores beforeId, or far enough back.
            if len(page) < TRADES_PER_REQUEST or not fresh or (oldest is not None and oldest.ts_event < start_ns):
                return _selected(found, start_ns, end_ns, age_s, is_complete=True)
        return _selected(found, start_ns, end_ns, age_s, is_complete=False)

    async def _get(self, path: str, params: Mapping[str, str] | None = None, route: str = PUBLIC) -> bytes:
        return (await self._fetch(path, params, route)).content

    async def _fetch(self, path: str, params: Mapping[str, str] | None, route: str) -> httpx.Response:
        delays = backoff_delays(self._rng)
        failures = limited = 0
        while True:
            response = await self._attempt(path, params, route)
            self.sent += 1
            if isinstance(response, httpx.Response) and _is_answer(response):
                if response.is_success:
                    return response
                raise decode_error(response.status_code, response.content)
            self.failed += 1
            if isinstance(response, httpx.Response) and _is_rate_limited(response):
                limited += 1
                await self._pause(response.headers.get("retry-after", ""))
                if limited > self._max_retries:
                    raise TransportError(f"GET {path}: rate limited {limited} times")
            elif failures < self._max_retries:
                failures += 1
                await self._sleep(next(delays))
            else:
                words = response if isinstance(response, str) else decode_error(response.status_code, response.content)
                raise TransportError(f"GET {path} failed {failures + 1} times: {words}")

    async def _attempt(self, path: str, params: Mapping[str, str] | None, route: str) -> httpx.Response | str:
        # What came back, or why nothing did.
        await self._budget.admit(route)
        try:
            async with asyncio.timeout(2 * self._timeout_s):  # httpx limits each step, not a body that trickles in
                return await self._client.get(self._base_url + path, params=params, timeout=self._timeout_s)
        except (httpx.HTTPError, TimeoutError) as error:
            return f"{type(error).__name__} {error}"
        except httpx.InvalidURL as error:
            raise TransportError(f"GET {path}: {error}") from error

    async def _pause(self, retry_after: str) -> None:
        # Which of the venue's limits was met is not said, so all routes wait.
        wait_s = pause_s(retry_after, self._wall())
        self.rate_limited += 1
        log.warning("rate limited by the venue, waiting %.1f s", wait_s)
        for route in REST_ROUTES:
            await self._budget.pause(route, wait_s)


def pause_s(retry_after: str, wall_s: float) -> float:
    """Return how long to send nothing after a 429.

    Retry-After is not documented but obeyed if it comes, an hour at most; without it the venue's counters start anew with the next
    wall-clock minute.

    Parameters
    ----------
    retry_after : str
        The header, empty without one; anything but whole seconds counts as none.
    wall_s : float
        Epoch seconds.
    """
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), LONGEST_PAUSE_S)
    return MINUTE_S - wall_s % MINUTE_S


def _is_answer(response: httpx.Response) -> bool:
    # The venue itself always speaks JSON. A page of its front end says nothing about the request, whatever its status: asked
    # again, the same request may well be answered.
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or _is_rate_limited(response):
        return False
    return response.content.lstrip()[:1] in (b"{", b"[")


def _is_rate_limited(response: httpx.Response) -> bool:
    return response.status_code == HTTPStatus.TOO_MANY_REQUESTS or (
        response.is_error and response.headers.get("x-valr-ratelimited", "").lower() == "true"
    )


def _age_s(response: httpx.Response) -> float:
    # A cache says how long it has kept the answer; one that says nothing is believed to be as old as it may be.
    age = response.headers.get("age", "")
    return float(age) if age.isascii() and age.isdigit() and len(age) < 10 else CACHE_S


def _trade_params(oldest: Trade | None) -> dict[str, str]:
    params = {"skip": "0", "limit": str(TRADES_PER_REQUEST)}
    return params if oldest is None else params | {"beforeId": oldest.trade_id}


def _selected(found: Mapping[str, Trade], start_ns: int, end_ns: int | None, age_s: float, is_complete: bool) -> RestTrades:
    wanted = [trade for trade in found.values() if start_ns <= trade.ts_event and (end_ns is None or trade.ts_event < end_ns)]
    wanted.reverse()  # the venue lists the newest first; trades of one instant keep its order, sorting being stable
    wanted.sort(key=lambda trade: trade.ts_event)
    return RestTrades(tuple(wanted), age_s, is_complete)


def _holes(open_times: list[int], step_ns: int, stop_ns: int) -> list[tuple[int, int]]:
    # Ranges without a candle after the first one; before it the pair did not exist yet.
    following = [*open_times[1:], stop_ns]
    return [(time_ns + step_ns, after) for time_ns, after in zip(open_times, following) if after > time_ns + step_ns]

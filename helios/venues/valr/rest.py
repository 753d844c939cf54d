"""VALR's public REST calls over httpx: limited, retried, paged.

References
----------
.. [1] VALR API documentation, "Rate limiting" and "Public APIs", docs.valr.com, read 2026-11: 20 bucket requests a
   second, at most 300 buckets a request, counters start anew with each wall-clock minute.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping

import httpx

from helios.domain.enums import Timeframe
from helios.domain.market import Instrument, VenueCandle
from helios.errors import TransportError
from helios.venues.valr.fields import NS_PER_S
from helios.venues.valr.limits import TokenBucket
from helios.venues.valr.rest_codec import decode_buckets, decode_error, decode_pairs, decode_status, decode_time
from helios.venues.valr.session import backoff_delays

log = logging.getLogger(__name__)

BUCKETS_PER_REQUEST = 300
MAX_REFILLS = 10
MINUTE_S = 60.0
TOO_MANY_REQUESTS = 429


class ValrRest:
    """Public endpoints. Each method raises TransportError (gave up), VenueError (refused) or ProtocolError (nonsense).

    Parameters
    ----------
    base_url : str
        For example `https://api.valr.com`, without a path.
    client : httpx.AsyncClient
        Owned by the caller.
    requests_per_s : float
        Limit of this process.
    sleep, monotonic, wall : callable
        Waiting, monotonic seconds and epoch seconds.
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
        requests_per_s: float = 20.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        wall: Callable[[], float] = time.time,
        timeout_s: float = 10.0,
        max_retries: int = 4,
        rng: random.Random | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = client
        self._sleep = sleep
        self._monotonic = monotonic
        self._wall = wall
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._rng = rng or random.Random()
        self._bucket = TokenBucket(requests_per_s, max(1.0, requests_per_s / 2))
        self._paused_until_s = 0.0
        self.rate_limited = 0

    async def pairs(self, venue: str = "valr") -> list[Instrument]:
        """Return the active instruments."""
        return decode_pairs(await self._get("/v1/public/pairs"), venue)

    async def server_time_ns(self) -> int:
        """Return the venue's time, ns UTC."""
        return decode_time(await self._get("/v1/public/time"))

    async def status(self) -> str:
        """Return "online" or "read-only"."""
        return decode_status(await self._get("/v1/public/status"))

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
        body = await self._get(f"/v1/public/{pair}/buckets", params)
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

    async def _get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        delays = backoff_delays(self._rng)
        failures = limited = 0
        while True:
            response, reason = await self._attempt(path, params)
            if response is not None and response.status_code == TOO_MANY_REQUESTS:
                limited += 1
                if limited > self._max_retries:
                    raise TransportError(f"GET {path}: rate limited {limited} times")
                self._pause(response.headers.get("retry-after", ""))
            elif response is not None and response.is_success:
                return response.content
            elif response is not None and response.status_code < 500:
                raise decode_error(response.status_code, response.content)
            elif failures < self._max_retries:
                failures += 1
                await self._sleep(next(delays))
            else:
                raise TransportError(f"GET {path} failed {failures + 1} times: {reason}")

    async def _attempt(self, path: str, params: Mapping[str, str] | None) -> tuple[httpx.Response | None, str]:
        await self._admit()
        try:
            response = await self._client.get(self._base_url + path, params=params, timeout=self._timeout_s)
        except httpx.HTTPError as error:
            return None, f"{type(error).__name__} {error}"
        except httpx.InvalidURL as error:
            raise TransportError(f"GET {path}: {error}") from error
        return response, str(decode_error(response.status_code, response.content)) if response.is_error else ""

    async def _admit(self) -> None:
        wait_s = self._bucket.reserve(self._monotonic())
        if wait_s > 0.0:
            await self._sleep(wait_s)
        # Calls in flight at a 429 may each move the pause, so look again after waiting.
        while (wait_s := self._paused_until_s - self._monotonic()) > 0.0:
            await self._sleep(wait_s)

    def _pause(self, retry_after: str) -> None:
        # Counters start anew with the wall-clock minute; Retry-After is not documented but obeyed if it comes.
        wait_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else MINUTE_S - self._wall() % MINUTE_S
        wait_s = min(wait_s, MINUTE_S)
        self.rate_limited += 1
        self._paused_until_s = max(self._paused_until_s, self._monotonic() + wait_s)
        log.warning("rate limited by the venue, waiting %.1f s", wait_s)


def _holes(open_times: list[int], step_ns: int, stop_ns: int) -> list[tuple[int, int]]:
    # Ranges without a candle after the first one; before it the pair did not exist yet.
    following = [*open_times[1:], stop_ns]
    return [(time_ns + step_ns, after) for time_ns, after in zip(open_times, following) if after > time_ns + step_ns]

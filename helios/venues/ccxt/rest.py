"""Requests through ccxt: retried, paused when the venue says so, with Helios' errors; candles in pages."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from ccxt.base.errors import (
    ArgumentsRequired,
    AuthenticationError,
    BadSymbol,
    DDoSProtection,
    NotSupported,
    OperationFailed,
    RateLimitExceeded,
)
from ccxt.base.errors import BaseError as CcxtError

from helios.domain.enums import Timeframe
from helios.domain.market import VenueCandle
from helios.errors import ConfigError, DataError, HeliosError, ProtocolError, TransportError, VenueError
from helios.venues.backoff import backoff_delays
from helios.venues.budget import RequestBudget
from helios.venues.ccxt.client import PARSE_ERRORS
from helios.venues.ccxt.limits import PUBLIC
from helios.venues.ccxt.mapping import MS_NS, to_candle
from helios.venues.ccxt.support import VenueSupport

log = logging.getLogger(__name__)

DEFAULT_PAUSE_S = 60.0
LONGEST_WAIT_S = 120.0  # a ban may last days: whoever asks during one is told, not left waiting
MAX_REFILLS = 10


class RestCaller:
    """Carries out ccxt calls. One object per venue, so that a pause holds for every call.

    Parameters
    ----------
    exchange : ccxt exchange
        Made by `make_exchange`.
    name : str
        Of the venue, for messages.
    budget : RequestBudget, optional
        Told of a pause; admission itself happens inside the exchange, before each request.
    sleep, monotonic : callable
        Waiting and monotonic seconds.
    max_retries : int, default=4
        How often a failed call is made again, and as often after a 429.
    rng : random.Random, optional
        Jitter of the back-off.
    """

    def __init__(
        self,
        exchange: Any,
        name: str,
        budget: RequestBudget | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        max_retries: int = 4,
        rng: random.Random | None = None,
    ) -> None:
        self.exchange = exchange
        self._name = name
        self._budget = budget
        self._sleep = sleep
        self._monotonic = monotonic
        self._max_retries = max_retries
        self._rng = rng or random.Random()
        self._paused_until_s = 0.0
        self.rate_limited = 0

    async def call(self, what: str, request: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `request` answers.

        Raises
        ------
        TransportError
            If it failed more than `max_retries` times, or the venue has closed its door for long.
        VenueError
            If the venue refused it.
        ConfigError
            If the venue does not know the symbol or does not offer this.
        ProtocolError
            If the answer is not what ccxt can read.
        """
        delays = backoff_delays(self._rng)
        failures = limited = 0
        while True:
            await self._admit(what)
            try:
                return await request()
            except (RateLimitExceeded, DDoSProtection) as error:
                limited += 1
                await self._pause()
                if limited > self._max_retries:
                    raise TransportError(f"{self._name} {what}: rate limited {limited} times") from error
            except OperationFailed as error:
                failures += 1
                if failures > self._max_retries:
                    raise TransportError(f"{self._name} {what} failed {failures} times: {_short(error)}") from error
                await self._sleep(next(delays))
            except CcxtError as error:
                raise self._refused(what, error) from error
            except PARSE_ERRORS as error:
                raise ProtocolError(f"{self._name} {what}: unreadable answer ({type(error).__name__}: {error})") from error

    async def _admit(self, what: str) -> None:
        # Calls in flight at a 429 may each move the pause, so look again after waiting.
        while (wait_s := self._paused_until_s - self._monotonic()) > 0.0:
            if wait_s > LONGEST_WAIT_S:
                raise TransportError(f"{self._name} {what}: the venue wants no request for another {wait_s:.0f} s")
            await self._sleep(wait_s)

    async def _pause(self) -> None:
        given_s = self.exchange.answer.retry_after_s
        wait_s = DEFAULT_PAUSE_S if given_s is None else given_s
        self.rate_limited += 1
        self._paused_until_s = max(self._paused_until_s, self._monotonic() + wait_s)
        log.warning("%s: rate limited (status %d), no request for %.0f s", self._name, self.exchange.answer.status, wait_s)
        if self._budget is not None:
            await self._budget.pause(PUBLIC, wait_s)

    def _refused(self, what: str, error: CcxtError) -> HeliosError:
        if isinstance(error, BadSymbol | NotSupported | ArgumentsRequired):
            return ConfigError(f"{self._name} {what}: {_short(error)}")
        if isinstance(error, AuthenticationError):
            return ConfigError(f"{self._name} {what} needs a valid API key: {_short(error)}")
        return VenueError(self.exchange.answer.status, self.exchange.answer.error_code, _short(error))


async def fetch_candles(
    caller: RestCaller, venue: VenueSupport, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int, now_ns: int, size: Decimal
) -> list[VenueCandle]:
    """Return the closed candles with start_ns <= open_time < end_ns, oldest first.

    A hole is asked for once more. Where the venue leaves out periods without a trade (`fills_holes`), a hole between two
    candles becomes flat ones at the close before it; elsewhere it stays a hole and is logged. A row that is no candle is left
    out and logged, and so becomes a hole: it must not keep the rest of its page back for ever.

    Raises
    ------
    ProtocolError
        If no row of an answer is a candle.
    """
    step = timeframe.ns
    first_ns = -(-start_ns // step) * step
    stop_ns = min(-(-end_ns // step), now_ns // step) * step
    found: dict[int, VenueCandle] = {}
    pages = _Pages(caller, venue, symbol, timeframe, size)
    await pages.read(found, first_ns, stop_ns)
    for hole_ns, hole_stop_ns in _holes(sorted(found), step, stop_ns)[-MAX_REFILLS:]:
        await pages.read(found, hole_ns, hole_stop_ns)
    if venue.fills_holes:
        _fill_flat(found, step)
    missing = sum((stop - start) // step for start, stop in _holes(sorted(found), step, stop_ns))
    if missing or (first_ns < stop_ns and first_ns not in found):
        log.warning(
            "%s %s %s: no candle for %d periods, the first is asked for from %d",
            venue.name,
            symbol,
            timeframe.value,
            missing,
            first_ns,
        )
    return [found[opened] for opened in sorted(found)]


class _Pages:
    """One symbol's candles, page by page."""

    def __init__(self, caller: RestCaller, venue: VenueSupport, symbol: str, timeframe: Timeframe, size: Decimal) -> None:
        self._caller = caller
        self._venue = venue
        self._symbol = symbol
        self._timeframe = timeframe
        self._size = size

    async def read(self, found: dict[int, VenueCandle], start_ns: int, stop_ns: int) -> None:
        span_ns = self._venue.candle_limit * self._timeframe.ns
        for page_ns in range(start_ns, stop_ns, span_ns):
            page_stop_ns = min(stop_ns, page_ns + span_ns)
            # A venue that gives fewer than its limit gives the newest: ask for the rest before those, while that helps.
            while page_ns < page_stop_ns:
                rows = {c.open_time: c for c in await self._page(page_ns, page_stop_ns) if page_ns <= c.open_time < page_stop_ns}
                found.update(rows)
                if not rows or not self._venue.has_until:
                    break
                page_stop_ns = min(rows)

    async def _page(self, start_ns: int, stop_ns: int) -> list[VenueCandle]:
        exchange, symbol, timeframe, limit = self._caller.exchange, self._symbol, self._timeframe, self._venue.candle_limit
        # Whether the end is included differs from venue to venue; a millisecond less serves both.
        params = {"until": stop_ns // MS_NS - 1} if self._venue.has_until else {}
        rows = await self._caller.call(
            f"candles of {symbol}", lambda: exchange.fetch_ohlcv(symbol, timeframe.value, start_ns // MS_NS, limit, dict(params))
        )
        candles, errors = [], []
        for row in rows:
            try:
                candles.append(to_candle(row, symbol, timeframe, self._size))
            except DataError as error:
                errors.append(error)
        if errors and not candles:
            raise ProtocolError(f"{self._venue.name}: {errors[0]}") from errors[0]
        if errors:
            log.warning("%s: %d of %d candles left out, the first because: %s", self._venue.name, len(errors), len(rows), errors[0])
        return candles


def _holes(opened: list[int], step_ns: int, stop_ns: int) -> list[tuple[int, int]]:
    # Ranges without a candle after the first one; before it the market did not exist yet, or the venue keeps no more.
    following = [*opened[1:], stop_ns]
    return [(time_ns + step_ns, after) for time_ns, after in zip(opened, following) if after > time_ns + step_ns]


def _fill_flat(found: dict[int, VenueCandle], step_ns: int) -> None:
    opened = sorted(found)
    for before, after in itertools.pairwise(opened):
        last = found[before]
        for time_ns in range(before + step_ns, after, step_ns):
            c = last.close
            found[time_ns] = VenueCandle(last.symbol, last.timeframe, time_ns, c, c, c, c, 0.0)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

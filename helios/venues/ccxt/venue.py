"""A venue of ccxt as a MarketVenue."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from typing import Any

from helios.clock import VenueClock
from helios.domain.enums import MarketKind, Timeframe
from helios.domain.market import Instrument, VenueCandle
from helios.errors import ConfigError, DataError, ProtocolError, RetryableError, TransportError, VenueError
from helios.venues.backoff import backoff_delays
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.budget import RequestBudget
from helios.venues.ccxt.client import Endpoint, Tap, make_exchange
from helios.venues.ccxt.inbox import BOOK_LEVELS, SeenTrades
from helios.venues.ccxt.limits import CONNECT
from helios.venues.ccxt.link import Link, PolledLink, SocketLink
from helios.venues.ccxt.mapping import MS_NS, contract_size, kind_of, to_instrument
from helios.venues.ccxt.rest import RestCaller, fetch_candles
from helios.venues.ccxt.support import Options, VenueSupport

log = logging.getLogger(__name__)

CLOCK_SAMPLES = 3
CLOCK_AGE_S = 600.0
STABLE_S = 10.0  # a connection that lived so long starts the back-off anew


class CcxtVenue:
    """Public market data of one venue and one kind of market.

    Parameters
    ----------
    support : VenueSupport
        A row of the table in `support.py`.
    kind : MarketKind, default=SPOT
        What is listed and streamed.
    endpoint : Endpoint, optional
        Addresses, test site, time-outs.
    budget : RequestBudget, optional
        Shared with others who ask the same venue from this address; routes "public" and "connect".
    silence_timeout_s : float, default=5.0
        Longest time to notice a dead socket.
    first_data_timeout_s : float, default=15.0
        Longest wait for the first record of a connection.
    poll_interval_s : float, default=2.0
        Where there are no sockets: shortest time between two looks at a symbol.
    n_levels : int, default=25
        Depth of the books.
    rng : random.Random, optional
        Jitter of the back-offs.
    options : mapping, optional
        Further options of the ccxt exchange.
    """

    def __init__(
        self,
        support: VenueSupport,
        kind: MarketKind = MarketKind.SPOT,
        endpoint: Endpoint | None = None,
        budget: RequestBudget | None = None,
        *,
        silence_timeout_s: float = 5.0,
        first_data_timeout_s: float = 15.0,
        poll_interval_s: float = 2.0,
        n_levels: int = BOOK_LEVELS,
        rng: random.Random | None = None,
        options: Options | None = None,
    ) -> None:
        self._support = support
        self._kind = kind
        chosen = support.access(kind)
        self._access = replace(chosen, options={**chosen.options, **(options or {})})
        self._endpoint = endpoint or Endpoint()
        self._budget = budget
        self._silence_timeout_s = silence_timeout_s
        self._first_data_timeout_s = first_data_timeout_s
        self._poll_interval_s = poll_interval_s
        self._n_levels = n_levels
        self._rng = rng or random.Random()
        self._exchange: Any = self._make()
        self._caller = RestCaller(self._exchange, support.name, budget, rng=self._rng)
        self._clock: VenueClock | None = None
        self._clock_s = 0.0
        self._sizes: dict[str, Decimal] = {}
        self._seen = SeenTrades()
        self._links: set[Link] = set()
        self._ended_protocol_errors = 0
        self._closed = asyncio.Event()

    @property
    def protocol_errors(self) -> int:
        """Malformed records and frames dropped so far."""
        return self._ended_protocol_errors + sum(link.protocol_errors for link in self._links)

    @property
    def is_connected(self) -> bool:
        """Whether some connection has brought data."""
        return any(link.has_data for link in self._links)

    async def instruments(self) -> list[Instrument]:
        """Return the active instruments of the kind, in ccxt's symbols; those without exact steps are left out and logged.

        Raises
        ------
        ProtocolError
            If there is none: the venue is out of order, and no symbol may be told to be unknown because of it.
        """
        markets = await self._caller.call("markets", lambda: self._exchange.load_markets(True))
        instruments: list[Instrument] = []
        for market in markets.values():
            if kind_of(market) is not self._kind or market.get("active") is False:
                continue
            try:
                made = to_instrument(market, self._support.name, self._exchange.precisionMode)
                self._sizes[made.symbol] = contract_size(market)
            except DataError as error:
                log.warning("%s: market left out: %s", self._support.name, error)
                continue
            instruments.append(made)
        if not instruments:
            raise ProtocolError(f"{self._support.name} lists no {self._kind.value} market at all")
        return instruments

    async def clock(self) -> VenueClock:
        """Return a clock set to the venue's time at the middle of the quickest of three round trips.

        Where the venue tells no time it is this machine's clock, and the log says so.
        """
        if self._support.has_clock and self._exchange.has.get("fetchTime"):
            samples = [await self._time_sample() for _ in range(CLOCK_SAMPLES)]
            _, middle_s, market_ns = min(samples)
        else:
            log.info("%s does not tell its time: the local clock is taken for it", self._support.name)
            middle_s, market_ns = time.monotonic(), time.time_ns()
        self._clock, self._clock_s = VenueClock(market_ns, middle_s), time.monotonic()
        return self._clock

    async def candles(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        """Return the closed candles with start_ns <= open_time < end_ns, oldest first. Quote volume is unknown (NaN).

        Raises
        ------
        ConfigError
            If the venue does not list the symbol, or wants an API key for candles and has none.
        """
        if self._support.needs_key_for_candles and not self._endpoint.api_key:
            key = self._support.name.upper()
            raise ConfigError(f"{self._support.name} gives candles only with an API key: set {key}_API_KEY and {key}_API_SECRET")
        size = await self._size(symbol)
        size = size if self._support.candles_in_contracts else Decimal(1)
        clock = self._clock if self._clock is not None and time.monotonic() - self._clock_s < CLOCK_AGE_S else await self.clock()
        return await fetch_candles(self._caller, self._support, symbol, timeframe, start_ns, end_ns, clock.now_ns(), size)

    async def stream(self, symbols: Sequence[str]) -> AsyncGenerator[FeedEvent]:
        """Yield events for ever; close the iterator (`aclose`) or cancel its task to end.

        CONNECTED comes before the first record of a connection, DISCONNECTED once when it is lost, ERROR with what the
        venue refuses. Books start with a snapshot and go on as diffs of the best levels, numbered without a gap.

        Raises
        ------
        ConfigError
            If the venue does not list a symbol.
        """
        async with aclosing(self.stream_batches(symbols)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def stream_batches(self, symbols: Sequence[str]) -> AsyncGenerator[list[FeedEvent]]:
        """Yield the events of `stream` as they came together; no list is empty."""
        delays = backoff_delays(self._rng)
        sizes: dict[str, Decimal] = {}
        while not self._closed.is_set():
            heard_s: float | None = None  # since when the connection has brought something
            link: Link | None = None
            refusal = ""
            try:
                sizes = sizes or {symbol: await self._size(symbol) for symbol in symbols}
                link = self._link(sizes)
                async with aclosing(self._connection(link)) as batches:
                    async for batch in batches:
                        heard_s = heard_s or time.monotonic()
                        yield batch
            except RetryableError as error:
                reason, refusal = str(error), "" if link is None else link.refusal
            except (VenueError, ProtocolError) as error:  # no list of markets
                reason = refusal = str(error)
            if self._closed.is_set():
                return
            log.warning("%s stream lost: %s", self._support.name, reason)
            statuses: list[FeedEvent] = [FeedStatus("DISCONNECTED", reason, time.time_ns())]
            yield [FeedStatus("ERROR", refusal, time.time_ns()), *statuses] if refusal else statuses
            if heard_s is not None and time.monotonic() - heard_s >= STABLE_S:
                delays = backoff_delays(self._rng)
            await asyncio.sleep(next(delays))

    async def request_book(self, symbol: str) -> None:
        """Have the next book of `symbol` be a snapshot; asked again within 30 s, the connection is made anew."""
        await self._size(symbol)
        for link in list(self._links):
            link.request_book(symbol, time.monotonic())

    def counters(self) -> Mapping[str, int]:
        """Return what connections and requests have met since the start."""
        return {"malformed": self.protocol_errors, "requests_limited": self._caller.rate_limited}

    async def aclose(self) -> None:
        """Close every connection and the REST client; streams end."""
        self._closed.set()
        for link in list(self._links):
            link.fail(TransportError("the venue was closed"))
            await link.close()
        await self._exchange.close()

    async def _connection(self, link: Link) -> AsyncGenerator[list[FeedEvent]]:
        # From opening a connection to its loss; ends only by an exception or by being closed.
        self._links.add(link)
        try:
            if self._budget is not None:
                await self._budget.admit(CONNECT)
            await link.open()
            announced = False
            while True:
                batch, failure = _drained(link)
                if batch and not announced:
                    announced = True
                    batch.insert(0, FeedStatus("CONNECTED", f"{len(link.symbols)} symbols", time.time_ns()))
                if batch:
                    yield batch
                if failure is not None:
                    raise failure
                await link.wait()
        finally:
            self._links.discard(link)
            self._ended_protocol_errors += link.protocol_errors
            await link.close()

    def _make(self, tap: Tap | None = None) -> Any:
        return make_exchange(self._support, self._access, self._endpoint, self._budget, tap)

    def _link(self, sizes: dict[str, Decimal]) -> Link:
        kwargs: dict[str, Any] = {"sizes": sizes, "support": self._support, "seen": self._seen, "n_levels": self._n_levels}
        if self._access.streams:
            return SocketLink(
                self._make,
                self._exchange,
                silence_timeout_s=self._silence_timeout_s,
                first_data_timeout_s=self._first_data_timeout_s,
                **kwargs,
            )
        return PolledLink(self._caller, poll_interval_s=self._poll_interval_s, **kwargs)

    async def _size(self, symbol: str) -> Decimal:
        if symbol not in self._sizes:
            await self.instruments()
        size = self._sizes.get(symbol)
        if size is None:
            raise ConfigError(f"{self._support.name} does not list {symbol} ({self._kind.value})")
        return size

    async def _time_sample(self) -> tuple[float, float, int]:
        market_ms = await self._caller.call("time", self._exchange.fetch_time)
        after_s, took_s = time.monotonic(), self._exchange.took_s
        if not isinstance(market_ms, int) or market_ms <= 0:
            raise ProtocolError(f"{self._support.name} says it is {market_ms!r}")
        return took_s, after_s - took_s / 2, market_ms * MS_NS


def _drained(link: Link) -> tuple[list[FeedEvent], TransportError | None]:
    # What came in before a connection turned out to be of no use is still good.
    batch: list[FeedEvent] = []
    try:
        batch.extend(link.take())
    except TransportError as error:
        return batch, error
    return batch, None

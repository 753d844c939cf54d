"""VALR as a MarketVenue: the thin driver between sockets and the sans-I/O session."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from helios.clock import VenueClock
from helios.domain.enums import Timeframe
from helios.domain.market import BookUpdate, Instrument, Trade, VenueCandle
from helios.errors import ConfigError, TransportError
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.valr.events import ServerError
from helios.venues.valr.fields import NS_PER_S
from helios.venues.valr.rest import ValrRest
from helios.venues.valr.session import BOOK_EVENT, TRADE_EVENT, ConnectBudget, TradeSession, backoff_delays

log = logging.getLogger(__name__)

CLOCK_SAMPLES = 3
STABLE_S = 10.0  # a connection that lived so long starts the back-off anew
MAX_FRAME_BYTES = 8 * 1024 * 1024  # the first frame of a book is the whole book
MIN_POLL_S = 0.05
OVERLAP_NS = NS_PER_S
CLOSE_TIMEOUT_S = 0.5
LINK_ERRORS = (WebSocketException, OSError, TransportError)  # OSError includes TimeoutError


@dataclass(eq=False, slots=True)
class _Link:
    socket: ClientConnection
    session: TradeSession
    seen: set[tuple[str, str]] = field(default_factory=set)  # what its predecessor yielded while both ran


class ValrVenue:
    """Public market data of VALR, or of anything that speaks its protocol.

    Parameters
    ----------
    rest_url : str
        For example `https://api.valr.com`.
    ws_url : str
        For example `wss://api.valr.com/ws/trade`.
    speed : float, default=1.0
        Market seconds per wall second; 1 for the real venue.
    rest_timeout_s : float, default=10.0
        Of each REST request.
    requests_per_s : float, default=20.0
        REST limit of this process.
    silence_timeout_s : float, default=5.0
        Longest time to notice a dead socket.
    rng : random.Random, optional
        Jitter of the back-offs.
    events : sequence of str
        Socket events to subscribe; add `NEW_TRADE_BUCKET` for pushed candles.
    ping_interval_s, max_age_s, connect_timeout_s : float
        Keep-alive, age of a socket at which it is replaced (without an outage), and limit for opening one.
    name : str, default="valr"
        Venue name of the instruments.

    Attributes
    ----------
    on_frame : callable or None
        Called with each frame and its local time of arrival (ns UTC) before anything else is done with it.
    """

    def __init__(
        self,
        rest_url: str,
        ws_url: str,
        speed: float = 1.0,
        rest_timeout_s: float = 10.0,
        requests_per_s: float = 20.0,
        silence_timeout_s: float = 5.0,
        rng: random.Random | None = None,
        *,
        events: Sequence[str] = (BOOK_EVENT, TRADE_EVENT),
        ping_interval_s: float = 20.0,
        max_age_s: float = 840.0,
        connect_timeout_s: float = 5.0,
        name: str = "valr",
    ) -> None:
        self._ws_url = ws_url
        self._speed = speed
        self._silence_timeout_s = silence_timeout_s
        self._rng = rng or random.Random()
        self._events = tuple(events)
        self._ping_interval_s = ping_interval_s
        self._max_age_s = max_age_s
        self._connect_timeout_s = connect_timeout_s
        self._name = name
        self._client = httpx.AsyncClient()
        self.rest = ValrRest(rest_url, self._client, requests_per_s, timeout_s=rest_timeout_s, rng=self._rng)
        self._budget = ConnectBudget()
        self._pairs: dict[str, str] = {}  # symbol -> venue pair
        self._links: set[_Link] = set()
        self._ended_protocol_errors = 0
        self._closed = asyncio.Event()
        self.on_frame: Callable[[str | bytes, int], None] | None = None

    @property
    def protocol_errors(self) -> int:
        """Malformed frames dropped so far."""
        return self._ended_protocol_errors + sum(link.session.protocol_errors for link in self._links)

    @property
    def is_connected(self) -> bool:
        """Whether some socket is open and has its subscription acknowledged."""
        return any(link.session.is_acknowledged for link in self._links)

    async def instruments(self) -> list[Instrument]:
        """Return the active instruments and remember their names."""
        instruments = await self.rest.pairs(self._name)
        self._pairs = {instrument.symbol: instrument.venue_symbol for instrument in instruments}
        return instruments

    async def clock(self) -> VenueClock:
        """Return a clock set to the venue's time at the middle of the quickest of three round trips."""
        samples = [await self._time_sample() for _ in range(CLOCK_SAMPLES)]
        _, middle_s, market_ns = min(samples)
        return VenueClock(market_ns, middle_s, self._speed)

    async def candles(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        """Return the closed candles with start_ns <= open_time < end_ns, oldest first, empty buckets included.

        Raises
        ------
        ConfigError
            If the venue does not list the symbol.
        """
        return await self.rest.candles(await self._pair(symbol), symbol, timeframe, start_ns, end_ns)

    async def stream(self, symbols: Sequence[str]) -> AsyncGenerator[FeedEvent]:
        """Yield events for ever; close the iterator (`aclose`) or cancel its task to end.

        An outage shows as FeedStatus DISCONNECTED, its end (the new subscription is acknowledged) as CONNECTED, and
        whatever the venue refuses as ERROR.

        Raises
        ------
        ConfigError
            If the venue does not list a symbol.
        VenueError
            If it refuses to list its pairs.
        """
        delays = backoff_delays(self._rng)
        while not self._closed.is_set():
            started_s = time.monotonic()
            try:
                async with aclosing(self._connection(symbols)) as events:
                    async for event in events:
                        yield event
            except LINK_ERRORS as error:
                reason = f"{type(error).__name__}: {error}"
            if self._closed.is_set():
                return
            log.warning("%s stream lost: %s", self._name, reason)
            yield FeedStatus("DISCONNECTED", reason, time.time_ns())
            if time.monotonic() - started_s >= STABLE_S:
                delays = backoff_delays(self._rng)
            await asyncio.sleep(next(delays))

    async def request_book(self, symbol: str) -> None:
        """Ask for a fresh book snapshot of `symbol` on every open stream that carries it."""
        pair = await self._pair(symbol)
        for link in list(self._links):
            try:
                for frame in link.session.resubscribe(time.monotonic_ns(), pair):
                    await link.socket.send(frame)
            except ConnectionClosed:
                log.info("book of %s not requested: the socket is down and its successor starts with a snapshot", symbol)

    async def aclose(self) -> None:
        """Close every socket and the REST client; streams end."""
        self._closed.set()
        for link in list(self._links):
            await link.socket.close()
        await self._client.aclose()

    async def _connection(self, symbols: Sequence[str]) -> AsyncGenerator[FeedEvent]:
        # From opening a socket to its loss; ends only by an exception or by being closed. A socket that grows old is
        # replaced without an outage: its successor is opened, both are left to run side by side for a moment, the old
        # one is read to the end of it, and what the successor then repeats is dropped.
        pairs = {await self._pair(symbol): symbol for symbol in symbols}
        links = [await self._open(pairs)]
        handover_ns, announced = 0, False
        try:
            while True:
                now_ns = time.monotonic_ns()
                if len(links) > 1 and now_ns >= handover_ns:
                    await self._close(links.pop(0))
                elif len(links) == 1 and links[0].session.must_reconnect(now_ns):
                    links.append(await self._open(pairs))
                    handover_ns = time.monotonic_ns() + OVERLAP_NS
                received = await _next_frame(links[0], handover_ns if len(links) > 1 else None)
                if received is None:
                    continue
                arrived_ns = time.time_ns()
                if self.on_frame is not None:
                    self.on_frame(received, arrived_ns)
                events = _feed_events(links[0], received, arrived_ns)
                if not announced and links[0].session.is_acknowledged:
                    announced = True
                    yield FeedStatus("CONNECTED", f"{len(pairs)} pairs", time.time_ns())
                for event in events:
                    if not _is_repeated(event, links):
                        yield event
        finally:
            for link in links:
                await self._close(link)

    async def _open(self, pairs: dict[str, str]) -> _Link:
        await asyncio.sleep(self._budget.reserve(time.monotonic_ns()))
        socket = await connect(
            self._ws_url,
            open_timeout=self._connect_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,  # the session has the venue's own PING
            max_size=MAX_FRAME_BYTES,
        )
        link = _Link(socket, self._session(pairs))
        self._links.add(link)
        try:
            if self._closed.is_set():
                raise TransportError("the venue was closed meanwhile")
            for frame in link.session.connected(time.monotonic_ns()):
                await socket.send(frame)
        except (asyncio.CancelledError, ConnectionClosed, TransportError):
            await self._close(link)
            raise
        return link

    async def _close(self, link: _Link) -> None:
        if link in self._links:
            self._links.discard(link)
            self._ended_protocol_errors += link.session.protocol_errors
        await link.socket.close()

    def _session(self, pairs: dict[str, str]) -> TradeSession:
        return TradeSession(
            pairs,
            self._events,
            ping_interval_s=self._ping_interval_s,
            silence_timeout_s=self._silence_timeout_s,
            max_age_s=self._max_age_s,
        )

    async def _pair(self, symbol: str) -> str:
        if symbol not in self._pairs:
            await self.instruments()
        pair = self._pairs.get(symbol)
        if pair is None:
            raise ConfigError(f"{self._name} does not list {symbol}")
        return pair

    async def _time_sample(self) -> tuple[float, float, int]:
        before_s = time.monotonic()
        market_ns = await self.rest.server_time_ns()
        after_s = time.monotonic()
        return after_s - before_s, (before_s + after_s) / 2, market_ns


async def _next_frame(link: _Link, until_ns: int | None) -> str | bytes | None:
    # Wait for a frame, sending what falls due meanwhile; None once the session wants replacing or `until_ns` has passed.
    # Death is asked only after a wait that brought nothing, so frames that queued up while our consumer was busy count as
    # signs of life.
    while True:
        now_ns = time.monotonic_ns()
        for frame in link.session.due(now_ns):
            await link.socket.send(frame)
        wake_ns = link.session.next_wake(now_ns)
        wait_s = (wake_ns if until_ns is None else min(wake_ns, until_ns)) / NS_PER_S - now_ns / NS_PER_S
        try:
            async with asyncio.timeout(max(MIN_POLL_S, wait_s)):
                return await link.socket.recv()
        except TimeoutError:
            now_ns = time.monotonic_ns()
            if link.session.is_dead(now_ns):
                raise TransportError("the venue fell silent") from None
            if now_ns >= until_ns if until_ns is not None else link.session.must_reconnect(now_ns):
                return None


def _feed_events(link: _Link, received: str | bytes, arrived_ns: int) -> list[FeedEvent]:
    events: list[FeedEvent] = []
    for event in link.session.receive(received, time.monotonic_ns(), arrived_ns):
        if isinstance(event, Trade | BookUpdate | VenueCandle):
            events.append(event)
        elif isinstance(event, ServerError):
            events.append(FeedStatus("ERROR", event.message, time.time_ns()))
    return events


def _is_repeated(event: FeedEvent, links: Sequence[_Link]) -> bool:
    # Books repeat harmlessly: the successor starts with a snapshot. Trades and candles must come once.
    if not isinstance(event, Trade | VenueCandle):
        return False
    name = event.trade_id if isinstance(event, Trade) else f"{event.timeframe.value}:{event.open_time}"
    key = (event.symbol, name)
    if len(links) > 1:
        links[-1].seen.add(key)
    return key in links[0].seen

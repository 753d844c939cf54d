"""VALR as a MarketVenue: the thin driver between sockets and the sans-I/O session."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from helios.clock import VenueClock
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument, VenueCandle
from helios.errors import ConfigError, ProtocolError, RejectedError, RetryableError, TransportError, VenueError
from helios.venues.backoff import backoff_delays
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.budget import RequestBudget
from helios.venues.local_budget import LocalBudget
from helios.venues.valr.fields import NS_PER_S
from helios.venues.valr.key import SocketKey
from helios.venues.valr.limits import CONNECT, valr_rates
from helios.venues.valr.link import CLOSE_TIMEOUT_S, Link, Tap
from helios.venues.valr.relay import LINK_ERRORS, Relay
from helios.venues.valr.rest import ValrRest, pause_s
from helios.venues.valr.session import BOOK_EVENT, TRADE_EVENT, TradeSession
from helios.venues.valr.skew import ClockSkew, TimeSample, clock_skew
from helios.venues.valr.state import ConnectionRecord, ConnectionState, Phase

log = logging.getLogger(__name__)

CLOCK_SAMPLES = 3
STABLE_S = 10.0  # a connection that lived so long starts the back-off anew
ALARM_DOWN_S = 300.0
SKEW_INTERVAL_S = 240.0
MAX_FRAME_BYTES = 8 * 1024 * 1024  # the first frame of a book is the whole book
MAX_QUEUE = (1024, 256)  # frames between the socket and the reader, which empties the queue whenever it runs


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
    budget : RequestBudget, optional
        Who says when a request may be sent or a socket opened; VALR's limits, for this process alone, if not given.
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
    credentials : tuple of (str, str)
        API key and secret, empty for none. With them the socket is authenticated, which spares it the venue's cut at 15 minutes.
        Never shown.
    watches_clock : bool, default=True
        Whether to compare our wall clock with the venue's every four minutes while streaming.
    instruments : sequence of Instrument
        Those already known: the venue is asked for its list only for a symbol that is not among them. The list is what VALR
        limits most (30 a minute), and a desk of fifty symbols has fifty clients.

    Attributes
    ----------
    on_frame : callable or None
        Called with each frame and its local time of arrival (ns UTC), in the order of the events and before they are yielded.
        Set it before streaming.
    """

    def __init__(
        self,
        rest_url: str,
        ws_url: str,
        speed: float = 1.0,
        rest_timeout_s: float = 10.0,
        budget: RequestBudget | None = None,
        silence_timeout_s: float = 5.0,
        rng: random.Random | None = None,
        *,
        events: Sequence[str] = (BOOK_EVENT, TRADE_EVENT),
        ping_interval_s: float = 20.0,
        max_age_s: float = 840.0,
        connect_timeout_s: float = 5.0,
        name: str = "valr",
        credentials: tuple[str, str] = ("", ""),
        watches_clock: bool = True,
        instruments: Sequence[Instrument] = (),
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
        self._key = SocketKey(*credentials)
        self._watches_clock = watches_clock
        self._client = httpx.AsyncClient()
        self._budget = budget or LocalBudget(valr_rates())
        self.rest = ValrRest(rest_url, self._client, self._budget, timeout_s=rest_timeout_s, rng=self._rng)
        self._pairs = {instrument.symbol: instrument.venue_symbol for instrument in instruments}
        self._streams: list[dict[str, str]] = []  # venue pair -> symbol, of each open stream
        self._links: set[Link] = set()
        self._record = ConnectionRecord(time.time_ns)
        self._closed = asyncio.Event()
        self.skew: ClockSkew | None = None
        self.on_frame: Tap | None = None

    @property
    def protocol_errors(self) -> int:
        """Malformed frames dropped so far."""
        return self.state.protocol_errors

    @property
    def is_connected(self) -> bool:
        """Whether some socket is open and has its subscription acknowledged."""
        return any(link.session.is_acknowledged for link in self._links)

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands, with everything counted since the start."""
        return self._record.state([link.session for link in self._links])

    async def instruments(self) -> list[Instrument]:
        """Return the active instruments and remember their names.

        Raises
        ------
        ProtocolError
            If there is none: the venue is out of order, and no symbol may be told to be unknown because of it.
        """
        instruments = await self.rest.pairs(self._name)
        if not instruments:
            raise ProtocolError(f"{self._name} lists no active pair at all")
        self._pairs = {instrument.symbol: instrument.venue_symbol for instrument in instruments}
        return instruments

    async def clock(self) -> VenueClock:
        """Return a clock set to the venue's time at the middle of the quickest of three round trips; `skew` is known then too."""
        _, middle_s, market_ns = min(await self._time_samples())
        return VenueClock(market_ns, middle_s, self._speed)

    async def measure_skew(self) -> ClockSkew:
        """Return how far our wall clock is from the venue's, and remember it as `skew`."""
        await self._time_samples()
        assert self.skew is not None
        return self.skew

    async def candles(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        """Return the closed candles with start_ns <= open_time < end_ns, oldest first, empty buckets included.

        Raises
        ------
        ConfigError
            If the venue does not list the symbol.
        """
        return await self.rest.candles(await self._pair(symbol), symbol, timeframe, start_ns, end_ns)

    async def stream(self, symbols: Sequence[str]) -> AsyncGenerator[FeedEvent]:
        """Yield the events of `stream_batches` one by one."""
        async with aclosing(self.stream_batches(symbols)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def stream_batches(self, symbols: Sequence[str]) -> AsyncGenerator[list[FeedEvent]]:
        """Yield what arrived together, for ever; close the iterator (`aclose`) or cancel its task to end.

        An outage shows as FeedStatus DISCONNECTED, its end (the new subscription is acknowledged) as CONNECTED, and
        whatever the venue refuses as ERROR, our key included, as do clocks more than a second apart. A venue that refuses to list
        its pairs is an outage as well.

        Raises
        ------
        ConfigError
            If the venue does not list a symbol.
        """
        delays, pairs = backoff_delays(self._rng), dict[str, str]()
        self._streams.append(pairs)
        watch = asyncio.create_task(self._watch_clocks())
        try:
            while not self._closed.is_set():
                heard_s: float | None = None  # since when the connection has brought something
                lost: list[FeedEvent] = []
                self._record.enter(Phase.CONNECTING)
                try:
                    if not pairs:
                        pairs.update({await self._pair(symbol): symbol for symbol in symbols})
                    async with aclosing(self._connection(pairs)) as batches:
                        async for batch in batches:
                            heard_s = heard_s or time.monotonic()
                            yield batch
                except (*LINK_ERRORS, ProtocolError, VenueError) as error:  # the latter two: no list of pairs
                    reason = f"{type(error).__name__}: {error}"
                    if self._key.gives_up(error):
                        log.error("%s: the API key was refused, going on without it", self._name)
                        lost.append(FeedStatus("ERROR", f"the API key was refused, going on without it: {reason}", time.time_ns()))
                if self._closed.is_set():
                    return
                self._lose(reason)
                yield [*lost, FeedStatus("DISCONNECTED", reason, time.time_ns())]
                if heard_s is not None and time.monotonic() - heard_s >= STABLE_S:
                    delays = backoff_delays(self._rng)
                await asyncio.sleep(next(delays))
        finally:
            watch.cancel()
            self._streams = [other for other in self._streams if other is not pairs]
            self._record.enter(Phase.DOWN)

    async def set_symbols(self, symbols: Sequence[str]) -> None:
        """Let every open stream carry `symbols` instead, without reconnecting.

        Raises
        ------
        ConfigError
            If the venue does not list a symbol; nothing has changed then.
        """
        wanted = {await self._pair(symbol): symbol for symbol in symbols}
        for pairs in self._streams:
            pairs.clear()
            pairs.update(wanted)
        for link in list(self._links):
            await self._tell(link, link.session.set_pairs(wanted, time.monotonic_ns()))

    async def request_book(self, symbol: str) -> None:
        """Ask for a fresh book snapshot of `symbol` on every open stream that carries it."""
        pair = await self._pair(symbol)
        for link in list(self._links):
            await self._tell(link, link.session.resubscribe(time.monotonic_ns(), pair))

    def counters(self) -> Mapping[str, int]:
        """Return what sockets and requests have met since the start."""
        state = self.state
        return {
            "malformed": state.protocol_errors,
            "connections": state.connections,
            "handovers": state.handovers,
            "channels_mute": state.mutes,
            "requests": self.rest.sent,
            "requests_failed": self.rest.failed,
            "requests_limited": self.rest.rate_limited,
        }

    async def aclose(self) -> None:
        """Close every socket and the REST client; streams end."""
        self._closed.set()
        for link in list(self._links):
            await link.close()
            link.report(FeedStatus("DISCONNECTED", "the venue was closed", time.time_ns()))
        await self._client.aclose()

    async def _connection(self, pairs: dict[str, str]) -> AsyncGenerator[list[FeedEvent]]:
        # From opening a socket to its loss; ends only by an exception or by being closed. A socket that grows old is
        # replaced without an outage: its successor is opened, both are left to run side by side for a moment, the old
        # one is read to the end of it, and what the successor then repeats is dropped.
        wake = asyncio.Event()
        relay = Relay(await self._open(pairs, wake))
        announced = False
        try:
            while True:
                await wake.wait()
                wake.clear()
                if self._closed.is_set():
                    raise TransportError("the venue was closed")
                error = relay.current.error  # looked at before taking, so that nothing that came before it is lost
                batch = relay.take(self.on_frame)
                if not announced and relay.current.session.is_acknowledged:
                    announced = True
                    self._record.enter(Phase.LIVE)
                    batch.insert(0, FeedStatus("CONNECTED", f"{len(pairs)} pairs", time.time_ns()))
                if batch:
                    yield batch
                await self._rotate(relay, pairs, wake, error)
        finally:
            for link in await relay.ended():
                await self._close(link)

    async def _rotate(self, relay: Relay, pairs: dict[str, str], wake: asyncio.Event, error: BaseException | None) -> None:
        # Replace a socket that is old; take the successor over early if the old one breaks while both run.
        now_s = time.monotonic()
        if relay.opening is not None and relay.opening.done():
            relay.take_opened(now_s, wake)
        if relay.successor is not None and relay.successor.error is not None:
            log.warning("%s: the new socket broke at once: %s", self._name, relay.successor.error)
            self._key.gives_up(relay.successor.error)
            await self._close(relay.drop_successor(now_s))
        if relay.can_hand_over(now_s) or (error is not None and relay.has_live_successor):
            self._record.handovers += 1
            await self._close(relay.current)
            relay.hand_over(self.on_frame)
            wake.set()
        elif error is not None:
            raise error
        elif relay.current.is_old and relay.successor is None and relay.opening is None and now_s >= relay.retry_s:
            relay.opening = asyncio.create_task(self._open(pairs, wake))
            relay.opening.add_done_callback(lambda _: wake.set())

    async def _open(self, pairs: dict[str, str], wake: asyncio.Event) -> Link:
        await self._budget.admit(CONNECT)
        try:
            socket = await connect(
                self._ws_url,
                additional_headers=self._headers(),
                compression=None,  # of frames of 200 bytes: more work at both ends than it saves on the way
                open_timeout=self._connect_timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=None,  # the session has the venue's own PING
                max_size=MAX_FRAME_BYTES,
                max_queue=MAX_QUEUE,
            )
        except InvalidStatus as error:
            if error.response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                await self._budget.pause(CONNECT, pause_s(next(iter(error.response.headers.get_all("Retry-After")), ""), time.time()))
            raise
        session = self._session(pairs)
        frames = session.connected(time.monotonic_ns())
        link = Link(socket, session, wake, self.on_frame is not None)
        self._links.add(link)
        self._record.connections += 1
        if self._record.phase is Phase.CONNECTING:
            self._record.enter(Phase.SUBSCRIBING)
        try:
            if self._closed.is_set():
                raise TransportError("the venue was closed meanwhile")
            await link.send(frames)
        except (asyncio.CancelledError, *LINK_ERRORS):
            await self._close(link)
            raise
        return link

    async def _close(self, link: Link) -> None:
        if link in self._links:
            self._links.discard(link)
            self._record.end(link.session)
        await link.close()

    async def _tell(self, link: Link, frames: Sequence[str]) -> None:
        try:
            await link.send(frames)
        except (ConnectionClosed, TimeoutError) as error:
            log.info("not told to a socket that is down, its successor starts with it: %s", error)

    def _session(self, pairs: dict[str, str]) -> TradeSession:
        return TradeSession(
            pairs,
            self._events,
            ping_interval_s=self._ping_interval_s,
            silence_timeout_s=self._silence_timeout_s,
            max_age_s=self._max_age_s,
        )

    def _headers(self) -> dict[str, str]:
        # The venue judges the stamp by its own clock.
        venue_ns = time.time_ns() + (self.skew.offset_ns if self.skew is not None else 0)
        return self._key.headers(urlsplit(self._ws_url).path, venue_ns)

    def _lose(self, reason: str) -> None:
        self._record.lose()
        down_s = self.state.down_s(time.time_ns())
        level = logging.ERROR if down_s > ALARM_DOWN_S else logging.WARNING
        log.log(level, "%s stream lost (down for %.0f s): %s", self._name, down_s, reason)

    async def _watch_clocks(self) -> None:
        # A venue that is away is somebody else's worry.
        while self._watches_clock:
            try:
                skew = self.skew if self._knows_skew() else await self.measure_skew()
            except (RetryableError, RejectedError) as error:
                log.info("%s: clock not compared: %s", self._name, error)
            else:
                if skew is not None and skew.is_alarming():
                    self._report(f"our clock is {-skew.offset_ns / NS_PER_S:+.3f} s from the venue's")
            await asyncio.sleep(SKEW_INTERVAL_S)

    def _knows_skew(self) -> bool:
        return self.skew is not None and 0 <= time.time_ns() - self.skew.measured_ns < SKEW_INTERVAL_S * NS_PER_S

    def _report(self, detail: str) -> None:
        log.error("%s: %s", self._name, detail)
        for link in self._links:
            link.report(FeedStatus("ERROR", detail, time.time_ns()))

    async def _pair(self, symbol: str) -> str:
        if symbol not in self._pairs:
            await self.instruments()
        pair = self._pairs.get(symbol)
        if pair is None:
            raise ConfigError(f"{self._name} does not list {symbol}")
        return pair

    async def _time_samples(self) -> list[tuple[float, float, int]]:
        # Seconds an answer took, monotonic seconds at its middle, and the venue's time then.
        samples, walls = [], []
        for _ in range(CLOCK_SAMPLES):
            market_ns, took_s = await self.rest.server_time()
            answered_s, answered_ns = time.monotonic(), time.time_ns()
            samples.append((took_s, answered_s - took_s / 2, market_ns))
            walls.append(TimeSample(answered_ns - int(took_s * NS_PER_S), answered_ns, market_ns))
        self.skew = clock_skew(walls)
        return samples

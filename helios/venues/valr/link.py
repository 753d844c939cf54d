"""One open socket with its session: a task that reads and a task that keeps it alive, so that a busy consumer costs neither.

The reader takes every frame that is there before anybody else runs, decodes it, and wakes the consumer once per burst.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from helios.domain.market import BookUpdate, Trade, VenueCandle
from helios.errors import TransportError
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.valr.events import Refused, ServerError
from helios.venues.valr.fields import NS_PER_S
from helios.venues.valr.session import TradeSession

log = logging.getLogger(__name__)

MIN_POLL_S = 0.05
SEND_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 0.5
HIGH_WATER = 16_384  # events kept for a slow consumer; then the socket's own buffers fill and the venue has to wait
SEEN_S = 10.0

Tap = Callable[[str | bytes, int], None]
_FEED_KINDS = frozenset((Trade, BookUpdate, VenueCandle))


class Link:
    """Reads a socket into `take()`; `error` says why it ended.

    Parameters
    ----------
    socket : ClientConnection
        Open; the link closes it.
    session : TradeSession
        Already told that it is connected.
    wake : asyncio.Event
        Set whenever there is something to take or to decide.
    is_tapped : bool
        Whether to keep the frames themselves for `take` as well.
    """

    def __init__(self, socket: ClientConnection, session: TradeSession, wake: asyncio.Event, is_tapped: bool = False) -> None:
        self.session = session
        self.error: BaseException | None = None
        self.is_old = False
        self.blocked = 0
        self.seen: set[tuple[str, str]] = set()  # what its predecessor yielded while both ran
        self._seen_until_s = time.monotonic() + SEEN_S
        self._socket = socket
        self._wake = wake
        self._events: list[FeedEvent] = []
        self._frames: list[tuple[bytes, int]] | None = [] if is_tapped else None
        self._room = asyncio.Event()
        self._is_blocked = False  # the reader waits for the consumer
        self._prod = asyncio.Event()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._keep_alive())]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def take(self, tap: Tap | None = None) -> list[FeedEvent]:
        """Return what has arrived since the last call, oldest first; `tap` hears of each frame before."""
        events, self._events = self._events, []
        self._room.set()
        if self._frames is not None:
            frames, self._frames = self._frames, []
            if tap is not None:
                for frame, arrived_ns in frames:
                    tap(frame, arrived_ns)
        return self._unseen(events) if self.seen else events

    def report(self, status: FeedStatus) -> None:
        """Put a status among the events."""
        self._events.append(status)
        self._wake.set()

    async def send(self, frames: Sequence[str]) -> None:
        """Send frames of the session.

        Raises
        ------
        ConnectionClosed, TimeoutError
            If the socket is gone, or takes nothing for 5 s.
        """
        for frame in frames:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._socket.send(frame)

    async def close(self) -> None:
        """End the tasks and the socket."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        receive, decode, wake = self._socket.recv, self.session.decode, self._wake
        monotonic_ns, time_ns = time.monotonic_ns, time.time_ns
        try:
            while True:
                frame = await receive(decode=False)  # does not suspend while frames are queued
                arrived_ns = time_ns()
                if self._frames is not None:
                    self._frames.append((frame, arrived_ns))
                event = decode(frame, monotonic_ns(), arrived_ns)
                if type(event) in _FEED_KINDS:
                    self._events.append(event)  # type: ignore[arg-type]
                    if len(self._events) >= HIGH_WATER:
                        await self._wait_for_room()
                else:
                    self._take_control(event)
                wake.set()
        except ConnectionClosed as error:
            self._fail(error)

    def _take_control(self, event: object) -> None:
        if isinstance(event, ServerError):
            self._events.append(FeedStatus("ERROR", event.message, time.time_ns()))
        elif isinstance(event, Refused):
            self._events.append(FeedStatus("ERROR", f"{event.type} {event.message}".rstrip(), time.time_ns()))
        if self.session.has_frames:
            self._prod.set()

    async def _wait_for_room(self) -> None:
        self._room.clear()
        self._wake.set()
        self.blocked += 1
        if self.blocked & (self.blocked - 1) == 0:  # the 1st, 2nd, 4th, 8th time
            log.warning("the consumer is behind: %d events wait (for the %d. time)", len(self._events), self.blocked)
        self._is_blocked = True
        await self._room.wait()
        self.session.heard(time.monotonic_ns())
        self._is_blocked = False

    async def _keep_alive(self) -> None:
        try:
            while True:
                now_ns = time.monotonic_ns()
                await self.send(self.session.due(now_ns))
                if not self.is_old and self.session.must_reconnect(now_ns):
                    self.is_old = True
                    self._wake.set()
                await self._wait(max(MIN_POLL_S, (self.session.next_wake(now_ns) - now_ns) / NS_PER_S))
        except (ConnectionClosed, TimeoutError, TransportError) as error:
            self._fail(error)

    async def _wait(self, wait_s: float) -> None:
        # Death is asked only after a wait in which the reader could run, so frames that queued up while the process was busy
        # count as signs of life; so does a consumer that is too slow to let the reader go on.
        try:
            async with asyncio.timeout(wait_s):
                await self._prod.wait()
                self._prod.clear()
        except TimeoutError:
            if not self._is_blocked and self.session.is_dead(time.monotonic_ns()):
                raise TransportError("the venue fell silent") from None

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Both run for ever; an error of our own must reach the consumer, not vanish with its task.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self._wake.set()

    def _unseen(self, events: list[FeedEvent]) -> list[FeedEvent]:
        unseen = [event for event in events if key_of(event) not in self.seen]
        if time.monotonic() >= self._seen_until_s:
            self.seen.clear()  # its predecessor has long been closed
        return unseen


def key_of(event: FeedEvent) -> tuple[str, str] | None:
    """Return the name of what must come once: a trade or a candle. Books repeat harmlessly, their first is a snapshot."""
    if isinstance(event, Trade):
        return event.symbol, event.trade_id
    if isinstance(event, VenueCandle):
        return event.symbol, f"{event.timeframe.value}:{event.open_time}"
    return None

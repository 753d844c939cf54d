"""How one socket takes over from another without an outage, a gap or a repetition."""

from __future__ import annotations

import asyncio
import logging

from websockets.exceptions import WebSocketException

from helios.errors import TransportError
from helios.venues.base import FeedEvent
from helios.venues.valr.link import Link, Tap, key_of

log = logging.getLogger(__name__)

OVERLAP_S = 1.0
LINK_ERRORS = (WebSocketException, OSError, TransportError)  # OSError includes TimeoutError


class Relay:
    """The socket being read, and the one that will take its place.

    Parameters
    ----------
    current : Link
        The first socket.
    """

    def __init__(self, current: Link) -> None:
        self.current = current
        self.successor: Link | None = None
        self.opening: asyncio.Task[Link] | None = None
        self.retry_s = 0.0
        self._hand_over_s = 0.0
        self._last_words: list[FeedEvent] = []
        self._recent: set[tuple[str, str]] = set()  # what was read since a successor began to listen

    @property
    def has_live_successor(self) -> bool:
        """Whether there is a second socket whose subscription is acknowledged."""
        return self.successor is not None and self.successor.session.is_acknowledged

    def take(self, tap: Tap | None) -> list[FeedEvent]:
        """Return what the socket being read has brought, and let its successor know it."""
        batch, self._last_words = self._last_words + self.current.take(tap), []
        if self.opening is not None or self.successor is not None:
            self._recent.update(key for event in batch if (key := key_of(event)) is not None)
        return batch

    def can_hand_over(self, now_s: float) -> bool:
        """Return whether both have run side by side for long enough."""
        return self.has_live_successor and now_s >= self._hand_over_s

    def take_opened(self, now_s: float, wake: asyncio.Event) -> None:
        """Let the socket just opened run beside the current one; `wake` is set when there is something to decide again.

        An old socket is good for a minute more, so that failing to open its successor is no outage yet.
        """
        assert self.opening is not None
        task, self.opening = self.opening, None
        error = task.exception()
        if error is None:
            self.successor = task.result()
            self.successor.seen = self._recent  # one set: it goes on growing until the hand-over
            self._hand_over_s = now_s + OVERLAP_S
        elif isinstance(error, LINK_ERRORS):
            log.warning("no successor for an ageing socket yet: %s", error)
            self.retry_s = now_s + OVERLAP_S
            self._recent = set()
        else:
            raise error
        asyncio.get_running_loop().call_later(OVERLAP_S, wake.set)

    def hand_over(self, tap: Tap | None) -> None:
        """Read the successor from now on; the current socket must be closed."""
        assert self.successor is not None
        self._last_words = self.take(tap)  # what came while the old socket was being closed
        self.current, self.successor = self.successor, None
        self._recent = set()

    def drop_successor(self, now_s: float) -> Link:
        """Give the successor up and return it to be closed."""
        assert self.successor is not None
        dropped, self.successor, self.retry_s = self.successor, None, now_s + OVERLAP_S
        self._recent = set()
        return dropped

    async def ended(self) -> list[Link]:
        """Stop opening and return what is open."""
        links = [link for link in (self.current, self.successor) if link is not None]
        if self.opening is not None:
            self.opening.cancel()
            links += [link for link in await asyncio.gather(self.opening, return_exceptions=True) if isinstance(link, Link)]
        return links

"""A client of the trade socket and what waits to be sent to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from helios.venues.sandbox.subscriptions import Subscriptions

SLOW_CLIENT = 1008


class Client:
    """A connected trade socket: what it wants and what waits to be sent."""

    def __init__(
        self, connection: ServerConnection, pairs: list[str], queue_frames: int, now_s: float, is_authenticated: bool = False
    ) -> None:
        self.subscriptions = Subscriptions(pairs)
        self.is_authenticated = is_authenticated
        self.connected_s = self.heard_s = now_s
        self.is_slow = False
        self._was_slow = False
        self._connection = connection
        self._frames: deque[tuple[bytes, float]] = deque()
        self._queue_frames = queue_frames
        self._ready = asyncio.Event()

    def offer(self, frame: bytes, pause_s: float = 0.0) -> None:
        """Queue a frame, sent after a pause; a client that is too far behind is marked slow and gets nothing more."""
        if len(self._frames) >= self._queue_frames:
            self.is_slow = True
            self._frames.clear()
        if not self.is_slow:
            self._frames.append((frame, pause_s))
        self._ready.set()

    async def write(self) -> None:
        """Send what is queued until the connection ends."""
        with contextlib.suppress(ConnectionClosed):
            while not self.is_slow:
                await self._ready.wait()
                self._ready.clear()
                while self._frames and not self.is_slow:
                    frame, pause_s = self._frames.popleft()
                    if pause_s > 0.0:
                        await asyncio.sleep(pause_s)
                    await self._connection.send(frame, text=True)
            await self._connection.close(SLOW_CLIENT, "too slow")

    def reap(self) -> None:
        """Drop a slow client that its writer cannot close because the peer reads nothing; call now and then."""
        if self._was_slow:
            self.cut()
        self._was_slow = self.is_slow

    def cut(self) -> None:
        """Drop the connection without a close frame, as the venue does with idle sockets."""
        self._connection.transport.abort()

    async def close(self, reason: str, code: int = 1001) -> None:
        """Close the connection."""
        await self._connection.close(code, reason)

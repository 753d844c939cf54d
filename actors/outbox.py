"""Outbox: what the recorder is to be told, in order, and told again where it died before it had written it.

Recorder away or slow: messages wait here, bounded by their rows; beyond the bound the oldest are lost, counted. Recorder dead: it
takes what it had not written yet with it. So the newest messages are kept after they were taken, and its successor, which is
recognised by its name, is told them again: the database keeps each row once, however often it comes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from helios.errors import RetryableError
from helios.logs import get_logger

ROWS_WAITING = 20_000
ROWS_KEPT = 5_000
RETRY_S = 0.5
MAX_TRIES = 120  # of one message; a recorder that takes none of that for a minute may do better with the next


@dataclass(frozen=True, slots=True)
class Message:
    """A method of the recorder, its arguments, and how many rows they bring."""

    method: str
    arguments: tuple[Any, ...]
    n_rows: int


class _Queue:
    # Messages with their rows counted.
    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.n_rows = 0

    def append(self, message: Message) -> None:
        self.messages.append(message)
        self.n_rows += message.n_rows

    def popleft(self) -> Message:
        message = self.messages.popleft()
        self.n_rows -= message.n_rows
        return message


class Outbox:
    """Messages to one recorder.

    Parameters
    ----------
    name : str
        Whose outbox this is, for the log.
    send : callable
        Awaited with a message; returns the name of the recorder's incarnation that took it, and raises RetryableError where it
        may not have been taken.
    rows_waiting, rows_kept : int
        Bounds of what waits, and of what is kept after it was taken.

    Attributes
    ----------
    dropped : int
        Rows lost because the recorder was away for too long.
    faults : int
        Attempts that failed.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Message], Awaitable[str]],
        rows_waiting: int = ROWS_WAITING,
        rows_kept: int = ROWS_KEPT,
    ) -> None:
        self._log = get_logger(f"helios.{name}")
        self._send = send
        self._rows_waiting = rows_waiting
        self._rows_kept = rows_kept
        self._waiting = _Queue()
        self._taken = _Queue()
        self._incarnation = ""
        self._has_news = asyncio.Event()
        self.dropped = self.faults = 0

    @property
    def n_waiting(self) -> int:
        """Rows that were not taken yet."""
        return self._waiting.n_rows

    def put(self, method: str, *arguments: Any, n_rows: int) -> None:
        """Queue a message; the oldest are lost, and counted, while more rows wait than the bound."""
        self._waiting.append(Message(method, arguments, n_rows))
        while self._waiting.n_rows > self._rows_waiting and len(self._waiting.messages) > 1:
            self.dropped += self._waiting.popleft().n_rows
        self._has_news.set()

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            await self.deliver()

    async def deliver(self) -> None:
        """Deliver what waits, trying again until it was taken."""
        n_tries = 0
        while self._waiting.messages:
            message = self._waiting.messages[0]
            try:
                incarnation = await self._send(message)
            except RetryableError as error:
                self.faults += 1
                n_tries += 1
                if n_tries == 1:
                    self._log.warning("the recorder did not take %d rows yet: %s", self._waiting.n_rows, error)
                if n_tries >= MAX_TRIES:
                    self.dropped += self._waiting.popleft().n_rows
                    n_tries = 0
                await asyncio.sleep(RETRY_S)
                continue
            n_tries = 0
            if self._waiting.messages and self._waiting.messages[0] is message:  # else it fell out meanwhile, counted as lost
                self._waiting.popleft()
            self._note(message, incarnation)

    def _note(self, message: Message, incarnation: str) -> None:
        is_successor = self._incarnation not in ("", incarnation)
        self._incarnation = incarnation
        self._taken.append(message)
        if is_successor:
            self._repeat()
        while self._taken.n_rows > self._rows_kept and len(self._taken.messages) > 1:
            self._taken.popleft()

    def _repeat(self) -> None:
        # In their order, before what waits: a later word on the same row must stay the later one.
        self._log.warning("a new recorder: %d rows are told again", self._taken.n_rows)
        repeated, self._taken, waiting = self._taken, _Queue(), self._waiting
        self._waiting = _Queue()
        for message in (*repeated.messages, *waiting.messages):
            self._waiting.append(message)

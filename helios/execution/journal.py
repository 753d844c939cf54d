"""What is written where the ledger cannot be reached: exits before they go out, and results of orders already sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from helios.domain.orders import Fill, OrderRecord

JournalEntry = tuple[OrderRecord, tuple[Fill, ...]]


class ExitJournal(Protocol):
    """A durable append-only list beside the database. `append` must not return before the entry is safe."""

    async def append(self, record: OrderRecord, fills: Sequence[Fill]) -> None: ...

    async def entries(self) -> list[JournalEntry]:
        """Return everything appended and not dropped, oldest first."""
        ...

    async def drop(self, n_entries: int) -> None:
        """Forget the oldest `n_entries`: they are in the ledger."""
        ...


class MemoryJournal:
    """A journal that forgets with its process; for backtests and tests."""

    def __init__(self) -> None:
        self._entries: list[JournalEntry] = []

    async def append(self, record: OrderRecord, fills: Sequence[Fill]) -> None:
        """Keep one entry."""
        self._entries.append((record, tuple(fills)))

    async def entries(self) -> list[JournalEntry]:
        """Return the entries, oldest first."""
        return list(self._entries)

    async def drop(self, n_entries: int) -> None:
        """Forget the oldest entries."""
        del self._entries[:n_entries]

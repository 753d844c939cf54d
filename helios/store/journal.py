"""A journal on disk for orders that must not wait for the database: exits, and results of orders already sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from helios.domain.orders import Fill, OrderRecord
from helios.errors import InvariantError
from helios.execution.journal import JournalEntry

_ENTRY: TypeAdapter[JournalEntry] = TypeAdapter(JournalEntry)


class DiskJournal:
    """One JSON line per entry, synced to disk before `append` returns.

    A last line cut off by a crash was never acknowledged and is left out; damage anywhere else raises InvariantError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def append(self, record: OrderRecord, fills: Sequence[Fill]) -> None:
        """Keep one entry; it is on disk when this returns."""
        await asyncio.to_thread(self._append, _ENTRY.dump_json((record, tuple(fills))) + b"\n")

    async def entries(self) -> list[JournalEntry]:
        """Return everything appended and not dropped, oldest first."""
        return [_ENTRY.validate_json(line) for line in self._lines()]

    async def drop(self, n_entries: int) -> None:
        """Forget the oldest entries: they are in the ledger."""
        kept = self._lines()[n_entries:]
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as handle:
            handle.write(b"".join(line + b"\n" for line in kept))
            handle.flush()
            os.fsync(handle.fileno())  # else a power cut could leave the new name with nothing in it
        temporary.replace(self._path)

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as handle:
            handle.truncate(self._acknowledged())
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())

    def _acknowledged(self) -> int:
        # A fragment left by a crash must go first, or the next entry would be glued to it and lost with it.
        return self._path.read_bytes().rfind(b"\n") + 1

    def _lines(self) -> list[bytes]:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return []
        *complete, rest = raw.split(b"\n")
        for number, line in enumerate(complete, 1):
            try:
                _ENTRY.validate_json(line)
            except ValidationError:
                raise InvariantError(f"the exit journal {self._path} is damaged at line {number}") from None
        del rest  # without its newline the entry was not acknowledged
        return complete

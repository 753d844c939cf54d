"""Numbered, reversible schema changes: one file up and one down each, applied all or none."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from helios.errors import InvariantError

FOLDER = Path(__file__).parent / "migrations"
LOCK_KEY = 0x48454C494F53  # any number will do, as long as every Helios uses the same


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. `name` is the file name without endings, such as 0001_core."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """Hash of what `up` says, to notice a file that was changed after it was applied."""
        return hashlib.sha256(self.up.encode()).hexdigest()


def available(folder: Path = FOLDER) -> list[Migration]:
    """Return the migrations of `folder`, lowest first.

    Raises
    ------
    InvariantError
        If the numbers are not 1, 2, 3, ... or a file lacks its counterpart.
    """
    names = sorted(path.name.removesuffix(".up.sql") for path in folder.glob("*.up.sql"))
    downs = sorted(path.name.removesuffix(".down.sql") for path in folder.glob("*.down.sql"))
    if names != downs or any(not re.match(rf"{n:04d}_\w+$", name) for n, name in enumerate(names, 1)):
        raise InvariantError(f"migrations must be numbered pairs: up {names}, down {downs}")
    return [
        Migration(int(name[:4]), name, (folder / f"{name}.up.sql").read_text(), (folder / f"{name}.down.sql").read_text())
        for name in names
    ]


async def migrate(connection: asyncpg.Connection, target: int | None = None, folder: Path = FOLDER) -> list[str]:
    """Apply what is missing up to version `target` (None: all) in one transaction; return the names applied.

    Safe to call from many processes at once: they queue on an advisory lock and all but the first find nothing to do.

    Raises
    ------
    InvariantError
        If an applied migration differs from its file, or the database is newer than this program.
    """
    async with connection.transaction():
        applied = await _applied(connection)
        known = available(folder)
        _verify(known, applied)
        todo = [m for m in known if m.version not in applied and (target is None or m.version <= target)]
        for migration in todo:
            await connection.execute(migration.up)
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                migration.version, migration.name, migration.checksum,
            )  # fmt: skip
    return [m.name for m in todo]


async def downgrade(connection: asyncpg.Connection, target: int = 0, folder: Path = FOLDER) -> list[str]:
    """Undo applied migrations above version `target`, newest first, in one transaction; return the names undone.

    The data in the tables that go is lost.
    """
    async with connection.transaction():
        applied = await _applied(connection)
        known = available(folder)
        _verify(known, applied)
        todo = [m for m in reversed(known) if m.version in applied and m.version > target]
        for migration in todo:
            await connection.execute(migration.down)
            await connection.execute("DELETE FROM schema_migrations WHERE version = $1", migration.version)
    return [m.name for m in todo]


async def _applied(connection: asyncpg.Connection) -> dict[int, str]:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
        " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    rows = await connection.fetch("SELECT version, checksum FROM schema_migrations")
    return {row["version"]: row["checksum"] for row in rows}


def _verify(known: list[Migration], applied: dict[int, str]) -> None:
    checksums = {m.version: m.checksum for m in known}
    wrong = sorted(version for version, checksum in applied.items() if checksums.get(version) != checksum)
    if wrong:
        raise InvariantError(f"applied migrations {wrong} are unknown here or differ from their files")

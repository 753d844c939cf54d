"""The database of a run: embedded or given, one schema per kind of desk, migrated before anybody connects."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from helios.config import HeliosConfig, database_url
from helios.errors import StoreUnavailableError
from helios.store.embedded import EmbeddedPostgres
from helios.store.migrate import migrate

WATCH_INTERVAL_S = 1.0


@contextmanager
def database(state_dir: Path, say: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Yield (kind, dsn). The embedded server is started again when it dies, and stopped at the end."""
    given = database_url()
    if given is not None:
        yield "url", given
        return
    server = EmbeddedPostgres(state_dir / "postgres")
    dsn = server.start()
    ended = threading.Event()
    guard = threading.Thread(target=_keep_running, args=(server, ended, say), name="postgres-guard", daemon=True)
    guard.start()
    try:
        yield "embedded", dsn
    finally:
        ended.set()
        guard.join()
        server.stop()


def _keep_running(server: EmbeddedPostgres, ended: threading.Event, say: Callable[[str], None]) -> None:
    """Start the server again whenever it is gone: nobody else would, and no entry is sent without it."""
    told = ""
    while not ended.wait(WATCH_INTERVAL_S):
        if not server.is_gone:
            told = ""
            continue
        try:
            server.start()
            say("PostgreSQL was gone and runs again")
        except StoreUnavailableError as error:
            if str(error) != told:
                told = str(error)
                say(f"PostgreSQL is gone: {told}")


def schema_of(config: HeliosConfig, is_replay: bool) -> str:
    """Return the schema that keeps this kind of desk's account apart from the others'."""
    return "replay" if is_replay else f"desk_{config.venue.name}"


def with_schema(dsn: str, schema: str) -> str:
    """Return `dsn` with its tables in `schema`."""
    return f"{dsn}{'&' if '?' in dsn else '?'}search_path={schema}"


def prepare_schema(dsn: str, schema: str, fresh: bool) -> str:
    """Create and migrate `schema` (emptied first where `fresh`) and return the address that uses it.

    Raises
    ------
    StoreUnavailableError
        If the database cannot be reached.
    """
    asyncio.run(_prepare(dsn, schema, fresh))
    return with_schema(dsn, schema)


async def _prepare(dsn: str, schema: str, fresh: bool) -> None:
    try:
        connection = await asyncpg.connect(dsn, timeout=5, server_settings={"search_path": schema})
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise StoreUnavailableError(f"cannot reach the database: {type(error).__name__}: {error}") from None
    try:
        if fresh:
            await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await migrate(connection)
    finally:
        await connection.close()

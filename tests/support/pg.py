"""One embedded PostgreSQL for the whole session and a fresh, migrated database for each test module.

Import the fixtures in a conftest.py: `from tests.support.pg import pg_dsn, pg_pool, pg_server  # noqa: F401`.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from helios.store.embedded import EmbeddedPostgres
from helios.store.migrate import migrate
from helios.store.pool import connect

FAST = "fsync = off\n"
"""No test here cuts the power, so none needs to wait for the disk."""


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def migrate_dsn(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return await migrate(connection)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def pg_server() -> Iterator[EmbeddedPostgres]:
    """The session's server; stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="helios-test-pg-"))
    server = EmbeddedPostgres(folder / "data", settings=FAST)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pg_dsn(pg_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> str:
    """Address of a fresh database with the newest schema, named after the test module."""
    name = request.module.__name__.rsplit(".", 1)[-1]
    asyncio.run(execute(pg_server.dsn(), f'CREATE DATABASE "{name}"'))
    dsn = pg_server.dsn(name)
    asyncio.run(migrate_dsn(dsn))
    return dsn


@pytest_asyncio.fixture
async def pg_pool(pg_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the module's database, closed after each test."""
    pool = await connect(pg_dsn)
    yield pool
    await pool.close()

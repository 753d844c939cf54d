"""Connections: a pool with a jsonb codec, one place that says which errors mean "the database is away", and time stamps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import asyncpg
import orjson

from helios.errors import StoreUnavailableError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
JSONB_VERSION = b"\x01"
JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
T = TypeVar("T")

UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, killed by an administrator
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.InternalClientError,
    OSError,  # TimeoutError included
)
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, TypeError, OverflowError)
"""What a row is refused for that says something the database cannot hold, by the server or already by the client."""


def utc(ts_ns: int) -> datetime:
    """Return ns since 1970 as a time stamp, cut to the microsecond that PostgreSQL keeps."""
    return EPOCH + timedelta(microseconds=ts_ns // 1000)


def nanoseconds(moment: datetime) -> int:
    """Return a time stamp as ns since 1970; exact inverse of `utc` for whole microseconds."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def dump_json(value: Any) -> bytes:
    """Return JSON; Decimal as text so that no digit is lost, NaN as null.

    Characters that PostgreSQL cannot hold (NUL, halves of a surrogate pair) become U+FFFD: they come in text from outside, such
    as a reviewer's reasoning, and must not cost the rest of what it belongs to.
    """
    try:
        text = orjson.dumps(value, default=_plain, option=JSON_OPTIONS)
    except orjson.JSONEncodeError:
        return orjson.dumps(_writable(value), default=_plain, option=JSON_OPTIONS)
    return orjson.dumps(_writable(value), default=_plain, option=JSON_OPTIONS) if b"\\u0000" in text else text


def writable(text: str) -> str:
    """Return the text with U+FFFD for the characters that PostgreSQL cannot hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


async def connect(dsn: str, *, max_size: int = 5, timeout_s: float = 5.0, check: bool = True) -> asyncpg.Pool:
    """Return a pool for `dsn` that opens connections as they are needed and replaces lost ones by itself.

    Parameters
    ----------
    max_size : int
        Connections this process may hold.
    timeout_s : float
        Limit of connecting and of each command.
    check : bool
        Ask the server once; without it a process can start while the database is away.

    Raises
    ------
    StoreUnavailableError
        If `check` and the server does not answer.
    """
    pool = asyncpg.create_pool(
        dsn, min_size=0, max_size=max_size, timeout=timeout_s, command_timeout=timeout_s * 2, init=_prepare,
        # A writer cut off in the middle of a transaction must not hold its locks: its successor waits for them.
        server_settings={"application_name": "helios", "idle_in_transaction_session_timeout": "5000", "timezone": "UTC"},
    )  # fmt: skip
    await pool
    if check:
        try:
            async with session(pool) as connection:
                await connection.execute("SELECT 1")
        except StoreUnavailableError:
            await pool.close()
            raise
    return pool


@asynccontextmanager
async def session(pool: asyncpg.Pool, acquire_timeout_s: float = 10.0) -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection; everything that means "the database is away" leaves as StoreUnavailableError."""
    try:
        async with pool.acquire(timeout=acquire_timeout_s) as connection:
            yield connection
    except UNAVAILABLE as error:
        if isinstance(error, ValueError):
            raise  # our own bad argument, which asyncpg's client files under interface errors
        raise StoreUnavailableError(f"database: {type(error).__name__}: {error}") from error


@asynccontextmanager
async def transaction(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection inside one transaction. StoreUnavailableError at its end may hide a commit that succeeded."""
    async with session(pool) as connection, connection.transaction():
        yield connection


async def retry(
    operation: Callable[[], Awaitable[T]],
    attempts: int,
    delay_s: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Run an idempotent operation until it succeeds or has met StoreUnavailableError `attempts` times."""
    for _ in range(attempts - 1):
        try:
            return await operation()
        except StoreUnavailableError:
            await sleep(delay_s)
    return await operation()


async def _prepare(connection: asyncpg.Connection) -> None:
    # Binary, because COPY accepts no text codecs; the leading byte is the format version of jsonb.
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: JSONB_VERSION + dump_json(value),
        decoder=lambda data: orjson.loads(data[1:]),
        format="binary",
    )


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return writable(value)
    if isinstance(value, dict):
        return {_writable(key): _writable(each) for key, each in value.items()}
    return [_writable(each) for each in value] if isinstance(value, list | tuple) else value


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"not JSON: {type(value).__name__}")

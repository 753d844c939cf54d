"""Buffers, errors and encodings of the store, without a server."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import asyncpg
import orjson
import pytest

from helios.domain.enums import Timeframe
from helios.domain.market import Bar
from helios.errors import InvariantError, RejectedError, StoreUnavailableError
from helios.store.embedded import MAX_SOCKET_PATH, SOCKET_NAME, EmbeddedPostgres, short_socket_dir
from helios.store.migrate import available
from helios.store.pool import dump_json, nanoseconds, retry, session, utc
from helios.store.recorder import BoundedBuffer, MarketRecorder, merge_bars


class BrokenPool:
    """A pool whose connections always fail with the given error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @asynccontextmanager
    async def _fail(self):
        raise self.error
        yield

    def acquire(self, timeout: float):
        return self._fail()


def bar(n: int, **values: float) -> Bar:
    return Bar("A/B", Timeframe.M1, n * Timeframe.M1.ns, **({"open": 1, "high": 2, "low": 0.5, "close": 1, "volume": 9} | values))


def test_the_oldest_fall_out_of_a_full_buffer_and_are_counted() -> None:
    buffer: BoundedBuffer[str] = BoundedBuffer(3)
    for n in range(5):
        buffer.put(n, str(n))
    assert (buffer.take(), buffer.dropped, len(buffer)) == ({2: "2", 3: "3", 4: "4"}, 2, 0)


def test_a_returned_batch_is_older_than_what_came_meanwhile_and_loses_to_it() -> None:
    buffer: BoundedBuffer[str] = BoundedBuffer(3)
    for n in (1, 2, 3):
        buffer.put(n, "old")
    batch = buffer.take()
    buffer.put(3, "new")
    buffer.put(4, "new")
    buffer.give_back(batch)
    assert (buffer.take(), buffer.dropped) == ({2: "old", 3: "new", 4: "new"}, 1)


@pytest.mark.parametrize("error", [
    OSError("refused"), TimeoutError(), FileNotFoundError(), asyncpg.ConnectionDoesNotExistError("gone"),
    asyncpg.InterfaceError("pool is closed"), asyncpg.CannotConnectNowError("starting"), asyncpg.AdminShutdownError("bye"),
    asyncpg.TooManyConnectionsError("full"), asyncpg.DiskFullError("full"),
])  # fmt: skip
async def test_an_outage_in_any_form_keeps_the_buffer(error: Exception) -> None:
    recorder = MarketRecorder(BrokenPool(error), candle_buffer=2)
    recorder.add_bars([bar(1), bar(2), bar(3)])
    assert not await recorder.flush()
    assert (recorder.pending, recorder.dropped_candles) == (2, 1)


class TypedInterfaceError(asyncpg.InterfaceError, ValueError):
    """What asyncpg's client raises for an argument it cannot encode."""


@pytest.mark.parametrize("error", [
    asyncpg.DataError("bad"), asyncpg.UniqueViolationError("twice"), RejectedError("no"), TypedInterfaceError("bad argument"),
    asyncpg.UndefinedTableError("no such table"),
])  # fmt: skip
async def test_our_own_mistakes_are_not_called_an_outage(error: Exception) -> None:
    with pytest.raises(type(error)):
        async with session(BrokenPool(error)):
            pass


@pytest.mark.parametrize("error", [RejectedError("no"), asyncpg.UndefinedTableError("no such table")])
async def test_a_flush_that_fails_for_no_row_of_its_own_keeps_them_all(error: Exception) -> None:
    recorder = MarketRecorder(BrokenPool(error))
    recorder.add_bars([bar(1), bar(2)])
    with pytest.raises(type(error)):
        await recorder.flush()
    assert (recorder.pending, recorder.refused) == (2, 0)


async def test_retry_gives_up_after_its_attempts() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    results: list[str] = ["second"]

    async def operation() -> str:
        if len(waits) < 1:
            raise StoreUnavailableError("away")
        return results.pop()

    assert await retry(operation, 3, 0.5, sleep) == "second"
    assert waits == [0.5]

    async def never() -> None:
        raise StoreUnavailableError("away")

    with pytest.raises(StoreUnavailableError):
        await retry(never, 3, 1.0, sleep)
    assert waits == [0.5, 1.0, 1.0]


def test_a_repeated_bar_keeps_what_only_the_first_knew() -> None:
    merged = merge_bars(bar(1, spread_bps=3.0, close=1.0), bar(1, close=1.5))
    assert (merged.close, merged.spread_bps) == (1.5, 3.0)
    assert math.isnan(merged.depth_log)


def test_features_must_be_ninety() -> None:
    with pytest.raises(ValueError, match="90"):
        MarketRecorder(BrokenPool(OSError())).add_features("A/B", 1, [0.0] * 30)


def test_json_keeps_every_digit_of_money_and_makes_nan_null() -> None:
    text = dump_json({"price": Decimal("0.10000000000000000001"), "x": math.nan, "n": (1, 2)})
    assert orjson.loads(text) == {"price": "0.10000000000000000001", "x": None, "n": [1, 2]}


def test_text_that_the_database_cannot_hold_is_marked_and_the_rest_kept() -> None:
    outside = {"reasoning": "up\0and\ud800down", "more": ["\udc00", ("fine \U0001f600", 1)]}
    assert orjson.loads(dump_json(outside)) == {
        "reasoning": "up\ufffdand\ufffddown", "more": ["\ufffd", ["fine \U0001f600", 1]],
    }  # fmt: skip
    said = {"path": "C:\\u0000", "text": "a backslash and u0000: \\u0000"}
    assert orjson.loads(dump_json(said)) == said
    assert orjson.loads(dump_json(said | {"z": "\0"})) == said | {"z": "\ufffd"}


@pytest.mark.parametrize("ts_ns", [0, 1_750_000_000_123_456_000, 4_102_444_799_999_999_000])
def test_time_stamps_are_exact_to_the_microsecond(ts_ns: int) -> None:
    assert nanoseconds(utc(ts_ns)) == ts_ns
    assert nanoseconds(utc(ts_ns + 999)) == ts_ns


def test_socket_directories_are_short_stable_and_differ() -> None:
    deep = Path("/" + "x" * 300)
    assert short_socket_dir(deep) == short_socket_dir(deep) != short_socket_dir(deep / "y")
    assert len(str(short_socket_dir(deep) / SOCKET_NAME)) <= MAX_SOCKET_PATH


@pytest.mark.parametrize("text", ["", "1\n", "999999999\n/d\n0\n5432\n/d\n\n1 1\nready\n", "no number\nready\n"])
def test_a_pid_file_without_a_live_server_is_not_running(tmp_path: Path, text: str) -> None:
    (tmp_path / "postmaster.pid").write_text(text)
    assert not EmbeddedPostgres(tmp_path).is_running


def test_migrations_must_be_numbered_pairs(tmp_path: Path) -> None:
    assert [m.version for m in available()] == list(range(1, len(available()) + 1))
    (tmp_path / "0001_a.up.sql").write_text("SELECT 1")
    with pytest.raises(InvariantError):
        available(tmp_path)
    (tmp_path / "0001_a.down.sql").write_text("SELECT 1")
    (tmp_path / "0003_b.up.sql").write_text("SELECT 1")
    (tmp_path / "0003_b.down.sql").write_text("SELECT 1")
    with pytest.raises(InvariantError):
        available(tmp_path)

"""Market data on its way to the database: bounded buffers in memory, written in batches, each row exactly once.

While the database is away the buffers grow to their bounds and then lose their oldest rows, counted. A row that the database
refuses for what it says (no text, a number out of range) is left out, counted and logged: it must not hold up all the others.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import asyncpg
import numpy as np
from numpy.typing import NDArray

from helios.domain.enums import Side, Timeframe
from helios.domain.market import BAR_VALUES, Bar, MarketSnapshot, Trade
from helios.errors import StoreUnavailableError
from helios.store.market_tables import BOOKS, CANDLES, FEATURES, REVISIONS, TRADES, Table, copy_rows
from helios.store.pool import REFUSED, nanoseconds, session, transaction, utc

log = logging.getLogger(__name__)

FEATURES_PER_ROW = 90
DAY_NS = 86_400 * 1_000_000_000
TABLES = (CANDLES, REVISIONS, TRADES, BOOKS, FEATURES)  # in the order of `MarketRecorder._buffers`
RETENTION_TIMEOUT_S = 300.0  # of each table; the first run on an old database has years to delete
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Retention:
    """Days to keep; candles two years. Orders, fills and decisions are kept for ever."""

    candles_days: int = 730
    trades_days: int = 90
    books_days: int = 7
    features_days: int = 90
    events_days: int = 90


class BoundedBuffer(Generic[V]):
    """The newest `bound` values by key, in order of arrival; `dropped` counts those that fell out at the old end."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._rows: dict[Any, V] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to write without waiting for the usual moment."""
        return 2 * len(self._rows) >= self._bound

    def put(self, key: object, value: V) -> None:
        """Add or replace; the oldest value falls out beyond the bound."""
        self._rows[key] = value
        self._trim()

    def get(self, key: object) -> V | None:
        """Return the buffered value of `key`."""
        return self._rows.get(key)

    def take(self) -> dict[Any, V]:
        """Hand everything out and be empty."""
        rows, self._rows = self._rows, {}
        return rows

    def give_back(self, rows: dict[Any, V]) -> None:
        """Put a batch that could not be written before what came in meanwhile."""
        self._rows = {**rows, **self._rows}
        self._trim()

    def _trim(self) -> None:
        while len(self._rows) > self._bound:
            del self._rows[next(iter(self._rows))]
            self.dropped += 1


class MarketRecorder:
    """Writer and reader of market history.

    Parameters
    ----------
    pool : asyncpg.Pool
        From `helios.store.pool.connect`; with `check=False` it may be made while the database is away.
    candle_buffer, trade_buffer : int
        Rows held while the database is away. Feature rows and books are held to the bound of the candles.
    monotonic : callable
        Seconds, for the age of the last success.

    Attributes
    ----------
    written, refused, failures : int
        Rows written, rows the database would not take, and flushes in a row or not that found it away.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        candle_buffer: int = 10_000,
        trade_buffer: int = 1_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._succeeded_s = monotonic()
        self.written = self.refused = self.failures = 0
        self._bars: BoundedBuffer[Bar] = BoundedBuffer(candle_buffer)
        self._revisions: BoundedBuffer[Bar] = BoundedBuffer(candle_buffer)
        self._trades: BoundedBuffer[Trade] = BoundedBuffer(trade_buffer)
        self._books: BoundedBuffer[MarketSnapshot] = BoundedBuffer(candle_buffer)
        self._features: BoundedBuffer[tuple[str, int, list[float]]] = BoundedBuffer(candle_buffer)
        self._flushing = asyncio.Lock()

    @property
    def dropped_candles(self) -> int:
        """Candles lost because the buffer was full."""
        return self._bars.dropped

    @property
    def dropped_trades(self) -> int:
        """Trades lost because the buffer was full."""
        return self._trades.dropped

    @property
    def dropped(self) -> int:
        """Rows of any kind lost because a buffer was full."""
        return sum(buffer.dropped for buffer in self._buffers())

    @property
    def pending(self) -> int:
        """Rows waiting to be written."""
        return sum(len(buffer) for buffer in self._buffers())

    @property
    def is_filling(self) -> bool:
        """Whether some buffer is at least half full: rows come faster than they are written."""
        return any(buffer.is_half_full for buffer in self._buffers())

    @property
    def down_s(self) -> float:
        """Seconds since the database last answered a flush."""
        return self._monotonic() - self._succeeded_s

    def counters(self) -> dict[str, float]:
        """Return what waits, what was written, what was refused and what was lost."""
        return {
            "buffered": self.pending,
            "dropped": self.dropped,
            "written": self.written,
            "refused": self.refused,
            "failures": self.failures,
            "seconds_since_success": round(self.down_s, 3),
        }

    def add_bars(self, bars: Iterable[Bar]) -> None:
        """Buffer closed bars. A bar seen before is updated; what the new one does not know keeps its old number."""
        for bar in bars:
            key = (bar.symbol, bar.timeframe, bar.open_time)
            before = self._bars.get(key)
            self._bars.put(key, bar if before is None else merge_bars(before, bar))

    def revise_bars(self, bars: Iterable[Bar]) -> None:
        """Buffer corrected bars; each replaces what was stored of it, unknown numbers included."""
        for bar in bars:
            self._revisions.put((bar.symbol, bar.timeframe, bar.open_time), bar)

    def add_trades(self, trades: Iterable[Trade]) -> None:
        """Buffer public trades; (symbol, trade id) is stored once."""
        for trade in trades:
            self._trades.put((trade.symbol, trade.trade_id), trade)

    def add_book(self, snapshot: MarketSnapshot) -> None:
        """Buffer a book of up to ten levels a side; (symbol, market time) is stored once."""
        self._books.put((snapshot.symbol, snapshot.ts_event), snapshot)

    def add_features(self, symbol: str, bar_time: int, values: Sequence[float] | NDArray[np.float32]) -> None:
        """Buffer the 90 features of one bar close (NaN where unknown).

        Raises
        ------
        ValueError
            If there are not 90.
        """
        if len(values) != FEATURES_PER_ROW:
            raise ValueError(f"{FEATURES_PER_ROW} features expected, not {len(values)}")
        self._features.put((symbol, bar_time), (symbol, bar_time, [float(v) for v in values]))

    async def flush(self) -> bool:
        """Write everything buffered in one transaction; False (and everything still buffered) while the database is away.

        Where it refuses a row, that one is left out and counted in `refused`.
        """
        async with self._flushing:
            buffers = self._buffers()
            batches = [buffer.take() for buffer in buffers]
            is_done = False
            try:
                n_refused = await self._write(batches)
                is_done = True
            except StoreUnavailableError:
                self.failures += 1
                return False
            finally:
                if not is_done:  # also when cancelled in the middle: writing twice is harmless, losing is not
                    for buffer, batch in zip(buffers, batches):
                        buffer.give_back(batch)
            self._succeeded_s = self._monotonic()
            self.refused += n_refused
            self.written += sum(len(batch) for batch in batches) - n_refused
            return True

    async def load_bars(self, symbol: str, timeframe: Timeframe, limit: int) -> list[Bar]:
        """Return the newest `limit` bars, oldest first."""
        query = (
            f"SELECT open_time, {', '.join(BAR_VALUES)} FROM candles WHERE symbol = $1 AND timeframe = $2"
            " ORDER BY open_time DESC LIMIT $3"
        )
        async with session(self._pool) as connection:
            rows = await connection.fetch(query, symbol, timeframe.value, limit)
        return [_to_bar(symbol, timeframe, row) for row in reversed(rows)]

    async def load_closes(self, symbol: str, timeframe: Timeframe, limit: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return open times (ns) and closes of the newest `limit` bars, oldest first; both of shape (n,)."""
        query = "SELECT open_time, close FROM candles WHERE symbol = $1 AND timeframe = $2 ORDER BY open_time DESC LIMIT $3"
        async with session(self._pool) as connection:
            rows = list(reversed(await connection.fetch(query, symbol, timeframe.value, limit)))
        times = np.array([nanoseconds(row["open_time"]) for row in rows], dtype=np.int64)
        return times, np.array([_number(row["close"]) for row in rows], dtype=np.float64)

    async def load_trades(self, symbol: str, limit: int) -> list[Trade]:
        """Return the newest `limit` public trades, oldest first."""
        query = "SELECT * FROM recent_trades WHERE symbol = $1 ORDER BY ts_ns DESC LIMIT $2"
        async with session(self._pool) as connection:
            rows = await connection.fetch(query, symbol, limit)
        return [
            Trade(r["symbol"], r["trade_id"], r["price"], r["quantity"], Side(r["taker_side"]), r["ts_ns"], r["ts_init_ns"])
            for r in reversed(rows)
        ]

    async def newest_ns(self) -> int | None:
        """Return the open time of the newest candle: market time as the data know it; None before there is one."""
        async with session(self._pool) as connection:
            newest = await connection.fetchval("SELECT max(open_time) FROM candles")
        return None if newest is None else nanoseconds(newest)

    async def apply_retention(self, now_ns: int, keep: Retention | None = None) -> dict[str, int]:
        """Delete what is older than its time and return the rows deleted per table. Idempotent; run it daily."""
        keep = keep or Retention()
        cuts: tuple[tuple[str, str, datetime | int], ...] = (
            ("candles", "open_time", utc(now_ns - keep.candles_days * DAY_NS)),
            ("recent_trades", "executed_at", utc(now_ns - keep.trades_days * DAY_NS)),
            ("book_snapshots", "taken_at", utc(now_ns - keep.books_days * DAY_NS)),
            ("feature_rows", "bar_time", utc(now_ns - keep.features_days * DAY_NS)),
            ("engine_events", "ts_ns", now_ns - keep.events_days * DAY_NS),
        )
        async with transaction(self._pool) as connection:
            answers = [
                (t, await connection.execute(f"DELETE FROM {t} WHERE {c} < $1", cut, timeout=RETENTION_TIMEOUT_S))
                for t, c, cut in cuts
            ]
        return {table: int(answer.removeprefix("DELETE ")) for table, answer in answers}

    def _buffers(self) -> tuple[BoundedBuffer[Any], ...]:
        return self._bars, self._revisions, self._trades, self._books, self._features

    async def _write(self, batches: list[dict[Any, Any]]) -> int:
        # Returns how many rows were refused.
        parts = [(table, list(batch.values())) for table, batch in zip(TABLES, batches, strict=True) if batch]
        if not parts:
            await self._probe()
            return 0
        try:
            await self._write_whole(parts)
        except REFUSED:
            return sum([await self._write_around(table, values) for table, values in parts])
        return 0

    async def _write_whole(self, parts: Sequence[tuple[Table, Sequence[Any]]]) -> None:
        async with transaction(self._pool) as connection:
            for table, values in parts:
                await copy_rows(connection, table, values)

    async def _write_around(self, table: Table, values: Sequence[Any]) -> int:
        # Half by half, down to the rows that are refused by themselves.
        try:
            await self._write_whole([(table, values)])
        except REFUSED as error:
            if len(values) == 1:
                log.error("the database refuses a row of %s: %r: %s", table.name, values[0], error)
                return 1
            middle = len(values) // 2
            return await self._write_around(table, values[:middle]) + await self._write_around(table, values[middle:])
        return 0

    # With nothing to write the answer should still say whether the database is there.
    async def _probe(self) -> None:
        async with session(self._pool) as connection:
            await connection.execute("SELECT 1")


def merge_bars(before: Bar, after: Bar) -> Bar:
    """Return `after` with its unknown numbers taken from `before`."""
    numbers = {name: getattr(before, name) if math.isnan(getattr(after, name)) else getattr(after, name) for name in BAR_VALUES}
    return Bar(after.symbol, after.timeframe, after.open_time, **numbers)


def _to_bar(symbol: str, timeframe: Timeframe, row: asyncpg.Record) -> Bar:
    return Bar(symbol, timeframe, nanoseconds(row["open_time"]), **{name: _number(row[name]) for name in BAR_VALUES})


def _number(value: float | None) -> float:
    return math.nan if value is None else value

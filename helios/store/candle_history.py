"""What the database holds of candles, as arrays: whole histories, for checks."""

from __future__ import annotations

import asyncpg
import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.market.merge import TimeArray
from helios.store.pool import session, utc

READ_TIMEOUT_S = 120.0  # two years of minutes are a million rows
_SERIES = "SELECT DISTINCT symbol, timeframe FROM candles ORDER BY 1, 2"
_ROWS = f"""
    SELECT (extract(epoch FROM open_time) * 1000000)::bigint AS open_us, {", ".join(BAR_VALUES)} FROM candles
    WHERE symbol = $1 AND timeframe = $2 AND open_time >= coalesce($3::timestamptz, '-infinity')
        AND open_time < coalesce($4::timestamptz, 'infinity') ORDER BY open_time"""


class StoredCandles:
    """Reads over a pool of `helios.store.pool.connect`. Any method may raise StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def series(self) -> list[tuple[str, Timeframe]]:
        """Return of which symbols and timeframes there are candles, by symbol, then by length."""
        known = {timeframe.value: timeframe for timeframe in Timeframe}
        async with session(self._pool) as connection:
            rows = await connection.fetch(_SERIES, timeout=READ_TIMEOUT_S)
        found = [(row["symbol"], known[row["timeframe"]]) for row in rows if row["timeframe"] in known]
        return sorted(found, key=lambda each: (each[0], each[1].seconds))

    async def bars(
        self, symbol: str, timeframe: Timeframe, start_ns: int | None = None, end_ns: int | None = None
    ) -> tuple[TimeArray, FloatArray]:
        """Return open times (n,), ns UTC, increasing, and bars (n, 13) in the order of BAR_VALUES, NaN where unknown."""
        limits = [None if ns is None else utc(ns) for ns in (start_ns, end_ns)]
        async with session(self._pool) as connection:
            rows = await connection.fetch(_ROWS, symbol, timeframe.value, *limits, timeout=READ_TIMEOUT_S)
        values = np.array([tuple(row) for row in rows], dtype=np.float64).reshape(len(rows), 1 + len(BAR_VALUES))
        open_times = np.array([row["open_us"] for row in rows], dtype=np.int64) * 1000
        return open_times, values[:, 1:]

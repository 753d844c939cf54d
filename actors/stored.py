"""What a restarted actor reads back from the store."""

from __future__ import annotations

import asyncpg
import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.pipeline.series import HOURS_OF_TURNOVER
from helios.store.pool import session, utc
from helios.store.recorder import MarketRecorder

# As `series.turnover_quote`: reported, else typical price times base volume.
TURNOVER = """
    SELECT sum(coalesce(quote_volume, (high + low + close) / 3 * volume)) FROM candles
    WHERE symbol = $1 AND timeframe = '1h' AND open_time >= $2 AND open_time < $3"""


async def closes_until(
    pool: asyncpg.Pool, symbol: str, timeframe: Timeframe, limit: int, until_ns: int
) -> tuple[np.ndarray, FloatArray]:
    """Return close times (ns) and closes of the newest stored bars that were closed by `until_ns`, oldest first."""
    opens, closes = await MarketRecorder(pool).load_closes(symbol, timeframe, limit)
    times = opens + timeframe.ns
    known = times <= until_ns
    return times[known], closes[known]


async def turnover_until(pool: asyncpg.Pool, symbol: str, until_ns: int) -> float:
    """Return the quote turnover of the stored hours that were closed within the thirty days up to `until_ns`; 0 without any."""
    end = until_ns // Timeframe.H1.ns * Timeframe.H1.ns
    async with session(pool) as connection:
        found = await connection.fetchval(TURNOVER, symbol, utc(end - HOURS_OF_TURNOVER * Timeframe.H1.ns), utc(end))
    return float(found or 0.0)

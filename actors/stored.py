"""What a restarted actor reads back from the store."""

from __future__ import annotations

import asyncpg
import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.store.recorder import MarketRecorder


async def closes_until(
    pool: asyncpg.Pool, symbol: str, timeframe: Timeframe, limit: int, until_ns: int
) -> tuple[np.ndarray, FloatArray]:
    """Return close times (ns) and closes of the newest stored bars that were closed by `until_ns`, oldest first."""
    opens, closes = await MarketRecorder(pool).load_closes(symbol, timeframe, limit)
    times = opens + timeframe.ns
    known = times <= until_ns
    return times[known], closes[known]

"""What `helios data check --stored` does: the quality report on the candles in a desk's database."""

from __future__ import annotations

import asyncpg

from helios.cli.queries import _answer
from helios.domain.enums import Timeframe
from helios.errors import DataError
from helios.market.quality import QualityReport, check_candles
from helios.store.candle_history import StoredCandles


def check_stored(
    state_dir: str | None, symbol: str | None, timeframe: Timeframe | None, start_ns: int | None, end_ns: int | None
) -> dict[str, QualityReport]:
    """Return a report per symbol and timeframe; raises DataError if there are no such candles.

    Bars are never called early: the database may be that of a sandbox, whose clock is not ours.
    """

    async def reports(pool: asyncpg.Pool) -> dict[str, QualityReport]:
        store = StoredCandles(pool)
        chosen = [(s, tf) for s, tf in await store.series() if symbol in (None, s) and timeframe in (None, tf)]
        if not chosen:
            raise DataError(
                f"the database has no {' '.join(each for each in (symbol, timeframe and timeframe.value) if each) or 'candles'}"
            )
        found = {}
        for name, length in chosen:
            open_times, bars = await store.bars(name, length, start_ns, end_ns)
            found[f"stored {name} {length.value}"] = check_candles(open_times, bars, length, start_ns=start_ns, end_ns=end_ns)
        return found

    return _answer(state_dir, reports)

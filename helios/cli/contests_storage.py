"""The work `storage` of `helios bench`: market data into a real PostgreSQL of its own, with its disk flushed at every commit.

The paced load is run once, while the work is prepared; its percentiles stand in the note.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from helios.cli.contest import Contest, Sizes
from helios.cli.contests import SEED
from helios.domain.enums import Side, Timeframe
from helios.domain.market import BAR_VALUES, Bar, Trade
from helios.store.embedded import EmbeddedPostgres
from helios.store.migrate import migrate
from helios.store.pool import connect, utc
from helios.store.recorder import MarketRecorder

START_NS = 20_000 * 86_400 * 1_000_000_000
SYMBOLS = tuple(f"S{i}/ZAR" for i in range(10))
BATCH = 1_000
CANDLES_PER_S, TRADES_PER_S = 1_000, 50
TICKS_PER_S = 10
MAX_LOAD_S = 20.0


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What a paced load met.

    Attributes
    ----------
    p50_ms, p95_ms, max_ms : float
        From the moment a batch is handed over to its commit; candles and trades of a batch are committed together.
    lost : int
        Rows handed over and not found in the database afterwards.
    """

    seconds: float
    candles: int
    trades: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    lost: int


def storage(sizes: Sizes) -> list[Contest]:
    """Candles and trades written, and candles read back."""
    desk = _Store()
    load = desk.run(paced_load(desk.pool, min(MAX_LOAD_S, sizes.stream_candles / 250)))
    note = (
        f"paced load of {load.seconds:.0f} s, {CANDLES_PER_S} candles and {TRADES_PER_S} trades a second: hand-over to commit"
        f" p50 {load.p50_ms:.1f} ms, p95 {load.p95_ms:.1f} ms, most {load.max_ms:.1f} ms; rows lost {load.lost}"
    )
    recorder, plain = MarketRecorder(desk.pool), count()
    bars, prints = _bars("W/ZAR"), _trades("W/ZAR")
    desk.run(_fill(recorder, "R/ZAR", 10 * BATCH))
    write_one_by_one = _work(desk, lambda: _executemany(desk.pool, [next(bars) for _ in range(BATCH)], f"P{next(plain)}/ZAR"))
    return [
        Contest(
            f"candles in batches of {BATCH}", "per s", BATCH, _work(desk, lambda: _write(recorder, bars, prints, BATCH, 0)),
            "asyncpg executemany", write_one_by_one, "both: insert or update, one commit",
        ),
        Contest("1,000 candles and 50 trades, one commit", "ms", 1, _work(desk, lambda: _write(recorder, bars, prints, 1_000, 50)),
                note=note),
        Contest("the last 1,000 of 10,000 candles", "ms", 1,
                _work(desk, lambda: recorder.load_bars("R/ZAR", Timeframe.M1, 1_000))),
    ]  # fmt: skip


async def paced_load(pool: asyncpg.Pool, seconds: float) -> LoadFigures:
    """Hand over a tenth of a second's candles (10 symbols) and trades at a time, at their pace, and count what arrived."""
    recorder = MarketRecorder(pool)
    bars, prints = {s: _bars(s) for s in SYMBOLS}, _trades(SYMBOLS[0])
    latencies, n_ticks = [], max(1, round(seconds * TICKS_PER_S))
    start = time.perf_counter()
    for tick in range(n_ticks):
        await asyncio.sleep(max(0.0, start + tick / TICKS_PER_S - time.perf_counter()))
        handed_over = time.perf_counter()
        recorder.add_bars(next(bars[s]) for s in SYMBOLS for _ in range(CANDLES_PER_S // TICKS_PER_S // len(SYMBOLS)))
        recorder.add_trades(next(prints) for _ in range(TRADES_PER_S // TICKS_PER_S))
        await recorder.flush()
        latencies.append((time.perf_counter() - handed_over) * 1e3)
    candles, trades = n_ticks * CANDLES_PER_S // TICKS_PER_S, n_ticks * TRADES_PER_S // TICKS_PER_S
    stored = await pool.fetchval(
        "SELECT (SELECT count(*) FROM candles WHERE symbol = ANY($1)) + (SELECT count(*) FROM recent_trades WHERE symbol = ANY($1))",
        list(SYMBOLS),
    )
    p50, p95, most = np.percentile(latencies, (50, 95, 100)).tolist()
    return LoadFigures(time.perf_counter() - start, candles, trades, p50, p95, most, candles + trades - stored)


class _Store:
    # A server with an empty, migrated database, a loop and a pool, until the process ends.
    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="helios-bench-"))
        self._server = EmbeddedPostgres(self._folder / "postgres")
        self._runner = asyncio.Runner()
        atexit.register(self._close)
        self.pool = self.run(self._open(self._server.start()))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    async def _open(self, dsn: str) -> asyncpg.Pool:
        pool = await connect(dsn)
        async with pool.acquire() as connection:
            await migrate(connection)
        return pool

    def _close(self) -> None:
        self.run(self.pool.close())
        self._runner.close()
        self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _work(store: _Store, make: Callable[[], Awaitable[object]]) -> Callable[[], object]:
    async def run() -> object:
        return await make()

    return lambda: store.run(run())


async def _write(recorder: MarketRecorder, bars: Any, prints: Any, n_bars: int, n_trades: int) -> None:
    recorder.add_bars(next(bars) for _ in range(n_bars))
    recorder.add_trades(next(prints) for _ in range(n_trades))
    await recorder.flush()


async def _fill(recorder: MarketRecorder, symbol: str, n_bars: int) -> None:
    bars = _bars(symbol)
    recorder.add_bars(next(bars) for _ in range(n_bars))
    await recorder.flush()


async def _executemany(pool: asyncpg.Pool, bars: list[Bar], symbol: str) -> None:
    names = ", ".join(f'"{name}"' for name in BAR_VALUES)
    places = ", ".join(f"${i}" for i in range(1, 4 + len(BAR_VALUES)))
    updates = ", ".join(f'"{name}" = excluded."{name}"' for name in BAR_VALUES)
    query = (
        f"INSERT INTO candles (symbol, timeframe, open_time, {names}) VALUES ({places})"
        f" ON CONFLICT (symbol, timeframe, open_time) DO UPDATE SET {updates}"
    )
    rows = [(symbol, b.timeframe.value, utc(b.open_time), *(getattr(b, name) for name in BAR_VALUES)) for b in bars]
    async with pool.acquire() as connection, connection.transaction():
        await connection.executemany(query, rows)


def _bars(symbol: str) -> Any:
    rng = np.random.default_rng(SEED)
    for n in count():
        close = 100.0 + float(rng.standard_normal())
        yield Bar(symbol, Timeframe.M1, START_NS + n * Timeframe.M1.ns, close, close + 1, close - 1, close, 5.0,
                  500.0, 12.0, 2.5, 3.0, 0.1, 11.0, 0.2, 0.3)  # fmt: skip


def _trades(symbol: str) -> Any:
    for n in count():
        yield Trade(symbol, f"t{n}", 100.0 + n % 7, 0.5, Side.BUY, START_NS + n * 20_000_000, START_NS)

"""RecorderActor: market data and decision traces into PostgreSQL, in batches.

Database away: candles and trades wait in bounded buffers (the oldest are dropped beyond the bound, and counted); traces wait too
and are written, once each, when it is back. Killed: what was not flushed comes back from the venue (candles) or is lost (at most
one flush interval of features); traces are written before the cycle goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import asyncpg
import numpy as np

from actors.base import DeskSpec, HeliosActor
from helios.domain.decisions import DecisionTrace, VolatilityForecast
from helios.domain.events import EngineEvent
from helios.domain.market import Bar, MarketSnapshot, Trade
from helios.domain.orders import AccountSnapshot
from helios.errors import RetryableError
from helios.features.definitions import FEATURE_NAMES, FLOW_BOOK_COLUMNS
from helios.pipeline.trace import number
from helios.store.engine_store import EngineStore
from helios.store.pool import connect
from helios.store.recorder import MarketRecorder
from helios.store.traces import PostgresTraces

TRACES_KEPT = 20_000


class RecorderActor(HeliosActor):
    """Write what the desk saw and decided."""

    name = "recorder"

    def __init__(self, spec: DeskSpec) -> None:
        super().__init__(spec)
        self._pool: asyncpg.Pool | None = None
        self._market: MarketRecorder | None = None
        self._traces: PostgresTraces | None = None
        self._engine: EngineStore | None = None
        self._waiting: deque[tuple[list[DecisionTrace], list[VolatilityForecast]]] = deque()
        self._writing = asyncio.Lock()
        self._flow: dict[str, dict[str, float | None]] = {}
        self.candles = 0
        self.feature_rows = 0
        self.trades = 0
        self.traces_written = 0
        self.outages = 0

    async def on_start(self) -> None:
        store = self.config.store
        self._pool = await connect(self.spec.dsn, max_size=3)
        self._market = MarketRecorder(self._pool, store.candle_buffer, store.trade_buffer)
        self._traces = PostgresTraces(self._pool)
        self._engine = EngineStore(self._pool)
        self.spawn(self._flush(), "flush")

    async def add_trades(self, trades: Sequence[Trade]) -> None:
        """Buffer public prints."""
        await self.ready()
        assert self._market is not None
        self._market.add_trades(trades)
        self.trades += len(trades)

    async def add(
        self,
        bars: Sequence[Bar],
        rows: Sequence[tuple[str, int, np.ndarray]],
        books: Sequence[MarketSnapshot] = (),
    ) -> None:
        """Buffer closed bars, feature rows of shape (3, 30), and books at decision closes."""
        await self.ready()
        assert self._market is not None
        self._market.add_bars(bars)
        self.candles += len(bars)
        for book in books:
            self._market.add_book(book.symbol, book)
        for symbol, bar_time, values in rows:
            self._market.add_features(symbol, bar_time, values.reshape(-1))
            self.feature_rows += 1
            self._flow[symbol] = {FEATURE_NAMES[i]: number(float(values[0, i])) for i in FLOW_BOOK_COLUMNS}

    async def record_traces(self, traces: list[DecisionTrace], forecasts: list[VolatilityForecast]) -> None:
        """Store decision traces, once each; while the database is away they wait here."""
        await self.ready()
        self._waiting.append((traces, forecasts))
        while len(self._waiting) > TRACES_KEPT:
            self._waiting.popleft()
            self.faults += 1
        await self._write_traces()

    async def record_event(self, event: EngineEvent) -> None:
        """Store an engine event; logged and dropped while the database is away."""
        await self.ready()
        assert self._engine is not None
        try:
            await self._engine.add_event(event)
        except RetryableError as error:
            self.log.warning("event not stored: %s", error, extra={"kind": event.kind})

    async def record_equity(self, snapshot: AccountSnapshot) -> None:
        """Store a point of the equity curve."""
        await self.ready()
        assert self._engine is not None
        try:
            await self._engine.add_equity(snapshot)
        except RetryableError:
            self.outages += 1

    async def flush(self) -> None:
        """Write everything that waits."""
        await self.ready()
        assert self._market is not None
        await self._market.flush()
        await self._write_traces()

    async def _write_traces(self) -> None:
        assert self._traces is not None
        async with self._writing:
            while self._waiting:
                traces, forecasts = self._waiting[0]
                try:
                    await self._traces.record(traces, forecasts)
                except RetryableError as error:
                    self.outages += 1
                    self.log.warning("traces wait: %s", error, extra={"waiting": len(self._waiting)})
                    return
                self._waiting.popleft()
                self.traces_written += len(traces)

    async def _flush(self) -> None:
        interval_s = self.config.store.flush_interval_ms / 1e3
        while True:
            await asyncio.sleep(interval_s)
            assert self._market is not None
            if not await self._market.flush():
                self.outages += 1
                await asyncio.sleep(1.0)
            elif self._waiting:
                await self._write_traces()

    async def on_stop(self) -> None:
        if self._market is not None:
            await self._market.flush()
        if self._pool is not None:
            await self._pool.close()

    def details(self) -> dict[str, Any]:
        market = self._market
        return {
            "candles": self.candles,
            "feature_rows": self.feature_rows,
            "trades": self.trades,
            "decisions": self.traces_written,
            "flow_features": dict(self._flow),
            "traces_waiting": len(self._waiting),
            "outages": self.outages,
            "dropped_candles": market.dropped_candles if market else 0,
            "dropped_trades": market.dropped_trades if market else 0,
        }

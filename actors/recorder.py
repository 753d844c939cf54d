"""RecorderActor: market data and decision traces into PostgreSQL, in batches.

Database away: candles and trades wait in bounded buffers (the oldest are dropped beyond the bound, and counted); traces wait too
and are written, once each, when it is back; events and the equity curve wait as well. It is asked again every second, also when
it was away at the start. Away for over five minutes this component calls itself unhealthy. A row, decision or event that it
refuses for what it says is left out, counted and logged. Killed: the symbols' owners tell its
successor again what it took lately (see `outbox`); traces are written before the cycle goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import numpy as np

from actors.base import DeskSpec, HeliosActor
from actors.metrics import StoreMetrics
from helios.domain.decisions import DecisionTrace, VolatilityForecast
from helios.domain.events import EngineEvent
from helios.domain.market import Bar, MarketSnapshot, Trade
from helios.domain.orders import AccountSnapshot
from helios.errors import RetryableError
from helios.features.definitions import FEATURE_NAMES, FLOW_BOOK_COLUMNS
from helios.pipeline.trace import number
from helios.store.engine_store import EngineStore
from helios.store.pool import REFUSED, connect
from helios.store.recorder import DAY_NS, MarketRecorder
from helios.store.traces import PostgresTraces

TRACES_KEPT = 20_000
NOTES_KEPT = 5_000
RETRY_S = 1.0
ALERT_S = 300.0
"""Database away for longer: a person must look."""
RETENTION_CHECK_S = 5.0


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
        self._notes: deque[Callable[[], Awaitable[None]]] = deque()
        self._noting = asyncio.Lock()
        self._metrics: StoreMetrics | None = None
        self._is_alerting = False
        self._is_away = False
        self._market_ns = 0
        self._retained_day = 0
        self._flow: dict[str, dict[str, float | None]] = {}
        self.candles = 0
        self.revisions = 0
        self.feature_rows = 0
        self.trades = 0
        self.traces_written = 0
        self.outages = 0
        self.refused = 0  # decisions and events that the database would not take

    async def on_start(self) -> None:
        store = self.config.store
        self._pool = await connect(self.spec.dsn, max_size=3, check=False)
        self._market = MarketRecorder(self._pool, store.candle_buffer, store.trade_buffer)
        self._traces = PostgresTraces(self._pool)
        self._engine = EngineStore(self._pool)
        self._metrics = StoreMetrics()
        self.spawn(self._flush(), "flush")
        self.spawn(self._retention(), "retention")

    @property
    def incarnation(self) -> str:
        """What tells this recorder from its predecessor, who took with it what it had not written."""
        return f"{os.getpid()}:{self.born}"

    async def add_trades(self, trades: Sequence[Trade]) -> str:
        """Buffer public prints; a burst larger than the buffer is written in parts. Returns the incarnation."""
        await self.ready()
        assert self._market is not None
        part = max(1, self.config.store.trade_buffer // 2)
        for start in range(0, len(trades), part):
            self._market.add_trades(trades[start : start + part])
            await self._make_room()
        self.trades += len(trades)
        return self.incarnation

    async def add(
        self,
        bars: Sequence[Bar],
        rows: Sequence[tuple[str, int, np.ndarray]],
        books: Sequence[MarketSnapshot] = (),
        revised: Sequence[Bar] = (),
    ) -> str:
        """Buffer closed bars, feature rows of shape (3, 30), books at decision closes, and bars of before that were corrected.

        Returns the incarnation.
        """
        await self.ready()
        assert self._market is not None
        self._market.add_bars(bars)
        self._market.revise_bars(revised)
        self.candles += len(bars)
        self.revisions += len(revised)
        self._market_ns = max((bar.close_time for bar in bars), default=self._market_ns)
        for book in books:
            self._market.add_book(book)
        for symbol, bar_time, values in rows:
            self._market.add_features(symbol, bar_time, values.reshape(-1))
            self.feature_rows += 1
            self._flow[symbol] = {FEATURE_NAMES[i]: number(float(values[0, i])) for i in FLOW_BOOK_COLUMNS}
        await self._make_room()
        return self.incarnation

    async def _make_room(self) -> None:
        # Only an outage may fill the buffers to their bounds; a burst is written at once, and its sender waits.
        assert self._market is not None
        if self._market.is_filling and not self._is_away:
            await self._flush_once()

    async def record_traces(self, traces: list[DecisionTrace], forecasts: list[VolatilityForecast]) -> None:
        """Store decision traces, once each; while the database is away they wait here."""
        await self.ready()
        self._waiting.append((traces, forecasts))
        while len(self._waiting) > TRACES_KEPT:
            self._waiting.popleft()
            self.faults += 1
        await self._write_traces()

    async def record_event(self, event: EngineEvent) -> None:
        """Store an engine event; while the database is away it waits here."""
        await self.ready()
        engine = self._engine
        assert engine is not None
        await self._note(lambda: engine.add_event(event))

    async def record_equity(self, snapshot: AccountSnapshot) -> None:
        """Store a point of the equity curve; while the database is away it waits here."""
        await self.ready()
        engine = self._engine
        assert engine is not None
        await self._note(lambda: engine.add_equity(snapshot))

    async def _note(self, write: Callable[[], Awaitable[None]]) -> None:
        self._notes.append(write)
        while len(self._notes) > NOTES_KEPT:
            self._notes.popleft()
            self.faults += 1
        await self._write_notes()

    async def _write_notes(self) -> None:
        async with self._noting:
            while self._notes:
                try:
                    await self._notes[0]()
                except RetryableError as error:
                    self.outages += 1
                    self.log.warning("events wait: %s", error, extra={"waiting": len(self._notes)})
                    return
                except REFUSED as error:
                    self.refused += 1
                    self.log.error("the database refuses an event: %s", error)
                self._notes.popleft()

    async def flush(self) -> None:
        """Write everything that waits."""
        await self.ready()
        assert self._market is not None
        await self._market.flush()
        await self._write_traces()
        await self._write_notes()

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
                except REFUSED as error:
                    self._set_aside(traces, forecasts, error)
                    continue
                self._waiting.popleft()
                self.traces_written += len(traces)

    def _set_aside(self, traces: list[DecisionTrace], forecasts: list[VolatilityForecast], error: Exception) -> None:
        """Take a refused batch apart; what is refused alone is left out and counted, so that the others need not wait for ever."""
        self._waiting.popleft()
        singly = [([trace], []) for trace in traces] + [([], [forecast]) for forecast in forecasts]
        if len(singly) > 1:
            self._waiting.extendleft(reversed(singly))
            return
        self.refused += 1
        self.log.error("the database refuses a decision: %s", error, extra={"what": repr([*traces, *forecasts])})

    async def _flush(self) -> None:
        interval_s = self.config.store.flush_interval_ms / 1e3
        while True:
            await asyncio.sleep(interval_s)
            if not await self._flush_once():
                await asyncio.sleep(max(0.0, RETRY_S - interval_s))

    async def _flush_once(self) -> bool:
        assert self._market is not None
        away_s = self._market.down_s
        is_written = await self._market.flush()
        self._is_away = not is_written
        if is_written:
            if self._is_alerting:
                self._is_alerting = False
                self.log.warning("the database is back", extra={"away_s": round(away_s, 1)} | self._market.counters())
            await self._write_traces()
            await self._write_notes()
        else:
            self.outages += 1
            if self._market.down_s > ALERT_S and not self._is_alerting:
                self._is_alerting = True
                self.log.error("the database is away for over %.0f s: look after it", ALERT_S, extra=self._market.counters())
        if self._metrics is not None:
            self._metrics.observe(self._market.counters())
        return is_written

    async def _retention(self) -> None:
        while True:
            await asyncio.sleep(RETENTION_CHECK_S)
            await self._retain_once()

    async def _retain_once(self) -> None:
        """Delete what is past its time, once a day by the market's clock."""
        assert self._market is not None
        day = self._market_ns // DAY_NS
        if day <= self._retained_day:
            return
        try:
            deleted = await self._market.apply_retention(self._market_ns)
        except RetryableError as error:
            self.log.warning("nothing deleted yet: %s", error)
            return
        self._retained_day = day
        self.log.info("retention", extra={"deleted": deleted})

    async def on_stop(self) -> None:
        if self._market is not None:
            await self._market.flush()
        if self._pool is not None:
            await self._pool.close()

    def details(self) -> dict[str, Any]:
        market = self._market
        return {
            "candles": self.candles,
            "revisions": self.revisions,
            "feature_rows": self.feature_rows,
            "trades": self.trades,
            "decisions": self.traces_written,
            "flow_features": dict(self._flow),
            "traces_waiting": len(self._waiting),
            "notes_waiting": len(self._notes),
            "outages": self.outages,
            "is_away": self._is_away,
            "refused": self.refused,
            "healthy": not self._is_alerting,
            "store": market.counters() if market else {},
            "dropped_candles": market.dropped_candles if market else 0,
            "dropped_trades": market.dropped_trades if market else 0,
        }

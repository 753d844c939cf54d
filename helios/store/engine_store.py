"""The engine's persisted state, its events, runs and equity, and the questions the command line and the API ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import asyncpg

from helios.domain.enums import EngineState, TradingMode
from helios.domain.events import EngineEvent
from helios.domain.orders import AccountSnapshot
from helios.portfolio.daily import daily_figures
from helios.store.pool import session, utc, writable

INSERT_EQUITY = """
    INSERT INTO equity_snapshots (ts_ns, taken_at, equity_quote, cash_quote, realised_pnl_quote, unrealised_pnl_quote,
        fees_quote, drawdown, daily_loss, open_positions, funding_quote, transfers_quote)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (ts_ns) DO NOTHING"""
# One look into the primary key per day, however many points a day has. Days are counted in ns, so no time zone has a say.
DAILY_EQUITY = """
    WITH days AS (
        SELECT generate_series(newest - $1 + 1, newest) * 86400000000000 AS start_ns
        FROM (SELECT max(ts_ns) / 86400000000000 AS newest FROM equity_snapshots) AS found
    )
    SELECT p.* FROM days CROSS JOIN LATERAL (
        SELECT * FROM equity_snapshots e WHERE e.ts_ns >= days.start_ns AND e.ts_ns < days.start_ns + 86400000000000
        ORDER BY e.ts_ns DESC LIMIT 1
    ) AS p ORDER BY p.ts_ns"""

DAY_NS = 86_400_000_000_000
DAYS_BEFORE = 366
"""Also the first day shown has a day before it, from which its profit counts, and a Sharpe ratio."""


class EngineStore:
    """Persistence of the supervisor over a pool of `helios.store.pool.connect`; any method may raise StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def load_state(self) -> tuple[EngineState, TradingMode]:
        """Return the last saved state and mode; STOPPED and PAPER in a new database."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow("SELECT state, mode FROM engine_state")
        return EngineState(row["state"]), TradingMode(row["mode"])

    async def save_state(self, state: EngineState, mode: TradingMode) -> None:
        """Replace state and mode."""
        async with session(self._pool) as connection:
            await connection.execute("UPDATE engine_state SET state = $1, mode = $2, updated = now()", str(state), str(mode))

    async def start_run(self, run_id: str, config_digest: str, config: Mapping[str, Any], venue: str) -> None:
        """Note that a run began with this configuration; a known run id is left as it is."""
        query = "INSERT INTO runs (run_id, config_digest, config, venue) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
        async with session(self._pool) as connection:
            await connection.execute(query, run_id, config_digest, dict(config), venue)

    async def runs(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest runs, newest first."""
        return await self._rows("SELECT * FROM runs ORDER BY started_at DESC LIMIT $1", limit)

    async def add_event(self, event: EngineEvent) -> None:
        """Append an event."""
        query = "INSERT INTO engine_events (kind, severity, component, message, ts_ns, data) VALUES ($1, $2, $3, $4, $5, $6)"
        values = (event.kind, event.severity, event.component, writable(event.message), event.ts_event, event.data)
        async with session(self._pool) as connection:
            await connection.execute(query, *values)

    async def events(self, limit: int) -> list[EngineEvent]:
        """Return the newest events, newest first."""
        rows = await self._rows("SELECT * FROM engine_events ORDER BY seq DESC LIMIT $1", limit)
        return [
            EngineEvent(row["kind"], row["severity"], row["component"], row["message"], row["ts_ns"], row["data"]) for row in rows
        ]

    async def add_equity(self, snapshot: AccountSnapshot) -> None:
        """Append a point of the equity curve; one per market time."""
        s = snapshot
        values = (
            s.ts_event, utc(s.ts_event), s.equity_quote, s.cash_quote, s.realised_pnl_quote, s.unrealised_pnl_quote,
            s.fees_quote, s.drawdown, s.daily_loss, len(s.open_positions), s.funding_quote, s.transfers_quote,
        )  # fmt: skip
        async with session(self._pool) as connection:
            await connection.execute(INSERT_EQUITY, *values)

    async def equity_history(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest points of the equity curve, oldest first; money is Decimal."""
        rows = await self._rows("SELECT * FROM equity_snapshots ORDER BY ts_ns DESC LIMIT $1", limit)
        return rows[::-1]

    async def daily_equity(self, days: int) -> list[dict[str, Any]]:
        """Return the last point of each of the last `days` UTC days, the day of the newest point included, oldest first.

        Days without a point are missing, never made up. `helios.portfolio.daily.daily_figures` turns them into returns.
        """
        return await self._rows(DAILY_EQUITY, days)

    async def first_equity_ns(self) -> int | None:
        """Return the market time (ns UTC) of the oldest point of the equity curve; None without any."""
        async with session(self._pool) as connection:
            first: int | None = await connection.fetchval("SELECT min(ts_ns) FROM equity_snapshots")
        return first

    async def orders(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest orders, newest first."""
        return await self._rows("SELECT * FROM orders ORDER BY seq DESC LIMIT $1", limit)

    async def last_order_at(self, leg: str) -> int:
        """Return the market time (ns UTC) of the newest order of this leg that was not refused; 0 without any."""
        query = "SELECT max(ts_event) FROM orders WHERE leg = $1 AND status <> 'REJECTED'"
        async with session(self._pool) as connection:
            return int(await connection.fetchval(query, leg) or 0)

    async def load_upkeep(self) -> dict[str, Any] | None:
        """Return what `Upkeep.to_json` gave last; None before the first."""
        async with session(self._pool) as connection:
            saved: dict[str, Any] | None = await connection.fetchval("SELECT state FROM upkeep_state")
        return saved

    async def save_upkeep(self, state: Mapping[str, Any]) -> None:
        """Replace what tier 5 remembers between signals."""
        query = "INSERT INTO upkeep_state (state) VALUES ($1) ON CONFLICT (id) DO UPDATE SET state = $1, updated = now()"
        async with session(self._pool) as connection:
            await connection.execute(query, dict(state))

    async def fills(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest fills, newest first."""
        return await self._rows("SELECT * FROM fills ORDER BY seq DESC LIMIT $1", limit)

    async def account(self) -> dict[str, Any] | None:
        """Return the last saved account as plain JSON (money as text), or None before the first."""
        async with session(self._pool) as connection:
            snapshot: dict[str, Any] | None = await connection.fetchval("SELECT snapshot FROM account_state")
        return snapshot

    async def positions(self) -> list[dict[str, Any]]:
        """Return the positions of the last saved account as plain JSON (money as text)."""
        account = await self.account()
        return [] if account is None else list(account["positions"])

    async def _rows(self, query: str, limit: int) -> list[dict[str, Any]]:
        async with session(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(query, limit)]


async def daily_report(store: EngineStore, days: int) -> list[dict[str, Any]]:
    """Return `daily_figures` of the last `days` UTC days, oldest first; money is Decimal.

    The Sharpe ratio of a day is that of all days up to it, of which a year before the first shown is looked at.
    """
    points = await store.daily_equity(days + DAYS_BEFORE)
    first_ns = await store.first_equity_ns()
    is_from_start = bool(points) and first_ns is not None and first_ns // DAY_NS == points[0]["ts_ns"] // DAY_NS
    figures = daily_figures(points, is_from_start)
    return [asdict(line) for line in figures][-days:]

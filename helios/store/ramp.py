"""What the database knows of a step of the capital ramp: when it began and what happened since."""

from __future__ import annotations

import math
from decimal import Decimal

import asyncpg

from helios.portfolio.accounting import Account
from helios.risk.ramp import RampFacts
from helios.risk.trips import TripCode
from helios.store.ledger import PostgresLedger
from helios.store.pool import session

DAY_NS = 86_400 * 1_000_000_000
LOSSES = (TripCode.MAX_DRAWDOWN, TripCode.MAX_DAILY_LOSS, TripCode.MAX_DAILY_LOSS_QUOTE, TripCode.MAX_CONSECUTIVE_LOSSES)
EMERGENCY = "EMERGENCY_STOP_ACTIVATED"
# Runs know only the clock on the wall; the first decision or event of the step says what the market's was.
BEGAN = """
    WITH numbered AS (SELECT started_at, config -> 'risk' ->> 'ramp_step' AS step FROM runs),
    other AS (SELECT max(started_at) AS at FROM numbered WHERE step IS DISTINCT FROM $1),
    began AS (SELECT min(started_at) AS at FROM numbered WHERE started_at > coalesce((SELECT at FROM other), '-infinity'))
    SELECT least(
        (SELECT min(bar_time_ns) FROM decisions WHERE created_at >= (SELECT at FROM began)),
        (SELECT min(ts_ns) FROM engine_events WHERE created_at >= (SELECT at FROM began) AND ts_ns > 0)
    )"""
EQUITY = """
    SELECT count(DISTINCT ts_ns / 86400000000000) AS days, max(ts_ns) AS newest, max(drawdown) AS deepest
    FROM equity_snapshots WHERE ts_ns >= $1"""
# a release is an event of the same kind; it says when it came
EVENTS = """
    SELECT kind, count(*) AS n FROM engine_events
    WHERE ts_ns >= $1 AND kind = ANY($2::text[]) AND coalesce((data ->> 'released_at')::bigint, 0) = 0 GROUP BY kind"""


class PostgresRamp:
    """Reads over a pool of `helios.store.pool.connect`; any method may raise StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def facts(self, step: int) -> RampFacts | None:
        """Return what happened since the newest runs in a row that were at this step began; None where the last was at another."""
        async with session(self._pool) as connection:
            since = await connection.fetchval(BEGAN, str(step))
            if since is None:
                return None
            equity = await connection.fetchrow(EQUITY, since)
            found = await connection.fetch(EVENTS, since, [*(code.value for code in LOSSES), EMERGENCY])
        counts = {row["kind"]: int(row["n"]) for row in found}
        deepest = equity["deepest"]
        return RampFacts(
            since=int(since),
            days=min(float(equity["days"]), max(0.0, ((equity["newest"] or since) - since) / DAY_NS)),
            trades=await self._closed_since(int(since)),
            drawdown=math.nan if deepest is None else float(deepest),
            limits_broken=sum(counts.get(code.value, 0) for code in LOSSES),
            is_halted=counts.get(EMERGENCY, 0) > 0 or counts.get(TripCode.MAX_DRAWDOWN.value, 0) > 0,
        )

    async def _closed_since(self, since: int) -> int:
        fills = await PostgresLedger(self._pool).fills()
        account = Account(Decimal(0), 0, history_limit=len(fills) + 1)
        for record, fill in fills:
            account.apply(record, fill)
        return sum(trade.is_final and trade.closed_at >= since for trade in account.closed)

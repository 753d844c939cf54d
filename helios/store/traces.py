"""Decision traces: stored once, and asked why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import asyncpg

from helios.domain.decisions import DecisionTrace, VolatilityForecast
from helios.errors import RejectedError
from helios.store.pool import session, transaction, utc, writable

INSERT_DECISION = """
    INSERT INTO decisions (decision_id, symbol, bar_time, bar_time_ns, outcome, tier, detail, client_order_id, steps)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (decision_id) DO NOTHING RETURNING decision_id"""
INSERT_PREDICTION = """
    INSERT INTO predictions (decision_id, symbol, bar_time_ns, model_version, action, confidence, probabilities, attention)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING"""
INSERT_PLAN = """
    INSERT INTO risk_decisions (decision_id, symbol, bar_time_ns, side, confidence, notional_quote, leverage, stop_loss_pct,
        take_profit_pct, kelly_full, kelly_fraction, daily_volatility, regime, detail)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING"""
INSERT_REVIEW = """
    INSERT INTO reviews (decision_id, symbol, bar_time_ns, kind, multiplier, reviewer, reasoning, detail)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING"""
INSERT_FORECAST = """
    INSERT INTO volatility_forecasts (symbol, ts_ns, forecast_at, daily_volatility, annualized_volatility, regime, method,
        omega, alpha, beta, nu)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING"""
PLAN_NUMBERS = ("stop_loss_pct", "take_profit_pct", "kelly_full", "kelly_fraction", "daily_volatility")
SUMMARY = "decision_id, symbol, bar_time, bar_time_ns, outcome, tier, detail, client_order_id"


class PostgresTraces:
    """TraceSink over a pool of `helios.store.pool.connect`. Any method may raise StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def record(self, traces: Sequence[DecisionTrace], forecasts: Sequence[VolatilityForecast]) -> None:
        """Keep traces and forecasts in one transaction; what is stored under a decision id already stays as it is."""
        async with transaction(self._pool) as connection:
            # Sorted, so that two writers of the same decisions wait for each other instead of deadlocking.
            ordered = sorted(traces, key=lambda trace: trace.decision_id)
            new = [trace for trace in ordered if await connection.fetchval(INSERT_DECISION, *_decision(trace)) is not None]
            await connection.executemany(INSERT_PREDICTION, [_prediction(t) for t in new if t.steps.get("prediction")])
            await connection.executemany(INSERT_PLAN, [_plan(t) for t in new if t.steps.get("plan")])
            await connection.executemany(INSERT_REVIEW, [_review(t) for t in new if t.steps.get("review")])
            rows = [_forecast(f) for f in sorted(forecasts, key=lambda f: (f.symbol, f.ts_event))]
            await connection.executemany(INSERT_FORECAST, rows)

    async def decisions(self, limit: int, symbol: str | None = None) -> list[dict[str, Any]]:
        """Return the newest decisions without their steps, newest first."""
        query = f"SELECT {SUMMARY} FROM decisions WHERE $2::text IS NULL OR symbol = $2 ORDER BY bar_time_ns DESC, symbol LIMIT $1"
        async with session(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(query, limit, symbol)]

    async def explain(self, decision_id_prefix: str) -> dict[str, Any]:
        """Return one decision with its steps, its orders, and their events and fills.

        Raises
        ------
        RejectedError
            If no decision or more than one has an id that starts so.
        """
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                f"SELECT {SUMMARY}, steps, created_at FROM decisions"
                " WHERE decision_id >= $1 AND starts_with(decision_id, $1) ORDER BY decision_id LIMIT 2",
                decision_id_prefix,
            )
            if len(rows) != 1:
                problem = "no decision" if not rows else "more than one decision"
                raise RejectedError(f"{problem} has an id that starts with {decision_id_prefix!r}")
            return dict(rows[0]) | await _consequences(connection, rows[0]["decision_id"])

    async def count_by_symbol(self) -> dict[str, int]:
        """Return the number of decisions per symbol."""
        async with session(self._pool) as connection:
            rows = await connection.fetch("SELECT symbol, count(*) AS n FROM decisions GROUP BY symbol ORDER BY symbol")
        return {row["symbol"]: row["n"] for row in rows}

    async def latest_predictions(self, n: int) -> list[dict[str, Any]]:
        """Return the newest `n` predictions, newest first."""
        query = "SELECT * FROM predictions ORDER BY bar_time_ns DESC, symbol LIMIT $1"
        async with session(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(query, n)]

    async def latest_forecasts(self) -> list[dict[str, Any]]:
        """Return each symbol's newest volatility forecast."""
        query = "SELECT DISTINCT ON (symbol) * FROM volatility_forecasts ORDER BY symbol, ts_ns DESC"
        async with session(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(query)]


async def _consequences(connection: asyncpg.Connection, decision_id: str) -> dict[str, list[dict[str, Any]]]:
    orders = await connection.fetch("SELECT * FROM orders WHERE decision_id = $1 ORDER BY seq", decision_id)
    ids = [row["client_order_id"] for row in orders]
    events = await connection.fetch("SELECT * FROM order_events WHERE client_order_id = ANY($1::text[]) ORDER BY seq", ids)
    fills = await connection.fetch("SELECT * FROM fills WHERE client_order_id = ANY($1::text[]) ORDER BY seq", ids)
    parts = {"orders": orders, "order_events": events, "fills": fills}
    return {name: [dict(row) for row in rows] for name, rows in parts.items()}


def _decision(t: DecisionTrace) -> tuple[Any, ...]:
    return (
        t.decision_id, t.symbol, utc(t.bar_time), t.bar_time, t.outcome, t.tier, writable(t.detail), t.client_order_id, t.steps,
    )  # fmt: skip


def _prediction(t: DecisionTrace) -> tuple[Any, ...]:
    step = t.steps["prediction"]
    return (
        t.decision_id, t.symbol, t.bar_time, _text(step, "model_version"), _text(step, "action"), _float(step, "confidence"),
        _floats(step, "probabilities"), _floats(step, "attention"),
    )  # fmt: skip


def _plan(t: DecisionTrace) -> tuple[Any, ...]:
    step = t.steps["plan"]
    return (
        t.decision_id, t.symbol, t.bar_time, _text(step, "side"), _float(step, "confidence"), _decimal(step, "notional_quote"),
        _float(step, "leverage"), *(_float(step, name) for name in PLAN_NUMBERS), _text(step, "regime"), step,
    )  # fmt: skip


def _review(t: DecisionTrace) -> tuple[Any, ...]:
    step = t.steps["review"]
    texts = (_text(step, name) for name in ("reviewer", "reasoning"))
    return (t.decision_id, t.symbol, t.bar_time, _text(step, "kind"), _float(step, "multiplier"), *texts, step)


def _forecast(f: VolatilityForecast) -> tuple[Any, ...]:
    numbers = (f.daily_volatility, f.annualized_volatility)
    parameters = (f.omega, f.alpha, f.beta, f.nu)
    known = [[None if math.isnan(v) else v for v in group] for group in (numbers, parameters)]
    return (f.symbol, f.ts_event, utc(f.ts_event), *known[0], str(f.regime), f.method, *known[1])


# The columns repeat what the step says where it says it in the expected form; the step itself is kept whole in any case.
def _text(step: Mapping[str, Any], name: str) -> str | None:
    value = step.get(name)
    return None if value is None else writable(str(value))


def _float(step: Mapping[str, Any], name: str) -> float | None:
    value = _decimal(step, name)
    return None if value is None else float(value)


def _decimal(step: Mapping[str, Any], name: str) -> Decimal | None:
    try:
        value = Decimal(str(step.get(name)))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _floats(step: Mapping[str, Any], name: str) -> list[float] | None:
    values = step.get(name)
    return None if values is None else [float(v) for v in values]

"""Migrations, decision traces and the engine's own rows."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

from helios.domain.decisions import DecisionTrace, VolatilityForecast, decision_id
from helios.domain.enums import EngineState, TradingMode, VolatilityRegime
from helios.domain.events import EngineEvent
from helios.domain.orders import AccountSnapshot
from helios.errors import InvariantError, RejectedError
from helios.pipeline.ports import TraceSink
from helios.store.embedded import EmbeddedPostgres
from helios.store.engine_store import EngineStore
from helios.store.migrate import available, downgrade, migrate
from helios.store.traces import PostgresTraces
from tests.support.pg import execute

BAR = 1_750_000_200_000_000_000
STEPS = {
    "prediction": {"action": "BUY", "confidence": 0.7, "probabilities": [0.7, 0.2, 0.1], "attention": [0.5, 0.3, 0.2],
                   "model_version": "m1"},
    "plan": {"side": "BUY", "notional_quote": "1234.56", "leverage": 1.5, "stop_loss_pct": 0.02, "regime": "LOW"},
    "review": {"kind": "MODIFY", "multiplier": 0.5, "reasoning": "thin book", "reviewer": "rules"},
}  # fmt: skip


def trace(symbol: str, bar_time: int = BAR, **changes: object) -> DecisionTrace:
    made = DecisionTrace(decision_id(symbol, bar_time), symbol, bar_time, "ORDERED", "execution", "", dict(STEPS), "hx-1")
    return replace(made, **changes)


def forecast(symbol: str, daily: float = 0.03) -> VolatilityForecast:
    return VolatilityForecast(symbol, BAR, daily, 0.57, VolatilityRegime.LOW, "EWMA", math.nan, 0.05, 0.9, math.nan)


async def columns(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT table_name || '.' || column_name AS c FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name <> 'schema_migrations' UNION ALL SELECT indexname FROM pg_indexes WHERE schemaname = 'public'"
        " AND tablename <> 'schema_migrations' UNION ALL"
        " SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )
    return sorted(row["c"] for row in rows)


async def test_migrations_go_up_down_and_up_again(pg_server: EmbeddedPostgres) -> None:
    await execute(pg_server.dsn(), "CREATE DATABASE updown")
    connection, other = [await asyncpg.connect(pg_server.dsn("updown")) for _ in range(2)]
    names = [m.name for m in available()]
    first, second = await asyncio.gather(migrate(connection), migrate(other))
    assert sorted(first + second) == names
    full = await columns(connection)
    assert await migrate(connection) == []
    assert await downgrade(connection, target=1) == names[:0:-1]
    assert await migrate(connection, target=2) == names[1:2]
    assert await downgrade(connection) == names[1::-1]
    assert await columns(connection) == []
    assert await migrate(connection) == names
    assert await columns(connection) == full
    await connection.execute("UPDATE schema_migrations SET checksum = 'x' WHERE version = 2")
    with pytest.raises(InvariantError, match=r"\[2\]"):
        await migrate(connection)
    await asyncio.gather(connection.close(), other.close())


async def test_a_failing_migration_leaves_nothing(pg_server: EmbeddedPostgres, tmp_path: Path) -> None:
    await execute(pg_server.dsn(), "CREATE DATABASE failing")
    for name, text in (("0001_good", "CREATE TABLE good (n integer)"), ("0002_bad", "CREATE TABLE bad (n nonsense)")):
        (tmp_path / f"{name}.up.sql").write_text(text)
        (tmp_path / f"{name}.down.sql").write_text("SELECT 1")
    connection = await asyncpg.connect(pg_server.dsn("failing"))
    with pytest.raises(asyncpg.UndefinedObjectError):
        await migrate(connection, folder=tmp_path)
    assert await columns(connection) == []
    await connection.close()


async def test_a_decision_is_stored_once_with_its_parts(pg_pool: asyncpg.Pool) -> None:
    traces: TraceSink = PostgresTraces(pg_pool)
    await traces.record([trace("A/ZAR", steps={})], [forecast("A/ZAR")])
    await traces.record([trace("A/ZAR", outcome="OTHER"), trace("B/ZAR")], [forecast("A/ZAR", 0.9), forecast("B/ZAR")])
    rows = await pg_pool.fetch("SELECT symbol, outcome FROM decisions WHERE symbol IN ('A/ZAR', 'B/ZAR') ORDER BY symbol")
    assert [tuple(row) for row in rows] == [("A/ZAR", "ORDERED"), ("B/ZAR", "ORDERED")]
    assert await pg_pool.fetchval("SELECT array_agg(symbol) FROM predictions") == ["B/ZAR"]
    plan = await pg_pool.fetchrow("SELECT * FROM risk_decisions")
    assert (plan["notional_quote"], plan["leverage"], plan["kelly_full"]) == (Decimal("1234.56"), 1.5, None)
    assert plan["detail"] == STEPS["plan"]
    review = await pg_pool.fetchrow("SELECT kind, multiplier, reviewer FROM reviews")
    assert tuple(review) == ("MODIFY", 0.5, "rules")
    first = (await PostgresTraces(pg_pool).latest_forecasts())[0]
    assert (first["daily_volatility"], first["omega"], first["alpha"]) == (0.03, None, 0.05)


async def test_a_reasoning_with_characters_no_database_holds_does_not_cost_the_decision(pg_pool: asyncpg.Pool) -> None:
    strange = STEPS["review"] | {"reasoning": "thin\0 book \ud83d"}
    odd = trace("NUL/ZAR", detail="said \0", steps=STEPS | {"review": strange})
    await PostgresTraces(pg_pool).record([odd], [])
    found = await PostgresTraces(pg_pool).explain(odd.decision_id)
    assert found["steps"]["review"]["reasoning"] == "thin\ufffd book \ufffd"
    assert (found["detail"], found["steps"]["plan"]["notional_quote"]) == ("said \ufffd", "1234.56")
    assert await pg_pool.fetchval("SELECT reasoning FROM reviews WHERE decision_id = $1", odd.decision_id) == "thin\ufffd book \ufffd"


async def test_two_recorders_of_the_same_bar_store_it_once(pg_pool: asyncpg.Pool) -> None:
    made = [trace(f"R{n}/ZAR") for n in range(20)]
    traces = PostgresTraces(pg_pool)
    await asyncio.gather(traces.record(made, []), traces.record(made[::-1], []))
    counts = await traces.count_by_symbol()
    assert {counts[t.symbol] for t in made} == {1}


async def test_questions_about_decisions(pg_pool: asyncpg.Pool) -> None:
    traces = PostgresTraces(pg_pool)
    made = [trace("Q/ZAR", BAR + n) for n in range(300)]
    await traces.record(made, [])
    newest = await traces.decisions(2, "Q/ZAR")
    assert [row["bar_time_ns"] for row in newest] == [BAR + 299, BAR + 298]
    assert [row["bar_time_ns"] for row in await traces.latest_predictions(1)] == [BAR + 299]
    answer = await traces.explain(made[7].decision_id[:12])
    assert (answer["bar_time_ns"], answer["steps"], answer["orders"]) == (BAR + 7, STEPS, [])
    with pytest.raises(RejectedError, match="no decision"):
        await traces.explain("zz")
    with pytest.raises(RejectedError, match="more than one"):
        await traces.explain("")


async def test_state_mode_and_events_survive(pg_pool: asyncpg.Pool) -> None:
    store = EngineStore(pg_pool)
    assert await store.load_state() == (EngineState.STOPPED, TradingMode.PAPER)
    await store.save_state(EngineState.EMERGENCY_STOP, TradingMode.LIVE)
    assert await EngineStore(pg_pool).load_state() == (EngineState.EMERGENCY_STOP, TradingMode.LIVE)
    events = [EngineEvent("fault", "WARNING", f"c{n}", "words", BAR + n, {"n": n}) for n in range(3)]
    for event in events:
        await store.add_event(event)
    assert await store.events(2) == events[:0:-1]
    for _ in range(2):
        await store.start_run("r1", "abc", {"desk": {"symbols": ["A"]}}, "sandbox")
    [run] = await store.runs(5)
    assert (run["config"], run["venue"]) == ({"desk": {"symbols": ["A"]}}, "sandbox")


async def test_the_equity_curve_is_kept_in_order_and_exact(pg_pool: asyncpg.Pool) -> None:
    store = EngineStore(pg_pool)
    zero = Decimal(0)
    for n in (1, 2, 2, 3):
        equity = Decimal("100000.10") + n
        point = AccountSnapshot(BAR + n, equity, equity, equity, equity, zero, zero, zero, 0.0, 0.0, (), 0, 0, (), 0, 0)
        await store.add_equity(point)
    history = await store.equity_history(2)
    assert [(row["ts_ns"], row["equity_quote"]) for row in history] == [
        (BAR + 2, Decimal("100002.10")), (BAR + 3, Decimal("100003.10")),
    ]  # fmt: skip
    assert await store.positions() == []
    assert await store.orders(5) == []

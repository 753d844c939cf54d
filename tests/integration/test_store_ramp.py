"""What a step of the capital ramp has seen, from a real database, and the command that says what is permitted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from helios.config import load_config
from helios.domain.enums import Side
from helios.domain.events import EngineEvent
from helios.execution.engine import ExecutionEngine
from helios.execution.paper import PaperBroker
from helios.portfolio.accounting import Account
from helios.risk.ramp import advise
from helios.store.engine_store import EngineStore
from helios.store.ledger import PostgresLedger
from helios.store.ramp import PostgresRamp
from tests.support.execution_fakes import DAY, EXACT_FILLS, INSTRUMENTS, NS, T0, D, allow_all, intent, market

SYMBOL = "BTC/ZAR"


def event(kind: str, ts: int, severity: str = "WARNING", **data: Any) -> EngineEvent:
    return EngineEvent(kind, severity, "execution", "", ts, data)


class World:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self.store, self.ramp = EngineStore(pool), PostgresRamp(pool)
        account = Account(D(1_000_000), T0)
        self.engine = ExecutionEngine(
            PostgresLedger(pool), PaperBroker(EXACT_FILLS, INSTRUMENTS), account, INSTRUMENTS, allow_all, "t"
        )

    async def run(self, run_id: str, step: int | None, ts: int) -> None:
        config = load_config(env={}, overrides={"risk.ramp_step": step})
        await self.store.start_run(run_id, config.digest(), config.model_dump(mode="json"), "valr")
        await self.store.add_event(event("STATE", ts, "INFO"))

    async def trade(self, name: str, ts: int) -> None:
        """Open a position and close it in two parts."""
        entry, parts = (
            intent(name, quantity="0.2", ts=ts),
            [intent(f"{name}{i}", Side.SELL, "0.1", ts=ts + NS, reduce_only=True) for i in (1, 2)],
        )
        for order in (entry, *parts):
            await self.engine.submit([order], {SYMBOL: market(ts=order.ts_event)})

    async def equity(self, ts: int, drawdown: float) -> None:
        await self.store.add_equity(replace(await self.engine.account([]), ts_event=ts, drawdown=drawdown))


async def test_a_step_counts_from_its_first_run_in_a_row(pg_pool: asyncpg.Pool) -> None:
    world = World(pg_pool)
    await world.engine.start()
    assert await world.ramp.facts(0) is None
    await world.run("a", 0, T0)
    await world.trade("before", T0 + NS)
    await world.equity(T0 + NS, 0.12)
    await world.store.add_event(event("EMERGENCY_STOP_ACTIVATED", T0 + 2 * NS, "CRITICAL"))
    for run_id, day in (("b", 1), ("c", 3)):  # step 1, with a restart in between
        await world.run(run_id, 1, T0 + day * DAY)
    for i in range(5):
        await world.trade(f"t{i}", T0 + (2 + i) * DAY)
    for day in (1, 2, 3, 5, 6, 7, 8):
        await world.equity(T0 + day * DAY, 0.01 * day / 8)
    facts = await world.ramp.facts(1)
    assert facts is not None
    assert (facts.since, facts.trades, facts.limits_broken, facts.is_halted) == (T0 + DAY, 5, 0, False)
    assert (facts.days, facts.drawdown) == (7.0, 0.01)  # seven days later, and seven of the eight with a known equity
    assert advise(1, facts, 0.15).step == 2
    assert await world.ramp.facts(0) is None  # the newest run is at another step

    await world.store.add_event(event("MAX_DAILY_LOSS", T0 + 8 * DAY, released_at=0))
    await world.store.add_event(event("MAX_DAILY_LOSS", T0 + 9 * DAY, "INFO", released_at=T0 + 9 * DAY))
    facts = await world.ramp.facts(1)
    assert facts is not None
    assert (facts.limits_broken, facts.is_halted, advise(1, facts, 0.15).step) == (1, False, 1)

    await world.store.add_event(event("MAX_DRAWDOWN", T0 + 9 * DAY, "CRITICAL", released_at=0))
    facts = await world.ramp.facts(1)
    assert facts is not None
    assert (facts.is_halted, advise(1, facts, 0.15).step) == (True, 0)

    await world.run("d", 2, T0 + 10 * DAY)  # a person has gone on: a new step begins with nothing
    facts = await world.ramp.facts(2)
    assert facts is not None
    assert (facts.since, facts.days, facts.trades, facts.is_halted) == (T0 + 10 * DAY, 0.0, 0, False)
    assert math.isnan(facts.drawdown)


def test_the_command_needs_a_desk_that_has_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: Any) -> None:
    from helios.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["helios", "ramp"])
    assert main() == 0
    assert "there is no ramp" in capsys.readouterr().out
    monkeypatch.setenv("HELIOS__RISK__RAMP_STEP", "1")
    assert main() == 1
    assert capsys.readouterr().err.startswith("helios: no desk has run")

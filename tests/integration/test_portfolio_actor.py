"""The portfolio actor over a real database: what a restart brings back, and what is said when the optimiser fails."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from actors.base import DeskSpec
from actors.portfolio import PortfolioActor
from helios.config import HeliosConfig
from helios.domain.events import EngineEvent
from helios.domain.market import MarketSnapshot
from helios.domain.orders import AccountSnapshot, OrderIntent
from helios.domain.universe import Member, Origin
from helios.errors import SolverError
from helios.pipeline.ports import RebalanceRequest, SymbolContext
from helios.pipeline.series import HOURS_KEPT, SymbolHistory
from helios.portfolio.history import DAY_NS, HOUR_NS
from helios.portfolio.optimiser import MeanVarianceOptimiser
from helios.store.engine_store import EngineStore
from helios.store.pool import utc
from tests.unit.portfolio.test_portfolio_desk import INSTRUMENTS, NOW, PRICE, account, holding, plan, request

A, B = "AAA/ZAR", "BBB/ZAR"
HOURS = 24 * 40


def closes(symbol: str) -> np.ndarray:
    rng = np.random.default_rng(len(symbol) + ord(symbol[0]))
    return PRICE[symbol] * np.exp(np.cumsum(rng.normal(0, 0.005, HOURS)))


async def store_hours(pool: asyncpg.Pool) -> None:
    """Hours closed at NOW - 39 days .. NOW; A traded nine times as much as B, but for long ago."""
    query = (
        "INSERT INTO candles (symbol, timeframe, open_time, high, low, close, volume, quote_volume)"
        " VALUES ($1, '1h', $2, $3, $3, $3, $4, $5) ON CONFLICT DO NOTHING"
    )
    for symbol, traded in ((A, 90.0), (B, None)):
        rows = [
            (symbol, utc(NOW) - timedelta(hours=HOURS - i), c, 10.0 / c, 1e9 if i < HOURS - 720 else traded)
            for i, c in enumerate(closes(symbol).tolist())
        ]
        await pool.executemany(query, rows)


def history(symbol: str, turnover: float) -> SymbolHistory:
    times = NOW - HOUR_NS * np.arange(HOURS - 1, -1, -1)
    return SymbolHistory(symbol, closes(symbol)[-50:], NOW, times[-HOURS_KEPT:], closes(symbol)[-HOURS_KEPT:], turnover)


@pytest.fixture
def actor(pg_dsn: str, tmp_path: Path) -> PortfolioActor:
    return make(pg_dsn, tmp_path)


def make(dsn: str, folder: Path) -> PortfolioActor:
    spec = DeskSpec(HeliosConfig(), dsn, "run", (A, B), None, None, str(folder))
    return PortfolioActor(spec, {s: INSTRUMENTS[s] for s in (A, B)})


def hourly(at: int, held: AccountSnapshot) -> RebalanceRequest:
    contexts = {s: SymbolContext(s, at, PRICE[s], math.nan, MarketSnapshot(s, Decimal(str(PRICE[s])), at)) for s in (A, B)}
    return RebalanceRequest(at, contexts, held)


async def test_a_restarted_actor_has_the_same_targets_as_one_that_lived(
    actor: PortfolioActor, pg_dsn: str, pg_pool: asyncpg.Pool, tmp_path: Path
) -> None:
    await store_hours(pg_pool)
    await actor.seed([history(A, 90.0 * 720), history(B, 10.0 * 720)])
    await actor.allocate(request(plan(A, confidence=0.9, take_profit_pct=0.3), plan(B, confidence=0.6)))
    again = make(pg_dsn, tmp_path)
    held = account(positions=(holding(A, "150"), holding(B, "1000")))
    lived, restarted = [await a.rebalance(hourly(NOW + 2 * HOUR_NS, held)) for a in (actor, again)]
    assert lived.targets[A] > 0.15  # a view that still stands
    assert restarted.targets == pytest.approx(lived.targets, rel=1e-9)
    np.testing.assert_allclose(again.desk.history.prior_weights([A, B]), [0.9, 0.1], rtol=1e-9)
    # looked at within a day: neither of the two looks again before
    far = account(positions=(holding(A, "900"),))
    assert [r.intents for r in [await a.rebalance(hourly(NOW + 3 * HOUR_NS, far)) for a in (actor, again)]] == [(), ()]
    assert (await again.rebalance(hourly(NOW + 2 * HOUR_NS + DAY_NS, far))).reason == "LARGE_DRIFT"
    for each in (actor, again):
        await each.stop()


async def test_a_symbol_that_comes_later_is_allocated_to(actor: PortfolioActor, pg_pool: asyncpg.Pool) -> None:
    await store_hours(pg_pool)
    later = PortfolioActor(actor.spec, {A: INSTRUMENTS[A]})
    await later.follow([Member(INSTRUMENTS[A]), Member(INSTRUMENTS[B], Origin.ADDED)])
    await later.seed([history(A, 90.0 * 720), history(B, 10.0 * 720)])
    [intent] = (await later.allocate(request(plan(B, confidence=0.9, take_profit_pct=0.3)))).intents
    assert isinstance(intent, OrderIntent), intent
    assert intent.symbol == B
    held = account(positions=(replace(holding(A, "1"), symbol="CCC/ZAR"),))  # nobody has told its instrument yet
    assert (await later.rebalance(hourly(NOW + 2 * HOUR_NS, held))).failure == ""
    await later.stop()


async def failures(pool: asyncpg.Pool) -> list[EngineEvent]:
    return [e for e in await EngineStore(pool).events(20) if e.kind == "SOLVER_FAILED"]


async def test_an_optimiser_without_an_answer_is_stored_as_an_alert_once(
    actor: PortfolioActor, pg_pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise SolverError("no")

    with monkeypatch.context() as broken:
        broken.setattr(MeanVarianceOptimiser, "solve", fails)
        for _ in range(2):
            response = await actor.allocate(request(plan()))
            assert response.solver_status == "SOLVER_FAILED"
        with pytest.raises(SolverError):
            await actor.rebalance(hourly(NOW, account(positions=(holding(A, "150"),))))
    events = await failures(pg_pool)
    assert [(e.kind, e.severity, e.component, e.ts_event) for e in events] == [("SOLVER_FAILED", "WARNING", "portfolio", NOW)]
    assert "present weights" in events[0].message
    await actor.allocate(request(plan()))  # answers again
    with monkeypatch.context() as broken:
        broken.setattr(MeanVarianceOptimiser, "solve", fails)
        await actor.allocate(request(replace(plan(), decision_id="later")))
    assert len(await failures(pg_pool)) == 2
    assert (await actor.status())["faults"] == 4
    await actor.stop()


async def test_a_limit_trimmed_without_an_optimum_is_an_alert_too(
    actor: PortfolioActor, pg_pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise SolverError("no")

    await store_hours(pg_pool)
    monkeypatch.setattr(MeanVarianceOptimiser, "solve", fails)
    broken = replace(hourly(NOW + DAY_NS, account(positions=(holding(A, "300"),))), is_risk_event=True)
    assert (await actor.rebalance(broken)).reason == "RISK_EVENT"
    alert, record = [e for e in await EngineStore(pg_pool).events(9) if e.ts_event == NOW + DAY_NS]
    assert (alert.kind, alert.message) == ("SOLVER_FAILED", "a broken limit is trimmed without an optimum: no")
    assert (record.kind, record.message) == ("REBALANCE", "RISK_EVENT: SELL 100 AAA/ZAR")
    assert record.data["targets"] == {A: 0.2}
    await actor.stop()


async def test_what_another_version_left_does_not_keep_the_actor_from_starting(actor: PortfolioActor, pg_pool: asyncpg.Pool) -> None:
    await EngineStore(pg_pool).save_upkeep({"times": {"last_check_ns": "yesterday"}, "views": []})
    assert (await actor.status())["healthy"]
    assert actor.desk.upkeep.to_json()["views"] == []
    await actor.stop()

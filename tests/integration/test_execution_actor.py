"""The execution actor over a real database: it trades in the mode that was stored, and in the one it is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from actors.execution import ExecutionActor
from helios.domain.enums import EngineState, OrderStatus, Side, TradingMode
from helios.domain.events import Mark
from helios.store.engine_store import EngineStore
from helios.store.pool import connect
from tests.support.execution_fakes import NS, SPOT, T0, intent, market
from tests.support.peers import spec

SYMBOL = SPOT.symbol


async def lose(actor: ExecutionActor, name: str, ts: int) -> None:
    """Buy and sell lower."""
    for order, price in (
        (intent(name, quantity="0.01", ts=ts), "850000"),
        (intent(name, Side.SELL, "0.01", ts=ts + NS, reduce_only=True, price="840000"), "840000"),
    ):
        [outcome] = await actor.submit([order], {SYMBOL: market(price, ts=order.ts_event)})
        assert outcome.record.status is OrderStatus.FILLED, outcome.record


async def test_live_stops_after_three_losses_from_its_start_on_and_paper_after_five(pg_dsn: str, tmp_path: Path) -> None:
    pool = await connect(pg_dsn)
    await EngineStore(pool).save_state(EngineState.RUNNING, TradingMode.LIVE)
    await pool.close()
    actor = ExecutionActor(replace(spec(tmp_path), dsn=pg_dsn), {SYMBOL: SPOT})
    try:
        for i in range(3):
            await lose(actor, f"l{i}", T0 + i * 400 * NS)
        later = T0 + 3 * 400 * NS
        await actor.account([Mark(SYMBOL, 850_000.0, later)])
        [refused] = await actor.submit([intent("fourth", quantity="0.01", ts=later)], {SYMBOL: market(ts=later)})
        assert refused.record.deny_codes == ("MAX_CONSECUTIVE_LOSSES",)
        await actor.set_mode(TradingMode.PAPER)
        [allowed] = await actor.submit([intent("fifth", quantity="0.01", ts=later)], {SYMBOL: market(ts=later)})
        assert "MAX_CONSECUTIVE_LOSSES" not in allowed.record.deny_codes
    finally:
        await actor.stop()

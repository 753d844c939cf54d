"""The order ledger under concurrency, take-over and repetition."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from helios.domain.enums import OrderStatus, Side
from helios.domain.orders import AccountSnapshot, ExitRule, Fill, OrderRecord, PositionView
from helios.errors import FencedError, InvariantError
from helios.execution.ports import AccountState, LedgerStore
from helios.store.engine_store import EngineStore
from helios.store.ledger import PostgresLedger
from helios.store.pool import connect, transaction

NOW = 1_750_000_000_123_456_789
RULE = ExitRule(0.02, 0.04, math.nan, 0.0, 3_600_000_000_000)


def order(name: str, **changes: object) -> OrderRecord:
    record = OrderRecord(
        client_order_id=name, decision_id=f"d-{name}", symbol="BTC/ZAR", side=Side.BUY, quantity_base=Decimal("0.00012345"),
        reference_price=Decimal("1234567.89"), reduce_only=False, leg="entry", leverage=1.5, status=OrderStatus.PENDING,
        filled_base=Decimal(0), average_price=Decimal(0), fee_quote=Decimal(0), ts_event=NOW, ts_updated=NOW, epoch=0,
        reason="signal",
    )  # fmt: skip
    return replace(record, **changes)


def fill(name: str, client_order_id: str, quantity: str = "0.0001") -> Fill:
    amounts = {"quantity_base": Decimal(quantity), "price": Decimal("1234567.80")}
    return Fill(fill_id=name, client_order_id=client_order_id, symbol="BTC/ZAR", side=Side.BUY, fee=Decimal("0.0000001"),
                fee_currency="BTC", fee_quote=Decimal("0.12"), ts_event=NOW + 5, **amounts)  # fmt: skip


@pytest.fixture
def ledger(pg_pool: asyncpg.Pool) -> PostgresLedger:
    return PostgresLedger(pg_pool)


async def test_a_record_comes_back_exactly(ledger: PostgresLedger) -> None:
    port: LedgerStore = ledger
    epoch = await port.acquire_epoch("first")
    denied = order("exact", status=OrderStatus.REJECTED, deny_codes=("RISK", "STALE"), exit_rule=RULE, epoch=epoch)
    assert await port.commit_intents([denied], epoch) == [True]
    found = await port.order("exact")
    assert found is not None
    assert found.exit_rule is not None
    assert math.isnan(found.exit_rule.trailing_activate_pct)
    assert replace(found, exit_rule=None) == replace(denied, exit_rule=None)
    assert replace(found.exit_rule, trailing_activate_pct=0.0) == replace(RULE, trailing_activate_pct=0.0)
    assert isinstance(found.exit_rule.timeout_ns, int)
    assert await port.order("unknown") is None


async def test_an_intent_is_committed_once_under_concurrency(ledger: PostgresLedger, pg_dsn: str) -> None:
    epoch = await ledger.acquire_epoch("one")
    pools = [await connect(pg_dsn) for _ in range(3)]
    records = [order(f"race-{n}") for n in range(20)]
    batches = [records, records[::-1], records[5:] + records[:5]]
    answers = await asyncio.gather(*(PostgresLedger(p).commit_intents(b, epoch) for p, b in zip(pools, batches)))
    winners = [record.client_order_id for batch, answer in zip(batches, answers) for record, new in zip(batch, answer) if new]
    assert sorted(winners) == sorted(record.client_order_id for record in records)
    for record in records:
        assert len(await ledger.history(record.client_order_id)) == 1
    for pool in pools:
        await pool.close()


async def test_an_id_twice_in_one_batch_is_new_once(ledger: PostgresLedger) -> None:
    epoch = await ledger.acquire_epoch("twice")
    assert await ledger.commit_intents([order("twin"), order("twin", reason="other")], epoch) == [True, False]
    found = await ledger.order("twin")
    assert found is not None
    assert found.reason == "signal"


async def test_an_older_epoch_is_fenced_and_changes_nothing(ledger: PostgresLedger, pg_pool: asyncpg.Pool) -> None:
    old = await ledger.acquire_epoch("old")
    await ledger.commit_intents([order("fenced")], old)
    new = await ledger.acquire_epoch("new")
    assert new > old
    late = order("fenced", status=OrderStatus.FILLED, filled_base=Decimal(1))
    with pytest.raises(FencedError):
        await ledger.advance([late], [fill("late", "fenced")], old)
    with pytest.raises(FencedError):
        await ledger.commit_intents([order("fenced-2")], old)
    with pytest.raises(FencedError):
        await ledger.save_account(account(), old)
    found = await ledger.order("fenced")
    assert found is not None
    assert found.status is OrderStatus.PENDING
    assert await ledger.fills_of("fenced") == []
    assert await ledger.order("fenced-2") is None
    assert len(await ledger.history("fenced")) == 1
    await ledger.advance([late], [], new)


async def test_take_over_waits_for_a_writer_under_way_and_then_locks_out(ledger: PostgresLedger, pg_pool: asyncpg.Pool) -> None:
    old = await ledger.acquire_epoch("old")
    async with transaction(pg_pool) as connection:
        await connection.fetchval("SELECT epoch FROM trading_epoch FOR SHARE")
        takeover = asyncio.create_task(ledger.acquire_epoch("new"))
        for _ in range(2_000):  # until the server has it waiting, or it is done and should not be
            if takeover.done() or await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                break
            await asyncio.sleep(0.01)
        assert not takeover.done()
    beside = asyncio.create_task(ledger.commit_intents([order("beside")], old))
    assert await takeover == old + 1
    # Who writes while trading is taken over is served before it or refused, whichever the server sees first, and never after it.
    (answer,) = await asyncio.gather(beside, return_exceptions=True)
    assert answer == [True] or isinstance(answer, FencedError)
    assert (await ledger.order("beside") is None) == isinstance(answer, FencedError)
    with pytest.raises(FencedError):
        await ledger.commit_intents([order("after")], old)


async def test_take_overs_at_once_get_different_epochs(ledger: PostgresLedger) -> None:
    epochs = await asyncio.gather(*(ledger.acquire_epoch(f"owner-{n}") for n in range(8)))
    assert len(set(epochs)) == 8


async def test_history_has_each_change_once_and_fills_keep_their_order(ledger: PostgresLedger) -> None:
    epoch = await ledger.acquire_epoch("history")
    pending = order("life", exit_rule=RULE)
    await ledger.commit_intents([pending], epoch)
    sent = replace(pending, status=OrderStatus.SUBMITTED, ts_updated=NOW + 1)
    part = replace(sent, status=OrderStatus.PARTIALLY_FILLED, filled_base=Decimal("0.0001"), ts_updated=NOW + 2)
    done = replace(part, status=OrderStatus.FILLED, filled_base=Decimal("0.00012345"), ts_updated=NOW + 3)
    steps = [
        (sent, []),
        (part, [fill("z", "life")]),
        (part, [fill("z", "life")]),
        (done, [fill("z", "life"), fill("a", "life")]),
    ]
    for record, fills in steps:
        await ledger.advance([record], fills, epoch)
    assert [event["status"] for event in await ledger.history("life")] == ["PENDING", "SUBMITTED", "PARTIALLY_FILLED", "FILLED"]
    assert [f.fill_id for f in await ledger.fills_of("life")] == ["z", "a"]
    mine = [(record, f) for record, f in await ledger.fills() if record.client_order_id == "life"]
    assert [f for _, f in mine] == [fill("z", "life"), fill("a", "life")]
    assert {record.status for record, _ in mine} == {OrderStatus.FILLED}
    assert "life" not in {record.client_order_id for record in await ledger.open_orders()}


async def test_open_orders_are_those_that_may_change(ledger: PostgresLedger) -> None:
    epoch = await ledger.acquire_epoch("open")
    records = [order(f"open-{status}", status=status) for status in OrderStatus]
    await ledger.commit_intents(records, epoch)
    found = [record.status for record in await ledger.open_orders() if record.client_order_id.startswith("open-")]
    assert found == [s for s in sorted(OrderStatus) if s in {"PENDING", "SUBMITTED", "ACCEPTED", "PARTIALLY_FILLED"}]
    assert (await ledger.statistics())["EXPIRED"] == 1


async def test_an_unknown_order_makes_the_whole_write_fail(ledger: PostgresLedger) -> None:
    epoch = await ledger.acquire_epoch("unknown")
    await ledger.commit_intents([order("known")], epoch)
    known = order("known", status=OrderStatus.SUBMITTED)
    with pytest.raises(InvariantError):
        await ledger.advance([known, order("never")], [fill("f", "known")], epoch)
    assert [event["status"] for event in await ledger.history("known")] == ["PENDING"]
    assert await ledger.fills_of("known") == []


async def test_events_and_fills_cannot_be_rewritten(ledger: PostgresLedger, pg_pool: asyncpg.Pool) -> None:
    epoch = await ledger.acquire_epoch("append")
    await ledger.commit_intents([order("append")], epoch)
    for statement in ("UPDATE order_events SET status = 'FILLED'", "DELETE FROM order_events"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await pg_pool.execute(statement)


def account() -> AccountSnapshot:
    position = PositionView("BTC/ZAR", Decimal("0.5"), Decimal("10.10"), Decimal("11"), Decimal(0), Decimal("0.45"), NOW, 1.0,
                            "d", 9.5, math.nan, 0)  # fmt: skip
    equity, cash, peak, start = (Decimal(text) for text in ("100000.01", "99994.51", "100200.30", "100100.20"))
    return AccountSnapshot(NOW, equity, cash, peak, start, Decimal(0), Decimal("0.45"), Decimal("1.5"), 0.002, 0.001,
                           (position,), 1, 0, (("BTC/ZAR", NOW),), 0, 0)  # fmt: skip


async def test_the_account_is_one_row_and_comes_back_exactly(ledger: PostgresLedger, pg_pool: asyncpg.Pool) -> None:
    epoch = await ledger.acquire_epoch("account")
    assert await ledger.load_account() is None
    await ledger.save_account(replace(account(), peak_equity_quote=Decimal(1)), epoch)
    await ledger.save_account(account(), epoch)
    assert await ledger.load_account() == AccountState("100200.30", "2025-06-15", "100100.20")
    [position] = await EngineStore(pg_pool).positions()
    assert (position["quantity_base"], position["average_price"], position["target_price"]) == ("0.5", "10.10", None)
    assert position["opened_at"] == NOW
    priced = tuple(replace(p, marked_at=NOW) for p in account().positions)
    await ledger.save_account(replace(account(), positions=priced, peak_rebased_at=NOW - 1), epoch)
    state = await ledger.load_account()
    assert state is not None
    assert (state.marks, state.peak_rebased_at) == ((("BTC/ZAR", "11", NOW),), NOW - 1)

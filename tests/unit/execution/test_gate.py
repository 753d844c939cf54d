"""The gate before an order: every witness is heard, the newest price judges, and refusals carry their figures."""

from __future__ import annotations

from decimal import Decimal

from helios.config import LimitConfig
from helios.domain.enums import OrderStatus
from helios.domain.events import Mark
from helios.execution.engine import ExecutionEngine
from helios.execution.guard import AccountGuard
from helios.execution.memory import MemoryLedger
from helios.pipeline.checks import make_check
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import INSTRUMENTS, NS, T0, ScriptedBroker, intent, market

SYMBOL = "BTC/ZAR"
LIMITS = LimitConfig(max_notional_quote=Decimal(1_000_000))


async def engine(limits: LimitConfig = LIMITS) -> ExecutionEngine:
    check = make_check(limits, INSTRUMENTS)
    made = ExecutionEngine(
        MemoryLedger(), ScriptedBroker(), Account(Decimal(1_000_000), T0), INSTRUMENTS, check, "test",
        guard=AccountGuard(limits), findings=check.findings,
    )  # fmt: skip
    await made.start()
    return made


async def test_a_price_that_ran_away_while_the_desk_decided_ends_the_entry() -> None:
    core = await engine()
    await core.account([Mark(SYMBOL, 800_000.0, T0 + 4 * NS)])  # decided at 850,000 at T0: 6.25 % off by now
    [outcome] = await core.submit([intent(quantity="0.1")], {SYMBOL: market()})
    assert outcome.record.deny_codes == ("PRICE_DEVIATION",)


async def test_a_price_that_moved_little_and_one_from_before_the_decision_change_nothing() -> None:
    core = await engine()
    await core.account([Mark(SYMBOL, 700_000.0, T0 - NS)])
    [outcome] = await core.submit([intent("a", quantity="0.01")], {SYMBOL: market()})
    assert outcome.record.status is OrderStatus.FILLED
    await core.account([Mark(SYMBOL, 830_000.0, T0 + 301 * NS)])
    [outcome] = await core.submit([intent("b", quantity="0.01", ts=T0 + 300 * NS)], {SYMBOL: market(ts=T0 + 300 * NS)})
    assert outcome.record.status is OrderStatus.FILLED


async def test_what_is_held_may_be_left_at_any_price() -> None:
    core = await engine()
    await core.submit([intent(quantity="0.1")], {SYMBOL: market()})
    await core.account([Mark(SYMBOL, 600_000.0, T0 + NS)])
    assert await core.flatten({SYMBOL: market("600000", ts=T0 + NS)}) == []


async def test_a_refusal_is_recorded_with_every_limit_and_its_figures() -> None:
    core = await engine(LimitConfig())
    [outcome] = await core.submit([intent(quantity="0.5")], {SYMBOL: market()})
    record = outcome.record
    assert record.deny_codes == ("MAX_POSITION", "MAX_NOTIONAL")
    assert record.reason == (
        "MAX_POSITION, holding with the order exceeds max_position_size: 0.425 against 0.2; "
        "MAX_NOTIONAL, order is too large: 425000 against 100000"
    )
    assert (await core.submit([intent(quantity="0.5")], {SYMBOL: market()}))[0].record.reason == record.reason


async def test_an_open_breaker_says_what_tripped_it() -> None:
    core = await engine()
    await core.note_volatility({SYMBOL: 3.5})
    [outcome] = await core.submit([intent(quantity="0.1")], {SYMBOL: market()})
    assert outcome.record.deny_codes == ("VOLATILITY_BREAKER",)
    assert outcome.record.reason == f"VOLATILITY_BREAKER, {SYMBOL}: volatility far above its mean: 3.5 against 3"


async def test_an_order_that_comes_near_a_limit_goes_out_and_says_so() -> None:
    core = await engine()
    [near, far] = await core.submit([intent("a", quantity="0.2"), intent("b", quantity="0.01", ts=T0 + 300 * NS)], {SYMBOL: market()})
    assert near.record.status is OrderStatus.FILLED
    assert near.warnings == ("MAX_POSITION, near its limit, holding with the order exceeds max_position_size: 0.17 against 0.2",)
    assert len(far.warnings) == 1  # 0.17 are held
    [small] = await (await engine()).submit([intent(quantity="0.01")], {SYMBOL: market()})
    assert small.warnings == ()

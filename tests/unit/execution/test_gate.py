"""The gate before an order: every witness is heard, the newest price judges, and refusals carry their figures."""

from __future__ import annotations

from decimal import Decimal

from helios.config import LimitConfig
from helios.domain.enums import OrderStatus, Side
from helios.domain.events import Mark
from helios.execution.engine import ExecutionEngine
from helios.execution.guard import AccountGuard
from helios.execution.memory import MemoryLedger
from helios.pipeline.checks import make_check
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import DAY, INSTRUMENTS, NS, T0, ScriptedBroker, intent, market

SYMBOL = "BTC/ZAR"
LIMITS = LimitConfig(max_notional_quote=Decimal(1_000_000))


class Restarting:
    """A desk that dies after every order: what counts is what ledger and saved account bring back."""

    def __init__(self, limits: LimitConfig) -> None:
        self.ledger, self.broker, self.limits = MemoryLedger(), ScriptedBroker(), limits

    async def engine(self) -> ExecutionEngine:
        check = make_check(self.limits, INSTRUMENTS)
        core = ExecutionEngine(
            self.ledger, self.broker, Account(Decimal(1_000_000), T0), INSTRUMENTS, check, "test",
            guard=AccountGuard(self.limits), findings=check.findings,
        )  # fmt: skip
        await core.start()
        return core

    async def enter(self, name: str, ts: int, price: str = "850000") -> tuple[str, ...]:
        core = await self.engine()
        await core.account([Mark(SYMBOL, float(price), ts)])
        [outcome] = await core.submit([intent(name, quantity="0.01", ts=ts)], {SYMBOL: market(price, ts=ts)})
        return outcome.record.deny_codes

    async def leave(self, name: str, ts: int, price: str, quantity: str = "0.01") -> None:
        order = intent(name, Side.SELL, quantity, ts=ts, reduce_only=True, price=price)
        [outcome] = await (await self.engine()).submit([order], {SYMBOL: market(price, ts=ts)})
        assert outcome.record.status is OrderStatus.FILLED


async def engine(limits: LimitConfig = LIMITS) -> ExecutionEngine:
    return await Restarting(limits).engine()


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


async def test_the_day_s_entries_are_counted_over_restarts_and_start_anew_at_midnight() -> None:
    desk = Restarting(LimitConfig(max_entries_per_day=3))
    times = [T0 + i * 400 * NS for i in range(4)]  # from 22:13:20 UTC on
    assert [await desk.enter(f"e{i}", ts) for i, ts in enumerate(times)] == [(), (), (), ("MAX_ENTRIES_PER_DAY",)]
    midnight = (T0 // DAY + 1) * DAY
    assert await desk.enter("late", midnight - 1) == ("MAX_ENTRIES_PER_DAY",)
    assert await desk.enter("next day", midnight) == ()


async def test_losses_in_a_row_are_counted_per_position_over_partial_closes_and_restarts() -> None:
    desk, ts = Restarting(LimitConfig(max_consecutive_losses=2)), T0
    for i in range(2):
        assert await desk.enter(f"e{i}", ts) == ()
        for part in range(2):  # two closes of one position are one loss
            ts += 300 * NS
            await desk.leave(f"x{i}{part}", ts, "840000", "0.005")
        ts += 300 * NS
    assert await desk.enter("third", ts) == ("MAX_CONSECUTIVE_LOSSES",)
    midnight = (T0 // DAY + 1) * DAY
    assert await desk.enter("next day", midnight) == ()


async def test_a_symbol_that_is_to_be_left_may_be_closed_but_not_opened_or_enlarged() -> None:
    core = await engine()
    for name, ts, reduce_only, codes in (
        ("a", T0, (), ()),
        ("b", T0 + DAY, (SYMBOL,), ("SYMBOL_REDUCE_ONLY",)),
        ("c", T0 + 2 * DAY, ("ETH/ZAR",), ()),
    ):
        core.set_reduce_only(reduce_only)
        await core.account([Mark(SYMBOL, 850_000.0, ts)])
        [outcome] = await core.submit([intent(name, quantity="0.01", ts=ts)], {SYMBOL: market(ts=ts)})
        assert (name, outcome.record.deny_codes) == (name, codes)
    core.set_reduce_only([SYMBOL])
    assert (await core.account([])).reduce_only == (SYMBOL,)
    closing = intent("d", Side.SELL, "0.02", reduce_only=True, ts=T0 + 2 * DAY)
    [outcome] = await core.submit([closing], {SYMBOL: market(ts=T0 + 2 * DAY)})
    assert (outcome.record.status, outcome.record.deny_codes) == (OrderStatus.FILLED, ())

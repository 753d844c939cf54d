"""Orders of exits: a part once, the whole until it is closed, and never more than is held."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from helios.domain.enums import ExitReason, OrderStatus, Side, Timeframe
from helios.domain.events import Mark
from helios.domain.market import Bar, Instrument
from helios.domain.orders import ExitPlan, ExitTriggered, OrderOutcome, client_order_id
from helios.execution.engine import ExecutionEngine
from helios.execution.exits import ExitMonitor
from helios.execution.journal import MemoryJournal
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import (
    INSTRUMENTS,
    PERP,
    RULE,
    SPOT,
    T0,
    D,
    FlakyLedger,
    ScriptedBroker,
    allow_all,
    intent,
    market,
)

S = OrderStatus
RULES = replace(RULE, breakeven_activate_pct=0.02, breakeven_offset_pct=0.003, scale_out_fraction=0.4, scale_out_at=0.5)
POSITION = client_order_id("d1", "entry")
HALF_WAY = 884_000.0


class Desk:
    """An engine that holds half a coin, entered at 850,000, with a scale-out of 40 % at 884,000."""

    def __init__(self, *script: str, instrument: Instrument = SPOT) -> None:
        self.ledger, self.broker, self.journal = FlakyLedger(), ScriptedBroker(("ok", *script)), MemoryJournal()
        self.instrument = instrument
        self.build()

    def build(self) -> None:
        self.account = Account(D(1_000_000), T0)
        instruments = INSTRUMENTS | {self.instrument.symbol: self.instrument}
        self.engine = ExecutionEngine(self.ledger, self.broker, self.account, instruments, allow_all, "test", self.journal)

    async def start(self, side: Side = Side.BUY) -> Desk:
        await self.engine.start()
        symbol = self.instrument.symbol
        await self.engine.submit([intent(side=side, symbol=symbol, rule=RULES)], {symbol: market(symbol=symbol)})
        return self

    async def restart(self) -> None:
        self.build()
        await self.engine.start()

    async def part(self, price: float = HALF_WAY, **book: Any) -> list[OrderOutcome]:
        return await self.fire(ExitReason.SCALE_OUT, price, 0.4, **book)

    async def whole(self, price: float = 816_000.0, **book: Any) -> list[OrderOutcome]:
        return await self.fire(ExitReason.STOP, price, 1.0, **book)

    async def fire(self, reason: ExitReason, price: float, fraction: float, **book: Any) -> list[OrderOutcome]:
        symbol = self.instrument.symbol
        snapshot = market(str(price), symbol, ts=T0 + 9, **book)
        return await self.engine.exits([ExitTriggered(POSITION, symbol, reason, price, T0 + 9, snapshot, fraction)])

    async def plan(self) -> ExitPlan:
        [plan] = await self.engine.exit_plans()
        return plan

    @property
    def held(self) -> Decimal:
        return sum((position.quantity_base for position in self.account.snapshot(T0).positions), D(0))

    @property
    def at_broker(self) -> Decimal:
        return self.broker.position(self.instrument.symbol)


async def test_a_part_is_closed_once_and_the_rest_keeps_its_exits() -> None:
    world = await Desk().start()
    before = await world.plan()
    [outcome] = await world.part()
    record = outcome.record
    assert (record.leg, record.client_order_id) == ("exit-scale", client_order_id(POSITION, "exit-scale"))
    assert (record.reason, record.quantity_base, record.reduce_only, world.held) == ("SCALE_OUT", D("0.2"), True, D("0.3"))
    after = await world.plan()
    assert math.isnan(after.scale_out_price)
    assert replace(after, scale_out_price=before.scale_out_price) == before
    assert await world.part() == []
    [closing] = await world.whole()
    assert (closing.record.leg, closing.record.quantity_base, world.held) == ("exit", D("0.3"), 0)
    assert [(trade.reason, trade.quantity_base, trade.is_final) for trade in world.account.closed] == [
        ("SCALE_OUT", D("0.2"), False),
        ("STOP", D("0.3"), True),
    ]
    assert world.account.snapshot(T0).closed_trades == 1


async def test_a_position_larger_than_the_venue_takes_at_once_is_left_in_parts() -> None:
    world = await Desk(instrument=replace(SPOT, max_quantity_base=D("0.25"), lot_size_base=D("0.1"))).start()
    legs = []
    while world.held > 0:
        [outcome] = await world.whole()
        legs.append((outcome.record.leg, outcome.record.quantity_base))
    assert legs == [("exit", D("0.2")), ("exit-1", D("0.2")), ("exit-2", D("0.1"))]
    assert world.at_broker == 0


async def test_less_than_a_lot_is_not_offered() -> None:
    world = await Desk(instrument=replace(SPOT, lot_size_base=D("0.3"))).start()
    assert [(await world.whole())[0].record.quantity_base, await world.whole()] == [D("0.3"), []]
    assert world.held == D("0.2")


async def test_a_short_is_scaled_out_by_buying() -> None:
    world = await Desk(instrument=PERP).start(Side.SELL)
    [outcome] = await world.part(816_000.0)
    assert (outcome.record.side, outcome.record.filled_base, world.held) == (Side.BUY, D("0.2"), D("-0.3"))
    await world.whole(884_000.0)
    assert (world.held, world.at_broker) == (0, 0)


async def test_a_part_closed_before_a_restart_is_not_closed_again() -> None:
    world = await Desk().start()
    await world.part()
    await world.restart()
    assert math.isnan((await world.plan()).scale_out_price)
    assert await world.part() == []
    assert world.held == D("0.3")


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_refused_part_is_not_tried_again_and_the_whole_stays_protected(restarts: bool) -> None:
    world = await Desk("reject").start()
    [refused] = await world.part()
    assert refused.record.status is S.REJECTED
    if restarts:
        await world.restart()
    assert await world.part() == []
    assert world.held == D("0.5")
    [closing] = await world.whole()
    assert (closing.record.quantity_base, world.held) == (D("0.5"), 0)


async def test_a_part_that_filled_in_part_is_done() -> None:
    world = await Desk().start()
    [outcome] = await world.part(bids=[("884000", "0.05")])
    assert (outcome.record.status, outcome.record.filled_base) == (S.CANCELED, D("0.05"))
    assert await world.part() == []
    assert math.isnan((await world.plan()).scale_out_price)
    assert world.held == D("0.45")


@pytest.mark.parametrize(
    "limits",
    [
        {"min_quantity_base": D("0.21")},
        {"min_notional_quote": D(176_801)},  # 0.2 x 884,000 is 1 less
        {"lot_size_base": D("0.3")},
    ],
)
async def test_a_part_below_the_minimum_is_never_asked_for_nor_sent(limits: dict[str, Decimal]) -> None:
    world = await Desk(instrument=replace(SPOT, **limits)).start()
    assert math.isnan((await world.plan()).scale_out_price)
    assert await world.part() == []
    assert world.held == D("0.5")


async def test_how_much_a_part_is_stands_in_the_position_and_not_in_the_trigger() -> None:
    world = await Desk().start()
    await world.fire(ExitReason.SCALE_OUT, HALF_WAY, 0.99)
    assert world.held == D("0.3")


async def test_a_reduced_position_is_not_scaled_out_to_dust() -> None:
    world = await Desk().start()
    reduce = replace(intent("r", Side.SELL, "0.31", reduce_only=True))
    await world.engine.submit([reduce], {"BTC/ZAR": market()})
    assert await world.part() == []  # 40 % of what was opened is 0.2: more than there is
    assert world.held == D("0.19")


async def test_a_part_whose_answer_was_lost_is_found_and_not_sold_again() -> None:
    world = await Desk("late").start()
    [unknown] = await world.part()
    assert (unknown.record.status, world.held, world.at_broker) == (S.SUBMITTED, D("0.5"), D("0.3"))
    [closing] = await world.whole()
    assert (closing.record.quantity_base, world.held, world.at_broker) == (D("0.3"), 0, 0)


async def test_a_stop_does_not_wait_for_a_part_without_an_answer_and_never_sells_it_twice() -> None:
    world = await Desk("late").start()
    await world.part()
    world.broker.status_is_down = True
    [closing] = await world.whole()
    assert (closing.record.leg, closing.record.quantity_base) == ("exit", D("0.3"))
    assert (world.held, world.at_broker) == (D("0.2"), 0)
    assert (await world.whole())[0].record.leg == "exit-scale"  # all that is left may be gone already
    world.broker.status_is_down = False
    await world.whole()
    assert (world.held, world.at_broker) == (0, 0)


async def test_a_part_that_never_arrived_goes_out_before_the_stop_does() -> None:
    world = await Desk("lost").start()
    await world.part()
    assert world.at_broker == D("0.5")
    await world.whole()
    assert (world.held, world.at_broker) == (0, 0)
    assert [leg for leg in world.broker.calls if leg.startswith("send exit")] == ["send exit-scale", "send exit-scale", "send exit"]


async def test_no_part_is_closed_beside_a_whole_exit_without_an_answer() -> None:
    world = await Desk("late").start()
    await world.whole()
    world.broker.status_is_down = True
    [blocked] = await world.part()
    assert blocked.record.leg == "exit"
    assert world.at_broker == 0


async def test_a_part_goes_out_without_the_ledger_and_is_known_after_it() -> None:
    world = await Desk().start()
    world.ledger.is_down = True
    [outcome] = await world.part()
    assert (outcome.record.status, world.held) == (S.FILLED, D("0.3"))
    world.ledger.is_down = False
    await world.restart()
    assert (world.held, math.isnan((await world.plan()).scale_out_price)) == (D("0.3"), True)
    stored = await world.ledger.order(outcome.record.client_order_id)
    assert stored is not None
    assert (stored.status, stored.reason) == (S.FILLED, "SCALE_OUT")


async def test_a_doubled_part_without_the_ledger_leaves_no_trace() -> None:
    world = await Desk("reject").start()
    await world.part()
    world.ledger.is_down = True
    assert await world.part() == []
    assert (await world.journal.entries(), world.engine.open_orders, world.held) == ([], (), D("0.5"))


async def test_attempts_count_what_did_not_close_the_position() -> None:
    world = await Desk("reject", "late").start()
    assert (await world.plan()).attempts == 0
    await world.part(price=1.0)
    assert (await world.plan()).attempts == 0
    await world.whole()
    world.broker.status_is_down = True
    await world.whole()
    assert (await world.plan()).attempts == 2
    world.broker.status_is_down = False
    await world.whole()
    assert await world.engine.exit_plans() == []


async def test_a_stop_in_a_thin_book_goes_on_until_nothing_is_left() -> None:
    world = await Desk().start()
    watching = ExitMonitor()
    legs = []
    for second in range(20):
        watching.arm(await world.engine.exit_plans())
        snapshot = market("810000", ts=T0 + second * 10**9, bids=[("810000", "0.2")])
        triggers = watching.on_price(810_000.0, snapshot.ts_event, lambda seen=snapshot: seen)
        legs += [(second, outcome.record.leg) for outcome in await world.engine.exits(triggers)]
    assert legs == [(0, "exit"), (1, "exit-1"), (3, "exit-2")]
    assert (world.held, world.at_broker) == (0, 0)


@pytest.mark.parametrize("reason", [r for r in ExitReason if r is not ExitReason.SCALE_OUT])
async def test_every_reason_is_in_the_ledger_and_in_the_closed_trade(reason: ExitReason) -> None:
    world = await Desk().start()
    [outcome] = await world.fire(reason, 840_000.0, 1.0)
    stored = await world.ledger.order(outcome.record.client_order_id)
    assert stored is not None
    assert (stored.reason, world.account.closed[0].reason) == (reason.value, reason.value)


async def test_a_gap_is_filled_at_the_market_and_not_at_the_stop() -> None:
    world = await Desk().start()
    watching = ExitMonitor()
    watching.arm(await world.engine.exit_plans())
    [trigger] = watching.on_price(700_000.0, T0 + 1, lambda: market("700000", bids=[("699000", "1")]))
    await world.engine.exits([trigger])
    assert (trigger.reason, world.account.closed[0].exit_price) == (ExitReason.STOP, 699_000)


async def test_the_high_water_survives_a_restart_of_either_side() -> None:
    world = await Desk().start()
    watching = ExitMonitor()
    watching.arm(await world.engine.exit_plans())
    watching.on_price(880_000.0, T0 + 1, market)
    await world.engine.account([Mark("BTC/ZAR", 880_000.0, T0 + 1)])
    await world.restart()  # execution is told what was saved with the new peak, the symbol's owner goes on
    plans = await world.engine.exit_plans()
    assert plans[0].best_price == 880_000.0
    watching.arm(plans)
    assert [hit.reason for hit in watching.on_price(871_000.0, T0 + 2, market)] == [ExitReason.TRAILING_STOP]
    await world.engine.account([Mark("BTC/ZAR", 880_000.0, T0 + 3)])
    reborn = ExitMonitor()  # the symbol's owner forgets, execution goes on
    reborn.arm(await world.engine.exit_plans())
    assert [hit.reason for hit in reborn.on_price(871_000.0, T0 + 4, market)] == [ExitReason.TRAILING_STOP]
    await world.restart()  # both forget: the stored bars remain
    reborn = ExitMonitor()
    reborn.learn(Bar("BTC/ZAR", Timeframe.M1, T0, 850_000.0, 880_000.0, 850_000.0, 875_000.0, 1.0))
    reborn.arm(await world.engine.exit_plans())
    assert [hit.reason for hit in reborn.on_price(871_000.0, T0 + 5, market)] == [ExitReason.TRAILING_STOP]


async def test_the_saved_high_water_serves_where_both_forget() -> None:
    world = await Desk().start()
    minute = 60_000_000_000
    await world.engine.account([Mark("BTC/ZAR", 880_000.0, T0 + 1)])
    await world.engine.account([Mark("BTC/ZAR", 872_000.0, T0 + minute + 1)])  # saved with the prices, once a minute
    await world.restart()
    [plan] = await world.engine.exit_plans()
    assert plan.best_price == 880_000.0
    reborn = ExitMonitor()
    reborn.arm([plan])
    assert [hit.reason for hit in reborn.on_price(871_000.0, T0 + minute + 2, market)] == [ExitReason.TRAILING_STOP]


async def test_break_even_survives_a_restart_of_the_symbols_owner() -> None:
    world = await Desk().start()
    await world.engine.account([Mark("BTC/ZAR", 868_000.0, T0 + 1)])  # +2.1 %
    reborn = ExitMonitor()
    reborn.arm([replace(plan, trailing_pct=0.0) for plan in await world.engine.exit_plans()])
    assert [hit.reason for hit in reborn.on_price(852_000.0, T0 + 2, market)] == [ExitReason.BREAKEVEN]

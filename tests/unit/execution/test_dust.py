"""A rest that no order of the venue can close is dust: part of the equity to the last digit, but no position to be left."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from helios.domain.enums import ExitReason, OrderStatus, Side
from helios.domain.events import Mark
from helios.domain.market import MarketSnapshot
from helios.domain.orders import AccountSnapshot, ExitTriggered, Fill, OrderOutcome, OrderRecord, client_order_id
from helios.execution.engine import ExecutionEngine
from helios.execution.exit_rules import exit_quantity, is_dust
from helios.execution.memory import MemoryLedger
from helios.execution.paper import PaperBroker
from helios.execution.ports import BrokerReport
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import DAY, EXACT_FILLS, NS, PERP, RULE, SPOT, T0, D, allow_all, fill, intent, market, record

COIN = replace(SPOT, lot_size_base=D("0.01"), min_quantity_base=D("0.02"), min_notional_quote=D(10))
SYMBOL = COIN.symbol
LEFT = D("0.009")  # of 1 coin less a fee of 0.001, whole lots sold


@pytest.mark.parametrize(
    ("held", "price", "carried"),
    [
        ("0.509", "850", "0.50"),
        ("0.009", "850000", "0"),  # less than a lot
        ("0.01", "850000", "0"),  # less than the smallest quantity
        ("0.02", "499.99", "0"),  # worth less than the smallest order
        ("0.02", "500", "0.02"),
        ("30", "850", "5"),  # the rest goes with the next order
    ],
)
def test_what_one_order_can_close(held: str, price: str, carried: str) -> None:
    coin = replace(COIN, max_quantity_base=D(5))
    assert exit_quantity(D(held), D(price), coin) == D(carried)
    assert is_dust(-D(held), D(price), coin) is (D(carried) == 0)
    assert not is_dust(D(held), D(price), None)


class Venue:
    """Takes 0.1 % of what is bought in the coin itself, and refuses what is off its grid or below its sizes."""

    def __init__(self) -> None:
        self.paper = PaperBroker(EXACT_FILLS, {SYMBOL: COIN})
        self.orders: list[tuple[str, Decimal]] = []

    async def send(self, record: OrderRecord, market: MarketSnapshot) -> BrokerReport:
        self.orders.append((record.leg, record.quantity_base))
        assert record.quantity_base % COIN.lot_size_base == 0
        assert record.quantity_base >= COIN.min_quantity_base
        assert record.quantity_base * market.last >= COIN.min_notional_quote
        report = await self.paper.send(record, market)
        return replace(report, fills=tuple(map(_with_base_fee, report.fills)))

    async def status(self, record: OrderRecord) -> BrokerReport | None:
        return await self.paper.status(record)

    async def cancel(self, record: OrderRecord) -> BrokerReport:
        return await self.paper.cancel(record)


def _with_base_fee(fill: Fill) -> Fill:
    fee = fill.quantity_base / 1000 if fill.side is Side.BUY else D(0)
    return replace(fill, fee=fee, fee_currency=COIN.base, fee_quote=fee * fill.price)


class Desk:
    def __init__(self) -> None:
        self.ledger, self.venue, self.n, self.now = MemoryLedger(), Venue(), 0, T0
        self.build()

    def build(self) -> None:
        self.account = Account(D(1_000_000), T0)
        self.engine = ExecutionEngine(self.ledger, self.venue, self.account, {SYMBOL: COIN}, allow_all, "test")

    async def start(self) -> Desk:
        await self.engine.start()
        return self

    async def buy(self, quantity: str = "1", price: str = "1000") -> str:
        self.n += 1
        self.now += DAY // 4
        order = replace(intent(name=f"d{self.n}", quantity=quantity, price=price, ts=self.now), exit_rule=RULE)
        await self.engine.submit([order], {SYMBOL: market(price, ts=self.now)})
        return order.client_order_id

    async def stop(self, position_id: str, price: float) -> list[OrderOutcome]:
        self.now += NS
        snapshot = market(str(price), ts=self.now)
        return await self.engine.exits([ExitTriggered(position_id, SYMBOL, ExitReason.STOP, price, self.now, snapshot)])

    async def see(self, price: float) -> AccountSnapshot:
        self.now += NS
        return await self.engine.account_snapshot([Mark(SYMBOL, price, self.now)])

    async def to_dust(self, price: float = 950.0) -> AccountSnapshot:
        await self.stop(await self.buy(), price)
        return await self.see(price)


async def test_the_rest_of_a_closed_position_is_dust_and_nothing_is_offered_or_watched() -> None:
    desk = await Desk().start()
    shown = await desk.to_dust()
    assert desk.venue.orders == [("entry", D(1)), ("exit", D("0.99"))]
    assert (shown.dust, shown.open_positions, shown.open_position(SYMBOL)) == ((SYMBOL,), (), None)
    assert await desk.engine.exit_plans() == []
    n_events = len(desk.ledger.events)
    for _ in range(3):
        assert await desk.engine.flatten({SYMBOL: market("950", ts=desk.now)}) == []
        assert await desk.stop(client_order_id("d1", "entry"), 940.0) == []
    assert len(desk.venue.orders) == 2
    assert len(desk.ledger.events) == n_events


async def test_dust_is_worth_what_it_is_worth() -> None:
    desk = await Desk().start()
    shown = await desk.to_dust()
    [dust] = shown.positions
    assert (dust.quantity_base, dust.is_dust) == (LEFT, True)
    assert shown.equity_quote == shown.cash_quote + LEFT * 950
    assert shown.equity_quote == D(1_000_000) + shown.realised_pnl_quote + shown.unrealised_pnl_quote
    assert (await desk.see(2000.0)).equity_quote == shown.cash_quote + LEFT * 2000


async def test_a_position_that_ends_in_dust_counts_as_closed_once() -> None:
    desk = await Desk().start()
    for n in range(3):
        shown = await desk.to_dust()
        assert (shown.closed_trades, shown.winning_trades, shown.consecutive_losses) == (n + 1, 0, n + 1)
    assert [trade.is_final for trade in desk.engine.closed_trades] == [True, True, True]
    assert shown.closed_pnl_quote == sum(trade.pnl_quote for trade in desk.engine.closed_trades)


async def test_a_price_of_dust_that_stands_still_makes_no_account_stale() -> None:
    desk = await Desk().start()
    assert (await desk.to_dust()).oldest_mark_ns == 0


async def test_a_new_entry_takes_the_dust_along_and_has_exits_of_its_own() -> None:
    desk = await Desk().start()
    first = await desk.buy()
    await desk.see(1100.0)  # a best price of before
    await desk.stop(first, 950.0)
    await desk.see(950.0)
    second = await desk.buy(price="900")
    [plan] = await desk.engine.exit_plans()
    [held] = (await desk.see(900.0)).open_positions
    assert (plan.position_id, plan.opened_at, plan.expires_at) == (second, desk.now - NS, desk.now - NS + RULE.timeout_ns)
    assert held.quantity_base == LEFT + D("0.999")
    assert held.average_price == ((LEFT * 1000 + D("0.999") * 900) / held.quantity_base).quantize(D("1e-12"))
    assert (held.best_mark, held.realised_pnl_quote, plan.opened_base) == (900, 0, held.quantity_base)


async def test_a_second_fill_of_an_entry_is_no_new_position() -> None:
    desk = await Desk().start()
    position_id = await desk.buy()
    await desk.buy(quantity="0.5")
    [plan] = await desk.engine.exit_plans()
    assert (plan.position_id, plan.opened_at) == (position_id, T0 + DAY // 4)


async def test_a_price_that_falls_makes_dust_and_one_that_rises_a_position_again() -> None:
    desk = await Desk().start()
    position_id = await desk.buy(quantity="0.03", price="400")  # 12 of quote currency, less the fee: two lots
    assert (await desk.see(499.0)).dust == (SYMBOL,)
    assert await desk.engine.exit_plans() == []
    assert await desk.engine.flatten({SYMBOL: market("499", ts=desk.now)}) == []
    assert (await desk.see(500.0)).dust == ()
    assert [plan.position_id for plan in await desk.engine.exit_plans()] == [position_id]
    assert await desk.engine.flatten({SYMBOL: market("500", ts=desk.now)}) == []
    assert (await desk.see(500.0)).dust == (SYMBOL,)
    assert desk.venue.orders[1:] == [("exit", D("0.02"))]


async def test_an_exit_below_the_smallest_order_is_not_sent_and_may_fire_again() -> None:
    desk = await Desk().start()
    position_id = await desk.buy(quantity="0.03", price="400")
    await desk.see(499.9)
    assert await desk.stop(position_id, 499.0) == []
    await desk.see(501.0)
    [plan] = await desk.engine.exit_plans()
    assert plan.attempts == 1  # the symbol's owner, which heard nothing of it, lets it fire again
    [outcome] = await desk.stop(position_id, 501.0)
    assert (outcome.record.status, outcome.record.quantity_base) == (OrderStatus.FILLED, D("0.02"))


async def test_one_wild_price_makes_no_dust_of_a_position_that_has_to_go() -> None:
    desk = await Desk().start()
    position_id = await desk.buy()
    trigger = ExitTriggered(position_id, SYMBOL, ExitReason.EMERGENCY, 0.01, desk.now, market("990", ts=desk.now))
    [outcome] = await desk.engine.exits([trigger])
    assert (outcome.record.status, outcome.record.quantity_base) == (OrderStatus.FILLED, D("0.99"))


async def test_a_restart_finds_the_same_dust_the_same_position_and_the_same_count() -> None:
    desk = await Desk().start()
    await desk.to_dust()
    before = await desk.see(950.0)
    desk.build()
    await desk.engine.start()
    assert (await desk.see(950.0)).positions == tuple(replace(p, marked_at=desk.now) for p in before.positions)
    await desk.buy(price="900")
    plans, shown = await desk.engine.exit_plans(), await desk.see(900.0)
    desk.build()
    await desk.engine.start()
    again = await desk.see(900.0)
    assert [p.position_id for p in await desk.engine.exit_plans()] == [p.position_id for p in plans]
    assert (again.closed_trades, again.consecutive_losses, again.equity_quote) == (1, 1, shown.equity_quote)


async def test_an_exit_is_sent_where_its_own_price_makes_it_large_enough() -> None:
    desk = await Desk().start()
    position_id = await desk.buy(quantity="0.03", price="400")
    await desk.see(499.0)  # dust to the account, which has not heard of the newest price
    [outcome] = await desk.stop(position_id, 501.0)
    assert outcome.record.status is OrderStatus.FILLED


def folded(*fills: tuple[str, Side, str, str], symbol: str = SYMBOL) -> Account:
    """An account of (order, side, quantity, price), one second apart; an order named twice has two fills."""
    account = Account(D(100_000), T0)
    account.know({SYMBOL: COIN, PERP.symbol: replace(COIN, symbol=PERP.symbol, kind=PERP.kind)})
    for n, (name, side, quantity, price) in enumerate(fills):
        order = record(name=name, side=side, quantity=quantity, symbol=symbol)
        account.apply(order, fill(order, n, price=price, ts=T0 + n * NS))
    return account


def test_an_entry_whose_first_fill_was_dust_is_one_position_since_then() -> None:
    [plan] = folded(("a", Side.BUY, "0.01", "1000"), ("a", Side.BUY, "0.99", "1000")).exit_plans()
    assert (plan.opened_at, plan.opened_base) == (T0, 1)


def test_an_entry_beside_a_rest_that_has_become_a_position_again_is_a_new_one() -> None:
    account = folded(("a", Side.BUY, "1", "100"), ("b", Side.SELL, "0.95", "100"), ("c", Side.BUY, "1", "300"))
    [plan] = account.exit_plans()  # 0.05 at 100 was dust, at 300 it is not
    assert (plan.position_id, plan.opened_at) == (client_order_id("c", "entry"), T0 + 2 * NS)
    for name in ("d", "e"):
        account.apply(order := record(name=name, side=Side.SELL, quantity="0.525"), fill(order, price="200", ts=T0 + 9 * NS))
    assert account.snapshot(T0 + 9 * NS).closed_trades == 2


def test_an_order_that_takes_dust_along_ends_no_position_twice() -> None:
    account = folded(("a", Side.BUY, "1", "1000"), ("b", Side.SELL, "0.99", "900"), ("c", Side.SELL, "1", "800"), symbol=PERP.symbol)
    shown = account.snapshot(T0 + 9 * NS)
    assert [trade.is_final for trade in account.closed] == [True, False]
    assert (shown.closed_trades, shown.positions[0].quantity_base) == (1, D("-0.99"))
    assert shown.closed_pnl_quote == D("-99") - 2

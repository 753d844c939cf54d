"""Fees in the base asset leave rests on the grid's far side: what is called dust moves no money, and nothing is counted twice."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Side
from helios.domain.events import Mark
from helios.domain.orders import AccountSnapshot, Fill, OrderRecord
from helios.execution.exit_rules import exit_quantity
from helios.portfolio.accounting import Account
from helios.portfolio.lots import fold_lots
from tests.support.execution_fakes import DAY, PERP, SPOT, T0, D, fill, record

COIN = replace(SPOT, lot_size_base=D("0.01"), min_quantity_base=D("0.02"), min_notional_quote=D(10))
SWAP = replace(PERP, lot_size_base=D("0.01"), min_notional_quote=D(10))
INSTRUMENTS = {COIN.symbol: COIN, SWAP.symbol: SWAP}
Step = tuple[OrderRecord, Fill]


@st.composite
def trades(draw: st.DrawFn) -> list[Step]:
    """Entries, and exits of all that one order can close, each in one or two fills; on spot the coin pays for the entries."""
    steps: list[Step] = []
    instrument = draw(st.sampled_from([COIN, SWAP]))
    held = D(0)
    for n in range(draw(st.integers(1, 10))):
        price = draw(st.integers(300, 900))
        closable = exit_quantity(abs(held), D(price), instrument)
        is_exit = closable > 0 and draw(st.booleans())
        quantity = closable if is_exit else draw(st.integers(2, 300)) * D("0.01")
        side = (
            (Side.SELL if held > 0 else Side.BUY)
            if is_exit
            else draw(st.sampled_from([Side.BUY, *([Side.SELL] * (instrument is SWAP))]))
        )
        order = record(name=f"o{n}", side=side, quantity=str(quantity), symbol=instrument.symbol, reduce_only=is_exit)
        first = quantity if draw(st.booleans()) else max(D("0.01"), quantity - D("0.01"))
        for index, part in enumerate(q for q in (first, quantity - first) if q > 0):
            made = fill(order, index, str(part), str(price), ts=T0 + n * DAY // 5)
            if side is Side.BUY and instrument is COIN:
                fee = part / 1000
                made = replace(made, fee=fee, fee_currency=COIN.base, fee_quote=fee * price)
                held -= fee
            held += side * part
            steps.append((order, made))
    return steps


def account_of(steps: list[Step], knows: bool, price: int) -> tuple[Account, AccountSnapshot]:
    account = Account(D(100_000), T0)
    if knows:
        account.know(INSTRUMENTS)
    for order, part in steps:
        account.apply(order, part)
    account.mark(Mark(steps[0][0].symbol, float(price), T0 + 9 * DAY))
    return account, account.snapshot(T0 + 9 * DAY)


@settings(max_examples=200, deadline=None)
@given(trades(), st.integers(300, 900))
def test_dust_moves_no_money(steps: list[Step], price: int) -> None:
    (account, shown), (_, plain) = account_of(steps, True, price), account_of(steps, False, price)
    same = ("equity_quote", "cash_quote", "realised_pnl_quote", "unrealised_pnl_quote", "fees_quote", "peak_equity_quote")
    assert [getattr(shown, name) for name in same] == [getattr(plain, name) for name in same]
    held = sum((Fraction(p.quantity_base) * Fraction(p.mark_price) for p in shown.positions), Fraction(0))
    assert Fraction(shown.equity_quote) == Fraction(shown.cash_quote) + held
    assert shown.equity_quote == D(100_000) + shown.realised_pnl_quote + shown.unrealised_pnl_quote
    lots = fold_lots([part for _, part in steps], []).open_lots
    assert sum((Fraction(lot.side * lot.quantity_base) for lot in lots), Fraction(0)) == sum(
        (Fraction(p.quantity_base) for p in shown.positions), Fraction(0)
    )
    assert len(account.exit_plans()) == len(shown.open_positions)


@settings(max_examples=200, deadline=None)
@given(trades(), st.integers(300, 900))
def test_every_position_ends_at_most_once_and_the_closed_trades_are_all_that_was_closed(steps: list[Step], price: int) -> None:
    account, shown = account_of(steps, True, price)
    ended = [trade.position_id for trade in account.closed if trade.is_final]
    assert len(ended) == len(set(ended)) == shown.closed_trades
    open_ids = {p.decision_id for p in shown.positions}
    pnl = sum((trade.pnl_quote for trade in account.closed), D(0))
    if not open_ids:
        assert shown.closed_pnl_quote == pnl
    for position in shown.positions:
        order, part = steps[-1]
        is_left = order.reduce_only and exit_quantity(abs(position.quantity_base), part.price, INSTRUMENTS[part.symbol]) == 0
        assert not is_left or account.closed[-1].is_final


@settings(max_examples=100, deadline=None)
@given(trades(), st.integers(300, 900))
def test_what_is_dust_is_said_by_the_smallest_order_alone(steps: list[Step], price: int) -> None:
    _, shown = account_of(steps, True, price)
    for position in shown.positions:
        instrument = INSTRUMENTS[position.symbol]
        lots = abs(position.quantity_base) // instrument.lot_size_base * instrument.lot_size_base
        is_taken = lots >= max(instrument.min_quantity_base, D("0.01")) and lots * price >= 10
        assert position.is_dust is not is_taken

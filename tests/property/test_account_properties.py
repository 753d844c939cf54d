"""The account is an exact, replayable fold of its fills."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Side
from helios.domain.events import Mark
from helios.domain.orders import AccountSnapshot, Fill, OrderRecord
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import DAY, T0, D, fill, record

SYMBOLS = ("BTC/ZAR", "ETH/ZAR")
Step = tuple[OrderRecord, Fill]


@st.composite
def trades(draw: st.DrawFn) -> list[Step]:
    steps: list[Step] = []
    for n in range(draw(st.integers(1, 12))):
        order = record(
            name=f"o{n}",
            side=draw(st.sampled_from(Side)),
            quantity=str(draw(st.decimals("0.00000001", 100, places=8))),
            symbol=draw(st.sampled_from(SYMBOLS)),
        )
        price, fee = (str(draw(st.decimals(low, high, places=2))) for low, high in (("0.01", 10**6), (0, 50)))
        steps.append((order, fill(order, price=price, fee=fee, ts=T0 + n * DAY // 4)))
    return steps


def played(steps: list[Step]) -> Account:
    account = Account(D(100_000), T0)
    for order, part in steps:
        account.apply(order, part)
    return account


def comparable(account: Account) -> AccountSnapshot:
    return account.snapshot(T0 + 9 * DAY)


@settings(max_examples=60, deadline=None)
@given(trades(), st.floats(0.01, 1e6))
def test_equity_is_cash_plus_marked_positions_and_initial_plus_pnl_exactly(steps: list[Step], price: float) -> None:
    account = played(steps)
    for symbol in SYMBOLS:
        account.mark(Mark(symbol, price, T0 + 9 * DAY))
    shown = comparable(account)
    with localcontext(Context(prec=80)):
        held = sum((p.quantity_base * p.mark_price for p in shown.positions), Decimal(0))
        gross = shown.realised_pnl_quote + shown.fees_quote
        assert shown.cash_quote + held == D(100_000) + gross - shown.fees_quote + shown.unrealised_pnl_quote
        assert shown.equity_quote == shown.cash_quote + held


@settings(max_examples=40, deadline=None)
@given(trades())
def test_position_is_the_signed_sum_of_its_fills(steps: list[Step]) -> None:
    shown = comparable(played(steps))
    for symbol in SYMBOLS:
        expected = sum((f.side * f.quantity_base for _, f in steps if f.symbol == symbol), Decimal(0))
        position = shown.position(symbol)
        assert (Decimal(0) if position is None else position.quantity_base) == expected


@settings(max_examples=40, deadline=None)
@given(trades(), st.data())
def test_replay_rebuilds_the_account_and_duplicates_change_nothing(steps: list[Step], data: st.DataObject) -> None:
    account, again = played(steps), played(steps)
    assert comparable(account) == comparable(again)
    assert account.closed == again.closed
    for order, part in data.draw(st.lists(st.sampled_from(steps), max_size=8)):
        account.apply(order, part)
    assert comparable(account) == comparable(again)
    assert account.closed == again.closed


@settings(max_examples=40, deadline=None)
@given(trades())
def test_closed_trades_and_open_positions_account_for_all_profit(steps: list[Step]) -> None:
    account = played(steps)
    shown = comparable(account)
    with localcontext(Context(prec=80)):
        closed = sum((trade.pnl_quote for trade in account.closed), Decimal(0))
        fees_of_open = sum((trade.fees_quote for trade in account.closed), Decimal(0)) - shown.fees_quote
        assert closed + fees_of_open == shown.realised_pnl_quote

"""The account is an exact, replayable fold of its fills."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, localcontext
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Side
from helios.domain.events import Mark
from helios.domain.orders import AccountSnapshot, Fill, OrderRecord
from helios.execution.ports import AccountState
from helios.portfolio.accounting import Account, utc_day
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


@dataclass
class Ledgerless:
    """The account written a second time, with fractions and nothing but its definitions: what is held, owed and priced."""

    cash: Fraction
    put_in: Fraction
    peak: Fraction
    held: dict[str, Fraction] = field(default_factory=dict)
    prices: dict[str, Fraction] = field(default_factory=dict)
    owed: Fraction = Fraction(0)
    owed_value: Fraction = Fraction(0)
    rate: Fraction | None = None

    def fill(self, part: Fill) -> None:
        side, quantity, price, fee = part.side.value, Fraction(part.quantity_base), Fraction(part.price), Fraction(part.fee)
        moved = quantity
        if part.fee_currency == part.symbol.split("/")[0]:
            moved = quantity - fee if side > 0 else quantity + fee
        elif part.fee_currency == "BNB":
            self.owed -= fee
            self.owed_value -= Fraction(part.fee_quote)
        else:
            self.cash -= Fraction(part.fee_quote)
        self.cash -= side * quantity * price
        self.held[part.symbol] = self.held.get(part.symbol, Fraction(0)) + side * moved
        self.prices[part.symbol] = price
        self.see()

    def transfer(self, amount: Decimal) -> None:
        before = self.equity
        self.cash += Fraction(amount)
        self.put_in += Fraction(amount)
        if before > 0 and self.equity > 0:  # to twelve digits, as the account keeps it
            self.peak = Fraction(round(self.peak * self.equity / before * 10**12), 10**12)
        else:
            self.peak += self.equity - before
        self.see()

    def see(self) -> None:
        self.peak = max(self.peak, self.equity)

    @property
    def equity(self) -> Fraction:
        owed = self.owed_value if self.rate is None else self.owed * self.rate
        return self.cash + owed + sum((q * self.prices[s] for s, q in self.held.items()), Fraction(0))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, object]]:
    """Fills with fees in three currencies, funding, transfers, marks and rates, at rising times."""
    amounts = st.decimals(-5_000, 5_000, places=6)
    steps: list[tuple[str, object]] = []
    for n in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(("fill", "fill", "fill", "mark", "fund", "transfer", "rate", "reset")))
        symbol, ts = draw(st.sampled_from(SYMBOLS)), T0 + n * DAY // 5
        if kind == "fill":
            order = record(name=f"h{n}", side=draw(st.sampled_from(Side)), symbol=symbol,
                           quantity=str(draw(st.decimals("0.001", 100, places=8))))  # fmt: skip
            part = fill(order, price=str(draw(st.decimals("0.01", 10**6, places=2))), ts=ts)
            currency = draw(st.sampled_from(("ZAR", "BNB", symbol.split("/")[0])))
            fee, value = draw(st.decimals("0.0000001", "0.0009", places=7)), draw(st.decimals(0, 50, places=3))
            steps.append((kind, (order, replace(part, fee=fee, fee_currency=currency, fee_quote=value))))
        elif kind in ("fund", "transfer"):
            steps.append((kind, (draw(amounts), ts, f"m{n}", symbol)))
        else:
            steps.append((kind, (symbol, draw(st.decimals("0.01", 10**6, places=4)), ts)))
    return steps


def live(history: list[tuple[str, object]]) -> tuple[Account, Ledgerless]:
    account, model = Account(D(100_000), T0, quote="ZAR"), Ledgerless(*(Fraction(100_000),) * 3)
    for kind, step in history:
        if kind == "fill":
            account.apply(*step)  # type: ignore[misc]
            model.fill(step[1])  # type: ignore[index]
            continue
        a, b, c, *rest = step  # type: ignore[misc]
        if kind == "fund":
            account.fund(rest[0], a, b, c)
            model.cash += Fraction(a)
        elif kind == "transfer":
            account.transfer(a, b, c)
            model.transfer(a)
        elif kind == "mark":
            account.mark(Mark(a, float(b), c))
            model.prices[a] = Fraction(str(float(b)))
        elif kind == "rate":
            account.rate("BNB", b, c)
            model.rate = Fraction(b)
        elif model.equity > 0:
            account.rebase_peak(c)
            model.peak = model.equity
        model.see()
    return account, model


@settings(max_examples=80, deadline=None)
@given(histories())
def test_account_equals_an_independent_one_in_fractions(history: list[tuple[str, object]]) -> None:
    account, model = live(history)
    shown = comparable(account)
    assert Fraction(shown.cash_quote) == model.cash
    assert Fraction(shown.equity_quote) == model.equity
    assert Fraction(shown.peak_equity_quote) == model.peak
    assert {p.symbol: Fraction(p.quantity_base) for p in shown.positions} == {s: q for s, q in model.held.items() if q}
    gains = Fraction(shown.realised_pnl_quote) + Fraction(shown.unrealised_pnl_quote)
    assert Fraction(shown.equity_quote) == model.put_in + gains
    assert Fraction(shown.transfers_quote) == model.put_in - 100_000


@settings(max_examples=60, deadline=None)
@given(histories())
def test_trades_open_positions_and_late_funding_make_up_the_realised_profit(history: list[tuple[str, object]]) -> None:
    account, _ = live(history)
    shown = comparable(account)
    trades = sum((Fraction(t.pnl_quote) for t in account.closed), Fraction(0))
    fees = sum((Fraction(t.fees_quote) for t in account.closed), Fraction(0))
    funding = sum((Fraction(t.funding_quote) for t in account.closed), Fraction(0))
    still_open = (Fraction(shown.funding_quote) - funding) - (Fraction(shown.fees_quote) - fees)
    assert trades + still_open == Fraction(shown.realised_pnl_quote)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_restart_from_fills_movements_and_the_saved_state_is_no_change(history: list[tuple[str, object]]) -> None:
    account, _ = live(history)
    shown = account.snapshot(account.as_of)
    again = Account(D(100_000), T0, quote="ZAR")
    for kind, step in history:
        if kind == "fill":
            again.apply(*step)  # type: ignore[misc]
        elif kind == "fund":
            again.fund(step[3], *step[:3])  # type: ignore[index]
        elif kind == "transfer":
            again.transfer(*step[:3])  # type: ignore[index]
    again.restore(
        AccountState(
            str(shown.peak_equity_quote), utc_day(shown.ts_event), str(shown.day_start_equity_quote), shown.peak_rebased_at,
            tuple((p.symbol, str(p.mark_price), p.marked_at) for p in shown.positions),
            tuple((currency, str(rate), ts) for currency, rate, ts in shown.rates),
            bests=tuple((p.symbol, str(p.best_mark), p.opened_at) for p in shown.positions if p.best_mark is not None),
        )
    )  # fmt: skip
    assert again.snapshot(shown.ts_event) == shown

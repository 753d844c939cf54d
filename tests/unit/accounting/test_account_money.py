"""Fees in every currency, funding, transfers, the reset of the peak and the age of the marks."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from helios.domain.enums import MovementKind, Side
from helios.domain.events import Mark
from helios.domain.orders import Fill, Movement, OrderRecord
from helios.errors import InvariantError, RejectedError
from helios.execution.ports import AccountState
from helios.portfolio.accounting import Account, utc_day
from helios.portfolio.daily import performance
from tests.support.execution_fakes import DAY, T0, D, fill, record

NAN = Decimal("NaN")
PERP = "BTC/USDT:USDT"


def taken(order: OrderRecord, fee: str, currency: str, value: Decimal, price: str = "100", index: int = 0) -> Fill:
    return replace(fill(order, index, price=price), fee=D(fee), fee_currency=currency, fee_quote=value)


def test_fee_in_the_base_asset_shrinks_what_was_bought_and_its_cost_exactly() -> None:
    account, order = Account(D(1_000), T0), record(quantity="2")
    account.apply(order, taken(order, "0.002", "BTC", NAN))
    shown = account.snapshot(T0)
    position = shown.positions[0]
    assert (position.quantity_base, position.average_price) == (D("1.998"), D(100))
    assert (shown.cash_quote, shown.fees_quote, shown.equity_quote) == (D(800), D("0.2"), D("999.8"))


def test_base_fee_is_the_same_as_buying_less_with_a_quote_fee() -> None:
    kept, paid = Account(D(1_000), T0), Account(D(1_000), T0)
    order, less = record(quantity="2"), record(quantity="1.998")
    kept.apply(order, taken(order, "0.002", "BTC", D("0.19")))  # the broker's own rounding of the value has no say
    paid.apply(less, fill(less, price="100", fee="0.2"))
    assert replace(kept.snapshot(T0), positions=()) == replace(paid.snapshot(T0), positions=())
    assert kept.snapshot(T0).positions[0].unrealised_pnl_quote == paid.snapshot(T0).positions[0].unrealised_pnl_quote == 0


def test_base_fee_of_a_sale_comes_out_of_the_holding() -> None:
    account, order = Account(D(1_000), T0), record(quantity="2")
    account.apply(order, fill(order, price="100"))
    sale = record(name="s", side=Side.SELL, quantity="1", reduce_only=True)
    account.apply(sale, taken(sale, "0.001", "BTC", NAN, "110"))
    shown = account.snapshot(T0)
    assert shown.cash_quote == D(800) + D(110)
    assert shown.positions[0].quantity_base == D("0.999")


def test_fee_that_eats_the_quantity_is_refused_and_books_nothing() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    with pytest.raises(InvariantError, match="leaves nothing"):
        account.apply(order, taken(order, "1", "BTC", NAN))
    assert account.has_fill(f"{order.client_order_id}-0") is False
    assert account.snapshot(T0).cash_quote == D(1_000)


def test_fee_in_a_third_currency_is_a_debt_in_it_that_its_rate_revalues() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    account.apply(order, taken(order, "0.01", "BNB", D("0.5")))
    shown = account.snapshot(T0)
    assert (shown.balances, shown.cash_quote) == ((("BNB", D("-0.01")),), D(900))
    assert (shown.equity_quote, shown.realised_pnl_quote, shown.currency_pnl_quote) == (D("999.5"), D("-0.5"), D(0))
    account.mark(Mark("BNB/ZAR", 60.0, T0 + 1))
    shown = account.snapshot(T0 + 1)
    assert (shown.equity_quote, shown.currency_pnl_quote, shown.unrealised_pnl_quote) == (D("999.4"), D("-0.1"), D("-0.1"))


def test_fee_whose_value_nobody_says_is_flagged_until_a_rate_comes() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    account.apply(order, taken(order, "0.01", "BNB", NAN))
    shown = account.snapshot(T0)
    assert (shown.equity_quote, shown.unvalued) == (D(1_000), ("BNB",))
    account.rate("BNB", D(50), T0 + 1)
    shown = account.snapshot(T0 + 1)
    assert (shown.equity_quote, shown.unvalued) == (D("999.5"), ())


def test_unvalued_fee_takes_the_rate_that_is_known() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    account.rate("BNB", D(50), T0)
    account.apply(order, taken(order, "0.01", "BNB", NAN))
    assert account.snapshot(T0).fees_quote == D("0.5")
    account.rate("BNB", D(70), T0 - 1)
    assert account.snapshot(T0).equity_quote == D("999.5")  # the older rate changed nothing


@pytest.mark.parametrize("rate", [NAN, D(0), D(-1)])
def test_bad_rate_is_counted_and_changes_nothing(rate: Decimal) -> None:
    account = Account(D(1_000), T0)
    account.rate("BNB", rate, T0)
    assert (account.bad_marks, account.snapshot(T0).equity_quote) == (1, D(1_000))


def test_fee_in_quote_currency_must_be_a_number() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    with pytest.raises(InvariantError):
        account.apply(order, taken(order, "1", "ZAR", NAN))


def test_fee_of_a_contract_in_its_base_coin_leaves_the_position_alone() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1", symbol=PERP)
    account.apply(order, taken(order, "0.001", "BTC", D("0.1")))
    shown = account.snapshot(T0)
    assert (shown.positions[0].quantity_base, shown.balances) == (D(1), (("BTC", D("-0.001")),))


def test_funding_is_realised_counted_apart_and_belongs_to_the_trade() -> None:
    account, order = Account(D(1_000), T0), record(side=Side.SELL, quantity="4", symbol=PERP)
    account.apply(order, fill(order, price="100"))
    for _ in range(2):
        account.fund(PERP, D("1.2"), T0 + 1, "f1")
    account.fund(PERP, D("-0.4"), T0 + 2, "f2")
    half = record(name="h", side=Side.BUY, quantity="1", symbol=PERP, reduce_only=True)
    account.apply(half, fill(half, price="90", ts=T0 + 3))
    shown = account.snapshot(T0 + 3)
    assert (shown.funding_quote, shown.realised_pnl_quote, shown.cash_quote) == (D("0.8"), D("10.8"), D("1310.8"))
    assert (account.closed[0].funding_quote, account.closed[0].pnl_quote) == (D("0.2"), D("10.2"))


def test_funding_after_the_close_is_the_accounts_alone() -> None:
    account = Account(D(1_000), T0)
    account.fund(PERP, D("-2"), T0, "late")
    shown = account.snapshot(T0)
    assert (shown.equity_quote, shown.funding_quote, shown.positions) == (D(998), D(-2), ())


def test_losing_funding_makes_a_flat_trade_a_loss() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1", symbol=PERP)
    account.apply(order, fill(order, price="100"))
    account.fund(PERP, D("-1"), T0, "f")
    close = record(name="c", side=Side.SELL, quantity="1", symbol=PERP, reduce_only=True)
    account.apply(close, fill(close, price="100"))
    shown = account.snapshot(T0)
    assert (shown.consecutive_losses, shown.closed_pnl_quote) == (1, D(-1))


@pytest.mark.parametrize("amount", ["500", "-500"])
def test_transfer_moves_cash_and_day_start_and_is_no_profit(amount: str) -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    account.apply(order, fill(order, price="100"))
    account.mark(Mark("BTC/ZAR", 90.0, T0 + 1))
    before = account.snapshot(T0 + 1)
    for _ in range(2):
        account.transfer(D(amount), T0 + 2, "t1")
    shown = account.snapshot(T0 + 2)
    changed = ("cash_quote", "equity_quote", "day_start_equity_quote", "transfers_quote")
    assert {getattr(shown, name) - getattr(before, name) for name in changed} == {D(amount)}
    assert (shown.realised_pnl_quote, shown.unrealised_pnl_quote) == (before.realised_pnl_quote, before.unrealised_pnl_quote)


@pytest.mark.parametrize("amount", ["5000", "500", "-500", "-900"])
def test_a_transfer_keeps_the_drawdown_s_fraction(amount: str) -> None:
    # 8 % down; half of it taken out must not look like 16 %, which would halt the desk and sell everything
    account, order = Account(D(1_000), T0), record(quantity="8")
    account.apply(order, fill(order, price="100"))
    account.mark(Mark("BTC/ZAR", 90.0, T0 + 1))
    assert account.snapshot(T0 + 1).drawdown == 0.08
    account.transfer(D(amount), T0 + 2, "t1")
    shown = account.snapshot(T0 + 2)
    assert shown.equity_quote == D(920) + D(amount)
    assert shown.drawdown == pytest.approx(0.08, abs=1e-12)


def test_money_that_was_all_taken_out_and_comes_back_has_no_drawdown() -> None:
    account = Account(D(1_000), T0)
    account.transfer(D(-1_000), T0 + 1, "out")
    assert (account.snapshot(T0 + 1).peak_equity_quote, account.snapshot(T0 + 1).drawdown) == (0, 0.0)
    account.transfer(D(700), T0 + 2, "in")
    assert (account.snapshot(T0 + 2).peak_equity_quote, account.snapshot(T0 + 2).drawdown) == (700, 0.0)


def test_deposit_of_another_currency_needs_a_value() -> None:
    account = Account(D(1_000), T0, quote="ZAR")
    with pytest.raises(RejectedError, match="BNB"):
        account.transfer(D(2), T0, "t", "BNB")
    assert account.has_movement("t") is False
    account.transfer(D(2), T0, "t", "BNB", D(100))
    account.rate("BNB", D(55), T0 + 1)
    shown = account.snapshot(T0 + 1)
    assert (shown.equity_quote, shown.transfers_quote, shown.currency_pnl_quote) == (D(1_110), D(100), D(10))
    account.transfer(D(50), T0 + 1, "t2", "ZAR")
    assert account.snapshot(T0 + 1).cash_quote == D(1_050)


def test_movements_of_the_ledger_rebuild_the_same_account() -> None:
    lived, rebuilt = Account(D(1_000), T0), Account(D(1_000), T0)
    lived.transfer(D(10), T0, "a")
    lived.fund(PERP, D(3), T0, "b")
    kept = [Movement("a", MovementKind.TRANSFER, D(10), T0), Movement("b", MovementKind.FUNDING, D(3), T0, PERP)]
    for movement in (*kept, *kept):
        rebuilt.book(movement)
    assert rebuilt.snapshot(T0) == lived.snapshot(T0)


def test_movement_without_an_amount_is_refused() -> None:
    with pytest.raises(InvariantError):
        Account(D(1_000), T0).fund(PERP, NAN, T0, "f")


def test_reset_of_the_peak_holds_against_replayed_fills() -> None:
    def fresh() -> Account:
        account, order = Account(D(1_000), T0), record(quantity="5")
        account.apply(order, fill(order, price="100"))
        add = record(name="top", quantity="1")
        account.apply(add, fill(add, price="200", ts=T0 + 1))
        return account

    account = fresh()
    account.mark(Mark("BTC/ZAR", 120.0, T0 + 2))
    assert account.snapshot(T0 + 2).drawdown == pytest.approx(480 / 1_500)
    account.rebase_peak(T0 + 2)
    shown = account.snapshot(T0 + 2)
    assert (shown.drawdown, shown.peak_equity_quote, shown.peak_rebased_at) == (0.0, D(1_020), T0 + 2)
    again = fresh()
    again.restore(AccountState(str(shown.peak_equity_quote), utc_day(T0), "1000", shown.peak_rebased_at))
    again.mark(Mark("BTC/ZAR", 110.0, T0 + 3))
    later = again.snapshot(T0 + 3)
    assert later.drawdown == pytest.approx(60 / 1_020)
    assert later.peak_rebased_at == T0 + 2


def test_a_new_high_after_the_reset_is_a_peak_again() -> None:
    account, order = Account(D(1_000), T0), record(quantity="5")
    account.apply(order, fill(order, price="100"))
    account.rebase_peak(T0)
    account.mark(Mark("BTC/ZAR", 140.0, T0 + 1))
    assert account.snapshot(T0 + 1).peak_equity_quote == D(1_200)


def test_snapshot_says_how_old_its_oldest_price_is() -> None:
    account = Account(D(1_000), T0)
    assert account.snapshot(T0 + DAY).mark_age_ns == 0
    for n, symbol in enumerate(("BTC/ZAR", "ETH/ZAR")):
        order = record(name=symbol, quantity="1", symbol=symbol)
        account.apply(order, fill(order, price="10", ts=T0 + n))
    account.mark(Mark("ETH/ZAR", 11.0, T0 + 50))
    shown = account.snapshot(T0 + 60)
    assert (shown.oldest_mark_ns, shown.mark_age_ns) == (T0, 60)


def test_performance_leaves_deposits_out() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    account.apply(order, fill(order, price="100"))
    close = record(name="c", side=Side.SELL, quantity="1", reduce_only=True)
    account.apply(close, fill(close, price="210"))
    account.transfer(D(100), T0, "t")
    shown = performance(account.snapshot(T0), D(1_000))
    assert shown["total_return"] == pytest.approx(0.1)
    assert (shown["total_pnl_quote"], shown["win_rate"], shown["mean_pnl_quote"]) == ("110", 1.0, "110.00")


def test_performance_of_nothing_is_unknown_not_zero() -> None:
    shown = performance(Account(D(0), T0).snapshot(T0), D(0))
    assert (shown["total_return"], shown["win_rate"], shown["mean_pnl_quote"]) == (None, None, None)


def test_replayed_fills_do_not_invent_a_peak() -> None:
    account = Account(D(1_000), T0)
    for name, symbol, price, side, at in (
        ("a", "A/ZAR", "10", Side.BUY, 1), ("b", "B/ZAR", "10", Side.BUY, 2),
        ("c", "A/ZAR", "20", Side.SELL, 3), ("d", "B/ZAR", "20", Side.SELL, 5),
    ):  # fmt: skip
        order = record(name=name, symbol=symbol, side=side, quantity="10" if side is Side.BUY else "1")
        account.apply(order, fill(order, price=price, ts=T0 + at))
    assert account.snapshot(T0 + 5).drawdown == 0.0  # A is still at 20 here; in life it had come back to 10 at 4
    account.restore(AccountState("1100", utc_day(T0), "1000", 0, (("A/ZAR", "10", T0 + 6), ("B/ZAR", "20", T0 + 6))))
    shown = account.snapshot(T0 + 6)
    assert (shown.equity_quote, shown.peak_equity_quote, shown.drawdown) == (D(1_110), D(1_110), 0.0)


def test_prices_older_than_the_fills_are_not_restored() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    account.apply(order, fill(order, price="100"))
    account.restore(AccountState("1000", utc_day(T0), "1000", 0, (("BTC/ZAR", "10", T0 - 1),)))
    assert account.snapshot(T0).equity_quote == D(1_000)


def test_account_that_owes_has_lost_all_and_its_peak_cannot_be_reset() -> None:
    account = Account(D(100), T0)
    account.fund(PERP, D(-150), T0, "f")
    assert account.snapshot(T0).drawdown == pytest.approx(1.5)
    account.transfer(D(-100), T0, "t")
    shown = account.snapshot(T0)
    assert (shown.peak_equity_quote, shown.drawdown, shown.daily_loss) == (D(0), 1.0, 1.0)
    with pytest.raises(RejectedError):
        account.rebase_peak(T0)

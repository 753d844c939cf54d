"""The account against the numbers of the behaviour sheet and hand-computed cases."""

from __future__ import annotations

import math

import pytest

from helios.domain.enums import Side
from helios.domain.events import Mark
from helios.domain.orders import OrderRecord
from helios.errors import InvariantError
from helios.execution.ports import AccountState
from helios.portfolio.accounting import Account, utc_day
from tests.support.execution_fakes import DAY, T0, D, fill, record


def bought(quantity: str = "0.5", price: str = "850000", cash: str = "1000000", fee: str = "0") -> tuple[Account, OrderRecord]:
    account, order = Account(D(cash), T0), record(quantity=quantity)
    account.apply(order, fill(order, price=price, fee=fee))
    return account, order


def test_opening_takes_the_cost_from_cash_and_leaves_equity() -> None:
    snapshot = bought()[0].snapshot(T0)
    assert snapshot.cash_quote == D(575_000)
    assert snapshot.equity_quote == D(1_000_000)
    assert snapshot.positions[0].unrealised_pnl_quote == 0


def test_long_marked_up_shows_the_gain_and_its_percentage() -> None:
    account, _ = bought()
    account.mark(Mark("BTC/ZAR", 875_000.0, T0 + 1))
    position = account.snapshot(T0 + 1).positions[0]
    assert position.unrealised_pnl_quote == D(12_500)
    share = position.unrealised_pnl_quote / (position.quantity_base * position.average_price)
    assert round(100 * share, 2) == D("2.94")


def test_closing_returns_the_whole_value_to_cash_and_books_the_gain() -> None:
    account, order = bought()
    before = account.snapshot(T0).cash_quote
    close = record(name="c", side=Side.SELL, reduce_only=True)
    account.apply(close, fill(close, price="875000", ts=T0 + 5))
    snapshot = account.snapshot(T0 + 5)
    assert snapshot.cash_quote - before == D(437_500)
    assert snapshot.realised_pnl_quote == D(12_500)
    assert snapshot.positions == ()
    trade = account.closed[0]
    assert (trade.position_id, trade.pnl_quote, trade.is_final) == (order.client_order_id, D(12_500), True)


def test_short_gains_when_the_price_falls_whatever_the_leverage() -> None:
    account = Account(D(10_000), T0)
    order = record(side=Side.SELL, quantity="10")
    account.apply(order, fill(order, price="100"))
    assert account.snapshot(T0).cash_quote == D(11_000)
    account.mark(Mark("BTC/ZAR", 90.0, T0 + 1))
    snapshot = account.snapshot(T0 + 1)
    assert snapshot.unrealised_pnl_quote == D(100)
    assert snapshot.equity_quote == D(10_100)


def test_flip_closes_the_old_position_and_opens_one_with_a_new_identity() -> None:
    account, first = bought("0.5", "100")
    flip = record(name="flip", side=Side.SELL, quantity="0.8")
    account.apply(flip, fill(flip, price="110", fee="0.8", ts=T0 + 1))
    position = account.snapshot(T0 + 1).positions[0]
    assert (position.quantity_base, position.average_price) == (D("-0.3"), D(110))
    assert account.position_id("BTC/ZAR") == flip.client_order_id
    assert account.closed[0].position_id == first.client_order_id
    assert account.closed[0].pnl_quote == D("5") - D("0.5")  # five eighths of the flip's fee belong to the close


def test_partial_close_leaves_a_trade_and_the_average_of_the_rest() -> None:
    account, order = bought("1", "100", fee="1")
    close = record(name="c", side=Side.SELL, quantity="0.25", reduce_only=True)
    account.apply(close, fill(close, price="120"))
    assert account.closed[0].pnl_quote == D("4.75")  # 0.25 x 20, less a quarter of the entry fee
    assert account.closed[0].is_final is False
    snapshot = account.snapshot(T0)
    assert (snapshot.positions[0].quantity_base, snapshot.positions[0].average_price) == (D("0.75"), D(100))
    assert (snapshot.closed_trades, account.position_id("BTC/ZAR")) == (0, order.client_order_id)


def test_fills_of_one_closing_order_are_one_trade() -> None:
    account, _ = bought("1", "100")
    close = record(name="c", side=Side.SELL, quantity="1", reduce_only=True)
    account.apply(close, fill(close, 0, "0.4", "110"))
    account.apply(close, fill(close, 1, "0.6", "105"))
    assert len(account.closed) == 1
    trade = account.closed[0]
    assert (trade.exit_price, trade.pnl_quote, trade.quantity_base, trade.is_final) == (D(107), D(7), D(1), True)


def test_partial_fills_of_one_entry_count_once_and_entries_reset_at_midnight() -> None:
    account, order = Account(D(1_000), T0), record(quantity="1")
    account.apply(order, fill(order, 0, "0.4", "100"))
    account.apply(order, fill(order, 1, "0.6", "100"))
    assert account.snapshot(T0).entries_today == 1
    assert account.snapshot(T0 + DAY).entries_today == 0


def test_day_start_is_the_equity_before_the_first_price_of_the_day() -> None:
    account, _ = bought("1", "100", cash="1000")
    account.mark(Mark("BTC/ZAR", 110.0, T0 + 1))
    account.mark(Mark("BTC/ZAR", 90.0, T0 + DAY))
    snapshot = account.snapshot(T0 + DAY)
    assert snapshot.day_start_equity_quote == D(1_010)
    assert snapshot.daily_loss == pytest.approx(20 / 1_010)
    assert snapshot.drawdown == pytest.approx(20 / 1_010)


def test_new_high_has_no_drawdown() -> None:
    account, _ = bought("1", "100", cash="1000")
    account.mark(Mark("BTC/ZAR", 200.0, T0 + 1))
    assert account.snapshot(T0 + 1).drawdown == 0.0


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_bad_mark_is_counted_and_changes_nothing(price: float) -> None:
    account, _ = bought()
    before = account.snapshot(T0)
    account.mark(Mark("BTC/ZAR", price, T0 + 1))
    assert account.snapshot(T0) == before
    assert account.bad_marks == 1


def test_older_mark_does_not_overwrite_a_newer_one() -> None:
    account, _ = bought("1", "100", cash="1000")
    account.mark(Mark("BTC/ZAR", 120.0, T0 + 10))
    account.mark(Mark("BTC/ZAR", 50.0, T0 + 5))
    assert account.snapshot(T0 + 10).equity_quote == D(1_020)


@pytest.mark.parametrize(("exit_price", "streak", "wins"), [("110", 0, 1), ("90", 1, 0), ("100", 0, 0)])
def test_losses_in_a_row_and_wins_are_counted_per_position(exit_price: str, streak: int, wins: int) -> None:
    account, _ = bought("1", "100")
    close = record(name="c", side=Side.SELL, quantity="1", reduce_only=True)
    account.apply(close, fill(close, price=exit_price))
    snapshot = account.snapshot(T0)
    assert (snapshot.consecutive_losses, snapshot.winning_trades, snapshot.closed_trades) == (streak, wins, 1)


def test_a_losing_streak_ends_with_its_day() -> None:
    account, _ = bought("1", "100")
    close = record(name="c", side=Side.SELL, quantity="1", reduce_only=True)
    account.apply(close, fill(close, price="90"))
    assert account.snapshot(T0).consecutive_losses == 1
    assert account.snapshot(T0 + 86_400_000_000_000).consecutive_losses == 0


@pytest.mark.parametrize(("side", "stop", "target"), [(Side.BUY, 96.0, 108.0), (Side.SELL, 104.0, 92.0)])
def test_exit_plan_is_mirrored_for_shorts(side: Side, stop: float, target: float) -> None:
    account, order = Account(D(1_000), T0), record(side=side, quantity="1")
    account.apply(order, fill(order, price="100"))
    plan = account.exit_plans()[0]
    assert (plan.stop_price, plan.target_price) == (pytest.approx(stop), pytest.approx(target))
    assert (plan.expires_at, plan.position_id) == (T0 + DAY, order.client_order_id)


def test_restore_brings_peak_and_day_start_back() -> None:
    account, _ = bought("1", "100", cash="1000")
    account.restore(AccountState("1200", utc_day(T0), "1100"))
    snapshot = account.snapshot(T0)
    assert snapshot.drawdown == pytest.approx(200 / 1_200)
    assert snapshot.daily_loss == pytest.approx(100 / 1_100)


def test_day_start_of_an_earlier_day_is_not_restored() -> None:
    account, _ = bought("1", "100", cash="1000")
    account.restore(AccountState("900", utc_day(T0 - DAY), "2000"))
    assert account.snapshot(T0).daily_loss == 0.0


def test_fill_of_another_order_is_refused() -> None:
    account, order = Account(D(1_000), T0), record()
    with pytest.raises(InvariantError):
        account.apply(record(name="other"), fill(order))


def test_history_keeps_only_the_newest_trades() -> None:
    account = Account(D(10_000), T0, history_limit=2)
    for n in range(3):
        order, close = record(name=f"o{n}", quantity="1"), record(name=f"c{n}", side=Side.SELL, quantity="1", reduce_only=True)
        account.apply(order, fill(order, price="100"))
        account.apply(close, fill(close, price=str(101 + n)))
    assert [trade.pnl_quote for trade in account.closed] == [D(2), D(3)]
    assert account.snapshot(T0).closed_trades == 3

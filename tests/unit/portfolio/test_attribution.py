"""Brinson and Fachler's effects against the textbook's table, in money, with every residual exactly zero."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import MovementKind, Side
from helios.domain.events import Mark
from helios.domain.orders import Fill, Movement, OrderRecord
from helios.errors import InvariantError
from helios.portfolio.accounting import Account
from helios.portfolio.attribution import EFFECTS, AssetPeriod, Attribution, Period, attribute, total
from helios.portfolio.periods import turnover_weights
from tests.support.daily_periods import DailyInputs, daily_periods
from tests.support.execution_fakes import DAY, T0, D, fill, record

FIRST = T0 // DAY
HUNDRED = D(100)


def held(name: str, value: str, returned: str) -> AssetPeriod:
    """An asset held for `value` whose price went from 100 by `returned` per cent."""
    pnl = D(value) * D(returned) / 100
    return AssetPeriod(name, D(value) / 100, HUNDRED, HUNDRED + D(returned), pnl)


def of_benchmark(name: str, weight: str, returned: str) -> AssetPeriod:
    return AssetPeriod(name, D(0), HUNDRED, HUNDRED + D(returned), D(0), weight=D(weight))


# Bacon, "Practical Portfolio Performance Measurement and Attribution", 2nd ed., tables 5.1 to 5.4: weights and returns of portfolio
# and benchmark in UK, Japanese and US equities; the portfolio makes 8.3 %, the benchmark 6.4 %.
BACON = Period("1", D(1_000), (
    held("uk-own", "400", "20"), held("jp-own", "300", "-5"), held("us-own", "300", "6"),
    of_benchmark("uk-all", "0.4", "10"), of_benchmark("jp-all", "0.2", "-4"), of_benchmark("us-all", "0.4", "8"),
))  # fmt: skip


def country(asset: str) -> str:
    return asset[:2]


def residual(found: Attribution) -> Fraction:
    return Fraction(found.active_pnl) - sum((Fraction(v) for v in found.totals().values()), Fraction(0))


def test_textbook_table_in_money_per_thousand() -> None:
    found = attribute(BACON, country)
    assert (found.portfolio_pnl, found.benchmark_pnl, found.active_pnl) == (D(83), D(64), D(19))
    shown = {g: tuple(e[n] for n in ("allocation", "selection", "interaction")) for g, e in found.effects.items() if g != "cash"}
    assert shown == {
        "uk": (D(0), D(40), D(0)), "jp": (D("-10.4"), D(-2), D(-1)), "us": (D("-1.6"), D(-8), D(2)),
    }  # fmt: skip
    assert found.totals() == dict(zip(EFFECTS, (D(-12), D(30), D(1), D(0), D(0), D(0)), strict=True))


def test_cash_against_a_rising_benchmark_is_allocation() -> None:
    found = attribute(Period("1", D(1_000), (of_benchmark("btc", "1", "10"),)), str)
    assert found.totals()["allocation"] == found.active_pnl == D(-100)
    assert found.effects["cash"]["allocation"] == D(-100)


def test_group_outside_the_benchmark_is_allocation_alone() -> None:
    found = attribute(Period("1", D(1_000), (held("own", "500", "8"), of_benchmark("all", "1", "2"))), str)
    assert found.effects["own"]["allocation"] == D(40) - D(10)  # what it made, less its weight at the benchmark's return
    assert (found.effects["own"]["selection"], found.effects["own"]["interaction"]) == (D(0), D(0))


def test_trading_within_the_day_is_timing_and_fees_are_costs() -> None:
    traded = AssetPeriod("btc", D(1), D(100), D(110), D(25), D(3))
    found = attribute(Period("1", D(1_000), (traded,)), str)
    assert (found.totals()["timing"], found.totals()["costs"], found.portfolio_pnl) == (D(15), D(-3), D(22))


def test_exchange_rate_is_currency_and_nothing_else() -> None:
    # 2 units at 100, no change of price, dollar from 18 to 20; the benchmark holds half of the capital in the same asset
    asset = AssetPeriod("btc", D(2), D(100), D(100), D(400), D(0), D("0.5"), D(18), D(20))
    found = attribute(Period("1", D(3_600), (asset,)), str)
    assert found.totals()["currency"] == D(400) - D(200)
    assert found.active_pnl == D(200)


def test_short_that_falls_is_a_gain() -> None:
    short = AssetPeriod("btc", D(-1), D(100), D(90), D(10))
    found = attribute(Period("1", D(1_000), (short,)), str)
    assert found.active_pnl == found.totals()["allocation"] == D(10)


@pytest.mark.parametrize("broken", [
    Period("1", D(0), ()), Period("1", D("NaN"), ()), Period("1", D(1), (of_benchmark("a", "1", "-100"),)),
    Period("1", D(1), (of_benchmark("a", "1", "1"), of_benchmark("a", "1", "1"))),
], ids=["no equity", "NaN", "worthless", "twice"])  # fmt: skip
def test_what_cannot_be_divided_is_refused(broken: Period) -> None:
    with pytest.raises(InvariantError):
        attribute(broken, str)


prices, amounts = st.decimals("0.01", 10**5, places=3), st.decimals(-(10**4), 10**4, places=6)


@st.composite
def periods(draw: st.DrawFn) -> Period:
    assets = []
    for n in range(draw(st.integers(1, 6))):
        held_is, rates = draw(st.booleans()), (draw(st.decimals("0.1", 30, places=4)), draw(st.decimals("0.1", 30, places=4)))
        assets.append(AssetPeriod(
            f"a{n}", draw(amounts) if held_is else D(0), draw(prices), draw(prices), draw(amounts), draw(amounts),
            draw(st.decimals(0, "0.3", places=4)), *rates,
        ))  # fmt: skip
    return Period(str(draw(st.integers(0, 9))), draw(st.decimals(100, 10**7, places=2)), tuple(assets))


@settings(max_examples=50, deadline=None)
@given(st.lists(periods(), min_size=1, max_size=3))
def test_effects_sum_to_the_active_profit_exactly_in_every_period_and_over_all(several: list[Period]) -> None:
    parts = [attribute(p, lambda asset: f"g{int(asset[1:]) % 3}") for p in several]
    assert [residual(part) for part in parts] == [0] * len(parts)
    whole = total("all", parts)
    assert residual(whole) == 0
    assert Fraction(whole.active_pnl) == sum((Fraction(part.active_pnl) for part in parts), Fraction(0))


@settings(max_examples=60, deadline=None)
@given(periods())
def test_effects_equal_the_formulas_in_fractions(period: Period) -> None:
    found = attribute(period, lambda asset: f"g{int(asset[1:]) % 2}")
    v = Fraction(period.start_equity)
    whole = sum((v * Fraction(a.weight) * (Fraction(a.end_price) / Fraction(a.start_price) - 1) for a in period.assets), Fraction(0))
    for name in ("g0", "g1"):
        group = [a for a in period.assets if f"g{int(a.asset[1:]) % 2}" == name]
        h = sum((Fraction(a.quantity) * Fraction(a.start_price) * Fraction(a.start_rate) for a in group), Fraction(0))
        b = sum((Fraction(a.weight) for a in group), Fraction(0))
        if not h or not b:
            continue
        own = sum((Fraction(a.held_local) for a in group), Fraction(0)) / h
        bench = sum((Fraction(a.weight) * (Fraction(a.end_price) / Fraction(a.start_price) - 1) for a in group), Fraction(0)) / b
        expected = ((h - v * b) * (bench - whole / v), v * b * (own - bench), (h - v * b) * (own - bench))
        shown = [found.effects[name][effect] for effect in EFFECTS[:3]]
        for mine, theirs in zip(shown, expected, strict=True):
            assert abs(Fraction(mine) - theirs) < Fraction(1, 10**11)


def test_turnover_weights_never_exceed_the_whole() -> None:
    weights = turnover_weights({"A": D(1), "B": D(1), "C": D(1), "D": D("NaN"), "E": D(0)})
    assert set(weights) == {"A", "B", "C"}
    assert D(1) - D("1e-11") < sum(weights.values()) <= 1
    assert turnover_weights({}) == {}


def inputs(fills: list[Fill], movements: list[Movement], **changes: object) -> DailyInputs:
    closes = {FIRST + n: {"BTC/ZAR": D(100 + 10 * n), "ETH/ZAR": D(50 - n)} for n in range(-1, 4)}
    terms: dict[str, object] = {"closes": closes, "weights": {}} | changes
    return DailyInputs(D(10_000), fills, movements, **terms)  # type: ignore[arg-type]


def test_days_carry_holdings_and_capital_on() -> None:
    bought = fill(record(quantity="10"), price="100", fee="5", ts=T0)
    deposit = Movement("t", MovementKind.TRANSFER, D(500), T0 + DAY)
    first, second = daily_periods(inputs([bought], [deposit]), FIRST, FIRST + 1).periods
    assert (first.start_equity, second.start_equity) == (D(10_000), D(10_495))  # -5 fee, +500 deposit, bought at the close
    assert (first.assets[0].quantity, second.assets[0].quantity) == (D(0), D(10))
    assert second.assets[0].pnl == D(100)


def test_day_without_a_needed_price_is_named_and_left_out() -> None:
    bought = fill(record(quantity="1", symbol="SOL/ZAR"), price="100", ts=T0)
    found = daily_periods(inputs([bought], []), FIRST - 1 + 1, FIRST + 1)
    assert found.periods == ()
    assert found.skipped[0] == ("2023-11-14", "no price of SOL/ZAR at the end of 2023-11-14")


def test_benchmark_leaves_out_what_has_no_price() -> None:
    weights = {FIRST: {"BTC/ZAR": D("0.5"), "NEW/ZAR": D("0.5")}}
    [period] = daily_periods(inputs([], [], weights=weights), FIRST, FIRST).periods
    assert [(a.asset, a.weight) for a in period.assets] == [("BTC/ZAR", D("0.5"))]


def test_cash_of_another_currency_earns_its_rate() -> None:
    closes = {FIRST + n: {"BTC/USDT": D(100)} for n in range(-1, 3)}
    rates = {FIRST + n: {"USDT": D(18 + n)} for n in range(-1, 3)}
    sold = fill(record(quantity="1", side=Side.SELL, symbol="BTC/USDT"), price="100", ts=T0)
    found = daily_periods(inputs([sold], [], closes=closes, rates=rates, base="ZAR"), FIRST, FIRST + 1)
    second = attribute(found.periods[1], str)
    # short 1 BTC against 100 USDT of cash: what the rate takes from one it gives to the other
    assert {a.asset: a.pnl for a in found.periods[1].assets} == {"BTC/USDT": D(-100), "USDT": D(100)}
    assert (second.portfolio_pnl, second.totals()["currency"]) == (D(0), D(0))


def test_a_deposit_in_another_currency_earns_its_rate_and_a_fee_in_it_costs_no_cash() -> None:
    coins = Movement("t", MovementKind.TRANSFER, D(10), T0, currency="BNB", value_quote=D(3_000))
    bought = replace(fill(record(quantity="1"), price="110", ts=T0 + DAY), fee=D(1), fee_currency="BNB", fee_quote=D(305))
    rates = {FIRST + n: {"BNB": D(300 + 10 * n)} for n in range(-1, 3)}
    first, second = daily_periods(inputs([bought], [coins], base="ZAR", rates=rates), FIRST, FIRST + 1).periods
    assert (first.start_equity, second.start_equity) == (D(10_000), D(13_000))
    found = attribute(second, str)
    assert found.effects["BNB"]["currency"] == D(100)  # 10 coins, each 10 dearer
    assert found.effects["BNB"]["timing"] == D(-5)  # the fee was booked at 305 and would be 310 now
    assert found.effects["BTC/ZAR"]["costs"] == D(-305)
    assert found.portfolio_pnl == D(100 - 310)


def test_a_day_without_the_rate_of_money_that_is_held_is_left_out_and_named() -> None:
    coins = Movement("t", MovementKind.TRANSFER, D(10), T0, currency="BNB", value_quote=D(3_000))
    rates = {FIRST - 1: {"BNB": D(300)}, FIRST: {"BNB": D(300)}}
    found = daily_periods(inputs([], [coins], base="ZAR", rates=rates), FIRST, FIRST + 1)
    assert [p.name for p in found.periods] == ["2023-11-14"]
    assert found.skipped == (("2023-11-15", "no rate of BNB at the end of 2023-11-15"),)


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[tuple[OrderRecord, Fill]], list[Movement]]:
    steps, movements = [], []
    for n in range(draw(st.integers(1, 10))):
        ts = (FIRST + draw(st.integers(0, 3))) * DAY + n
        if draw(st.integers(0, 3)) == 0:
            kind, amount = draw(st.sampled_from(MovementKind)), draw(st.decimals(-9, 99, places=4))
            made = Movement(f"m{n}", kind, amount, ts, "BTC/ZAR" if kind == "FUNDING" else "")
            if kind is MovementKind.TRANSFER and (currency := draw(st.sampled_from(("", "ZAR", "BNB", "EUR")))):
                made = replace(made, currency=currency, value_quote=amount if currency == "ZAR" else 7 * amount)
            movements.append(made)
            continue
        symbol, quantity = draw(st.sampled_from(("BTC/ZAR", "ETH/ZAR"))), str(draw(st.decimals("0.01", 9, places=5)))
        order = record(name=f"o{n}", side=draw(st.sampled_from(Side)), quantity=quantity, symbol=symbol)
        price, fee = str(draw(st.decimals(30, 150, places=2))), str(draw(st.decimals(0, 2, places=3)))
        part = fill(order, price=price, fee=fee, ts=ts)
        if draw(st.booleans()):
            part = replace(part, fee=draw(st.decimals("0.001", "0.5", places=4)), fee_currency=draw(st.sampled_from(("BNB", "EUR"))))
        steps.append((order, part))
    return steps, movements


@settings(max_examples=50, deadline=None)
@given(lives())
def test_days_add_up_to_the_accounts_own_profit(life: tuple[list[tuple[OrderRecord, Fill]], list[Movement]]) -> None:
    steps, movements = life
    account = Account(D(10_000), T0, quote="ZAR")
    for order, part in steps:
        account.apply(order, part)
    for movement in movements:
        account.book(movement)
    weights = {FIRST + n: {"BTC/ZAR": D("0.3"), "ETH/ZAR": D("0.3")} for n in range(4)}
    rates = {FIRST + n: {"BNB": D(7 + n)} for n in range(-1, 4)}  # of the euro nobody knows
    given_ = inputs([part for _, part in steps], movements, weights=weights, rates=rates)
    for symbol, price in given_.closes[FIRST + 3].items():
        account.mark(Mark(symbol, float(price), (FIRST + 4) * DAY))
    account.rate("BNB", D(10), (FIRST + 4) * DAY)
    found = daily_periods(given_, FIRST, FIRST + 3)
    assert found.skipped == ()
    whole = total("all", [attribute(p, str) for p in found.periods])
    shown = account.snapshot((FIRST + 4) * DAY)
    assert Fraction(whole.portfolio_pnl) == Fraction(shown.equity_quote) - 10_000 - Fraction(shown.transfers_quote)
    assert residual(whole) == 0


def test_no_days_no_effects() -> None:
    assert total("none", []).active_pnl == Decimal(0)

"""Tax lots: which lot goes first, what it cost, and sums that are the account's to the last digit."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
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
from helios.portfolio.lot_report import LotFilter, lot_report, to_csv
from helios.portfolio.lots import LotMethod, fold_lots
from tests.support.execution_fakes import DAY, T0, D, fill, record

PERP = "BTC/USDT:USDT"
METHODS = list(LotMethod)


def traded(name: str, side: Side, quantity: str, price: str, day: int = 0, fee: str = "0", symbol: str = "BTC/ZAR") -> Fill:
    return fill(record(name=name, side=side, quantity=quantity, symbol=symbol), price=price, fee=fee, ts=T0 + day * DAY)


LADDER = [
    traded("a", Side.BUY, "1", "100", 0, "1"),
    traded("b", Side.BUY, "1", "140", 1, "1.4"),
    traded("c", Side.BUY, "2", "110", 2, "2.2"),
    traded("x", Side.SELL, "1.5", "120", 40, "1.8"),
]


@pytest.mark.parametrize(
    ("method", "cost"),
    [
        (LotMethod.FIFO, D("101") + D("70.7")),
        (LotMethod.LIFO, D("166.65")),
        (LotMethod.HIFO, D("141.4") + D("55.55")),
        (LotMethod.AVERAGE, D("464.6") * 3 / 8),
    ],
)
def test_each_method_takes_its_own_lot(method: LotMethod, cost: Decimal) -> None:
    report = fold_lots(LADDER, method=method)
    assert sum(d.cost_quote for d in report.disposals) == cost
    assert sum(d.gain_quote for d in report.disposals) == D("178.2") - cost
    assert sum(d.quantity_base for d in report.disposals) == D("1.5")
    assert sum(lot.quantity_base for lot in report.open_lots) == D("2.5")


def test_holding_period_and_dates_are_those_of_the_lot() -> None:
    first, second = fold_lots(LADDER).disposals
    assert (first.held_days, second.held_days, first.opened_at) == (40, 39, T0)


def test_short_is_opened_by_its_proceeds_and_closed_by_its_cost() -> None:
    fills = [traded("s", Side.SELL, "2", "100", 0, "2"), traded("b", Side.BUY, "1", "90", 3, "0.9")]
    report = fold_lots(fills)
    [d] = report.disposals
    assert (d.proceeds_quote, d.cost_quote, d.gain_quote) == (D(99), D("90.9"), D("8.1"))
    [line] = lot_report(report)["disposals"]
    assert (line["side"], line["acquired_at"] > line["disposed_at"]) == ("SHORT", True)


def test_highest_cost_of_shorts_is_the_one_sold_cheapest() -> None:
    fills = [traded("s", Side.SELL, "1", "100"), traded("t", Side.SELL, "1", "80", 1), traded("b", Side.BUY, "1", "90", 2)]
    assert fold_lots(fills, method=LotMethod.HIFO).disposals[0].gain_quote == D(-10)


def test_flip_closes_every_lot_and_opens_one_with_its_share_of_the_fee() -> None:
    report = fold_lots([traded("a", Side.BUY, "1", "100"), traded("f", Side.SELL, "4", "110", 1, "8")])
    assert (report.disposals[0].exit_fees_quote, report.open_lots[0].fees_quote) == (D(2), D(6))
    assert (report.open_lots[0].side, report.open_lots[0].quantity_base) == (Side.SELL, D(3))


def test_doubled_fills_and_late_ones_change_nothing() -> None:
    assert fold_lots([*LADDER, *LADDER]) == fold_lots(LADDER) == fold_lots(LADDER[::-1])


def test_fee_in_the_base_asset_makes_a_smaller_lot() -> None:
    bought = replace(traded("a", Side.BUY, "1", "100"), fee=D("0.01"), fee_currency="BTC", fee_quote=D("NaN"))
    [lot] = fold_lots([bought]).open_lots
    assert (lot.quantity_base, lot.value_quote, lot.fees_quote) == (D("0.99"), D(99), D(1))


def test_fee_nobody_valued_is_named() -> None:
    bought = replace(traded("a", Side.BUY, "1", "100"), fee=D("0.01"), fee_currency="BNB", fee_quote=D("NaN"))
    assert fold_lots([bought]).unvalued_fees == (bought.fill_id,)


def test_fill_without_a_price_is_refused() -> None:
    with pytest.raises(InvariantError):
        fold_lots([traded("a", Side.BUY, "1", "0")])


def test_funding_is_shared_by_quantity_and_is_no_gain() -> None:
    fills = [
        traded("a", Side.BUY, "1", "100", 0, symbol=PERP), traded("b", Side.BUY, "3", "100", 1, symbol=PERP),
        traded("x", Side.SELL, "1", "100", 3, symbol=PERP),
    ]  # fmt: skip
    paid = Movement("f", MovementKind.FUNDING, D(-4), T0 + 2 * DAY, PERP)
    late = replace(paid, movement_id="g", ts_event=T0 - 1)
    report = fold_lots(fills, [paid, paid, late])
    assert (report.disposals[0].funding_quote, report.disposals[0].gain_quote) == (D(-1), D(0))
    assert (report.open_lots[0].funding_quote, dict(report.orphan_funding)) == (D(-3), {PERP: D(-4)})


def test_years_and_currencies_are_summed_apart_and_filtered() -> None:
    def on(year: int) -> int:
        return int(datetime(year, 6, 1, tzinfo=UTC).timestamp()) * 10**9

    fills = [
        replace(traded("a", Side.BUY, "2", "100"), ts_event=on(2023)),
        replace(traded("b", Side.BUY, "1", "50", symbol="BTC/USDT"), ts_event=on(2023)),
        replace(traded("x", Side.SELL, "1", "150"), ts_event=on(2024)),
        replace(traded("y", Side.SELL, "1", "170"), ts_event=on(2025)),
        replace(traded("z", Side.SELL, "1", "40", symbol="BTC/USDT"), ts_event=on(2025)),
    ]
    totals = lot_report(fold_lots(fills))["totals"]
    assert [(t["year"], t["currency"], t["gain_quote"]) for t in totals] == [
        (2024, "ZAR", "50"), (2025, "USDT", "-10"), (2025, "ZAR", "70"),
    ]  # fmt: skip
    shown = lot_report(fold_lots(fills), (), LotFilter(2025, "ZAR"))
    assert [d["gain_quote"] for d in shown["disposals"]] == ["70"]
    assert "Not tax advice" in shown["note"]


def test_csv_reads_back_as_the_same_lines() -> None:
    rows = lot_report(fold_lots(LADDER))["disposals"]
    back = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [(r["gain_quote"], r["acquired_at"], r["held_days"]) for r in back] == [
        (r["gain_quote"], r["acquired_at"], str(r["held_days"])) for r in rows
    ]
    assert to_csv([]).count("\n") == 1


@st.composite
def trades(draw: st.DrawFn) -> list[tuple[OrderRecord, Fill]]:
    steps = []
    for n in range(draw(st.integers(1, 12))):
        order = record(name=f"o{n}", side=draw(st.sampled_from(Side)), quantity=str(draw(st.decimals("0.001", 50, places=8))))
        part = fill(order, price=str(draw(st.decimals("0.01", 10**5, places=2))), fee=str(draw(st.decimals(0, 9, places=4))))
        currency = draw(st.sampled_from(("ZAR", "BTC")))
        fee = part.fee if currency == "ZAR" else draw(st.decimals(0, "0.0009", places=7))
        steps.append((order, replace(part, fee=fee, fee_currency=currency, ts_event=T0 + n)))
    return steps


@settings(max_examples=50, deadline=None)
@given(trades(), st.lists(st.tuples(st.decimals(-99, 99, places=5), st.integers(-1, 13)), max_size=4), st.sampled_from(METHODS))
def test_gains_and_open_lots_are_the_accounts_profit_exactly(
    steps: list[tuple[OrderRecord, Fill]], payments: list[tuple[Decimal, int]], method: LotMethod
) -> None:
    account = Account(D(1_000), T0)
    funding = [Movement(f"f{n}", MovementKind.FUNDING, a, T0 + ts, "BTC/ZAR") for n, (a, ts) in enumerate(payments)]
    for order, part in steps:
        account.apply(order, part)
    for movement in funding:
        account.book(movement)
    account.mark(Mark("BTC/ZAR", 123.45, T0 + 99))
    shown = account.snapshot(T0 + 99)
    report = fold_lots([part for _, part in steps], funding, method)
    closed = sum((Fraction(d.pnl_quote) for d in report.disposals), Fraction(0))
    still_open = sum((Fraction(lot.unrealised(D("123.45"))) for lot in report.open_lots), Fraction(0))
    orphans = sum((Fraction(v) for v in report.orphan_funding.values()), Fraction(0))
    assert closed + still_open + orphans == Fraction(shown.realised_pnl_quote) + Fraction(shown.unrealised_pnl_quote)
    held = sum((lot.side * Fraction(lot.quantity_base) for lot in report.open_lots), Fraction(0))
    assert held == sum((Fraction(p.quantity_base) for p in shown.positions), Fraction(0))


def unit_by_unit(orders: list[tuple[Side, int, int]], method: LotMethod) -> list[Fraction]:
    """Each coin by itself: the gain of every closing order, the slow and obvious way."""
    coins: list[tuple[int, int, Side]] = []  # when, price, side
    gains = []
    for when, (side, quantity, price) in enumerate(orders):
        gain, closed = Fraction(0), False
        for _ in range(quantity):
            if not coins or coins[0][2] is side:
                coins.append((when, price, side))
                continue
            order = {
                LotMethod.FIFO: lambda coin: coin[0],
                LotMethod.LIFO: lambda coin: -coin[0],
                LotMethod.HIFO: lambda coin: (-coin[2] * coin[1], coin[0]),
                LotMethod.AVERAGE: lambda coin: 0,
            }[method]
            coin = min(coins, key=order)
            cost = Fraction(sum(c[1] for c in coins), len(coins)) if method is LotMethod.AVERAGE else Fraction(coin[1])
            if method is LotMethod.AVERAGE:
                coins = [(c[0], cost, c[2]) for c in coins]  # type: ignore[misc]
                coin = coins[0]
            coins.remove(coin)
            gain, closed = gain + coin[2].value * (price - cost), True
        if closed:
            gains.append(gain)
    return gains


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 6), st.integers(1, 99)), min_size=2, max_size=10),
    st.sampled_from(METHODS),
)
def test_every_disposal_equals_coins_counted_one_by_one(orders: list[tuple[Side, int, int]], method: LotMethod) -> None:
    fills = [traded(f"n{n}", side, str(quantity), str(price), n) for n, (side, quantity, price) in enumerate(orders)]
    gains: dict[str, Fraction] = {}
    for d in fold_lots(fills, method=method).disposals:
        gains[d.exit_fill_id] = gains.get(d.exit_fill_id, Fraction(0)) + Fraction(d.gain_quote)
    for mine, theirs in zip(gains.values(), unit_by_unit(orders, method), strict=True):
        assert abs(mine - theirs) <= (Fraction(1, 10**10) if method is LotMethod.AVERAGE else 0)

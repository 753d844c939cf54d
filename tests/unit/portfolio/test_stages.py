"""Realised profit by decision stage: one worked trade, what happens with gaps, and sums without a residual."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import MovementKind, Side
from helios.domain.orders import Fill, Movement, OrderRecord
from helios.errors import RejectedError
from helios.portfolio.accounting import Account
from helios.portfolio.attribution_report import Books, Market, Question, attribution_report, stage_report
from helios.portfolio.lots import fold_lots
from helios.portfolio.stages import STAGES, StageEffects, stage_effects, stage_totals
from tests.support.execution_fakes import DAY, T0, D, fill, record

FIRST = T0 // DAY
UNIT = D(1_000)
PERP = "BTC/USDT:USDT"


def steps(notional: str = "3000", multiplier: float | None = 0.5, quantity: str = "12") -> dict[str, dict[str, Any]]:
    return {
        "plan": {"side": "BUY", "notional_quote": notional},
        "review": {"verdict": "MODIFY", "multiplier": multiplier},
        "allocation": {"quantity_base": quantity},
    }


def order(name: str, side: Side, quantity: str, reference: str, **changes: Any) -> OrderRecord:
    made = record(name=name, side=side, quantity=quantity, price=reference, symbol=changes.pop("symbol", "BTC/ZAR"))
    return replace(made, **changes)


# Planned 3,000 at 100, halved to 1,500 by the reviewer, 12 of 15 units allocated, 10 of them filled at 101, all sold at 119 when the
# target of 120 was touched.
ENTRY = order("e", Side.BUY, "12", "100")
EXIT = order("x", Side.SELL, "10", "120", reason="TARGET")
TRADE = [(ENTRY, fill(ENTRY, 0, "10", "101", "2")), (EXIT, fill(EXIT, 0, "10", "119", "3", T0 + DAY))]


def only(lines: list[StageEffects]) -> StageEffects:
    [line] = lines
    return line


def test_worked_trade_by_stage() -> None:
    line = only(stage_effects(TRADE, [], {"e": steps()}, UNIT))
    assert {name: value for name, value in line.effects.items() if value} == {
        "signal": D(200),  # 1,000 at 20 %
        "size": D(400),  # 3,000 instead of 1,000
        "review": D(-300),  # half of 3,000
        "portfolio": D(-60),  # 12 instead of 15 units, 20 each
        "unfilled": D(-40),  # 2 units
        "entry_slippage": D(-10),
        "exit_slippage": D(-10),
        "fees": D(-5),
    }
    assert (line.pnl_quote, line.exit_reason, line.missing) == (D(175), "TARGET", ())


def test_unit_notional_moves_money_between_signal_and_size_alone() -> None:
    one, other = (only(stage_effects(TRADE, [], {"e": steps()}, D(n))).effects for n in (1_000, 500))
    assert one["signal"] + one["size"] == other["signal"] + other["size"]
    assert {n: one[n] for n in STAGES[2:]} == {n: other[n] for n in STAGES[2:]}


@pytest.mark.parametrize(
    ("known", "missing", "unexplained"),
    [
        ({}, ("signal", "size", "review", "portfolio"), D(200)),
        (steps(multiplier=None), ("review",), D(-360)),
        (
            {"plan": {"notional_quote": "much"}} | {k: steps()[k] for k in ("review", "allocation")},
            ("signal", "size", "review"),
            D(240),
        ),
        ({k: steps()[k] for k in ("plan", "review")}, ("portfolio",), D(-100)),
    ],
    ids=["no decision", "no multiplier", "unreadable plan", "no allocation"],
)
def test_what_is_not_known_is_unexplained_and_named(known: dict[str, Any], missing: tuple[str, ...], unexplained: Decimal) -> None:
    line = only(stage_effects(TRADE, [], {"e": known}, UNIT))
    assert (line.missing, line.effects["unexplained"]) == (missing, unexplained)
    assert sum(line.effects.values()) == line.pnl_quote == D(175)
    assert (line.effects["entry_slippage"], line.effects["fees"]) == (D(-10), D(-5))


def test_exit_without_a_reference_price_leaves_only_costs_explained() -> None:
    history = [TRADE[0], (replace(EXIT, reference_price=D(0)), TRADE[1][1])]
    line = only(stage_effects(history, [], {"e": steps()}, UNIT))
    assert (line.effects["unexplained"], line.effects["fees"], line.pnl_quote) == (D(180), D(-5), D(175))


def test_each_of_two_exits_carries_its_part_of_the_entry() -> None:
    half, rest = (order(n, Side.SELL, "5", "120") for n in ("x1", "x2"))
    history = [TRADE[0], *((o, fill(o, 0, "5", "119", "1.5", T0 + DAY)) for o in (half, rest))]
    lines = stage_effects(history, [], {"e": steps()}, UNIT)
    whole = only(stage_effects(TRADE, [], {"e": steps()}, UNIT))
    assert [line.effects["signal"] for line in lines] == [D(100), D(100)]
    assert stage_totals(lines) == dict(whole.effects) | {"pnl_quote": whole.pnl_quote}


def test_short_with_funding() -> None:
    entry, close = order("e", Side.SELL, "10", "100", symbol=PERP), order("x", Side.BUY, "10", "90", symbol=PERP)
    history = [(entry, fill(entry, price="99")), (close, fill(close, price="91", ts=T0 + 9))]
    got = [Movement("f", MovementKind.FUNDING, D(4), T0 + 5, PERP)]
    line = only(stage_effects(history, got, {"e": steps("1000", 1.0, "10")}, UNIT))
    assert {n: v for n, v in line.effects.items() if v} == {
        "signal": D(100), "entry_slippage": D(-10), "exit_slippage": D(-10), "funding": D(4),
    }  # fmt: skip


def test_open_positions_and_doubled_fills_have_no_line() -> None:
    assert stage_effects(TRADE[:1], [], {"e": steps()}, UNIT) == []
    assert stage_effects([*TRADE, *TRADE], [], {"e": steps()}, UNIT) == stage_effects(TRADE, [], {"e": steps()}, UNIT)


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[tuple[OrderRecord, Fill]], list[Movement], dict[str, Any]]:
    history, movements, decisions = [], [], {}
    for n in range(draw(st.integers(2, 10))):
        quantity, reference = draw(st.decimals("0.001", 50, places=6)), draw(st.decimals(0, 10**5, places=2))
        made = order(f"o{n}", draw(st.sampled_from(Side)), str(quantity), str(reference))
        filled = draw(st.sampled_from((quantity, (quantity / 3).quantize(D("0.000001")))))
        price, fee = draw(st.decimals("0.01", 10**5, places=2)), draw(st.decimals(0, 9, places=4))
        history.append((made, fill(made, 0, str(max(filled, D("0.000001"))), str(price), str(fee), T0 + n)))
        if draw(st.booleans()):
            told = steps(str(draw(st.decimals(0, 9_999, places=2))), draw(st.floats(0, 1)), str(quantity))
            decisions[f"o{n}"] = {k: told[k] for k in draw(st.sets(st.sampled_from(sorted(told))))}
        if draw(st.booleans()):
            movements.append(Movement(f"f{n}", MovementKind.FUNDING, draw(st.decimals(-9, 9, places=4)), T0 + n, "BTC/ZAR"))
    net = sum((part.side * part.quantity_base for _, part in history), Decimal(0))
    if net and draw(st.booleans()):
        made = order("flat", Side.SELL if net > 0 else Side.BUY, str(abs(net)), "77")
        history.append((made, fill(made, price="78", fee="0.3", ts=T0 + 50)))
    return history, movements, decisions


@settings(max_examples=50, deadline=None)
@given(lives())
def test_stages_sum_to_each_trades_profit_and_to_all_of_it_exactly(
    life: tuple[list[tuple[OrderRecord, Fill]], list[Movement], dict[str, Any]],
) -> None:
    history, movements, decisions = life
    lines = stage_effects(history, movements, decisions, UNIT)
    for line in lines:
        assert sum((Fraction(v) for v in line.effects.values()), Fraction(0)) == Fraction(line.pnl_quote)
        assert line.missing or line.effects["unexplained"] == 0
    report = fold_lots((part for _, part in history), movements)
    assert sum((Fraction(li.pnl_quote) for li in lines), Fraction(0)) == sum(
        (Fraction(d.pnl_quote) for d in report.disposals), Fraction(0)
    )
    account = Account(D(0), T0)
    for made, part in history:
        account.apply(made, part)
    if not account.snapshot(T0 + 99).positions:  # flat: the account's average cost and these lots must agree
        orphans = sum((Fraction(v) for v in report.orphan_funding.values()), Fraction(0))
        paid = sum((Fraction(m.amount) for m in movements), Fraction(0)) - orphans
        realised = Fraction(account.snapshot(T0 + 99).realised_pnl_quote)
        assert sum((Fraction(li.pnl_quote) for li in lines), Fraction(0)) == realised + paid


def books() -> Books:
    second = order("e2", Side.BUY, "10", "50", symbol="ETH/ZAR"), order("x2", Side.SELL, "10", "40", symbol="ETH/ZAR")
    more = [(second[0], fill(second[0], price="50", ts=T0 + DAY)), (second[1], fill(second[1], price="40", ts=T0 + 2 * DAY))]
    return Books([*TRADE, *more], (), {"e": steps()}, D(10_000))


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("symbol", {"BTC/ZAR": "175", "ETH/ZAR": "-100"}),
        ("day", {"2023-11-15": "175", "2023-11-16": "-100"}),
    ],
)
def test_report_groups_the_profit(by: Any, groups: dict[str, str]) -> None:
    report = stage_report(books(), Question(by))
    assert {g["key"]: g["pnl_quote"] for g in report["groups"]} == groups
    assert (report["totals"]["pnl_quote"], report["is_explained"]) == ("75", False)


def test_report_by_stage_and_day_range() -> None:
    report = stage_report(books(), Question("stage", FIRST, FIRST + 1, UNIT))
    assert {g["key"]: g["pnl_quote"] for g in report["groups"]}["review"] == "-300"
    assert (len(report["trades"]), report["is_explained"]) == (1, True)


def test_report_by_sector_sums_to_the_whole() -> None:
    report = stage_report(books(), Question("sector"))
    assert sum(D(g["pnl_quote"]) for g in report["groups"]) == D(75)


def test_report_against_the_benchmark_says_which_days_it_lacks() -> None:
    closes = {FIRST + n: {"BTC/ZAR": D(100 + n), "ETH/ZAR": D(50 - n)} for n in (-1, 0, 1, 2)}
    market = Market(closes, {FIRST - 1: {"BTC/ZAR": D(300), "ETH/ZAR": D(100)}})
    found = attribution_report(books(), Question("symbol"), market)["benchmark"]
    assert (found["days"], found["skipped"]) == (["2023-11-14", "2023-11-15", "2023-11-16"], [])
    names = ("allocation", "selection", "interaction", "timing", "currency", "costs")
    assert sum(D(found["totals"][name]) for name in names) == D(found["totals"]["active_pnl"])
    assert {g["key"] for g in found["groups"]} == {"BTC/ZAR", "ETH/ZAR", "cash"}
    holes = Market({day: prices for day, prices in closes.items() if day != FIRST}, market.turnover)
    assert len(attribution_report(books(), Question("day"), holes)["benchmark"]["skipped"]) == 2


def test_report_against_the_benchmark_values_a_deposit_in_coins_at_the_price_of_their_pair() -> None:
    closes = {FIRST + n: {"BTC/ZAR": D(100), "ETH/ZAR": D(50), "BNB/ZAR": D(10 + n)} for n in (-1, 0, 1, 2)}
    coins = Movement("t", MovementKind.TRANSFER, D(100), T0 - DAY // 2, currency="BNB", value_quote=D(900))
    given = Books(books().history, (coins,), {}, D(10_000))
    plain, with_coins = (attribution_report(b, Question("symbol"), Market(closes, {}))["benchmark"] for b in (books(), given))
    assert D(with_coins["totals"]["currency"]) == D(200)  # 100 coins from 10 to 12 after the deposit's own day
    assert D(with_coins["totals"]["portfolio_pnl"]) - D(plain["totals"]["portfolio_pnl"]) == 100 * D(12) - 900


def test_empty_books_give_an_empty_report() -> None:
    report = attribution_report(Books(()), Question("day"), Market({}, {}))
    assert (report["stages"]["totals"]["pnl_quote"], report["benchmark"]["days"], report["stages"]["trades"]) == ("0", [], [])


def test_unknown_grouping_is_refused() -> None:
    with pytest.raises(RejectedError, match="stage, symbol, sector, day"):
        Question("month")  # type: ignore[arg-type]

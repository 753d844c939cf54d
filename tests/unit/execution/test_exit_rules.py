"""Where the stop is, how much a scale-out closes, and that rules written before these existed still mean the same."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest

from helios.config import RiskConfig, load_config
from helios.domain.enums import ExitReason, Side
from helios.domain.events import Mark
from helios.domain.orders import ExitPlan, ExitRule
from helios.errors import ConfigError
from helios.execution.exit_rules import protective_stop, scale_out_quantity
from helios.portfolio.accounting import Account
from helios.risk.exits import exit_rule
from helios.store.ledger import ORDER_COLUMNS, to_order
from tests.support.execution_fakes import DAY, RULE, SPOT, T0, D, fill, record

PLAN = ExitPlan("p", "BTC/ZAR", Side.BUY, 100.0, 96.0, 108.0, 0.03, 0.01, 0, 0.02, 100.3, 0.5, 104.0, D("1.01"))
RULES = replace(RULE, breakeven_activate_pct=0.02, breakeven_offset_pct=0.003, scale_out_fraction=0.5, scale_out_at=0.5)


@pytest.mark.parametrize(
    ("water", "expected"),
    [
        (100.0, (96.0, ExitReason.STOP)),
        (101.99, (96.0, ExitReason.STOP)),
        (102.0, (100.3, ExitReason.BREAKEVEN)),
        (102.99, (100.3, ExitReason.BREAKEVEN)),
        (103.0, (103.0 * 0.99, ExitReason.TRAILING_STOP)),
        (math.nan, (96.0, ExitReason.STOP)),
    ],
)
def test_the_nearest_stop_holds(water: float, expected: tuple[float, ExitReason]) -> None:
    assert protective_stop(PLAN, water) == expected


def test_break_even_protects_where_there_is_no_fixed_stop() -> None:
    assert protective_stop(replace(PLAN, stop_price=math.nan), 102.0) == (100.3, ExitReason.BREAKEVEN)
    assert math.isnan(protective_stop(replace(PLAN, stop_price=math.nan), 101.0)[0])


@pytest.mark.parametrize(
    ("limits", "held", "expected"),
    [
        ({}, "1.01", "0.50"),
        ({"lot_size_base": D(0)}, "1.01", "0.505"),
        ({"lot_size_base": D("0.2")}, "1.01", "0.4"),
        ({"min_quantity_base": D("0.5")}, "1.01", "0.50"),
        ({"min_quantity_base": D("0.51")}, "1.01", "0"),  # the part is too small
        ({"min_quantity_base": D("0.3")}, "0.75", "0"),  # the rest would be
        ({"min_notional_quote": D("52")}, "1.01", "0.50"),  # 0.50 x 104
        ({"min_notional_quote": D("52.01")}, "1.01", "0"),
        ({"min_notional_quote": D("30")}, "0.75", "0"),  # 0.25 x 104
        ({"max_quantity_base": D("0.4")}, "1.01", "0"),
        ({}, "0.50", "0"),  # nothing would be left
        ({}, "0.30", "0"),
    ],
)
def test_scale_out_is_on_the_lot_grid_or_skipped(limits: dict[str, Any], held: str, expected: str) -> None:
    instrument = replace(SPOT, **({"lot_size_base": D("0.01")} | limits))
    assert scale_out_quantity(PLAN, D(held), D(104), instrument) == D(expected)


def plan_of(rule: ExitRule, side: Side = Side.BUY) -> ExitPlan:
    account, order = Account(D(1_000_000), T0), record(rule=rule, side=side, symbol="BTC/USDT:USDT", price="1000")
    account.apply(order, fill(order, price="1000"))
    [plan] = account.exit_plans()
    return plan


@pytest.mark.parametrize("side", list(Side))
def test_levels_mirror_between_long_and_short(side: Side) -> None:
    plan = plan_of(RULES, side)
    levels = (plan.stop_price, plan.breakeven_price, plan.scale_out_price, plan.target_price)
    assert levels == pytest.approx([1000 + side * away for away in (-40, 3, 40, 80)])
    assert (plan.opened_base, plan.opened_at, plan.expires_at) == (D("0.5"), T0, T0 + DAY)


@pytest.mark.parametrize(
    "off",
    [
        {"breakeven_activate_pct": 0.0, "scale_out_fraction": 0.0},
        {"breakeven_activate_pct": math.nan, "scale_out_fraction": math.nan},
        {"breakeven_offset_pct": math.nan, "scale_out_at": math.nan},
        {"breakeven_offset_pct": 0.02, "scale_out_at": 1.0},  # at its own activation it would fire at once
        {"breakeven_offset_pct": 0.02, "scale_out_fraction": 1.0},
        {"breakeven_offset_pct": -0.01, "take_profit_pct": math.nan},
    ],
)
def test_rules_that_make_no_sense_are_off(off: dict[str, float]) -> None:
    plan = plan_of(replace(RULES, **off))  # type: ignore[arg-type]
    assert (plan.breakeven_activate_pct, math.isnan(plan.breakeven_price)) == (0.0, True)
    assert math.isnan(plan.scale_out_price)
    assert protective_stop(plan, 1_079.0)[1] is ExitReason.TRAILING_STOP


def test_the_account_hands_out_the_best_price_it_saw() -> None:
    account, order = Account(D(1_000_000), T0), record(rule=RULES)
    account.mark(Mark("BTC/ZAR", 990_000.0, T0 - 1))
    account.apply(order, fill(order))
    assert math.isnan(account.exit_plans()[0].best_price)
    for n, price in enumerate((860_000.0, 880_000.0, math.nan, 870_000.0)):
        account.mark(Mark("BTC/ZAR", price, T0 + n))
    account.mark(Mark("BTC/ZAR", 899_000.0, T0))  # older than the last one
    assert account.exit_plans()[0].best_price == 880_000.0


@pytest.mark.parametrize(("best", "stop"), [(860_000.0, 816_000), (863_000.0, 852_550), (900_000.0, 891_000)])
def test_the_plan_tells_the_stop_that_holds_now(best: float, stop: float) -> None:
    account, order = Account(D(1_000_000), T0), record(rule=replace(RULES, breakeven_activate_pct=0.015))
    account.apply(order, fill(order))
    account.mark(Mark("BTC/ZAR", best, T0 + 1))
    account.mark(Mark("BTC/ZAR", 855_000.0, T0 + 2))
    [plan] = account.exit_plans()
    assert protective_stop(plan, plan.best_price)[0] == pytest.approx(stop)
    assert account.snapshot(T0 + 2).positions[0].stop_price == pytest.approx(stop)  # the best price is saved with the account


def row(rule: dict[str, Any] | None) -> dict[str, Any]:
    order = record()
    values = {name: getattr(order, name) for name in ORDER_COLUMNS.split(", ")}
    return values | {"side": int(order.side), "status": str(order.status), "deny_codes": [], "exit_rule": rule}


def test_a_ledger_row_of_before_these_rules_has_them_off() -> None:
    old = {"stop_loss_pct": 0.04, "take_profit_pct": 0.08, "trailing_activate_pct": None, "trailing_pct": 0.01, "timeout_ns": DAY}
    rule = to_order(row(old)).exit_rule  # type: ignore[arg-type]
    assert rule is not None
    plan = plan_of(rule)
    assert (plan.breakeven_activate_pct, plan.scale_out_fraction) == (0.0, 0.0)
    assert math.isnan(plan.scale_out_price)
    assert (plan.stop_price, plan.target_price) == (pytest.approx(960), pytest.approx(1080))


def test_a_ledger_row_brings_the_rules_back() -> None:
    assert to_order(row(asdict(RULES))).exit_rule == RULES  # type: ignore[arg-type]
    assert to_order(row(None)).exit_rule is None  # type: ignore[arg-type]


def test_the_rule_is_built_from_the_configuration_and_off_by_default() -> None:
    default = exit_rule(0.02, RiskConfig())
    assert (default.breakeven_activate_pct, default.scale_out_fraction) == (0.0, 0.0)
    config = RiskConfig(breakeven_activate_pct=0.01, breakeven_offset_pct=0.002, scale_out_fraction=0.3, scale_out_at=0.6)
    assert exit_rule(0.02, config) == replace(
        default, breakeven_activate_pct=0.01, breakeven_offset_pct=0.002, scale_out_fraction=0.3, scale_out_at=0.6
    )


@pytest.mark.parametrize(
    "overrides",
    [
        {"risk.breakeven_activate_pct": 0.003},  # the default offset: the stop would fire as it is moved
        {"risk.scale_out_fraction": 1.0},
        {"risk.scale_out_at": 0.0},
    ],
)
def test_configuration_that_would_fire_at_once_is_refused(overrides: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        load_config(env={}, overrides=overrides)

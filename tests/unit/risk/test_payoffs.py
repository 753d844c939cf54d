"""Kelly's b from what trades really gave: used where it was measured under the same exits, told in words, and in the views."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import pytest

from helios.config import PortfolioConfig, RiskConfig
from helios.domain.decisions import Payoff, TradePlan
from helios.domain.enums import Action
from helios.portfolio.targets import TargetPlanner
from helios.risk.explain_size import size_sentences
from helios.risk.payoffs import measured_payoff, payoff_of
from tests.unit.risk.builders import T0, account, prediction, request
from tests.unit.risk.test_risk_tier import CLOSES, CONFIG, NEXT, SPOT, desk

MEASURED = Payoff(win_stops=0.6, loss_stops=0.5, n_trades=1_200, stop_daily_volatilities=2.0, reward_to_risk=2.0, timeout_h=24.0)


@pytest.mark.parametrize(
    ("payoff", "config"),
    [
        (None, {}),
        (MEASURED, {"payoff": "exits"}),
        (MEASURED, {"stop_method": "fixed"}),
        (MEASURED, {"stop_daily_volatilities": 1.5}),
        (MEASURED, {"reward_to_risk": 3.0}),
        (MEASURED, {"timeout_h": 48.0}),
    ],
)
def test_a_payoff_measured_under_other_exits_or_not_at_all_says_nothing(payoff: Payoff | None, config: dict[str, object]) -> None:
    assert measured_payoff(payoff, RiskConfig(**config)) is None  # type: ignore[arg-type]
    assert math.isnan(payoff_of(None, 0.03, RiskConfig()))


def test_the_measured_payoff_is_never_more_than_the_exits_can_give() -> None:
    assert measured_payoff(MEASURED, RiskConfig()) is MEASURED
    assert payoff_of(MEASURED, 0.03, RiskConfig()) == pytest.approx(1.2)
    assert payoff_of(replace(MEASURED, win_stops=5.0), 0.03, RiskConfig()) == pytest.approx(0.117 / 0.063)
    assert payoff_of(replace(MEASURED, loss_stops=0.0), 0.03, RiskConfig()) == pytest.approx(0.117 / 0.063)


def planned(payoff: Payoff | None, config: RiskConfig = CONFIG) -> TradePlan:
    asked = replace(prediction(Action.BUY, 0.72, SPOT.symbol, NEXT), payoff=payoff)
    [plan] = desk(config).plan(request(asked, close=float(CLOSES[-1]), at=NEXT, holder=account())).plans
    assert isinstance(plan, TradePlan), plan
    return plan


def test_a_plan_is_sized_by_what_such_trades_gave_and_says_so() -> None:
    without, plan = planned(None), planned(MEASURED)
    assert plan.payoff_ratio == pytest.approx(1.2)
    assert plan.kelly_full == pytest.approx(0.72 - 0.28 / 1.2)
    assert plan.notional_quote < without.notional_quote
    assert float(plan.notional_quote / without.notional_quote) == pytest.approx(plan.kelly_full / without.kelly_full, rel=1e-6)
    assert (plan.mean_win_pct, plan.mean_loss_pct) == (
        pytest.approx(0.6 * plan.stop_loss_pct),
        pytest.approx(0.5 * plan.stop_loss_pct),
    )
    assert math.isnan(without.mean_win_pct)
    words = " ".join(size_sentences(dict(plan.sizing), "ZAR"))
    assert "b = 1.2: the model's trades won 0.6 and lost 0.5 stops on average, after costs (target over stop would be 1.8" in words
    assert planned(MEASURED, CONFIG.model_copy(update={"payoff": "exits"})) == without


def test_trades_that_lose_more_than_they_win_are_not_entered() -> None:
    asked = replace(prediction(Action.BUY, 0.56, SPOT.symbol, NEXT), payoff=replace(MEASURED, win_stops=0.3))
    [refusal] = desk().plan(request(asked, close=float(CLOSES[-1]), at=NEXT, holder=account())).plans
    assert getattr(refusal, "code", None) == "NO_EDGE"  # 0.56 - 0.44 / 0.6 < 0


def test_a_view_expects_what_such_trades_gave_before_the_cost_of_entering() -> None:
    planner = TargetPlanner(PortfolioConfig(cost_pct=0.001), RiskConfig(), {SPOT.symbol: SPOT}, lambda _: "x", 0.9)
    plan = planned(MEASURED)
    expected = 0.72 * plan.mean_win_pct - 0.28 * plan.mean_loss_pct + 0.001
    assert planner.view(plan) == pytest.approx(expected)
    by_exits = replace(plan, mean_win_pct=math.nan, mean_loss_pct=math.nan)
    assert planner.view(by_exits) > 2 * planner.view(plan)
    assert planner.view(replace(plan, horizon_ns=2 * plan.horizon_ns)) == pytest.approx(expected / 2)
    assert plan.bar_time > T0
    assert plan.notional_quote > Decimal(0)

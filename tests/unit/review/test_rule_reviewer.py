"""Rules: the cases of the requirements and how they combine."""

from __future__ import annotations

import math

import pytest

from helios.config import ReviewConfig
from helios.domain.decisions import TradePlan
from helios.domain.enums import Side, VerdictKind, VolatilityRegime
from helios.domain.orders import AccountSnapshot
from helios.review.rules import RuleReviewer
from tests.support.review_values import make_account, make_plan, make_request

REVIEWER = RuleReviewer(ReviewConfig())


def test_a_confident_calm_plan_is_approved_by_name_and_numbers() -> None:
    (verdict,) = REVIEWER.review(make_request(make_plan()))
    assert (verdict.kind, verdict.multiplier, verdict.risk_flags) == (VerdictKind.APPROVE, 1.0, ())
    assert all(part in verdict.reasoning for part in ("MOMENTUM_LONG", "confidence 85%", "volatility 2.0%"))


def test_a_short_is_named_as_such() -> None:
    (verdict,) = REVIEWER.review(make_request(make_plan(side=Side.SELL)))
    assert "MOMENTUM_SHORT" in verdict.reasoning


def test_high_volatility_rejects_and_says_volatility() -> None:
    (verdict,) = REVIEWER.review(make_request(make_plan(confidence=0.70, daily_volatility=0.15)))
    assert (verdict.kind, verdict.multiplier) == (VerdictKind.REJECT, 0.0)
    assert verdict.risk_flags == ("VOLATILITY_TOO_HIGH",)
    assert "volatility 15.0% is above 10%" in verdict.reasoning


def test_unknown_volatility_rejects() -> None:
    (verdict,) = REVIEWER.review(make_request(make_plan(daily_volatility=math.nan)))
    assert verdict.kind is VerdictKind.REJECT


@pytest.mark.parametrize(
    ("plan", "account", "flag"),
    [
        (make_plan(confidence=0.60), make_account(), "LOW_CONFIDENCE"),
        (make_plan(regime=VolatilityRegime.EXTREME), make_account(), "EXTREME_REGIME"),
        (make_plan(), make_account(drawdown=0.06), "DRAWDOWN"),
        (make_plan(), make_account(invested=61_000), "HEAVILY_INVESTED"),
    ],
)
def test_each_caution_halves_the_size(plan: TradePlan, account: AccountSnapshot, flag: str) -> None:
    (verdict,) = REVIEWER.review(make_request(plan, account=account))
    assert (verdict.kind, verdict.multiplier, verdict.risk_flags) == (VerdictKind.MODIFY, 0.5, (flag,))


def test_values_on_the_limit_are_approved() -> None:
    plan = make_plan(confidence=0.62, daily_volatility=0.10)
    (verdict,) = REVIEWER.review(make_request(plan, account=make_account(drawdown=0.05, invested=60_000)))
    assert verdict.kind is VerdictKind.APPROVE


def test_cautions_multiply() -> None:
    plan = make_plan(confidence=0.60, regime=VolatilityRegime.EXTREME)
    (verdict,) = REVIEWER.review(make_request(plan, account=make_account(drawdown=0.2, invested=90_000)))
    assert verdict.multiplier == 0.0625
    assert len(verdict.risk_flags) == 4


def test_one_sided_attention_is_only_a_flag() -> None:
    (verdict,) = REVIEWER.review(make_request(make_plan(), attention=(0.9, 0.05, 0.05)))
    assert (verdict.kind, verdict.multiplier, verdict.risk_flags) == (VerdictKind.APPROVE, 1.0, ("ONE_SIDED_ATTENTION",))


def test_an_exit_is_always_approved_whole() -> None:
    plan = make_plan(side=Side.SELL, reduce_only=True, daily_volatility=0.5, confidence=0.1)
    (verdict,) = REVIEWER.review(make_request(plan, account=make_account(drawdown=0.5)))
    assert (verdict.kind, verdict.multiplier) == (VerdictKind.APPROVE, 1.0)


def test_verdicts_come_in_the_order_of_the_plans() -> None:
    plans = [make_plan(s) for s in ("ETH/ZAR", "BTC/ZAR", "SOL/ZAR")]
    assert [v.symbol for v in REVIEWER.review(make_request(*plans))] == ["ETH/ZAR", "BTC/ZAR", "SOL/ZAR"]

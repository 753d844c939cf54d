"""Rebalancing: daily look, weekly threshold, at once on risk, only trades worth their cost."""

from __future__ import annotations

import pytest

from helios.portfolio.history import DAY_NS
from helios.portfolio.rebalance import RebalanceAdvice, advise

NOW = 100 * DAY_NS


def ask(weight: float, checked_days: float = 1, acted_days: float = 7, **more: object) -> RebalanceAdvice:
    checked, acted = NOW - int(checked_days * DAY_NS), NOW - int(acted_days * DAY_NS)
    return advise({"A": weight}, {"A": 0.30}, 0.05, NOW, checked, acted, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weight", "checked", "acted", "reason"),
    [
        (0.26, 1, 7, ""),  # 4 % off
        (0.24, 1, 7, "DRIFT"),  # 6 % off, a week old
        (0.24, 1, 6.9, ""),  # not a week old
        (0.19, 1, 1, "LARGE_DRIFT"),  # 11 % off
        (0.19, 0.9, 7, ""),  # looked at today already
    ],
)
def test_when_weights_are_brought_back(weight: float, checked: float, acted: float, reason: str) -> None:
    assert ask(weight, checked, acted).reason == reason


def test_a_risk_event_acts_at_once() -> None:
    advice = ask(0.28, 0, 0, risk_event=True)
    assert advice.reason == "RISK_EVENT"
    assert advice.trades == {"A": pytest.approx(0.02)}


def test_trades_not_worth_their_cost_are_left_out_and_missing_targets_are_zero() -> None:
    weights = {"A": 0.40, "B": 0.101, "C": 0.2}
    advice = advise(weights, {"A": 0.3, "B": 0.1}, 0.05, NOW, 0, 0, smallest_trade=0.005)
    assert advice.trades == {"A": pytest.approx(-0.1), "C": pytest.approx(-0.2)}

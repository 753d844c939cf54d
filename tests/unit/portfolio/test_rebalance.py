"""Rebalancing: daily look, weekly threshold, calendar, at once on risk, a band instead of a point."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios.config import PortfolioConfig
from helios.errors import DataError
from helios.portfolio.history import DAY_NS, HOUR_NS
from helios.portfolio.rebalance import (
    RebalanceAdvice,
    RebalancePlanner,
    RebalanceRule,
    RebalanceTimes,
    advise,
    calendar_slot,
    half_band,
)

NOW = 100 * DAY_NS
FREE = RebalanceRule()
DUE = RebalanceTimes()
WEIGHTS = st.dictionaries(st.sampled_from("ABCDE"), st.floats(0, 0.2, allow_subnormal=False), max_size=5)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def ask(weight: float, checked_days: float = 1, acted_days: float = 7, **more: object) -> RebalanceAdvice:
    times = RebalanceTimes(NOW - int(checked_days * DAY_NS), NOW - int(acted_days * DAY_NS))
    return advise({"A": weight}, {"A": 0.30}, NOW, FREE, times, **more)  # type: ignore[arg-type]


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


def test_a_risk_event_acts_at_once_and_only_reduces() -> None:
    weights = {"A": 0.32, "B": 0.1, "S": -0.2, "X": 0.05}
    targets = {"A": 0.30, "B": 0.2, "S": -0.05, "X": -0.1}
    advice = advise(weights, targets, NOW, RebalanceRule(cost_pct=0.01), RebalanceTimes(NOW, NOW, NOW), risk_event=True)
    assert advice.reason == "RISK_EVENT"
    assert advice.trades == {"A": pytest.approx(-0.02), "S": pytest.approx(0.15), "X": pytest.approx(-0.05)}


def test_trades_too_small_are_left_out_and_missing_targets_are_zero() -> None:
    weights = {"A": 0.40, "B": 0.101, "C": 0.2}
    advice = advise(weights, {"A": 0.3, "B": 0.1}, NOW, FREE, DUE, smallest_trade=0.005)
    assert advice.trades == {"A": pytest.approx(-0.1), "C": pytest.approx(-0.2)}


def test_only_symbols_with_a_price_are_looked_at_and_traded() -> None:
    weights, targets = {"A": 0.4, "B": 0.4, "C": float("nan")}, {"A": 0.2, "B": 0.2, "C": 0.1}
    assert set(advise(weights, targets, NOW, FREE, DUE, fresh={"B", "C"}).trades) == {"B"}
    assert advise(weights, targets, NOW, FREE, DUE, fresh=set()) == RebalanceAdvice("", {})


def test_the_band_is_the_published_one() -> None:
    assert half_band(0.2, 0.0015, 2.5) == pytest.approx((1.5 * 0.0015 / 2.5 * 0.16**2) ** (1 / 3))
    assert half_band(0.2, 0.0015, 2.5) == pytest.approx(0.02846, abs=1e-5)
    assert half_band(0.0, 0.0015, 2.5) == half_band(1.0, 0.0015, 2.5) == 0.0


def test_a_trade_ends_at_the_edge_of_the_band_and_a_target_of_zero_closes() -> None:
    rule = RebalanceRule(cost_pct=0.0015)
    advice = advise({"A": 0.35, "B": 0.3}, {"A": 0.2}, NOW, rule, DUE)
    assert 0.35 + advice.trades["A"] == pytest.approx(0.2 + half_band(0.2, 0.0015, 2.5))
    assert advice.trades["B"] == pytest.approx(-0.3)


def test_purchases_are_cut_to_the_cash_there_is() -> None:
    rule = RebalanceRule(cost_pct=0.0015)
    weights = {"A": 0.22, "B": 0.22, "C": 0.22, "D": 0.22, "E": 0.1}  # 2 % cash; the band keeps A..D above their targets
    advice = advise(weights, dict.fromkeys("ABCDE", 0.2), NOW, rule, DUE)
    assert advice.trades == {"E": pytest.approx(0.02)}


@pytest.mark.parametrize(
    ("calendar", "now", "slot"),
    [
        ("daily", "2025-03-05T08:00", "2025-03-05T06:00"),
        ("daily", "2025-03-05T05:59", "2025-03-04T06:00"),
        ("weekly", "2025-03-05T08:00", "2025-03-03T06:00"),  # a Wednesday
        ("weekly", "2025-03-03T05:00", "2025-02-24T06:00"),  # Monday before the hour
        ("monthly", "2025-03-05T08:00", "2025-03-01T06:00"),
        ("monthly", "2025-03-01T05:00", "2025-02-01T06:00"),
        ("monthly", "2025-01-01T00:00", "2024-12-01T06:00"),
    ],
)
def test_the_calendars_last_time(calendar: str, now: str, slot: str) -> None:
    assert calendar_slot(at(now), calendar, 6) == at(slot)  # type: ignore[arg-type]
    assert calendar_slot(at(now), "none", 6) is None


def test_the_calendar_trades_once_a_time_and_not_when_the_desk_is_switched_on() -> None:
    planner = RebalancePlanner(RebalanceRule(calendar="daily", hour_utc=6))
    weights, targets = {"A": 0.21}, {"A": 0.2}  # too little for the drift rule

    def reasons(*times: str) -> list[str]:
        return [planner.advise(weights, targets, at(t)).reason for t in times]

    assert reasons("2025-03-05T05:00", "2025-03-05T05:30") == ["", ""]
    assert reasons("2025-03-05T06:05", "2025-03-05T06:10", "2025-03-05T05:00") == ["CALENDAR", "", ""]
    assert reasons("2025-03-08T07:00", "2025-03-08T07:05") == ["CALENDAR", ""]  # two missed times are one


def test_a_restart_is_no_reason_to_trade() -> None:
    rule = RebalanceRule.of(PortfolioConfig(rebalance_calendar="weekly"))
    planner = RebalancePlanner(rule)
    assert planner.advise({"A": 0.2}, {}, NOW).reason == "LARGE_DRIFT"
    again = RebalancePlanner.from_json(rule, json.loads(json.dumps(planner.to_json())))
    assert again.times == planner.times
    assert again.advise({"A": 0.2}, {}, NOW + HOUR_NS).reason == ""
    assert RebalancePlanner.from_json(rule, {}).times == RebalanceTimes()


@pytest.mark.parametrize("saved", [{"last_check_ns": "1"}, {"other": 1}, {"last_slot_ns": True}])
def test_saved_times_that_are_none_are_refused(saved: dict[str, object]) -> None:
    with pytest.raises(DataError):
        RebalancePlanner.from_json(FREE, saved)


def test_a_risk_event_does_not_put_off_the_weekly_rule_and_late_times_do_not_turn_back() -> None:
    planner = RebalancePlanner(FREE, RebalanceTimes(NOW, NOW))
    planner.advise({"A": 0.3}, {"A": 0.2}, NOW + HOUR_NS, risk_event=True)
    planner.advise({"A": 0.3}, {"A": 0.2}, NOW - 9 * DAY_NS)
    assert planner.times == RebalanceTimes(NOW, NOW)


@given(WEIGHTS, WEIGHTS, st.floats(0, 0.05), st.floats(0, 0.05))
def test_higher_cost_never_trades_more(w: dict[str, float], t: dict[str, float], one: float, other: float) -> None:
    cheap, dear = sorted((one, other))
    turnover = [sum(map(abs, advise(w, t, NOW, RebalanceRule(cost_pct=c), DUE).trades.values())) for c in (cheap, dear)]
    assert turnover[1] <= turnover[0] + 1e-12


@given(WEIGHTS, WEIGHTS, st.floats(0, 0.05))
def test_trades_go_towards_the_target_stop_at_the_band_and_need_no_credit(
    w: dict[str, float], t: dict[str, float], cost: float
) -> None:
    advice = advise(w, t, NOW, RebalanceRule(cost_pct=cost), DUE)
    after = {s: w.get(s, 0.0) + d for s, d in advice.trades.items()}
    for s, d in advice.trades.items():
        gap = t.get(s, 0.0) - w.get(s, 0.0)
        assert d * gap > 0
        assert abs(t.get(s, 0.0) - after[s]) >= half_band(t.get(s, 0.0), cost, 2.5) - 1e-12
    assert sum({**w, **after}.values()) <= max(1.0, sum(w.values())) + 1e-9


@given(WEIGHTS, st.floats(-1, 1), st.floats(0.0001, 0.05))
def test_within_the_band_nothing_is_traded(t: dict[str, float], where: float, cost: float) -> None:
    w = {s: x + where * 0.999 * half_band(x, cost, 2.5) for s, x in t.items()}
    assert advise(w, t, NOW, RebalanceRule(drift=1e-6, cost_pct=cost), DUE).trades == {}


@given(WEIGHTS, WEIGHTS, st.floats(0, 0.05))
def test_a_risk_event_never_enlarges(w: dict[str, float], t: dict[str, float], cost: float) -> None:
    signed = {s: x if s in "AB" else -x for s, x in w.items()}
    for s, d in advise(signed, t, NOW, RebalanceRule(cost_pct=cost), DUE, risk_event=True).trades.items():
        assert abs(signed[s] + d) < abs(signed[s])

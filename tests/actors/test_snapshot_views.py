from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from actors.snapshot import account_view, position_view, tier_views
from helios.domain.orders import PositionView
from tests.support.pipeline_values import T0, account

D = Decimal
SHORT = PositionView("BTC/ZAR", D(-2), D(100), D(90), D(0), D(20), T0, 1.0, "d", 105.0, 80.0, 0)
UP = {"healthy": True, "faults": 0}


def test_a_short_position_shows_its_side_and_gain() -> None:
    view = position_view(SHORT)
    assert (view["side"], view["quantity"], view["notional"], view["unrealised_pnl_pct"]) == ("SHORT", "2", "180", 0.1)
    assert position_view(replace(SHORT, average_price=D(0)))["unrealised_pnl_pct"] == 0.0


def test_dust_is_named_and_no_open_position() -> None:
    dust = replace(SHORT, symbol="ETH/ZAR", is_dust=True)
    view = account_view(replace(account(), positions=(SHORT, dust)), D(1))
    assert [p["is_dust"] for p in view["positions"]] == [False, True]
    assert view["performance"]["open_positions"] == 1


def test_the_account_is_plain_json_with_exact_money() -> None:
    view = account_view(replace(account(), equity_quote=D("0.1") + D("0.2"), positions=(SHORT,)), D("0.2"))
    assert json.loads(json.dumps(view))["equity"] == "0.3"
    assert [p["symbol"] for p in view["positions"]] == ["BTC/ZAR"]


@pytest.mark.parametrize(("status", "wanted"), [
    ({}, "unknown"),
    ({"symbol:A": UP, "symbol:B": UP, "recorder": {"healthy": False}}, "healthy"),
    ({"symbol:A": UP, "symbol:B": {"healthy": False}}, "degraded"),
    ({"symbol:A": {"healthy": False}, "symbol:B": {"healthy": False}}, "offline"),
    ({"symbol:A": UP | {"symbols": [{"is_stale": True}]}}, "degraded"),
])  # fmt: skip
def test_a_tier_is_as_healthy_as_its_members(status: dict[str, dict[str, object]], wanted: str) -> None:
    rows = tier_views(status, {})
    assert [r["id"] for r in rows] == ["data", "prediction", "risk", "review", "portfolio", "execution", "storage"]
    assert rows[0]["status"] == wanted


def test_restarts_faults_and_latencies_are_those_of_the_tiers_members() -> None:
    status = {
        "symbol:A": UP | {"faults": 2},
        "symbol:B": UP | {"faults": 1},
        "risk": UP,
        "signal": UP | {"latency_ms": {"risk": {"p50": 3.0}}},
    }
    rows = {r["id"]: r for r in tier_views(status, {"symbol:B": 4, "risk": 1})}
    assert (rows["data"]["restarts"], rows["data"]["errors"], rows["data"]["members"]) == (4, 3, 2)
    assert (rows["risk"]["restarts"], rows["risk"]["latency_ms"]) == (1, {"p50": 3.0})


def test_a_database_that_is_away_is_critical_though_the_recorder_lives() -> None:
    recorder = UP | {"is_away": True}
    assert {r["id"]: r["status"] for r in tier_views({"recorder": recorder}, {})}["storage"] == "critical"
    assert {r["id"]: r["status"] for r in tier_views({"recorder": UP | {"is_away": False}}, {})}["storage"] == "healthy"


def test_a_predictor_that_did_not_answer_is_critical_until_it_does() -> None:
    signal = {"healthy": True, "model_answers": False}
    assert {r["id"]: r["status"] for r in tier_views({"signal": signal}, {})}["prediction"] == "critical"
    assert {r["id"]: r["status"] for r in tier_views({"signal": signal | {"model_answers": True}}, {})}["prediction"] == "healthy"

"""The API over a fake desk: who may ask, what is answered, and what happens when the desk does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from helios.errors import StoreUnavailableError, TransportError
from serve.gateway import STATIC, GatewaySpec, build_api, decode_cursor, encode_cursor
from serve.security import Security
from tests.support.desk_fake import FakeDesk

TOKEN = "secret-token"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
QUESTIONS = (
    "status",
    "positions",
    "orders",
    "fills",
    "decisions",
    "predictions",
    "portfolio",
    "portfolio/daily",
    "events",
    "market/tickers",
    "symbols",
)


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def client(desk: FakeDesk) -> Iterator[TestClient]:
    with TestClient(build_api(desk, Security(token=TOKEN), push_interval_s=0.02), base_url="http://localhost") as client:
        yield client


def window(value: float | None = 0.5, n_steps: int = 60) -> list[Any]:
    return [[[value] * 30] * n_steps] * 3


def test_health_needs_no_token_and_tells_nothing(client: TestClient) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "healthy", "version": "0.1.0"}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_need_the_token(client: TestClient, name: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
        answer = client.get(f"/api/v1/{name}", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert client.get(f"/api/v1/{name}", headers=AUTH).status_code == 200


def test_commands_need_the_token(client: TestClient, desk: FakeDesk) -> None:
    paths = ("pause", "resume", "emergency-stop", "emergency-stop/clear", "mode")
    assert {client.post(f"/api/v1/engine/{p}").status_code for p in paths} == {401}
    assert client.post("/api/v1/predict", content=b"{").status_code == 401
    assert desk.commands == []


def test_every_documented_call_needs_the_token_unless_public(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert len(paths) >= 15
    for path, methods in paths.items():
        for method in methods:
            status = client.request(method, path.replace("{decision_id}", "000abc").replace("{symbol}", "BTC/ZAR")).status_code
            assert status == (200 if path == "/health" else 401), path


def test_status_is_the_snapshot_without_the_curve(client: TestClient) -> None:
    status = client.get("/api/v1/status", headers=AUTH).json()
    assert status["state"] == "RUNNING"
    assert status["equity"] == "101500"
    assert "equity_history" not in status
    assert len(client.get("/api/v1/portfolio", headers=AUTH).json()["equity_history"]) == 600


def test_unknown_account_is_null_not_zero(client: TestClient, desk: FakeDesk) -> None:
    desk.has_account = False
    portfolio = client.get("/api/v1/portfolio", headers=AUTH).json()
    assert portfolio["equity"] is None
    assert portfolio["drawdown"] is None


def test_days_of_the_account_are_the_newest_oldest_first_with_exact_money(client: TestClient) -> None:
    days = client.get("/api/v1/portfolio/daily", params={"days": 2}, headers=AUTH).json()["days"]
    assert [(d["equity_quote"], d["pnl_quote"], d["open_positions"]) for d in days] == [
        ("100002.10", "1.00", 2),
        ("100003.10", "1.00", 2),
    ]
    assert days[0]["daily_return"] == pytest.approx(1e-5, rel=1e-4)
    assert days[0]["sharpe"] is None  # noise below thirty days
    for wrong in ("0", "401", "x"):
        assert client.get("/api/v1/portfolio/daily", params={"days": wrong}, headers=AUTH).status_code == 422


def test_portfolio_tells_the_record_as_a_whole(client: TestClient, desk: FakeDesk) -> None:
    assert client.get("/api/v1/portfolio", headers=AUTH).json()["performance"]["total_pnl_quote"] == "1500"
    desk.has_account = False
    assert client.get("/api/v1/portfolio", headers=AUTH).json()["performance"] is None


def test_money_stays_exact(client: TestClient) -> None:
    assert client.get("/api/v1/orders?limit=1", headers=AUTH).json()["orders"][0]["average_price"] == "1845000.10"


def test_pages_of_decisions_join_without_gap_or_repeat(client: TestClient, desk: FakeDesk) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/decisions", params=query, headers=AUTH).json()
        seen += [d["decision_id"] for d in page["decisions"]]
        cursor = page["next_cursor"]
    assert seen == [d["decision_id"] for d in desk._decisions()]


def test_cursor_round_trip_and_refusal(client: TestClient) -> None:
    assert decode_cursor(encode_cursor(1_767_225_600_000_000_000, "BTC/USDT:USDT")) == (
        1_767_225_600_000_000_000,
        "BTC/USDT:USDT",
    )
    for cursor in ("x", "AAAA", "%%%", "é", "LTUgQlRD"):
        assert client.get("/api/v1/decisions", params={"cursor": cursor}, headers=AUTH).status_code == 422


def test_explain_by_beginning_of_id(client: TestClient) -> None:
    answer = client.get("/api/v1/decisions/000abc", headers=AUTH)
    assert answer.json()["steps"]["review"]["verdict"] == "APPROVE"
    missing = client.get("/api/v1/decisions/ffff", headers=AUTH)
    assert missing.status_code == 404
    assert "no decision" in missing.json()["detail"]


def test_predict_answers_per_window_and_unknown_becomes_nan(client: TestClient, desk: FakeDesk) -> None:
    answer = client.post("/api/v1/predict", json={"windows": [window(), window(None)]}, headers=AUTH).json()
    assert [p["action"] for p in answer["predictions"]] == ["SELL", "SELL"]
    assert answer["predictions"][0]["confidence"] == pytest.approx(0.7)
    assert answer["model_version"] == "starter"
    assert desk.predicted[0].shape == (2, 3, 60, 30)
    assert np.isnan(desk.predicted[0][1]).all()
    assert not np.isnan(desk.predicted[0][0]).any()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"windows": []}, "at least 1"),
        ({"windows": [window(n_steps=59)]}, "exactly 60 steps"),
        ({"windows": [window()[:2]]}, "2 timeframes"),
        ({"windows": [[[[0.1] * 29] * 60] * 3]}, "exactly 30 features"),
        ({"windows": [window(1e300)]}, "too large"),
        ({"windows": [window()], "symbol": "BTC"}, "Extra inputs"),
        ({}, "required"),
    ],
)
def test_predict_refuses_wrong_shapes_with_one_clear_line(client: TestClient, body: dict[str, Any], words: str) -> None:
    answer = client.post("/api/v1/predict", json=body, headers=AUTH)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_predict_refuses_more_than_64_windows(client: TestClient, desk: FakeDesk) -> None:
    assert client.post("/api/v1/predict", json={"windows": [[]] * 65}, headers=AUTH).status_code == 422
    assert desk.predicted == []


def test_commands_reach_the_supervisor(client: TestClient, desk: FakeDesk) -> None:
    def tell(name: str, body: Any = None) -> Any:
        return client.post(f"/api/v1/engine/{name}", json=body, headers=AUTH).json()

    assert tell("pause") == {"state": "PAUSED"}
    assert tell("resume") == {"state": "RUNNING"}
    assert tell("emergency-stop", {"reason": "drill"}) == {"state": "EMERGENCY_STOP", "still_open": []}
    assert tell("emergency-stop/clear") == {"state": "PAUSED"}
    assert tell("mode", {"mode": "paper"}) == {"mode": "PAPER"}
    assert desk.commands == [("pause",), ("resume",), ("emergency_stop", "drill"), ("clear",), ("set_mode", "paper", "")]


def test_emergency_stop_works_without_a_body(client: TestClient, desk: FakeDesk) -> None:
    assert client.post("/api/v1/engine/emergency-stop", headers=AUTH).status_code == 200
    assert desk.commands == [("emergency_stop", "operator")]


def test_refusals_of_the_supervisor_are_409_with_its_words(client: TestClient, desk: FakeDesk) -> None:
    desk.state = "EMERGENCY_STOP"
    answer = client.post("/api/v1/engine/resume", headers=AUTH)
    assert answer.status_code == 409
    assert "must be cleared first" in answer.json()["detail"]
    live = client.post("/api/v1/engine/mode", json={"mode": "live", "confirmation": "yes"}, headers=AUTH)
    assert live.status_code == 409
    assert "I_CONFIRM_LIVE_TRADING" in live.json()["detail"]


def test_unknown_fields_are_refused(client: TestClient, desk: FakeDesk) -> None:
    assert client.post("/api/v1/engine/mode", json={"mode": "paper", "force": True}, headers=AUTH).status_code == 422
    assert client.post("/api/v1/engine/emergency-stop", json={"why": "x"}, headers=AUTH).status_code == 422
    assert desk.commands == []


@pytest.mark.parametrize("error", [TransportError("the supervisor is not running"), StoreUnavailableError("database: refused")])
def test_a_dead_desk_is_503_with_one_line(client: TestClient, desk: FakeDesk, error: Any) -> None:
    desk.error = error
    for name in QUESTIONS:
        answer = client.get(f"/api/v1/{name}", headers=AUTH)
        assert (answer.status_code, answer.json()) == (503, {"detail": str(error)})
    assert client.get("/health").status_code == 200


def test_a_defect_is_500_without_its_traceback(desk: FakeDesk) -> None:
    async def broken() -> dict[str, Any]:
        raise ZeroDivisionError("secret detail")

    desk.snapshot = broken  # type: ignore[method-assign]
    api = build_api(desk, Security(token=TOKEN))
    with TestClient(api, base_url="http://localhost", raise_server_exceptions=False) as client:
        answer = client.get("/api/v1/status", headers=AUTH)
    assert answer.status_code == 500
    assert "secret detail" not in answer.text


def test_page_and_its_files_are_whole_and_load_nothing_from_outside(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    folder = Path(build_api.__code__.co_filename).parent / "dashboard"
    assert {p.name for p in folder.iterdir()} == {"index.html", *STATIC}
    for name in STATIC:
        text = client.get(f"/static/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
    for path in ("/static/../gateway.py", "/static/%2e%2e/gateway.py", "/static/nothing.js"):
        assert client.get(path).status_code in (401, 404)


def test_the_spec_never_shows_its_secrets() -> None:
    spec = GatewaySpec(token="t0ps3cret", dsn="postgresql://u:pw@h/d", push_interval_ms=500, namespace="helios")
    assert "t0ps3cret" not in repr(spec)
    assert "pw" not in repr(spec)


def test_candles_are_the_newest_oldest_first_with_null_for_unknown(client: TestClient) -> None:
    answer = client.get("/api/v1/market/candles", params={"symbol": "BTC/ZAR", "timeframe": "5m", "limit": 2}, headers=AUTH).json()
    assert (answer["symbol"], answer["timeframe"]) == ("BTC/ZAR", "5m")
    assert [c["close"] for c in answer["candles"]] == [698.0, 699.0]
    assert answer["candles"][0]["buy_volume"] is None
    assert client.get("/api/v1/market/candles", params={"symbol": "NO/PE"}, headers=AUTH).json()["candles"] == []


@pytest.mark.parametrize("query", [{}, {"symbol": "BTC/ZAR", "timeframe": "7m"}, {"symbol": "BTC/ZAR", "limit": 0}, {"symbol": ""}])
def test_bad_questions_for_candles_are_refused(client: TestClient, query: dict[str, Any]) -> None:
    assert client.get("/api/v1/market/candles", params=query, headers=AUTH).status_code == 422
    assert client.get("/api/v1/market/candles", params={"symbol": "BTC/ZAR"}).status_code == 401


def test_risk_tells_breakers_limits_and_volatility(client: TestClient, desk: FakeDesk) -> None:
    desk.trading_state, desk.trips = "REDUCING", [{"code": "MAX_DAILY_LOSS", "detail": "5.2 % against 5 %"}]
    told = client.get("/api/v1/risk", headers=AUTH).json()
    assert (told["trading_state"], told["trips"][0]["code"]) == ("REDUCING", "MAX_DAILY_LOSS")
    assert told["risk"]["limit_utilisation"][1]["share"] == pytest.approx(0.85)
    assert told["risk"]["sharpe_30d"] is None
    assert [v["regime"] for v in told["volatility"]] == ["LOW", "MEDIUM", "HIGH", "EXTREME"]


@pytest.mark.parametrize(("body", "given"), [(None, ()), ({}, ()), ({"code": "MAX_DRAWDOWN"}, ("MAX_DRAWDOWN",))], ids=str)
def test_a_person_resets_breakers(client: TestClient, desk: FakeDesk, body: dict[str, str] | None, given: tuple[str, ...]) -> None:
    answer = client.post("/api/v1/risk/reset", json=body, headers=AUTH)
    assert (answer.status_code, answer.json()["trading_state"]) == (200, "ACTIVE")
    assert desk.commands == [("reset_breakers", *given)]


def test_attribution_takes_days_and_refuses_what_it_cannot_group(client: TestClient, desk: FakeDesk) -> None:
    told = client.get("/api/v1/attribution?by=symbol&since=2026-01-01&until=2026-01-02", headers=AUTH).json()
    assert told["stages"]["totals"]["pnl_quote"] == "12.50"
    assert desk.attributed == [("symbol", 20454, 20455)]
    for query in ("by=moon", "since=yesterday", "since=2026-01-02&until=2026-01-01"):
        assert client.get(f"/api/v1/attribution?{query}", headers=AUTH).status_code == 422


def test_money_that_came_or_went_is_told_with_an_id(client: TestClient, desk: FakeDesk) -> None:
    path, body = "/api/v1/portfolio/movements", {"kind": "transfer", "amount": "-12.5", "movement_id": "bank-1"}
    assert client.post(path, json=body).status_code == 401
    assert client.post(path, json=body, headers=AUTH).json()["movement_id"] == "bank-1"
    made = [client.post(path, json={"kind": "transfer", "amount": "5"}, headers=AUTH).json()["movement_id"] for _ in range(2)]
    assert made[0] != made[1]
    assert desk.commands[0] == ("move", "bank-1", "transfer", "-12.5", "", "", "")
    refused = client.post(path, json={"kind": "transfer", "amount": "-1e9"}, headers=AUTH)
    assert (refused.status_code, "cannot be withdrawn" in refused.json()["detail"]) == (409, True)
    for wrong in ({"kind": "gift", "amount": "1"}, {"kind": "transfer"}, {"kind": "transfer", "amount": 5}, {**body, "note": "x"}):
        assert client.post(path, json=wrong, headers=AUTH).status_code == 422


def test_symbols_are_listed_added_and_removed_in_any_spelling(client: TestClient, desk: FakeDesk) -> None:
    rows = client.get("/api/v1/symbols", headers=AUTH).json()["symbols"]
    assert [(row["symbol"], row["reduce_only"]) for row in rows[:2]] == [("BTC/ZAR", False), ("ETH/ZAR", False)]
    assert client.post("/api/v1/symbols", json={"symbol": " sol-zar "}, headers=AUTH).json()["symbol"] == "sol-zar"
    assert client.delete("/api/v1/symbols/BTC%2FUSDT%3AUSDT", headers=AUTH).status_code == 200
    assert client.delete("/api/v1/symbols/ETH/ZAR", headers=AUTH).status_code == 200
    assert desk.commands == [("add_symbol", "sol-zar"), ("remove_symbol", "BTC/USDT:USDT"), ("remove_symbol", "ETH/ZAR")]
    for wrong in ({}, {"symbol": ""}, {"symbol": "x" * 41}, {"symbol": "SOL/ZAR", "more": 1}):
        assert client.post("/api/v1/symbols", json=wrong, headers=AUTH).status_code == 422
    refused = client.post("/api/v1/symbols", json={"symbol": "BTC/ZAR"}, headers=AUTH)
    assert (refused.status_code, refused.json()["detail"]) == (409, "BTC/ZAR is traded already")
    assert {client.request(m, f"/api/v1/symbols{p}").status_code for m, p in (("POST", ""), ("DELETE", "/ETH/ZAR"))} == {401}

"""A real desk on the sandbox exchange: it decides, obeys, survives kill -9, explains, and stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tests.support.desk import RunningDesk, eventually, helios, running_desk

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]
SYMBOLS = ("BTC/ZAR", "ETH/ZAR", "SOL/ZAR")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDesk]:
    state_dir = tmp_path_factory.mktemp("desk") / "state"
    with running_desk(state_dir, "--symbols", ",".join(SYMBOLS), "--speed", "120") as running:
        running.connect()
        eventually(lambda: running.status()["counters"].get("predictions", 0) >= 3, 60, "first predictions")
        yield running


def counted(desk: RunningDesk, name: str) -> int:
    """A counter; a Supervisor that was just restarted is given the time to hear of it."""
    counters = eventually(lambda: found if name in (found := desk.status()["counters"]) else None, 20, f"{name} are known")
    return int(counters[name])


def decided(desk: RunningDesk) -> int:
    return counted(desk, "decisions")


def goes_on(desk: RunningDesk, more: int = 6) -> None:
    before = decided(desk)
    eventually(lambda: decided(desk) >= before + more, 40, "decisions go on")


def test_every_tier_is_heard_from_and_healthy(desk: RunningDesk) -> None:
    tiers = eventually(lambda: [t for t in desk.status()["tiers"] if t["status"] == "healthy"], what="healthy tiers")
    assert {t["id"] for t in tiers} >= {"prediction", "risk", "review", "portfolio", "execution"}


def test_whoever_watches_a_stop_comes_no_later_than_any_other_program(desk: RunningDesk) -> None:
    pids = {c["name"]: int(c["pid"]) for c in desk.status()["components"]}
    own = psutil.Process().nice()
    assert {name: psutil.Process(pid).nice() for name, pid in pids.items() if psutil.Process(pid).nice() > own} == {}


def test_one_decision_per_symbol_and_bar(desk: RunningDesk) -> None:
    goes_on(desk)
    rows = json.loads(helios("decisions", "--limit", "1000", "--state-dir", str(desk.state_dir), "--json").stdout)
    keys = Counter((r["symbol"], r["bar_time"]) for r in rows)
    assert set(keys.values()) == {1}
    assert {symbol for symbol, _ in keys} == set(SYMBOLS)


def test_a_decision_is_explained_tier_by_tier(desk: RunningDesk) -> None:
    row = next(d for d in desk.get("/api/v1/decisions?limit=50")["decisions"] if d["outcome"] not in ("DATA_MISSING", "STALE_DATA"))
    told = json.loads(helios("explain", row["decision_id"], "--state-dir", str(desk.state_dir), "--json").stdout)
    assert told["steps"]["data"]["close"] > 0
    assert abs(sum(told["steps"]["prediction"]["probabilities"]) - 1) < 1e-4
    assert told["outcome"] == row["outcome"]


def test_live_bars_carry_flow_and_book_features(desk: RunningDesk) -> None:
    symbols = eventually(lambda: [s for s in desk.status()["symbols"] if s["spread_bps"]], what="books in step")
    assert all(0 < s["spread_bps"] < 100 for s in symbols)


def test_windows_are_classified_over_http(desk: RunningDesk) -> None:
    unknown = [[[None] * 30] * 60] * 3
    answer = desk.post("/api/v1/predict", {"windows": [unknown, unknown]})
    assert answer.status_code == 200, answer.text[:300]
    first, second = answer.json()["predictions"]
    assert first == second
    assert abs(sum(first["probabilities"]) - 1) < 1e-4
    assert desk.post("/api/v1/predict", {"windows": [[[0.0]]]}).status_code == 422


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_dashboard_of_the_real_desk_moves(desk: RunningDesk) -> None:
    from playwright.sync_api import sync_playwright

    assert desk.client is not None
    token = (desk.state_dir / "token").read_text().strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGUMENTS)
        page = browser.new_page()
        page.goto(f"{desk.client.base_url}/#token={token}")
        eventually(lambda: "RUNNING" in (page.text_content("#state") or ""), 20, "the dashboard shows RUNNING")
        shown = page.text_content("#market-time")
        eventually(lambda: page.text_content("#market-time") != shown, 20, "market time moves")
        eventually(lambda: page.locator("#predictions tr").count() >= 3, 20, "predictions are shown")
        assert page.text_content("#equity") not in (None, "", "–")
        browser.close()


def test_pause_and_resume(desk: RunningDesk) -> None:
    assert helios("pause", "--state-dir", str(desk.state_dir)).returncode == 0
    assert desk.status()["state"] == "PAUSED"
    assert desk.post("/api/v1/engine/resume").status_code == 200
    assert desk.status()["state"] == "RUNNING"


def test_live_is_refused(desk: RunningDesk) -> None:
    answer = desk.post("/api/v1/engine/mode", {"mode": "live", "confirmation": "yes"})
    assert answer.status_code == 409
    assert "I_CONFIRM_LIVE_TRADING" in answer.json()["detail"]


@pytest.mark.parametrize("component", ["symbol:ETH/ZAR", "execution", "recorder", "risk", "signal", "supervisor"])
def test_a_killed_actor_comes_back_and_decisions_go_on(desk: RunningDesk, component: str) -> None:
    before = desk.pid_of(component)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: _pid_or_zero(desk, component) not in (0, before), 20, f"{component} restarted")
    if component == "supervisor" or component == "signal":
        eventually(lambda: decided(desk) >= 3, 40, "decisions go on")
    else:
        goes_on(desk)


def _pid_or_zero(desk: RunningDesk, component: str) -> int:
    assert desk.client is not None
    answer = desk.client.get("/api/v1/status")
    if answer.status_code != 200:
        return 0
    return next((int(c["pid"]) for c in answer.json()["components"] if c["name"] == component and c["healthy"]), 0)


def test_no_minute_is_missing_in_the_database_after_those_kills(desk: RunningDesk) -> None:
    goes_on(desk)

    def missing() -> list[str]:
        found = []
        for symbol in SYMBOLS:
            bars = desk.get(f"/api/v1/market/candles?symbol={symbol}&timeframe=1m&limit=500")["candles"]
            times = [bar["open_time"] for bar in bars]
            found += [f"{symbol} after {a}" for a, b in pairwise(times) if b - a != 60 * 10**9]
        return found

    eventually(lambda: not missing(), 20, f"whole candles, but {missing()}")


def test_a_killed_predictor_comes_back(desk: RunningDesk) -> None:
    (replica,) = eventually(lambda: desk.processes("ServeReplica:predictor"), what="replica")
    replica.send_signal(signal.SIGKILL)
    before = counted(desk, "predictions")
    eventually(lambda: counted(desk, "predictions") >= before + 3, 60, "predictions go on")


def test_a_killed_database_is_started_again_and_nothing_recorded_is_missing(desk: RunningDesk) -> None:
    def storage() -> str:
        return next(str(t["status"]) for t in desk.status()["tiers"] if t["id"] == "storage")

    pid_file = desk.state_dir / "postgres" / "postmaster.pid"
    before = int(pid_file.read_text().split()[0])
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pid_file.exists() and int(pid_file.read_text().split()[0]) != before, 30, "another server")
    eventually(lambda: storage() == "healthy", 30, "what waited is written")
    goes_on(desk)
    eventually(lambda: recorded(desk) >= decided(desk) - len(SYMBOLS), 30, "every decision is stored")


def recorded(desk: RunningDesk) -> int:
    return len(json.loads(helios("decisions", "--limit", "10000", "--state-dir", str(desk.state_dir), "--json").stdout))


def test_a_symbol_is_added_while_the_desk_runs_and_survives_its_supervisor(desk: RunningDesk) -> None:
    added = helios("symbols", "add", "link-zar", "--state-dir", str(desk.state_dir), timeout_s=90.0)
    assert (added.returncode, added.stdout) == (0, "LINK/ZAR is traded from now on\n"), added.stderr
    predicted(desk, "LINK/ZAR")
    os.kill(desk.pid_of("supervisor"), signal.SIGKILL)
    owner = desk.pid_of("symbol:LINK/ZAR")
    os.kill(owner, signal.SIGKILL)
    eventually(lambda: _pid_or_zero(desk, "symbol:LINK/ZAR") not in (0, owner), 30, "its owner is restarted like any other")
    predicted(desk, "LINK/ZAR")
    again = desk.post("/api/v1/symbols", {"symbol": "LINK/ZAR"})
    assert (again.status_code, again.json()["detail"]) == (409, "LINK/ZAR is traded already")


def predicted(desk: RunningDesk, symbol: str) -> None:
    def newest() -> int:
        return max((p["bar_time"] for p in desk.status()["predictions"] if p["symbol"] == symbol), default=0)

    before = newest()
    eventually(lambda: newest() > before, 40, f"predictions of {symbol}")


def test_a_removed_symbol_leaves_with_its_process_once_nothing_of_it_is_held(desk: RunningDesk) -> None:
    pid = desk.pid_of("symbol:LINK/ZAR")
    assert helios("symbols", "remove", "LINK/ZAR", "--state-dir", str(desk.state_dir)).returncode == 0
    held = {p["symbol"] for p in eventually(lambda: desk.status() if "positions" in desk.status() else None)["positions"]}
    if "LINK/ZAR" in held:
        assert desk.post("/api/v1/engine/emergency-stop", {"reason": "to be flat"}).json()["still_open"] == []
        assert desk.post("/api/v1/engine/emergency-stop/clear").status_code == 200
        assert desk.post("/api/v1/engine/resume").status_code == 200
    eventually(lambda: {s["symbol"] for s in desk.status()["symbols"]} == set(SYMBOLS), 30, "LINK/ZAR is gone")
    eventually(lambda: not psutil.pid_exists(pid), 20, "its process is gone")
    eventually(lambda: "symbol:LINK/ZAR" not in {c["name"] for c in desk.status()["components"]}, 20, "nobody waits for it")
    goes_on(desk)


def test_no_order_twice_after_all_that(desk: RunningDesk) -> None:
    rows = json.loads(helios("orders", "--limit", "1000", "--state-dir", str(desk.state_dir), "--json").stdout)
    assert len({r["client_order_id"] for r in rows}) == len(rows)
    fills = desk.get("/api/v1/fills?limit=200")["fills"]
    assert len({f["fill_id"] for f in fills}) == len(fills)
    filled = Counter(f["client_order_id"] for f in fills)
    assert set(filled) <= {r["client_order_id"] for r in rows}


def test_emergency_stop_flattens_and_stays(desk: RunningDesk) -> None:
    answer = desk.post("/api/v1/engine/emergency-stop", {"reason": "drill"})
    assert answer.status_code == 200
    assert answer.json()["still_open"] == []
    assert desk.status()["state"] == "EMERGENCY_STOP"
    assert desk.post("/api/v1/engine/resume").status_code == 409
    eventually(lambda: desk.status().get("positions") == [], what="flat")
    assert helios("emergency-stop", "--clear", "--state-dir", str(desk.state_dir)).returncode == 0
    assert desk.status()["state"] == "PAUSED"


def test_a_second_desk_in_the_same_directory_is_refused(desk: RunningDesk) -> None:
    answer = helios("up", "--port", "0", "--state-dir", str(desk.state_dir))
    assert answer.returncode == 1
    assert "already running" in answer.stderr.splitlines()[-1]
    assert "Traceback" not in answer.stderr


def test_down_stops_within_ten_seconds_and_leaves_nothing(desk: RunningDesk) -> None:
    pids = desk.all_pids()
    started = time.monotonic()
    answer = helios("down", "--state-dir", str(desk.state_dir))
    assert time.monotonic() - started < 10
    assert answer.returncode == 0
    assert desk.process.wait(20) == 0  # its lock is gone already; on a busy machine the rest of it takes a while
    assert desk.summary()["state"] == "PAUSED"
    eventually(lambda: not _alive(pids), 5, "no process left")


def _alive(pids: set[int]) -> list[str]:
    alive = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(" ".join(process.cmdline())[:80])
        except psutil.NoSuchProcess:
            continue
    return alive


def test_positions_are_there_again_after_a_restart_and_followed_though_the_desk_trades_other_symbols(tmp_path: Path) -> None:
    state_dir, often = tmp_path / "state", {"HELIOS__RISK__MIN_CONFIDENCE": "0.34"}
    with running_desk(state_dir, "--symbols", "BTC/ZAR,ETH/ZAR", "--speed", "120", env=often) as first:
        first.connect()
        eventually(lambda: first.status().get("positions"), 60, "something is held")
        first.post("/api/v1/engine/pause")
        before = first.status()
        assert first.stop(signal.SIGINT) < 10
    with running_desk(state_dir, "--symbols", "SOL/ZAR", "--speed", "60", env=often) as second:
        second.connect()
        after = eventually(lambda: second.status() if "equity" in second.status() else None, 30, "account known")
        held = {p["symbol"] for p in after["positions"]}
        assert after["state"] == "PAUSED"  # a pause outlives a restart
        # What the exits closed meanwhile is closed; nothing else has changed.
        assert {(p["symbol"], p["quantity"]) for p in after["positions"]} <= {
            (p["symbol"], p["quantity"]) for p in before["positions"]
        }
        assert abs(float(after["equity"]) / float(before["equity"]) - 1) < 0.02

        def followed() -> bool:
            status = second.status()
            shown = {s["symbol"] for s in status["symbols"] if s["origin"] == "HELD" and s["reduce_only"] and s["last_price"]}
            return {p["symbol"] for p in status["positions"]} <= shown

        eventually(followed, 40, f"{held} are followed")

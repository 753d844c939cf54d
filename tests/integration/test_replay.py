"""A replay through the actors decides exactly what the one-process desk decides, each symbol and bar once."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from helios.config import HeliosConfig
from helios.learn.artifact import Registry
from helios.learn.predictor import BatchPredictor
from helios.pipeline.local import LocalDesk
from helios.venues.replay.open import open_replay
from helios.venues.sandbox.history import synthetic_history
from tests.support.desk import ROOT, eventually, helios, running_desk

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]
MINUTES = 3_000
FILES = {"BTC/ZAR": "BTCUSDT", "ETH/ZAR": "ETHUSDT", "SOL/ZAR": "SOLUSDT"}
REFERENCE = "BTC/USDT:USDT"
RECORDED = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded"))
SESSION = RECORDED / "binance-l2-2024-07-18"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of synthetic perpetuals as candle files."""
    folder = tmp_path_factory.mktemp("data") / "synthetic-perp-1m"
    folder.mkdir()
    for symbol, (opens, bars) in synthetic_history(tuple(FILES), MINUTES, seed=5).items():
        columns = {name: np.round(bars[:, i], 6) for i, name in enumerate(("open", "high", "low", "close", "volume"))}
        times = pl.Series("ts", opens // 1_000_000).cast(pl.Datetime("ms", "UTC"))
        pl.DataFrame({"ts": times, **columns}).write_parquet(folder / f"{FILES[symbol]}_1m.parquet")
    return folder


def told(state_dir: Path) -> list[dict[str, Any]]:
    answer = helios("decisions", "--limit", "100000", "--state-dir", str(state_dir), "--json")
    assert answer.returncode == 0, answer.stderr
    return list(json.loads(answer.stdout))


def explained(state_dir: Path, decision_id: str) -> dict[str, Any]:
    return dict(json.loads(helios("explain", decision_id, "--state-dir", str(state_dir), "--json").stdout))


async def one_process(folder: Path) -> dict[str, Any]:
    predictor = BatchPredictor(Registry(None).get("starter"))
    desk = LocalDesk(HeliosConfig(), open_replay(str(folder)), predictor, REFERENCE, time.perf_counter)
    await desk.run()
    return desk.traces.traces


async def test_actors_decide_what_one_process_decides(recorded: Path, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with running_desk(state_dir, "--replay", str(recorded), "--speed", "max") as desk:
        eventually(lambda: desk.process.poll() is not None, 200, "end of the replay")
        assert desk.process.returncode == 0, desk.errors()
        summary = desk.summary()
    local = await one_process(recorded)
    rows = {row["decision_id"]: row for row in told(state_dir)}
    assert len(rows) == len(local) == summary["decisions"] > 300
    assert {k: (r["outcome"], r["tier"], r["detail"]) for k, r in rows.items()} == {
        k: (t.outcome, t.tier, t.detail) for k, t in local.items()
    }
    assert summary["orders"] > 0
    assert summary["feature_rows"] >= summary["feature_windows"] == summary["predictions"] > 300
    ordered = [k for k, t in local.items() if t.outcome == "ORDERED"]
    for decision_id in (*ordered[:2], ordered[-1], next(iter(local))):
        steps = explained(state_dir, decision_id)["steps"]
        assert steps == json.loads(orjson.dumps(local[decision_id].steps))


async def test_a_replay_survives_kill_9_and_decides_the_same_data(recorded: Path, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with running_desk(state_dir, "--replay", str(recorded), "--speed", "max") as desk:
        desk.connect()
        eventually(lambda: desk.status()["counters"].get("decisions", 0) > 30, 60, "first decisions")
        for component in ("symbol:ETH/USDT:USDT", "execution"):
            os.kill(desk.pid_of(component), signal.SIGKILL)
        eventually(lambda: desk.process.poll() is not None, 200, "end of the replay")
        assert desk.process.returncode == 0, desk.errors()
    local = await one_process(recorded)
    rows = {row["decision_id"]: row for row in told(state_dir)}
    assert set(rows) == set(local)  # each symbol and bar once, none missing
    assert not [r for r in rows.values() if r["outcome"] == "DATA_MISSING"]
    orders = json.loads(helios("orders", "--limit", "100000", "--state-dir", str(state_dir), "--json").stdout)
    assert len({o["client_order_id"] for o in orders}) == len(orders)


@pytest.mark.realdata
@pytest.mark.skipif(not SESSION.exists(), reason="the recorded book and trade session is not beside the repository")
def test_the_recorded_session_fills_flow_and_book_features(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with running_desk(state_dir, "--replay", str(SESSION), "--speed", "max") as desk:
        eventually(lambda: desk.process.poll() is not None, 120, "end of the replay")
        assert desk.process.returncode == 0, desk.errors()
        flow = desk.summary()["flow_features"]
    assert set(flow) == {"BTC/USDT:USDT", "ETH/USDT:USDT"}
    for values in flow.values():
        # The trade count is a ratio to twenty bars, more than the session has.
        assert {name for name, value in values.items() if value is None} == {"trade_count_ratio_20"}
        assert values["spread_bps"] > 0
        assert -1 <= values["flow_imbalance"] <= 1
        assert -1 <= values["book_imbalance_10"] <= 1

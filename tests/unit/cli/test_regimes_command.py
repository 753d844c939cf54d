"""helios regimes on made-up hours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helios.cli.app import main

START_MS = 1_735_689_600_000  # 2025-01-01
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", "regimes", *arguments])
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    return call


def hours(path: str, days: int, drift: float, common_seed: int = 1, noise: float = 0.0005, volume: float = 1e4, skip: int = 0) -> str:
    n = days * 24
    steps = drift / 24 + 0.002 * np.random.default_rng(common_seed).normal(size=n)
    steps += noise * np.random.default_rng(len(path)).normal(size=n)
    close = (100.0 * np.exp(np.cumsum(steps)))[skip:]
    open_ = np.concatenate((close[:1], close[:-1]))
    ts = pa.array(START_MS + 3_600_000 * np.arange(skip, n), pa.timestamp("ms", tz="UTC"))
    high, low = np.maximum(open_, close) * 1.0001, np.minimum(open_, close) * 0.9999
    pq.write_table(
        pa.table({"ts": ts, "open": open_, "high": high, "low": low, "close": close, "volume": np.full(n - skip, volume)}), path
    )
    return path


def answers(run: Run, *arguments: str) -> dict[str, dict[str, Any]]:
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    return {answer["symbol"]: answer for answer in json.loads(out)["regimes"]}


def test_each_market_is_named_by_its_own_days(run: Run) -> None:
    up, down = hours("UPUSDT_1h.parquet", 60, 0.02), hours("DOWNUSDT_1h.parquet", 60, -0.02, volume=2e6)
    found = answers(run, up, down)
    assert {symbol: answer["trend"] for symbol, answer in found.items()} == {"UP/USDT": "BULLISH", "DOWN/USDT": "BEARISH"}
    assert [answer["combined"]["direction"] for answer in found.values()] == ["BULL", "BEAR"]
    assert [answer["combined"]["character"] for answer in found.values()] == ["TRENDING", "TRENDING"]
    assert {answer["liquidity"] for answer in found.values()} == {"THIN", "DEEP"}  # 1e4 an hour are 833 in five minutes
    assert {answer["correlation"] for answer in found.values()} == {"CRISIS"}  # nearly all of each step is common
    assert {answer["volatility"] for answer in found.values()} <= {"LOW", "MEDIUM", "HIGH", "EXTREME"}
    assert all(answer["grid"]["regime"] != "UNKNOWN" and answer["grid"]["confidence"] > 0 for answer in found.values())
    assert found["UP/USDT"]["at"] == "2025-03-02T00:00:00Z"


def test_the_days_of_two_symbols_are_compared_by_date(run: Run) -> None:
    whole, late = hours("AUSDT_1h.parquet", 60, 0.0), hours("BBUSDT_1h.parquet", 60, 0.0, skip=24 * 25 + 7)
    together = answers(run, whole, late)["BB/USDT"]["correlations"]["A/USDT"]
    assert together > 0.9
    apart = hours("CCCUSDT_1h.parquet", 60, 0.0, common_seed=5)
    found = answers(run, whole, apart)["CCC/USDT"]
    assert abs(found["correlations"]["A/USDT"]) < 0.5
    assert found["correlation"] == "DECOUPLED"


def test_what_is_not_known_is_not_made_up(run: Run) -> None:
    short = hours("SHORTUSDT_1h.parquet", 3, 0.0)
    found = answers(run, short)["SHORT/USDT"]
    assert (found["trend"], found["liquidity"], found["correlation"], found["correlations"]) == ("UNKNOWN", "UNKNOWN", "UNKNOWN", {})
    assert found["grid"] == {
        "regime": "UNKNOWN", "confidence": 0.0, "daily_volatility": None, "trend_strength": None, "volume_trend": None,
    }  # fmt: skip
    assert "3 whole days; the trend needs 50" in run(short)[1]


def test_thresholds_of_liquidity_are_the_callers(run: Run) -> None:
    path = hours("XUSDT_1h.parquet", 10, 0.0, volume=1_200.0)  # 100 in five minutes
    for deep, normal, word in ((99.0, 10.0, "DEEP"), (150.0, 99.0, "NORMAL"), (150.0, 101.0, "THIN")):
        assert answers(run, path, "--deep", str(deep), "--normal", str(normal))["X/USDT"]["liquidity"] == word

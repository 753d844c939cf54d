"""`helios volatility`: candle files in, the forecast and its skill out, every error one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from helios.cli.app import main
from helios.cli.volatility import read_closes
from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.errors import DataError
from tests.unit.risk.builders import prices

START_MS = 1_700_000_100_000 // 900_000 * 900_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", "volatility", *arguments])
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    return call


def table(close: FloatArray, minutes: int = 5, rows: np.ndarray | None = None) -> pa.Table:
    rows = np.arange(len(close)) if rows is None else rows
    ts = pa.array(START_MS + 60_000 * minutes * rows, pa.timestamp("ms", tz="UTC"))
    return pa.table({"ts": ts, "open": close, "high": close, "low": close, "close": close, "volume": np.ones(len(close))})


def test_a_forecast_with_its_parameters_and_path(run: Run, tmp_path: Path) -> None:
    pq.write_table(table(prices(700)), tmp_path / "BTCUSDT_5m.parquet")
    code, out, _ = run("BTCUSDT_5m.parquet", "--path", "60", "--json")
    answer = json.loads(out)
    assert code == 0
    assert set(answer) == {
        "symbol", "daily_volatility", "annualized_volatility", "regime", "method", "omega", "alpha", "beta", "nu", "persistence",
        "converged", "n_returns", "fallback_reason", "ratio", "path", "desk_daily_volatility",
    }  # fmt: skip
    assert (answer["symbol"], answer["method"], answer["converged"], answer["n_returns"]) == ("BTC/USDT", "GARCH", True, 699)
    assert answer["daily_volatility"] == pytest.approx(0.002 * 288**0.5, rel=0.6)
    assert answer["annualized_volatility"] == pytest.approx(answer["daily_volatility"] * 365**0.5)
    assert answer["persistence"] == pytest.approx(answer["alpha"] + answer["beta"])
    sums = answer["omega"], answer["alpha"] + answer["beta"]
    long_run = (288 * sums[0] / (1 - sums[1])) ** 0.5 / 100  # the GARCH's own day tends there, whatever the desk makes of it
    assert answer["daily_volatility"] == pytest.approx(long_run, rel=0.2)
    assert 0.5 < answer["desk_daily_volatility"] / answer["daily_volatility"] < 1.5
    assert answer["desk_daily_volatility"] != answer["daily_volatility"]
    assert len(answer["path"]) == 60
    assert min(answer["path"]) > 0


def test_csv_and_parquet_give_the_same(run: Run, tmp_path: Path) -> None:
    candles = table(prices(400), 1)
    pq.write_table(candles, tmp_path / "ETHUSDT_1m.parquet")
    pc.write_csv(candles.set_column(0, "ts", candles["ts"].cast(pa.int64())), tmp_path / "ETHUSDT_1m.csv")
    assert run("ETHUSDT_1m.parquet", "--json") == run("ETHUSDT_1m.csv", "--json", "--timeframe", "1m")


def test_minute_returns_scale_to_a_day_by_their_number(run: Run, tmp_path: Path) -> None:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.001, 400)))
    pq.write_table(table(close, 1), tmp_path / "c.parquet")
    answer = json.loads(run("c.parquet", "--timeframe", "1m", "--json")[1])
    # Minute returns of 0.1 % make 3.8 % a day; what is known of 399 returns may be off by a third.
    assert answer["daily_volatility"] == pytest.approx(0.001 * 1440**0.5, rel=0.33)


def test_too_little_for_a_fit_is_an_ewma_and_constant_prices_say_why(run: Run, tmp_path: Path) -> None:
    pq.write_table(table(prices(100)), tmp_path / "short.parquet")
    pq.write_table(table(np.full(700, 5.0)), tmp_path / "flat.parquet")
    short, flat = (json.loads(run(f"{name}.parquet", "--json")[1]) for name in ("short", "flat"))
    assert (short["method"], short["converged"], short["fallback_reason"], short["nu"]) == ("EWMA", False, "", None)
    assert (flat["daily_volatility"], flat["fallback_reason"]) == (0.0, "zero variance: nothing to fit")


def test_text_names_every_value_and_the_minutes(run: Run, tmp_path: Path) -> None:
    pq.write_table(table(prices(100)), tmp_path / "c.parquet")
    _, out, _ = run("c.parquet", "--path", "2")
    for word in ("daily_volatility", "annualized_volatility", "regime", "omega", "alpha", "beta", "nu", "converged", "minute    2"):
        assert word in out


@pytest.mark.parametrize("form", ["text", "json"])
def test_skill_is_a_table_of_losses_with_verdicts(run: Run, tmp_path: Path, form: str) -> None:
    (tmp_path / "helios.toml").write_text("[risk]\ngarch_max_returns = 150\ngarch_min_returns = 140\n")
    pq.write_table(table(prices(560), 15), tmp_path / "c.parquet")
    code, out, _ = run("c.parquet", "--timeframe", "15m", "--refit-h", "48", "--skill", *(["--json"] if form == "json" else []))
    assert code == 0
    if form == "text":
        assert all(word in out for word in ("QLIKE", "EWMA of the desk", "EWMA 0.94 a day", "constant", "p-value"))
        return
    skill: dict[str, Any] = json.loads(out)["skill"]
    assert skill["n_days"] == pytest.approx((560 - 151 - 96) / 4, abs=1.5)
    for rival, found in skill["against"].items():
        assert found["difference"] == pytest.approx(skill["qlike"]["model"] - skill["qlike"][rival])
        assert found["verdict"] in ("better", "worse", "no difference")


def test_holes_become_missing_bars(tmp_path: Path) -> None:
    rows = np.delete(np.arange(100), [10, 11, 50])
    pq.write_table(table(prices(100)[rows], rows=rows), tmp_path / "c.parquet")
    closes = read_closes(tmp_path / "c.parquet", None)
    assert np.flatnonzero(np.isnan(closes.values)).tolist() == [10, 11, 50]
    assert (closes.timeframe, closes.end_time) == (Timeframe.M5, (START_MS + 100 * 300_000) * 1_000_000)


@pytest.mark.parametrize(("candles", "words"), [
    (table(prices(50), 15), "900 s apart, which is not 5m"),
    (table(prices(50), 1), "60 s apart, which is not 5m"),
    (table(prices(50), rows=np.arange(50)[::-1]), "not in time order"),
    (table(prices(50), rows=np.repeat(np.arange(25), 2)), "not in time order"),
    (table(prices(50), rows=np.array([*range(49), 21_000_000])), "span"),
    (table(prices(50)).drop_columns(["close"]), "no column 'close'"),
    (table(prices(50)).slice(0, 0), "holds no rows"),
    (table(prices(20)), "returns, 30 needed"),
], ids=["coarser", "finer", "backwards", "doubled", "a century", "no close", "empty", "too short"])  # fmt: skip
def test_what_cannot_be_forecast_is_said_in_one_line(run: Run, tmp_path: Path, candles: pa.Table, words: str) -> None:
    pq.write_table(candles, tmp_path / "c.parquet")
    code, out, err = run("c.parquet", "--timeframe", "5m")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert words in err


def test_an_absent_file_and_an_unknown_timeframe_are_one_line(run: Run, tmp_path: Path) -> None:
    pq.write_table(table(prices(50)), tmp_path / "c.parquet")
    for arguments, words in ((("absent.parquet",), "absent.parquet"), (("c.parquet", "--timeframe", "7m"), "unknown timeframe '7m'")):
        code, _, err = run(*arguments)
        assert (code, err.count("\n")) == (1, 1)
        assert words in err
    with pytest.raises(DataError):
        read_closes(tmp_path, None)

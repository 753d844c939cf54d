"""helios leakage features, and the catalog in helios features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helios.cli import leakage
from helios.cli.app import main
from helios.domain.decisions import FloatArray
from helios.features import subjects
from helios.features.catalog import CATALOG, compute, compute_multi
from helios.features.leakage import TimeArray

Run = Callable[..., tuple[int, str, str]]
COLUMNS = ("open", "high", "low", "close", "volume")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leakage, "N_BARS", 900)  # long enough for what is asked here

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", *arguments])
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    return call


def candle_file(path: Path, n_bars: int = 700, minutes: int = 1) -> tuple[str, TimeArray, FloatArray]:
    times, values = subjects.synthetic_bars(n_bars, seed=2)
    times = times[0] + (times - times[0]) * minutes
    bars = np.full((n_bars, 13), np.nan)
    bars[:, :5] = values[:, :5]
    table: dict[str, Any] = {name: bars[:, i] for i, name in enumerate(COLUMNS)}
    pq.write_table(pa.table({"ts": pa.array(times // 1_000_000, pa.timestamp("ms", tz="UTC")), **table}), path)
    return str(path), times, bars


def test_chosen_features_pass_on_made_up_bars_and_are_listed(run: Run) -> None:
    code, out, _ = run("leakage", "features", "--names", "rsi_14,grid_ma_5")
    assert code == 0
    assert "FAILED" not in out
    assert out.count("rsi_14") == 6  # the model's, its three timeframes, the catalog's, the catalog's beside minutes
    assert out.count("grid_ma_5") == 2


def test_json_has_every_verdict(run: Run) -> None:
    code, out, _ = run("leakage", "features", "--names", "volatility_20,hurst_128", "--json", "--seed", "3")
    answer = json.loads(out)
    assert code == 0
    assert answer["passed"] is True
    of_hurst = next(f for f in answer["features"] if (f["subject"], f["feature"]) == ("catalog", "hurst_128"))
    assert of_hurst["look_ahead"]["passed"] is True
    assert of_hurst["warm_up"] == {"declared": 128, "needed": 128, "passed": True}
    assert {f["subject"] for f in answer["features"]} == {"model", "model 1m", "model 5m", "model 15m", "catalog", "catalog 900 s"}


def test_a_leak_is_exit_code_1_and_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = subjects.compute

    def leaking(bars: FloatArray, *rest: Any) -> FloatArray:
        return np.roll(honest(bars, *rest), -1, axis=0)

    monkeypatch.setattr(subjects, "compute", leaking)
    code, out, _ = run("leakage", "features", "--names", "grid_ma_5")
    assert code == 1
    assert "FAILED: row" in out
    code, out, _ = run("leakage", "features", "--names", "grid_ma_5", "--json")
    assert code == 1
    assert json.loads(out)["passed"] is False


def test_a_file_of_candles_is_checked_for_what_it_has(run: Run, tmp_path: Path) -> None:
    path, _, _ = candle_file(tmp_path / "c.parquet")
    code, out, _ = run("leakage", "features", path, "--names", "sma_20_rel,rsi_14,spread_bps", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["rows"] == 700
    by_name = {(f["subject"], f["feature"]): f for f in answer["features"]}
    assert by_name["catalog", "sma_20_rel"]["look_ahead"]["passed"] is True
    assert by_name["catalog", "spread_bps"]["look_ahead"]["passed"] is None  # no book in a file of candles
    assert by_name["catalog", "sma_20_rel"]["unknown_input"] is None


def test_bars_of_five_minutes_are_checked_as_they_are(run: Run, tmp_path: Path) -> None:
    path, _, _ = candle_file(tmp_path / "c.parquet", 400, minutes=5)
    code, out, _ = run("leakage", "features", path, "--timeframe", "5m", "--names", "sma_20_rel", "--json")
    assert code == 0
    assert {f["subject"] for f in json.loads(out)["features"]} == {"model", "catalog"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.parquet"], "cannot read absent.parquet"),
        (["--names", "nonsense"], "'nonsense'"),
        (["--timeframe", "7m"], "unknown timeframe '7m'"),
        (["short.parquet"], "100 bars"),
    ],
)
def test_wrong_questions_are_one_line_and_exit_code_1(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    candle_file(tmp_path / "short.parquet", 100)
    code, out, err = run("leakage", "features", *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_features_with_the_catalog_of_minutes(run: Run, tmp_path: Path) -> None:
    path, times, bars = candle_file(tmp_path / "c.parquet", 400)
    assert run("features", path, "-o", "f.parquet", "--catalog", "momentum,grid_ma_5")[0] == 0
    table = pq.read_table(tmp_path / "f.parquet")
    names = [name for name, f in CATALOG.items() if f.family == "momentum"] + ["grid_ma_5"]
    assert table.num_columns == 1 + 3 * (30 + len(names))
    wanted = compute_multi(times, bars, [900], ["grid_ma_5"])[:, 0, 0]
    np.testing.assert_array_equal(table["15m_catalog_grid_ma_5"].to_numpy(), wanted)
    assert "catalog" not in "".join(pq.read_table(_plain(run, path, tmp_path)).column_names)


def _plain(run: Run, path: str, folder: Path) -> Path:
    assert run("features", path, "-o", "plain.parquet")[0] == 0
    return folder / "plain.parquet"


def test_the_catalog_beside_minutes_comes_in_any_of_the_twelve_timeframes(run: Run, tmp_path: Path) -> None:
    path, times, bars = candle_file(tmp_path / "c.parquet", 3_000)
    names = ["--catalog", "sma_20_rel,grid_ma_5"]
    assert run("features", path, "-o", "f.parquet", *names, "--periods", "micro,30m,4h")[0] == 0
    found = [name for name in pq.read_table(tmp_path / "f.parquet").column_names if "grid_ma_5" in name]
    assert found == [f"{period}_catalog_grid_ma_5" for period in ("1m", "3m", "5m", "30m", "4h")]
    wanted = compute_multi(times, bars, [14_400], ["grid_ma_5"])[:, 0, 0]
    np.testing.assert_array_equal(pq.read_table(tmp_path / "f.parquet")["4h_catalog_grid_ma_5"].to_numpy(), wanted)
    assert run("features", path, "-o", "g.parquet", *names, "--periods", "all")[0] == 0
    assert pq.read_table(tmp_path / "g.parquet").num_columns == 1 + 90 + 12 * 2
    for wrong in ([*names, "--periods", "7m"], ["--periods", "micro"]):
        code, _, err = run("features", path, "-o", "h.parquet", *wrong)
        assert (code, err.count("\n")) == (1, 1)


def test_features_with_the_whole_catalog_of_another_timeframe(run: Run, tmp_path: Path) -> None:
    path, times, bars = candle_file(tmp_path / "c.parquet", 300, minutes=5)
    assert run("features", path, "-o", "f.parquet", "--timeframe", "5m", "--catalog", "all")[0] == 0
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.num_columns == 1 + 30 + len(CATALOG)
    np.testing.assert_array_equal(table["catalog_rsi_14"].to_numpy(), compute(bars, ["rsi_14"], times)[:, 0])
    assert table["catalog_spread_bps"].null_count == 300


def test_an_unknown_family_is_refused(run: Run, tmp_path: Path) -> None:
    path, _, _ = candle_file(tmp_path / "c.parquet", 60)
    code, _, err = run("features", path, "-o", "f.parquet", "--catalog", "elliott")
    assert code == 1
    assert "elliott" in err
    assert not (tmp_path / "f.parquet").exists()

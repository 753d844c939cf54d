from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from helios.cli.app import app, main
from helios.features.batch import features_of
from helios.features.definitions import FEATURE_NAMES

START_MS = 1_700_000_100_000 // 900_000 * 900_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", *arguments])
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    return call


def columns(n: int = 400, minutes: int = 1) -> dict[str, Any]:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.001, n)))
    ts = pa.array(START_MS + 60_000 * minutes * np.arange(n), pa.timestamp("ms", tz="UTC"))
    return {"ts": ts, "open": close, "high": close * 1.001, "low": close * 0.999, "close": close, "volume": np.ones(n)}


def parquet(path: Path, **changes: Any) -> str:
    table = columns() | changes
    pq.write_table(pa.table({name: values for name, values in table.items() if values is not None}), path)
    return str(path)


def test_positions_name_dust(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"symbol": "BTC/ZAR", "is_dust": True}, {"symbol": "ETH/ZAR", "is_dust": False}, {"symbol": "XRP/ZAR"}]
    monkeypatch.setattr("helios.cli.queries._answer", lambda _directory, _question: rows)
    assert [line.split() for line in run("positions")[1].splitlines()[1:]] == [
        ["BTC/ZAR", "dust"], ["ETH/ZAR", "open"], ["XRP/ZAR", "open"],
    ]  # fmt: skip
    assert [row["kind"] for row in json.loads(run("positions", "--json")[1])] == ["dust", "open", "open"]


@pytest.mark.parametrize("arguments", [
    ["status"], ["status", "--json"], ["down"], ["pause"], ["resume"], ["emergency-stop"], ["emergency-stop", "--clear"],
    ["deposit", "5"], ["withdraw", "5"], ["funding", "BTC/USDT:USDT", "--paid", "1"],
    ["mode", "live"], ["symbols"], ["symbols", "add", "SOL/ZAR"],
    ["symbols", "remove", "SOL/ZAR"], ["orders"], ["positions"], ["decisions"], ["explain", "abc"],
])  # fmt: skip
def test_without_a_desk_every_question_is_one_line_and_exit_code_1(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("helios: no desk")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["nonsense"], ["status", "--nonsense"], ["explain"], ["mode"], ["size", "--confidence", "2"]])
def test_wrong_usage_is_one_line_and_exit_code_2(run: Run, arguments: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("helios: ")
    assert err.count("\n") == 1


def test_money_is_told_with_its_direction(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def ask(_: object, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        told.append((method, path, {name: value for name, value in body.items() if value}))
        return {"equity": "1"}

    monkeypatch.setattr("helios.cli.movements.ask", ask)
    assert run("deposit", "2500.5", "--id", "bank-1")[0] == 0
    assert run("withdraw", "0.5", "--currency", "BTC", "--value", "40000")[0] == 0
    assert run("funding", "BTC/USDT:USDT", "--paid", "1.25")[0] == 0
    path = "/api/v1/portfolio/movements"
    assert told == [
        ("POST", path, {"kind": "transfer", "amount": "2500.5", "movement_id": "bank-1"}),
        ("POST", path, {"kind": "transfer", "amount": "-0.5", "currency": "BTC", "value": "-40000"}),
        ("POST", path, {"kind": "funding", "amount": "-1.25", "symbol": "BTC/USDT:USDT"}),
    ]
    assert run("funding", "BTC/USDT:USDT")[0] == 1
    assert run("deposit", "--", "-5")[0] == 1
    assert len(told) == 3


def test_version_is_printed(run: Run) -> None:
    assert run("--version")[:2] == (0, "0.1.0\n")


def test_the_code_a_command_ends_with_is_the_code_of_the_process(run: Run) -> None:
    @app.command("end-with-three", hidden=True)
    def end() -> None:
        raise typer.Exit(3)

    try:
        assert run("end-with-three")[0] == 3
    finally:
        app.registered_commands.pop()


def test_interruption_is_code_130(run: Run) -> None:
    @app.command("interrupted", hidden=True)
    def interrupted() -> None:
        raise KeyboardInterrupt

    try:
        assert run("interrupted")[0] == 130
    finally:
        app.registered_commands.pop()


def test_features_of_minutes_have_all_timeframes_and_no_future(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("features", parquet(tmp_path / "c.parquet"), "-o", "f.parquet", "--json")
    assert (code, json.loads(out)) == (0, {
        "rows": 400, "columns": 90, "filled": 0, "timeframe": "1m", "symbols": ["c"], "out": "f.parquet",
    })  # fmt: skip
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["ts", *(f"{tf}_{name}" for tf in ("1m", "5m", "15m") for name in FEATURE_NAMES)]
    known = [v is not None for v in table["5m_open_rel"].to_pylist()]
    assert known.index(True) == 4  # the first five-minute bar is known at the close of the fifth minute
    returns = table["15m_return_1"].to_pylist()
    assert returns.index(next(v for v in returns if v is not None)) == 29


def test_features_of_another_timeframe_are_its_own_thirty(run: Run, tmp_path: Path) -> None:
    source = columns(minutes=5)
    path = parquet(tmp_path / "c.parquet", **source)
    assert run("features", path, "-o", "f.parquet", "--timeframe", "5m")[0] == 0
    table = pq.read_table(tmp_path / "f.parquet")
    bars = np.full((400, 13), np.nan)
    bars[:, :5] = np.column_stack([source[n] for n in ("open", "high", "low", "close", "volume")])
    wanted = features_of(bars)[:, FEATURE_NAMES.index("rsi_14")]
    np.testing.assert_array_equal(table["rsi_14"].to_pandas().to_numpy(), wanted)
    assert set(table["spread_bps"].to_pylist()) == {None}


def frame(path: Path) -> Any:
    return pq.read_table(path).to_pandas()


def test_the_timeframe_is_what_the_file_says_and_never_taken_for_another(run: Run, tmp_path: Path) -> None:
    five = parquet(tmp_path / "c.parquet", **columns(minutes=5))
    assert json.loads(run("features", five, "-o", "f.parquet", "--json")[1])["timeframe"] == "5m"
    assert frame(tmp_path / "f.parquet").shape == (400, 31)
    one = parquet(tmp_path / "d.parquet")
    named = parquet(tmp_path / "BTCUSDT_1m.parquet", **columns(minutes=5))
    for arguments in ([five, "--timeframe", "1m"], [one, "--timeframe", "5m"], [named]):
        code, out, err = run("features", *arguments, "-o", "g.parquet")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "s apart, which is not" in err
    assert not (tmp_path / "g.parquet").exists()


def test_epoch_numbers_are_told_apart_by_size_and_dates_are_no_epochs(run: Run, tmp_path: Path) -> None:
    wanted = columns(minutes=5)
    parquet(tmp_path / "c.parquet", **wanted)
    assert run("features", "c.parquet", "-o", "f.parquet")[0] == 0
    for name, unit in (("s", 1_000), ("ms", 1), ("us", 1 / 1_000)):
        numbers = (START_MS + 300_000 * np.arange(400)) // unit if unit >= 1 else (START_MS + 300_000 * np.arange(400)) * 1_000
        parquet(tmp_path / f"{name}.parquet", **(wanted | {"ts": pa.array(numbers.astype(np.int64))}))
        assert run("features", f"{name}.parquet", "-o", "g.parquet")[0] == 0
        assert frame(tmp_path / "g.parquet").equals(frame(tmp_path / "f.parquet"))
    parquet(tmp_path / "dates.parquet", **(wanted | {"ts": pa.array(20_240_101 + np.arange(400))}))
    code, _, err = run("features", "dates.parquet", "-o", "h.parquet")
    assert (code, "20240101 is no time" in err) == (1, True)


def test_csv_gives_what_parquet_gives(run: Run, tmp_path: Path) -> None:
    path = parquet(tmp_path / "c.parquet")
    table = frame(tmp_path / "c.parquet")
    table["ts"] = START_MS + 60_000 * np.arange(400)
    table.to_csv(tmp_path / "c.csv", index=False)
    assert run("features", path, "-o", "f.parquet")[0] == run("features", "c.csv", "-o", "g.parquet")[0] == 0
    assert frame(tmp_path / "g.parquet").equals(frame(tmp_path / "f.parquet"))


def test_missing_bars_of_any_timeframe_are_filled_flat_and_said(run: Run, tmp_path: Path) -> None:
    source = {name: np.delete(np.asarray(values), [50, 51, 300]) for name, values in columns(minutes=5).items()}
    source["ts"] = pa.array(np.delete(START_MS + 300_000 * np.arange(400), [50, 51, 300]), pa.timestamp("ms", tz="UTC"))
    path = parquet(tmp_path / "c.parquet", **source)
    answer = json.loads(run("features", path, "-o", "f.parquet", "--json")[1])
    assert (answer["rows"], answer["filled"]) == (400, 3)
    table = frame(tmp_path / "f.parquet")
    assert (table["return_1"][50], table["volume_ratio_20"][51], table["close_location"][300]) == (0.0, 0.0, 0.5)
    assert "3 of them missing" in run("features", path, "-o", "f.parquet")[1]


def test_files_of_one_symbol_are_one_history(run: Run, tmp_path: Path) -> None:
    whole = columns()
    path = parquet(tmp_path / "c.parquet", **whole)
    assert run("features", path, "-o", "f.parquet")[0] == 0
    for name, rows in (("BTCUSDT_1m_a", slice(0, 250)), ("BTCUSDT_1m_b", slice(250, 400)), ("BTCUSDT_1m_c", slice(200, 400))):
        parquet(tmp_path / f"{name}.parquet", **{key: values[rows] for key, values in whole.items()})
    assert run("features", "BTCUSDT_1m_b.parquet", "BTCUSDT_1m_a.parquet", "-o", "g.parquet")[0] == 0
    drop = [f"{timeframe}_btc_correlation_60" for timeframe in ("1m", "5m", "15m")]  # known here: it is BTC itself
    assert frame(tmp_path / "g.parquet").drop(columns=drop).equals(frame(tmp_path / "f.parquet").drop(columns=drop))
    code, _, err = run("features", "BTCUSDT_1m_a.parquet", "BTCUSDT_1m_c.parquet", "-o", "h.parquet")
    assert (code, "overlap" in err) == (1, True)


def test_with_bitcoin_among_the_files_the_correlation_to_it_is_known(run: Run, tmp_path: Path) -> None:
    bitcoin, other = columns(), columns()
    noise = np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.001, 400)))
    other |= {name: other[name] * noise for name in ("open", "high", "low", "close")}
    other = {key: values[100:] for key, values in other.items()}
    parquet(tmp_path / "BTCUSDT_1m.parquet", **bitcoin)
    parquet(tmp_path / "ETHUSDT_1m.parquet", **other)
    answer = json.loads(run("features", "ETHUSDT_1m.parquet", "BTCUSDT_1m.parquet", "-o", "f.parquet", "--json")[1])
    assert (answer["symbols"], answer["rows"], answer["columns"]) == (["ETH/USDT", "BTC/USDT"], 700, 90)
    table = frame(tmp_path / "f.parquet").set_index("symbol")
    ether = table.loc["ETH/USDT"]["1m_btc_correlation_60"].to_numpy()
    returns = [np.diff(np.log(np.asarray(side["close"]))) for side in (other, bitcoin)]
    assert ether[-1] == pytest.approx(np.corrcoef(returns[0][-60:], returns[1][-60:])[0, 1], rel=1e-9)
    assert np.isnan(ether[:60]).all()
    assert np.isfinite(ether[60:]).all()
    assert set(table.loc["BTC/USDT"]["15m_btc_correlation_60"].dropna()) <= {1.0}
    assert run("features", "ETHUSDT_1m.parquet", "-o", "g.parquet")[0] == 0
    assert frame(tmp_path / "g.parquet")["1m_btc_correlation_60"].isna().all()


def test_a_broken_row_is_named(run: Run, tmp_path: Path) -> None:
    path = parquet(tmp_path / "c.parquet", close=np.where(np.arange(400) == 7, 1e9, columns()["close"]))
    code, _, err = run("features", path, "-o", "f.parquet")
    assert (code, "row 8 is unusable" in err, err.count("\n")) == (1, True, 1)


@pytest.mark.parametrize("command", [["features", "-o", "f.parquet"], ["volatility"]])
@pytest.mark.parametrize(("changes", "words"), [
    ({"close": None}, "no column 'close'"),
    ({"ts": None}, "no column '"),
    ({"close": pa.array(["x"] * 400)}, "wrong kind"),
    ({"ts": pa.array(["x"] * 400)}, "wrong kind"),
    ({"ts": pa.array([1_700_000_000_000] * 400, pa.timestamp("ms", tz="UTC"))}, "not in time order"),
])  # fmt: skip
def test_files_with_wrong_columns_are_named_in_one_line(
    run: Run, tmp_path: Path, command: list[str], changes: dict[str, Any], words: str
) -> None:
    code, _, err = run(*command, parquet(tmp_path / "c.parquet", **changes))
    assert (code, err.count("\n")) == (1, 1)
    assert words in err
    assert "c.parquet" in err


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense PAR1", None])
def test_files_that_are_no_parquet_are_named_in_one_line(run: Run, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "c.parquet").write_bytes(content)
    code, _, err = run("features", "c.parquet", "-o", "f.parquet")
    assert (code, err.count("\n")) == (1, 1)
    assert "c.parquet" in err


def test_output_that_cannot_be_written_is_one_line(run: Run, tmp_path: Path) -> None:
    code, _, err = run("features", parquet(tmp_path / "c.parquet"), "-o", str(tmp_path / "absent" / "f.parquet"))
    assert (code, err.count("\n")) == (1, 1)


def test_unknown_configuration_keys_end_every_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "helios.toml").write_text("[risk]\nmin_confidense = 0.6\n")
    for arguments in (["config", "check"], ["config", "show"], ["status"]):
        assert run(*arguments) == (1, "", "helios: unknown configuration key: risk.min_confidense\n")


def test_configuration_shown_as_toml_reads_back_as_the_same(run: Run, tmp_path: Path) -> None:
    digest = run("config", "check")[1]
    shown = run("config", "show")[1]
    (tmp_path / "helios.toml").write_text(shown)
    assert run("config", "check")[1] == digest
    assert json.loads(run("config", "show", "--json")[1])["risk"]["min_confidence"] == 0.55

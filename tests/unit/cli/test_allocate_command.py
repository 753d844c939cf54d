"""helios allocate: folders of candles, views, holdings, and one line for everything that is wrong."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helios.cli.app import main
from helios.domain.decisions import FloatArray
from helios.portfolio.covariance import estimate

Run = Callable[..., tuple[int, str, str]]
DAY_S = 86_400
START_S = 20_000 * DAY_S
SVG = "{http://www.w3.org/2000/svg}"
SYMBOLS = ("BTC/USDT", "DOGE/USDT", "ETH/USDT", "XRP/USDT")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*options: str, folder: str = "candles") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", "allocate", "--candles", folder, *options])
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    return call


def daily_returns(n_days: int = 60) -> FloatArray:
    rng = np.random.default_rng(11)
    returns: FloatArray = rng.normal(0, 0.02, (n_days, 4)) + rng.normal(0, 0.02, (n_days, 1))
    return returns


def write_csv(path: Path, closes: FloatArray, step_s: int = DAY_S, volume: float = 1.0, first_s: int = START_S) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = [f"{(first_s + i * step_s) * 1000},{c},{c},{c},{c},{volume}" for i, c in enumerate(closes.tolist())]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume", *rows]) + "\n")


def closes_of(returns: FloatArray) -> FloatArray:
    made: FloatArray = 100 * np.cumprod(np.concatenate([[1.0], 1 + returns]))
    return made


@pytest.fixture
def candles(tmp_path: Path) -> FloatArray:
    returns = daily_returns()
    for symbol, column in zip(SYMBOLS, returns.T, strict=True):
        write_csv(tmp_path / "candles" / f"{symbol.replace('/', '-')}.csv", closes_of(column))
    return returns


def asked(run: Run, *options: str, folder: str = "candles") -> dict[str, Any]:
    code, out, err = run("--json", *options, folder=folder)
    assert (code, err) == (0, "")
    answer: dict[str, Any] = json.loads(out)
    return answer


def weights(answer: dict[str, Any]) -> dict[str, float]:
    return {a["symbol"]: a["weight"] for a in answer["assets"]}


def test_figures_are_those_of_the_weights_a_year(run: Run, candles: FloatArray) -> None:
    answer = asked(run, "--max-position", "0.3", "--risk-free", "0.02")
    w = np.array(list(weights(answer).values()))
    mu = np.array([a["posterior_return"] for a in answer["assets"]])
    sigma = 365 * 1.025 * estimate(candles)
    prior = np.array([a["prior_weight"] for a in answer["assets"]])
    np.testing.assert_allclose(mu, 2.5 * (sigma / 1.025) @ prior, rtol=1e-9)
    assert answer["portfolio"]["expected_return"] == pytest.approx(mu @ w)
    assert answer["portfolio"]["volatility"] == pytest.approx(math.sqrt(w @ sigma @ w))
    assert answer["portfolio"]["sharpe"] == pytest.approx((mu @ w - 0.02) / math.sqrt(w @ sigma @ w))
    assert w.max() <= 0.3 + 1e-9
    assert w.sum() + answer["cash"] == pytest.approx(1)
    assert (answer["days"], answer["as_of"]) == (60, "2024-12-04T00:00:00Z")


def test_the_figures_are_also_there_by_name(run: Run, candles: FloatArray) -> None:
    answer = asked(run)
    assert answer["weights"] == weights(answer)
    assert answer["prior"] == {a["symbol"]: a["prior_return"] for a in answer["assets"]}
    assert answer["posterior"] == {a["symbol"]: a["posterior_return"] for a in answer["assets"]}
    assert {name: answer[name] for name in ("expected_return", "volatility", "sharpe")} == answer["portfolio"]


def test_turnover_in_quote_currency_makes_the_prior(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    write_csv(tmp_path / "candles" / "ETH-USDT.csv", closes_of(candles[:, 2]), volume=50.0)
    prior = {a["symbol"]: a["prior_weight"] for a in asked(run)["assets"]}
    traded = np.array([(closes_of(r)[-30:] * v).sum() for r, v in zip(candles.T, (1, 1, 50, 1), strict=True)])
    np.testing.assert_allclose(list(prior.values()), traded / traded.sum())


@pytest.mark.parametrize("objective", ["sharpe", "utility", "min_variance", "risk_parity", "max_diversification"])
def test_caps_hold_and_what_they_leave_is_cash(run: Run, candles: FloatArray, objective: str) -> None:
    answer = asked(run, "--objective", objective, "--max-position", "0.15")
    assert max(weights(answer).values()) <= 0.15 + 1e-9
    assert answer["cash"] >= 0.4 - 1e-6
    if objective == "risk_parity":
        np.testing.assert_allclose([a["risk_share"] for a in answer["assets"]], 0.25, rtol=1e-6)


def test_a_view_moves_weights_and_a_certain_one_is_reproduced(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    views = [
        {"asset": "XRP/USDT", "return": 2.0, "confidence": 1},
        {"long": "BTC/USDT", "short": "ETH/USDT", "return": 0.1, "horizon_days": 73, "confidence": 1},
    ]
    (tmp_path / "views.json").write_text(json.dumps(views))
    loose = ("--max-position", "0.9", "--max-sector", "1")
    before, after = asked(run, *loose), asked(run, *loose, "--views", "views.json")
    posterior = {a["symbol"]: a["posterior_return"] for a in after["assets"]}
    assert posterior["XRP/USDT"] == pytest.approx(2.0)
    assert posterior["BTC/USDT"] - posterior["ETH/USDT"] == pytest.approx(0.5)
    assert weights(after)["XRP/USDT"] > weights(before)["XRP/USDT"] + 0.05


def test_holdings_give_trades_and_their_cost(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    prices = [closes_of(r)[-1] for r in candles.T]
    (tmp_path / "held.json").write_text(json.dumps({"cash": 1000, "BTC/USDT": 50, "ETH/USDT": 1}))
    answer = asked(run, "--holdings", "held.json", "--cost", "0.002")
    equity = 1000 + 50 * prices[0] + prices[2]
    assert answer["equity"] == pytest.approx(equity)
    held = {"BTC/USDT": 50 * prices[0] / equity, "ETH/USDT": prices[2] / equity}
    for trade in answer["trades"]:
        change = weights(answer)[trade["symbol"]] - held.get(trade["symbol"], 0.0)
        assert trade["change"] == pytest.approx(change, abs=1e-12)
        assert trade["value_quote"] == pytest.approx(abs(change) * equity)
        assert trade["quantity_base"] * prices[SYMBOLS.index(trade["symbol"])] == pytest.approx(change * equity)
        assert trade["cost_quote"] == pytest.approx(0.002 * trade["value_quote"])
    assert answer["cost_quote"] == pytest.approx(sum(0.002 * t["value_quote"] for t in answer["trades"]))


def test_a_trade_below_the_minimum_is_shown_and_costs_nothing(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    (tmp_path / "held.json").write_text(json.dumps({"cash": 120}))  # a fifth of it is below 50
    answer = asked(run, "--holdings", "held.json")
    assert {t["made"] for t in answer["trades"]} == {False}
    assert answer["cost_quote"] == 0
    assert "too small" in run("--holdings", "held.json")[1]


@pytest.mark.parametrize("objective", ["sharpe", "utility", "min_variance", "risk_parity", "max_diversification"])
def test_the_cash_that_must_stay_stays(run: Run, candles: FloatArray, objective: str) -> None:
    assert asked(run, "--objective", objective, "--min-cash", "0.5")["cash"] >= 0.5 - 1e-8


def test_turnover_is_counted_from_the_holdings(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    prices = [closes_of(r)[-1] for r in candles.T]
    values = zip(SYMBOLS, prices, (5_000, 3_000, 1_000, 1_000), strict=True)
    (tmp_path / "held.json").write_text(json.dumps({s: value / p for s, p, value in values}))
    wide = ("--holdings", "held.json", "--max-position", "0.9", "--max-sector", "1")
    for objective in ("sharpe", "min_variance", "utility"):
        free, slow = (asked(run, *wide, "--objective", objective, "--max-turnover", str(t)) for t in (9, 0.1))
        assert sum(abs(t["change"]) for t in free["trades"]) > 0.11
        assert sum(abs(t["change"]) for t in slow["trades"]) <= 0.1 + 1e-8


def test_what_moves_like_a_larger_holding_is_not_bought(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    write_csv(tmp_path / "candles" / "XRP-USDT.csv", closes_of(1.01 * candles[:, 0]))
    (tmp_path / "held.json").write_text(json.dumps({"cash": 1000, "BTC/USDT": 1}))
    held = ("--holdings", "held.json", "--covariance", "sample")
    assert weights(asked(run, *held))["XRP/USDT"] > 0.1
    assert weights(asked(run, *held, "--max-correlation", "0.9"))["XRP/USDT"] == 0


def test_trades_are_whole_lots_and_a_purchase_waits_for_the_sale_that_pays_it(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    (tmp_path / "held.json").write_text(json.dumps({"cash": 1000, "BTC/USDT": 50}))
    (tmp_path / "lots.json").write_text(json.dumps({"BTC/USDT": 7, "ETH/USDT": 0.25}))
    answer = asked(run, "--holdings", "held.json", "--lots", "lots.json", "--max-position", "0.4", "--max-sector", "1")
    quantity = {t["symbol"]: t["quantity_base"] for t in answer["trades"] if t["made"]}
    assert quantity["BTC/USDT"] % 7 == 0
    assert quantity["ETH/USDT"] % 0.25 == 0
    prices = {s: closes_of(r)[-1] for s, r in zip(SYMBOLS, candles.T, strict=True)}
    assert sum(q * prices[s] for s, q in quantity.items()) <= 1000 + 1e-6  # the cash there is and what the sales bring
    # a lot of 100 is more than is held: nothing is sold, and only the cash there is can be spent
    (tmp_path / "lots.json").write_text(json.dumps({"BTC/USDT": 100}))
    stuck = asked(run, "--holdings", "held.json", "--lots", "lots.json", "--max-position", "0.4", "--max-sector", "1")
    assert {t["symbol"]: t["made"] for t in stuck["trades"]}["BTC/USDT"] is False
    assert sum(t["value_quote"] for t in stuck["trades"] if t["made"]) <= 1000 + 1e-6


def test_a_file_with_a_byte_order_mark_is_read(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    (tmp_path / "held.json").write_text(json.dumps({"cash": 1000}), encoding="utf-8-sig")
    assert asked(run, "--holdings", "held.json")["equity"] == 1000


def test_utility_trades_less_where_trading_costs_more(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    (tmp_path / "held.json").write_text(json.dumps({"cash": 5000, "BTC/USDT": 10, "XRP/USDT": 10}))
    turnover = []
    for cost in ("0", "0.005", "0.05"):
        answer = asked(run, "--objective", "utility", "--holdings", "held.json", "--cost", cost, "--hold-days", "10")
        turnover.append(sum(t["value_quote"] for t in answer["trades"]))
    assert turnover[0] > turnover[1] > turnover[2]


def test_hours_resample_to_the_same_days_and_an_unfinished_day_is_left_out(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    expected = asked(run)
    for symbol, column in zip(SYMBOLS, candles.T, strict=True):
        hourly = np.repeat(closes_of(column), 24)
        hourly[np.arange(len(hourly)) % 24 != 23] *= 3  # what happens within a day does not count
        unfinished = np.append(hourly, [9.0] * 7)
        write_csv(tmp_path / "hours" / f"{symbol.replace('/', '_')}_1h.csv", unfinished, 3600, volume=1 / 24)
    found = asked(run, "--covariance", "ledoit_wolf", folder="hours")
    assert (found["as_of"], found["days"]) == (expected["as_of"], expected["days"])
    for ours, theirs in zip(found["assets"], expected["assets"], strict=True):
        assert ours["volatility"] == pytest.approx(theirs["volatility"])


def test_bad_rows_leave_gaps_and_doubled_ones_change_nothing(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    closes, file = closes_of(candles[:, 0]), tmp_path / "candles" / "BTC-USDT.csv"
    before = asked(run)
    file.write_text(file.read_text() + file.read_text().splitlines()[-1] + "\n")
    assert asked(run) == before
    closes[[20, 30]] = [float("nan"), -1.0]
    write_csv(file, closes)
    assert asked(run)["days"] == 56  # each missing close takes two returns


def test_only_the_newest_days_count(run: Run, candles: FloatArray) -> None:
    assert asked(run, "--days", "25")["days"] == 25


def test_files_that_end_at_different_days_are_used_up_to_a_common_one(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    before = asked(run, "--until", "2024-11-23", "--symbols", "BTC/USDT,eth/usdt")
    assert (before["days"], before["as_of"], list(before["weights"])) == (50, "2024-11-24T00:00:00Z", ["BTC/USDT", "ETH/USDT"])
    longer = np.concatenate([closes_of(candles[:, 0]), np.full(120, 55.0)])
    write_csv(tmp_path / "candles" / "BTC-USDT.csv", longer, volume=1.0)
    code, _, err = run("--json")
    assert (code, err) == (1, "helios: DOGE/USDT has no daily close within the 90 days up to the newest: use --until or --symbols\n")
    assert asked(run, "--until", "2024-11-23", "--symbols", "BTC/USDT,ETH/USDT") == before  # nothing of later days counts
    assert asked(run, "--symbols", "BTC/USDT,", "--objective", "min_variance")["as_of"] == "2025-04-03T00:00:00Z"


def test_parquet_with_binances_names_and_one_asset_alone(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    closes = closes_of(candles[:, 0])
    times = pa.array((START_S + DAY_S * np.arange(len(closes))) * 1000, pa.timestamp("ms", tz="UTC"))
    columns: dict[str, Any] = dict.fromkeys(("open", "high", "low", "close"), closes)
    (tmp_path / "one").mkdir()
    pq.write_table(pa.table({"ts": times, **columns, "volume": np.ones(len(closes))}), tmp_path / "one" / "BTCUSDT_1d.parquet")
    answer = asked(run, "--max-position", "1", "--max-sector", "1", folder="one")
    assert weights(answer) == {"BTC/USDT": pytest.approx(1.0)}


def test_identical_assets_have_an_answer(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    write_csv(tmp_path / "candles" / "WBTC-USDT.csv", closes_of(candles[:, 0]))
    for objective in ("sharpe", "min_variance", "risk_parity"):
        answer = asked(run, "--objective", objective, "--covariance", "sample")
        assert sum(weights(answer).values()) + answer["cash"] == pytest.approx(1)


def test_the_frontier_rises_and_keeps_the_caps(run: Run, candles: FloatArray) -> None:
    points = asked(run, "--frontier", "5", "--max-position", "0.4")["frontier"]
    assert len(points) == 5
    assert all(max(p["weights"].values()) <= 0.4 + 1e-6 for p in points)
    assert all(a["volatility"] <= b["volatility"] + 1e-9 for a, b in zip(points[:-1], points[1:], strict=True))  # noqa: RUF007


def test_the_picture_shows_every_asset_portfolio_and_the_frontier_where_they_are(
    run: Run, candles: FloatArray, tmp_path: Path
) -> None:
    (tmp_path / "held.json").write_text(json.dumps({"cash": 1000, "BTC/USDT": 50}))
    answer = asked(run, "--holdings", "held.json", "--plot", "risk.svg", "--frontier", "6")
    tree = ElementTree.parse(tmp_path / "risk.svg").getroot()
    dots = {text.split(":")[0]: tag for tag in tree.iter(f"{SVG}circle") if (text := tag.findtext(f"{SVG}title"))}
    assert sorted(dots) == sorted(SYMBOLS)
    # pixels rise with the volatility in proportion: one line through all dots
    volatility = [a["volatility"] for a in answer["assets"]]
    pixels = [float(dots[a["symbol"]].get("cx", "nan")) for a in answer["assets"]]
    slope, start = np.polyfit(volatility, pixels, 1)
    np.testing.assert_allclose(np.polyval([slope, start], volatility), pixels, atol=0.2)
    marks = {tag.get("data-name"): tag for tag in tree.iter(f"{SVG}path") if tag.get("data-name")}
    assert set(marks) == {"proposal", "prior", "held"}
    drawn = float(marks["proposal"].get("d", "").split()[0].removeprefix("M"))
    assert drawn == pytest.approx(slope * answer["volatility"] + start, abs=0.3)
    [curve] = tree.iter(f"{SVG}polyline")
    assert len(curve.get("points", "").split()) == 6
    assert run("--plot", str(tmp_path / "nowhere" / "x.svg"))[2].startswith("helios: cannot write")


def test_a_picture_of_one_asset_that_does_not_move_can_be_drawn(run: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "candles" / "FLAT-USDT.csv", np.full(40, 5.0))
    assert run("--objective", "min_variance", "--plot", "flat.svg")[0] == 0
    assert ElementTree.parse(tmp_path / "flat.svg").getroot().tag == f"{SVG}svg"


def test_the_table_has_every_asset_cash_and_a_line_of_figures(run: Run, candles: FloatArray, tmp_path: Path) -> None:
    (tmp_path / "held.json").write_text(json.dumps({"cash": 1000, "BTC/USDT": 50}))
    code, out, _ = run("--holdings", "held.json", "--frontier", "3")
    assert code == 0
    for words in (*SYMBOLS, "cash", "Sharpe", "60 daily returns to 2024-12-04 00:00 UTC", "sell BTC/USDT", "of equity", "Efficient"):
        assert words in out


ERRORS = {
    "folder": (["--json"], "nowhere", "nowhere is not a folder"),
    "empty": ([], "empty", "empty has no candle file"),
    "short": ([], "short", "12 daily returns that all 2 symbols share, 20 needed; XRP/USDT has 12, the fewest"),
    "mixed": ([], "mixed", "are in USDT and ZAR: one portfolio needs one quote currency"),
    "name": ([], "noname", "quote currency not known"),
    "broken": ([], "broken", "has no column 'open_time'"),
    "views": (["--views", "unknown.json"], "candles", "unknown asset 'SOL/USDT'; known are BTC/USDT"),
    "no views": (["--views", "none.json"], "candles", "cannot read none.json: No such file"),
    "not json": (["--views", "candles/BTC-USDT.csv"], "candles", "is not JSON"),
    "objective": (["--objective", "luck"], "candles", "unknown objective 'luck'"),
    "covariance": (["--covariance", "guess"], "candles", "unknown covariance 'guess'"),
    "position": (["--max-position", "0"], "candles", "--max-position 0 is not above 0"),
    "sector": (["--max-sector", "nan"], "candles", "--max-sector nan is not above 0"),
    "hold": (["--hold-days", "0"], "candles", "--hold-days must be above 0"),
    "risk free": (["--risk-free", "9"], "candles", "risk-free"),
    "held": (["--holdings", "unheld.json"], "candles", "unknown asset 'SOL/USDT'; known are cash"),
    "owed": (["--holdings", "owed.json"], "candles", "the quantity of BTC/USDT is not a number of 0 or more"),
    "vast": (["--holdings", "vast.json"], "candles", "the quantity of cash is not a number of 0 or more"),
    "beyond": (["--holdings", "beyond.json"], "candles", "the holdings are worth more than can be counted"),
    "vast view": (["--views", "vastview.json"], "candles", "'return' is missing or not a number"),
    "worthless": (["--holdings", "nothing.json"], "candles", "worth nothing"),
    "until": (["--until", "3.2.26"], "candles", "--until '3.2.26' is not a date"),
    "symbols": (["--symbols", "BTC/USDT,SOL/USDT"], "candles", "candles has no candle file of SOL/USDT"),
    "early": (["--until", "2020-01-01"], "candles", "no candle file has a bar"),
    "cash": (["--min-cash", "1"], "candles", "--min-cash 1 is not"),
    "turnover": (["--max-turnover", "0.1"], "candles", "--max-turnover is measured from what is held"),
    "correlation": (["--holdings", "some.json", "--max-correlation", "2"], "candles", "within -1..1"),
    "parity": (
        ["--holdings", "some.json", "--max-turnover", "0.1", "--objective", "risk_parity"],
        "candles",
        "need another objective",
    ),
    "too slow": (["--holdings", "some.json", "--max-turnover", "0.01"], "candles", "no weights keep all of these limits"),
    "lots": (["--lots", "unheld.json"], "candles", "unknown asset 'SOL/USDT'"),
    "no lot": (["--lots", "owed.json"], "candles", "the step of BTC/USDT is not a number above 0"),
    "a list": (["--holdings", "list.json"], "candles", "is not an object of quantities"),
}


@pytest.mark.parametrize("case", sorted(ERRORS))
def test_what_is_wrong_is_one_line_and_exit_code_1(run: Run, candles: FloatArray, tmp_path: Path, case: str) -> None:
    (tmp_path / "empty").mkdir()
    for folder, names, lengths in (("short", ("ETH-USDT", "XRP-USDT"), (60, 12)), ("mixed", ("ETH-USDT", "ETH-ZAR"), (60, 60))):
        for name, length in zip(names, lengths, strict=True):
            write_csv(tmp_path / folder / f"{name}.csv", closes_of(candles[-length:, 0]), first_s=START_S + (60 - length) * DAY_S)
    write_csv(tmp_path / "noname" / "prices.csv", closes_of(candles[:, 0]))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "BTC-USDT.csv").write_text("a,b\n1,2\n")
    files = {
        "unknown": [{"asset": "SOL/USDT", "return": 0.1, "confidence": 0.5}],
        "unheld": {"SOL/USDT": 1}, "owed": {"BTC/USDT": -1}, "nothing": {"cash": 0}, "list": [1], "some": {"cash": 5, "BTC/USDT": 50},
        "vast": {"cash": 10**400}, "beyond": {"cash": 1e308, "BTC/USDT": 1e308},
        "vastview": [{"asset": "BTC/USDT", "return": 10**400, "confidence": 0.5}],
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    options, folder, words = ERRORS[case]
    code, out, err = run(*options, folder=folder)
    assert (code, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1


def test_the_commands_of_the_manual_run_and_print_what_it_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    manual = (Path(__file__).resolve().parents[3] / "docs" / "portfolio.md").read_text()
    exec(re.search(r"<<'PY'\n(.*?)\nPY\n", manual, re.DOTALL)[1], {})  # type: ignore[index]  # our own text
    for name, content in re.findall(r"cat > (\S+) <<'JSON'\n(.*?)\nJSON\n", manual, re.DOTALL):
        (tmp_path / name).write_text(content)
    outputs = []
    commands = re.findall(r"^(helios allocate .*)$", manual, re.MULTILINE)
    for command in commands:
        monkeypatch.setattr("sys.argv", shlex.split(command, comments=True))
        assert main() == 0, command
        outputs.append("\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()))
    assert len(commands) == 6
    assert outputs[0] == re.search(r"```text\n(.*?)\n```", manual, re.DOTALL)[1]  # type: ignore[index]

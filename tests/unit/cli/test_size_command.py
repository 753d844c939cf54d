"""helios size, and the commands that docs/risk.md prints."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helios.cli.app import main
from helios.risk.profiles import PRESETS

Run = Callable[..., tuple[int, str, str]]
DOCS = (Path(__file__).resolve().parents[3] / "docs" / "risk.md").read_text()
PRINTED = re.findall(r"^(helios size .*?)(?:  +# (.*))?$", DOCS, flags=re.M)
BASE = {
    "--signal": "BUY", "--confidence": "0.72", "--daily-volatility": "0.03", "--regime": "MEDIUM", "--equity": "100000",
}  # fmt: skip


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", *arguments])
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def size(run: Run) -> Callable[..., dict[str, Any]]:
    def call(**changes: str) -> dict[str, Any]:
        options = BASE | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
        code, out, err = run("size", *(word for pair in options.items() for word in pair), "--json")
        assert (code, err) == (0, "")
        return dict(json.loads(out))

    return call


Size = Callable[..., dict[str, Any]]


def test_the_worked_example_is_exact_and_in_numbers(size: Size) -> None:
    answer = size()
    wanted = {"notional": 5800, "leverage": 1.0, "stop_loss_pct": 0.06, "take_profit_pct": 0.12, "loss_at_stop": 348}
    assert {name: answer[name] for name in wanted} == wanted
    assert answer["gain_at_target"] == 696
    assert answer["sizing"]["kelly_full"] == pytest.approx(0.58)
    assert answer["notes"]


@pytest.mark.parametrize(("changes", "notional"), [
    ({"drawdown": "0.12"}, 2900),
    ({"held": "4000"}, 1800),
    ({"cost": "0.003"}, pytest.approx(5692.307692)),
    ({"payoff_ratio": "3"}, pytest.approx(6266.666667)),
    ({"regime": "extreme"}, 5000),
    ({"method": "fixed_fractional"}, 15000),
    ({"method": "volatility_adjusted", "volatility_ratio": "2"}, 1500),
    ({"profile": "aggressive"}, 11600),
    ({"profile": "live-starter", "ramp_step": "2"}, 30),
    ({"ramp_step": "1"}, 580),
    ({"kind": "perp", "confidence": "0.95", "regime": "LOW"}, 13875),
    ({"kind": "perp", "confidence": "0.95", "regime": "LOW", "venue_leverage": "1"}, 9250),
    ({"kind": "perp", "signal": "sell"}, 5800),
    ({"kind": "perp", "signal": "sell", "held": "-4000"}, 1800),
])  # fmt: skip
def test_each_option_has_its_effect(size: Size, changes: dict[str, str], notional: float) -> None:
    assert size(**changes)["notional"] == notional


@pytest.mark.parametrize(("changes", "code"), [
    ({"signal": "hold"}, "HOLD"),
    ({"confidence": "0.54"}, "LOW_CONFIDENCE"),
    ({"signal": "SELL"}, "SHORT_NOT_ALLOWED"),
    ({"signal": "SELL", "confidence": "0.2"}, "LOW_CONFIDENCE"),
    ({"daily_volatility": "0"}, "NO_VOLATILITY"),
    ({"daily_volatility": "0.6"}, "STOP_TOO_WIDE"),
    ({"daily_volatility": "0.25", "signal": "SELL", "kind": "perp"}, "TARGET_TOO_WIDE"),
    ({"equity": "0"}, "NO_EQUITY"),
    ({"equity": "100"}, "MIN_NOTIONAL"),
    ({"held": "5800"}, "ALREADY_HELD"),
    ({"payoff_ratio": "0.3"}, "NO_EDGE"),
    ({"cost": "0.2"}, "NO_EDGE"),
    ({"method": "half_kelly"}, "NO_EDGE"),
    ({"profile": "conservative"}, "LOW_CONFIDENCE"),
    ({"profile": "live-starter"}, "RAMP_WATCH_ONLY"),
])  # fmt: skip
def test_refusals_are_answers_with_code_and_detail(size: Size, changes: dict[str, str], code: str) -> None:
    answer = size(**changes)
    assert set(answer) == {"no_trade", "detail"}
    assert answer["no_trade"] == code
    assert answer["detail"]


def test_an_opposite_signal_closes_what_is_held(size: Size) -> None:
    answer = size(signal="SELL", held="7000")
    assert (answer["notional"], answer["reduce_only"], answer["leverage"], answer["loss_at_stop"]) == (7000, True, 1.0, 0)
    assert size(signal="BUY", held="-7000", kind="perp")["reduce_only"] is True


def test_a_drawdown_beyond_the_limit_is_an_alert(size: Size) -> None:
    assert any("opens nothing" in note for note in size(drawdown="0.15")["notes"])
    assert not any("opens nothing" in note for note in size(drawdown="0.14")["notes"])


def test_the_configuration_in_force_is_asked(size: Size, tmp_path: Path) -> None:
    (tmp_path / "helios.toml").write_text("[risk]\nkelly_multiplier = 0.5\n[limits]\nmax_notional_quote = 9000\n")
    assert size()["notional"] == 9000
    (tmp_path / "helios.toml").write_text("[risk]\nkelly_multiplier = 0.5\nround_trip_cost_pct = 0.01\n")
    assert size()["notional"] == 11600  # costs only where --cost says so


def test_plain_text_tells_the_chain_line_by_line(run: Run) -> None:
    code, out, _ = run("size", *(word for pair in BASE.items() for word in pair))
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "BUY 5,800.00, leverage 1.0, stop 6.00%, target 12.00%, loss at the stop 348.00")
    assert "Full Kelly = p - (1 - p) / b = 0.72 - 0.28 / 2 = 0.5800." in lines
    assert len(lines) > 8


def test_plain_text_of_a_refusal_gives_code_sentence_and_numbers(run: Run) -> None:
    code, out, _ = run("size", *(word for pair in (BASE | {"--confidence": "0.5"}).items() for word in pair))
    assert (code, out.splitlines()[0]) == (0, "no trade: LOW_CONFIDENCE")
    assert "Confidence 0.500 is below 0.550." in out


@pytest.mark.parametrize(("changes", "words", "expected"), [
    ({"--signal": "MAYBE"}, "--signal", 1),
    ({"--regime": "WILD"}, "--regime", 1),
    ({"--equity": "much"}, "--equity", 1),
    ({"--equity": "nan"}, "--equity", 1),
    ({"--held": "inf"}, "--held", 1),
    ({"--equity": "1e30"}, "--equity", 1),
    ({"--equity": "1e400"}, "--equity", 1),
    ({"--held": "-1e30"}, "--held", 1),
    ({"--venue-leverage": "0.5"}, "--venue-leverage", 1),
    ({"--volatility-ratio": "-1"}, "--volatility-ratio", 1),
    ({"--volatility-ratio": "inf"}, "volatility-ratio", 1),
    ({"--venue-leverage": "x"}, "--venue-leverage", 1),
    ({"--confidence": "2"}, "confidence", 2),
    ({"--confidence": "nan"}, "confidence", 2),
    ({"--daily-volatility": "-0.01"}, "daily-volatility", 2),
    ({"--daily-volatility": "inf"}, "daily-volatility", 1),
    ({"--payoff-ratio": "nan"}, "payoff-ratio", 1),
    ({"--payoff-ratio": "2", "--cost": "0.003"}, "exclude each other", 1),
    ({"--method": "martingale"}, "risk.size_method", 1),
    ({"--profile": "reckless"}, "risk.profile", 1),
    ({"--kind": "option"}, "kind", 2),
    ({"--ramp-step": "6"}, "ramp-step", 2),
])  # fmt: skip
def test_bad_input_is_one_clear_line(run: Run, changes: dict[str, str], words: str, expected: int) -> None:
    code, out, err = run("size", *(word for pair in (BASE | changes).items() for word in pair))
    assert (code, out, err.count("\n")) == (expected, "", 1)
    assert words in err


def test_help_says_that_costs_are_zero_unless_given(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert "0 here, not" in run("size", "--help")[1]


@pytest.mark.parametrize(("line", "promise"), PRINTED, ids=[f"line{i}" for i in range(len(PRINTED))])
def test_every_documented_command_gives_what_the_page_says(run: Run, line: str, promise: str) -> None:
    code, out, err = run(*shlex.split(line)[1:])
    assert (code, err) == (0, "")
    assert promise
    assert promise in out


def test_the_page_prints_enough_of_them() -> None:
    assert len(PRINTED) >= 6


def test_the_page_shows_every_figure_of_every_preset() -> None:
    table = [[cell.strip("` ") for cell in line.strip("|").split("|")] for line in DOCS.splitlines() if line.startswith("|")]
    columns = next(row for row in table if row[0] == "key")
    shown = {(row[0], profile): cell for row in table for profile, cell in zip(columns, row, strict=False)}
    assert set(columns[1:]) == set(PRESETS)
    wanted = {(f"{section}.{key}", p): v for p, preset in PRESETS.items() for section, vs in preset.items() for key, v in vs.items()}
    for at, value in wanted.items():
        assert shown[at] == (" / ".join(map(str, value)) if isinstance(value, tuple) else str(value))
    filled = {
        at for at, cell in shown.items() if at[0].split(".")[0] in ("risk", "limits", "portfolio") and at[1] != "key" and cell != "-"
    }
    assert filled == set(wanted)

"""What `helios performance`, `helios lots` and `helios attribution` print, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from helios.cli.app import main
from helios.cli.books import show_attribution, show_days, show_lots
from helios.portfolio.attribution_report import Books, Market, Question, attribution_report
from helios.portfolio.daily import daily_figures
from helios.portfolio.lot_report import lot_report
from helios.portfolio.lots import fold_lots
from tests.support.execution_fakes import DAY, T0, D
from tests.unit.portfolio.test_stages import TRADE, steps

FIRST = T0 // DAY


def called(arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["helios", *arguments])
    return main()


@pytest.mark.parametrize("arguments", [["lots"], ["performance"], ["attribution"], ["attribution", "--benchmark", "--json"]], ids=str)
def test_without_a_desk_they_say_so(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(arguments, monkeypatch, tmp_path) == 1
    assert capsys.readouterr().err.startswith("helios: no desk has run")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["attribution", "--by", "week"], 1, "not one of"), (["attribution", "--from", "1.2.26"], 1, "not a date"),
        (["attribution", "--from", "2026-02-02", "--to", "2026-02-01"], 1, "--from is later than --to"),
        (["attribution", "--unit", "much"], 1, "not an amount"), (["attribution", "--unit", "-5"], 1, "must be positive"),
        (["attribution", "--unit", "NaN"], 1, "must be positive"), (["lots", "--method", "best"], 2, "method"),
    ],
    ids=["grouping", "date", "backwards", "amount", "negative", "NaN", "method"],
)  # fmt: skip
def test_wrong_values_are_one_line(
    arguments: list[str], code: int, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(arguments, monkeypatch, tmp_path) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_days_are_shown_in_percent_with_what_is_not_known_as_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    def point(day: int, equity: str) -> dict[str, object]:
        return {"ts_ns": T0 + day * DAY, "equity_quote": D(equity), "transfers_quote": D(0), "open_positions": 1, "drawdown": 0.05}

    rows = [asdict(line) for line in daily_figures([point(0, "1000"), point(1, "1012.5")])]
    show_days(rows, as_json=False)
    first, second = (line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert (first[3], first[4], second[2], second[3]) == ("-", "5.00%", "12.5", "1.25%")
    show_days(rows, as_json=True)
    assert json.loads(capsys.readouterr().out)[1]["pnl_quote"] == "12.5"


def test_lots_are_shown_with_their_year(capsys: pytest.CaptureFixture[str]) -> None:
    show_lots(lot_report(fold_lots(fill for _, fill in TRADE)), as_json=False)
    out = capsys.readouterr().out
    assert ["2023", "ZAR", "1", "1187", "1012", "175", "0"] in [line.split() for line in out.splitlines()]
    assert "Not tax advice" in out


def test_attribution_is_shown_by_stage_with_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    books = Books(TRADE, (), {"e": steps()}, D(10_000))
    report = attribution_report(books, Question("stage", FIRST, FIRST + 1), Market({}, {}))
    show_attribution(report, as_json=False)
    out = capsys.readouterr().out
    assert "1 closings in whole or in part, 175 realised" in out
    assert "left out: 2023-11-15, no price of BTC/ZAR" in out
    show_attribution(report, as_json=True)
    assert json.loads(capsys.readouterr().out) == report


def test_trade_without_a_decision_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_attribution(attribution_report(Books(TRADE), Question("symbol")), as_json=False)
    assert "unexplained" in capsys.readouterr().out

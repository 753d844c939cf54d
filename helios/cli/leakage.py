"""helios leakage: checks that nothing known only later reaches what is learnt or traded."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from helios.cli.app import app
from helios.cli.candle_input import read_history, timeframe_of
from helios.cli.control import AsJson
from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.errors import InsufficientHistoryError

if TYPE_CHECKING:
    from helios.features.leakage import FeatureReport, Subject

leakage = typer.Typer(help="Checks against knowing the future.", no_args_is_help=True)
app.add_typer(leakage, name="leakage")

N_BARS = 3_200
"""Rows that are checked, the newest of a file: two whole days of minutes and the longest lookback fit in."""
MIN_BARS = 300
_FUSED_S = 900


@leakage.command("features")
def features(
    file: Annotated[
        Path | None, typer.Argument(help="Candles of one symbol; without a file, made-up bars with flow and book.")
    ] = None,
    names: Annotated[str | None, typer.Option(help="Features or catalog families, separated by commas; default all.")] = None,
    timeframe: Annotated[
        str | None, typer.Option(help="The file's, by default as it says; minutes are also checked as 5m and 15m bars.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the made-up bars.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Check the model's features and the catalog for look-ahead, understated history and made-up values; exit code 1 if any fails."""
    from helios.features.leakage import examine

    times, values, is_minutes = _bars(file, seed, timeframe)
    if len(times) < MIN_BARS:
        raise InsufficientHistoryError(f"{len(times)} bars; the checks need at least {MIN_BARS}")
    is_known = bool(np.isfinite(values).all(1).any())
    reports = [r for subject in _subjects(names, is_minutes) for r in examine(subject, times, values, is_known)]
    if as_json:
        print(json.dumps({"passed": all(r.passed for r in reports), "rows": len(times), "features": [_as_dict(r) for r in reports]}))
    else:
        _print_tables(reports, is_detailed=names is not None)
    if not all(r.passed for r in reports):
        raise typer.Exit(1)


def _bars(file: Path | None, seed: int, timeframe: str | None) -> tuple[np.ndarray, FloatArray, bool]:
    # Open times, values with the mid price, and whether the bars are minutes.
    from helios.features.subjects import synthetic_bars

    if file is None:
        return *synthetic_bars(N_BARS, seed), timeframe is None or timeframe_of(timeframe) is Timeframe.M1
    history = read_history(file, timeframe)
    times, bars = history.open_times[-N_BARS:], history.bars[-N_BARS:]
    no_mid = np.full(len(bars), math.nan)  # a file of candles has no mid price
    return times, np.column_stack([bars, no_mid]), history.timeframe is Timeframe.M1


def _subjects(names: str | None, is_minutes: bool) -> list[Subject]:
    """Every subject, each narrowed to the chosen features; subjects without any are left out."""
    from helios.features.catalog import names_of
    from helios.features.definitions import FEATURE_NAMES
    from helios.features.leakage import narrowed
    from helios.features.subjects import catalog_subject, catalog_timeframe_subject, model_subject, model_timeframe_subjects

    words = [] if names is None else [word.strip() for word in names.split(",")]
    of_model = [name for name in FEATURE_NAMES if not words or name in words]
    rest = [word for word in words if word not in FEATURE_NAMES or _is_catalog_name(word)]
    of_catalog = names_of("all") if not words else names_of(",".join(rest)) if rest else ()
    subjects = []
    if of_model:
        longer = model_timeframe_subjects() if is_minutes else ()
        subjects += [narrowed(subject, of_model) for subject in (model_subject(), *longer)]
    if of_catalog:
        subjects.append(catalog_subject(of_catalog))
        subjects += [catalog_timeframe_subject(_FUSED_S, of_catalog)] if is_minutes else []
    return subjects


def _is_catalog_name(word: str) -> bool:
    from helios.features.catalog import CATALOG

    return word in CATALOG


def _as_dict(report: FeatureReport) -> dict[str, Any]:
    answer: dict[str, Any] = {"subject": report.subject, "feature": report.feature, "passed": report.passed}
    for name in ("look_ahead", "warm_up", "unknown_input"):
        verdict = getattr(report, name)
        answer[name] = None if verdict is None else {**asdict(verdict), "passed": verdict.passed}
        if verdict is not None:
            del answer[name]["feature"]
    return answer


def _print_tables(reports: Sequence[FeatureReport], is_detailed: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_summary(reports))
    shown = reports if is_detailed else [r for r in reports if not r.passed]
    if shown:
        console.print(_details(shown))


def _summary(reports: Sequence[FeatureReport]) -> Table:
    table = Table("subject", caption="Passed / failed / could not be told from these bars.")
    for heading in ("features", "look-ahead", "warm-up", "unknown input"):
        table.add_column(heading, justify="right")
    for subject in dict.fromkeys(r.subject for r in reports):
        of_subject = [r for r in reports if r.subject == subject]
        counts = [_counts([getattr(r, name) for r in of_subject]) for name in ("look_ahead", "warm_up", "unknown_input")]
        table.add_row(subject, str(len(of_subject)), *counts)
    return table


def _counts(verdicts: Sequence[Any]) -> str:
    given = [v.passed for v in verdicts if v is not None]
    return f"{given.count(True)} / {given.count(False)} / {given.count(None)}" if given else "-"


def _details(reports: Sequence[FeatureReport]) -> Table:
    table = Table("subject", "feature", "look-ahead", "history needed / declared", "unknown input")
    for r in reports:
        table.add_row(r.subject, r.feature, _look_ahead(r), _warm_up(r), _unknown_input(r))
    return table


def _look_ahead(report: FeatureReport) -> str:
    v = report.look_ahead
    if v.passed is False:
        return f"FAILED: row {v.row} changed when rows after {v.cut} were {v.change}"
    return "ok" if v.passed else "no value"


def _warm_up(report: FeatureReport) -> str:
    v = report.warm_up
    if v is None:
        return "-"
    needed = "?" if v.needed is None else str(v.needed)
    return f"{'FAILED: ' if v.passed is False else ''}{needed} / {v.declared}"


def _unknown_input(report: FeatureReport) -> str:
    v = report.unknown_input
    if v is None:
        return "-"
    if v.passed is False:
        return f"FAILED: row {v.row} has a value without {v.column}"
    return "ok" if v.passed else "not touched"

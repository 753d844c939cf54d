"""`helios bench`: Helios and its peers on the same work, in the same run, turn by turn."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from helios.cli.app import app
from helios.cli.contest import BENCHMARKS, Contest, Sizes, Work
from helios.cli.control import AsJson
from helios.errors import ConfigError

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}

SELF_TIMED: dict[str, Callable[[], list[Figure]]] = {}
"""Works that start processes of their own and come back with figures; `helios.cli` cannot know those that need Ray."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of one work.

    Attributes
    ----------
    helios, peer_value : float, float or None
        In `unit`; None without a peer or where it is not installed.
    ratio : float or None
        The peer's time over Helios' time: 2 means that Helios needs half as long.
    peer : str
        Name of the peer; empty if the work has none.
    """

    benchmark: str
    work: str
    unit: str
    helios: float
    peer: str
    peer_value: float | None
    ratio: float | None
    repeats: int
    note: str


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help="Which one; --list names them; all timed here without it.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Alternating runs of each work; the median counts.")] = 5,
    list_names: Annotated[bool, typer.Option("--list", help="Name the benchmarks and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure Helios against known libraries on the same work, in the same run."""
    if list_names:
        print("\n".join((*BENCHMARKS, *SELF_TIMED)))
        return
    if name is not None and name not in BENCHMARKS.keys() | SELF_TIMED:
        raise ConfigError(f"unknown benchmark {name!r}: {', '.join((*BENCHMARKS, *SELF_TIMED))}")
    if name in SELF_TIMED:
        with redirect_stdout(sys.stderr):  # what Ray prints is no result
            figures = SELF_TIMED[name]()
    else:
        figures = run_benchmarks([name] if name else list(BENCHMARKS), repeats, Sizes())
    if as_json:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "system": platform.platform()}
        print(json.dumps({"machine": machine, "figures": [asdict(figure) for figure in figures]}))
    else:
        _print_table(figures)


def run_benchmarks(names: list[str], repeats: int, sizes: Sizes) -> list[Figure]:
    """Run the named benchmarks one after the other and say on stderr where they are."""
    figures = []
    for name in names:
        print(f"{name}: preparing", file=sys.stderr)
        for contest in BENCHMARKS[name](sizes):
            against = f" and {contest.peer}" if contest.theirs else ""
            print(f"{name}: {contest.work}, {repeats} x Helios{against}", file=sys.stderr)
            figures.append(measure(name, contest, repeats))
    return figures


def measure(benchmark: str, contest: Contest, repeats: int) -> Figure:
    """Run both sides in turn, after one run of each that does not count, and return the medians."""
    sides = [contest.ours] if contest.theirs is None else [contest.ours, contest.theirs]
    times: list[list[float]] = [[] for _ in sides]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a peer's warnings are no result
        for side in sides:
            side()
        for turn in range(repeats):
            # Who begins changes with every turn: a machine that slows down or warms up favours neither.
            for i in range(len(sides))[:: 1 if turn % 2 == 0 else -1]:
                times[i].append(_seconds(sides[i]))
    medians = [statistics.median(side) for side in times]
    peer_s = medians[1] if len(medians) > 1 else None
    return Figure(
        benchmark=benchmark,
        work=contest.work,
        unit=contest.unit,
        helios=_in_unit(medians[0], contest),
        peer=contest.peer,
        peer_value=None if peer_s is None else _in_unit(peer_s, contest),
        ratio=None if peer_s is None else peer_s / medians[0],
        repeats=repeats,
        note=contest.note,
    )


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _in_unit(seconds: float, contest: Contest) -> float:
    if contest.unit == "per s":
        return contest.n_items / seconds
    return seconds / contest.n_items * _PER_SECOND[contest.unit]


def _print_table(figures: list[Figure]) -> None:
    table = Table("benchmark", "work", "unit", caption="Medians. Ratio: the peer's time over Helios' time; above 1 Helios is faster.")
    for heading in ("Helios", "peer", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("against")
    for f in figures:
        table.add_row(f.benchmark, f.work, f.unit, _number(f.helios), _number(f.peer_value), _number(f.ratio), _against(f))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for note in dict.fromkeys(f"{f.benchmark}: {f.note}" for f in figures if f.note):
        print(note)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _against(figure: Figure) -> str:
    if not figure.peer:
        return "no peer"
    return figure.peer if figure.peer_value is not None else f"{figure.peer}: peer not installed"

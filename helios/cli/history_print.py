"""History reports for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from helios.market.merge import MergeCounts
from helios.market.quality import Finding, QualityReport, Verdict
from helios.store.archive import Coverage

MAX_RANGES = 10  # in text
MAX_RANGES_JSON = 1_000
_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.BAD: "red"}


def when(time_ns: int) -> str:
    """Write a time (ns UTC) as people read it, to the minute, or finer if it is off the minute."""
    text = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return text.removesuffix(":00")


def iso(time_ns: int) -> str:
    """Write a time (ns UTC) for programs, to the second."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(start_ns: int, end_ns: int) -> str:
    """Write a range, its end excluded; the day is said once."""
    start, end = when(start_ns), when(end_ns)
    return f"{start} to {end[11:] if start[:10] == end[:10] else end}"


def report_dict(name: str, report: QualityReport) -> dict[str, Any]:
    """Return a report as JSON types; of very many ranges the first thousand."""
    return {
        "series": name,
        "verdict": report.verdict.name,
        "score": report.score,
        "rows": report.rows,
        "expected_rows": report.expected_rows,
        "start": iso(report.start_ns),
        "end": iso(report.end_ns),
        "findings": {finding.name: _finding_dict(finding) for finding in report.findings},
    }


def _finding_dict(finding: Finding) -> dict[str, Any]:
    return {
        "count": finding.count,
        "longest": finding.longest,
        "level": finding.level.name,
        "in_score": finding.is_issue,
        "n_ranges": len(finding.ranges),
        "ranges": [[iso(start), iso(end)] for start, end in finding.ranges[:MAX_RANGES_JSON]],
    }


def counts_dict(counts: MergeCounts) -> dict[str, int]:
    """Return what became of rows as JSON types."""
    names = ("new", "same", "completed", "conflicting", "replaced")
    return {name: getattr(counts, name) for name in names}


def counts_text(counts: MergeCounts) -> str:
    """Write what became of rows, leaving out what is zero."""
    said = [f"{value:,} {name}" for name, value in counts_dict(counts).items() if value]
    return ", ".join(said) or "nothing"


def print_reports(reports: dict[str, QualityReport]) -> None:
    """Print one line per series, then what was found where."""
    table = Table("series", "from", "to", "rows", "expected", "missing", "score", "verdict", box=None)
    for column in table.columns[3:7]:
        column.justify = "right"
    for name, report in reports.items():
        table.add_row(
            name, when(report.start_ns), when(report.end_ns), f"{report.rows:,}", f"{report.expected_rows:,}",
            f"{report.finding('gaps').count:,}", f"{report.score:.5f}", Text(report.verdict.name, _STYLES[report.verdict]),
        )  # fmt: skip
    console().print(table)
    for name, report in reports.items():
        for line in finding_lines(report):
            print(f"{name}: {line}")


def finding_lines(report: QualityReport) -> Iterator[str]:
    """Yield what warns, with its ranges, then in one line what is only noted."""
    for finding in report.findings:
        if finding.level > Verdict.OK:
            shown = "; ".join(span(*each) for each in finding.ranges[:MAX_RANGES])
            more = len(finding.ranges) - MAX_RANGES
            yield f"{finding.level.name} {_words(finding)}: {shown}{f'; and {more:,} more' if more > 0 else ''}"
    noted = [_words(finding) for finding in report.findings if finding.count and finding.level is Verdict.OK]
    if noted:
        yield f"noted: {', '.join(noted)}"


def _words(finding: Finding) -> str:
    unit = "missing bars" if finding.name == "gaps" else "rows"
    runs = f" in {len(finding.ranges):,} runs, the longest {finding.longest:,}" if finding.longest > 1 else ""
    return f"{finding.name.replace('_', ' ')} ({finding.count:,} {unit}{runs})"


def print_coverage(coverage: list[Coverage]) -> None:
    """Print one line per series of an archive."""
    table = Table("venue", "symbol", "timeframe", "from", "to", "rows", "missing", "MB", "sources", box=None)
    for column in table.columns[5:8]:
        column.justify = "right"
    for each in coverage:
        table.add_row(
            each.series.venue, each.series.symbol, each.series.timeframe.value, when(each.first_ns),
            when(each.last_ns + each.series.timeframe.ns), f"{each.rows:,}", f"{max(0, each.expected_rows - each.rows):,}",
            f"{each.n_bytes / 1e6:.1f}", _sources(each),
        )  # fmt: skip
    console().print(table)


def _sources(coverage: Coverage) -> str:
    names = list(dict.fromkeys(source.name for month in coverage.months for source in month.sources))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def coverage_dict(coverage: Coverage) -> dict[str, Any]:
    """Return coverage as JSON types."""
    return {
        "venue": coverage.series.venue,
        "symbol": coverage.series.symbol,
        "timeframe": coverage.series.timeframe.value,
        "start": iso(coverage.first_ns),
        "end": iso(coverage.last_ns + coverage.series.timeframe.ns),
        "rows": coverage.rows,
        "expected_rows": coverage.expected_rows,
        "bytes": coverage.n_bytes,
        "months": [month.month for month in coverage.months],
        "sources": [
            {"name": s.name, "sha256": s.digest} for s in dict.fromkeys(s for month in coverage.months for s in month.sources)
        ],
    }


def console() -> Console:
    """Return standard output; wide where it is a file, so that no line is broken there."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=200)


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} {self._unit}/s")


@contextmanager
def progress(unit: str) -> Iterator[Progress]:
    """Show how much is done, how much a second and the time left on standard error, if that is a terminal."""
    errors = Console(stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Speed(unit), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as shown:
        yield shown

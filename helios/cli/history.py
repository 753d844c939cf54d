"""Commands on market history: helios data import, download, check, list."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer

from helios.cli.app import app
from helios.cli.control import AsJson, StateDir, run_dir
from helios.cli.history_fetch import check_series, download_series, fetched_dict, print_fetched, repair_series, venue_config
from helios.cli.history_print import (
    counts_dict,
    counts_text,
    coverage_dict,
    finding_lines,
    iso,
    print_coverage,
    print_reports,
    progress,
    report_dict,
)
from helios.cli.history_stored import check_stored
from helios.domain.enums import MarketKind, Timeframe
from helios.errors import ConfigError, DataError, HeliosError
from helios.market.quality import QualityReport, Verdict, check_candles
from helios.store.archive import CandleArchive, CandleSeries
from helios.store.backfill import Fetched
from helios.store.candle_files import Naming, find_candle_files, naming_of, parse_candles
from helios.store.imports import ImportedSeries, import_file, read_bytes

T = TypeVar("T")
U = TypeVar("U")
_FAIL_ON = {"warn": Verdict.WARN, "bad": Verdict.BAD, "never": Verdict.BAD + 1}
_NS_PER_S = 1_000_000_000

data = typer.Typer(name="data", help="Market history: import, download, check, list.", no_args_is_help=True)
app.add_typer(data)

ArchiveDir = Annotated[Path | None, typer.Option("--archive", help="Directory of the archive (default STATE_DIR/archive).")]
Venue = Annotated[str | None, typer.Option(help="Venue, e.g. binance.")]
Symbol = Annotated[str | None, typer.Option(help="Symbol, e.g. BTC/USDT, or BTC/USDT:USDT for a perpetual.")]
Length = Annotated[str | None, typer.Option("--timeframe", help="1m, 5m, 15m, 1h or 1d.")]
Start = Annotated[str | None, typer.Option(help="From this date or time, UTC.")]
End = Annotated[str | None, typer.Option(help="Up to this time, UTC; a date counts whole, so 2025-01-31 ends January.")]
RestUrl = Annotated[str | None, typer.Option(help="Address of the venue's REST interface (needed for the sandbox).")]
Jobs = Annotated[int, typer.Option(min=1, help="Files at a time.")]


@data.command("import")
def import_files(
    paths: Annotated[list[Path], typer.Argument(help="Parquet, CSV or Binance zip files, or folders of them.")],
    venue: Venue = None,
    symbol: Symbol = None,
    timeframe: Length = None,
    perp: Annotated[bool, typer.Option("--perp", help="Names like BTCUSDT are perpetuals.")] = False,
    newer_wins: Annotated[bool, typer.Option("--replace", help="Where a file contradicts the archive, the file is right.")] = False,
    jobs: Jobs = min(4, os.cpu_count() or 1),
    archive: ArchiveDir = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Import candle files exactly, each once; exit code 1 if one cannot be, or contradicts what is there."""
    store = _archive(archive, state_dir)
    kind = MarketKind.PERP if perp else MarketKind.SPOT
    given = Naming(venue, symbol, None if timeframe is None else _timeframe(timeframe), kind)
    files = find_candle_files(paths)
    now_ns = time.time_ns()
    results = _each(files, lambda path: import_file(store, path, given, now_ns, newer_wins=newer_wins), jobs, "importing")
    if as_json:
        print(json.dumps({"archive": str(store.root), "files": [_file_dict(path, result) for path, result in results.items()]}))
    else:
        for path, result in results.items():
            _print_file(path, result)
    if any(isinstance(result, HeliosError) or any(_left_out(each) for each in result) for result in results.values()):
        raise typer.Exit(1)


@data.command()
def download(
    venue: Annotated[str, typer.Option(help="Venue, e.g. valr.")],
    symbols: Annotated[str, typer.Option(help="Comma separated, e.g. BTC/ZAR,ETH/ZAR.")],
    start: Annotated[str, typer.Option(help="From this date or time, UTC.")],
    end: End = None,
    timeframe: Annotated[str, typer.Option(help="1m, 5m, 15m, 1h or 1d.")] = "1m",
    rest_url: RestUrl = None,
    jobs: Annotated[int, typer.Option(min=1, help="Symbols at a time.")] = 4,
    archive: ArchiveDir = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Fetch what the archive lacks; may be stopped and started again. Exit code 1 if a gap is left or the data are bad."""
    store, length = _archive(archive, state_dir), _timeframe(timeframe)
    names = [name.strip() for name in symbols.split(",") if name.strip()]
    wanted = [CandleSeries(venue, name, length) for name in dict.fromkeys(names)]
    if not wanted:
        raise ConfigError("--symbols names no symbol")
    begun_s = time.monotonic()
    start_ns, end_ns = _range(start, end)
    assert start_ns is not None
    done = download_series(venue_config(venue, rest_url), store, wanted, start_ns, end_ns, jobs, run_dir(state_dir))
    took_s = time.monotonic() - begun_s
    if as_json:
        begins = {series: {"history_begins": iso(begin_ns)} for series, begin_ns in done.begins.items()}
        series = [report_dict(str(s), done.reports[s]) | fetched_dict(done.fetched[s]) | begins.get(s, {}) for s in wanted]
        print(json.dumps({"archive": str(store.root), "seconds": round(took_s, 3), "series": series}))
    else:
        print_fetched(done.fetched, took_s)
        for listed, begin_ns in done.begins.items():
            print(f"{listed}: the venue's history begins at {iso(begin_ns)}")
        print_reports({str(series): report for series, report in done.reports.items()})
    if any(report.gaps or report.verdict is Verdict.BAD for report in done.reports.values()):
        raise typer.Exit(1)


@data.command()
def check(
    paths: Annotated[list[Path] | None, typer.Argument(help="Candle files; without them the archive is checked.")] = None,
    venue: Venue = None,
    symbol: Symbol = None,
    timeframe: Length = None,
    start: Start = None,
    end: End = None,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch missing and impossible bars from their venue.")] = False,
    stored: Annotated[bool, typer.Option("--stored", help="Check the candles in the desk's database instead.")] = False,
    fail_on: Annotated[str, typer.Option(help="Verdict that gives exit code 1: warn, bad or never.")] = "warn",
    rest_url: RestUrl = None,
    jobs: Jobs = min(4, os.cpu_count() or 1),
    archive: ArchiveDir = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Report gaps, duplicates, outliers, outages, impossible bars and the like, with a score and a verdict. Alters nothing."""
    if fail_on not in _FAIL_ON:
        raise ConfigError(f"--fail-on is warn, bad or never, not {fail_on!r}")
    start_ns, end_ns = _range(start, end)
    length = None if timeframe is None else _timeframe(timeframe)
    fetched: dict[CandleSeries, Fetched] = {}
    if repair and (paths or stored):
        raise ConfigError("--repair works on the archive: import the files first")
    if stored:
        if paths or venue:
            raise ConfigError("--stored checks the desk's database: it takes neither files nor --venue")
        reports = check_stored(state_dir, symbol, length, start_ns, end_ns)
    elif paths:
        reports = _check_files(find_candle_files(paths), Naming(venue, symbol, length), start_ns, end_ns, jobs)
    else:
        store = _archive(archive, state_dir)
        chosen = _chosen(store, venue, symbol, length)
        if repair:
            fetched = repair_series(store, chosen, start_ns, end_ns, rest_url, run_dir(state_dir))
        found = _each(chosen, lambda series: check_series(store, series, start_ns, end_ns), jobs, "checking")
        reports = {str(series): _or_raise(result) for series, result in found.items()}
    if as_json:
        repaired = {str(series): fetched_dict(result) for series, result in fetched.items()}
        print(json.dumps({"reports": [report_dict(name, report) | repaired.get(name, {}) for name, report in reports.items()]}))
    else:
        print_fetched(fetched)
        print_reports(reports)
    if max(report.verdict for report in reports.values()) >= _FAIL_ON[fail_on]:
        raise typer.Exit(1)


@data.command("list")
def list_series(archive: ArchiveDir = None, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Say what the archive holds, from when to when, and from where."""
    store = _archive(archive, state_dir)
    coverage = store.coverage()
    if as_json:
        print(json.dumps({"archive": str(store.root), "series": [coverage_dict(each) for each in coverage]}))
    elif coverage:
        print_coverage(coverage)
    else:
        print(f"the archive {store.root} is empty")


def _archive(archive: Path | None, state_dir: str | None) -> CandleArchive:
    return CandleArchive(run_dir(state_dir).path / "archive" if archive is None else archive.resolve())


def _timeframe(name: str) -> Timeframe:
    try:
        return Timeframe(name)
    except ValueError:
        raise ConfigError(f"unknown timeframe {name!r}: {', '.join(t.value for t in Timeframe)}") from None


def _time(text: str) -> int:
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no date or time; write 2025-01-31 or 2025-01-31T12:00") from None
    given = given.replace(tzinfo=UTC) if given.tzinfo is None else given
    return int(given.timestamp()) * _NS_PER_S


def _range(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    # A bare date as an end is that day's end: from 1 to 31 January are 31 days.
    start_ns, end_ns = None if start is None else _time(start), None if end is None else _time(end)
    if end is not None and end_ns is not None and re.fullmatch(r"[\d-]+", end):
        end_ns += Timeframe.D1.ns
    if start_ns is not None and end_ns is not None and start_ns >= end_ns:
        raise ConfigError(f"--start {start} is not before --end {end}")
    return start_ns, end_ns


def _each(items: Sequence[T], work: Callable[[T], U], jobs: int, doing: str) -> dict[T, U | HeliosError]:
    """Do the work on each item, `jobs` at a time; an item that cannot be done has its error for an answer."""
    with progress("items") as shown, ThreadPoolExecutor(jobs) as pool:
        bar = shown.add_task(doing, total=len(items))

        def advance(_: Future[U]) -> None:
            shown.advance(bar)

        futures = {item: pool.submit(work, item) for item in items}
        for future in futures.values():
            future.add_done_callback(advance)
        answers: dict[T, U | HeliosError] = {}
        try:
            for item, future in futures.items():
                error = future.exception()
                if error is not None and not isinstance(error, HeliosError):
                    raise error
                answers[item] = future.result() if error is None else error
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C what runs ends and what waits never begins
        return answers


def _or_raise(result: U | HeliosError) -> U:
    if isinstance(result, HeliosError):
        raise result
    return result


def _left_out(imported: ImportedSeries) -> bool:
    return imported.counts is not None and imported.counts.conflicting > imported.counts.replaced


def _file_dict(path: Path, result: list[ImportedSeries] | HeliosError) -> dict[str, Any]:
    if isinstance(result, HeliosError):
        return {"file": str(path), "error": str(result)}
    series = [
        {"series": str(each.series), "rows": each.rows, "skipped": each.counts is None, "partial_minutes": each.partial}
        | ({} if each.counts is None else counts_dict(each.counts))
        | ({} if each.report is None else {"report": report_dict(str(each.series), each.report)})
        for each in result
    ]
    return {"file": str(path), "imported": series}


def _print_file(path: Path, result: list[ImportedSeries] | HeliosError) -> None:
    lines = [f"{path.name}: {result}"] if isinstance(result, HeliosError) else []
    for each in [] if isinstance(result, HeliosError) else result:
        said = f"{path.name} -> {each.series}: {each.rows:,} rows"
        if each.counts is None or each.report is None:
            lines.append(f"{said}, imported before")
            continue
        partial = f", {each.partial:,} minutes left out that the rows do not fill" if each.partial else ""
        lines.append(f"{said}: {counts_text(each.counts)}{partial}; {each.report.verdict.name}")
        lines += [f"    {line}" for line in finding_lines(each.report)]
    for line in lines:
        print(line)


def _check_files(files: list[Path], given: Naming, start_ns: int | None, end_ns: int | None, jobs: int) -> dict[str, QualityReport]:
    now_ns = time.time_ns()

    def one(path: Path) -> list[tuple[str, QualityReport]]:
        naming = naming_of(path, given)
        parts = parse_candles(path, read_bytes(path), replace(naming, venue=naming.venue or "file"))
        reports = []
        for part in parts:
            kept = np.ones(len(part.open_times), dtype=np.bool_) if start_ns is None else part.open_times >= start_ns
            kept &= True if end_ns is None else part.open_times < end_ns
            times, bars = part.open_times[kept], part.bars[kept]
            report = check_candles(times, bars, part.series.timeframe, start_ns=start_ns, end_ns=end_ns, now_ns=now_ns)
            reports.append((f"{path} ({part.series})", report))
        return reports

    found = _each(files, one, jobs, "checking")
    return dict(each for result in found.values() for each in _or_raise(result))


def _chosen(store: CandleArchive, venue: str | None, symbol: str | None, timeframe: Timeframe | None) -> list[CandleSeries]:
    chosen = [
        series
        for series in store.series()
        if venue in (None, series.venue) and symbol in (None, series.symbol) and timeframe in (None, series.timeframe)
    ]
    if not chosen:
        wanted = " ".join(each for each in (venue, symbol, timeframe and timeframe.value) if each)
        raise DataError(f"the archive {store.root} has no {wanted or 'candles'}")
    return chosen

"""What `helios data download` and `helios data check --repair` do with a venue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from helios.cli.desk_budget import desk_budget
from helios.cli.history_print import counts_dict, counts_text, progress, span
from helios.cli.rundir import RunDir
from helios.config import VenueConfig, load_config
from helios.errors import ConfigError
from helios.market.quality import QualityReport, check_candles
from helios.store.archive import CandleArchive, CandleSeries
from helios.store.backfill import (
    NOTHING_FETCHED,
    VENUE_ERRORS,
    Fetched,
    Range,
    broken_ranges,
    fetch_all,
    history_begin,
    listed_from,
    missing_ranges,
)
from helios.venues.base import MarketVenue
from helios.venues.factory import make_venue


@dataclass(frozen=True, slots=True)
class Download:
    """What was fetched, and the range that should now be there; `begins` has the series that the venue lists only since later."""

    start_ns: int
    end_ns: int
    begins: dict[CandleSeries, int]
    fetched: dict[CandleSeries, Fetched]
    reports: dict[CandleSeries, QualityReport]


def venue_config(venue: str, rest_url: str | None) -> VenueConfig:
    """Return the configured venue, or another one at its own address or at `rest_url`."""
    config = load_config().venue
    if config.name != venue:
        config = config.model_copy(update={"name": venue, "rest_url": "", "ws_url": ""})
    return config if rest_url is None else config.model_copy(update={"rest_url": rest_url})


def download_series(
    config: VenueConfig,
    store: CandleArchive,
    wanted: list[CandleSeries],
    start_ns: int,
    end_ns: int | None,
    jobs: int,
    directory: RunDir,
) -> Download:
    """Fetch what the archive lacks of closed candles from `start_ns` to `end_ns`, by default up to now, and check it all.

    Requests are those of the desk that runs in `directory`, if one does and asks the same venue.
    """
    return asyncio.run(_download(config, store, wanted, start_ns, end_ns, jobs, directory))


async def _download(
    config: VenueConfig,
    store: CandleArchive,
    wanted: list[CandleSeries],
    start_ns: int,
    end_ns: int | None,
    jobs: int,
    directory: RunDir,
) -> Download:
    step_ns = wanted[0].timeframe.ns
    async with _open(config, directory) as venue:
        now_ns = (await venue.clock()).now_ns()
        last_ns = now_ns // step_ns * step_ns  # what opens then is not closed yet
        end_ns = last_ns if end_ns is None else min(end_ns, last_ns)
        if start_ns >= end_ns:
            raise ConfigError(f"nothing to download: {span(start_ns, end_ns)} holds no closed candle")
        listed = {series: await _listed_day(venue, store, series, start_ns, end_ns) for series in wanted}
        missing = {series: missing_ranges(store, series, listed_from(listed[series], None, start_ns), end_ns) for series in wanted}
        fetched = await _fetch(venue, store, missing, jobs)
    begins = {series: listed_from(listed[series], _first(store, series, start_ns, end_ns), start_ns) for series in wanted}
    reports = {series: check_series(store, series, begins[series], end_ns) for series in wanted}
    later = {series: begin_ns for series, begin_ns in begins.items() if begin_ns > start_ns}
    return Download(start_ns, end_ns, later, fetched, reports)


async def _listed_day(venue: MarketVenue, store: CandleArchive, series: CandleSeries, start_ns: int, end_ns: int) -> int | None:
    """Ask for the first day of a series where the archive lacks the beginning; without an answer nothing is known."""
    gaps = missing_ranges(store, series, start_ns, end_ns)
    if not gaps or gaps[0][0] > start_ns:
        return None
    try:
        return await history_begin(venue, series.symbol, start_ns, end_ns)
    except VENUE_ERRORS:
        return None


def _first(store: CandleArchive, series: CandleSeries, start_ns: int, end_ns: int) -> int | None:
    open_times, _ = store.bars(series, start_ns, end_ns, may_be_absent=True)
    return int(open_times[0]) if len(open_times) else None


def repair_series(
    store: CandleArchive,
    chosen: list[CandleSeries],
    start_ns: int | None,
    end_ns: int | None,
    rest_url: str | None,
    directory: RunDir,
) -> dict[CandleSeries, Fetched]:
    """Fetch missing bars, then impossible ones, from the venue of each series; the venue is right about the latter."""
    fetched: dict[CandleSeries, Fetched] = {}
    for name in dict.fromkeys(series.venue for series in chosen):
        own = [series for series in chosen if series.venue == name]
        fetched |= asyncio.run(_repair(venue_config(name, rest_url), store, own, start_ns, end_ns, directory))
    return fetched


async def _repair(
    config: VenueConfig,
    store: CandleArchive,
    chosen: list[CandleSeries],
    start_ns: int | None,
    end_ns: int | None,
    directory: RunDir,
) -> dict[CandleSeries, Fetched]:
    missing: dict[CandleSeries, list[Range]] = {}
    broken: dict[CandleSeries, list[Range]] = {}
    for series in chosen:
        open_times, bars = store.bars(series, start_ns, end_ns)
        report = check_candles(open_times, bars, series.timeframe, start_ns=start_ns, end_ns=end_ns)
        missing[series] = list(report.gaps)
        broken[series] = broken_ranges(report, open_times, series.timeframe)
    if not any([*missing.values(), *broken.values()]):
        return dict.fromkeys(chosen, NOTHING_FETCHED)
    async with _open(config, directory) as venue:
        filled = await _fetch(venue, store, missing, len(chosen))
        replaced = await _fetch(venue, store, broken, len(chosen), newer_wins=True)
    return {series: filled[series] + replaced[series] for series in chosen}


async def _fetch(
    venue: MarketVenue, store: CandleArchive, wanted: dict[CandleSeries, list[Range]], jobs: int, *, newer_wins: bool = False
) -> dict[CandleSeries, Fetched]:
    with progress("rows") as shown:
        bars = {
            series: shown.add_task(str(series), total=sum(end - start for start, end in ranges) // series.timeframe.ns)
            for series, ranges in wanted.items()
        }
        return await fetch_all(
            venue, store, wanted, lambda series, n: shown.advance(bars[series], n), parallel=jobs, newer_wins=newer_wins
        )


@asynccontextmanager
async def _open(config: VenueConfig, directory: RunDir) -> AsyncIterator[MarketVenue]:
    async with desk_budget(config, directory) as budget:
        venue = make_venue(config, budget)
        try:
            yield venue
        finally:
            await venue.aclose()


def check_series(store: CandleArchive, series: CandleSeries, start_ns: int | None, end_ns: int | None) -> QualityReport:
    """Return the report on what the archive has of a series; the sandbox's clock is not ours, so its bars are never early."""
    now_ns = None if series.venue == "sandbox" else time.time_ns()
    open_times, bars = store.bars(series, start_ns, end_ns, may_be_absent=True)
    return check_candles(open_times, bars, series.timeframe, start_ns=start_ns, end_ns=end_ns, now_ns=now_ns)


def fetched_dict(fetched: Fetched) -> dict[str, Any]:
    """Return what was fetched as JSON types."""
    return {"pages": fetched.pages, "errors": list(fetched.errors), **counts_dict(fetched.counts)}


def print_fetched(fetched: dict[CandleSeries, Fetched], took_s: float | None = None) -> None:
    """Print what was fetched per series, and how fast."""
    for series, each in fetched.items():
        print(f"{series}: {each.pages:,} pages, {counts_text(each.counts)}")
        for error in each.errors:
            print(f"{series}: {error}")
    if took_s is not None:
        rows = sum(each.counts.rows for each in fetched.values())
        print(f"{rows:,} rows in {took_s:.1f} s, {rows / max(took_s, 1e-9):,.0f} rows/s")

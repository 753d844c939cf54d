"""History from a venue into the archive: only what is missing is asked for, and each page is committed before the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, VenueCandle
from helios.errors import DataError, ProtocolError, TransportError, VenueError
from helios.market.merge import MergeCounts, TimeArray
from helios.market.quality import Flag, QualityReport, check_candles
from helios.store.archive import CandleArchive, CandleSeries, Source
from helios.venues.base import MarketVenue

log = logging.getLogger(__name__)

DAY_NS = Timeframe.D1.ns
CANDLES_PER_PAGE = 1_000
DAYS_PER_LOOK = 300  # of daily candles, asked for at once to find where a venue's history begins
DAYS_BEFORE = 7  # looked at too: a first day that is not the wanted one's own proves that there was nothing before
MAX_FAILURES = 3  # pages in a row; the client has by then tried each of them several times
VENUE_ERRORS = (TransportError, VenueError, ProtocolError)

Range = tuple[int, int]
OnRows = Callable[[int], None]
"""Told how many buckets have been dealt with, after they are on disk."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of asking a venue for ranges.

    Attributes
    ----------
    pages : int
        Answers committed to the archive.
    counts : MergeCounts
        What became of the candles.
    errors : tuple of str
        Why pages are missing, each reason once.
    """

    pages: int
    counts: MergeCounts
    errors: tuple[str, ...]

    def __add__(self, other: Fetched) -> Fetched:
        errors = tuple(dict.fromkeys(self.errors + other.errors))
        return Fetched(self.pages + other.pages, self.counts + other.counts, errors)


NOTHING_FETCHED = Fetched(0, MergeCounts(), ())


def missing_ranges(archive: CandleArchive, series: CandleSeries, start_ns: int, end_ns: int) -> list[Range]:
    """Return the ranges of start_ns <= open time < end_ns without candles; raises DataError for a corrupt archive file."""
    open_times, bars = archive.bars(series, start_ns, end_ns, may_be_absent=True)
    return list(check_candles(open_times, bars, series.timeframe, start_ns=start_ns, end_ns=end_ns).gaps)


async def history_begin(venue: MarketVenue, symbol: str, start_ns: int, end_ns: int) -> int | None:
    """Return the open time of the first day from a week before `start_ns` on that the venue has a candle of; None: of none.

    Found with daily candles, a request for most of a year: asking for the minutes of before the listing would take hours and find
    nothing. Raises as the venue does.
    """
    day_ns = (start_ns // DAY_NS - DAYS_BEFORE) * DAY_NS
    while day_ns < end_ns:
        until_ns = min(day_ns + DAYS_PER_LOOK * DAY_NS, -(-end_ns // DAY_NS) * DAY_NS)
        candles = await venue.candles(symbol, Timeframe.D1, day_ns, until_ns)
        if candles:
            return candles[0].open_time
        day_ns = until_ns
    return None


def listed_from(begin_ns: int | None, first_ns: int | None, start_ns: int) -> int:
    """Return from when on candles can be expected: the wanted start, or later where the venue's history begins later.

    Parameters
    ----------
    begin_ns : int or None
        First day of the venue's history, of `history_begin`.
    first_ns : int or None
        Open time of the first candle at hand; on the first day trading begins with it.
    start_ns : int
        Wanted.
    """
    if begin_ns is None or begin_ns + DAY_NS <= start_ns:
        return start_ns
    begins_within = first_ns is not None and begin_ns <= first_ns < begin_ns + DAY_NS
    return max(start_ns, first_ns if begins_within and first_ns is not None else begin_ns)


def broken_ranges(report: QualityReport, open_times: TimeArray, timeframe: Timeframe) -> list[Range]:
    """Return the buckets whose row says something impossible or nothing."""
    times = open_times[report.rows_with(Flag.NOT_FINITE | Flag.BAD_BAR)]
    return [(time, time + timeframe.ns) for time in times[times % timeframe.ns == 0].tolist()]


async def fetch(
    venue: MarketVenue,
    archive: CandleArchive,
    series: CandleSeries,
    ranges: Sequence[Range],
    on_rows: OnRows,
    *,
    newer_wins: bool = False,
) -> Fetched:
    """Ask a venue for ranges, page by page, and commit each page to the archive.

    Parameters
    ----------
    venue : MarketVenue
        Retries and waits for its own limits.
    archive, series : CandleArchive, CandleSeries
    ranges : sequence of (start_ns, end_ns)
        Open times, end excluded.
    on_rows : callable
    newer_wins : bool, default=False
        Whether what the venue says replaces what the archive knows otherwise.

    Raises
    ------
    DataError, ConfigError
        If the archive cannot be read or written, or the venue does not list the symbol.

    Notes
    -----
    A page the venue refuses or does not answer is left out and its reason kept; after three in a row the rest is not asked for.
    Interrupted at any point, what was committed stays, and `missing_ranges` says what to go on with.
    """
    pages, counts, failures = 0, MergeCounts(), 0
    errors: dict[str, None] = {}
    source = Source(f"{series.venue} REST")
    for start_ns, end_ns in _pages(ranges, series.timeframe):
        try:
            candles = await venue.candles(series.symbol, series.timeframe, start_ns, end_ns)
        except VENUE_ERRORS as error:
            log.warning("%s: no candles for a page: %s", series, error)
            errors[str(error)] = None
            failures += 1
            if failures == MAX_FAILURES:
                break
            continue
        failures = 0
        open_times, bars = _rows(candles, start_ns, end_ns)
        if len(open_times):
            counts += await asyncio.to_thread(archive.write, series, open_times, bars, source, newer_wins=newer_wins)
            pages += 1
        on_rows((end_ns - start_ns) // series.timeframe.ns)
    return Fetched(pages, counts, tuple(errors))


async def fetch_all(
    venue: MarketVenue,
    archive: CandleArchive,
    wanted: dict[CandleSeries, list[Range]],
    on_rows: Callable[[CandleSeries, int], None],
    *,
    parallel: int = 4,
    newer_wins: bool = False,
) -> dict[CandleSeries, Fetched]:
    """Fetch several series, at most `parallel` at a time; raises as `fetch`, and DataError for a symbol of another venue."""
    gate = asyncio.Semaphore(parallel)

    async def one(series: CandleSeries) -> Fetched:
        async with gate:
            return await fetch(venue, archive, series, wanted[series], lambda n: on_rows(series, n), newer_wins=newer_wins)

    known = {instrument.symbol for instrument in await venue.instruments()}
    strange = sorted(series.symbol for series in wanted if series.symbol not in known)
    if strange:
        raise DataError(f"the venue does not list {', '.join(strange)}; it lists {', '.join(sorted(known)[:20])}")
    results = await asyncio.gather(*(one(series) for series in wanted))
    return dict(zip(wanted, results, strict=True))


def _pages(ranges: Sequence[Range], timeframe: Timeframe) -> Iterator[Range]:
    # Days, or a thousand candles where that is more, on borders that do not depend on where the range begins.
    page_ns = max(DAY_NS, CANDLES_PER_PAGE * timeframe.ns)
    for start_ns, end_ns in ranges:
        while start_ns < end_ns:
            border_ns = (start_ns // page_ns + 1) * page_ns
            yield start_ns, min(border_ns, end_ns)
            start_ns = border_ns


def _rows(candles: Sequence[VenueCandle], start_ns: int, end_ns: int) -> tuple[TimeArray, FloatArray]:
    kept = [candle for candle in candles if start_ns <= candle.open_time < end_ns]
    bars = np.full((len(kept), len(BAR_VALUES)), np.nan)
    for row, candle in enumerate(kept):
        bars[row, :6] = (candle.open, candle.high, candle.low, candle.close, candle.volume_base, candle.volume_quote)
    return np.array([candle.open_time for candle in kept], dtype=np.int64), bars

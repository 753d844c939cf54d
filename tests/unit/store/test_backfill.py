from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from helios.clock import VenueClock
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument, VenueCandle
from helios.errors import DataError, HeliosError, TransportError
from helios.market.merge import MergeCounts
from helios.store.archive import CandleArchive, CandleSeries
from helios.store.backfill import Fetched, fetch, fetch_all, history_begin, listed_from, missing_ranges
from tests.support.candles import START_NS

DAY, M5 = Timeframe.D1.ns, Timeframe.M5
BTC, ETH = CandleSeries("v", "BTC/ZAR", Timeframe.M1), CandleSeries("v", "ETH/ZAR", Timeframe.M1)


class ListVenue:
    """A venue that knows every candle from `listed_ns` on. `fail` for ranges that raise, `extra` rows it adds unasked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.fail: dict[int, HeliosError] = {}
        self.extra: list[int] = []
        self.listed_ns = 0

    async def instruments(self) -> list[Instrument]:
        return [Instrument(symbol, symbol[:3], "ZAR", "v", symbol) for symbol in ("BTC/ZAR", "ETH/ZAR")]

    async def clock(self) -> VenueClock:
        return VenueClock(START_NS, 0.0)

    async def candles(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        self.asked.append((symbol, start_ns, end_ns))
        if start_ns in self.fail:
            raise self.fail[start_ns]
        times = [t for t in range(start_ns, end_ns, timeframe.ns) if t + timeframe.ns > self.listed_ns] + self.extra
        return [VenueCandle(symbol, timeframe, time, 1.0, 2.0, 0.5, 1.5, 3.0, 4.0) for time in times]

    async def aclose(self) -> None:
        self.asked.clear()


async def run(venue: ListVenue, archive: CandleArchive, series: CandleSeries, start_ns: int, end_ns: int) -> tuple[Fetched, int]:
    done: list[int] = []
    ranges = missing_ranges(archive, series, start_ns, end_ns)
    return await fetch(venue, archive, series, ranges, done.append), sum(done)


async def test_pages_end_at_midnight_and_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    venue, archive = ListVenue(), CandleArchive(tmp_path)
    fetched, done = await run(venue, archive, BTC, START_NS + DAY // 2, START_NS + 2 * DAY + DAY // 4)
    borders = [START_NS + DAY // 2, START_NS + DAY, START_NS + 2 * DAY, START_NS + 2 * DAY + DAY // 4]
    assert [ask[1:] for ask in venue.asked] == list(itertools.pairwise(borders))
    assert (fetched, done) == (Fetched(3, MergeCounts(new=2_520), ()), 2_520)
    venue.asked.clear()
    await run(venue, archive, BTC, START_NS, START_NS + 3 * DAY)
    edges = [(START_NS, START_NS + DAY // 2), (START_NS + 2 * DAY + DAY // 4, START_NS + 3 * DAY)]
    assert [ask[1:] for ask in venue.asked] == edges


async def test_longer_candles_come_in_pages_of_a_thousand(tmp_path: Path) -> None:
    venue, archive = ListVenue(), CandleArchive(tmp_path)
    series = CandleSeries("v", "BTC/ZAR", M5)
    fetched, _ = await run(venue, archive, series, START_NS, START_NS + 30 * DAY)
    assert fetched.counts == MergeCounts(new=30 * 288)
    assert {end - start for _, start, end in venue.asked[1:-1]} == {1_000 * M5.ns}
    assert missing_ranges(archive, series, START_NS, START_NS + 30 * DAY) == []


async def test_a_page_that_fails_is_left_for_next_time(tmp_path: Path) -> None:
    venue, archive = ListVenue(), CandleArchive(tmp_path)
    venue.fail = {START_NS + DAY: TransportError("gone")}
    fetched, done = await run(venue, archive, BTC, START_NS, START_NS + 3 * DAY)
    assert (fetched.errors, fetched.pages, done) == (("gone",), 2, 2 * 1_440)
    assert missing_ranges(archive, BTC, START_NS, START_NS + 3 * DAY) == [(START_NS + DAY, START_NS + 2 * DAY)]
    venue.fail = {}
    assert (await run(venue, archive, BTC, START_NS, START_NS + 3 * DAY))[0].counts == MergeCounts(new=1_440)


async def test_a_venue_that_does_not_answer_is_not_asked_a_month_long(tmp_path: Path) -> None:
    venue = ListVenue()
    venue.fail = {START_NS + day * DAY: TransportError("gone") for day in range(31)}
    fetched, done = await run(venue, CandleArchive(tmp_path), BTC, START_NS, START_NS + 31 * DAY)
    assert (len(venue.asked), fetched, done) == (3, Fetched(0, MergeCounts(), ("gone",)), 0)


async def test_candles_nobody_asked_for_are_not_kept(tmp_path: Path) -> None:
    venue, archive = ListVenue(), CandleArchive(tmp_path)
    venue.extra = [START_NS - 60 * 10**9, START_NS + DAY]
    fetched, _ = await run(venue, archive, BTC, START_NS, START_NS + DAY)
    assert fetched.counts == MergeCounts(new=1_440)


async def test_several_series_are_fetched_and_an_unlisted_one_refused_before_anything(tmp_path: Path) -> None:
    venue, archive = ListVenue(), CandleArchive(tmp_path)
    day = [(START_NS, START_NS + DAY)]
    done: dict[CandleSeries, int] = {}
    fetched = await fetch_all(venue, archive, {BTC: day, ETH: day}, lambda s, n: done.update({s: n}), parallel=1)
    assert {series: each.pages for series, each in fetched.items()} == {BTC: 1, ETH: 1}
    assert done == {BTC: 1_440, ETH: 1_440}
    venue.asked.clear()
    with pytest.raises(DataError, match="does not list XRP/ZAR"):
        await fetch_all(venue, archive, {BTC: day, CandleSeries("v", "XRP/ZAR", Timeframe.M1): day}, lambda s, n: None)
    assert venue.asked == []


@pytest.mark.parametrize(("listed_day", "wanted_day", "asks"), [(0.0, 0, 1), (-400.0, 0, 1), (3.5, 0, 1), (700.5, 0, 3)])
async def test_the_first_day_of_a_history_is_found_with_daily_candles(listed_day: float, wanted_day: int, asks: int) -> None:
    venue = ListVenue()
    venue.listed_ns = START_NS + int(listed_day * DAY)
    found = await history_begin(venue, "BTC/ZAR", START_NS + wanted_day * DAY, START_NS + 800 * DAY)
    assert found == max(START_NS + int(listed_day // 1) * DAY, START_NS - 7 * DAY)
    assert len(venue.asked) == asks


async def test_a_history_that_begins_after_the_wanted_range_is_not_found() -> None:
    venue = ListVenue()
    venue.listed_ns = START_NS + 30 * DAY
    assert await history_begin(venue, "BTC/ZAR", START_NS, START_NS + 10 * DAY) is None


@pytest.mark.parametrize(("begin_day", "first_day", "expected_day"), [
    (None, None, 0), (-7, None, 0), (-1, 0.01, 0),  # there was trading before: what is missing is missing
    (0, 0.5, 0.5), (5, 5.5, 5.5),  # trading began with the first candle of the first day
    (5, None, 5), (5, 6.5, 5), (5, 4.5, 5),  # of the first day nothing is at hand: it is missing
])  # fmt: skip
def test_candles_are_expected_from_the_listing_on(begin_day: int | None, first_day: float | None, expected_day: float) -> None:
    def at(day: float | None) -> int | None:
        return None if day is None else START_NS + int(day * DAY)

    assert listed_from(at(begin_day), at(first_day), START_NS) == at(expected_day)

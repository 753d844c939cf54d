from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import ConfigError, DataError
from helios.market.merge import MergeCounts
from helios.store.archive import PART, CandleArchive, CandleSeries, Source
from tests.support.candles import MINUTE_NS, START_NS, clean_candles

SERIES = CandleSeries("binance", "BTC/USDT:USDT", Timeframe.M1)
SOURCE = Source("BTCUSDT_1m.parquet", "ab12")
DAY = Timeframe.D1.ns


@pytest.fixture
def archive(tmp_path: Path) -> CandleArchive:
    return CandleArchive(tmp_path / "archive")


def part(archive: CandleArchive, month: str = "2025-01") -> Path:
    (path,) = archive.root.glob(f"candles/*/*/*/month={month}/{PART}")
    return path


def test_what_is_written_is_read_bit_by_bit(archive: CandleArchive) -> None:
    times, bars = clean_candles(3_000)
    bars[7, 3], bars[8, 0] = np.nan, -0.0
    assert archive.write(SERIES, times, bars, SOURCE) == MergeCounts(new=3_000)
    read_times, read = archive.bars(SERIES)
    np.testing.assert_array_equal(read_times, times)
    np.testing.assert_array_equal(read.view(np.int64)[~np.isnan(bars)], bars.view(np.int64)[~np.isnan(bars)])
    assert np.isnan(read[np.isnan(bars)]).all()


def test_the_layout_is_what_hive_readers_know(archive: CandleArchive) -> None:
    times, bars = clean_candles(45_000)  # into February
    archive.write(SERIES, times, bars, SOURCE)
    paths = sorted(str(p.relative_to(archive.root)) for p in archive.root.rglob("*.parquet"))
    assert paths == [
        f"candles/venue=binance/symbol=BTC%2FUSDT%3AUSDT/timeframe=1m/month=2025-0{month}/part.parquet" for month in (1, 2)
    ]
    by_polars = pl.scan_parquet(archive.root / "candles/**/*.parquet", hive_partitioning=True).collect()
    assert by_polars.columns == ["open_time", *BAR_VALUES, "venue", "symbol", "timeframe", "month"]
    assert by_polars["symbol"].unique().to_list() == ["BTC/USDT:USDT"]
    assert by_polars["open_time"].dtype == pl.Datetime("ns", "UTC")
    assert by_polars["close"].to_list() == bars[:, 3].tolist()
    by_arrow = ds.dataset(archive.root / "candles", partitioning="hive").to_table()
    assert by_arrow.num_rows == 45_000
    assert set(by_arrow["symbol"].to_pylist()) == {"BTC/USDT:USDT"}


@settings(max_examples=100, deadline=None)
@given(venue=st.text(min_size=1, max_size=20), symbol=st.text(min_size=1, max_size=20))
def test_any_name_comes_back_from_its_path(tmp_path_factory: pytest.TempPathFactory, venue: str, symbol: str) -> None:
    series = CandleSeries(venue, symbol, Timeframe.H1)
    archive = CandleArchive(tmp_path_factory.mktemp("names"))
    try:
        archive.write(series, *clean_candles(1), SOURCE)
    except (UnicodeEncodeError, ConfigError):  # lone surrogates; names longer than a file name may be
        return
    assert archive.series() == [series]


def test_writing_the_same_again_changes_no_byte(archive: CandleArchive) -> None:
    times, bars = clean_candles(500)
    archive.write(SERIES, times, bars, SOURCE)
    before = (part(archive).read_bytes(), part(archive).stat().st_mtime_ns)
    assert archive.write(SERIES, times, bars, SOURCE) == MergeCounts(same=500)
    assert (part(archive).read_bytes(), part(archive).stat().st_mtime_ns) == before


def test_days_in_any_order_make_one_history(archive: CandleArchive) -> None:
    times, bars = clean_candles(4 * 1_440)
    for day in (2, 0, 3, 1):
        rows = slice(day * 1_440, (day + 1) * 1_440)
        archive.write(SERIES, times[rows][::-1], bars[rows][::-1], SOURCE)
    np.testing.assert_array_equal(archive.bars(SERIES)[0], times)
    np.testing.assert_array_equal(archive.bars(SERIES)[1], bars)


def test_a_contradiction_is_counted_and_kept_out(archive: CandleArchive) -> None:
    times, bars = clean_candles(100)
    archive.write(SERIES, times, bars, SOURCE)
    other = bars.copy()
    other[[3, 50], 3] += 0.01
    assert archive.write(SERIES, times, other, Source("other")) == MergeCounts(same=98, conflicting=2)
    np.testing.assert_array_equal(archive.bars(SERIES)[1], bars)
    assert archive.write(SERIES, times, other, Source("other"), newer_wins=True) == MergeCounts(same=98, conflicting=2, replaced=2)
    np.testing.assert_array_equal(archive.bars(SERIES)[1], other)


def test_what_was_unknown_becomes_known_without_conflict(archive: CandleArchive) -> None:
    times, bars = clean_candles(100)
    richer = bars.copy()
    richer[:, 6] = 5.0
    archive.write(SERIES, times, bars, SOURCE)
    assert archive.write(SERIES, times[:60], richer[:60], Source("richer")) == MergeCounts(completed=60)
    assert archive.write(SERIES, times, bars, SOURCE) == MergeCounts(same=100)  # knowing less takes nothing away
    assert archive.bars(SERIES)[1][:, 6].tolist()[58:62] == pytest.approx([5.0, 5.0, np.nan, np.nan], nan_ok=True)


def test_a_time_that_comes_twice_in_one_batch_is_no_second_row(archive: CandleArchive) -> None:
    times, bars = clean_candles(10)
    again = bars[[4, 5]].copy()
    again[1, 3] += 1.0
    counts = archive.write(SERIES, np.concatenate([times, times[[4, 5]]]), np.concatenate([bars, again]), SOURCE)
    assert counts == MergeCounts(new=10, same=1, conflicting=1)
    assert len(archive.bars(SERIES)[0]) == 10


def test_ranges_are_cut_to_the_row(archive: CandleArchive) -> None:
    times, bars = clean_candles(60 * 1_440)
    archive.write(SERIES, times, bars, SOURCE)
    low, high = 30 * 1_440 + 7, 45 * 1_440 + 3
    start, end = int(times[low]), int(times[high])
    np.testing.assert_array_equal(archive.bars(SERIES, start, end)[0], times[low:high])
    frame = archive.scan(SERIES, start, end).select("open_time", "close").collect()
    assert frame["close"].to_list() == bars[low:high, 3].tolist()
    assert archive.bars(SERIES, 0, START_NS)[0].tolist() == []
    assert archive.scan(SERIES, 0, START_NS).collect().height == 0


def test_a_scan_reads_only_the_months_and_columns_it_needs(archive: CandleArchive) -> None:
    archive.write(SERIES, *clean_candles(60 * 1_440), SOURCE)
    march = START_NS + 59 * DAY
    plan = archive.scan(SERIES, march).select("close").explain()
    assert "SELECTION" in plan  # the filter is in the scan, and so is the choice of columns
    assert "PROJECT 2/14 COLUMNS" in plan
    part(archive, "2025-01").write_bytes(b"broken")
    assert archive.scan(SERIES, march).collect().height == 1_440


def test_a_scan_shows_what_was_there_when_it_began(archive: CandleArchive) -> None:
    times, bars = clean_candles(3_000)
    archive.write(SERIES, times[:1_000], bars[:1_000], SOURCE)
    frame = archive.scan(SERIES)
    archive.write(SERIES, times, bars, SOURCE)
    assert frame.collect()["close"].to_list() == bars[:1_000, 3].tolist()
    assert archive.scan(SERIES).select("symbol").unique().collect().to_series().to_list() == ["BTC/USDT:USDT"]


def test_the_last_thousand_of_ten_thousand_come_newest_first_within_half_a_second(archive: CandleArchive) -> None:
    import time

    times, bars = clean_candles(10_000)
    archive.write(SERIES, times, bars, SOURCE)
    begun = time.perf_counter()
    newest, values = archive.latest(SERIES, 1_000)
    assert time.perf_counter() - begun < 0.5
    assert newest.tolist() == times[:-1_001:-1].tolist()
    np.testing.assert_array_equal(values, bars[:-1_001:-1])
    assert len(archive.latest(SERIES, 99_999)[0]) == 10_000


def test_coverage_says_what_is_there_and_from_where(archive: CandleArchive) -> None:
    times, bars = clean_candles(45_000)
    archive.write(SERIES, times[10:], bars[10:], SOURCE)
    archive.write(SERIES, times[:5], bars[:5], Source("other.csv", "cd34"))
    hours = CandleSeries("aaa", "X", Timeframe.H1)
    archive.write(hours, *clean_candles(3, step_ns=Timeframe.H1.ns), SOURCE)
    first, second = archive.coverage()
    assert (first.series, first.rows, first.expected_rows) == (hours, 3, 3)
    assert (second.series, second.rows, second.expected_rows) == (SERIES, 44_995, 45_000)
    assert (second.first_ns, second.last_ns) == (int(times[0]), int(times[-1]))
    assert [month.sources for month in second.months] == [(SOURCE, Source("other.csv", "cd34")), (SOURCE,)]
    assert archive.has_source(SERIES, ["2025-01", "2025-02"], "ab12")
    assert not archive.has_source(SERIES, ["2025-01", "2025-02"], "cd34")
    assert not archive.has_source(SERIES, ["2025-03"], "ab12")


def test_what_is_not_there_is_said(archive: CandleArchive) -> None:
    assert archive.coverage() == archive.series() == []
    for ask in (archive.bars, archive.scan, archive.months):
        with pytest.raises(DataError, match=r"has no binance BTC/USDT:USDT 1m"):
            ask(SERIES)
    assert len(archive.bars(SERIES, may_be_absent=True)[0]) == 0
    with pytest.raises(ConfigError, match="needs a venue"):
        archive.write(CandleSeries("", "X", Timeframe.M1), *clean_candles(1), SOURCE)
    with pytest.raises(DataError, match="open times"):
        archive.write(SERIES, clean_candles(2)[0], clean_candles(3)[1], SOURCE)


def test_an_archive_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the archive"):
        CandleArchive(tmp_path / "file").write(SERIES, *clean_candles(1), SOURCE)


@pytest.mark.parametrize("damage", ["empty", "half", "text", "no_key", "other_rows"])
def test_a_corrupt_file_is_one_error_that_names_it_and_is_not_written_over(archive: CandleArchive, damage: str) -> None:
    import pyarrow.parquet as pq

    times, bars = clean_candles(1_000)
    archive.write(SERIES, times, bars, SOURCE)
    path = part(archive)
    content = path.read_bytes()
    if damage in ("no_key", "other_rows"):
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata(None) if damage == "no_key" else table[:10], path)
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "text": b"time,open\n1,2\n"}[damage])
    content = path.read_bytes()
    for act in (archive.coverage, lambda: archive.scan(SERIES), lambda: archive.write(SERIES, times, bars, Source("new"))):
        with pytest.raises(DataError) as caught:
            act()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_single_flipped_bit_is_never_read_as_a_value(archive: CandleArchive) -> None:
    times, bars = clean_candles(1_000)
    archive.write(SERIES, times, bars, SOURCE)
    path = part(archive)
    content = path.read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for place in rng.integers(0, len(content), 300).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with suppress(DataError):
            read_times, read = archive.bars(SERIES)
            # Still here: a bit of the footer that says nothing about the rows.
            np.testing.assert_array_equal(read_times, times)
            np.testing.assert_array_equal(read, bars)
            continue
        refused += 1
    assert refused > 250


def test_the_rest_of_a_killed_writer_is_ignored_and_written_over(archive: CandleArchive) -> None:
    times, bars = clean_candles(100)
    archive.write(SERIES, times[:50], bars[:50], SOURCE)
    rest = part(archive).with_suffix(".new")
    rest.write_bytes(b"half a fi")
    assert len(archive.bars(SERIES)[0]) == 50
    assert archive.coverage()[0].rows == 50
    archive.write(SERIES, times, bars, SOURCE)
    assert not rest.exists()
    assert len(archive.bars(SERIES)[0]) == 100


def test_a_minute_off_the_month_lands_in_its_own(archive: CandleArchive) -> None:
    february = START_NS + 31 * DAY
    times = np.array([february - MINUTE_NS, february], dtype=np.int64)
    archive.write(SERIES, times, clean_candles(2)[1], SOURCE)
    assert [(month.month, month.rows) for month in archive.months(SERIES)] == [("2025-01", 1), ("2025-02", 1)]

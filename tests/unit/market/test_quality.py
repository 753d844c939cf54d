from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helios.domain.enums import Timeframe
from helios.errors import DataError
from helios.market.quality import Flag, QualityReport, QualityRules, Verdict, check_candles
from helios.store.candle_files import Naming, parse_candles
from tests.support.candles import MINUTE_NS, START_NS, clean_candles

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[3].parent / "shared/data/recorded"))


def check(times: np.ndarray, bars: np.ndarray, **options: Any) -> QualityReport:
    return check_candles(times, bars, Timeframe.M1, **options)


def found(report: QualityReport) -> dict[str, int]:
    return {finding.name: finding.count for finding in report.findings if finding.count}


def minute(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def test_clean_candles_are_ok_with_a_full_score() -> None:
    report = check(*clean_candles(2_000))
    assert (report.verdict, report.score, found(report)) == (Verdict.OK, 1.0, {})
    assert (report.rows, report.expected_rows, report.flags.any()) == (2_000, 2_000, False)


def test_a_month_of_31_days_is_expected_whole() -> None:
    # 1 to 31 January are 44,640 minutes, whatever is there.
    times, bars = clean_candles(43_200)
    report = check(times, bars, start_ns=START_NS, end_ns=minute("2025-02-01"))
    assert (report.expected_rows, report.finding("gaps").count) == (44_640, 1_440)
    assert report.gaps == ((minute("2025-01-31"), minute("2025-02-01")),)


def test_gaps_have_counts_ranges_and_the_longest() -> None:
    times, bars = clean_candles(1_000)
    kept = np.ones(1_000, dtype=bool)
    kept[100:105] = kept[500] = False
    report = check(times[kept], bars[kept])
    gaps = report.finding("gaps")
    assert (gaps.count, gaps.longest, report.verdict) == (6, 5, Verdict.WARN)
    assert gaps.ranges == ((int(times[100]), int(times[105])), (int(times[500]), int(times[501])))
    assert report.score == pytest.approx(1 - 6 / 1_000)
    assert report.rows_with(Flag.AFTER_GAP).tolist() == [100, 495]


def test_a_gap_at_either_end_of_the_range_counts() -> None:
    times, bars = clean_candles(100)
    report = check(times, bars, start_ns=START_NS - 3 * MINUTE_NS, end_ns=int(times[-1]) + 3 * MINUTE_NS)
    assert (report.finding("gaps").count, len(report.gaps)) == (5, 2)


def test_a_score_below_95_percent_warns_and_a_fifth_missing_is_bad() -> None:
    times, bars = clean_candles(1_000)
    assert check(times[:940], bars[:940], end_ns=int(times[-1]) + MINUTE_NS).score == pytest.approx(0.94)
    assert check(times[:790], bars[:790], end_ns=int(times[-1]) + MINUTE_NS).verdict is Verdict.BAD


def test_no_rows_are_bad() -> None:
    report = check(*clean_candles(0), start_ns=START_NS, end_ns=START_NS + 10 * MINUTE_NS)
    assert (report.verdict, report.score, report.finding("gaps").count) == (Verdict.BAD, 0.0, 10)
    assert check(*clean_candles(0)).verdict is Verdict.BAD


def test_a_repeated_time_is_one_duplicate_even_with_other_values() -> None:
    times, bars = clean_candles(300)
    order = np.insert(np.arange(300), 50, 49)
    other = bars[order]
    other[50, CLOSE] += 0.5
    report = check(times[order], other)
    assert (found(report), report.verdict) == ({"duplicate": 1}, Verdict.BAD)
    assert report.rows_with(Flag.DUPLICATE).tolist() == [50]


def test_a_row_older_than_one_before_it_is_out_of_order() -> None:
    times, bars = clean_candles(300)
    order = np.arange(300)
    order[[100, 101]] = order[[101, 100]]
    report = check(times[order], bars[order])
    assert (found(report), report.rows_with(Flag.OUT_OF_ORDER).tolist()) == ({"out_of_order": 1}, [101])


@pytest.mark.parametrize(("column", "value"), [(OPEN, np.nan), (CLOSE, np.inf), (VOLUME, np.nan), (5, np.inf)])
def test_what_is_missing_or_infinite_is_bad(column: int, value: float) -> None:
    times, bars = clean_candles(300)
    bars[7, column] = value
    report = check(times, bars)
    assert report.rows_with(Flag.NOT_FINITE).tolist() == [7]
    assert report.verdict is Verdict.BAD


def test_unknown_flow_and_book_are_no_fault() -> None:
    times, bars = clean_candles(300)
    bars[:, 5:] = np.nan
    assert check(times, bars).verdict is Verdict.OK


# The issue's own test, "open <= high, low <= close, high >= low", lets the first two pass.
@pytest.mark.parametrize("changes", [
    {LOW: 100.5, OPEN: 100.0, CLOSE: 101.0, HIGH: 102.0},
    {LOW: 99.0, OPEN: 100.0, CLOSE: 103.0, HIGH: 102.0},
    {LOW: 99.0, OPEN: 103.0, CLOSE: 100.0, HIGH: 102.0},
    {LOW: 0.0}, {LOW: -1.0}, {VOLUME: -1.0}, {7: 5.0, VOLUME: 4.0}, {6: -1.0},
])  # fmt: skip
def test_a_bar_that_contradicts_itself_is_bad(changes: dict[int, float]) -> None:
    times, bars = clean_candles(300)
    bars[:, :4] *= 100.0 / bars[0, 0]
    for column, value in changes.items():
        bars[200, column] = value
    report = check(times, bars)
    assert report.rows_with(Flag.BAD_BAR).tolist() == [200]
    assert report.verdict is Verdict.BAD


def test_a_single_wrong_print_is_one_outlier() -> None:
    times, bars = clean_candles(500)
    bars[300, [HIGH, CLOSE]] *= 1.2
    report = check(times, bars)
    assert (report.rows_with(Flag.OUTLIER).tolist(), report.verdict) == ([300], Verdict.WARN)


def test_a_new_level_is_one_outlier_not_one_per_bar() -> None:
    times, bars = clean_candles(500)
    bars[300:, :4] *= 0.8
    bars[300, [OPEN, HIGH]] /= 0.8
    assert check(times, bars).rows_with(Flag.OUTLIER).tolist() == [300]


def test_a_wick_far_beyond_the_body_is_an_outlier() -> None:
    times, bars = clean_candles(500)
    bars[300, LOW] *= 0.85
    assert check(times, bars).rows_with(Flag.OUTLIER).tolist() == [300]


def test_large_moves_of_a_wild_market_are_none() -> None:
    times, bars = clean_candles(500)
    factor = np.where(np.arange(500) % 2, 1.09, 1.0)  # every bar moves by nine percent, then one by thirteen
    factor[400] = 1.22
    bars[:, :4] *= factor[:, None]
    assert check(times, bars).finding("outlier").count == 0
    assert check(times, bars, rules=QualityRules(outlier_scales=0.5)).finding("outlier").count == 1


def test_moves_across_a_gap_are_not_compared() -> None:
    times, bars = clean_candles(500)
    bars[300:, :4] *= 1.5
    kept = np.arange(500) != 300
    assert found(check(times[kept], bars[kept])) == {"gaps": 1}


def test_flags_do_not_depend_on_what_comes_later() -> None:
    times, bars = clean_candles(2_000)
    bars[900, CLOSE] *= 1.3
    bars[900, HIGH] *= 1.3
    bars[1_200:1_230, VOLUME] = bars[::50, VOLUME] = 0.0
    bars[1_500:1_560, CLOSE] = bars[1_499, CLOSE]
    whole = check(times, bars).flags
    for end in (901, 950, 1_205, 1_215, 1_540, 1_999):
        np.testing.assert_array_equal(check(times[:end], bars[:end]).flags, whole[:end])


def test_an_outage_of_a_liquid_market_is_named_from_its_first_minute() -> None:
    times, bars = clean_candles(3_000)
    bars[2_500:2_513, VOLUME] = 0.0
    report = check(times, bars)
    assert report.finding("outage").ranges == ((int(times[2_500]), int(times[2_513])),)
    assert (report.finding("outage").longest, report.verdict, report.score) == (13, Verdict.WARN, 1.0)


def test_minutes_without_trades_of_an_illiquid_market_are_only_noted() -> None:
    times, bars = clean_candles(3_000)
    bars[np.random.default_rng(5).random(3_000) < 0.3, VOLUME] = 0.0
    report = check(times, bars)
    assert report.finding("no_trades").count > 800
    assert (report.finding("outage").count, report.verdict) == (0, Verdict.OK)


def test_a_price_that_stands_still_while_trades_go_on_is_stale() -> None:
    times, bars = clean_candles(500)
    bars[100:141, CLOSE] = bars[100, CLOSE]
    bars[100:142, HIGH], bars[100:142, LOW] = 60_000.0, 40_000.0
    report = check(times, bars, rules=QualityRules(outlier_log_return=1.0))
    assert report.rows_with(Flag.STALE).tolist() == list(range(130, 141))
    bars[100:141, VOLUME] = 0.0
    assert check(times, bars, rules=QualityRules(outlier_log_return=1.0)).finding("stale").count == 0


def test_times_off_the_grid_and_in_the_future_are_bad() -> None:
    times, bars = clean_candles(300)
    off = times.copy()
    off[20] += 1
    report = check(off, bars)
    assert report.rows_with(Flag.MISALIGNED).tolist() == [20]
    assert report.finding("gaps").count == 1  # its bucket has no candle
    late = check(times, bars, now_ns=int(times[-1]))
    assert late.rows_with(Flag.FUTURE).tolist() == [298 + 1]
    assert check(times, bars, now_ns=int(times[-1]) + MINUTE_NS).verdict is Verdict.OK


def test_a_volume_far_above_the_usual_is_noted() -> None:
    times, bars = clean_candles(500)
    bars[400, VOLUME] = 1e5
    report = check(times, bars)
    assert (report.rows_with(Flag.VOLUME_SPIKE).tolist(), report.verdict) == ([400], Verdict.OK)


def test_shapes_that_do_not_fit_are_refused() -> None:
    times, bars = clean_candles(5)
    with pytest.raises(DataError, match="values of shape"):
        check(times[:4], bars)


@pytest.mark.realdata
@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"recorded data not found under {RECORDED}")
@pytest.mark.parametrize(("file", "outages"), [
    ("binance-perp-1m-2025-02/BTCUSDT_1m", [("2025-01-29T01:23", "2025-01-29T01:36"), ("2025-01-29T02:41", "2025-01-29T02:45")]),
    ("binance-perp-1m-2025-02/XRPUSDT_1m", [("2025-01-29T01:23", "2025-01-29T01:36"), ("2025-01-29T02:41", "2025-01-29T02:45")]),
    ("binance-perp-5m-2025/SOLUSDT_5m", [("2025-01-29T01:25", "2025-01-29T01:35"), ("2025-08-29T06:20", "2025-08-29T06:35")]),
    ("binance-perp-15m-2022/BTCUSDT_15m", [
        ("2022-05-01T22:30", "2022-05-01T22:45"), ("2022-05-28T16:45", "2022-05-28T17:15"), ("2024-10-28T20:00", "2024-10-28T21:00"),
    ]),
    ("binance-spot-1m-2025-05/ETHUSDT_1m", []),
    ("bybit-perp-5m-2025/BTCUSDT_5m", []),
])  # fmt: skip
def test_recorded_histories_show_their_known_outages_and_nothing_bad(file: str, outages: list[tuple[str, str]]) -> None:
    path = RECORDED / f"{file}.parquet"
    timeframe = Timeframe(file.rsplit("_", 1)[1])
    (part,) = parse_candles(path, path.read_bytes(), Naming("recorded", "X", timeframe))
    report = check_candles(part.open_times, part.bars, timeframe, now_ns=minute("2026-01-01"))
    assert report.finding("outage").ranges == tuple((minute(a), minute(b)) for a, b in outages)
    assert report.verdict is (Verdict.WARN if outages else Verdict.OK)
    assert report.score > 0.999


@pytest.mark.realdata
@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"recorded data not found under {RECORDED}")
def test_no_recorded_history_is_bad() -> None:
    for path in sorted(RECORDED.glob("*/*_[0-9]*m.parquet")):
        timeframe = Timeframe(path.stem.rsplit("_", 1)[1])
        (part,) = parse_candles(path, path.read_bytes(), Naming("recorded", "X", timeframe))
        report = check_candles(part.open_times, part.bars, timeframe, now_ns=minute("2026-01-01"))
        assert report.verdict < Verdict.BAD, path
        assert report.finding("gaps").count == 0, path

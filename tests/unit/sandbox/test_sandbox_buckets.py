from __future__ import annotations

import numpy as np
import pytest

from helios.domain.enums import Timeframe
from helios.domain.market import VenueCandle
from helios.venues.sandbox.buckets import DAY_NS, BucketStore, days_before

MINUTE_NS = 60_000_000_000
START_NS = 20_000 * DAY_NS


def rows(n: int) -> np.ndarray:
    close = 100.0 + np.arange(n)
    return np.column_stack([close - 1, close + 2, close - 3, close, np.full(n, 2.0), 2.0 * close])


def test_minutes_come_oldest_first_within_the_range() -> None:
    store = BucketStore(START_NS, rows(100), np.empty((0, 6)))
    found = store.query(60, START_NS + 10 * MINUTE_NS, START_NS + 13 * MINUTE_NS)
    assert [(b.start_ns - START_NS) // MINUTE_NS for b in found] == [10, 11, 12]
    assert found[0].prices == (109.0, 112.0, 107.0, 110.0)


def test_coarse_buckets_aggregate_minutes_and_leave_out_the_open_one() -> None:
    store = BucketStore(START_NS, rows(12), np.empty((0, 6)))
    found = store.query(300, START_NS, START_NS + 100 * MINUTE_NS)
    assert [b.prices for b in found] == [(99.0, 106.0, 97.0, 104.0), (104.0, 111.0, 102.0, 109.0)]
    assert [b.volume for b in found] == [10.0, 10.0]


def test_range_before_the_history_is_empty() -> None:
    store = BucketStore(START_NS, rows(12), np.empty((0, 6)))
    assert store.query(60, START_NS - 100 * MINUTE_NS, START_NS) == []


def test_days_reach_further_back_and_meet_the_minutes() -> None:
    minutes = rows(2 * 1440)
    days = days_before(np.random.default_rng(1), minutes, 65, 0.01)
    store = BucketStore(START_NS, minutes, days)
    found = store.query(86400, START_NS - 100 * DAY_NS, START_NS + 5 * DAY_NS)
    assert len(found) == 67
    assert set(np.diff([b.start_ns for b in found])) == {DAY_NS}
    assert found[64].prices[3] == pytest.approx(minutes[0, 0])
    assert found[63].prices[3] == found[64].prices[0]
    assert all(b.prices[2] <= min(b.prices) and b.prices[1] >= max(b.prices) for b in found)


def test_appended_minutes_must_follow() -> None:
    store = BucketStore(START_NS, rows(2), np.empty((0, 6)))
    candle = VenueCandle("BTC/ZAR", Timeframe.M1, START_NS + 2 * MINUTE_NS, 1.0, 2.0, 0.5, 1.5, 3.0, 4.0)
    store.append(candle)
    assert store.query(60, store.end_ns - MINUTE_NS, store.end_ns)[0].volume == 3.0
    with pytest.raises(ValueError, match="does not follow"):
        store.append(candle)


def test_store_grows_beyond_its_first_capacity() -> None:
    store = BucketStore(START_NS, rows(1), np.empty((0, 6)))
    for i in range(1, 3_000):
        store.append(VenueCandle("X", Timeframe.M1, START_NS + i * MINUTE_NS, 1.0, 1.0, 1.0, float(i), 1.0, 1.0))
    assert store.query(60, store.end_ns - MINUTE_NS, store.end_ns)[0].prices[3] == 2_999.0

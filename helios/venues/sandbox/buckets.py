"""Closed minutes of one pair and the coarser candles made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helios.domain.market import VenueCandle
from helios.venues.sandbox.macro import MINUTE_NS, FloatArray, IntArray

PERIODS_S = (60, 300, 900, 1800, 3600, 21600, 86400)
DAY_NS = 86_400_000_000_000
DAILY_SIGMA = 0.03


@dataclass(frozen=True, slots=True)
class Bucket:
    """A candle of any of the venue's periods."""

    start_ns: int
    prices: tuple[float, float, float, float]
    volume: float
    quote_volume: float


class BucketStore:
    """Minutes without holes, oldest first, growing at the end.

    Parameters
    ----------
    start_ns : int
        Open time of the first minute, a midnight (UTC).
    minutes : ndarray of shape (n, 6)
        Open, high, low, close, volume, quote volume.
    days : ndarray of shape (m, 6)
        Daily candles of the days before `start_ns`, oldest first.
    """

    def __init__(self, start_ns: int, minutes: FloatArray, days: FloatArray) -> None:
        self._start_ns = start_ns
        self._days = days
        self._n = len(minutes)
        self._rows = np.empty((2 * self._n + 1440, 6))
        self._rows[: self._n] = minutes

    @property
    def start_ns(self) -> int:
        """Open time of the first minute."""
        return self._start_ns

    @property
    def end_ns(self) -> int:
        """Close time of the last minute."""
        return self._start_ns + self._n * MINUTE_NS

    def append(self, candle: VenueCandle) -> None:
        """Add the next closed minute."""
        if candle.open_time != self.end_ns:
            raise ValueError(f"{candle.symbol}: minute {candle.open_time} does not follow {self.end_ns}")
        if self._n == len(self._rows):
            self._rows = np.vstack([self._rows, np.empty_like(self._rows)])
        self._rows[self._n] = (
            candle.open, candle.high, candle.low, candle.close, candle.volume_base, candle.volume_quote,
        )  # fmt: skip
        self._n += 1

    def last_day(self) -> FloatArray:
        """Return the minutes of the last 24 hours (at most), a read-only view."""
        view = self._rows[max(0, self._n - 1440) : self._n]
        view.flags.writeable = False
        return view

    def rows(self) -> tuple[FloatArray, FloatArray]:
        """Return all closed minutes and the older days, read-only views that later minutes do not change."""
        minutes, days = self._rows[: self._n], self._days[:]
        minutes.flags.writeable = days.flags.writeable = False
        return minutes, days

    def query(self, period_s: int, start_ns: int, end_ns: int) -> list[Bucket]:
        """Return the closed buckets with start_ns <= start < end_ns, oldest first."""
        period = period_s * 1_000_000_000
        first = -(-start_ns // period) * period
        days = self._older_days(first, end_ns) if period == DAY_NS else []
        first = max(first, self._start_ns)
        last = min(-(-end_ns // period) * period, self.end_ns // period * period)
        if last <= first:
            return days
        step = period // MINUTE_NS
        a, b = (first - self._start_ns) // MINUTE_NS, (last - self._start_ns) // MINUTE_NS
        return days + _to_buckets(first, period, _aggregate(self._rows[a:b], step))

    def _older_days(self, start_ns: int, end_ns: int) -> list[Bucket]:
        first = self._start_ns - len(self._days) * DAY_NS
        buckets = _to_buckets(first, DAY_NS, self._days)
        return [bucket for bucket in buckets if start_ns <= bucket.start_ns < end_ns]


def days_before(rng: np.random.Generator, minutes: FloatArray, n_days: int, tick: float) -> FloatArray:
    """Return daily candles (n_days, 6) that end at the first minute's open: a random walk backwards, volume as in `minutes`."""
    returns = DAILY_SIGMA * rng.standard_normal(n_days)
    log_close = np.log(minutes[0, 0]) - np.append(np.cumsum(returns[::-1])[::-1][1:], 0.0)
    log_open = log_close - returns
    reach = DAILY_SIGMA * np.abs(rng.standard_normal((2, n_days))) * 0.5
    logs = (log_open, np.maximum(log_open, log_close) + reach[0], np.minimum(log_open, log_close) - reach[1], log_close)
    prices = np.round(np.rint(np.exp(np.stack(logs, axis=1)) / tick) * tick, 8)
    per_day = minutes[:, 4].mean() * 1440 * np.exp(0.2 * rng.standard_normal(n_days))
    return np.column_stack([prices, per_day, per_day * prices[:, 3]])


def _aggregate(rows: FloatArray, step: int) -> FloatArray:
    blocks = rows.reshape(-1, step, 6)
    return np.column_stack([
        blocks[:, 0, 0], blocks[:, :, 1].max(axis=1), blocks[:, :, 2].min(axis=1), blocks[:, -1, 3],
        blocks[:, :, 4].sum(axis=1), blocks[:, :, 5].sum(axis=1),
    ])  # fmt: skip


def _to_buckets(first_ns: int, period_ns: int, rows: FloatArray) -> list[Bucket]:
    starts: IntArray = first_ns + period_ns * np.arange(len(rows), dtype=np.int64)
    return [Bucket(int(start), (row[0], row[1], row[2], row[3]), row[4], row[5]) for start, row in zip(starts, rows.tolist())]

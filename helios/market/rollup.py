"""Higher timeframes from closed one-minute bars."""

from __future__ import annotations

import math

from helios.domain.enums import Timeframe
from helios.domain.market import NAN, Bar


class MeanOfKnown:
    """Mean of the values that are not NaN; NaN if there are none."""

    __slots__ = ("_count", "_total")

    def __init__(self) -> None:
        self._total = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        """Take one value."""
        if not math.isnan(value):
            self._total += value
            self._count += 1

    @property
    def mean(self) -> float:
        """The mean so far."""
        return self._total / self._count if self._count else NAN


class Rollup:
    """One higher bar at a time from consecutive minutes.

    First open, highest high, lowest low, last close; volumes and counts are summed (one unknown minute makes the sum unknown);
    spread, imbalance and depth are means over the minutes that have them; trade momentum and microprice are the last minute's.
    A bucket that misses a minute gives no bar: half a bar would look like a whole one.

    Parameters
    ----------
    timeframe : Timeframe
        A multiple of one minute; buckets are aligned to the epoch in UTC.
    """

    def __init__(self, timeframe: Timeframe) -> None:
        self.timeframe = timeframe
        self._open_time: int | None = None
        self._next_open_time: int | None = None

    def add(self, minute: Bar) -> Bar | None:
        """Take the next minute and return the bar it completes, if any."""
        if minute.open_time != self._next_open_time:
            self._open_time = None
        self._next_open_time = minute.close_time
        if minute.open_time % self.timeframe.ns == 0:
            self._begin(minute)
        if self._open_time is None:
            return None
        self._extend(minute)
        if minute.close_time - self._open_time < self.timeframe.ns:
            return None
        bar = self._bar(minute)
        self._open_time = None
        return bar

    def _begin(self, minute: Bar) -> None:
        self._open_time = minute.open_time
        self._open, self._high, self._low = minute.open, minute.high, minute.low
        self._volume = self._quote = self._count = self._buy = 0.0
        self._spread, self._imbalance, self._depth = MeanOfKnown(), MeanOfKnown(), MeanOfKnown()

    def _extend(self, minute: Bar) -> None:
        self._high = max(self._high, minute.high)
        self._low = min(self._low, minute.low)
        self._volume += minute.volume
        self._quote += minute.quote_volume
        self._count += minute.trade_count
        self._buy += minute.buy_volume
        self._spread.add(minute.spread_bps)
        self._imbalance.add(minute.book_imbalance)
        self._depth.add(minute.depth_log)

    def _bar(self, last: Bar) -> Bar:
        assert self._open_time is not None
        return Bar(
            symbol=last.symbol,
            timeframe=self.timeframe,
            open_time=self._open_time,
            open=self._open,
            high=self._high,
            low=self._low,
            close=last.close,
            volume=self._volume,
            quote_volume=self._quote,
            trade_count=self._count,
            buy_volume=self._buy,
            spread_bps=self._spread.mean,
            book_imbalance=self._imbalance.mean,
            depth_log=self._depth.mean,
            trade_momentum=last.trade_momentum,
            microprice_bps=last.microprice_bps,
        )

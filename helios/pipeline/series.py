"""What closed minutes make of themselves: higher bars, features, and the past that tiers 3 and 5 are seeded with."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import Bar
from helios.features.stream import FeatureState
from helios.market.candles import ALL_TIMEFRAMES
from helios.market.rollup import Rollup

CLOSES_KEPT = 8_640  # thirty days of five-minute closes: what the volatility model may use
HOURS_KEPT = 2_160  # ninety days of hourly closes: what the covariance may use
HOURS_OF_TURNOVER = 720


@dataclass(frozen=True, slots=True)
class SymbolHistory:
    """What tiers 3 and 5 need of a symbol's past when it becomes tradable.

    Attributes
    ----------
    closes : FloatArray
        Closes of the decision timeframe up to and including `end_time`, oldest first.
    hourly_times : int array
        Close times of the hourly closes, ns UTC.
    turnover_quote : float
        Quote turnover of the last thirty days.
    """

    symbol: str
    closes: FloatArray
    end_time: int
    hourly_times: np.ndarray
    hourly_closes: FloatArray
    turnover_quote: float


class BarSeries:
    """Bars of every timeframe of one symbol and the features of three of them, from minutes in order.

    A bar that is not newer than the last one of its timeframe is dropped, so history and live bars may overlap.
    """

    def __init__(self, symbol: str, decision_timeframe: Timeframe) -> None:
        self.symbol = symbol
        self.decision_timeframe = decision_timeframe
        self.features = FeatureState(symbol)
        self._rollups = [Rollup(timeframe) for timeframe in ALL_TIMEFRAMES if timeframe is not Timeframe.M1]
        self._last_open: dict[Timeframe, int] = {}
        self._closes: deque[float] = deque(maxlen=CLOSES_KEPT)
        self._closes_end = 0
        self._hours: deque[tuple[int, float, float]] = deque(maxlen=HOURS_KEPT)

    def add_minute(self, minute: Bar) -> list[Bar]:
        """Take the next closed minute and return the bars that it closes, itself first; without those known already."""
        closed = [minute, *(bar for rollup in self._rollups if (bar := rollup.add(minute)) is not None)]
        return [bar for bar in closed if self.learn(bar)]

    def learn(self, bar: Bar) -> bool:
        """Take a closed bar of any timeframe; whether it was new."""
        if bar.open_time <= self._last_open.get(bar.timeframe, -1):
            return False
        self._last_open[bar.timeframe] = bar.open_time
        self.features.on_bar(bar)
        if bar.timeframe is self.decision_timeframe:
            self._closes.append(bar.close)
            self._closes_end = bar.close_time
        if bar.timeframe is Timeframe.H1:
            self._hours.append((bar.close_time, bar.close, turnover_quote(bar)))
        return True

    def warm(self, history: Mapping[Timeframe, Sequence[Bar]]) -> None:
        """Take closed bars of the past: each timeframe's own; the minutes are to be added afterwards, one by one."""
        for timeframe in reversed(ALL_TIMEFRAMES):
            for bar in history.get(timeframe, ()):
                self.learn(bar)

    def last_open(self, timeframe: Timeframe) -> int | None:
        """Open time of the newest bar known, ns UTC."""
        return self._last_open.get(timeframe)

    def history(self) -> SymbolHistory:
        """Return what tiers 3 and 5 are seeded with."""
        return SymbolHistory(
            symbol=self.symbol,
            closes=np.array(self._closes, dtype=np.float64),
            end_time=self._closes_end,
            hourly_times=np.array([h[0] for h in self._hours], dtype=np.int64),
            hourly_closes=np.array([h[1] for h in self._hours], dtype=np.float64),
            turnover_quote=float(sum(h[2] for h in list(self._hours)[-HOURS_OF_TURNOVER:])),
        )

    def copy(self) -> Self:
        """Return a series that goes on by itself."""
        return copy.deepcopy(self)


class RevisableSeries:
    """A series whose newest minutes can still be replaced: everything that depends on them is then computed anew.

    Parameters
    ----------
    n_minutes : int
        How many minutes stay replaceable.

    Notes
    -----
    A second series follows `n_minutes` behind and takes only what is final. A revision copies it and adds the minutes since, so
    the result is what it would have been had the corrected minutes come at once. It costs nothing until `follow` is called.
    """

    def __init__(self, symbol: str, decision_timeframe: Timeframe, n_minutes: int) -> None:
        self.now = BarSeries(symbol, decision_timeframe)
        self._n_minutes = n_minutes
        self._settled: BarSeries | None = None
        self._recent: deque[Bar] = deque()

    def follow(self) -> None:
        """Begin to keep what a revision needs; minutes of before are final."""
        if self._settled is None:
            self._settled = self.now.copy()

    def add_minute(self, minute: Bar) -> list[Bar]:
        """Take the next closed minute and return the bars that it closes."""
        if self._settled is not None:
            self._recent.append(minute)
            if len(self._recent) > self._n_minutes:
                self._settled.add_minute(self._recent.popleft())
        return self.now.add_minute(minute)

    def revise(self, minutes: Sequence[Bar]) -> list[Bar]:
        """Replace minutes given before and return the bars that change by it: themselves and the closed bars they are part of."""
        if self._settled is None:
            return []
        replaced = {minute.open_time: minute for minute in minutes}
        before = {(bar.timeframe, bar.open_time): repr(bar) for bar in self._replay(self._settled.copy())}
        self._recent = deque(replaced.get(minute.open_time, minute) for minute in self._recent)
        self.now = self._settled.copy()
        return [bar for bar in self._replay(self.now) if before.get((bar.timeframe, bar.open_time)) != repr(bar)]

    def _replay(self, series: BarSeries) -> list[Bar]:
        return [bar for minute in self._recent for bar in series.add_minute(minute)]


def turnover_quote(bar: Bar) -> float:
    """Return traded value in quote units: as reported, else typical price times base volume."""
    if not math.isnan(bar.quote_volume):
        return bar.quote_volume
    return (bar.high + bar.low + bar.close) / 3.0 * bar.volume

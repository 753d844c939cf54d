"""The two recursive averages of technical analysis, one value at a time, seeded as TA-Lib seeds them."""

from __future__ import annotations

import math
from typing import Final

from helios.domain.market import NAN

RSI_ZERO: Final = 1e-300
"""Below it gains plus losses count as no movement at all: far below any price step, just above where doubles lose digits.

Averages of a price that stands still fade by 13/14 a bar, so it takes thousands of such bars to get here.
"""


class Ema:
    """Exponential average with factor 2 / (period + 1), seeded by the mean of its first `period` values.

    Parameters
    ----------
    period : int
        Nominal length in bars.
    skip : int, default=0
        Values to leave out first. TA-Lib's MACD starts its fast average late, so that both begin together.
    """

    __slots__ = ("_factor", "_is_seeded", "_period", "_seed", "_skip", "value")

    def __init__(self, period: int, skip: int = 0) -> None:
        self._period = period
        self._factor = 2.0 / (period + 1)
        self._skip = skip
        self._seed: list[float] = []
        self._is_seeded = False
        self.value = NAN

    def update(self, x: float) -> float:
        """Take the next value and return the average, NaN until seeded."""
        if self._is_seeded:
            self.value += self._factor * (x - self.value)
        elif self._skip:
            self._skip -= 1
        else:
            self._seed.append(x)
            if len(self._seed) == self._period:
                self.value = math.fsum(self._seed) / self._period
                self._is_seeded = True
        return self.value


class Rsi:
    """Wilder's relative strength index in 0..1: average gain over average gain plus average loss.

    Parameters
    ----------
    period : int
        Wilder's length: the averages keep (period - 1) / period of themselves per bar.
    """

    __slots__ = ("_changes", "_gain", "_is_seeded", "_loss", "_period")

    def __init__(self, period: int) -> None:
        self._period = period
        self._changes: list[float] = []
        self._is_seeded = False
        self._gain = self._loss = 0.0

    def update(self, change: float) -> float:
        """Take the next price change and return the index, NaN until `period` changes are known.

        A first change of NaN, that of a first price, counts for nothing.
        """
        if not self._is_seeded:
            return self._begin(change)
        gain, loss, period = self._gain, self._loss, self._period
        gain += ((change if change > 0.0 else 0.0) - gain) / period
        loss += ((-change if change < 0.0 else 0.0) - loss) / period
        self._gain, self._loss = gain, loss
        total = gain + loss
        return gain / total if total >= RSI_ZERO else 0.0

    def _begin(self, change: float) -> float:
        if not math.isnan(change):
            self._changes.append(change)
        if len(self._changes) < self._period:
            return NAN
        self._is_seeded = True
        self._gain = math.fsum([max(x, 0.0) for x in self._changes]) / self._period
        self._loss = math.fsum([max(-x, 0.0) for x in self._changes]) / self._period
        total = self._gain + self._loss
        return self._gain / total if total >= RSI_ZERO else 0.0

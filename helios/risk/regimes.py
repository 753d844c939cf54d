"""Where a forecast lies among the symbol's own past forecasts."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

from helios.domain.enums import VolatilityRegime

REGIME_QUANTILES = (0.25, 0.75, 0.95)
FIXED_THRESHOLDS = (0.02, 0.04, 0.06)
"""Daily volatilities that stand in for the percentiles while too few forecasts are known."""
MIN_REFERENCE = 100
"""So many forecasts at least are a reference; a model asks for a day of them, for within hours they hardly move."""


def classify(daily_volatility: float, thresholds: tuple[float, float, float]) -> VolatilityRegime:
    """Return LOW below the first threshold, MEDIUM below the second, HIGH below the third, else EXTREME."""
    for threshold, regime in zip(thresholds, VolatilityRegime, strict=False):
        if daily_volatility < threshold:
            return regime
    return VolatilityRegime.EXTREME


class ForecastHistory:
    """The last `capacity` forecasts, kept sorted beside their order so that a quantile costs no sort.

    Parameters
    ----------
    capacity : int
        How many are remembered: 30 days of bars.
    min_reference : int, default=100
        How many are needed to tell a regime by.
    """

    def __init__(self, capacity: int, min_reference: int = MIN_REFERENCE) -> None:
        self._capacity = capacity
        self._min_reference = min_reference
        self._in_order: deque[float] = deque()
        self._sorted: list[float] = []
        self._sum = 0.0

    def __len__(self) -> int:
        return len(self._sorted)

    def reset(self, values: Iterable[float]) -> None:
        """Forget everything and remember the newest of `values` (oldest first)."""
        self._in_order = deque(list(values)[-self._capacity :])
        self._sorted = sorted(self._in_order)
        self._sum = math.fsum(self._sorted)

    def append(self, value: float) -> None:
        """Remember one more; the oldest leaves when full."""
        self._in_order.append(value)
        insort(self._sorted, value)
        self._sum += value
        if len(self._sorted) > self._capacity:
            oldest = self._in_order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
            self._sum -= oldest

    def discard_newest(self) -> None:
        """Forget the forecast remembered last, which a better one of the same bar replaces; the oldest does not come back."""
        newest = self._in_order.pop()
        del self._sorted[bisect_left(self._sorted, newest)]
        self._sum -= newest

    def mean(self) -> float:
        """Mean of the remembered forecasts; NaN without any."""
        return self._sum / len(self._sorted) if self._sorted else math.nan

    def quantile(self, q: float) -> float:
        """Return the q-quantile with linear interpolation (numpy's default); NaN without any forecast."""
        if not self._sorted:
            return math.nan
        last = len(self._sorted) - 1
        position = q * last
        low = int(position)
        below, above = self._sorted[low], self._sorted[low + 1 if low < last else last]
        return below + (position - low) * (above - below)

    def regime(self, daily_volatility: float) -> VolatilityRegime:
        """Classify by the 25 / 75 / 95 percentiles, or by the fixed table while too few are known."""
        if len(self._sorted) < self._min_reference:
            return classify(daily_volatility, FIXED_THRESHOLDS)
        low, medium, high = REGIME_QUANTILES
        return classify(daily_volatility, (self.quantile(low), self.quantile(medium), self.quantile(high)))

"""Highs and lows of the past: how far the price went in a position's favour while nobody who remembers was watching."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar

BARS_KEPT = {Timeframe.M1: 500, Timeframe.M5: 3_000}
"""What a symbol's owner is given at its start: eight hours of minutes, and ten days of five minutes for what is older."""
_SLACK = 128  # bars are cut off by so many at once: one each time would move all the others


class Extremes:
    """Extremes of closed bars, as far back as `BARS_KEPT`; 24 bytes a bar, at most 90 kB a symbol."""

    def __init__(self) -> None:
        self._of = {timeframe: _Extremes(kept) for timeframe, kept in BARS_KEPT.items()}

    def add(self, bar: Bar) -> None:
        """Take a closed bar, or the corrected form of a known one; other timeframes and unknown prices are ignored."""
        if bar.timeframe in self._of and math.isfinite(bar.high) and 0 < bar.low <= bar.high:
            self._of[bar.timeframe].add(bar)

    def best_since(self, ts: int, side: Side) -> float:
        """Return the best price for `side` in bars that opened at `ts` (ns) or later; NaN where none is known.

        The bar in which `ts` lies is left out, for its extremes may be older than `ts`.
        """
        found = [price for extremes in self._of.values() if not math.isnan(price := extremes.best_since(ts, side))]
        return side * max(side * price for price in found) if found else math.nan


class _Extremes:
    def __init__(self, n_kept: int) -> None:
        self._n_kept = n_kept
        self._opens, self._highs, self._lows = array("q"), array("d"), array("d")

    def add(self, bar: Bar) -> None:
        at = bisect_left(self._opens, bar.open_time)
        if at < len(self._opens) and self._opens[at] == bar.open_time:
            self._highs[at], self._lows[at] = bar.high, bar.low
            return
        self._opens.insert(at, bar.open_time)
        self._highs.insert(at, bar.high)
        self._lows.insert(at, bar.low)
        if len(self._opens) > self._n_kept + _SLACK:
            del self._opens[: -self._n_kept], self._highs[: -self._n_kept], self._lows[: -self._n_kept]

    def best_since(self, ts: int, side: Side) -> float:
        first = bisect_left(self._opens, ts)
        if first == len(self._opens):
            return math.nan
        return max(self._highs[first:]) if side > 0 else min(self._lows[first:])

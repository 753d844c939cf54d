"""Log returns in percent from closes, with what is missing, and a window of the newest of them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from helios.domain.decisions import FloatArray


class ReturnWindow:
    """The newest `capacity` returns as one stretch of memory, so that a fit reads them without a copy per element.

    Parameters
    ----------
    capacity : int

    Attributes
    ----------
    n_known : int
        Returns in the window that are not NaN.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values = np.empty(2 * capacity)
        self._end = 0
        self._size = 0
        self.n_known = 0

    def __len__(self) -> int:
        return self._size

    def append(self, return_pct: float) -> None:
        """Take in one more; the oldest leaves when full. Constant time on average: the stretch moves once per window."""
        if self._size == self._capacity:
            self.n_known -= not math.isnan(self._values[self._end - self._size])
            self._size -= 1
        if self._end == len(self._values):
            self._values[: self._size] = self._values[self._end - self._size : self._end]
            self._end = self._size
        self._values[self._end] = return_pct
        self._end += 1
        self._size += 1
        self.n_known += not math.isnan(return_pct)

    def values(self) -> FloatArray:
        """Return a copy of shape (len,), oldest first; NaN where a return is missing."""
        return self._values[self._end - self._size : self._end].copy()


def spanning_return_pct(start: float, end: float, n_bars: int) -> float:
    """Return the log return over `n_bars` bars as its one-bar equivalent, r / sqrt(k), in percent."""
    # math.log in both ways in, seed and update: numpy's may differ in the last bit, and the optimiser would magnify that
    return 100.0 * math.log(end / start) / math.sqrt(n_bars)


def returns_of_closes(closes: FloatArray, known: list[int]) -> list[float]:
    """Return one value per bar after the first: NaN where a close is missing, r / sqrt(k) where the return spans k bars.

    Parameters
    ----------
    closes : ndarray of shape (n_bars,)
    known : list of int
        Where the closes are usable, ascending.
    """
    returns = [math.nan] * max(closes.size - 1, 0)
    values = closes.tolist()
    for before, now in pairwise(known):
        returns[now - 1] = spanning_return_pct(values[before], values[now], now - before)
    return returns

"""Recorded minutes handed out in order, wherever they were kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from helios.domain.enums import Timeframe
from helios.domain.market import Bar, Instrument

MINUTE_NS = Timeframe.M1.ns


class MinuteReplay:
    """One symbol's minutes, a ReplaySource. Minutes that were not recorded are left out.

    Parameters
    ----------
    instrument : Instrument
    open_times : int64 array of shape (n,)
        ns UTC, rising, at least one.
    values : float64 array of shape (n, 13)
        In the order of `BAR_VALUES`.
    """

    def __init__(self, instrument: Instrument, open_times: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        self._instrument = instrument
        self._open_times = open_times
        self._values = values
        self._cursor = 0

    @property
    def instrument(self) -> Instrument:
        return self._instrument

    @property
    def start_ns(self) -> int:
        """Open time of the first minute."""
        return int(self._open_times[0])

    @property
    def end_ns(self) -> int:
        """Close time of the last minute."""
        return int(self._open_times[-1]) + MINUTE_NS

    def read_until(self, until_ns: int) -> Sequence[Bar]:
        """Return the bars that have closed by `until_ns` and were not returned before."""
        first = self._cursor
        last = max(first, int(np.searchsorted(self._open_times, until_ns - MINUTE_NS, side="right")))
        self._cursor = last
        symbol = self._instrument.symbol
        rows = zip(self._open_times[first:last].tolist(), self._values[first:last].tolist())
        return [Bar(symbol, Timeframe.M1, open_time, *row) for open_time, row in rows]

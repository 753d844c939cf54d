"""Minutes from rows that are finer than a minute."""

from __future__ import annotations

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import DataError
from helios.market.merge import TimeArray

_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _QUOTE, _COUNT, _BUY, _SPREAD, _IMBALANCE, _DEPTH = range(11)


def roll_up(open_times: TimeArray, bars: FloatArray, step_ns: int, timeframe: Timeframe) -> tuple[TimeArray, FloatArray, int]:
    """Return whole bars of `timeframe`, and how many buckets were left out because rows of theirs are missing.

    As `helios.market.rollup`: first open, highest high, lowest low, last close, sums of volumes and counts, means of spread,
    imbalance and depth over the rows that have them, the last row's momentum and microprice.

    Parameters
    ----------
    open_times : int64 array of shape (n,)
        ns UTC, strictly increasing multiples of `step_ns`.
    bars : float64 array of shape (n, 13)
        Columns in the order of BAR_VALUES.
    step_ns : int
        Length of a row; a whole number of them makes a bar.

    Raises
    ------
    DataError
        If the times are not in order or off the grid of `step_ns`.
    """
    if timeframe.ns % step_ns or (open_times % step_ns).any() or not (np.diff(open_times) > 0).all():
        raise DataError(f"rows {step_ns / 1e9:g} s apart cannot be rolled up to {timeframe.value}: times repeat or are off that grid")
    buckets, first, counts = np.unique(open_times // timeframe.ns * timeframe.ns, return_index=True, return_counts=True)
    is_whole = counts == timeframe.ns // step_ns
    if not is_whole.any():
        return np.empty(0, dtype=np.int64), np.empty((0, len(BAR_VALUES))), len(buckets)
    last = first + counts - 1
    out = bars[last].copy()
    out[:, _OPEN] = bars[first, _OPEN]
    out[:, _HIGH] = np.maximum.reduceat(bars[:, _HIGH], first)
    out[:, _LOW] = np.minimum.reduceat(bars[:, _LOW], first)
    out[:, _VOLUME : _BUY + 1] = np.add.reduceat(bars[:, _VOLUME : _BUY + 1], first, axis=0)
    book = bars[:, _SPREAD : _DEPTH + 1]
    n_known = np.add.reduceat((~np.isnan(book)).astype(np.float64), first, axis=0)
    total = np.add.reduceat(np.nan_to_num(book, nan=0.0), first, axis=0)
    out[:, _SPREAD : _DEPTH + 1] = np.divide(total, n_known, out=np.full_like(total, np.nan), where=n_known > 0)
    return buckets[is_whole].astype(np.int64), out[is_whole], int((~is_whole).sum())

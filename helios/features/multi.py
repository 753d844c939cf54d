"""The 90 features of a minute: 1m, 5m and 15m side by side, each as known at that minute's close."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helios.domain.decisions import N_FEATURES, FloatArray
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import NAN
from helios.errors import InsufficientHistoryError
from helios.features.batch import TimeArray, features_of, fill_minutes, resample
from helios.features.definitions import FEATURE_NAMES, WARMUP_BARS

FEATURE_NAMES_90: tuple[str, ...] = tuple(f"{name}_{timeframe.value}" for timeframe in FEATURE_TIMEFRAMES for name in FEATURE_NAMES)
"""Column names of the 90: all of 1m, then 5m, then 15m."""


def features_90(bars_1m: FloatArray, open_times: TimeArray) -> tuple[FloatArray, TimeArray]:
    """Return the three timeframes' features at every minute's close, from minutes alone.

    Parameters
    ----------
    bars_1m : float64 array of shape (n_bars, 13)
        Minutes in the order of `BAR_VALUES`; holes are filled as `fill_minutes` does.
    open_times : int64 array of shape (n_bars,)
        ns UTC.

    Returns
    -------
    features, close_times : arrays of shapes (m_bars, 90) and (m_bars,)
        Row i holds what `FeatureState.latest` holds once the minute that ends at `close_times[i]` has closed.

    Raises
    ------
    InsufficientHistoryError
        If the slowest timeframe never has its 50 bars: nothing is computed.
    """
    times, minutes = fill_minutes(open_times, bars_1m)
    close_times = times + Timeframe.M1.ns
    out = np.full((len(times), len(FEATURE_TIMEFRAMES) * N_FEATURES), NAN)
    for i, timeframe in enumerate(FEATURE_TIMEFRAMES):
        bars, opened = resample(minutes, times, timeframe)
        if len(bars) < WARMUP_BARS:
            raise InsufficientHistoryError(f"{len(bars)} of {WARMUP_BARS} bars of {timeframe.value}")
        rows = newest_closed(opened, timeframe, close_times)
        is_known = rows >= 0
        out[is_known, i * N_FEATURES : (i + 1) * N_FEATURES] = features_of(bars)[rows[is_known]]
    return out, close_times


def newest_closed(open_times: TimeArray, timeframe: Timeframe, at: TimeArray) -> NDArray[np.intp]:
    """Return for each moment of `at` (ns) the index of the newest bar closed by then, -1 where there is none.

    `open_times` are ascending; a bar is known from open time plus timeframe on, never earlier.
    """
    return np.searchsorted(open_times + timeframe.ns, at, side="right") - 1

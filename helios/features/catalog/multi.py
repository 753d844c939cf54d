"""Several timeframes beside each minute: the value of a timeframe is that of its last bar already closed.

The twelve periods go beyond the timeframes the desk trades on, so they are plain seconds here. Bars of them start at multiples of
the period since 1970, weeks on Monday.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, NAN
from helios.errors import ConfigError, DataError
from helios.features.batch import fill_minutes
from helios.features.catalog.frame import TimeArray
from helios.features.catalog.registry import chosen_features, compute

FUSION_PERIODS: Final[dict[str, dict[str, int]]] = {
    "micro": {"1m": 60, "3m": 180, "5m": 300},
    "short": {"15m": 900, "30m": 1800, "1h": 3600},
    "medium": {"2h": 7200, "4h": 14_400, "6h": 21_600},
    "macro": {"1d": 86_400, "3d": 259_200, "1w": 604_800},
}
"""The twelve timeframes of the fusion in seconds, by group."""

_NS = 1_000_000_000
_MINUTE_S = Timeframe.M1.seconds
_WEEK_S = 604_800
_MONDAY_S = 4 * 86_400  # 1970-01-01 was a Thursday
_VOLUME, _BUY = BAR_VALUES.index("volume"), BAR_VALUES.index("buy_volume")
_MEANS = slice(BAR_VALUES.index("spread_bps"), BAR_VALUES.index("depth_log") + 1)


def resample_seconds(minute_opens: TimeArray, minute_bars: FloatArray, period_s: int) -> tuple[TimeArray, FloatArray]:
    """Return the whole bars of any period of whole minutes, by the rules of `batch.resample`.

    Parameters
    ----------
    minute_opens : int64 array of shape (n_minutes,)
        ns UTC, without holes.
    minute_bars : float64 array of shape (n_minutes, 13)
        In the order of `BAR_VALUES`.
    period_s : int
        Seconds, a multiple of 60.

    Returns
    -------
    open_times, bars : arrays of shapes (n_bars,) and (n_bars, 13)
        Buckets whose every minute is among the given ones.

    Raises
    ------
    ConfigError
        If the period is not a positive number of whole minutes.
    """
    if period_s <= 0 or period_s % _MINUTE_S:
        raise ConfigError(f"a period of {period_s} s is not made of whole minutes")
    per_bar = period_s // _MINUTE_S
    if per_bar == 1 or len(minute_opens) == 0:
        return minute_opens, minute_bars
    offset = _MONDAY_S if period_s % _WEEK_S == 0 else 0
    first = int((offset * _NS - minute_opens[0]) % (period_s * _NS) // (_MINUTE_S * _NS))
    n_bars = max(len(minute_opens) - first, 0) // per_bar
    end = first + n_bars * per_bar
    grouped = minute_bars[first:end].reshape(n_bars, per_bar, len(BAR_VALUES))
    return minute_opens[first:end:per_bar], _rolled_up(grouped)


def align_closed(minute_opens: TimeArray, open_times: TimeArray, period_s: int, values: FloatArray) -> FloatArray:
    """Return, for each minute's close, the row of the newest bar closed by then, shape (n_minutes, n_columns); NaN before the first.

    Parameters
    ----------
    minute_opens : int64 array of shape (n_minutes,)
        ns UTC.
    open_times : int64 array of shape (n_bars,)
        Open times of the longer bars, increasing.
    period_s : int
        Their length in seconds.
    values : float64 array of shape (n_bars, n_columns)
        What each bar says once it is closed.
    """
    row = np.searchsorted(open_times + period_s * _NS, minute_opens + _MINUTE_S * _NS, side="right") - 1
    out = np.full((len(minute_opens), values.shape[1]), NAN)
    out[row >= 0] = values[row[row >= 0]]
    return out


def compute_multi(
    minute_opens: TimeArray, minute_bars: FloatArray, periods_s: Sequence[int], names: Sequence[str] | None = None
) -> FloatArray:
    """Return catalog features of several timeframes as they are known at each minute's close.

    Parameters
    ----------
    minute_opens : int64 array of shape (n_minutes,)
        ns UTC, whole minutes, increasing. Missing minutes are filled flat, as `batch.fill_minutes` does.
    minute_bars : float64 array of shape (n_minutes, 13)
        In the order of `BAR_VALUES`.
    periods_s : sequence of int
        Lengths of the timeframes in seconds (see `FUSION_PERIODS`).
    names : sequence of str, optional
        Catalog features; default all.

    Returns
    -------
    features : float64 array of shape (n_minutes, n_periods, n_names)
        One row per given minute.

    Raises
    ------
    DataError
        If times are not increasing whole minutes, a shape is wrong, or a price is unusable.
    ConfigError
        If a name is unknown or a period is not made of whole minutes.
    """
    minute_opens = np.asarray(minute_opens, dtype=np.int64)
    if (np.diff(minute_opens) <= 0).any():
        raise DataError("minutes must be in time order, each once")
    filled_opens, filled = fill_minutes(minute_opens, minute_bars)
    out = np.full((len(minute_opens), len(periods_s), len(chosen_features(names))), NAN)
    for place, period_s in enumerate(periods_s):
        opens, bars = resample_seconds(filled_opens, filled, period_s)
        out[:, place] = align_closed(minute_opens, opens, period_s, compute(bars, names, opens))
    return out


def _rolled_up(grouped: FloatArray) -> FloatArray:
    # (n_bars, n_minutes, 13) -> (n_bars, 13), as `batch.resample`: flow is summed, the book averaged over minutes that know it.
    out = grouped[:, -1].copy()
    out[:, 0] = grouped[:, 0, 0]
    out[:, 1] = grouped[:, :, 1].max(1)
    out[:, 2] = grouped[:, :, 2].min(1)
    out[:, _VOLUME : _BUY + 1] = grouped[:, :, _VOLUME : _BUY + 1].sum(1)
    book = grouped[:, :, _MEANS]
    n_known = (~np.isnan(book)).sum(1)
    total = np.nansum(book, axis=1)
    out[:, _MEANS] = np.divide(total, n_known, out=np.full_like(total, NAN), where=n_known > 0)
    return out

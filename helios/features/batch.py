"""The 30 features over whole histories at once, and the histories themselves: filled minutes and higher timeframes.

Everything is causal: row i depends on rows 0..i only, and gives the same number that `stream` gives at that bar.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from helios.domain.decisions import N_FEATURES, FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, NAN
from helios.errors import DataError
from helios.features.definitions import CORRELATION_BARS

TimeArray = NDArray[np.int64]

(_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _QUOTE, _COUNT, _BUY, _SPREAD, _IMBALANCE, _DEPTH, _MOMENTUM, _MICROPRICE) = range(
    len(BAR_VALUES)
)
_MINUTE_NS: Final = Timeframe.M1.ns
_NO_CLOSES: Final = np.empty(0)
_CONSTANT: Final = 1e-12  # deviations below this part of the largest value are rounding: the series is constant


def features_of(bars: FloatArray) -> FloatArray:
    """Return the features of consecutive bars of one timeframe.

    Parameters
    ----------
    bars : float64 array of shape (n_bars, 13)
        Columns in the order of `BAR_VALUES`, oldest first, without holes (see `fill_minutes`). Unknown columns are NaN.

    Returns
    -------
    features : float64 array of shape (n_bars, 30)
        NaN where history or input is missing. `btc_correlation_60` is NaN; see `features_with_reference`.

    Raises
    ------
    DataError
        If the shape is wrong, or a price or volume unusable.

    Notes
    -----
    The first call of a process takes longer, see `warm_up`.
    """
    kernels = _kernels()
    return _computed(kernels, bars, _NO_CLOSES, kernels.NO_REFERENCE)


def features_with_reference(bars: FloatArray, reference_bars: FloatArray, is_reference: bool = False) -> FloatArray:
    """Return the features of `bars` with the correlation to a reference symbol.

    Parameters
    ----------
    bars, reference_bars : float64 arrays of shape (n_bars, 13)
        Row i of both is the same bucket; rows of NaN in the reference mean that it has no bar there.
    is_reference : bool, default=False
        Whether `bars` are the reference itself: its correlation is 1 wherever it is defined.

    Raises
    ------
    DataError
        As `features_of`, or if the lengths differ.
    """
    if len(bars) != len(reference_bars):
        raise DataError(f"{len(bars)} bars against {len(reference_bars)} of the reference")
    kernels = _kernels()
    if is_reference:
        return _computed(kernels, bars, _NO_CLOSES, kernels.OWN_REFERENCE)
    closes = np.ascontiguousarray(_shaped(reference_bars)[:, _CLOSE])
    return _computed(kernels, bars, closes, kernels.OTHER_REFERENCE)


def warm_up() -> None:
    """Make the first `features_of` of this process quick: load the compiled kernel, or compile it where none is kept yet.

    Loading takes a part of a second, compiling some ten seconds, once per machine and version. See `kernels` for where the
    machine code is kept.
    """
    features_of(np.ones((1, len(BAR_VALUES))))


def _kernels() -> ModuleType:
    # Only now: a process that computes no history does without the compiler.
    return importlib.import_module("helios.features.kernels")


def _computed(kernels: ModuleType, bars: FloatArray, reference_closes: FloatArray, mode: int) -> FloatArray:
    bars = np.ascontiguousarray(_shaped(bars))
    out = np.empty((len(bars), N_FEATURES))
    bad = kernels.features_kernel(bars, reference_closes, mode, out)
    if bad != kernels.ALL_USABLE:
        raise DataError(f"bar {bad} has unusable prices or volume")
    return out


def _shaped(bars: FloatArray) -> FloatArray:
    bars = np.asarray(bars, dtype=np.float64)
    if bars.ndim != 2 or bars.shape[1] != len(BAR_VALUES):
        raise DataError(f"bars of shape {bars.shape}; expected (n, {len(BAR_VALUES)})")
    return bars


def log_returns(close: FloatArray, n_bars: int = 1) -> FloatArray:
    """Return log(close / close `n_bars` before), shape (n,), NaN for the first `n_bars`."""
    out = np.full(len(close), NAN)
    out[n_bars:] = np.log(close[n_bars:] / close[: max(len(close) - n_bars, 0)])
    return out


def btc_correlation(returns: FloatArray, reference_returns: FloatArray) -> FloatArray:
    """Return the correlation of the trailing 60 returns with the reference's.

    Parameters
    ----------
    returns, reference_returns : float64 arrays of shape (..., n)
        One-bar log returns of the same buckets.

    Returns
    -------
    correlation : float64 array of shape (..., n)
        In -1..1; NaN until 60 returns of both are known and wherever one of the 60 is NaN; 0 if either does not vary.
    """
    out = np.full_like(returns, NAN)
    if returns.shape[-1] < CORRELATION_BARS:
        return out
    x = sliding_window_view(returns, CORRELATION_BARS, axis=-1)
    y = sliding_window_view(reference_returns, CORRELATION_BARS, axis=-1)
    dx, dy = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    varies = ~(_is_constant(x, dx) | _is_constant(y, dy))
    product = np.sqrt((dx * dx).sum(-1) * (dy * dy).sum(-1))
    is_known = ~np.isnan(product)
    ratio = np.divide((dx * dy).sum(-1), product, out=np.zeros_like(product), where=varies & is_known)
    out[..., CORRELATION_BARS - 1 :] = np.where(is_known, np.clip(ratio, -1.0, 1.0), NAN)
    return out


def _is_constant(x: FloatArray, deviation: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(np.abs(deviation).max(-1) <= _CONSTANT * np.abs(x).max(-1), dtype=np.bool_)


def fill_minutes(open_times: TimeArray, bars: FloatArray) -> tuple[TimeArray, FloatArray]:
    """Return the minutes without holes, as `CandleBuilder.on_minute` gives them; see `fill_bars`."""
    return fill_bars(open_times, bars, Timeframe.M1)


def fill_bars(open_times: TimeArray, bars: FloatArray, timeframe: Timeframe) -> tuple[TimeArray, FloatArray]:
    """Return the bars of a timeframe without holes.

    Missing bars are flat at the previous close with volume 0 and everything else unknown (NaN). Bars that are not newer than one
    before them are left out.

    Parameters
    ----------
    open_times : int64 array of shape (n_bars,)
        ns UTC, multiples of the timeframe.
    bars : float64 array of shape (n_bars, 13)
        Columns in the order of `BAR_VALUES`.
    timeframe : Timeframe

    Returns
    -------
    open_times, bars : arrays of shapes (m_bars,) and (m_bars, 13)
        One row per bar from the first to the last.

    Raises
    ------
    DataError
        If a time is not on the timeframe's grid or the shapes do not fit.
    """
    open_times, bars = np.asarray(open_times, dtype=np.int64), np.asarray(bars, dtype=np.float64)
    if bars.shape != (len(open_times), len(BAR_VALUES)) or (open_times % timeframe.ns).any():
        raise DataError(f"open times must be whole bars of {timeframe.value}, one per row of 13 values")
    if len(open_times) == 0:
        return open_times, bars
    newest_before = np.concatenate(([open_times[0] - 1], np.maximum.accumulate(open_times)[:-1]))
    is_new = open_times > newest_before
    known_times, known = open_times[is_new], bars[is_new]
    times = np.arange(known_times[0], known_times[-1] + timeframe.ns, timeframe.ns, dtype=np.int64)
    source = np.searchsorted(known_times, times, side="right") - 1
    filled = known[source]
    is_missing = known_times[source] != times
    filled[is_missing, :_CLOSE] = filled[is_missing, _CLOSE, None]
    filled[is_missing, _VOLUME] = 0.0
    filled[is_missing, _QUOTE:] = NAN
    return times, filled


def resample(bars_1m: FloatArray, open_times: TimeArray, timeframe: Timeframe) -> tuple[FloatArray, TimeArray]:
    """Return the complete bars of a higher timeframe, as `CandleBuilder` builds them; holes are filled first.

    Parameters
    ----------
    bars_1m : float64 array of shape (n_bars, 13)
        Minutes in the order of `BAR_VALUES`.
    open_times : int64 array of shape (n_bars,)
        ns UTC.
    timeframe : Timeframe
        Any; 1m returns the filled minutes.

    Returns
    -------
    bars, open_times : arrays of shapes (m_bars, 13) and (m_bars,)
        Buckets whose every minute lies between the first and the last given one.
    """
    times, minutes = fill_minutes(open_times, bars_1m)
    per_bar = timeframe.seconds // Timeframe.M1.seconds
    if len(times) == 0 or per_bar == 1:
        return minutes, times
    first = int(-times[0] % timeframe.ns // _MINUTE_NS)
    n_bars = max(len(times) - first, 0) // per_bar
    end = first + n_bars * per_bar
    grouped = minutes[first:end].reshape(n_bars, per_bar, len(BAR_VALUES))
    return _rolled_up(grouped), times[first:end:per_bar]


def _rolled_up(grouped: FloatArray) -> FloatArray:
    out = grouped[:, -1].copy()  # close, trade momentum and microprice are the last minute's
    out[:, _OPEN] = grouped[:, 0, _OPEN]
    out[:, _HIGH] = grouped[:, :, _HIGH].max(1)
    out[:, _LOW] = grouped[:, :, _LOW].min(1)
    out[:, _VOLUME : _BUY + 1] = grouped[:, :, _VOLUME : _BUY + 1].sum(1)
    book = grouped[:, :, _SPREAD : _DEPTH + 1]
    n_known = (~np.isnan(book)).sum(1)
    total = np.nansum(book, axis=1)
    out[:, _SPREAD : _DEPTH + 1] = np.divide(total, n_known, out=np.full_like(total, NAN), where=n_known > 0)
    return out

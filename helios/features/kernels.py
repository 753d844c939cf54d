"""The 30 features over a whole history in one pass, compiled; `batch` is the way in.

Importing this module loads the compiler (about 70 MB), so only `batch` does it, when the first history comes. The machine code is
kept in `__pycache__` beside this file, or in the user's cache directory where that cannot be written, or where `NUMBA_CACHE_DIR`
says; where none can be written it is compiled anew in every process.

The history goes through in blocks of `BLOCK` rows that fit the processor's cache. Each block has the `BACK` rows before it in
front, NaN before the first: so warm-up needs no special case, and no row's number depends on where a block ends. Sums of a
window are built from sums of 2, 4, 8 and 16 neighbours, never carried along: nothing drifts. Recursive averages alone are
carried from block to block.

Constants are literal: the cache knows when this file changes, not when another one does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import numba
import numpy as np
from numba import float64, int64, types

from helios.domain.decisions import FloatArray

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

BLOCK: Final = 512
BACK: Final = 64  # the longest window has 60 rows
ALL_USABLE: Final = -1
NO_REFERENCE, OTHER_REFERENCE, OWN_REFERENCE = range(3)
RSI_ZERO: Final = 1e-300
_SAFE: Final = 1e-4  # part of the squares about 0 that the squares about the mean must be
CONSTANT: Final = 1e-12  # deviations below this part of the largest value are rounding: the series is constant

_NAN: Final = math.nan
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _QUOTE, _COUNT, _BUY, _SPREAD, _IMBALANCE, _DEPTH, _MOMENTUM, _MICROPRICE = range(13)
# Rows of the block's series.
_C, _R, _V, _CHANGE, _Q, _TYPICAL, _N, _REFERENCE, _REFERENCE_R, _PRODUCT = range(10)
# The slow start of the averages: MACD's signal is the last to begin, with row 33.
_SEEDED: Final = 34
# Carried averages.
_GAIN_14, _LOSS_14, _GAIN_7, _LOSS_7, _EMA_12, _EMA_26, _FAST, _SIGNAL = range(8)


_BARS: Final = types.Array(float64, 2, "C", readonly=True)  # takes writeable ones too
_CLOSES: Final = types.Array(float64, 1, "C", readonly=True)
_SIGNATURE: Final = int64(_BARS, _CLOSES, int64, types.Array(float64, 2, "C"))


def _compiled(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    # Division as in NumPy: Python's check for 0 would keep loops from vector instructions.
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled  # type: ignore[no-any-return]


def _kept(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    try:
        compiled: Any = numba.njit(_SIGNATURE, cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        # No directory can be written: once per process then.
        compiled = numba.njit(_SIGNATURE, nogil=True, error_model="numpy")(function)
    return compiled  # type: ignore[no-any-return]


@_compiled
def _copy(x: FloatArray, out: FloatArray) -> None:
    for i in range(len(x)):
        out[i] = x[i]


@_compiled
def _read(bars: FloatArray, first: int, n: int, series: FloatArray) -> int:
    is_usable = True
    for i in range(first, first + n):
        is_usable &= _is_usable(bars, i)
    if not is_usable:
        for i in range(first, first + n):
            if not _is_usable(bars, i):
                return i
    close, volume, quote = series[_C, BACK:], series[_V, BACK:], series[_Q, BACK:]
    typical, count = series[_TYPICAL, BACK:], series[_N, BACK:]
    for i in range(n):
        row = first + i
        close[i] = bars[row, _CLOSE]
        volume[i] = bars[row, _VOLUME]
        quote[i] = bars[row, _QUOTE]
        typical[i] = (bars[row, _HIGH] + bars[row, _LOW] + bars[row, _CLOSE]) / 3.0 * bars[row, _VOLUME]
        count[i] = bars[row, _COUNT]
    return ALL_USABLE


@_compiled
def _is_usable(bars: FloatArray, i: int) -> bool:
    # Not `and`: the processor need not guess.
    low, close, high, open_, volume = bars[i, _LOW], bars[i, _CLOSE], bars[i, _HIGH], bars[i, _OPEN], bars[i, _VOLUME]
    is_price = (low > 0.0) & (low <= close) & (close <= high) & (high < math.inf)
    is_usable: bool = is_price & (open_ > 0.0) & (open_ < math.inf) & (volume >= 0.0) & (volume < math.inf)
    return is_usable


@_compiled
def _price_columns(bars: FloatArray, first: int, n: int, series: FloatArray, y: FloatArray) -> None:
    close = series[_C, BACK : BACK + n]
    _relative(bars[first : first + n, _OPEN], 1.0, close, y[0])
    _relative(bars[first : first + n, _HIGH], 1.0, close, y[1])
    _relative(bars[first : first + n, _LOW], 1.0, close, y[2])
    _copy(series[_R, BACK : BACK + n], y[3])
    _log_ratios(close, series[_C, BACK - 5 :], y[4])
    _log_ratios(close, series[_C, BACK - 20 :], y[5])
    for i in range(n):
        low = bars[first + i, _LOW]
        extent = bars[first + i, _HIGH] - low
        y[7, i] = (close[i] - low) / extent if extent > 0.0 else 0.5


@_compiled
def _log_ratios(now: FloatArray, before: FloatArray, out: FloatArray) -> None:
    for i in range(len(now)):
        out[i] = math.log(now[i] / before[i])


@_compiled
def _relative(total: FloatArray, count: float, close: FloatArray, out: FloatArray) -> None:
    # One output a loop: with more the compiler cannot tell them apart and gives up on vector instructions.
    for i in range(len(close)):
        out[i] = total[i] / count / close[i] - 1.0


@_compiled
def _volume_columns(
    bars: FloatArray, first: int, n: int, series: FloatArray, sums: FloatArray, work: FloatArray, y: FloatArray
) -> None:
    base, traded, typical, count, squares = work[0], work[1], work[2], work[3], work[4]
    _sum_20(series[_V], n, sums, base)
    _sum_20(series[_Q], n, sums, traded)
    _sum_20(series[_TYPICAL], n, sums, typical)
    _sum_20(series[_N], n, sums, count)
    _vwap(base, traded, typical, series[_C, BACK : BACK + n], y[8])
    _shares(series[_V, BACK : BACK + n], base, y[10])
    _shares(series[_N, BACK : BACK + n], count, y[14])
    _volume_changes(y[10], series[_V, BACK - 1 :], base, series[_CHANGE, BACK : BACK + n])
    _copy(series[_CHANGE, BACK : BACK + n], y[11])
    _sum_20(series[_CHANGE], n, sums, base)
    _sum_squares_20(series[_CHANGE], base, n, squares)
    _roots(squares, 19.0, y[12, :n])
    for i in range(n):
        volume, buy = bars[first + i, _VOLUME], bars[first + i, _BUY]
        y[13, i] = (2.0 * buy - volume) / volume if volume > 0.0 or math.isnan(buy) else 0.0


@_compiled
def _vwap(base: FloatArray, traded: FloatArray, typical: FloatArray, close: FloatArray, out: FloatArray) -> None:
    for i in range(len(close)):
        quote = traded[i] if math.isfinite(traded[i]) else typical[i]
        out[i] = 0.0 if base[i] == 0.0 else quote / base[i] / close[i] - 1.0


@_compiled
def _shares(values: FloatArray, total_20: FloatArray, out: FloatArray) -> None:
    for i in range(len(values)):
        out[i] = _share(values[i], total_20[i])


@_compiled
def _share(value: float, total_20: float) -> float:
    # Of the mean; 0 where nothing happened at all, NaN where that is unknown.
    return 0.0 if total_20 <= 0.0 else value / (total_20 / 20.0)


@_compiled
def _volume_changes(now: FloatArray, previous: FloatArray, total_20: FloatArray, out: FloatArray) -> None:
    for i in range(len(out)):
        out[i] = math.log((now[i] + 1.0) / (_share(previous[i], total_20[i]) + 1.0))


@_compiled
def _roots(squares: FloatArray, count: float, out: FloatArray) -> None:
    for i in range(len(out)):
        out[i] = math.sqrt(squares[i] / count)


@_compiled
def _window_columns(series: FloatArray, n: int, sums: FloatArray, work: FloatArray, y: FloatArray) -> None:
    total, total_50, squares, reach = work[0], work[1], work[2], work[3]
    _sum_20(series[_R], n, sums, total)
    _sum_squares_20(series[_R], total, n, squares)
    _roots(squares, 19.0, y[6, :n])
    _sum_20(series[_C], n, sums, total)
    _sum_50(sums, n, total_50)
    _sum_squares_20(series[_C], total, n, squares)
    _roots(squares, 20.0, reach[:n])
    close = series[_C, BACK : BACK + n]
    _relative(total, 20.0, close, y[19])
    _relative(total_50, 50.0, close, y[20])
    _band(total, reach, 2.0, close, y[23])
    _band(total, reach, -2.0, close, y[24])


@_compiled
def _band(total_20: FloatArray, deviation: FloatArray, width: float, close: FloatArray, out: FloatArray) -> None:
    for i in range(len(close)):
        out[i] = (total_20[i] / 20.0 + width * deviation[i]) / close[i] - 1.0


@_compiled
def _add(a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    for i in range(len(out)):
        out[i] = a[i] + b[i]


@_compiled
def _pyramid(x: FloatArray, n: int, sums: FloatArray) -> None:
    # sums[k, i] = sum of the 2 ** (k + 1) values up to and including x[i]; NaN in front stays.
    end = BACK + n
    _add(x[1:end], x[: end - 1], sums[0, 1:end])
    _add(sums[0, 3:end], sums[0, 1 : end - 2], sums[1, 3:end])
    _add(sums[1, 7:end], sums[1, 3 : end - 4], sums[2, 7:end])
    _add(sums[2, 15:end], sums[2, 7 : end - 8], sums[3, 15:end])


@_compiled
def _sum_20(x: FloatArray, n: int, sums: FloatArray, out: FloatArray) -> None:
    _pyramid(x, n, sums)
    _add(sums[3, BACK:], sums[1, BACK - 16 :], out[:n])


@_compiled
def _sum_50(sums: FloatArray, n: int, out: FloatArray) -> None:
    # 16 + 16 + 16 + 2, from the pyramid as it stands.
    s2, s16, s16_1, s16_2 = sums[0, BACK - 48 :], sums[3, BACK:], sums[3, BACK - 16 :], sums[3, BACK - 32 :]
    for i in range(n):
        out[i] = (s16[i] + s16_1[i]) + s16_2[i] + s2[i]


@_compiled
def _sum_60(x: FloatArray, n: int, sums: FloatArray, out: FloatArray) -> None:
    _pyramid(x, n, sums)
    s16, s16_1, s16_2 = sums[3, BACK:], sums[3, BACK - 16 :], sums[3, BACK - 32 :]
    s8, s4 = sums[2, BACK - 48 :], sums[1, BACK - 56 :]
    for i in range(n):
        out[i] = ((s16[i] + s16_1[i]) + s16_2[i]) + (s8[i] + s4[i])


@_compiled
def _sum_squares_20(x: FloatArray, total: FloatArray, n: int, out: FloatArray) -> None:
    # About the window's own mean. The outer loop goes back in time so that the inner one runs over neighbours.
    for i in range(n):
        out[i] = 0.0
    for k in range(0, 20, 4):
        x0, x1, x2, x3 = x[BACK - k :], x[BACK - k - 1 :], x[BACK - k - 2 :], x[BACK - k - 3 :]
        for i in range(n):
            mean = total[i] / 20.0
            d0, d1, d2, d3 = x0[i] - mean, x1[i] - mean, x2[i] - mean, x3[i] - mean
            out[i] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)


@_compiled
def _seed(close: FloatArray, n: int, averages: FloatArray, y: FloatArray) -> int:
    # The first rows of the history, where each average is still the mean of its first values; returns where that ends.
    macd = np.empty(_SEEDED)
    for i in range(min(n, _SEEDED)):
        change = close[i] - close[i - 1] if i else 0.0
        y[15, i] = _first_rsi(i, 14, change, averages[_GAIN_14 : _LOSS_14 + 1])
        y[16, i] = _first_rsi(i, 7, change, averages[_GAIN_7 : _LOSS_7 + 1])
        y[21, i] = _first_ema(i, 0, 12, close[i], averages[_EMA_12 : _EMA_12 + 1]) / close[i] - 1.0
        slow = _first_ema(i, 0, 26, close[i], averages[_EMA_26 : _EMA_26 + 1])
        y[22, i] = slow / close[i] - 1.0
        # As TA-Lib: the fast average starts with the slow one, both lines begin with the signal.
        macd[i] = _first_ema(i, 14, 12, close[i], averages[_FAST : _FAST + 1]) - slow
        y[18, i] = _first_ema(i, 25, 9, macd[i], averages[_SIGNAL : _SIGNAL + 1]) / close[i]
        y[17, i] = macd[i] / close[i] if i == _SEEDED - 1 else _NAN
    return min(n, _SEEDED)


@_compiled
def _first_ema(i: int, skip: int, period: int, x: float, average: FloatArray) -> float:
    if i < skip:
        return _NAN
    if i < skip + period:
        average[0] += x
        if i < skip + period - 1:
            return _NAN
        average[0] /= period
    else:
        average[0] += 2.0 / (period + 1) * (x - average[0])
    value: float = average[0]
    return value


@_compiled
def _first_rsi(i: int, period: int, change: float, gain_loss: FloatArray) -> float:
    gain, loss = max(change, 0.0), max(-change, 0.0)
    if i <= period:
        gain_loss[0] += gain
        gain_loss[1] += loss
        if i < period:
            return _NAN
        gain_loss[0] /= period
        gain_loss[1] /= period
    else:
        gain_loss[0] += (gain - gain_loss[0]) / period
        gain_loss[1] += (loss - gain_loss[1]) / period
    total = gain_loss[0] + gain_loss[1]
    return gain_loss[0] / total if total >= RSI_ZERO else 0.0


@_compiled
def _recursive_columns(close: FloatArray, start: int, n: int, averages: FloatArray, y: FloatArray) -> None:
    # `close` has one value in front. All averages in one loop: the processor works on eight chains at a time.
    gain_14, loss_14, gain_7, loss_7 = averages[_GAIN_14], averages[_LOSS_14], averages[_GAIN_7], averages[_LOSS_7]
    ema_12, ema_26, fast, signal = averages[_EMA_12], averages[_EMA_26], averages[_FAST], averages[_SIGNAL]
    for i in range(start, n):
        c = close[i + 1]
        change = c - close[i]
        gain, loss = max(change, 0.0), max(-change, 0.0)
        gain_14 += (gain - gain_14) / 14.0
        loss_14 += (loss - loss_14) / 14.0
        gain_7 += (gain - gain_7) / 7.0
        loss_7 += (loss - loss_7) / 7.0
        ema_12 += 2.0 / 13.0 * (c - ema_12)
        ema_26 += 2.0 / 27.0 * (c - ema_26)
        fast += 2.0 / 13.0 * (c - fast)
        macd = fast - ema_26
        signal += 2.0 / 10.0 * (macd - signal)
        total_14, total_7 = gain_14 + loss_14, gain_7 + loss_7
        y[15, i] = gain_14 / total_14 if total_14 >= RSI_ZERO else 0.0
        y[16, i] = gain_7 / total_7 if total_7 >= RSI_ZERO else 0.0
        y[17, i] = macd / c
        y[18, i] = signal / c
        y[21, i] = ema_12 / c - 1.0
        y[22, i] = ema_26 / c - 1.0
    averages[_GAIN_14], averages[_LOSS_14], averages[_GAIN_7], averages[_LOSS_7] = gain_14, loss_14, gain_7, loss_7
    averages[_EMA_12], averages[_EMA_26], averages[_FAST], averages[_SIGNAL] = ema_12, ema_26, fast, signal


@_compiled
def _reference_column(
    reference: FloatArray, mode: int, first: int, n: int, series: FloatArray, sums: FloatArray, work: FloatArray, out: FloatArray
) -> None:
    if mode == OWN_REFERENCE:
        _sum_60(series[_R], n, sums, work[0])
        for i in range(n):
            out[i] = 1.0 if math.isfinite(work[0, i]) else _NAN
        return
    _copy(reference[first : first + n], series[_REFERENCE, BACK:])
    _log_ratios(series[_REFERENCE, BACK : BACK + n], series[_REFERENCE, BACK - 1 :], series[_REFERENCE_R, BACK:])
    _correlations(series, n, sums, work, out)


@_compiled
def _correlations(series: FloatArray, n: int, sums: FloatArray, work: FloatArray, out: FloatArray) -> None:
    x, y, product = series[_R], series[_REFERENCE_R], series[_PRODUCT]
    x_sum, y_sum, xx, yy, xy = work[0], work[1], work[2], work[3], work[4]
    _sum_60(x, n, sums, x_sum)
    _sum_60(y, n, sums, y_sum)
    _multiply(x, x, n, product)
    _sum_60(product, n, sums, xx)
    _multiply(y, y, n, product)
    _sum_60(product, n, sums, yy)
    _multiply(x, y, n, product)
    _sum_60(product, n, sums, xy)
    for i in range(n):
        x_squares, y_squares = xx[i] - x_sum[i] * x_sum[i] / 60.0, yy[i] - y_sum[i] * y_sum[i] / 60.0
        # Sums of products about 0 lose digits only where returns hardly differ from their mean.
        if x_squares > _SAFE * xx[i] and y_squares > _SAFE * yy[i]:
            out[i] = _bounded((xy[i] - x_sum[i] * y_sum[i] / 60.0) / math.sqrt(x_squares * y_squares))
        elif math.isnan(x_squares + y_squares):
            out[i] = _NAN
        else:
            out[i] = _correlation(x, y, x_sum[i] / 60.0, y_sum[i] / 60.0, BACK + i)


@_compiled
def _multiply(a: FloatArray, b: FloatArray, n: int, out: FloatArray) -> None:
    for i in range(BACK + n):
        out[i] = a[i] * b[i]


@_compiled
def _bounded(correlation: float) -> float:
    return min(max(correlation, -1.0), 1.0)


@_compiled
def _correlation(x: FloatArray, y: FloatArray, x_mean: float, y_mean: float, last: int) -> float:
    xx = yy = xy = x_reach = y_reach = x_largest = y_largest = 0.0
    for k in range(last - 59, last + 1):
        dx, dy = x[k] - x_mean, y[k] - y_mean
        xx, yy, xy = xx + dx * dx, yy + dy * dy, xy + dx * dy
        x_reach, y_reach = max(x_reach, abs(dx)), max(y_reach, abs(dy))
        x_largest, y_largest = max(x_largest, abs(x[k])), max(y_largest, abs(y[k]))
    varies = x_reach > CONSTANT * x_largest and y_reach > CONSTANT * y_largest
    return _bounded(xy / math.sqrt(xx * yy)) if varies and xx * yy > 0.0 else 0.0


@_compiled
def _write(bars: FloatArray, first: int, n: int, columns: FloatArray, out: FloatArray) -> None:
    for i in range(n):
        row = first + i
        for k in range(25):
            out[row, k] = columns[k, i]
        out[row, 9] = bars[row, _SPREAD]
        out[row, 25] = bars[row, _IMBALANCE]
        out[row, 26] = bars[row, _DEPTH]
        out[row, 27] = bars[row, _MOMENTUM]
        out[row, 28] = columns[28, i]
        out[row, 29] = bars[row, _MICROPRICE]


@_kept
def features_kernel(bars: FloatArray, reference: FloatArray, mode: int, out: FloatArray) -> int:
    """Write the features of `bars` into `out`.

    Parameters
    ----------
    bars : float64 array of shape (n_bars, 13), C order
    reference : float64 array of shape (n_bars,) or (0,)
        Closes of the reference symbol; read if `mode` is `OTHER_REFERENCE`.
    mode : int
        What the correlation is to: `NO_REFERENCE` (NaN), `OTHER_REFERENCE` or `OWN_REFERENCE` (1 where known).
    out : float64 array of shape (n_bars, 30), C order

    Returns
    -------
    row : int
        First row with an unusable price or volume, then `out` is worth nothing; `ALL_USABLE` if there is none.
    """
    series = np.full((10, BACK + BLOCK), _NAN)
    sums = np.full((4, BACK + BLOCK), _NAN)
    columns = np.full((30, BLOCK), _NAN)
    work = np.empty((5, BLOCK))
    averages = np.zeros(8)
    for first in range(0, len(bars), BLOCK):
        n = min(BLOCK, len(bars) - first)
        bad = _read(bars, first, n, series)
        if bad >= 0:
            return bad
        _log_ratios(series[_C, BACK : BACK + n], series[_C, BACK - 1 :], series[_R, BACK:])
        _price_columns(bars, first, n, series, columns)
        _volume_columns(bars, first, n, series, sums, work, columns)
        _window_columns(series, n, sums, work, columns)
        start = _seed(series[_C, BACK:], n, averages, columns) if first == 0 else 0
        _recursive_columns(series[_C, BACK - 1 :], start, n, averages, columns)
        if mode != NO_REFERENCE:
            _reference_column(reference, mode, first, n, series, sums, work, columns[28])
        _write(bars, first, n, columns, out)
        for k in range(len(series)):
            _copy(series[k, n : n + BACK], series[k])
    return ALL_USABLE

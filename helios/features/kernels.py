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

from helios.domain.decisions import FloatArray

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

BLOCK: Final = 512
BACK: Final = 64  # the longest window has 60 rows
ALL_USABLE: Final = -1
NO_REFERENCE, OTHER_REFERENCE, OWN_REFERENCE = range(3)
RSI_ZERO: Final = 1e-300
CONSTANT: Final = 1e-12  # deviations below this part of the largest value are rounding: the series is constant

_NAN: Final = math.nan
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _QUOTE, _COUNT, _BUY, _SPREAD, _IMBALANCE, _DEPTH, _MOMENTUM, _MICROPRICE = range(13)
# Rows of the block's series.
_C, _R, _V, _CHANGE, _Q, _TYPICAL, _N, _REFERENCE, _REFERENCE_R = range(9)
# The slow start of the averages: MACD's signal is the last to begin, with row 33.
_SEEDED: Final = 34
# Carried averages.
_GAIN_14, _LOSS_14, _GAIN_7, _LOSS_7, _EMA_12, _EMA_26, _FAST, _SIGNAL = range(8)


def _compiled(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    try:
        compiled: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no place for the cache can be written
        compiled = numba.njit(nogil=True)(function)
    return compiled  # type: ignore[no-any-return]


@_compiled
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
    series = np.full((9, BACK + BLOCK), _NAN)
    sums = np.full((6, BACK + BLOCK), _NAN)
    columns = np.full((30, BLOCK), _NAN)
    work = np.empty((7, BLOCK))
    averages = np.zeros(8)
    for first in range(0, len(bars), BLOCK):
        n = min(BLOCK, len(bars) - first)
        bad = _read(bars, first, n, series)
        if bad >= 0:
            return bad
        _returns(series[_C], series[_R], n)
        _price_columns(bars, first, n, series, columns)
        _volume_columns(bars, first, n, series, sums, work, columns)
        _window_columns(series, n, sums, work, columns)
        start = _seed(series[_C, BACK:], n, averages, columns) if first == 0 else 0
        _recursive_columns(series[_C, BACK - 1 :], start, n, averages, columns)
        if mode != NO_REFERENCE:
            _reference_column(reference, mode, first, n, series, sums, work, columns[28])
        _write(bars, first, n, columns, out)
        for k in range(9):
            series[k, :BACK] = series[k, n : n + BACK]
    return ALL_USABLE


@_compiled
def _read(bars: FloatArray, first: int, n: int, series: FloatArray) -> int:
    for i in range(n):
        bar = bars[first + i]
        high, low, close, volume = bar[_HIGH], bar[_LOW], bar[_CLOSE], bar[_VOLUME]
        if not (0.0 < low <= close <= high < math.inf and 0.0 < bar[_OPEN] < math.inf and 0.0 <= volume < math.inf):
            return first + i
        series[_C, BACK + i] = close
        series[_V, BACK + i] = volume
        series[_Q, BACK + i] = bar[_QUOTE]
        series[_TYPICAL, BACK + i] = (high + low + close) / 3.0 * volume
        series[_N, BACK + i] = bar[_COUNT]
    return ALL_USABLE


@_compiled
def _returns(close: FloatArray, returns: FloatArray, n: int) -> None:
    before = close[BACK - 1 :]
    now = close[BACK:]
    out = returns[BACK:]
    for i in range(n):
        out[i] = math.log(now[i] / before[i])


@_compiled
def _price_columns(bars: FloatArray, first: int, n: int, series: FloatArray, y: FloatArray) -> None:
    close, before_5, before_20 = series[_C, BACK:], series[_C, BACK - 5 :], series[_C, BACK - 20 :]
    for i in range(n):
        bar, c = bars[first + i], close[i]
        extent = bar[_HIGH] - bar[_LOW]
        y[0, i] = bar[_OPEN] / c - 1.0
        y[1, i] = bar[_HIGH] / c - 1.0
        y[2, i] = bar[_LOW] / c - 1.0
        y[7, i] = (c - bar[_LOW]) / extent if extent > 0.0 else 0.5
    y[3, :n] = series[_R, BACK : BACK + n]
    for i in range(n):
        y[4, i] = math.log(close[i] / before_5[i])
        y[5, i] = math.log(close[i] / before_20[i])


@_compiled
def _volume_columns(
    bars: FloatArray, first: int, n: int, series: FloatArray, sums: FloatArray, work: FloatArray, y: FloatArray
) -> None:
    base, traded, typical, count, total, squares = work[0], work[1], work[2], work[3], work[4], work[5]
    _sum_20(series[_V], n, sums, base)
    _sum_20(series[_Q], n, sums, traded)
    _sum_20(series[_TYPICAL], n, sums, typical)
    _sum_20(series[_N], n, sums, count)
    close, volume, previous, change = series[_C, BACK:], series[_V, BACK:], series[_V, BACK - 1 :], series[_CHANGE, BACK:]
    for i in range(n):
        quote = traded[i] if math.isfinite(traded[i]) else typical[i]
        y[8, i] = 0.0 if base[i] == 0.0 else quote / base[i] / close[i] - 1.0
        now, before = _share(volume[i], base[i] / 20.0), _share(previous[i], base[i] / 20.0)
        y[10, i] = now
        change[i] = math.log((now + 1.0) / (before + 1.0))
        y[11, i] = change[i]
        bar = bars[first + i]
        bought = 2.0 * bar[_BUY] - bar[_VOLUME]
        y[13, i] = bought / bar[_VOLUME] if bar[_VOLUME] > 0.0 or math.isnan(bought) else 0.0
        y[14, i] = _share(bar[_COUNT], count[i] / 20.0)
    _sum_20(series[_CHANGE], n, sums, total)
    _sum_squares_20(series[_CHANGE], total, n, squares)
    for i in range(n):
        y[12, i] = math.sqrt(squares[i] / 19.0)


@_compiled
def _share(value: float, mean: float) -> float:
    # 0 where nothing happened at all, NaN where that is unknown.
    return value / mean if mean > 0.0 or math.isnan(mean) else 0.0


@_compiled
def _window_columns(series: FloatArray, n: int, sums: FloatArray, work: FloatArray, y: FloatArray) -> None:
    total_20, total_50, squares, total_r, squares_r = work[0], work[1], work[2], work[3], work[4]
    _sum_20(series[_R], n, sums, total_r)
    _sum_squares_20(series[_R], total_r, n, squares_r)
    _sum_20(series[_C], n, sums, total_20)
    _sum_squares_20(series[_C], total_20, n, squares)
    _sum_50(sums, n, total_50)
    close = series[_C, BACK:]
    for i in range(n):
        c, mean, reach = close[i], total_20[i] / 20.0, 2.0 * math.sqrt(squares[i] / 20.0)
        y[6, i] = math.sqrt(squares_r[i] / 19.0)
        y[19, i] = mean / c - 1.0
        y[20, i] = total_50[i] / 50.0 / c - 1.0
        y[23, i] = (mean + reach) / c - 1.0
        y[24, i] = (mean - reach) / c - 1.0


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
    out[:n] = 0.0
    for k in range(0, 20, 4):
        x0, x1, x2, x3 = x[BACK - k :], x[BACK - k - 1 :], x[BACK - k - 2 :], x[BACK - k - 3 :]
        for i in range(n):
            mean = total[i] / 20.0
            d0, d1, d2, d3 = x0[i] - mean, x1[i] - mean, x2[i] - mean, x3[i] - mean
            out[i] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)


@_compiled
def _seed(close: FloatArray, n: int, averages: FloatArray, y: FloatArray) -> int:
    # The first rows of the history, where each average is still the mean of its first values; returns where that ends.
    for column in (15, 16, 17, 18, 21, 22):
        y[column, : min(n, _SEEDED)] = _NAN
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
    return average[0]


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
    gain_14, loss_14, gain_7, loss_7, ema_12, ema_26, fast, signal = averages
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
    averages[:] = (gain_14, loss_14, gain_7, loss_7, ema_12, ema_26, fast, signal)


@_compiled
def _reference_column(
    reference: FloatArray, mode: int, first: int, n: int, series: FloatArray, sums: FloatArray, work: FloatArray, out: FloatArray
) -> None:
    own, mean, other_mean = series[_R], work[0], work[1]
    _sum_60(own, n, sums, mean)
    if mode == OWN_REFERENCE:
        for i in range(n):
            out[i] = 1.0 if math.isfinite(mean[i]) else _NAN
        return
    series[_REFERENCE, BACK : BACK + n] = reference[first : first + n]
    _returns(series[_REFERENCE], series[_REFERENCE_R], n)
    _sum_60(series[_REFERENCE_R], n, sums, other_mean)
    for i in range(n):
        mean[i] /= 60.0
        other_mean[i] /= 60.0
    _correlation(own, series[_REFERENCE_R], n, work, out)


@_compiled
def _correlation(x: FloatArray, y: FloatArray, n: int, work: FloatArray, out: FloatArray) -> None:
    x_mean, y_mean, xx, yy, xy, x_flat, y_flat = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    work[2:, :n] = 0.0
    for k in range(60):
        x_k, y_k = x[BACK - k :], y[BACK - k :]
        for i in range(n):
            dx, dy = x_k[i] - x_mean[i], y_k[i] - y_mean[i]
            xx[i] += dx * dx
            yy[i] += dy * dy
            xy[i] += dx * dy
            # Above 0 as soon as one deviation is more than rounding.
            x_flat[i] = max(x_flat[i], abs(dx) - CONSTANT * abs(x_k[i]))
            y_flat[i] = max(y_flat[i], abs(dy) - CONSTANT * abs(y_k[i]))
    for i in range(n):
        product = math.sqrt(xx[i] * yy[i])
        if math.isnan(product):
            out[i] = _NAN
        elif x_flat[i] > 0.0 and y_flat[i] > 0.0 and product > 0.0:
            out[i] = min(max(xy[i] / product, -1.0), 1.0)
        else:
            out[i] = 0.0


@_compiled
def _write(bars: FloatArray, first: int, n: int, columns: FloatArray, out: FloatArray) -> None:
    columns[9, :n] = bars[first : first + n, _SPREAD]
    for k in range(3):
        columns[25 + k, :n] = bars[first : first + n, _IMBALANCE + k]
    columns[29, :n] = bars[first : first + n, _MICROPRICE]
    for i in range(n):
        for k in range(30):
            out[first + i, k] = columns[k, i]

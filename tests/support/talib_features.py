"""Our features in TA-Lib's words, and where TA-Lib's own numbers can be trusted to 1e-9.

TA-Lib carries sums of squares along: a deviation comes from the difference of two large numbers, and what a large value leaves
behind stays. `deviations` gives it what it can digest: a hundred values at a time, less their first, brought to a size near 1.
"""

from __future__ import annotations

import numpy as np
import talib
from numpy.typing import NDArray

from helios.domain.decisions import FloatArray
from helios.domain.market import BAR_VALUES

_ROWS = 100  # of one call
_SAFE = 1e-2  # least deviation, as part of the largest value in the call, whose digits survive the squares


def averages_and_oscillators(close: FloatArray) -> dict[str, FloatArray]:
    """Return the columns for which TA-Lib is right everywhere."""
    macd, signal, _ = talib.MACD(close, 12, 26, 9)
    return {
        "return_1": np.log(talib.ROCR(close, 1)),
        "return_5": np.log(talib.ROCR(close, 5)),
        "return_20": np.log(talib.ROCR(close, 20)),
        "rsi_14": talib.RSI(close, 14) / 100.0,
        "rsi_7": talib.RSI(close, 7) / 100.0,
        "macd": macd / close,
        "macd_signal": signal / close,
        "sma_20_rel": talib.SMA(close, 20) / close - 1.0,
        "sma_50_rel": talib.SMA(close, 50) / close - 1.0,
        "ema_12_rel": talib.EMA(close, 12) / close - 1.0,
        "ema_26_rel": talib.EMA(close, 26) / close - 1.0,
    }


def bands(close: FloatArray) -> dict[str, FloatArray]:
    """Return the Bollinger bands as TA-Lib's own function gives them; where the price stands still it is off by up to 1e-8."""
    upper, _, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    return {"bollinger_upper_rel": upper / close - 1.0, "bollinger_lower_rel": lower / close - 1.0}


def deviations(x: FloatArray, length: int = 20) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return TA-Lib's population deviation of the last `length` values at each row, and where it has its digits.

    Parameters
    ----------
    x : float64 array of shape (n,)
        May begin with NaN.

    Returns
    -------
    deviation : float64 array of shape (n,)
    is_exact : bool array of shape (n,)
        False also where there are too few values.
    """
    deviation, is_exact = np.full(len(x), np.nan), np.zeros(len(x), dtype=bool)
    first = int(np.argmax(np.isfinite(x)))
    for start in range(first + length - 1, len(x), _ROWS):
        block = x[start - length + 1 : start + _ROWS]
        shifted = block - block[0]
        largest = np.abs(shifted).max()
        if largest > 0.0:
            got = talib.STDDEV(shifted / largest, length)[length - 1 :]
            deviation[start : start + _ROWS] = got * largest
            is_exact[start : start + _ROWS] = got > _SAFE
    return deviation, is_exact


def volume_columns(bars: FloatArray) -> tuple[dict[str, FloatArray], NDArray[np.bool_]]:
    """Return the columns of volume, and where TA-Lib's carried sums have their digits: not where hardly anything is traded."""
    high, low, close, volume = (np.ascontiguousarray(bars[:, BAR_VALUES.index(n)]) for n in ("high", "low", "close", "volume"))
    base = talib.SUM(volume, 20)
    traded = talib.SUM(talib.TYPPRICE(high, low, close) * volume, 20)
    previous = np.concatenate(([np.nan], volume[:-1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "vwap_20_rel": traded / base / close - 1.0,
            "volume_ratio_20": volume / (base / 20.0),
            "volume_change_1": np.log((volume / (base / 20.0) + 1.0) / (previous / (base / 20.0) + 1.0)),
        }
    return columns, base > 1e-4 * volume.max()

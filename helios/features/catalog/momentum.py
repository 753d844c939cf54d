"""Momentum family: oscillators and rates of change. TA-Lib's own numbers, scaled to fractions, except where it keeps running sums.

TA-Lib's rule for undefined cases is kept where TA-Lib computes: RSI is 0 when price has not moved, Aroon counts the newest of
equal extremes. Elsewhere a range or movement of zero gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import talib

from helios.domain.decisions import FloatArray
from helios.features.catalog.frame import CLOSE, HIGH_LOW_CLOSE, CatalogFeature, Frame, ema_bars, settled_bars, wilder_bars
from helios.features.rolling import change, ratio, rolling_max, rolling_mean, rolling_min, rolling_sum, shift

_TOLERANCE = 1e-9
_MACD_BARS = ema_bars(26, 2)
_RSI_BARS = wilder_bars(14)
_RSI_STILL = 1e-4  # a hundredth of a point: a smaller range is not told from what the start of the average leaves behind
_RSI_PLACED_BARS = _RSI_BARS + 94  # until the start weighs 1e-15 of RSI, which is 1e-11 of the smallest range


def rsi(frame: Frame, period: int) -> FloatArray:
    """Return Wilder's relative strength index as a fraction, 0..1."""
    return frame.memo(("rsi", period), lambda: np.asarray(talib.RSI(frame.close, period), dtype=np.float64) / 100.0)


def adx(frame: Frame, period: int = 14) -> FloatArray:
    """Return Wilder's average directional index as a fraction, 0..1."""
    return frame.memo(("adx", period), lambda: _directional(frame, talib.ADX, period))


def macd(frame: Frame, line: int) -> FloatArray:
    """Return MACD (12, 26, 9) over close: 0 the line, 1 its signal, 2 the histogram."""
    lines = frame.memo("macd", lambda: talib.MACD(frame.close, 12, 26, 9))
    return np.asarray(lines[line], dtype=np.float64) / frame.close


def true_range(frame: Frame) -> FloatArray:
    """Return the true range, price units; NaN for the first bar."""

    def compute() -> FloatArray:
        before = shift(frame.close, 1)
        return np.maximum(frame.high, before) - np.minimum(frame.low, before)

    return frame.memo("true_range", compute)


def place_in_range(x: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return (x - low) / (high - low); NaN where there is no range."""
    return ratio(x - low, high - low)


def _directional(frame: Frame, function: Callable[..., Any], period: int) -> FloatArray:
    return np.asarray(function(frame.high, frame.low, frame.close, period), dtype=np.float64) / 100.0


def _stoch_rsi(frame: Frame, smoothing: int) -> FloatArray:
    # While price stands (nearly) still after moving, gains and losses decay alike and RSI stays (nearly) where it was: no range.
    value = rsi(frame, 14)
    low, high = rolling_min(value, 14), rolling_max(value, 14)
    place = place_in_range(value, low, np.where(high - low < _RSI_STILL, low, high))
    return rolling_mean(place, smoothing)


def _stochastic(frame: Frame, smoothing: int) -> FloatArray:
    def compute() -> FloatArray:
        return place_in_range(frame.close, rolling_min(frame.low, 14), rolling_max(frame.high, 14))

    k = rolling_mean(frame.memo("stochastic", compute), 3)
    return rolling_mean(k, smoothing)


def _williams(frame: Frame) -> FloatArray:
    high, low = rolling_max(frame.high, 14), rolling_min(frame.low, 14)
    return ratio(frame.close - high, high - low)


def _macd_derivative(frame: Frame, line: int, order: int) -> FloatArray:
    value = macd(frame, line)
    return change(value) if order == 1 else change(change(value))


def _rate_of_change(frame: Frame, period: int) -> FloatArray:
    return frame.close / shift(frame.close, period) - 1.0


def _momentum(frame: Frame, period: int) -> FloatArray:
    return change(frame.close, period) / frame.close


def _ultimate(frame: Frame) -> FloatArray:
    pressure = frame.close - np.minimum(frame.low, shift(frame.close, 1))
    parts = [ratio(rolling_sum(pressure, n), rolling_sum(true_range(frame), n)) for n in (7, 14, 28)]
    return (4.0 * parts[0] + 2.0 * parts[1] + parts[2]) / 7.0


def _awesome(frame: Frame) -> FloatArray:
    median = (frame.high + frame.low) / 2.0
    return (rolling_mean(median, 5) - rolling_mean(median, 34)) / frame.close


def _cci(frame: Frame, period: int) -> FloatArray:
    typical = frame.typical
    mean = rolling_mean(typical, period)
    distance = np.zeros(frame.n_bars)
    for lag in range(period):
        distance += np.abs(shift(typical, lag) - mean)
    # The mean of equal prices may differ from them in the last digit; such a window has no deviation to compare with.
    is_flat = rolling_max(typical, period) == rolling_min(typical, period)
    return ratio(typical - mean, np.where(is_flat, 0.0, 0.015 * distance / period))


def _aroon(frame: Frame, is_up: bool) -> FloatArray:
    down, up = frame.memo("aroon", lambda: talib.AROON(frame.high, frame.low, 25))
    return np.asarray(up if is_up else down, dtype=np.float64) / 100.0


def _trix(frame: Frame, period: int) -> FloatArray:
    return np.asarray(talib.TRIX(frame.close, period), dtype=np.float64) / 100.0


def _cmo(frame: Frame, period: int) -> FloatArray:
    return np.asarray(talib.CMO(frame.close, period), dtype=np.float64) / 100.0


_feature = partial(CatalogFeature, family="momentum")
_window = partial(CatalogFeature, family="momentum", inputs=CLOSE)
_recursive = partial(CatalogFeature, family="momentum", inputs=CLOSE, tolerance=_TOLERANCE)
_bars = partial(CatalogFeature, family="momentum", inputs=HIGH_LOW_CLOSE)

FEATURES: Final[tuple[CatalogFeature, ...]] = (
    *(
        _recursive(
            name=f"rsi_{n}",
            lookback=wilder_bars(n),
            doc=f"Wilder's RSI of {n} (TA-Lib), 0..1.",
            compute=partial(rsi, period=n),
            low=0.0,
            high=1.0,
        )
        for n in (7, 14, 21)
    ),
    *(
        _recursive(
            name=f"stoch_rsi_{part}",
            lookback=_RSI_PLACED_BARS + 13 + smoothing,
            doc=f"RSI 14 within its last 14 values, mean of {smoothing}; NaN where it hardly moved.",
            compute=partial(_stoch_rsi, smoothing=smoothing),
            low=-1e-9,
            high=1.0 + 1e-9,
        )
        for part, smoothing in (("k", 1), ("d", 3))
    ),
    *(
        _bars(
            name=f"stochastic_{part}",
            lookback=14 + 2 + smoothing - 1,
            doc=f"Close within the range of 14 bars, mean of 3 (and of {smoothing}).",
            compute=partial(_stochastic, smoothing=smoothing),
            low=-1e-9,
            high=1.0 + 1e-9,
        )
        for part, smoothing in (("k", 1), ("d", 3))
    ),
    _bars(name="williams_r_14", lookback=14, doc="Williams %R of 14, -1..0.", compute=_williams, low=-1.0, high=0.0),
    *(
        _recursive(
            name=name, lookback=_MACD_BARS, doc=f"MACD (12, 26, 9) {text} over close (TA-Lib).", compute=partial(macd, line=line)
        )
        for line, (name, text) in enumerate(
            (("macd_rel", "line"), ("macd_signal_rel", "signal"), ("macd_histogram_rel", "histogram"))
        )
    ),
    *(
        _recursive(
            name=f"{name}_{word}",
            lookback=_MACD_BARS + order,
            doc=f"Change of the {name.replace('_', ' ')} over close, order {order}.",
            compute=partial(_macd_derivative, line=line, order=order),
        )
        for line, name in ((1, "macd_signal"), (2, "macd_histogram"))
        for order, word in ((1, "slope"), (2, "curvature"))
    ),
    *(
        _window(
            name=f"roc_{n}",
            lookback=n + 1,
            doc=f"Rate of change over {n} bars.",
            compute=partial(_rate_of_change, period=n),
            low=-1.0,
        )
        for n in (5, 10, 20, 50)
    ),
    *(
        _window(
            name=f"momentum_{n}_rel",
            lookback=n + 1,
            doc=f"Price change over {n} bars over close.",
            compute=partial(_momentum, period=n),
            high=1.0,
        )
        for n in (10, 20)
    ),
    _bars(
        name="ultimate_oscillator",
        lookback=29,
        doc="Ultimate oscillator (7, 14, 28), 0..1.",
        compute=_ultimate,
        low=-1e-9,
        high=1.0 + 1e-9,
    ),
    _feature(
        name="awesome_oscillator_rel",
        lookback=34,
        inputs=HIGH_LOW_CLOSE,
        doc="Mean of 5 less mean of 34 bar centres, over close.",
        compute=_awesome,
    ),
    *(
        _bars(name=f"cci_{n}", lookback=n, doc=f"Commodity channel index of {n}.", compute=partial(_cci, period=n), unit="number")
        for n in (14, 20)
    ),
    _bars(
        name="adx_14",
        lookback=wilder_bars(14, 2),
        doc="Average directional index (TA-Lib), 0..1.",
        compute=adx,
        low=0.0,
        high=1.0 + 1e-9,
        tolerance=_TOLERANCE,
    ),
    *(
        _bars(
            name=f"{name}_di_14",
            lookback=wilder_bars(14),
            doc=f"Directional indicator {name} (TA-Lib), 0..1.",
            compute=partial(_directional, function=function, period=14),
            low=0.0,
            high=1.0 + 1e-9,
            tolerance=_TOLERANCE,
        )
        for name, function in (("plus", talib.PLUS_DI), ("minus", talib.MINUS_DI))
    ),
    *(
        _feature(
            name=f"aroon_{name}_25",
            lookback=26,
            inputs=("high", "low"),
            doc=f"Aroon {name} (TA-Lib), 0..1.",
            compute=partial(_aroon, is_up=name == "up"),
            low=0.0,
            high=1.0,
        )
        for name in ("up", "down")
    ),
    _feature(
        name="aroon_oscillator_25",
        lookback=26,
        inputs=("high", "low"),
        doc="Aroon up less Aroon down.",
        compute=lambda frame: _aroon(frame, True) - _aroon(frame, False),
        low=-1.0,
        high=1.0,
    ),
    _recursive(
        name="trix_15",
        lookback=ema_bars(15, 3) + 1,
        doc="Rate of change of a triple exponential average (TA-Lib).",
        compute=partial(_trix, period=15),
    ),
    _recursive(
        name="cmo_14",
        lookback=settled_bars(13 / 14, 15),
        doc="Chande momentum oscillator (TA-Lib), -1..1.",
        compute=partial(_cmo, period=14),
        low=-1.0,
        high=1.0,
    ),
)

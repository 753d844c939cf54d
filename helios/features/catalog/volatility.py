"""Volatility family: ranges, bands and deviations. Deviations are per bar, not annualised."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import talib

from helios.domain.decisions import FloatArray
from helios.features.catalog.frame import CANDLE, CLOSE, HIGH_LOW_CLOSE, CatalogFeature, Frame, ema_bars, wilder_bars
from helios.features.catalog.momentum import place_in_range, true_range
from helios.features.catalog.price import ema, sma
from helios.features.rolling import ratio, rolling_max, rolling_mean, rolling_min, rolling_std, shift

_TOLERANCE = 1e-9
_ROUNDING = 1e-12
_LOG_2 = float(np.log(2.0))


def atr(frame: Frame, period: int) -> FloatArray:
    """Return Wilder's average true range (TA-Lib), price units."""

    def compute() -> FloatArray:
        return np.asarray(talib.ATR(frame.high, frame.low, frame.close, period), dtype=np.float64)

    return frame.memo(("atr", period), compute)


def historical_volatility(frame: Frame, period: int) -> FloatArray:
    """Return the sample deviation of the last `period` one-bar log returns, per bar."""
    return frame.memo(("volatility", period), lambda: rolling_std(frame.returns, period))


def close_deviation(frame: Frame, period: int) -> FloatArray:
    """Return the population deviation of the last closes, price units."""
    return frame.memo(("deviation", period), lambda: rolling_std(frame.close, period, ddof=0))


def _natr(frame: Frame, period: int) -> FloatArray:
    return atr(frame, period) / frame.close


def _true_range_rel(frame: Frame) -> FloatArray:
    return true_range(frame) / frame.close


def _percent_b(frame: Frame, period: int) -> FloatArray:
    mean, width = sma(frame, period), 2.0 * close_deviation(frame, period)
    return ratio(frame.close - mean + width, 2.0 * width)


def _bandwidth(frame: Frame, period: int) -> FloatArray:
    return 4.0 * close_deviation(frame, period) / sma(frame, period)


def _keltner(frame: Frame, side: float) -> FloatArray:
    return (ema(frame, 20) + side * 2.0 * atr(frame, 10)) / frame.close - 1.0


def _keltner_position(frame: Frame) -> FloatArray:
    reach = 2.0 * atr(frame, 10)
    # What an average remembers of ranges long past fades to nothing but never to 0: the place between such lines is rounding.
    reach = np.where(reach <= _ROUNDING * frame.close, 0.0, reach)
    return ratio(frame.close - ema(frame, 20) + reach, 2.0 * reach)


def _channel(frame: Frame, period: int) -> tuple[FloatArray, FloatArray]:
    return frame.memo(("donchian", period), lambda: (rolling_min(frame.low, period), rolling_max(frame.high, period)))


def _donchian(frame: Frame, period: int, side: int) -> FloatArray:
    return _channel(frame, period)[side] / frame.close - 1.0


def _donchian_position(frame: Frame, period: int) -> FloatArray:
    return place_in_range(frame.close, *_channel(frame, period))


def _donchian_width(frame: Frame, period: int) -> FloatArray:
    low, high = _channel(frame, period)
    return (high - low) / frame.close


def _parkinson(frame: Frame, period: int) -> FloatArray:
    reach = np.log(frame.high / frame.low)
    return np.sqrt(rolling_mean(reach * reach, period) / (4.0 * _LOG_2))


def _garman_klass(frame: Frame, period: int) -> FloatArray:
    reach, body = np.log(frame.high / frame.low), np.log(frame.close / frame.open)
    return np.sqrt(rolling_mean(0.5 * reach * reach - (2.0 * _LOG_2 - 1.0) * body * body, period))


def _rogers_satchell_variance(frame: Frame, period: int) -> FloatArray:
    up = np.log(frame.high / frame.close) * np.log(frame.high / frame.open)
    down = np.log(frame.low / frame.close) * np.log(frame.low / frame.open)
    return rolling_mean(up + down, period)


def _rogers_satchell(frame: Frame, period: int) -> FloatArray:
    return np.sqrt(_rogers_satchell_variance(frame, period))


def _yang_zhang(frame: Frame, period: int) -> FloatArray:
    # Overnight, open-to-close and Rogers-Satchell parts, weighted as in Yang and Zhang (2000), equation 10.
    weight = 0.34 / (1.34 + (period + 1) / (period - 1))
    overnight = rolling_std(np.log(frame.open / shift(frame.close, 1)), period) ** 2
    day = rolling_std(np.log(frame.close / frame.open), period) ** 2
    return np.sqrt(overnight + weight * day + (1.0 - weight) * _rogers_satchell_variance(frame, period))


def _volatility_of_volatility(frame: Frame) -> FloatArray:
    return rolling_std(historical_volatility(frame, 20), 20)


def _ulcer(frame: Frame, period: int) -> FloatArray:
    fall = frame.close / rolling_max(frame.close, period) - 1.0
    return np.sqrt(rolling_mean(fall * fall, period))


_feature = partial(CatalogFeature, family="volatility", low=0.0)
_bars = partial(CatalogFeature, family="volatility", inputs=HIGH_LOW_CLOSE)
_positive = partial(_bars, low=0.0)
_recursive = partial(_bars, tolerance=_TOLERANCE)
_KELTNER_BARS = max(ema_bars(20), wilder_bars(10))


def _estimator(name: str, function: Callable[..., Any], inputs: tuple[str, ...], doc: str, extra: int = 0) -> CatalogFeature:
    return _feature(name=f"{name}_20", lookback=20 + extra, inputs=inputs, doc=doc, compute=partial(function, period=20))


FEATURES: Final[tuple[CatalogFeature, ...]] = (
    *(
        _recursive(
            name=f"atr_{n}",
            lookback=wilder_bars(n),
            doc=f"Average true range of {n} (TA-Lib).",
            compute=partial(atr, period=n),
            unit="price",
            low=0.0,
        )
        for n in (7, 14, 21, 50)
    ),
    *(
        _recursive(
            name=f"natr_{n}",
            lookback=wilder_bars(n),
            doc=f"Average true range of {n} over close.",
            compute=partial(_natr, period=n),
            low=0.0,
        )
        for n in (14, 50)
    ),
    _positive(name="true_range_rel", lookback=2, doc="True range over close.", compute=_true_range_rel),
    *(
        _bars(
            name=f"bollinger_percent_b_{n}",
            lookback=n,
            inputs=CLOSE,
            doc=f"Place of the close between the bands ({n}, 2); beyond 0..1 outside them, NaN where price stood still.",
            compute=partial(_percent_b, period=n),
        )
        for n in (20, 50)
    ),
    *(
        _positive(
            name=f"bollinger_bandwidth_{n}",
            lookback=n,
            inputs=CLOSE,
            doc=f"Width of the bands ({n}, 2) over their centre.",
            compute=partial(_bandwidth, period=n),
        )
        for n in (20, 50)
    ),
    *(
        _recursive(
            name=f"keltner_{name}_rel",
            lookback=_KELTNER_BARS,
            doc=f"Keltner {name} line (EMA 20, 2 ATR 10) over close, less 1.",
            compute=partial(_keltner, side=side),
        )
        for name, side in (("upper", 1.0), ("lower", -1.0))
    ),
    _recursive(
        name="keltner_position",
        lookback=_KELTNER_BARS,
        doc="Place of the close between the Keltner lines; NaN where price stood still.",
        compute=_keltner_position,
    ),
    *(
        _bars(
            name=f"donchian_{name}_{n}_rel",
            lookback=n,
            doc=f"{name.capitalize()} end of the range of {n} bars over close, less 1.",
            compute=partial(_donchian, period=n, side=side),
        )
        for n in (20, 55)
        for side, name in enumerate(("lower", "upper"))
    ),
    *(
        _positive(
            name=f"donchian_position_{n}",
            lookback=n,
            doc=f"Place of the close in the range of {n} bars; NaN without a range.",
            compute=partial(_donchian_position, period=n),
            high=1.0,
        )
        for n in (20, 55)
    ),
    *(
        _positive(
            name=f"donchian_width_{n}", lookback=n, doc=f"Range of {n} bars over close.", compute=partial(_donchian_width, period=n)
        )
        for n in (20, 55)
    ),
    *(
        _positive(
            name=f"volatility_{n}",
            lookback=n + 1,
            inputs=CLOSE,
            doc=f"Deviation of {n} log returns.",
            compute=partial(historical_volatility, period=n),
        )
        for n in (10, 20, 50, 100)
    ),
    _estimator("parkinson", _parkinson, ("high", "low"), "Parkinson's deviation from ranges, 20 bars."),
    _estimator("garman_klass", _garman_klass, CANDLE, "Garman and Klass' deviation, 20 bars."),
    _estimator("rogers_satchell", _rogers_satchell, CANDLE, "Rogers and Satchell's deviation, 20 bars."),
    _estimator("yang_zhang", _yang_zhang, CANDLE, "Yang and Zhang's deviation, 20 bars.", extra=1),
    _positive(
        name="volatility_of_volatility_20",
        lookback=40,
        inputs=CLOSE,
        doc="Deviation of 20 values of volatility_20.",
        compute=_volatility_of_volatility,
    ),
    _positive(
        name="ulcer_index_20",
        lookback=39,
        inputs=CLOSE,
        doc="Root mean square fall from the highest close of 20.",
        compute=partial(_ulcer, period=20),
    ),
)

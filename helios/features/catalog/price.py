"""Price family: averages, pivots and fractal levels, each relative to the close (level / close - 1).

VWAP is a rolling window, never a sum since the start of the history. Pivots come from the previous whole UTC day, fractals
count from the bar that confirms them: both are known at the bar that shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import talib

from helios.domain.decisions import FloatArray
from helios.features.catalog.frame import CLOSE, HIGH_LOW_CLOSE, CatalogFeature, Frame, ema_bars
from helios.features.rolling import ratio, rolling_mean, rolling_sum, rolling_trend, shift

MA_PERIODS: Final = (10, 20, 50, 100, 200)
FRACTAL_BARS: Final = 100
"""How long a confirmed fractal level stays in force."""
_WING = 2  # bars on each side of a fractal
_DAY_NS = 86_400 * 1_000_000_000
_TWO_DAYS = 2 * 1440  # in minutes, the shortest bars there are
_TOLERANCE = 1e-9


def sma(frame: Frame, period: int) -> FloatArray:
    """Return the simple mean of the last closes, price units."""
    return frame.memo(("sma", period), lambda: rolling_mean(frame.close, period))


def ema(frame: Frame, period: int) -> FloatArray:
    """Return TA-Lib's exponential average of the closes, price units."""
    return frame.memo(("ema", period), lambda: np.asarray(talib.EMA(frame.close, period), dtype=np.float64))


def wma(x: FloatArray, period: int) -> FloatArray:
    """Return the linearly weighted mean of the last values (newest counts `period` times), by way of the line through them."""
    trend = rolling_trend(x, period)
    return trend.mean + trend.slope * (period - 1) / 6.0


def vwma(frame: Frame, period: int) -> FloatArray:
    """Return the volume-weighted mean of the last closes; NaN where nothing was traded."""

    def compute() -> FloatArray:
        return ratio(rolling_sum(frame.close * frame.volume, period), rolling_sum(frame.volume, period))

    return frame.memo(("vwma", period), compute)


def _rel(average: Callable[..., FloatArray], frame: Frame, /, **arguments: Any) -> FloatArray:
    return average(frame, **arguments) / frame.close - 1.0


def _vwap(frame: Frame, period: int) -> FloatArray:
    # Traded value over volume; without known turnover the typical price stands in, as in the model's vwap_20_rel.
    traded = rolling_sum(frame.quote_volume, period)
    typical = rolling_sum(frame.typical * frame.volume, period)
    return ratio(np.where(np.isnan(traded), typical, traded), rolling_sum(frame.volume, period))


def _twap(frame: Frame, period: int) -> FloatArray:
    return rolling_mean((frame.open + frame.high + frame.low + frame.close) / 4.0, period)


def _dema(frame: Frame, period: int) -> FloatArray:
    return np.asarray(talib.DEMA(frame.close, period), dtype=np.float64)


def _tema(frame: Frame, period: int) -> FloatArray:
    return np.asarray(talib.TEMA(frame.close, period), dtype=np.float64)


def _zlema(frame: Frame, period: int) -> FloatArray:
    # Ehlers and Way: the average of a price pushed ahead by what the average lags behind.
    ahead = 2.0 * frame.close - shift(frame.close, (period - 1) // 2)
    return np.asarray(talib.EMA(ahead, period), dtype=np.float64)


def _wma(frame: Frame, period: int) -> FloatArray:
    return wma(frame.close, period)


def _hull(frame: Frame, period: int) -> FloatArray:
    return wma(2.0 * wma(frame.close, period // 2) - wma(frame.close, period), round(period**0.5))


def _previous_day(frame: Frame) -> tuple[FloatArray, FloatArray, FloatArray]:
    # High, low and close of the UTC day before each bar's own; NaN unless the history holds that day from its start.
    unknown = frame.unknown()
    if frame.open_times is None or frame.n_bars == 0:
        return unknown, unknown, unknown
    days = frame.open_times // _DAY_NS
    first = np.flatnonzero(np.concatenate(([True], days[1:] != days[:-1])))
    high, low = np.maximum.reduceat(frame.high, first), np.minimum.reduceat(frame.low, first)
    close = frame.close[np.concatenate((first[1:] - 1, [frame.n_bars - 1]))]
    if frame.open_times[0] % _DAY_NS:
        high[0] = low[0] = close[0] = np.nan
    before = np.searchsorted(first, np.arange(frame.n_bars), side="right") - 2
    is_next_day = (before >= 0) & (days[first[np.maximum(before, 0)]] == days - 1)
    return tuple(np.where(is_next_day, x[np.maximum(before, 0)], np.nan) for x in (high, low, close))  # type: ignore[return-value]


def _pivot(frame: Frame, kind: str, level: str) -> FloatArray:
    high, low, close = frame.memo("previous_day", lambda: _previous_day(frame))
    return _PIVOTS[kind](high, low, close)[level]


def _standard(high: FloatArray, low: FloatArray, close: FloatArray) -> dict[str, FloatArray]:
    pivot = (high + low + close) / 3.0
    reach = high - low
    return {
        "p": pivot,
        "r1": 2.0 * pivot - low, "r2": pivot + reach, "r3": high + 2.0 * (pivot - low),
        "s1": 2.0 * pivot - high, "s2": pivot - reach, "s3": low - 2.0 * (high - pivot),
    }  # fmt: skip


def _fibonacci(high: FloatArray, low: FloatArray, close: FloatArray) -> dict[str, FloatArray]:
    pivot, reach = (high + low + close) / 3.0, high - low
    parts = {"1": 0.382, "2": 0.618, "3": 1.0}
    return {f"r{i}": pivot + part * reach for i, part in parts.items()} | {f"s{i}": pivot - part * reach for i, part in parts.items()}


def _camarilla(high: FloatArray, low: FloatArray, close: FloatArray) -> dict[str, FloatArray]:
    parts = {"1": 1.1 / 12.0, "2": 1.1 / 6.0, "3": 1.1 / 4.0, "4": 1.1 / 2.0}
    reach = high - low
    return {f"r{i}": close + part * reach for i, part in parts.items()} | {f"s{i}": close - part * reach for i, part in parts.items()}


_PIVOTS = {"standard": _standard, "fibonacci": _fibonacci, "camarilla": _camarilla}
_PIVOT_LEVELS = {
    "standard": ("p", "r1", "r2", "r3", "s1", "s2", "s3"),
    "fibonacci": ("r1", "r2", "r3", "s1", "s2", "s3"),
    "camarilla": ("r1", "r2", "r3", "r4", "s1", "s2", "s3", "s4"),
}


def _fractal_level(frame: Frame, is_resistance: bool) -> FloatArray:
    # Centre strictly beyond two bars on each side; seen from two bars later on, and for FRACTAL_BARS after the centre.
    x = frame.high if is_resistance else -frame.low
    centre = shift(x, _WING)
    is_confirmed = np.ones(frame.n_bars, dtype=np.bool_)
    for lag in (0, 1, 3, 4):
        is_confirmed &= centre > shift(x, lag)
    rows = np.arange(frame.n_bars)
    confirmed_at = np.maximum.accumulate(np.where(is_confirmed, rows, -1))
    is_fresh = (confirmed_at >= 0) & (rows - confirmed_at + _WING < FRACTAL_BARS)
    level = np.abs(centre[np.maximum(confirmed_at, 0)])
    return np.where(is_fresh, level, np.nan)


_price = partial(CatalogFeature, family="price")
_recursive = partial(CatalogFeature, family="price", inputs=CLOSE, tolerance=_TOLERANCE)

FEATURES: Final[tuple[CatalogFeature, ...]] = (
    *(
        _price(name=f"sma_{n}_rel", lookback=n, inputs=CLOSE, doc=f"Simple mean of {n} closes.", compute=partial(_rel, sma, period=n))
        for n in MA_PERIODS
    ),
    *(
        _recursive(
            name=f"ema_{n}_rel",
            lookback=ema_bars(n),
            doc=f"Exponential average of {n} (TA-Lib).",
            compute=partial(_rel, ema, period=n),
        )
        for n in MA_PERIODS
    ),
    *(
        _price(
            name=f"vwap_{n}_rel",
            lookback=n,
            inputs=(*HIGH_LOW_CLOSE, "volume", "quote_volume"),
            doc=f"Traded value over volume of {n} bars; typical prices where turnover is unknown; NaN without volume.",
            compute=partial(_rel, _vwap, period=n),
        )
        for n in (20, 50, 100)
    ),
    *(
        _price(
            name=f"twap_{n}_rel",
            lookback=n,
            inputs=("open", *HIGH_LOW_CLOSE),
            doc=f"Mean of (O+H+L+C)/4 over {n} bars.",
            compute=partial(_rel, _twap, period=n),
        )
        for n in (20, 50)
    ),
    _recursive(
        name="dema_20_rel",
        lookback=ema_bars(20, 2),
        doc="Double exponential average (TA-Lib).",
        compute=partial(_rel, _dema, period=20),
    ),
    _recursive(
        name="tema_20_rel",
        lookback=ema_bars(20, 3),
        doc="Triple exponential average (TA-Lib).",
        compute=partial(_rel, _tema, period=20),
    ),
    _recursive(
        name="zlema_20_rel", lookback=ema_bars(20) + 9, doc="Zero-lag exponential average.", compute=partial(_rel, _zlema, period=20)
    ),
    _price(name="wma_20_rel", lookback=20, inputs=CLOSE, doc="Linearly weighted mean.", compute=partial(_rel, _wma, period=20)),
    _price(name="hull_20_rel", lookback=23, inputs=CLOSE, doc="Hull average.", compute=partial(_rel, _hull, period=20)),
    *(
        _price(
            name=f"pivot_{kind}_{level}_rel",
            lookback=_TWO_DAYS,
            inputs=(*HIGH_LOW_CLOSE, "open_time"),
            doc=f"{kind.capitalize()} pivot level {level.upper()} of the previous whole UTC day.",
            compute=partial(_rel, _pivot, kind=kind, level=level),
        )
        for kind, levels in _PIVOT_LEVELS.items()
        for level in levels
    ),
    *(
        _price(
            name=f"fractal_{name}_rel",
            lookback=FRACTAL_BARS + _WING,
            inputs=(column, "close"),
            doc=f"Last confirmed five-bar fractal {column} of {FRACTAL_BARS} bars; NaN without one.",
            compute=partial(_rel, _fractal_level, is_resistance=name == "resistance"),
        )
        for name, column in (("resistance", "high"), ("support", "low"))
    ),
)

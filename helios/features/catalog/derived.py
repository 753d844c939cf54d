"""Derived family: ratios of averages, divergences, volatility regime and trend strength."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from helios.domain.decisions import FloatArray
from helios.features.catalog.frame import CLOSE, HIGH_LOW_CLOSE, CatalogFeature, Frame, ema_bars, wilder_bars
from helios.features.catalog.momentum import adx, macd, rsi
from helios.features.catalog.price import ema, sma
from helios.features.catalog.volatility import historical_volatility
from helios.features.catalog.volume import signed_volume
from helios.features.rolling import Trend, change, ratio, rolling_rank, rolling_sum, rolling_trend

_TOLERANCE = 1e-9
_DIVERGENCE_BARS = 20
_REGIME_BARS = 200
_LOW, _HIGH, _EXTREME = 0.25, 0.75, 0.95  # the quantiles of the risk tier's regimes
_TRENDING = 0.25  # Wilder's reading of ADX


def log_trend(frame: Frame, period: int) -> Trend:
    """Return the line through the last log closes."""
    return frame.memo(("log_trend", period), lambda: rolling_trend(frame.log_close, period))


def trend_strength(frame: Frame, period: int = 20) -> FloatArray:
    """Return the sign of the slope times R-squared of a line through the last log closes, -1..1; 0 where price stood still."""
    trend = log_trend(frame, period)
    return np.where(trend.slope == 0.0, 0.0, np.sign(trend.slope) * trend.r_squared)


def _slope(frame: Frame, period: int) -> FloatArray:
    return log_trend(frame, period).slope


def _sma_ratio(frame: Frame, short: int, long: int) -> FloatArray:
    return sma(frame, short) / sma(frame, long) - 1.0


def _ema_ratio(frame: Frame, short: int, long: int) -> FloatArray:
    return ema(frame, short) / ema(frame, long) - 1.0


def _sma_order(frame: Frame, short: int, long: int) -> FloatArray:
    return np.sign(sma(frame, short) - sma(frame, long))


def _price_over_sma(frame: Frame, period: int) -> FloatArray:
    return frame.close / sma(frame, period) - 1.0


def _divergence(price: FloatArray, other: FloatArray) -> FloatArray:
    # +1: the indicator rises while price falls; -1: it falls while price rises; by lines through the last bars.
    p, o = rolling_trend(price, _DIVERGENCE_BARS).slope, rolling_trend(other, _DIVERGENCE_BARS).slope
    signal = np.where((p < 0.0) & (o > 0.0), 1.0, np.where((p > 0.0) & (o < 0.0), -1.0, 0.0))
    return np.where(np.isnan(p) | np.isnan(o), np.nan, signal)


def _rsi_divergence(frame: Frame) -> FloatArray:
    return _divergence(frame.close, rsi(frame, 14))


def _macd_divergence(frame: Frame) -> FloatArray:
    return _divergence(frame.close, macd(frame, 2))


def _volume_divergence(frame: Frame) -> FloatArray:
    # Signed volume of a trailing window in place of on-balance volume, which would depend on where the history begins.
    return _divergence(frame.close, rolling_sum(signed_volume(frame), _DIVERGENCE_BARS))


def _volatility_rank(frame: Frame) -> FloatArray:
    return frame.memo("volatility_rank", lambda: rolling_rank(historical_volatility(frame, 20), _REGIME_BARS))


def _in_regime(frame: Frame, low: float, high: float) -> FloatArray:
    rank = _volatility_rank(frame)
    return np.where(np.isnan(rank), np.nan, ((rank > low) & (rank <= high)).astype(np.float64))


def _volatility_ratio(frame: Frame, short: int, long: int) -> FloatArray:
    return ratio(historical_volatility(frame, short), historical_volatility(frame, long))


def _is_trending(frame: Frame) -> FloatArray:
    value = adx(frame)
    return np.where(np.isnan(value), np.nan, (value > _TRENDING).astype(np.float64))


def _trend_persistence(frame: Frame, period: int) -> FloatArray:
    return rolling_sum(np.sign(change(frame.close)), period) / period


_feature = partial(CatalogFeature, family="derived", inputs=CLOSE)
_flag = partial(_feature, unit="flag", low=-1.0, high=1.0)
_rank = partial(_feature, lookback=_REGIME_BARS + 20, low=0.0, high=1.0)

FEATURES: Final[tuple[CatalogFeature, ...]] = (
    *(
        _feature(
            name=f"price_over_sma_{n}",
            lookback=n,
            doc=f"Close over its mean of {n}, less 1.",
            compute=partial(_price_over_sma, period=n),
            low=-1.0,
        )
        for n in (20, 50, 200)
    ),
    *(
        _feature(
            name=f"sma_{short}_over_{long}",
            lookback=long,
            doc=f"Mean of {short} over mean of {long} closes, less 1.",
            compute=partial(_sma_ratio, short=short, long=long),
            low=-1.0,
        )
        for short, long in ((10, 50), (20, 100), (50, 200))
    ),
    _feature(
        name="ema_12_over_26",
        lookback=ema_bars(26),
        doc="EMA 12 over EMA 26, less 1.",
        compute=partial(_ema_ratio, short=12, long=26),
        low=-1.0,
        tolerance=_TOLERANCE,
    ),
    _flag(
        name="sma_order_50_200",
        lookback=200,
        doc="Sign of mean of 50 less mean of 200.",
        compute=partial(_sma_order, short=50, long=200),
    ),
    _flag(
        name="rsi_divergence_20",
        lookback=wilder_bars(14) + 19,
        doc="RSI against price over 20 bars: +1 bullish, -1 bearish, else 0.",
        compute=_rsi_divergence,
        tolerance=_TOLERANCE,
    ),
    _flag(
        name="macd_divergence_20",
        lookback=ema_bars(26, 2) + 19,
        doc="MACD histogram against price over 20 bars.",
        compute=_macd_divergence,
        tolerance=_TOLERANCE,
    ),
    _flag(
        name="volume_divergence_20",
        lookback=40,
        inputs=("close", "volume"),
        doc="Signed volume of 20 against price over 20 bars.",
        compute=_volume_divergence,
    ),
    _rank(name="volatility_rank_200", doc="Rank of volatility_20 among its last 200 values.", compute=_volatility_rank),
    *(
        _rank(
            name=f"is_volatility_{name}",
            doc=f"1 where volatility_rank_200 is in ({low:g}, {high:g}], else 0.",
            compute=partial(_in_regime, low=low, high=high),
            unit="flag",
        )
        for name, low, high in (("low", 0.0, _LOW), ("medium", _LOW, _HIGH), ("high", _HIGH, _EXTREME), ("extreme", _EXTREME, 1.0))
    ),
    _feature(
        name="volatility_10_over_50",
        lookback=51,
        doc="Deviation of 10 over deviation of 50 returns.",
        compute=partial(_volatility_ratio, short=10, long=50),
        low=0.0,
    ),
    *(
        _feature(
            name=f"trend_strength_{n}",
            lookback=n,
            doc=f"Sign of slope times R-squared of a line through {n} log closes.",
            compute=partial(trend_strength, period=n),
            low=-1.0,
            high=1.0,
        )
        for n in (20, 50, 100)
    ),
    *(
        _feature(
            name=f"trend_slope_{n}",
            lookback=n,
            doc=f"Rise per bar of a line through {n} log closes.",
            compute=partial(_slope, period=n),
            unit="log",
        )
        for n in (20, 50)
    ),
    _feature(
        name="is_trending_adx",
        lookback=wilder_bars(14, 2),
        inputs=HIGH_LOW_CLOSE,
        doc="1 where ADX is above 0.25, else 0.",
        compute=_is_trending,
        unit="flag",
        low=0.0,
        high=1.0,
        tolerance=_TOLERANCE,
    ),
    _feature(
        name="trend_persistence_20",
        lookback=21,
        doc="Rising less falling bars of 20, as a fraction.",
        compute=partial(_trend_persistence, period=20),
        low=-1.0,
        high=1.0,
    ),
)

"""The grid bot's feature set, by its own definitions: raw price units, RSI on simple rolling means, a book's five numbers.

The spread in price units, the mid and the micro price need the mid price, which bars do not carry: they are NaN unless the caller
passes it. `microstructure_score` is the same formula for one moment, for callers that hold the book itself.

`GRID_SAMPLE` are the nine inputs of the bot's sample dictionary, in its order.
"""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Final

import numpy as np

from helios.domain.decisions import FloatArray
from helios.features.catalog.derived import trend_strength
from helios.features.catalog.frame import CLOSE, CatalogFeature, Frame
from helios.features.catalog.price import sma
from helios.features.catalog.volatility import close_deviation, historical_volatility
from helios.features.rolling import change, ratio, rolling_mean, shift

_BPS = 1e4
_YEAR_S = 365 * 86_400.0  # this market never closes
_FIVE_MINUTES_NS = 300 * 1_000_000_000

GRID_SAMPLE: Final[tuple[str, ...]] = (
    "grid_price_change_5m",
    "grid_band_position",
    "grid_volume_ratio_20",
    "grid_spread_bps",
    "grid_order_imbalance",
    "grid_rsi_14",
    "grid_volatility_5",
    "grid_trend_strength",
    "grid_microstructure_score",
)


def microstructure_score(spread_bps: FloatArray, imbalance: FloatArray, close: FloatArray, mid: FloatArray) -> FloatArray:
    """Return the mean of 1 / (1 + spread / 10 bps), 1 - |imbalance| and 1 - |close - mid| / mid; NaN where one is unknown."""
    return (1.0 / (1.0 + spread_bps / 10.0) + (1.0 - np.abs(imbalance)) + (1.0 - np.abs(close - mid) / mid)) / 3.0


def _simple_return(frame: Frame) -> FloatArray:
    return frame.close / shift(frame.close, 1) - 1.0


def _distance(frame: Frame, period: int) -> FloatArray:
    return frame.close / sma(frame, period) - 1.0


def _annualised(frame: Frame, period: int) -> FloatArray:
    return historical_volatility(frame, period) * np.sqrt(_YEAR_S / frame.period_s)


def _volume_mean(frame: Frame) -> FloatArray:
    return rolling_mean(frame.volume, 20)


def _volume_ratio(frame: Frame) -> FloatArray:
    return ratio(frame.volume, _volume_mean(frame))


def _rsi_simple(frame: Frame) -> FloatArray:
    # Means of gains and losses over 14 changes, without Wilder's memory; NaN where price did not move.
    step = change(frame.close)
    gain = rolling_mean(np.where(np.isnan(step), np.nan, np.maximum(step, 0.0)), 14)
    loss = rolling_mean(np.where(np.isnan(step), np.nan, np.maximum(-step, 0.0)), 14)
    return ratio(gain, gain + loss)


def _band(frame: Frame, side: float) -> FloatArray:
    return sma(frame, 20) + side * 2.0 * close_deviation(frame, 20)


def _band_position(frame: Frame) -> FloatArray:
    lower = _band(frame, -1.0)
    return ratio(frame.close - lower, _band(frame, 1.0) - lower)


def _spread(frame: Frame) -> FloatArray:
    return frame.spread_bps / _BPS * frame.mid


def _micro_price(frame: Frame) -> FloatArray:
    # (bid x ask quantity + ask x bid quantity) / total; the bar keeps it as its distance from the mid.
    return frame.mid * (1.0 + frame.microprice_bps / _BPS)


def _price_change_5m(frame: Frame) -> FloatArray:
    # Against the bar that opened exactly five minutes earlier; bars longer than that have none.
    if frame.open_times is None or frame.n_bars == 0:
        return frame.unknown()
    wanted = frame.open_times - _FIVE_MINUTES_NS
    row = np.minimum(np.searchsorted(frame.open_times, wanted), frame.n_bars - 1)
    return np.where(frame.open_times[row] == wanted, frame.close / frame.close[row] - 1.0, np.nan)


def _score(frame: Frame) -> FloatArray:
    return microstructure_score(frame.spread_bps, frame.book_imbalance, frame.close, frame.mid)


_feature = partial(CatalogFeature, family="grid", inputs=CLOSE)
_price = partial(_feature, unit="price", low=0.0)
_volume = partial(_feature, lookback=20, inputs=("volume",), low=0.0)

FEATURES: Final[tuple[CatalogFeature, ...]] = (
    _feature(name="grid_return_simple", lookback=2, doc="Close over the close before, less 1.", compute=_simple_return, low=-1.0),
    _feature(
        name="grid_return_log", lookback=2, doc="Log of close over the close before.", compute=attrgetter("returns"), unit="log"
    ),
    *(_price(name=f"grid_ma_{n}", lookback=n, doc=f"Mean of {n} closes.", compute=partial(sma, period=n)) for n in (5, 10, 20, 50)),
    *(
        _feature(
            name=f"grid_ma_{n}_distance", lookback=n, doc=f"Close over its mean of {n}, less 1.", compute=partial(_distance, period=n)
        )
        for n in (5, 10, 20, 50)
    ),
    *(
        _feature(
            name=f"grid_volatility_{n}",
            lookback=n + 1,
            inputs=("close", "open_time"),
            doc=f"Deviation of {n} log returns, per year of 365 days.",
            compute=partial(_annualised, period=n),
            low=0.0,
        )
        for n in (5, 20)
    ),
    _volume(name="grid_volume_mean_20", doc="Mean volume of 20.", compute=_volume_mean, unit="number"),
    _volume(name="grid_volume_ratio_20", doc="Volume over its mean of 20; NaN without volume.", compute=_volume_ratio),
    _feature(
        name="grid_rsi_14", lookback=15, doc="RSI of 14 on simple rolling means, 0..1.", compute=_rsi_simple, low=0.0, high=1.0 + 1e-9
    ),
    *(
        _feature(
            name=f"grid_band_{name}",
            lookback=20,
            doc=f"Bollinger band (20, 2), {name}.",
            compute=partial(_band, side=side),
            unit="price",
        )
        for name, side in (("upper", 1.0), ("middle", 0.0), ("lower", -1.0))
    ),
    _feature(name="grid_band_position", lookback=20, doc="Place of the close between the bands.", compute=_band_position),
    _price(name="grid_spread", lookback=1, inputs=("spread_bps", "mid"), doc="Spread in price units.", compute=_spread),
    _feature(
        name="grid_spread_bps",
        lookback=1,
        inputs=("spread_bps",),
        doc="Spread over mid.",
        compute=attrgetter("spread_bps"),
        unit="bps",
    ),
    _price(name="grid_mid", lookback=1, inputs=("mid",), doc="Mid price at the close.", compute=attrgetter("mid")),
    _price(
        name="grid_micro_price",
        lookback=1,
        inputs=("mid", "microprice_bps"),
        doc="Price weighted by the opposite sizes, at the close.",
        compute=_micro_price,
    ),
    _feature(
        name="grid_order_imbalance",
        lookback=1,
        inputs=("book_imbalance",),
        doc="(Bid - ask quantity) / total.",
        compute=attrgetter("book_imbalance"),
    ),
    _feature(
        name="grid_price_change_5m",
        lookback=6,
        inputs=("close", "open_time"),
        doc="Close over the close five minutes before, less 1; NaN for bars longer than that.",
        compute=_price_change_5m,
        low=-1.0,
    ),
    _feature(
        name="grid_trend_strength",
        lookback=20,
        doc="Sign of slope times R-squared of a line through 20 log closes.",
        compute=trend_strength,
        low=-1.0,
        high=1.0,
    ),
    _feature(
        name="grid_microstructure_score",
        lookback=1,
        inputs=("close", "spread_bps", "book_imbalance", "mid"),
        doc="Mean of spread score, 1 - |imbalance| and 1 - |close - mid| / mid.",
        compute=_score,
        high=1.0 + 1e-9,
    ),
)

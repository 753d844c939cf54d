"""Microstructure family: what book and trades said during the bar. NaN in history made of candles alone.

A bar carries the book as averages over its length (spread, imbalance, depth) and as of its close (microprice); sizes of single
levels are not kept, and the mid price is known only where the caller passes it (see `grid` for what needs it).
"""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Final

import numpy as np

from helios.domain.decisions import FloatArray
from helios.features.catalog.frame import CLOSE, CatalogFeature, Frame
from helios.features.rolling import change, ratio, rolling_covariance, rolling_mean, rolling_std, rolling_sum, shift

_BPS = 1e4


def _mean(frame: Frame, column: str, period: int) -> FloatArray:
    return rolling_mean(getattr(frame, column), period)


def _zscore(frame: Frame, column: str, period: int) -> FloatArray:
    x: FloatArray = getattr(frame, column)
    return ratio(x - rolling_mean(x, period), rolling_std(x, period))


def _change(frame: Frame, column: str, n_bars: int) -> FloatArray:
    return change(getattr(frame, column), n_bars)


def taker_flow(frame: Frame) -> FloatArray:
    """Return taker buys less taker sells of each bar, base units."""
    return frame.memo("taker_flow", lambda: 2.0 * frame.buy_volume - frame.volume)


def _flow_imbalance(frame: Frame, period: int) -> FloatArray:
    return ratio(rolling_sum(taker_flow(frame), period), rolling_sum(frame.volume, period), 0.0)


def _vpin(frame: Frame, period: int) -> FloatArray:
    return ratio(rolling_sum(np.abs(taker_flow(frame)), period), rolling_sum(frame.volume, period), 0.0)


def _trade_intensity(frame: Frame, period: int) -> FloatArray:
    return ratio(frame.trade_count, rolling_mean(frame.trade_count, period))


def _trade_rate(frame: Frame, period: int) -> FloatArray:
    return ratio(rolling_sum(frame.trade_count, period), rolling_sum(frame.period_s, period))


def _seconds_between_trades(frame: Frame, period: int) -> FloatArray:
    return ratio(rolling_sum(frame.period_s, period), rolling_sum(frame.trade_count, period))


def _trade_size_ratio(frame: Frame) -> FloatArray:
    size = ratio(rolling_sum(frame.volume, 5), rolling_sum(frame.trade_count, 5))
    usual = ratio(rolling_sum(frame.volume, 50), rolling_sum(frame.trade_count, 50))
    return ratio(size, usual)


def _kyle_lambda(frame: Frame, period: int) -> FloatArray:
    # Slope of returns on signed flow, the flow in units of the mean volume.
    flow = taker_flow(frame)
    squares, _, products = rolling_covariance(flow, frame.returns, period)
    return ratio(products, squares) * rolling_mean(frame.volume, period)


def _amihud(frame: Frame, period: int) -> FloatArray:
    # Mean |return| per bar turnover, the turnover in units of its mean; bars without turnover moved nothing by trading.
    relative = ratio(frame.quote_volume, rolling_mean(frame.quote_volume, period), 0.0)
    return rolling_mean(ratio(np.abs(frame.returns), relative, 0.0), period)


def _roll_spread(frame: Frame, period: int) -> FloatArray:
    # Roll (1984): the bounce between bid and ask makes successive changes correlate negatively; NaN where they do not.
    _, _, products = rolling_covariance(frame.returns, shift(frame.returns, 1), period)
    covariance = products / (period - 1)
    return 2.0 * _BPS * np.sqrt(np.where(covariance <= 0.0, -covariance, np.nan))


def book_quality(spread_bps: FloatArray, imbalance: FloatArray) -> FloatArray:
    """Return the mean of the two parts of the microstructure score that bars carry: 1 / (1 + spread / 10 bps), 1 - |imbalance|."""
    return (1.0 / (1.0 + spread_bps / 10.0) + 1.0 - np.abs(imbalance)) / 2.0


_feature = partial(CatalogFeature, family="microstructure")
_flow = partial(_feature, inputs=("volume", "buy_volume"))
_trades = partial(_feature, inputs=("trade_count",), low=0.0)

FEATURES: Final[tuple[CatalogFeature, ...]] = (
    _feature(
        name="spread_bps",
        lookback=1,
        inputs=("spread_bps",),
        doc="Time-weighted spread of the bar.",
        compute=attrgetter("spread_bps"),
        unit="bps",
    ),
    _feature(
        name="spread_bps_mean_20",
        lookback=20,
        inputs=("spread_bps",),
        doc="Mean spread of 20 bars.",
        compute=partial(_mean, column="spread_bps", period=20),
        unit="bps",
    ),
    _feature(
        name="spread_zscore_100",
        lookback=100,
        inputs=("spread_bps",),
        doc="Spread less its mean of 100, in deviations.",
        compute=partial(_zscore, column="spread_bps", period=100),
        unit="number",
    ),
    _feature(
        name="book_imbalance",
        lookback=1,
        inputs=("book_imbalance",),
        doc="(Bid - ask quantity) / total of ten levels, mean over the bar.",
        compute=attrgetter("book_imbalance"),
    ),
    _feature(
        name="book_imbalance_mean_20",
        lookback=20,
        inputs=("book_imbalance",),
        doc="Mean book imbalance of 20 bars.",
        compute=partial(_mean, column="book_imbalance", period=20),
    ),
    _feature(
        name="book_imbalance_change_5",
        lookback=6,
        inputs=("book_imbalance",),
        doc="Change of the book imbalance over 5 bars.",
        compute=partial(_change, column="book_imbalance", n_bars=5),
    ),
    _feature(
        name="book_quality",
        lookback=1,
        inputs=("spread_bps", "book_imbalance"),
        doc="Mean of 1 / (1 + spread / 10 bps) and 1 - |imbalance|.",
        compute=lambda frame: book_quality(frame.spread_bps, frame.book_imbalance),
    ),
    _feature(
        name="depth_log",
        lookback=1,
        inputs=("depth_log",),
        doc="Log of the quote value within ten levels, mean over the bar.",
        compute=attrgetter("depth_log"),
        unit="log",
    ),
    _feature(
        name="depth_log_change_20",
        lookback=21,
        inputs=("depth_log",),
        doc="Change of the log depth over 20 bars.",
        compute=partial(_change, column="depth_log", n_bars=20),
        unit="log",
    ),
    _feature(
        name="microprice_bps",
        lookback=1,
        inputs=("microprice_bps",),
        doc="(Microprice - mid) / mid at the close.",
        compute=attrgetter("microprice_bps"),
        unit="bps",
    ),
    _feature(
        name="microprice_bps_mean_5",
        lookback=5,
        inputs=("microprice_bps",),
        doc="Mean of microprice_bps over 5 bars.",
        compute=partial(_mean, column="microprice_bps", period=5),
        unit="bps",
    ),
    _feature(
        name="trade_momentum",
        lookback=1,
        inputs=("trade_momentum",),
        doc="Signed over total quantity of the last ten trades.",
        compute=attrgetter("trade_momentum"),
    ),
    *(
        _flow(
            name=f"flow_imbalance_{n}",
            lookback=n,
            doc=f"(Taker buys - sells) / volume of {n} bars; 0 without volume.",
            compute=partial(_flow_imbalance, period=n),
        )
        for n in (5, 20, 50)
    ),
    _flow(
        name="vpin_50",
        lookback=50,
        doc="Sum of |taker buys - sells| over volume of 50 bars; 0 without volume.",
        compute=partial(_vpin, period=50),
        low=0.0,
    ),
    _trades(
        name="trade_intensity_20",
        lookback=20,
        doc="Trades of the bar over their mean of 20; NaN without trades.",
        compute=partial(_trade_intensity, period=20),
    ),
    _trades(
        name="trade_rate_20",
        lookback=21,
        inputs=("trade_count", "open_time"),
        doc="Trades per second over 20 bars.",
        compute=partial(_trade_rate, period=20),
        unit="number",
    ),
    _trades(
        name="seconds_between_trades_20",
        lookback=21,
        inputs=("trade_count", "open_time"),
        doc="Mean time between trades over 20 bars; NaN without trades.",
        compute=partial(_seconds_between_trades, period=20),
        unit="seconds",
    ),
    _trades(
        name="trade_size_ratio_5_50",
        lookback=50,
        inputs=("volume", "trade_count"),
        doc="Mean trade size of 5 bars over that of 50.",
        compute=_trade_size_ratio,
    ),
    _flow(
        name="kyle_lambda_50",
        lookback=51,
        inputs=("close", "volume", "buy_volume"),
        doc="Return per mean volume of taker flow, by regression over 50 bars.",
        compute=partial(_kyle_lambda, period=50),
    ),
    _feature(
        name="amihud_20",
        lookback=39,
        inputs=("close", "quote_volume"),
        doc="Mean |return| per mean turnover over 20 bars.",
        compute=partial(_amihud, period=20),
        low=0.0,
    ),
    _feature(
        name="roll_spread_bps_50",
        lookback=52,
        inputs=CLOSE,
        doc="Roll's spread from the covariance of successive returns; NaN where it is positive.",
        compute=partial(_roll_spread, period=50),
        unit="bps",
        low=0.0,
    ),
)

"""Volume family. On-balance volume, accumulation/distribution and volume-price trend are taken as changes over a window in units
of the mean volume: their cumulative sums would depend on where the history happens to begin.

Where nothing was traded in the window, flows are 0 (nothing flowed) and ratios to the volume are NaN.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from scipy.signal import lfilter

from helios.domain.decisions import FloatArray
from helios.features.catalog.frame import HIGH_LOW_CLOSE, CatalogFeature, Frame, ema_bars
from helios.features.catalog.price import vwma
from helios.features.rolling import change, ratio, rolling_mean, rolling_std, rolling_sum, shift

_TOLERANCE = 1e-9
_ROUNDING = 1e-12


def signed_volume(frame: Frame) -> FloatArray:
    """Return what each bar adds to on-balance volume: volume with the sign of the price change; NaN for the first bar."""
    return frame.memo("signed_volume", lambda: np.sign(change(frame.close)) * frame.volume)


def money_flow_volume(frame: Frame) -> FloatArray:
    """Return what each bar adds to the accumulation/distribution line: volume times (2 C - L - H) / (H - L), 0 without range."""

    def compute() -> FloatArray:
        return ratio(2.0 * frame.close - frame.low - frame.high, frame.high - frame.low, 0.0) * frame.volume

    return frame.memo("money_flow_volume", compute)


def flow_over_mean_volume(flow: FloatArray, frame: Frame, period: int) -> FloatArray:
    """Return the sum of the last flows in units of the mean volume of the same bars; 0 where nothing was traded."""
    return ratio(rolling_sum(flow, period), rolling_mean(frame.volume, period), 0.0)


def _obv_change(frame: Frame, period: int) -> FloatArray:
    return flow_over_mean_volume(signed_volume(frame), frame, period)


def _ad_change(frame: Frame, period: int) -> FloatArray:
    return flow_over_mean_volume(money_flow_volume(frame), frame, period)


def _vpt_change(frame: Frame, period: int) -> FloatArray:
    flow = (frame.close / shift(frame.close, 1) - 1.0) * frame.volume
    return flow_over_mean_volume(flow, frame, period)


def _cmf(frame: Frame, period: int) -> FloatArray:
    return ratio(rolling_sum(money_flow_volume(frame), period), rolling_sum(frame.volume, period), 0.0)


def _mfi(frame: Frame, period: int) -> FloatArray:
    # Equal sums of three decimal prices may differ in the last binary digit; that is no change of price.
    flow, step = frame.typical * frame.volume, change(frame.typical)
    step = np.where(np.abs(step) <= _ROUNDING * frame.typical, 0.0, step)
    up = np.where(np.isnan(step), np.nan, np.where(step > 0.0, flow, 0.0))
    down = np.where(np.isnan(step), np.nan, np.where(step < 0.0, flow, 0.0))
    gain, loss = rolling_sum(up, period), rolling_sum(down, period)
    return ratio(gain, gain + loss)


def _adosc(frame: Frame) -> FloatArray:
    # Chaikin's oscillator without the cumulative line: e = EMA(line) - line follows e' = keep * (e - flow).
    flow = money_flow_volume(frame)
    averages = []
    for period in (3, 10):
        keep = 1.0 - 2.0 / (period + 1)
        averages.append(lfilter([-keep], [1.0, -keep], np.concatenate(([0.0], flow[1:]))))
    return np.asarray(ratio(averages[0] - averages[1], rolling_mean(frame.volume, 20), 0.0))


def _volume_ratio(frame: Frame, period: int) -> FloatArray:
    return ratio(frame.volume, rolling_mean(frame.volume, period))


def _volume_zscore(frame: Frame, period: int) -> FloatArray:
    return ratio(frame.volume - rolling_mean(frame.volume, period), rolling_std(frame.volume, period))


def _volume_trend(frame: Frame) -> FloatArray:
    return ratio(rolling_mean(frame.volume, 5), rolling_mean(frame.volume, 50))


def _vwma_rel(frame: Frame, period: int) -> FloatArray:
    return vwma(frame, period) / frame.close - 1.0


def _vw_macd(frame: Frame) -> FloatArray:
    return (vwma(frame, 12) - vwma(frame, 26)) / frame.close


def _vw_return(frame: Frame, period: int) -> FloatArray:
    return ratio(rolling_sum(frame.returns * frame.volume, period), rolling_sum(frame.volume, period), 0.0)


def _force_index(frame: Frame, period: int) -> FloatArray:
    return ratio(rolling_mean(change(frame.close) * frame.volume, period), frame.close * rolling_mean(frame.volume, period), 0.0)


def _ease_of_movement(frame: Frame, period: int) -> FloatArray:
    # Movement of the bar's centre in units of its range, per unit of relative volume; a bar without trades moves nothing.
    centre = (frame.high + frame.low) / 2.0
    relative = ratio(frame.volume, rolling_mean(frame.volume, period), 0.0)
    return rolling_mean(ratio(change(centre) / centre * (frame.high - frame.low) / centre, relative, 0.0), period)


def _up_volume_share(frame: Frame, period: int) -> FloatArray:
    flow = signed_volume(frame)
    up = np.where(np.isnan(flow), np.nan, np.maximum(flow, 0.0))
    return ratio(rolling_sum(up, period), rolling_sum(np.where(np.isnan(flow), np.nan, frame.volume), period))


def _accumulation(frame: Frame, period: int) -> FloatArray:
    # Volume comes in while price does not rise (+1), or leaves while it does not fall (-1).
    move, flow = change(frame.close, period), _ad_change(frame, period)
    signal = np.where((move <= 0.0) & (flow > 0.0), 1.0, np.where((move >= 0.0) & (flow < 0.0), -1.0, 0.0))
    return np.where(np.isnan(move) | np.isnan(flow), np.nan, signal)


_feature = partial(CatalogFeature, family="volume", inputs=("close", "volume"))
_bars = partial(CatalogFeature, family="volume", inputs=(*HIGH_LOW_CLOSE, "volume"))
_share = partial(_feature, low=0.0, high=1.0 + 1e-9)

FEATURES: Final[tuple[CatalogFeature, ...]] = (
    *(
        _feature(
            name=f"obv_change_{n}",
            lookback=n + 1,
            doc=f"Change of on-balance volume over {n} bars, in mean volumes.",
            compute=partial(_obv_change, period=n),
            unit="bars",
            low=-n - 1e-6,
            high=n + 1e-6,
        )
        for n in (20, 50)
    ),
    *(
        _bars(
            name=f"ad_change_{n}",
            lookback=n,
            doc=f"Change of accumulation/distribution over {n} bars, in mean volumes.",
            compute=partial(_ad_change, period=n),
            unit="bars",
            low=-n - 1e-6,
            high=n + 1e-6,
        )
        for n in (10, 50)
    ),
    *(
        _feature(
            name=f"vpt_change_{n}",
            lookback=n + 1,
            doc=f"Change of the volume-price trend over {n} bars, in mean volumes.",
            compute=partial(_vpt_change, period=n),
            unit="number",
        )
        for n in (20, 50)
    ),
    _bars(
        name="cmf_20",
        lookback=20,
        doc="Chaikin's money flow of 20, -1..1.",
        compute=partial(_cmf, period=20),
        low=-1.0 - 1e-9,
        high=1.0 + 1e-9,
    ),
    _bars(
        name="mfi_14",
        lookback=15,
        doc="Money flow index of 14, 0..1; NaN where no money flowed.",
        compute=partial(_mfi, period=14),
        low=0.0,
        high=1.0,
    ),
    _bars(
        name="adosc_3_10",
        lookback=ema_bars(10) + 10,
        doc="Chaikin's oscillator (3, 10), in mean volumes of 20.",
        compute=_adosc,
        unit="bars",
        tolerance=_TOLERANCE,
    ),
    _feature(
        name="volume_ratio_50",
        lookback=50,
        inputs=("volume",),
        doc="Volume over its mean of 50.",
        compute=partial(_volume_ratio, period=50),
        low=0.0,
    ),
    *(
        _feature(
            name=f"volume_zscore_{n}",
            lookback=n,
            inputs=("volume",),
            doc=f"Volume less its mean of {n}, in deviations.",
            compute=partial(_volume_zscore, period=n),
            unit="number",
        )
        for n in (20, 50)
    ),
    _feature(
        name="volume_trend_5_50",
        lookback=50,
        inputs=("volume",),
        doc="Mean volume of 5 over mean of 50.",
        compute=_volume_trend,
        low=0.0,
    ),
    *(
        _feature(
            name=f"vwma_{n}_rel",
            lookback=n,
            doc=f"Volume-weighted mean close of {n} over close, less 1.",
            compute=partial(_vwma_rel, period=n),
        )
        for n in (20, 50)
    ),
    _feature(name="vw_macd_rel", lookback=26, doc="Volume-weighted means of 12 less of 26, over close.", compute=_vw_macd),
    _feature(
        name="vw_return_20",
        lookback=21,
        doc="Volume-weighted mean log return of 20.",
        compute=partial(_vw_return, period=20),
        unit="log",
    ),
    _feature(
        name="force_index_13_rel",
        lookback=14,
        doc="Mean of price change times volume over 13 bars, over close and mean volume.",
        compute=partial(_force_index, period=13),
    ),
    _bars(
        name="ease_of_movement_14",
        lookback=27,
        inputs=("high", "low", "volume"),
        doc="Movement per relative volume, mean of 14.",
        compute=partial(_ease_of_movement, period=14),
        unit="number",
    ),
    _share(
        name="up_volume_share_20",
        lookback=21,
        doc="Share of the volume that fell to rising bars.",
        compute=partial(_up_volume_share, period=20),
    ),
    _bars(
        name="accumulation_20",
        lookback=21,
        doc="+1 volume comes in while price does not rise, -1 the reverse, else 0.",
        compute=partial(_accumulation, period=20),
        unit="flag",
        low=-1.0,
        high=1.0,
    ),
)

"""What the leakage checks run on: the model's features, the catalog, both beside minutes, and made-up bars to try them with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import BAR_VALUES
from helios.features.batch import features_of, features_with_reference, fill_minutes, resample
from helios.features.catalog.frame import ema_bars, wilder_bars
from helios.features.catalog.multi import align_closed, compute_multi
from helios.features.catalog.registry import CATALOG, chosen_features, compute
from helios.features.definitions import CORRELATION_BARS, CORRELATION_COLUMN, FEATURE_NAMES
from helios.features.leakage import Subject, TimeArray

COLUMNS: Final[tuple[str, ...]] = (*BAR_VALUES, "mid")
"""Columns of the values that subjects take: a bar and the mid price at its close."""

_N_BAR = len(BAR_VALUES)
_HIGH, _LOW = BAR_VALUES.index("high"), BAR_VALUES.index("low")
_VWAP_INPUTS = frozenset({"quote_volume"})
_FIRST_OPEN = 20_089 * 86_400 * 1_000_000_000  # 2025-01-01

MODEL_LOOKBACKS: Final[dict[str, int]] = {
    "return_1": 2, "return_5": 6, "return_20": 21, "volatility_20": 21, "vwap_20_rel": 20,
    "volume_ratio_20": 20, "volume_change_1": 20, "volume_volatility_20": 39, "trade_count_ratio_20": 20,
    "rsi_14": wilder_bars(14), "rsi_7": wilder_bars(7), "macd": ema_bars(26), "macd_signal": ema_bars(26, 2),
    "sma_20_rel": 20, "sma_50_rel": 50, "ema_12_rel": ema_bars(12), "ema_26_rel": ema_bars(26),
    "bollinger_upper_rel": 20, "bollinger_lower_rel": 20, "btc_correlation_60": CORRELATION_BARS + 1,
}  # fmt: skip
"""Bars that determine each of the model's features; the ones not named need their own bar alone."""


def model_subject() -> Subject:
    """Return the model's 30 features of consecutive bars.

    The correlation needs a second series: it is made of the centres of the same bars' ranges.
    """
    return Subject(
        "model",
        COLUMNS,
        FEATURE_NAMES,
        lambda _times, values: _model_features(values[:, :_N_BAR]),
        {name: MODEL_LOOKBACKS.get(name, 1) for name in FEATURE_NAMES},
        {"vwap_20_rel": _VWAP_INPUTS},
        (math.nan,),  # a bar's unknown parts are NaN by contract; minutes never hold infinities
    )


def model_timeframe_subject(timeframe: Timeframe) -> Subject:
    """Return the model's features of one timeframe as they are known at each minute; its inputs are minutes."""

    def aligned(times: TimeArray, values: FloatArray) -> FloatArray:
        filled_times, filled = fill_minutes(times, values[:, :_N_BAR])
        bars, opens = resample(filled, filled_times, timeframe)
        return align_closed(times, opens, timeframe.seconds, features_of(bars))

    return Subject(f"model {timeframe.value}", COLUMNS, FEATURE_NAMES, aligned)


def catalog_subject(names: Sequence[str] | None = None) -> Subject:
    """Return the catalog, or some of it, over consecutive bars."""
    features = chosen_features(names)
    chosen = tuple(feature.name for feature in features)
    return Subject(
        "catalog",
        COLUMNS,
        chosen,
        lambda times, values: compute(values[:, :_N_BAR], chosen, times, values[:, _N_BAR]),
        {feature.name: feature.lookback for feature in features},
        {name: _VWAP_INPUTS for name in CATALOG if name.startswith("vwap_")},
    )


def catalog_timeframe_subject(period_s: int, names: Sequence[str] | None = None) -> Subject:
    """Return the catalog of a longer timeframe beside each minute; its inputs are minutes."""
    chosen = tuple(feature.name for feature in chosen_features(names))
    return Subject(
        f"catalog {period_s} s",
        COLUMNS,
        chosen,
        lambda times, values: compute_multi(times, values[:, :_N_BAR], [period_s], chosen)[:, 0],
    )


def model_timeframe_subjects() -> tuple[Subject, ...]:
    """Return one subject per timeframe of the model."""
    return tuple(model_timeframe_subject(timeframe) for timeframe in FEATURE_TIMEFRAMES)


def synthetic_bars(n_bars: int, seed: int = 0) -> tuple[TimeArray, FloatArray]:
    """Return minutes of a made-up market with flow and book: calm and wild stretches, minutes without trades, fat tails.

    Parameters
    ----------
    n_bars : int
        How many.
    seed : int, default=0
        The same seed gives the same bars.

    Returns
    -------
    open_times, values : arrays of shapes (n_bars,) and (n_bars, 14)
        Columns as `COLUMNS`.
    """
    rng = np.random.default_rng(seed)
    is_traded = rng.random(n_bars) > 0.1
    scale = 5e-4 * np.exp(np.cumsum(rng.normal(0.0, 0.05, n_bars)) - 0.5 * np.log1p(np.arange(n_bars) / 500.0))
    scale = np.clip(scale, 1e-4, 5e-3)
    fair = np.cumsum(scale * rng.standard_t(4, n_bars) * is_traded)
    close = 30_000.0 * np.exp(fair + scale * rng.choice([-1.0, 1.0], n_bars) * is_traded)  # prints bounce between bid and ask
    open_ = np.concatenate((close[:1], close[:-1]))
    up, down = rng.exponential(scale) * is_traded, rng.exponential(scale) * is_traded
    high, low = np.maximum(open_, close) * (1.0 + up), np.minimum(open_, close) * (1.0 - np.minimum(down, 0.5))
    volume = rng.exponential(5.0, n_bars) * is_traded
    count = np.ceil(volume * 3.0)
    spread = rng.exponential(2.0, n_bars) + 0.5
    mid = close * (1.0 + rng.normal(0.0, 1e-5, n_bars))
    values = np.column_stack([
        open_, high, low, close, volume, volume * (high + low) / 2.0, count, volume * rng.random(n_bars),
        spread, np.tanh(rng.normal(size=n_bars)), rng.normal(13.0, 0.3, n_bars), np.tanh(rng.normal(size=n_bars)),
        rng.normal(0.0, 0.3, n_bars) * spread, mid,
    ])  # fmt: skip
    return _FIRST_OPEN + np.arange(n_bars, dtype=np.int64) * Timeframe.M1.ns, values


def _model_features(bars: FloatArray) -> FloatArray:
    out = features_of(bars)  # refuses what is unusable before the reference is made of it
    reference = bars.copy()
    reference[:, BAR_VALUES.index("close")] = np.sqrt(bars[:, _HIGH] * bars[:, _LOW])
    out[:, CORRELATION_COLUMN] = features_with_reference(bars, reference)[:, CORRELATION_COLUMN]
    return out

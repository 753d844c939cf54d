"""Statistical family: where the price stands in its window, and how its returns hang together. NaN where nothing moved."""

from __future__ import annotations

import math
from functools import partial
from itertools import permutations
from typing import Final

import numpy as np

from helios.domain.decisions import FloatArray
from helios.features.catalog.frame import CLOSE, CatalogFeature, Frame
from helios.features.catalog.price import sma
from helios.features.rolling import (
    change,
    ratio,
    rolling_kurtosis,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_rank,
    rolling_skew,
    rolling_std,
    rolling_sum,
    shift,
)

_CORRELATED_BARS = 50
_ENTROPY_BINS = 8
_HURST_BARS = 128
_HURST_LAGS = (1, 2, 4, 8, 16)


def _zscore(frame: Frame, period: int) -> FloatArray:
    return ratio(frame.close - sma(frame, period), rolling_std(frame.close, period))


def _percentile_rank(frame: Frame, period: int) -> FloatArray:
    return rolling_rank(frame.close, period)


def _autocorrelation(frame: Frame, lag: int) -> FloatArray:
    # Deviations from the mean of the whole window, products over its pairs: the usual (biased) estimate.
    def compute() -> FloatArray:
        returns = frame.returns
        mean = rolling_mean(returns, _CORRELATED_BARS)
        products = np.zeros(frame.n_bars)
        for age in range(_CORRELATED_BARS - lag):
            products += (shift(returns, age) - mean) * (shift(returns, age + lag) - mean)
        return ratio(products, rolling_std(returns, _CORRELATED_BARS, ddof=0) ** 2 * _CORRELATED_BARS)

    return frame.memo(("autocorrelation", lag), compute)


def _partial_autocorrelation(frame: Frame, lag: int) -> FloatArray:
    # Levinson and Durbin's recursion on the autocorrelations.
    r = [_autocorrelation(frame, k) for k in range(1, lag + 1)]
    phi = [r[0]]
    for k in range(1, lag):
        numerator = r[k] - sum(phi[j] * r[k - 1 - j] for j in range(k))
        denominator = 1.0 - sum(phi[j] * r[j] for j in range(k))
        newest = ratio(numerator, np.asarray(denominator))
        phi = [phi[j] - newest * phi[k - 1 - j] for j in range(k)] + [newest]
    return phi[-1]


def _entropy(frame: Frame, period: int) -> FloatArray:
    # Shannon's entropy of the returns over equal bins between the window's extremes, as a fraction of the largest possible.
    low, high = rolling_min(frame.returns, period), rolling_max(frame.returns, period)
    is_known = high > low
    counts = np.zeros((frame.n_bars, _ENTROPY_BINS))
    rows = np.arange(frame.n_bars)
    for lag in range(period):
        place = ratio(shift(frame.returns, lag) - low, high - low, 0.0)
        bins = np.minimum(np.where(is_known, place, 0.0) * _ENTROPY_BINS, _ENTROPY_BINS - 1).astype(np.int64)
        counts[rows, bins] += 1.0
    share = counts / period
    logs = np.log(share, out=np.zeros_like(share), where=share > 0.0)
    return np.where(is_known, -_sum_of_columns(share * logs) / math.log(_ENTROPY_BINS), np.nan)


def _permutation_entropy(frame: Frame, period: int) -> FloatArray:
    # Entropy of the six orders that three successive closes can have; equal closes keep their order in time.
    triple = np.stack([shift(frame.close, 2), shift(frame.close, 1), frame.close], axis=1)
    order = np.argsort(triple, axis=1, kind="stable")
    total = np.where(np.arange(frame.n_bars) >= period - 1, 0.0, np.nan)
    for each in permutations(range(3)):
        is_each = np.where(np.isnan(triple[:, 0]), np.nan, (order == each).all(1).astype(np.float64))
        share = rolling_sum(is_each, period - 2) / (period - 2)
        total = total - share * np.log(share, out=np.zeros_like(share), where=share > 0.0)
    return total / math.log(6.0)


def _hurst(frame: Frame) -> FloatArray:
    # Slope of log deviation of price changes against log distance; all changes lie inside the last _HURST_BARS closes.
    logs = np.log(np.array(_HURST_LAGS, dtype=np.float64))
    weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()
    slope = np.zeros(frame.n_bars)
    for lag, weight in zip(_HURST_LAGS, weights, strict=True):
        deviation = rolling_std(change(frame.log_close, lag), _HURST_BARS - lag)
        slope += weight * np.log(np.where(deviation > 0.0, deviation, np.nan))
    return slope


def _fractal_dimension(frame: Frame, period: int) -> FloatArray:
    # Ehlers' estimate: ranges of the two halves per bar against the range of the whole.
    half = period // 2
    newer = (rolling_max(frame.high, half) - rolling_min(frame.low, half)) / half
    whole = (rolling_max(frame.high, period) - rolling_min(frame.low, period)) / period
    halves, whole = newer + shift(newer, half), np.where(whole > 0.0, whole, np.nan)
    return np.log2(halves) - np.log2(whole)


def _skew(frame: Frame, period: int) -> FloatArray:
    return rolling_skew(frame.returns, period)


def _kurtosis(frame: Frame, period: int) -> FloatArray:
    return rolling_kurtosis(frame.returns, period)


def _efficiency(frame: Frame, period: int) -> FloatArray:
    return ratio(np.abs(change(frame.close, period)), rolling_sum(np.abs(change(frame.close)), period))


def _variance_ratio(frame: Frame, step: int, period: int) -> FloatArray:
    long = rolling_std(change(frame.log_close, step), period - step) ** 2
    short = rolling_std(frame.returns, period - 1) ** 2
    return ratio(long, step * short)


def _t_statistic(frame: Frame, period: int) -> FloatArray:
    return ratio(rolling_mean(frame.returns, period), rolling_std(frame.returns, period) / np.sqrt(period))


def _sum_of_columns(x: FloatArray) -> FloatArray:
    # Column by column: the same order of additions whatever the number of rows.
    total = np.zeros(len(x))
    for column in x.T:
        total += column
    return total


_feature = partial(CatalogFeature, family="statistical", inputs=CLOSE, unit="number")
_share = partial(_feature, low=0.0, high=1.0 + 1e-9, unit="fraction")

FEATURES: Final[tuple[CatalogFeature, ...]] = (
    *(
        _feature(
            name=f"close_zscore_{n}",
            lookback=n,
            doc=f"Close less its mean of {n}, in sample deviations.",
            compute=partial(_zscore, period=n),
        )
        for n in (20, 50, 100)
    ),
    *(
        _share(
            name=f"close_rank_{n}",
            lookback=n,
            doc=f"Share of the last {n} closes not above this one.",
            compute=partial(_percentile_rank, period=n),
        )
        for n in (20, 50, 100)
    ),
    *(
        _feature(
            name=f"autocorrelation_{lag}_50",
            lookback=_CORRELATED_BARS + 1,
            doc=f"Autocorrelation of 50 log returns at lag {lag}.",
            compute=partial(_autocorrelation, lag=lag),
            low=-1.0,
            high=1.0,
        )
        for lag in (1, 2, 3, 5)
    ),
    *(
        _feature(
            name=f"partial_autocorrelation_{lag}_50",
            lookback=_CORRELATED_BARS + 1,
            doc=f"Partial autocorrelation of 50 log returns at lag {lag}.",
            compute=partial(_partial_autocorrelation, lag=lag),
            low=-1.0 - 1e-9,
            high=1.0 + 1e-9,
        )
        for lag in (2, 3)
    ),
    _share(
        name="entropy_50",
        lookback=51,
        doc="Shannon's entropy of 50 returns over 8 bins, as a fraction of log 8.",
        compute=partial(_entropy, period=50),
    ),
    _share(
        name="permutation_entropy_50",
        lookback=50,
        doc="Entropy of the orders of three successive closes, as a fraction of log 6.",
        compute=partial(_permutation_entropy, period=50),
    ),
    _feature(
        name="hurst_128", lookback=_HURST_BARS, doc="Hurst exponent from deviations of changes over 1 to 16 bars.", compute=_hurst
    ),
    _feature(
        name="fractal_dimension_30",
        lookback=30,
        inputs=("high", "low"),
        doc="Fractal dimension from ranges of halves and whole.",
        compute=partial(_fractal_dimension, period=30),
    ),
    *(
        _feature(name=f"skew_{n}", lookback=n + 1, doc=f"Skewness of {n} log returns.", compute=partial(_skew, period=n))
        for n in (20, 50)
    ),
    *(
        _feature(
            name=f"kurtosis_{n}", lookback=n + 1, doc=f"Excess kurtosis of {n} log returns.", compute=partial(_kurtosis, period=n)
        )
        for n in (20, 50)
    ),
    _share(
        name="efficiency_ratio_20", lookback=21, doc="Net over total movement of 20 bars.", compute=partial(_efficiency, period=20)
    ),
    _feature(
        name="variance_ratio_5_100",
        lookback=100,
        doc="Variance of 5-bar returns over 5 times that of one-bar returns, 100 closes.",
        compute=partial(_variance_ratio, step=5, period=100),
        low=0.0,
    ),
    _feature(
        name="return_t_statistic_20",
        lookback=21,
        doc="Mean of 20 log returns over its standard error.",
        compute=partial(_t_statistic, period=20),
    ),
)

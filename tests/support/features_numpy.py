"""The 30 features in NumPy, column by column: slow, and readable beside the table. The compiled kernel must give the same numbers."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import lfilter

from helios.domain.decisions import N_FEATURES, FloatArray
from helios.domain.market import BAR_VALUES, NAN
from helios.features.batch import btc_correlation, log_returns
from helios.features.definitions import CORRELATION_COLUMN
from helios.features.recursions import RSI_ZERO

(_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _QUOTE, _COUNT, _BUY, _SPREAD, _IMBALANCE, _DEPTH, _MOMENTUM, _MICROPRICE) = range(
    len(BAR_VALUES)
)


def numpy_features(bars: FloatArray, reference_bars: FloatArray | None = None) -> FloatArray:
    """Return what `features_of`, or `features_with_reference`, must return; bars are taken to be usable."""
    close = bars[:, _CLOSE]
    out = np.full((len(bars), N_FEATURES), NAN)
    if len(bars):
        out[:, 0:10] = _price_columns(bars)
        out[:, 10:15] = _volume_columns(bars)
        out[:, 15:25] = _technical_columns(close)
        out[:, 25:28] = bars[:, [_IMBALANCE, _DEPTH, _MOMENTUM]]
        out[:, 29] = bars[:, _MICROPRICE]
    if reference_bars is not None:
        out[:, CORRELATION_COLUMN] = btc_correlation(log_returns(close), log_returns(reference_bars[:, _CLOSE]))
    return out


def _windows(x: FloatArray, length: int) -> FloatArray:
    # Shape (n, length): the last `length` values at each row, rows of NaN before there are as many.
    return sliding_window_view(np.concatenate((np.full(length - 1, NAN), x)), length)


def _sample_deviation(x: FloatArray, length: int) -> FloatArray:
    return np.asarray(_windows(x, length).std(-1, ddof=1))


def _ratio(numerator: FloatArray, denominator: FloatArray, otherwise: float) -> FloatArray:
    # numerator / denominator; `otherwise` where the denominator is 0; NaN stays NaN.
    filled = np.where(np.isnan(denominator), NAN, otherwise)
    return np.divide(numerator, denominator, out=filled, where=denominator > 0.0)


def _price_columns(bars: FloatArray) -> FloatArray:
    high, low, close = bars[:, _HIGH], bars[:, _LOW], bars[:, _CLOSE]
    return_1 = log_returns(close)
    columns = (
        bars[:, _OPEN] / close - 1.0,
        high / close - 1.0,
        low / close - 1.0,
        return_1,
        log_returns(close, 5),
        log_returns(close, 20),
        _sample_deviation(return_1, 20),
        _ratio(close - low, high - low, 0.5),
        _vwap_rel(bars),
        bars[:, _SPREAD],
    )
    return np.stack(columns, axis=1)


def _vwap_rel(bars: FloatArray) -> FloatArray:
    typical = (bars[:, _HIGH] + bars[:, _LOW] + bars[:, _CLOSE]) / 3.0 * bars[:, _VOLUME]
    traded = _windows(bars[:, _QUOTE], 20).sum(-1)
    quote = np.where(np.isfinite(traded), traded, _windows(typical, 20).sum(-1))
    base = _windows(bars[:, _VOLUME], 20).sum(-1)
    return np.where(base == 0.0, 0.0, _ratio(quote, base, NAN) / bars[:, _CLOSE] - 1.0)


def _volume_columns(bars: FloatArray) -> FloatArray:
    volume, count, buy = bars[:, _VOLUME], bars[:, _COUNT], bars[:, _BUY]
    mean = _windows(volume, 20).mean(-1)
    previous = np.concatenate(([NAN], volume[:-1]))
    now, before = _ratio(volume, mean, 0.0), _ratio(previous, mean, 0.0)
    change = np.log((now + 1.0) / (before + 1.0))
    columns = (
        now,
        change,
        _sample_deviation(change, 20),
        np.where(np.isnan(buy), NAN, _ratio(2.0 * buy - volume, volume, 0.0)),
        _ratio(count, _windows(count, 20).mean(-1), 0.0),
    )
    return np.stack(columns, axis=1)


def _technical_columns(close: FloatArray) -> FloatArray:
    macd, signal = _macd(close)
    recent = _windows(close, 20)
    sma_20, deviation = recent.mean(-1), recent.std(-1)
    columns = (
        _rsi(close, 14),
        _rsi(close, 7),
        macd / close,
        signal / close,
        sma_20 / close - 1.0,
        _windows(close, 50).mean(-1) / close - 1.0,
        _ema(close, 12) / close - 1.0,
        _ema(close, 26) / close - 1.0,
        (sma_20 + 2.0 * deviation) / close - 1.0,
        (sma_20 - 2.0 * deviation) / close - 1.0,
    )
    return np.stack(columns, axis=1)


def _smoothed(x: FloatArray, keep: float, seed: float) -> FloatArray:
    # y[i] = keep * y[i-1] + (1 - keep) * x[i] with y[-1] = seed, and the seed itself in front.
    y, _ = lfilter([1.0 - keep], [1.0, -keep], x, zi=[keep * seed])
    return np.concatenate(([seed], y))


def _ema(x: FloatArray, period: int, start: int = 0) -> FloatArray:
    # As recursions.Ema with skip = start.
    out = np.full(len(x), NAN)
    first = start + period - 1
    if first < len(x):
        seed = float(x[start : first + 1].mean())
        out[first:] = _smoothed(x[first + 1 :], 1.0 - 2.0 / (period + 1), seed)
    return out


def _rsi(close: FloatArray, period: int) -> FloatArray:
    out = np.full(len(close), NAN)
    if len(close) <= period:
        return out
    change = np.diff(close)
    gains, losses = np.maximum(change, 0.0), np.maximum(-change, 0.0)
    keep = (period - 1) / period
    gain = _smoothed(gains[period:], keep, float(gains[:period].mean()))
    loss = _smoothed(losses[period:], keep, float(losses[:period].mean()))
    total = gain + loss
    out[period:] = np.divide(gain, total, out=np.zeros_like(total), where=total >= RSI_ZERO)
    return out


def _macd(close: FloatArray) -> tuple[FloatArray, FloatArray]:
    # (12, 26, 9) as TA-Lib: the fast average starts with the slow one, both lines begin with the signal.
    macd = _ema(close, 12, start=14) - _ema(close, 26)
    signal = _ema(macd, 9, start=25)
    return np.where(np.isnan(signal), NAN, macd), signal

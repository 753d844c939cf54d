"""The 30 features over whole histories at once, and the histories themselves: filled minutes and higher timeframes.

Everything is causal: row i depends on rows 0..i only, and gives the same number that `stream` gives at that bar.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import lfilter

from helios.domain.decisions import N_FEATURES, FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, NAN
from helios.errors import DataError
from helios.features.definitions import CORRELATION_BARS, CORRELATION_COLUMN
from helios.features.recursions import RSI_ZERO

TimeArray = NDArray[np.int64]

(_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _QUOTE, _COUNT, _BUY, _SPREAD, _IMBALANCE, _DEPTH, _MOMENTUM, _MICROPRICE) = range(
    len(BAR_VALUES)
)
_MINUTE_NS: Final = Timeframe.M1.ns
_CONSTANT: Final = 1e-12  # deviations below this part of the largest value are rounding: the series is constant


def features_of(bars: FloatArray) -> FloatArray:
    """Return the features of consecutive bars of one timeframe.

    Parameters
    ----------
    bars : float64 array of shape (n_bars, 13)
        Columns in the order of `BAR_VALUES`, oldest first, without holes (see `fill_minutes`). Unknown columns are NaN.

    Returns
    -------
    features : float64 array of shape (n_bars, 30)
        NaN where history or input is missing. `btc_correlation_60` is NaN; see `features_with_reference`.

    Raises
    ------
    DataError
        If the shape is wrong, or a price or volume unusable.
    """
    bars = _checked(bars)
    close = bars[:, _CLOSE]
    out = np.full((len(bars), N_FEATURES), NAN)
    if len(bars):
        out[:, 0:10] = _price_columns(bars)
        out[:, 10:15] = _volume_columns(bars)
        out[:, 15:25] = _technical_columns(close)
        out[:, 25:28] = bars[:, [_IMBALANCE, _DEPTH, _MOMENTUM]]
        out[:, 29] = bars[:, _MICROPRICE]
    return out


def features_with_reference(bars: FloatArray, reference_bars: FloatArray, is_reference: bool = False) -> FloatArray:
    """Return the features of `bars` with the correlation to a reference symbol.

    Parameters
    ----------
    bars, reference_bars : float64 arrays of shape (n_bars, 13)
        Row i of both is the same bucket; rows of NaN in the reference mean that it has no bar there.
    is_reference : bool, default=False
        Whether `bars` are the reference itself: its correlation is 1 wherever it is defined.
    """
    if len(bars) != len(reference_bars):
        raise DataError(f"{len(bars)} bars against {len(reference_bars)} of the reference")
    out = features_of(bars)
    own = log_returns(bars[:, _CLOSE])
    other = own if is_reference else log_returns(reference_bars[:, _CLOSE])
    correlation = btc_correlation(own, other)
    out[:, CORRELATION_COLUMN] = np.where(np.isnan(correlation), NAN, 1.0) if is_reference else correlation
    return out


def log_returns(close: FloatArray, n_bars: int = 1) -> FloatArray:
    """Return log(close / close `n_bars` before), shape (n,), NaN for the first `n_bars`."""
    out = np.full(len(close), NAN)
    out[n_bars:] = np.log(close[n_bars:] / close[: max(len(close) - n_bars, 0)])
    return out


def btc_correlation(returns: FloatArray, reference_returns: FloatArray) -> FloatArray:
    """Return the correlation of the trailing 60 returns with the reference's.

    Parameters
    ----------
    returns, reference_returns : float64 arrays of shape (..., n)
        One-bar log returns of the same buckets.

    Returns
    -------
    correlation : float64 array of shape (..., n)
        In -1..1; NaN until 60 returns of both are known and wherever one of the 60 is NaN; 0 if either does not vary.
    """
    out = np.full_like(returns, NAN)
    if returns.shape[-1] < CORRELATION_BARS:
        return out
    x = sliding_window_view(returns, CORRELATION_BARS, axis=-1)
    y = sliding_window_view(reference_returns, CORRELATION_BARS, axis=-1)
    dx, dy = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    varies = ~(_is_constant(x, dx) | _is_constant(y, dy))
    product = np.sqrt((dx * dx).sum(-1) * (dy * dy).sum(-1))
    is_known = ~np.isnan(product)
    ratio = np.divide((dx * dy).sum(-1), product, out=np.zeros_like(product), where=varies & is_known)
    out[..., CORRELATION_BARS - 1 :] = np.where(is_known, np.clip(ratio, -1.0, 1.0), NAN)
    return out


def _is_constant(x: FloatArray, deviation: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(np.abs(deviation).max(-1) <= _CONSTANT * np.abs(x).max(-1), dtype=np.bool_)


def _checked(bars: FloatArray) -> FloatArray:
    bars = np.asarray(bars, dtype=np.float64)
    if bars.ndim != 2 or bars.shape[1] != len(BAR_VALUES):
        raise DataError(f"bars of shape {bars.shape}; expected (n, {len(BAR_VALUES)})")
    prices, volume = bars[:, : _CLOSE + 1], bars[:, _VOLUME]
    is_usable = (prices > 0.0).all(1) & np.isfinite(prices).all(1) & (volume >= 0.0) & np.isfinite(volume)
    is_usable &= (bars[:, _LOW] <= bars[:, _CLOSE]) & (bars[:, _CLOSE] <= bars[:, _HIGH])
    if not is_usable.all():
        raise DataError(f"bar {int(np.argmin(is_usable))} has unusable prices or volume")
    return bars


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


def fill_minutes(open_times: TimeArray, bars: FloatArray) -> tuple[TimeArray, FloatArray]:
    """Return the minutes without holes, as `CandleBuilder.on_minute` gives them.

    Missing minutes are flat at the previous close with volume 0 and everything else unknown (NaN). Minutes that are not newer
    than one before them are left out.

    Parameters
    ----------
    open_times : int64 array of shape (n_bars,)
        ns UTC, multiples of a minute.
    bars : float64 array of shape (n_bars, 13)
        Columns in the order of `BAR_VALUES`.

    Returns
    -------
    open_times, bars : arrays of shapes (m_bars,) and (m_bars, 13)
        One row per minute from the first to the last.

    Raises
    ------
    DataError
        If a time is not on a minute or the shapes do not fit.
    """
    open_times, bars = np.asarray(open_times, dtype=np.int64), np.asarray(bars, dtype=np.float64)
    if bars.shape != (len(open_times), len(BAR_VALUES)) or (open_times % _MINUTE_NS).any():
        raise DataError("open times must be whole minutes, one per row of 13 values")
    if len(open_times) == 0:
        return open_times, bars
    newest_before = np.concatenate(([open_times[0] - 1], np.maximum.accumulate(open_times)[:-1]))
    is_new = open_times > newest_before
    known_times, known = open_times[is_new], bars[is_new]
    times = np.arange(known_times[0], known_times[-1] + _MINUTE_NS, _MINUTE_NS, dtype=np.int64)
    source = np.searchsorted(known_times, times, side="right") - 1
    filled = known[source]
    is_missing = known_times[source] != times
    filled[is_missing, :_CLOSE] = filled[is_missing, _CLOSE, None]
    filled[is_missing, _VOLUME] = 0.0
    filled[is_missing, _QUOTE:] = NAN
    return times, filled


def resample(bars_1m: FloatArray, open_times: TimeArray, timeframe: Timeframe) -> tuple[FloatArray, TimeArray]:
    """Return the complete bars of a higher timeframe, as `CandleBuilder` builds them; holes are filled first.

    Parameters
    ----------
    bars_1m : float64 array of shape (n_bars, 13)
        Minutes in the order of `BAR_VALUES`.
    open_times : int64 array of shape (n_bars,)
        ns UTC.
    timeframe : Timeframe
        Any; 1m returns the filled minutes.

    Returns
    -------
    bars, open_times : arrays of shapes (m_bars, 13) and (m_bars,)
        Buckets whose every minute lies between the first and the last given one.
    """
    times, minutes = fill_minutes(open_times, bars_1m)
    per_bar = timeframe.seconds // Timeframe.M1.seconds
    if len(times) == 0 or per_bar == 1:
        return minutes, times
    first = int(-times[0] % timeframe.ns // _MINUTE_NS)
    n_bars = max(len(times) - first, 0) // per_bar
    end = first + n_bars * per_bar
    grouped = minutes[first:end].reshape(n_bars, per_bar, len(BAR_VALUES))
    return _rolled_up(grouped), times[first:end:per_bar]


def _rolled_up(grouped: FloatArray) -> FloatArray:
    out = grouped[:, -1].copy()  # close, trade momentum and microprice are the last minute's
    out[:, _OPEN] = grouped[:, 0, _OPEN]
    out[:, _HIGH] = grouped[:, :, _HIGH].max(1)
    out[:, _LOW] = grouped[:, :, _LOW].min(1)
    out[:, _VOLUME : _BUY + 1] = grouped[:, :, _VOLUME : _BUY + 1].sum(1)
    book = grouped[:, :, _SPREAD : _DEPTH + 1]
    n_known = (~np.isnan(book)).sum(1)
    total = np.nansum(book, axis=1)
    out[:, _SPREAD : _DEPTH + 1] = np.divide(total, n_known, out=np.full_like(total, NAN), where=n_known > 0)
    return out

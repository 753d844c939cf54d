"""The 30 features one bar at a time, and the state of a symbol over its three timeframes.

Window sums are taken anew over their 20 or 50 values with `math.fsum`, never carried along: nothing drifts, and a price that
jumps by a factor of a thousand leaves no trace once it has left the window.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from helios.domain.decisions import N_FEATURES, WINDOW_STEPS, FeatureWindow, Float32Array, FloatArray
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import NAN, Bar, MarketSnapshot
from helios.errors import DataError, InsufficientHistoryError
from helios.features.definitions import CANDLE_COLUMNS, RETURNS_KEPT, WARMUP_BARS
from helios.features.recursions import Ema, Rsi

_CANDLE_COLUMNS = np.array(CANDLE_COLUMNS)


def _mean(values: deque[float]) -> float:
    return math.fsum(values) / len(values)


def _sample_deviation(values: deque[float]) -> float:
    mean = _mean(values)
    return math.sqrt(math.fsum([(x - mean) ** 2 for x in values]) / (len(values) - 1))


def _is_full(values: deque[float]) -> bool:
    return len(values) == values.maxlen


class TimeframeFeatures:
    """Features of one symbol in one timeframe; bars must come without holes, oldest first."""

    def __init__(self) -> None:
        self._closes = deque[float](maxlen=50)
        self._returns = deque[float](maxlen=20)
        self._volumes = deque[float](maxlen=20)
        self._volume_changes = deque[float](maxlen=20)
        self._quotes = deque[float](maxlen=20)
        self._typical_quotes = deque[float](maxlen=20)
        self._counts = deque[float](maxlen=20)
        self._rsi_14, self._rsi_7 = Rsi(14), Rsi(7)
        self._ema_12, self._ema_26 = Ema(12), Ema(26)
        self._macd_fast, self._macd_signal = Ema(12, skip=14), Ema(9)

    def update(self, bar: Bar) -> FloatArray:
        """Take the next closed bar and return its features.

        Parameters
        ----------
        bar : Bar
            Prices positive and finite, volume not negative.

        Returns
        -------
        row : float64 array of shape (30,)
            In the order of `FEATURE_NAMES`; NaN where history or input is missing. `btc_correlation_60` is always NaN here.

        Raises
        ------
        DataError
            If a price or the volume is unusable; nothing has changed then.
        """
        if not (0.0 < bar.low <= bar.close <= bar.high < math.inf and 0.0 < bar.open < math.inf and 0.0 <= bar.volume < math.inf):
            raise DataError(f"{bar.symbol}: bar at {bar.open_time} has unusable prices or volume")
        previous = self._closes[-1] if self._closes else NAN
        self._closes.append(bar.close)
        if len(self._closes) > 1:
            self._returns.append(math.log(bar.close / previous))
        row = (
            *self._price(bar),
            *self._volume(bar),
            *self._technical(bar.close, bar.close - previous),
            *(bar.book_imbalance, bar.depth_log, bar.trade_momentum, NAN, bar.microprice_bps),
        )
        return np.array(row)

    @property
    def last_return(self) -> float:
        """Log return of the newest bar, NaN after the first one."""
        return self._returns[-1] if self._returns else NAN

    def _log_return(self, n_bars: int) -> float:
        return math.log(self._closes[-1] / self._closes[-1 - n_bars]) if len(self._closes) > n_bars else NAN

    def _price(self, bar: Bar) -> tuple[float, ...]:
        close, extent = bar.close, bar.high - bar.low
        return (
            bar.open / close - 1.0,
            bar.high / close - 1.0,
            bar.low / close - 1.0,
            self.last_return,
            self._log_return(5),
            self._log_return(20),
            _sample_deviation(self._returns) if _is_full(self._returns) else NAN,
            (close - bar.low) / extent if extent > 0.0 else 0.5,
            self._vwap_rel(bar),
            bar.spread_bps,
        )

    def _vwap_rel(self, bar: Bar) -> float:
        self._volumes.append(bar.volume)
        self._quotes.append(bar.quote_volume)
        self._typical_quotes.append((bar.high + bar.low + bar.close) / 3.0 * bar.volume)
        if not _is_full(self._volumes):
            return NAN
        base = math.fsum(self._volumes)
        if base == 0.0:
            return 0.0
        traded = math.fsum(self._quotes)
        quote = traded if math.isfinite(traded) else math.fsum(self._typical_quotes)
        return quote / base / bar.close - 1.0

    def _volume(self, bar: Bar) -> tuple[float, ...]:
        ratio = change = deviation = count_ratio = NAN
        if _is_full(self._volumes):
            mean = _mean(self._volumes)
            ratio = bar.volume / mean if mean > 0.0 else 0.0
            change = math.log((bar.volume / mean + 1.0) / (self._volumes[-2] / mean + 1.0)) if mean > 0.0 else 0.0
            self._volume_changes.append(change)
        if _is_full(self._volume_changes):
            deviation = _sample_deviation(self._volume_changes)
        self._counts.append(bar.trade_count)
        if _is_full(self._counts):
            mean = _mean(self._counts)
            count_ratio = 0.0 if mean == 0.0 else bar.trade_count / mean
        return ratio, change, deviation, _flow_imbalance(bar), count_ratio

    def _technical(self, close: float, change: float) -> tuple[float, ...]:
        has_change = len(self._closes) > 1
        rsi_14 = self._rsi_14.update(change) if has_change else NAN
        rsi_7 = self._rsi_7.update(change) if has_change else NAN
        ema_12, ema_26 = self._ema_12.update(close), self._ema_26.update(close)
        macd = self._macd_fast.update(close) - ema_26
        signal = NAN if math.isnan(macd) else self._macd_signal.update(macd)
        if math.isnan(signal):
            macd = NAN  # TA-Lib gives neither before both are known
        sma_50 = _mean(self._closes) if _is_full(self._closes) else NAN
        sma_20, deviation = self._recent_20()
        return (
            rsi_14,
            rsi_7,
            macd / close,
            signal / close,
            sma_20 / close - 1.0,
            sma_50 / close - 1.0,
            ema_12 / close - 1.0,
            ema_26 / close - 1.0,
            (sma_20 + 2.0 * deviation) / close - 1.0,
            (sma_20 - 2.0 * deviation) / close - 1.0,
        )

    def _recent_20(self) -> tuple[float, float]:
        # Mean and population deviation of the last 20 closes.
        if len(self._closes) < 20:
            return NAN, NAN
        recent = list(self._closes)[-20:]
        mean = math.fsum(recent) / 20.0
        return mean, math.sqrt(math.fsum([(x - mean) ** 2 for x in recent]) / 20.0)


def _flow_imbalance(bar: Bar) -> float:
    if math.isnan(bar.buy_volume):
        return NAN
    return (2.0 * bar.buy_volume - bar.volume) / bar.volume if bar.volume > 0.0 else 0.0


class _Ring:
    """The last `size` values or rows, oldest first, NaN where there is none yet."""

    def __init__(self, *shape: int) -> None:
        self._values: FloatArray = np.full(shape, NAN)
        self._next = 0

    def append(self, value: float | FloatArray) -> None:
        self._values[self._next] = value
        self._next = (self._next + 1) % len(self._values)

    def in_order(self) -> FloatArray:
        return np.concatenate((self._values[self._next :], self._values[: self._next]))

    def newest(self) -> FloatArray:
        return np.asarray(self._values[self._next - 1])


class _Timeline:
    """One timeframe: features, the rows and returns a window needs, and for how long they have been whole."""

    def __init__(self, timeframe: Timeframe) -> None:
        self.timeframe = timeframe
        self.features = TimeframeFeatures()
        self.rows = _Ring(WINDOW_STEPS, N_FEATURES)
        self.returns = _Ring(RETURNS_KEPT)
        self.n_bars = 0
        self._n_whole_rows = 0
        self._next_open_time: int | None = None

    @property
    def is_warm(self) -> bool:
        return self._n_whole_rows >= WINDOW_STEPS and self.n_bars > RETURNS_KEPT

    def add(self, bar: Bar) -> None:
        if self._next_open_time is not None and bar.open_time != self._next_open_time:
            if bar.open_time < self._next_open_time:
                return  # known already
            raise DataError(f"{bar.symbol} {self.timeframe.value}: bars missing before {bar.open_time}")
        row = self.features.update(bar)
        self._next_open_time = bar.close_time
        self.n_bars += 1
        self.rows.append(row)
        self.returns.append(self.features.last_return)
        is_whole = bool(np.isfinite(row[_CANDLE_COLUMNS]).all())
        self._n_whole_rows = self._n_whole_rows + 1 if is_whole else 0


class FeatureState:
    """Features of one symbol in 1m, 5m and 15m, and the window that the model reads.

    Parameters
    ----------
    symbol : str
        Unified symbol.
    """

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self._timelines = {timeframe: _Timeline(timeframe) for timeframe in FEATURE_TIMEFRAMES}

    @property
    def is_warm(self) -> bool:
        """Whether every row of the present window has all candle features and all returns are known."""
        return all(timeline.is_warm for timeline in self._timelines.values())

    def on_bar(self, bar: Bar) -> None:
        """Take a closed bar; 1h and 1d bars and bars already known are ignored.

        Raises
        ------
        DataError
            If bars are missing before it or its prices are unusable; the gap must be filled first.
        """
        timeline = self._timelines.get(bar.timeframe)
        if timeline is not None:
            timeline.add(bar)

    def latest(self) -> FloatArray:
        """Return the newest row per timeframe, shape (3, 30); NaN where unknown."""
        return np.stack([timeline.rows.newest() for timeline in self._timelines.values()])

    def vector(self) -> Float32Array:
        """Return the newest rows as one vector of shape (90,): 1m, 5m, 15m.

        Raises
        ------
        InsufficientHistoryError
            If a timeframe has fewer than `WARMUP_BARS` bars: nothing is computed rather than padded.
        """
        for timeline in self._timelines.values():
            if timeline.n_bars < WARMUP_BARS:
                name = timeline.timeframe.value
                raise InsufficientHistoryError(f"{self.symbol} {name}: {timeline.n_bars} of {WARMUP_BARS} bars")
        return self.latest().astype(np.float32).reshape(-1)

    def window(
        self, bar_time: int, close: float, volume_quote: float, market: MarketSnapshot, is_stale: bool = False
    ) -> FeatureWindow:
        """Return the model's input at the close of a decision bar; its arrays are copies and read-only.

        Parameters
        ----------
        bar_time : int
            Close time of the decision bar, ns.
        close, volume_quote : float
            Close and quote turnover of the decision bar.
        market : MarketSnapshot
            Price and book at that moment.
        is_stale : bool, default=False
            Whether the symbol's data is too old to act upon.
        """
        timelines = self._timelines.values()
        values = np.stack([timeline.rows.in_order() for timeline in timelines]).astype(np.float32)
        returns = np.stack([timeline.returns.in_order() for timeline in timelines])
        values.setflags(write=False)
        returns.setflags(write=False)
        return FeatureWindow(self.symbol, bar_time, values, returns, self.is_warm, close, volume_quote, market, is_stale)

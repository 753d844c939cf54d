"""The 30 features one bar at a time, and the state of a symbol over its three timeframes.

Sums of a window are taken anew over its 20 or 50 values, never carried along: nothing drifts, and a price that jumps by a factor
of a thousand leaves no trace once it has left the window. That is also the quickest way here: windows are plain lists, and
`sum`, `fsum` and `dist` go through one in C in less time than two additions and their attributes take in Python.
"""

from __future__ import annotations

import struct
from math import dist, fsum, inf, isfinite, isnan, log, sqrt
from typing import Final

import numpy as np

from helios.domain.decisions import N_FEATURES, WINDOW_STEPS, FeatureWindow, Float32Array, FloatArray
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import NAN, Bar, MarketSnapshot
from helios.errors import DataError, InsufficientHistoryError
from helios.features.definitions import RETURNS_KEPT, WARMUP_BARS
from helios.features.recursions import Ema, Rsi

_N_LONG: Final = 50
_N: Final = 20
_SQRT_N: Final = sqrt(_N)
_SQRT_N_1: Final = sqrt(_N - 1)
_PACKED: Final = struct.Struct(f"{N_FEATURES}d")


def _push(window: list[float], value: float, size: int) -> None:
    window.append(value)
    if len(window) > size:
        del window[0]


def _sample_deviation(window: list[float]) -> float:
    return dist(window, (fsum(window) / _N,) * _N) / _SQRT_N_1 if len(window) == _N else NAN


def _share(value: float, total: float) -> float:
    # Of the mean; 0 where nothing happened at all, NaN where that is unknown.
    return 0.0 if total <= 0.0 else value / (total / _N)


class TimeframeFeatures:
    """Features of one symbol in one timeframe; bars must come without holes, oldest first."""

    __slots__ = (
        "_changes",
        "_closes",
        "_counts",
        "_ema_12",
        "_ema_26",
        "_macd_fast",
        "_macd_signal",
        "_quotes",
        "_returns",
        "_row",
        "_rsi_7",
        "_rsi_14",
        "_typical_quotes",
        "_volumes",
    )  # fmt: skip

    def __init__(self) -> None:
        self._closes: list[float] = []
        self._returns: list[float] = []
        self._volumes: list[float] = []
        self._changes: list[float] = []  # of the volume
        self._quotes: list[float] = []
        self._typical_quotes: list[float] = []
        self._counts: list[float] = []
        self._rsi_14, self._rsi_7 = Rsi(14), Rsi(7)
        self._ema_12, self._ema_26 = Ema(12), Ema(26)
        self._macd_fast, self._macd_signal = Ema(12, skip=14), Ema(9)
        self._row: tuple[float, ...] = ()

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
        close = bar.close
        if not (0.0 < bar.low <= close <= bar.high < inf and 0.0 < bar.open < inf and 0.0 <= bar.volume < inf):
            raise DataError(f"{bar.symbol}: bar at {bar.open_time} has unusable prices or volume")
        closes = self._closes
        change = close - closes[-1] if closes else NAN
        if closes:
            _push(self._returns, log(close / closes[-1]), _N)
        _push(closes, close, _N_LONG)
        self._row = row = (
            *self._price(bar, close),
            *self._volume(bar),
            *self._technical(close, change),
            *(bar.book_imbalance, bar.depth_log, bar.trade_momentum, NAN, bar.microprice_bps),
        )
        return np.frombuffer(bytearray(_PACKED.pack(*row)))  # half the time of np.array(row)

    @property
    def last_return(self) -> float:
        """Log return of the newest bar, NaN after the first one."""
        return self._returns[-1] if self._returns else NAN

    @property
    def is_whole(self) -> bool:
        """Whether every candle feature of the newest row is finite."""
        # Sums of the candle columns: one that is not finite shows. Plain floats: an array would take ten times as long.
        row = self._row
        return bool(row) and isfinite(sum(row[:9]) + sum(row[10:13]) + sum(row[15:25]))

    def _price(self, bar: Bar, close: float) -> tuple[float, ...]:
        closes, low, high = self._closes, bar.low, bar.high
        n_closes, extent = len(closes), high - low
        return (
            bar.open / close - 1.0,
            high / close - 1.0,
            low / close - 1.0,
            self._returns[-1] if n_closes > 1 else NAN,
            log(close / closes[-6]) if n_closes > 5 else NAN,
            log(close / closes[-21]) if n_closes > 20 else NAN,
            _sample_deviation(self._returns),
            (close - low) / extent if extent > 0.0 else 0.5,
            self._vwap_rel(bar, close),
            bar.spread_bps,
        )

    def _vwap_rel(self, bar: Bar, close: float) -> float:
        volumes = self._volumes
        _push(volumes, bar.volume, _N)
        _push(self._quotes, bar.quote_volume, _N)
        _push(self._typical_quotes, (bar.high + bar.low + close) / 3.0 * bar.volume, _N)
        if len(volumes) < _N:
            return NAN
        base = sum(volumes)
        if base == 0.0:
            return 0.0
        traded = sum(self._quotes)
        quote = traded if isfinite(traded) else sum(self._typical_quotes)
        return quote / base / close - 1.0

    def _volume(self, bar: Bar) -> tuple[float, ...]:
        ratio = change = count_ratio = NAN
        volume, volumes, counts = bar.volume, self._volumes, self._counts
        _push(counts, bar.trade_count, _N)
        if len(volumes) == _N:
            base = sum(volumes)
            ratio = _share(volume, base)
            change = log((ratio + 1.0) / (_share(volumes[-2], base) + 1.0))
            _push(self._changes, change, _N)
            count_ratio = _share(bar.trade_count, sum(counts))
        return ratio, change, _sample_deviation(self._changes), _flow_imbalance(volume, bar.buy_volume), count_ratio

    def _technical(self, close: float, change: float) -> tuple[float, ...]:
        rsi_14, rsi_7 = self._rsi_14.update(change), self._rsi_7.update(change)
        ema_12, ema_26 = self._ema_12.update(close), self._ema_26.update(close)
        macd = self._macd_fast.update(close) - ema_26
        signal = NAN if isnan(macd) else self._macd_signal.update(macd)
        if isnan(signal):
            macd = NAN  # TA-Lib gives neither before both are known
        mean, reach = self._recent()
        return (
            rsi_14,
            rsi_7,
            macd / close,
            signal / close,
            mean / close - 1.0,
            fsum(self._closes) / _N_LONG / close - 1.0 if len(self._closes) == _N_LONG else NAN,
            ema_12 / close - 1.0,
            ema_26 / close - 1.0,
            (mean + reach) / close - 1.0,
            (mean - reach) / close - 1.0,
        )

    def _recent(self) -> tuple[float, float]:
        # Mean and two population deviations of the last 20 closes.
        recent = self._closes[-_N:]
        if len(recent) < _N:
            return NAN, NAN
        mean = fsum(recent) / _N
        return mean, 2.0 * dist(recent, (mean,) * _N) / _SQRT_N


def _flow_imbalance(volume: float, buy_volume: float) -> float:
    if isnan(buy_volume):
        return NAN
    return (2.0 * buy_volume - volume) / volume if volume > 0.0 else 0.0


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
        self._n_whole_rows = self._n_whole_rows + 1 if self.features.is_whole else 0


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

"""What every catalog feature is computed from, and what is said about each: `Frame` and `CatalogFeature`."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from helios.domain.decisions import FloatArray
from helios.domain.market import BAR_VALUES, NAN
from helios.errors import DataError

TimeArray = NDArray[np.int64]
T = TypeVar("T")

INPUTS: Final[tuple[str, ...]] = (*BAR_VALUES, "mid", "open_time")
"""What a feature may need: the columns of a bar, the mid price at the close, and when the bar opened."""

CANDLE: Final[tuple[str, ...]] = BAR_VALUES[:4]
HIGH_LOW_CLOSE: Final[tuple[str, ...]] = BAR_VALUES[1:4]
CLOSE: Final[tuple[str, ...]] = ("close",)
SETTLED: Final = 1e-12
"""What the start of a history may still weigh in a recursive average when it counts as forgotten."""

_N_PRICES = 4
_VOLUME = BAR_VALUES.index("volume")


class Frame:
    """Consecutive bars of one timeframe by column, with a memory for what several features share.

    Parameters
    ----------
    bars : float64 array of shape (n_bars, 13)
        Columns in the order of `BAR_VALUES`, oldest first, without holes. Unknown columns are NaN; infinite ones count as unknown.
    open_times : int64 array of shape (n_bars,), optional
        ns UTC. Without it, features that need a calendar or the length of a bar are NaN.
    mid : float64 array of shape (n_bars,), optional
        Mid price of the book at the close of each bar; bars do not carry it. Without it, features that need it are NaN.

    Raises
    ------
    DataError
        If a shape is wrong, times do not increase, or a price or volume is unusable.
    """

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    quote_volume: FloatArray
    trade_count: FloatArray
    buy_volume: FloatArray
    spread_bps: FloatArray
    book_imbalance: FloatArray
    depth_log: FloatArray
    trade_momentum: FloatArray
    microprice_bps: FloatArray

    def __init__(self, bars: FloatArray, open_times: TimeArray | None = None, mid: FloatArray | None = None) -> None:
        bars = checked_bars(bars)
        columns = np.ascontiguousarray(bars.T)
        columns[_VOLUME + 1 :][~np.isfinite(columns[_VOLUME + 1 :])] = NAN
        self.n_bars = len(bars)
        for name, column in zip(BAR_VALUES, columns, strict=True):
            setattr(self, name, column)
        self.mid = self._mid(mid)
        self.open_times = self._times(open_times)
        self._known: dict[Hashable, Any] = {}

    def memo(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` returned the first time it was asked for under `key`."""
        if key not in self._known:
            self._known[key] = compute()
        return cast(T, self._known[key])

    @property
    def typical(self) -> FloatArray:
        """(high + low + close) / 3."""
        return self.memo("typical", lambda: (self.high + self.low + self.close) / 3.0)

    @property
    def log_close(self) -> FloatArray:
        """Natural logarithm of the closes."""
        return self.memo("log_close", lambda: np.log(self.close))

    @property
    def returns(self) -> FloatArray:
        """One-bar log returns; the first is NaN."""
        return self.memo("returns", lambda: self._returns())

    @property
    def period_s(self) -> FloatArray:
        """Seconds since the bar before opened; NaN for the first bar and without times."""
        return self.memo("period_s", self._period_s)

    def unknown(self) -> FloatArray:
        """NaN for every bar."""
        return np.full(self.n_bars, NAN)

    def _returns(self) -> FloatArray:
        out = self.unknown()
        out[1:] = np.log(self.close[1:] / self.close[:-1])
        return out

    def _period_s(self) -> FloatArray:
        out = self.unknown()
        if self.open_times is not None:
            out[1:] = np.diff(self.open_times) / 1e9
        return out

    def _mid(self, mid: FloatArray | None) -> FloatArray:
        if mid is None:
            return self.unknown()
        mid = np.asarray(mid, dtype=np.float64)
        if mid.shape != (self.n_bars,):
            raise DataError(f"mid prices of shape {mid.shape} for {self.n_bars} bars")
        return np.where(np.isfinite(mid) & (mid > 0.0), mid, NAN)

    def _times(self, open_times: TimeArray | None) -> TimeArray | None:
        if open_times is None:
            return None
        times = np.asarray(open_times, dtype=np.int64)
        if times.shape != (self.n_bars,) or (np.diff(times) <= 0).any():
            raise DataError("open times must increase, one per bar")
        return times


@dataclass(frozen=True, slots=True)
class CatalogFeature:
    """One column of the catalog.

    Attributes
    ----------
    name, family : str
        Column name, unique; family as in `registry.FAMILIES`.
    lookback : int
        Bars, the present one included, that determine the value. With `tolerance` 0 older bars have no influence at all;
        otherwise what they still add is below `tolerance`. For features by calendar day it holds for bars of a minute or longer.
    inputs : tuple of str
        Names out of `INPUTS`. Where one is unknown the value is NaN.
    doc : str
        One line: what the number is.
    compute : callable of (Frame) -> float64 array of shape (n_bars,)
        Causal and vectorised.
    unit : str, default="fraction"
        "fraction", "price", "bps", "flag", "seconds", "bars", "log" or "number".
    low, high : float
        Bounds that every finite value keeps.
    tolerance : float, default=0.0
        0 for windows; 1e-9 for recursive averages, relative.
    """

    name: str
    family: str
    lookback: int
    inputs: tuple[str, ...]
    doc: str
    compute: Callable[[Frame], FloatArray]
    unit: str = "fraction"
    low: float = -math.inf
    high: float = math.inf
    tolerance: float = 0.0


def settled_bars(keep: float, first: int, n_stages: int = 1) -> int:
    """Return the bars after which a recursive average no longer shows where it began.

    Parameters
    ----------
    keep : float
        Part of the old value that stays at each bar.
    first : int
        Bars that the average needs for its first value.
    n_stages : int, default=1
        Averages of averages; each further one forgets more slowly, since errors decay as a polynomial times `keep ** n`.
    """
    return first + math.ceil((1.0 + 0.25 * (n_stages - 1)) * math.log(SETTLED) / math.log(keep))


def ema_bars(period: int, n_stages: int = 1) -> int:
    """Return `settled_bars` of an exponential average (keeps 1 - 2 / (period + 1))."""
    return settled_bars(1.0 - 2.0 / (period + 1), n_stages * period, n_stages)


def wilder_bars(period: int, n_stages: int = 1) -> int:
    """Return `settled_bars` of Wilder's average (keeps (period - 1) / period)."""
    return settled_bars((period - 1) / period, n_stages * period + 1, n_stages)


def checked_bars(bars: FloatArray) -> FloatArray:
    """Return the bars as float64 of shape (n_bars, 13).

    Raises
    ------
    DataError
        If the shape is wrong, a price or volume is unusable, or a bar's open or close lies outside its range.
    """
    bars = np.asarray(bars, dtype=np.float64)
    if bars.ndim != 2 or bars.shape[1] != len(BAR_VALUES):
        raise DataError(f"bars of shape {bars.shape}; expected (n, {len(BAR_VALUES)})")
    prices, volume = bars[:, :_N_PRICES], bars[:, _VOLUME]
    low, high = prices[:, [0, 2, 3]].min(1, initial=np.inf), prices[:, [0, 1, 3]].max(1, initial=0.0)
    is_usable = np.isfinite(prices).all(1) & (prices > 0.0).all(1) & np.isfinite(volume) & (volume >= 0.0)
    is_usable &= (prices[:, 2] <= low) & (high <= prices[:, 1])
    if not is_usable.all():
        raise DataError(f"bar {int(np.argmin(is_usable))} has unusable prices or volume")
    return bars

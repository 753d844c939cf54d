"""What is gathered during one minute: traded prices and volumes, and the book weighted by the time each state held."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from helios.domain.enums import Side, Timeframe
from helios.domain.market import NAN, Bar, Trade
from helios.market.book import OrderBook

MOMENTUM_TRADES: Final = 10


class TradeMomentum:
    """Signed over total quantity of the last ten trades; NaN until there are ten."""

    def __init__(self) -> None:
        self._signed: deque[float] = deque(maxlen=MOMENTUM_TRADES)

    def add(self, trade: Trade) -> None:
        """Take one trade."""
        self._signed.append(trade.quantity * trade.taker_side.value)

    def value(self) -> float:
        """Return the momentum in -1..1."""
        if len(self._signed) < MOMENTUM_TRADES:
            return NAN
        return math.fsum(self._signed) / math.fsum(map(abs, self._signed))


class MinuteTrades:
    """Prices and volumes of the trades of one minute. Open and close go by venue time, not by arrival."""

    def __init__(self) -> None:
        self.count = 0
        self.open = self.high = self.low = self.close = NAN
        self.volume = self.quote = self.buy = 0.0
        self._open_ts = self._close_ts = 0

    def add(self, trade: Trade) -> None:
        """Take one trade of this minute."""
        price, quantity, ts = trade.price, trade.quantity, trade.ts_event
        if self.count == 0:
            self.open = self.high = self.low = self.close = price
            self._open_ts = self._close_ts = ts
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        if ts < self._open_ts:
            self.open, self._open_ts = price, ts
        if ts >= self._close_ts:
            self.close, self._close_ts = price, ts
        self.count += 1
        self.volume += quantity
        self.quote += price * quantity
        if trade.taker_side is Side.BUY:
            self.buy += quantity


class BookAverages:
    """Time-weighted spread, imbalance and depth of a minute; the last state carries over into the next one.

    A state counts from the moment it came until the next one came. Time without a trustworthy book has no weight.
    """

    def __init__(self) -> None:
        self._spread = self._imbalance = self._depth = NAN
        self._since = 0
        self.microprice_bps = NAN
        self._reset()

    def _reset(self) -> None:
        self._spread_ns = self._imbalance_ns = self._depth_ns = 0.0
        self._spread_held_ns = self._levels_held_ns = 0

    def observe(self, book: OrderBook, ts: int) -> None:
        """Take the book's state from `ts` (ns) on; a book whose best levels have not changed says nothing new."""
        if not book.take_top_change():
            return
        self._hold_until(ts)
        self._spread, self._imbalance, self._depth, self.microprice_bps = book.top()

    def close(self, end: int) -> tuple[float, float, float]:
        """Return (spread, imbalance, depth) of the minute that ends at `end` and begin the next one."""
        self._hold_until(end)
        spread_held, levels_held = self._spread_held_ns, self._levels_held_ns
        means = (
            self._spread_ns / spread_held if spread_held else NAN,
            self._imbalance_ns / levels_held if levels_held else NAN,
            self._depth_ns / levels_held if levels_held else NAN,
        )
        self._reset()
        return means

    def _hold_until(self, ts: int) -> None:
        held_ns = ts - self._since
        if held_ns <= 0:
            return
        self._since = ts
        if self._spread == self._spread:  # not NaN: both sides had levels
            self._spread_ns += self._spread * held_ns
            self._spread_held_ns += held_ns
        if self._imbalance == self._imbalance:  # known together with the depth: some side had levels
            self._imbalance_ns += self._imbalance * held_ns
            self._depth_ns += self._depth * held_ns
            self._levels_held_ns += held_ns


def traded_minute(symbol: str, open_time: int, trades: MinuteTrades) -> Bar:
    """Return the bar of a minute with trades, without its book columns."""
    return Bar(
        symbol=symbol,
        timeframe=Timeframe.M1,
        open_time=open_time,
        open=trades.open,
        high=trades.high,
        low=trades.low,
        close=trades.close,
        volume=trades.volume,
        quote_volume=trades.quote,
        trade_count=float(trades.count),
        buy_volume=trades.buy,
    )


def flat_minute(symbol: str, open_time: int, price: float, *, is_observed: bool) -> Bar:
    """Return the bar of a minute without trades: flat at the previous close, volume 0.

    `is_observed` says that we listened and nothing traded: counts and flow are then 0. A minute missing from history was not
    observed: they are NaN.
    """
    flow = 0.0 if is_observed else NAN
    return Bar(symbol, Timeframe.M1, open_time, price, price, price, price, 0.0, flow, flow, flow)

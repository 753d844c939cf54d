"""Candles of one symbol from trades, book and clock, or from recorded minutes.

A bucket closes when market time reaches its end, whatever comes first: a later trade, a book update or the clock. So a minute
without trades closes too. What arrives later may correct it for a while (see `settling`); such a bar comes out again, as a revision.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from helios.domain.enums import Timeframe
from helios.domain.market import Bar, Trade, VenueCandle
from helios.errors import DataError, ProtocolError
from helios.market.book import OrderBook
from helios.market.minute import BookAverages, MinuteTrades, TradeMomentum, flat_minute, traded_minute
from helios.market.rollup import Rollup
from helios.market.settling import SettlingMinutes

ALL_TIMEFRAMES: Final = (Timeframe.M1, Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.D1)
REMEMBERED_TRADE_IDS: Final = 10_000
EARLY_CANDLES: Final = 4
MAX_JUMP_NS: Final = 30 * Timeframe.D1.ns
_MINUTE_NS: Final = Timeframe.M1.ns


class CandleBuilder:
    """Builds contiguous bars of every timeframe; each bar is returned exactly once, when it closes.

    Bars come ordered by close time, then by length. No bar comes before a first price is known, and no higher bar whose first
    minute was not seen. The first minute after a start begins when the first event came: `first_live_minute` names it, so
    that the owner can fetch the venue's candle for it.

    Parameters
    ----------
    symbol : str
        Unified symbol.
    timeframes : iterable of Timeframe
        Which bars to return; all are built from minutes.

    Attributes
    ----------
    late_trades, duplicate_trades : int
        Trades not applied because their minute is no longer open to correction, or because their id was among the last 10,000.
    settling : SettlingMinutes
        The minutes that a late trade or the venue's candle may still correct.
    ignored_minutes, filled_minutes : int
        Minutes given twice or too late, and minutes missing between two given ones that were filled flat.
    gaps : list of (int, int)
        Those missing ranges: first missing open time and the open time after the last one, ns.
    """

    def __init__(self, symbol: str, timeframes: Iterable[Timeframe] = ALL_TIMEFRAMES) -> None:
        self.symbol = symbol
        wanted = sorted(set(timeframes), key=lambda timeframe: timeframe.ns)
        self._returns_minutes = Timeframe.M1 in wanted
        self._rollups = [Rollup(timeframe) for timeframe in wanted if timeframe is not Timeframe.M1]
        self.late_trades = self.duplicate_trades = self.ignored_minutes = self.filled_minutes = 0
        self.gaps: list[tuple[int, int]] = []
        self.first_live_minute: int | None = None
        self._open_time: int | None = None  # of the minute being built
        self._price: float | None = None  # close of the last minute
        self._trades = MinuteTrades()
        self._book = BookAverages()
        self._momentum = TradeMomentum()
        self._seen_ids: OrderedDict[str, None] = OrderedDict()
        self.settling = SettlingMinutes()
        self._early: dict[int, VenueCandle] = {}  # candles of minutes that we have not closed yet
        self._revised: list[Bar] = []

    @property
    def last_price(self) -> float | None:
        """Newest price known, of the open minute or of the last closed one."""
        return self._trades.close if self._trades.count else self._price

    @property
    def open_time(self) -> int | None:
        """Open time of the minute being built, ns; None before anything came."""
        return self._open_time

    def on_trade(self, trade: Trade) -> list[Bar]:
        """Close what ended before the trade, then apply it.

        Returns
        -------
        bars : list of Bar
            Bars that closed, maybe none.

        Raises
        ------
        ProtocolError
            If price or quantity is not a positive finite number, or the time lies over 30 days ahead of the open minute:
            then a unit or a clock is wrong, and filling the years between would never end.
        """
        self.check_trade(trade)
        if self._is_duplicate(trade.trade_id):
            self.duplicate_trades += 1
            return []
        bars = self._go_live(trade.ts_event)
        assert self._open_time is not None
        if trade.ts_event < self._open_time:
            self._join_closed_minute(trade)
            return bars
        self._trades.add(trade)
        self._momentum.add(trade)
        return bars

    def check_trade(self, trade: Trade) -> None:
        """Raise what `on_trade` would raise, and change nothing: whoever else uses the price must know first."""
        if not (0.0 < trade.price < math.inf and 0.0 < trade.quantity < math.inf):
            raise ProtocolError(f"trade {trade.trade_id} of {self.symbol}: {trade.quantity} at {trade.price}")
        self.check_time(trade.ts_event)

    def check_time(self, ts: int) -> None:
        """Raise ProtocolError if an event of `ts` (ns) lies so far ahead of the open minute that a unit or a clock is wrong."""
        if self._open_time is not None and ts - self._open_time > MAX_JUMP_NS:
            raise ProtocolError(f"{self.symbol}: event at {ts} follows the minute {self._open_time}")

    def on_book(self, book: OrderBook, ts: int) -> list[Bar]:
        """Close what ended before `ts` (ns), then let the book's state count from `ts` on; an unsynced book is unknown."""
        bars = self._go_live(ts)
        self._book.observe(book, ts)
        return bars

    def lose_book(self, book: OrderBook, ts: int) -> None:
        """Let an emptied book count for nothing from `ts` (ns), the last moment it was good, on."""
        self._book.observe(book, ts)

    def on_candle(self, candle: VenueCandle) -> None:
        """Compare a closed minute with the venue's own candle for it; see `take_revised` for what that changes."""
        if candle.timeframe is not Timeframe.M1 or self._open_time is None:
            return
        if candle.open_time < self._open_time:
            self._revise(self.settling.check(candle))
        else:
            self._early = {t: early for t, early in self._early.items() if t >= self._open_time}
            if len(self._early) < EARLY_CANDLES:
                self._early[candle.open_time] = candle

    @property
    def has_revised(self) -> bool:
        """Whether `take_revised` would return something."""
        return bool(self._revised)

    def take_revised(self) -> list[Bar]:
        """Return the minutes that were corrected since the last call, each already given out before, oldest first."""
        taken, self._revised = self._revised, []
        return taken

    def advance(self, now_ns: int) -> list[Bar]:
        """Close every bucket whose end is not after `now_ns`, with or without trades."""
        bars: list[Bar] = []
        while self._open_time is not None and self._open_time + _MINUTE_NS <= now_ns:
            if self.last_price is None:
                self._skip_to(now_ns)
                break
            bars += self._give_out(self._finish_minute(), self._trades)
        return bars

    def seed(self, last_bar: Bar) -> None:
        """Start after a closed minute that others already know; it is not returned, its close is the price to go on from.

        A minute that is not newer than the last one is ignored and counted.

        Raises
        ------
        DataError
            If it is no valid minute.
        """
        _check_minute(last_bar)
        if self._is_past(last_bar):
            self.ignored_minutes += 1
        else:
            self._give_out(last_bar)

    def on_minute(self, bar: Bar) -> list[Bar]:
        """Take a closed minute from history or a replay and return it with the higher bars it completes.

        Missing minutes before it are filled flat with unknown flow, listed in `gaps` and counted; a minute that is not newer
        than the last one is ignored and counted. Trades gathered live for the same minute give way to the given bar. History
        must come before the first live trade.

        Raises
        ------
        DataError
            If the bar is no minute, is not aligned, or its prices contradict each other.
        """
        _check_minute(bar)
        if self._is_past(bar):
            self.ignored_minutes += 1
            return []
        bars = self._close_before(bar.open_time)
        return bars + self._give_out(bar)

    def _join_closed_minute(self, trade: Trade) -> None:
        revised = self.settling.join(trade)
        if revised is None:
            self.late_trades += 1
        else:
            self._revise(revised)

    def _revise(self, bars: list[Bar]) -> None:
        if bars and bars[-1].close_time == self._open_time:
            self._price = bars[-1].close
        self._revised += bars

    def fill_unknown(self, until_ns: int) -> list[Bar]:
        """Close the minutes before `until_ns` that nobody knows: flat with unknown flow, listed in `gaps` and counted."""
        return self._close_before(until_ns - until_ns % _MINUTE_NS)

    def _is_past(self, bar: Bar) -> bool:
        # Before any price is known nothing has been given out, so history may still begin earlier.
        return self._open_time is not None and self.last_price is not None and bar.open_time < self._open_time

    def _is_duplicate(self, trade_id: str) -> bool:
        if trade_id in self._seen_ids:
            return True
        self._seen_ids[trade_id] = None
        if len(self._seen_ids) > REMEMBERED_TRADE_IDS:
            self._seen_ids.popitem(last=False)
        return False

    def _go_live(self, ts: int) -> list[Bar]:
        self.check_time(ts)
        if self._open_time is None:
            self._skip_to(ts)
        bars = self.advance(ts)
        if self.first_live_minute is None:
            self.first_live_minute = self._open_time
        return bars

    def _skip_to(self, ts: int) -> None:
        self._open_time = ts - ts % _MINUTE_NS
        self._book.close(self._open_time)

    def _finish_minute(self) -> Bar:
        assert self._open_time is not None
        if self._trades.count:
            bar = traded_minute(self.symbol, self._open_time, self._trades)
        else:
            assert self._price is not None
            bar = flat_minute(self.symbol, self._open_time, self._price, is_observed=True)
        spread, imbalance, depth = self._book.close(self._open_time + _MINUTE_NS)
        return replace(
            bar,
            spread_bps=spread,
            book_imbalance=imbalance,
            depth_log=depth,
            trade_momentum=self._momentum.value(),
            microprice_bps=self._book.microprice_bps,
        )

    def _close_before(self, open_time: int) -> list[Bar]:
        # Minutes between the last one and `open_time`: an open one with trades is ours to close, the others are missing.
        if self._open_time is None or self.last_price is None:
            return []
        bars: list[Bar] = []
        if self._trades.count and self._open_time < open_time:
            bars += self._give_out(self._finish_minute(), self._trades)
        if self._open_time < open_time:
            self.gaps.append((self._open_time, open_time))
        while self._open_time < open_time:
            assert self._price is not None
            self.filled_minutes += 1
            bars += self._give_out(flat_minute(self.symbol, self._open_time, self._price, is_observed=False))
        return bars

    def _give_out(self, minute: Bar, trades: MinuteTrades | None = None) -> list[Bar]:
        # The one place where a minute is closed. A candle of the venue that came first corrects it before anybody sees it.
        self.settling.close(minute, trades)
        early = self._early.pop(minute.open_time, None)
        minute = (self.settling.check(early) or [minute])[0] if early is not None else minute
        self._price = minute.close
        self._open_time = minute.close_time
        self._book.close(minute.close_time)
        self._trades = MinuteTrades()
        bars = [minute] if self._returns_minutes else []
        bars += [bar for rollup in self._rollups if (bar := rollup.add(minute)) is not None]
        return bars


def _check_minute(bar: Bar) -> None:
    if bar.timeframe is not Timeframe.M1 or bar.open_time % _MINUTE_NS:
        raise DataError(f"{bar.symbol}: {bar.timeframe.value} bar at {bar.open_time} is no aligned minute")
    is_ordered = 0.0 < bar.low <= bar.open <= bar.high < math.inf and bar.low <= bar.close <= bar.high
    if not (is_ordered and 0.0 <= bar.volume < math.inf):
        raise DataError(f"{bar.symbol}: minute {bar.open_time} has prices or a volume that contradict each other")

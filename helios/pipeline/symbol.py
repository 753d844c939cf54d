"""Everything one symbol's owner knows: book, candles, features, exits. Pure: events and time come in, a step goes out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from helios.domain.decisions import FeatureWindow, FloatArray
from helios.domain.enums import Timeframe
from helios.domain.events import Mark
from helios.domain.market import Bar, BookUpdate, Instrument, MarketSnapshot, Trade
from helios.domain.orders import ExitPlan, ExitTriggered
from helios.execution.exits import ExitMonitor
from helios.features.stream import FeatureState
from helios.market.book import BookDesyncError, OrderBook
from helios.market.candles import CandleBuilder
from helios.venues.base import FeedLost, FeedRestored, Held, MissedMinute, ReplayEvent, Warmup

CLOSES_KEPT = 8_640  # thirty days of five-minute closes: what the volatility model may use
HOURS_KEPT = 2_160  # ninety days of hourly closes: what the covariance may use
HOURS_OF_TURNOVER = 720


@dataclass(frozen=True, slots=True)
class SymbolHistory:
    """What tiers 3 and 5 need of a symbol's past when it becomes tradable.

    Attributes
    ----------
    closes : FloatArray
        Closes of the decision timeframe up to and including `end_time`, oldest first.
    hourly_times : int array
        Close times of the hourly closes, ns UTC.
    turnover_quote : float
        Quote turnover of the last thirty days.
    """

    symbol: str
    closes: FloatArray
    end_time: int
    hourly_times: np.ndarray
    hourly_closes: FloatArray
    turnover_quote: float


@dataclass(frozen=True, slots=True)
class SymbolStep:
    """What happened to one symbol since the last step. `windows` has one entry per decision bar that closed."""

    symbol: str
    bars: tuple[Bar, ...]
    windows: tuple[FeatureWindow, ...]
    marks: tuple[Mark, ...]
    exits: tuple[ExitTriggered, ...]


class SymbolState:
    """Book, candles, features and exits of one symbol.

    Parameters
    ----------
    instrument : Instrument
    decision_timeframe : Timeframe
        A feature window is made at each close of this timeframe.

    Notes
    -----
    A bar that is not newer than the last one of its timeframe is dropped, so history, gap repair and live bars may overlap.
    A book that loses its sequence or checksum is emptied and asked for again (`needs_book`); book features are NaN meanwhile.
    """

    def __init__(self, instrument: Instrument, decision_timeframe: Timeframe = Timeframe.M5) -> None:
        self.instrument = instrument
        self.symbol = instrument.symbol
        self.decision_timeframe = decision_timeframe
        self.book = OrderBook(self.symbol)
        self.builder = CandleBuilder(self.symbol)
        self.features = FeatureState(self.symbol)
        self.exits = ExitMonitor()
        self.last_price = math.nan
        self.last_event_ns = 0
        self.needs_book = False
        self.book_desyncs = 0
        self.is_stale = False
        self._last_open: dict[Timeframe, int] = {}
        self._closes: deque[float] = deque(maxlen=CLOSES_KEPT)
        self._closes_end = 0
        self._hours: deque[tuple[int, float, float]] = deque(maxlen=HOURS_KEPT)
        self._bars: list[Bar] = []
        self._windows: list[FeatureWindow] = []
        self._marks: list[Mark] = []
        self._fired: list[ExitTriggered] = []

    # ---- history -------------------------------------------------------------------------------------------------------

    def warm(self, history: Mapping[Timeframe, Sequence[Bar]]) -> None:
        """Take closed bars of the past: each timeframe's own, then the minutes that complete the higher ones."""
        for timeframe in (Timeframe.D1, Timeframe.H1, Timeframe.M15, Timeframe.M5, Timeframe.M1):
            for bar in history.get(timeframe, ()):
                self._learn(bar)
        for bar in history.get(Timeframe.M1, ()):
            for built in self.builder.on_minute(bar):
                self._learn(built)
        self._bars.clear()
        self._windows.clear()

    def last_open(self, timeframe: Timeframe) -> int | None:
        """Open time of the newest bar known, ns UTC."""
        return self._last_open.get(timeframe)

    def history(self) -> SymbolHistory:
        """Return what tiers 3 and 5 are seeded with."""
        return SymbolHistory(
            symbol=self.symbol,
            closes=np.array(self._closes, dtype=np.float64),
            end_time=self._closes_end,
            hourly_times=np.array([h[0] for h in self._hours], dtype=np.int64),
            hourly_closes=np.array([h[1] for h in self._hours], dtype=np.float64),
            turnover_quote=float(sum(h[2] for h in list(self._hours)[-HOURS_OF_TURNOVER:])),
        )

    # ---- events --------------------------------------------------------------------------------------------------------

    def on_trade(self, trade: Trade) -> None:
        """Take a public print: exits first, then the candles it closes or joins."""
        self._price(trade.price, trade.ts_event)
        self._fired += self.exits.on_price(trade.price, trade.ts_event, self.market)
        self._close(self.builder.on_trade(trade))

    def on_price_only(self, trade: Trade) -> None:
        """Take a print for exits and marks alone (while the candles are being repaired)."""
        self._price(trade.price, trade.ts_event)
        self._fired += self.exits.on_price(trade.price, trade.ts_event, self.market)

    def on_book(self, update: BookUpdate, feed_candles: bool = True) -> None:
        """Take a book snapshot or diff; a desynchronised book asks for a fresh snapshot."""
        if self.needs_book and not update.is_snapshot:
            return
        try:
            self.book.apply(update)
        except BookDesyncError:
            self.needs_book = True
            self.book_desyncs += 1
            # The candles must hear of it, or the spread of before would go on counting.
            if feed_candles:
                self._close(self.builder.on_book(self.book, update.ts_event))
            return
        self.needs_book = False
        self.last_event_ns = max(self.last_event_ns, update.ts_event)
        if feed_candles:
            self._close(self.builder.on_book(self.book, update.ts_event))

    def lose_feed(self) -> None:
        """The feed is cut: no entries, and the book is worth nothing until a fresh snapshot."""
        self.is_stale = True
        self.needs_book = True
        self.book.clear()

    def on_minute(self, bar: Bar) -> None:
        """Take a closed one-minute bar (replay of candles, gap repair): exits on its range, then its close."""
        self._fired += self.exits.on_bar(bar, self._market_at(bar))
        self._price(bar.close, bar.close_time)
        self._close(self.builder.on_minute(bar))

    def repair(self, bars: Sequence[Bar]) -> None:
        """Take minutes that were missed; exits are judged on live prices only, never on the past."""
        for bar in bars:
            self._close(self.builder.on_minute(bar))

    def on_time(self, now_ns: int) -> None:
        """Close what time alone closes: candles without trades and positions past their time-out."""
        self._close(self.builder.advance(now_ns))
        if not math.isnan(self.last_price):
            self._fired += self.exits.on_time(now_ns, self.last_price, self.market)

    def on_events(self, events: Iterable[ReplayEvent], until_ns: int) -> None:
        """Take recorded events in order, then let time run to `until_ns`."""
        for event in events:
            if isinstance(event, Trade):
                self.on_trade(event)
            elif isinstance(event, BookUpdate):
                self.on_book(event)
            elif isinstance(event, Bar):
                self.on_minute(event)
            else:
                self._on_recorded(event)
        self.on_time(until_ns)

    def _on_recorded(self, event: Warmup | FeedLost | Held | MissedMinute | FeedRestored) -> None:
        # What a recording says of its own making; live, the feed calls the same methods.
        match event:
            case Held(event=Trade() as trade):
                self.on_price_only(trade)
            case Held(event=BookUpdate() as update):
                self.on_book(update, feed_candles=False)
            case MissedMinute(bar=bar):
                self.repair([bar])
            case FeedLost(start_ns=start_ns):
                self._close(self.builder.advance(start_ns))
                self.lose_feed()
            case FeedRestored():
                self.is_stale = False
            case Warmup(bars=bars):
                self.warm(bars)

    def arm(self, plans: Sequence[ExitPlan]) -> None:
        """Watch exactly these open positions."""
        self.exits.arm(plans)

    def drain(self) -> SymbolStep:
        """Return and forget what happened since the last call."""
        step = SymbolStep(self.symbol, tuple(self._bars), tuple(self._windows), tuple(self._marks), tuple(self._fired))
        self._bars, self._windows, self._marks, self._fired = [], [], [], []
        return step

    def market(self) -> MarketSnapshot:
        """Return what a paper fill would meet now."""
        last = Decimal(repr(self.last_price)) if not math.isnan(self.last_price) else Decimal(0)
        if self.book.is_synced:
            return self.book.snapshot(last, self.last_event_ns)
        return MarketSnapshot(self.symbol, last, self.last_event_ns)

    # ---- inner ---------------------------------------------------------------------------------------------------------

    def _market_at(self, bar: Bar) -> Callable[[], MarketSnapshot]:
        snapshot = MarketSnapshot(self.symbol, Decimal(repr(bar.close)), bar.close_time)
        return lambda: snapshot

    def _price(self, price: float, ts_event: int) -> None:
        self.last_price = price
        self.last_event_ns = max(self.last_event_ns, ts_event)

    def _close(self, bars: Sequence[Bar]) -> None:
        """Learn bars in groups of equal close time, so that a decision sees all timeframes closed by then."""
        index = 0
        while index < len(bars):
            close_time = bars[index].close_time
            decided: Bar | None = None
            while index < len(bars) and bars[index].close_time == close_time:
                bar = bars[index]
                index += 1
                if self._learn(bar):
                    self._bars.append(bar)
                    if bar.timeframe is Timeframe.M1:
                        self._marks.append(Mark(self.symbol, bar.close, bar.close_time))
                    if bar.timeframe is self.decision_timeframe:
                        decided = bar
            if decided is not None:
                self._windows.append(self._window(decided))

    def _learn(self, bar: Bar) -> bool:
        if bar.open_time <= self._last_open.get(bar.timeframe, -1):
            return False
        self._last_open[bar.timeframe] = bar.open_time
        self.features.on_bar(bar)
        if bar.timeframe is self.decision_timeframe:
            self._closes.append(bar.close)
            self._closes_end = bar.close_time
        if bar.timeframe is Timeframe.H1:
            self._hours.append((bar.close_time, bar.close, turnover_quote(bar)))
        if math.isnan(self.last_price):
            self._price(bar.close, bar.close_time)
        return True

    def _window(self, bar: Bar) -> FeatureWindow:
        return self.features.window(bar.close_time, bar.close, turnover_quote(bar), self.market(), self.is_stale)


def turnover_quote(bar: Bar) -> float:
    """Return traded value in quote units: as reported, else typical price times base volume."""
    if not math.isnan(bar.quote_volume):
        return bar.quote_volume
    return (bar.high + bar.low + bar.close) / 3.0 * bar.volume

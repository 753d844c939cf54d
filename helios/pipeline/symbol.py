"""Everything one symbol's owner knows: book, candles, features, exits. Pure: events and time come in, a step goes out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from helios.domain.decisions import FeatureWindow
from helios.domain.enums import Timeframe
from helios.domain.events import Mark
from helios.domain.market import Bar, BookUpdate, Instrument, MarketSnapshot, Trade, VenueCandle
from helios.domain.orders import ExitPlan, ExitTriggered
from helios.execution.exits import ExitMonitor
from helios.execution.water import BARS_KEPT
from helios.features.stream import FeatureState
from helios.market.book import BookDesyncError, OrderBook
from helios.market.candles import CandleBuilder
from helios.market.held import HeldMinutes, HeldPrice, within_book
from helios.market.settling import SETTLING_MINUTES
from helios.pipeline.series import RevisableSeries, SymbolHistory, turnover_quote
from helios.venues.base import FeedLost, FeedRestored, Held, MissedMinute, ReplayEvent, TimePassed, Warmup

LATE_PRICE_NS = 1_000_000_000  # prints may overtake each other by so much and still say where the market is


@dataclass(frozen=True, slots=True)
class SymbolStep:
    """What happened to one symbol since the last step.

    Attributes
    ----------
    windows : tuple of FeatureWindow
        One entry per decision bar that closed.
    revised : tuple of Bar
        Bars given out in an earlier step that a late trade or the venue's own candle has corrected since.
    """

    symbol: str
    bars: tuple[Bar, ...]
    windows: tuple[FeatureWindow, ...]
    marks: tuple[Mark, ...]
    exits: tuple[ExitTriggered, ...]
    revised: tuple[Bar, ...] = ()


class SymbolState:
    """Book, candles, features and exits of one symbol.

    Parameters
    ----------
    instrument : Instrument
    decision_timeframe : Timeframe
        A feature window is made at each close of this timeframe.
    exit_price : {"held", "last"}, default="held"
        What exits are judged on: the last print held within best bid and ask (see `HeldPrice`), judged again when the book moves
        it, or each print as it comes.

    Notes
    -----
    A bar that is not newer than the last one of its timeframe is dropped, so history, gap repair and live bars may overlap.
    A book that loses its sequence or checksum is emptied and asked for again (`needs_book`); book features are NaN meanwhile.
    """

    def __init__(
        self,
        instrument: Instrument,
        decision_timeframe: Timeframe = Timeframe.M5,
        exit_price: Literal["held", "last"] = "held",
    ) -> None:
        self.instrument = instrument
        self.symbol = instrument.symbol
        self.decision_timeframe = decision_timeframe
        self.book = OrderBook(self.symbol)
        self.builder = CandleBuilder(self.symbol, (Timeframe.M1,))
        self._series = RevisableSeries(self.symbol, decision_timeframe, SETTLING_MINUTES)
        self.exits = ExitMonitor()
        self._holds_exits = exit_price == "held"
        self._held = HeldPrice(self.book)
        self._held_minutes = HeldMinutes()
        self.last_price = math.nan
        self.last_event_ns = 0
        self._traded_ns = 0
        self.needs_book = False
        self.desyncs: Counter[str] = Counter()  # by reason
        self.revised_minutes = 0
        self.is_stale = False
        self._bars: list[Bar] = []
        self._revised: list[Bar] = []
        self._windows: list[FeatureWindow] = []
        self._marks: list[Mark] = []
        self._fired: list[ExitTriggered] = []

    # ---- history -------------------------------------------------------------------------------------------------------

    @property
    def book_desyncs(self) -> int:
        """How often the book had to be thrown away."""
        return self.desyncs.total()

    @property
    def has_news(self) -> bool:
        """Whether `drain` would return anything."""
        return bool(self._bars or self._windows or self._marks or self._fired or self._revised)

    @property
    def features(self) -> FeatureState:
        """The features of the newest bars."""
        return self._series.now.features

    def warm(self, history: Mapping[Timeframe, Sequence[Bar]], unrecorded: Sequence[Bar] = ()) -> None:
        """Take closed bars of the past: each timeframe's own, then the minutes that complete the higher ones.

        Of these, only the `unrecorded` are given out with the next step.
        """
        self._bars += unrecorded
        self._series.now.warm(history)
        for bar in history.get(Timeframe.M5, ()):
            self.exits.learn(bar)
        for bar in history.get(Timeframe.M1, ()):
            for minute in self.builder.on_minute(bar):
                self._series.add_minute(minute)
                self._held_minutes.take(minute)
                self.exits.learn(minute)
                self._price(minute.close, minute.close_time)

    def last_open(self, timeframe: Timeframe) -> int | None:
        """Open time of the newest bar known, ns UTC."""
        return self._series.now.last_open(timeframe)

    def history(self) -> SymbolHistory:
        """Return what tiers 3 and 5 are seeded with."""
        return self._series.now.history()

    # ---- events --------------------------------------------------------------------------------------------------------

    def on_trade(self, trade: Trade) -> None:
        """Take a public print: exits first, then the candles it closes or joins."""
        self.on_price_only(trade)
        self._close(self.builder.on_trade(trade))
        if self.builder.has_revised:
            self._revise()

    def on_price_only(self, trade: Trade) -> None:
        """Take a print for exits and marks alone (while the candles are being repaired); one that comes late is no price any more.

        Raises
        ------
        ProtocolError
            If its price or time cannot be. Nothing has changed then: a price of zero stops nobody out, and a time of next month
            does not make every price after it a late one.
        """
        self.builder.check_trade(trade)
        if trade.ts_event < self._traded_ns - LATE_PRICE_NS:
            return
        self._traded_ns = max(self._traded_ns, trade.ts_event)
        if self.exits.is_watching:
            self._judge_unanswered(trade.ts_event)
        self._price(trade.price, trade.ts_event)
        price = self._judged(trade) if self._holds_exits else trade.price
        if self.exits.is_watching:
            self._fired += self.exits.on_price(price, trade.ts_event, self.market)

    def on_book(self, update: BookUpdate, feed_candles: bool = True) -> None:
        """Take a book snapshot or diff; a desynchronised book asks for a fresh snapshot. ProtocolError for a time that cannot be."""
        self.builder.check_time(update.ts_event)
        if self.needs_book and not update.is_snapshot:
            return
        is_watching = self.exits.is_watching  # else an update costs no more than to note its time
        if is_watching:
            self._judge_unanswered(update.ts_event)
        try:
            self.book.apply(update)
        except BookDesyncError as error:
            self.needs_book = True
            self.desyncs[error.reason] += 1
            self._judge_unconfirmed()
            # The candles must hear of it, or the spread of before would go on counting.
            if feed_candles:
                self._close(self.builder.on_book(self.book, update.ts_event))
            return
        self.needs_book = False
        self._held.note_book(update.ts_event)
        self.last_event_ns = max(self.last_event_ns, update.ts_event)
        if is_watching and self._holds_exits:
            self._judge(self.last_event_ns)
        if feed_candles:
            self._close(self.builder.on_book(self.book, update.ts_event))

    def on_candle(self, candle: VenueCandle) -> None:
        """Take the venue's own candle of a closed minute; where it differs, the minute and what depends on it are corrected."""
        self.builder.on_candle(candle)
        self._revise()

    def lose_feed(self) -> None:
        """The feed is cut: no entries, and the book is worth nothing until a fresh snapshot."""
        self.is_stale = True
        self.needs_book = True
        self.book.clear()
        self._judge_unconfirmed()
        self.builder.lose_book(self.book, self.last_event_ns)

    def on_minute(self, bar: Bar) -> None:
        """Take a closed one-minute bar (replay of candles, gap repair): exits on its range, then its close."""
        self._fired += self.exits.on_bar(bar, self._market_at(bar))
        self._price(bar.close, bar.close_time)
        minutes = self.builder.on_minute(bar)
        for minute in minutes:
            self._held_minutes.take(minute)
        self._close(minutes)

    def repair(self, bars: Sequence[Bar], until_ns: int = 0) -> None:
        """Take minutes that were missed; exits are judged on live prices only, never on the past.

        Minutes before `until_ns` that are not among them stay unknown: flat, with unknown flow.
        """
        for bar in bars:
            minutes = self.builder.on_minute(bar)
            for minute in minutes[-1:]:  # before it may stand what we saw of a minute ourselves; none of a minute known already
                self._held_minutes.take(minute)
            self._close(minutes)
        self._close(self.builder.fill_unknown(until_ns))

    def on_time(self, now_ns: int) -> None:
        """Close what time alone closes: candles without trades and positions past their time-out."""
        self._close(self.builder.advance(now_ns))
        if not self.exits.is_watching:
            return
        self._judge_unanswered(now_ns)
        price = self._held.of(self.last_price, now_ns) if self._holds_exits else self.last_price
        self._fired += self.exits.on_time(now_ns, price, self.market)

    def on_events(self, events: Iterable[ReplayEvent], until_ns: int) -> None:
        """Take recorded events in order, then let time run to `until_ns`."""
        for event in events:
            if isinstance(event, Trade):
                self.on_trade(event)
            elif isinstance(event, BookUpdate):
                self.on_book(event)
            elif isinstance(event, VenueCandle):
                self.on_candle(event)
            elif isinstance(event, Bar):
                self.on_minute(event)
            else:
                self._on_recorded(event)
        self.on_time(until_ns)

    def _on_recorded(self, event: Warmup | FeedLost | Held | MissedMinute | FeedRestored | TimePassed) -> None:
        # What a recording says of its own making; live, the feed calls the same methods.
        match event:
            case Held(event=Trade() as trade):
                self.on_price_only(trade)
            case Held(event=BookUpdate() as update):
                self.on_book(update, feed_candles=False)
            case MissedMinute(bar=bar):
                self.repair([bar])
            case TimePassed(now_ns=now_ns):
                self._close(self.builder.advance(now_ns))
                self._judge_unanswered(now_ns)
            case FeedLost(start_ns=start_ns):
                self._close(self.builder.advance(start_ns))
                self._judge_unanswered(start_ns)
                self.lose_feed()
            case FeedRestored():
                self.is_stale = False
            case Warmup(bars=bars):
                self.warm(bars)

    def arm(self, plans: Sequence[ExitPlan]) -> None:
        """Watch exactly these open positions."""
        self.exits.arm(plans)
        self._held.judged = math.nan  # by whoever is new among them, or may fire again

    def drain(self) -> SymbolStep:
        """Return and forget what happened since the last call."""
        step = SymbolStep(
            self.symbol, tuple(self._bars), tuple(self._windows), tuple(self._marks), tuple(self._fired), tuple(self._revised)
        )
        self._bars, self._windows, self._marks, self._fired, self._revised = [], [], [], [], []
        return step

    def market(self) -> MarketSnapshot:
        """Return what a paper fill would meet now."""
        last = Decimal(repr(self.last_price)) if not math.isnan(self.last_price) else Decimal(0)
        if self.book.is_synced:
            return self.book.snapshot(last, self.last_event_ns)
        return MarketSnapshot(self.symbol, last, self.last_event_ns)

    @property
    def mark_price(self) -> float:
        """What a unit held is worth now: the last price within best bid and ask where the book is in step, NaN before any.

        One print far outside the book would raise the account's peak for good or halt it: nobody could have sold what is held there.
        """
        return within_book(self.last_price, self.book)

    # ---- inner ---------------------------------------------------------------------------------------------------------

    def _market_at(self, bar: Bar) -> Callable[[], MarketSnapshot]:
        snapshot = MarketSnapshot(self.symbol, Decimal(repr(bar.close)), bar.close_time)
        return lambda: snapshot

    def _judged(self, trade: Trade) -> float:
        # What a print says to the exits; and how far the market went in its minute is remembered.
        held, price = self._held, trade.price
        held.note_print(trade.ts_event)
        bounds = held.bounds(trade.ts_event) or (price, price)
        self._held_minutes.note(trade.ts_event, bounds)
        held.judged = price = min(max(price, bounds[0]), bounds[1])
        return price

    def _judge(self, ts: int) -> None:
        # Not on a print: the book has moved the price, or has not answered for the last one.
        price = self._held.of(self.last_price, ts)
        if price != self._held.judged:
            self._held.judged = price
            self._fired += self.exits.on_price(price, ts, self.market)

    def _judge_unanswered(self, now_ns: int) -> None:
        # Before anything later is looked at, and as of the moment itself: live, where a timer looks, and in a replay alike.
        deadline_ns = self._held.deadline_ns
        if 0 < deadline_ns <= now_ns and self._holds_exits:
            self._judge(deadline_ns)

    def _judge_unconfirmed(self) -> None:
        # The book is gone before it could answer for the last print, which may have been the first of a fall: it stands by itself.
        if self._held.deadline_ns and self._holds_exits:
            self._judge(self.last_event_ns)

    def _learn(self, bar: Bar) -> None:
        # What a bar adds to the high-water marks: in held prices, of which those of longer bars would say nothing new.
        if not self._holds_exits:
            self.exits.learn(bar)
        elif bar.timeframe in BARS_KEPT and (held := self._held_minutes.within(bar)) is not None:
            self.exits.learn(held)

    def _price(self, price: float, ts_event: int) -> None:
        self.last_price = price
        self.last_event_ns = max(self.last_event_ns, ts_event)

    def _close(self, minutes: Sequence[Bar]) -> None:
        """Add closed minutes; a decision sees all timeframes that have closed by then."""
        if minutes and self.builder.first_live_minute is not None:
            self._series.follow()
        for minute in minutes:
            decided: Bar | None = None
            for bar in self._series.add_minute(minute):
                self._bars.append(bar)
                self._learn(bar)
                if bar.timeframe is Timeframe.M1:
                    self._marks.append(Mark(self.symbol, within_book(bar.close, self.book), bar.close_time))
                if bar.timeframe is self.decision_timeframe:
                    decided = bar
            if math.isnan(self.last_price):
                self._price(minute.close, minute.close_time)
            if decided is not None:
                self._windows.append(self._window(decided))

    def _revise(self) -> None:
        minutes = self.builder.take_revised()
        if minutes:
            self.revised_minutes += len(minutes)
            revised = self._series.revise(minutes)
            for bar in revised:
                self._learn(bar)
            self._revised += revised

    def _window(self, bar: Bar) -> FeatureWindow:
        return self.features.window(bar.close_time, bar.close, turnover_quote(bar), self.market(), self.is_stale)

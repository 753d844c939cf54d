"""LiveFeed: drives the states of an actor's symbols from a venue's stream, clock and candles.

After each (re)connection a symbol is out of trading until the next minute boundary has passed and the minutes before it were
fetched as the venue's own candles: the minute in which we connected is never built from half its trades. See `repair`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np

from actors.base import DeskSpec
from actors.repair import Repairs
from helios.clock import NS_PER_S, VenueClock, is_ahead
from helios.domain.enums import Timeframe
from helios.domain.market import BookUpdate, Trade, VenueCandle
from helios.errors import HeliosError, ProtocolError
from helios.logs import get_logger
from helios.pipeline.symbol import SymbolState
from helios.venues.base import FeedEvent, FeedStatus, MarketVenue

PRINTS_KEPT = 5_000
LAGS_KEPT = 20_000
BOOK_RETRY_S = 6.0  # a snapshot asked for that has not come by then is asked for again
BOOK_ALERT_S = 60.0
DOWN_ALERT_S = 300.0
WATCH_INTERVAL_S = 0.5
CLOCK_INTERVAL_S = 300.0
FIRST_CLOCK_INTERVALS_S = (10.0, 30.0)
CLOCK_NOTE_S = 0.5
CLOCK_RETRY_S = 1.0
AHEAD_BELIEVED = 100  # events in a row: then it is our clock that is wrong, and the venue has no other to give
DROPPED_LOG_S = 5.0
MINUTE_NS = Timeframe.M1.ns
HANDLER_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

Publish = Callable[[SymbolState], Awaitable[None]]
Alert = Callable[[str, str], None]


class LiveFeed:
    """Feed `states` from `venue`.

    Parameters
    ----------
    spec : DeskSpec
    states : mapping of str to SymbolState
    venue : MarketVenue
    publish : callable
        Awaited with a state whenever something closed or triggered there.
    alert : callable
        Told a kind and a text when a person should know.
    """

    def __init__(self, spec: DeskSpec, states: Mapping[str, SymbolState], venue: MarketVenue, publish: Publish, alert: Alert) -> None:
        self._states = states
        self._venue = venue
        self._publish = publish
        self._alert = alert
        self._grace_ms = spec.config.desk.candle_close_grace_ms
        self._clock: VenueClock | None = None
        self._clock_known = asyncio.Event()
        self._clock_doubted = asyncio.Event()
        self._log = get_logger("helios.symbol:" + ",".join(states))
        self.repairs = Repairs(spec, states, venue, publish, alert, lambda: self.now_ns)
        self._prints: list[Trade] = []
        self._lags_s: deque[float] = deque(maxlen=LAGS_KEPT)
        self._book_asked_s: dict[str, float] = {}
        self._book_lost_s: dict[str, float] = {}
        self._down_since_s: float | None = time.monotonic()  # until the first connection too
        self._alerted_s = -math.inf
        self._failed_s: dict[str, float] = {}
        self._n_ahead = 0
        self._dropped_told_s = -DROPPED_LOG_S
        self.messages = self.reconnects = self.malformed = self.refusals = self.failures = self.prints_unrecorded = 0

    @property
    def now_ns(self) -> int:
        """Market time; 0 before the venue's clock is known."""
        return self._clock.now_ns() if self._clock is not None else 0

    async def run(self) -> None:
        """Learn history, then follow the stream for ever."""
        self._clock = await self.repairs.retried(self._venue.clock)
        self._clock_known.set()
        for state in self._states.values():
            await self.repairs.warm(state)
        # Libraries and history stay for good: walking them in every full collection would stop the feed for a tenth of a second.
        gc.collect()
        gc.freeze()
        async for batch in self._venue.stream_batches(list(self._states)):
            await self._take(batch)

    async def tick(self) -> None:
        """Let market time close what it closes; about five times a market minute, at least every 50 ms of wall time."""
        while not self._clock_known.is_set():  # a venue that is away from the start on is an outage as well
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._clock_known.wait(), WATCH_INTERVAL_S)
            self._watch_outage()
        assert self._clock is not None
        interval_s = min(0.5, max(0.05, 12.0 / self._clock.speed))
        grace_ns = int(self._grace_ms * 1_000_000 * self._clock.speed)
        while True:
            await asyncio.sleep(interval_s)
            now_ns = self.now_ns - grace_ns
            for symbol, state in self._states.items():
                if not self.repairs.is_open(symbol):
                    state.on_time(now_ns)
                    if state.has_news:
                        await self._publish(state)
                if state.needs_book:
                    await self._ask_book(symbol)
                else:
                    self._book_lost_s.pop(symbol, None)
            self._watch_outage()

    async def keep_time(self) -> None:
        """Ask the venue for its time now and then: the first answer came while everything was starting, clocks drift, and a
        machine that slept has lost hours."""
        await self._clock_known.wait()
        for interval_s in chain(FIRST_CLOCK_INTERVALS_S, repeat(CLOCK_INTERVAL_S)):
            await self._until_due(interval_s)
            try:
                fresh = await self._venue.clock()
            except HeliosError as error:
                self._log.warning("venue time not known: %s", error)
                continue
            moved_s = (fresh.now_ns() - self.now_ns) / NS_PER_S / fresh.speed
            if abs(moved_s) > CLOCK_NOTE_S:
                self._log.warning("clock set by %+.3f s", moved_s)
            self._clock = fresh

    async def _until_due(self, interval_s: float) -> None:
        # At once where the stream says that our clock is wrong, but not more often than the venue likes to be asked.
        await asyncio.sleep(min(interval_s, CLOCK_RETRY_S))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._clock_doubted.wait(), max(0.0, interval_s - CLOCK_RETRY_S))
        self._clock_doubted.clear()

    async def repair(self) -> None:
        """Fetch what is missing and check what was built against the venue's own candles, for ever."""
        await self._clock_known.wait()
        assert self._clock is not None
        await self.repairs.run(self._clock.speed, self._grace_ms)

    async def aclose(self) -> None:
        """Close sockets."""
        await self._venue.aclose()

    def take_trades(self) -> list[Trade]:
        """Return the prints since the last call (at most the newest 5,000, the others are counted), for the record."""
        self.prints_unrecorded += max(0, len(self._prints) - PRINTS_KEPT)
        taken, self._prints = self._prints[-PRINTS_KEPT:], []
        return taken

    def _keep_print(self, trade: Trade) -> None:
        self._prints.append(trade)
        if len(self._prints) >= 2 * PRINTS_KEPT:
            self.prints_unrecorded += PRINTS_KEPT
            del self._prints[:PRINTS_KEPT]

    def counters(self) -> dict[str, int]:
        """Return what was counted since the start of this incarnation, over all symbols."""
        states, venue = self._states.values(), self._venue.counters()
        totals = dict(venue) | {
            "messages": self.messages,
            "reconnects": self.reconnects,
            "malformed": self.malformed + venue["malformed"],
            "refusals": self.refusals,
            "events_failed": self.failures,
            "prints_unrecorded": self.prints_unrecorded,
            "duplicate_trades": sum(s.builder.duplicate_trades for s in states),
            "late_trades_joined": sum(s.builder.settling.late_trades for s in states),
            "late_trades_dropped": sum(s.builder.late_trades for s in states),
            "minutes_confirmed": sum(s.builder.settling.confirmed for s in states),
            "minutes_corrected": sum(s.builder.settling.corrected for s in states),
            "minutes_unchecked": sum(s.builder.settling.unchecked for s in states),
            "candles_doubted": sum(s.builder.settling.doubtful for s in states),
            "bars_revised": sum(s.revised_minutes for s in states),
        }
        for state in states:
            for reason, count in state.desyncs.items():
                totals[f"book_{reason}"] = totals.get(f"book_{reason}", 0) + count
        return totals | self.repairs.counters()

    def details(self, now_s: float) -> dict[str, Any]:
        """Return counters and delays as plain JSON."""
        known = np.percentile(self._lags_s, (50, 99)) if self._lags_s else ()
        p50, p99 = (round(float(value), 4) for value in known) if self._lags_s else (None, None)
        return self.counters() | {
            "lag_s": round(float(self._lags_s[-1]), 4) if self._lags_s else None,
            "lag_p50_s": p50,
            "lag_p99_s": p99,
            "syncing": self.repairs.open_symbols,
            "down_s": None if self._down_since_s is None else round(time.monotonic() - self._down_since_s, 1),
            "market_time_ns": self.now_ns,
            "as_of": now_s,
        }

    # ---- events --------------------------------------------------------------------------------------------------------

    async def _take(self, batch: Sequence[FeedEvent]) -> None:
        touched: dict[str, SymbolState] = {}
        for event in batch:
            self.messages += 1
            if isinstance(event, FeedStatus):
                self._take_status(event)
                touched |= self._states if event.status == "DISCONNECTED" else {}  # an exit may have waited for the book
                continue
            state = touched[event.symbol] = self._states[event.symbol]
            try:
                self._check_time(event)
                self._apply(state, event)
            except ProtocolError as error:  # well-formed, but impossible: a price of zero, a time that is not yet
                self._tell_dropped(event.symbol, error)
            except HANDLER_ERRORS:
                self._take_failure(event.symbol)
        self._note_lags(batch)
        for symbol, state in touched.items():
            if state.has_news:
                await self._publish(state)
            if state.needs_book:
                await self._ask_book(symbol)

    def _check_time(self, event: Trade | BookUpdate | VenueCandle) -> None:
        # One print of the next hour would close an hour of minutes flat and make every true print after it a late one.
        assert self._clock is not None
        if isinstance(event, VenueCandle):
            return
        now_ns, speed = self._clock.now_ns(), self._clock.speed
        if not is_ahead(event.ts_event, now_ns, speed):
            self._n_ahead = 0
            return
        ahead_s = (event.ts_event - now_ns) / NS_PER_S
        self._n_ahead += 1
        if self._n_ahead < AHEAD_BELIEVED:
            self._clock_doubted.set()  # or is it we who are behind? a machine that slept is
            raise ProtocolError(f"{ahead_s:.0f} s ahead of the venue's clock")
        self._log.warning("clock set by %+.3f s: all events are ahead of it", ahead_s)
        self._clock, self._n_ahead = VenueClock(event.ts_event, time.monotonic(), speed), 0

    def _tell_dropped(self, symbol: str, error: ProtocolError) -> None:
        self.malformed += 1
        now_s = time.monotonic()
        if now_s - self._dropped_told_s >= DROPPED_LOG_S:
            self._dropped_told_s = now_s
            self._log.warning("event dropped: %s", error, extra={"symbol": symbol, "dropped": self.malformed})

    def _apply(self, state: SymbolState, event: Trade | BookUpdate | VenueCandle) -> None:
        if isinstance(event, BookUpdate):
            state.on_book(event, feed_candles=not self.repairs.is_open(event.symbol))
        elif isinstance(event, VenueCandle):
            state.on_candle(event)
        else:
            state.builder.check_trade(event)
            self._keep_print(event)
            if not self.repairs.hold_back(event):
                state.on_trade(event)
            else:
                state.on_price_only(event)

    def _take_failure(self, symbol: str) -> None:
        # A bug of ours in what one symbol makes of an event: it must not deafen the others. What the event meant is lost to the
        # symbol's candles, so the symbol is out of trading until the venue has told these minutes.
        self.failures += 1
        self._states[symbol].lose_feed()
        self.repairs.begin(self._next_minute_ns(), (symbol,))
        now_s = time.monotonic()
        if now_s - self._failed_s.get(symbol, -math.inf) >= DOWN_ALERT_S:
            self._failed_s[symbol] = now_s
            self._log.exception("an event could not be handled", extra={"symbol": symbol})
            self._alert("handler_failed", f"{symbol}: an event could not be handled, see the log; out of trading until repaired")

    def _next_minute_ns(self) -> int:
        return self.now_ns // MINUTE_NS * MINUTE_NS + MINUTE_NS

    def _note_lags(self, batch: Sequence[FeedEvent]) -> None:
        assert self._clock is not None
        now_ns, per_s = self._clock.now_ns(), NS_PER_S * self._clock.speed
        # A snapshot bears the time of the book's last change: in a quiet market it is old and not late.
        timed = (e for e in batch if isinstance(e, Trade) or (isinstance(e, BookUpdate) and not e.is_snapshot))
        self._lags_s.extend((now_ns - event.ts_event) / per_s for event in timed)

    def _take_status(self, status: FeedStatus) -> None:
        self._log.info("feed %s", status.status, extra={"detail": status.detail})
        if status.status == "CONNECTED":
            self._down_since_s = None
            self.repairs.begin(self._next_minute_ns(), tuple(self._states))
        elif status.status == "DISCONNECTED":
            self.reconnects += 1
            self._book_lost_s.clear()
            self._down_since_s = self._down_since_s or time.monotonic()
            self.repairs.suspend()
            for state in self._states.values():
                state.lose_feed()
        else:
            self.refusals += 1

    async def _ask_book(self, symbol: str) -> None:
        now_s = time.monotonic()
        if self._down_since_s is not None or now_s - self._book_asked_s.get(symbol, -BOOK_RETRY_S) < BOOK_RETRY_S:
            return
        self._book_asked_s[symbol] = now_s
        if now_s - self._book_lost_s.setdefault(symbol, now_s) >= BOOK_ALERT_S:
            self._book_lost_s[symbol] = now_s  # and again after as long
            self._alert(
                "book_lost", f"{symbol}: the book has been out of step for {BOOK_ALERT_S:.0f} s, asked for every {BOOK_RETRY_S:.0f} s"
            )
        self._log.warning("book out of step", extra={"symbol": symbol, "reasons": dict(self._states[symbol].desyncs)})
        await self._venue.request_book(symbol)

    def _watch_outage(self) -> None:
        now_s = time.monotonic()
        if self._down_since_s is None or now_s - max(self._down_since_s, self._alerted_s) < DOWN_ALERT_S:
            return
        self._alerted_s = now_s  # and again after as long
        self._alert("feed_down", f"no market data for {now_s - self._down_since_s:.0f} s: {', '.join(self._states)}")

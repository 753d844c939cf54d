"""LiveFeed: drives the states of an actor's symbols from a venue's stream, clock and candles.

After each (re)connection a symbol is out of trading until the next minute boundary has passed and the minutes before it were
fetched as the venue's own candles: the minute in which we connected is never built from half its trades.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.base import DeskSpec
from helios.clock import NS_PER_S, VenueClock
from helios.domain.enums import Timeframe
from helios.domain.market import Bar, BookUpdate, Trade, VenueCandle
from helios.errors import HeliosError, RetryableError
from helios.logs import get_logger
from helios.pipeline.symbol import SymbolState
from helios.store.pool import connect
from helios.store.recorder import MarketRecorder
from helios.venues.base import FeedStatus, MarketVenue

PRINTS_KEPT = 5_000
MINUTE_NS = 60 * NS_PER_S
_NEVER_NS = 2**63 - 1
HISTORY_BARS = {Timeframe.H1: 720, Timeframe.M15: 300, Timeframe.M5: 3_000, Timeframe.M1: 300}
"""How far back each timeframe is fetched: features need 121 bars, volatility ten days of 5m, covariance thirty days of 1h."""


@dataclass(slots=True)
class _Sync:
    """A symbol on its way back into trading."""

    boundary_ns: int
    pending: list[Trade] = field(default_factory=list)
    is_fetching: bool = False


class LiveFeed:
    """Feed `states` from `venue`; call `publish(state)` whenever something may have closed or triggered."""

    def __init__(
        self,
        spec: DeskSpec,
        states: Mapping[str, SymbolState],
        venue: MarketVenue,
        publish: Callable[[SymbolState], Awaitable[None]],
    ) -> None:
        self._spec = spec
        self._states = states
        self._venue = venue
        self._publish = publish
        self._clock: VenueClock | None = None
        self._sync: dict[str, _Sync] = {}
        self._log = get_logger("helios.symbol:" + ",".join(states))
        self._grace_ns = 0
        self._connected_once = asyncio.Event()
        self._clock_known = asyncio.Event()
        self._prints: deque[Trade] = deque(maxlen=PRINTS_KEPT)
        self.messages = 0
        self.reconnects = 0
        self.repairs = 0
        self.lag_s = 0.0

    @property
    def now_ns(self) -> int:
        """Market time; 0 before the venue's clock is known."""
        return self._clock.now_ns() if self._clock is not None else 0

    async def run(self) -> None:
        """Learn history, then follow the stream for ever."""
        self._clock = await self._retry(self._venue.clock)
        self._grace_ns = int(self._spec.config.desk.candle_close_grace_ms * 1_000_000 * self._clock.speed)
        self._clock_known.set()
        for state in self._states.values():
            await self._warm(state)
        async for event in self._venue.stream(list(self._states)):
            await self._take(event)

    async def tick(self) -> None:
        """Let market time close what it closes; about five times a market minute, at least every 50 ms of wall time."""
        await self._clock_known.wait()
        assert self._clock is not None
        interval_s = min(0.5, max(0.05, 12.0 / self._clock.speed))
        while True:
            await asyncio.sleep(interval_s)
            now = self.now_ns - self._grace_ns
            for symbol, state in self._states.items():
                sync = self._sync.get(symbol)
                if sync is None:
                    if self._connected_once.is_set():
                        state.on_time(now)
                        await self._publish(state)
                elif now >= sync.boundary_ns and not sync.is_fetching:
                    sync.is_fetching = True
                    await self._finish_sync(state, sync)

    async def aclose(self) -> None:
        """Close sockets."""
        await self._venue.aclose()

    def details(self, now_s: float) -> dict[str, Any]:
        """Return counters as plain JSON."""
        return {
            "messages": self.messages,
            "reconnects": self.reconnects,
            "repairs": self.repairs,
            "lag_s": round(self.lag_s, 4),
            "syncing": sorted(self._sync),
            "market_time_ns": self.now_ns,
            "as_of": now_s,
        }

    # ---- events --------------------------------------------------------------------------------------------------------

    async def _take(self, event: object) -> None:
        self.messages += 1
        if isinstance(event, Trade):
            await self._take_trade(event)
        elif isinstance(event, BookUpdate):
            await self._take_book(event)
        elif isinstance(event, FeedStatus):
            self._take_status(event)

    def take_trades(self) -> list[Trade]:
        """Return the prints since the last call (at most the newest 5,000), for the record."""
        taken, self._prints = list(self._prints), deque(maxlen=PRINTS_KEPT)
        return taken

    async def _take_trade(self, trade: Trade) -> None:
        self._prints.append(trade)
        state = self._states[trade.symbol]
        sync = self._sync.get(trade.symbol)
        if sync is None:
            state.on_trade(trade)
        else:
            state.on_price_only(trade)
            if trade.ts_event >= sync.boundary_ns:
                sync.pending.append(trade)
        assert self._clock is not None
        self.lag_s = max(0.0, (self._clock.now_ns() - trade.ts_event) / NS_PER_S / self._clock.speed)
        await self._publish(state)

    async def _take_book(self, update: BookUpdate) -> None:
        state = self._states[update.symbol]
        had_book = not state.needs_book
        state.on_book(update, feed_candles=update.symbol not in self._sync)
        if state.needs_book and had_book:
            self._log.warning("book out of step", extra={"symbol": update.symbol})
            await self._venue.request_book(update.symbol)

    def _take_status(self, status: FeedStatus) -> None:
        self._log.info("feed %s", status.status, extra={"detail": status.detail})
        if status.status == "CONNECTED":
            self._connected_once.set()
            boundary = (self.now_ns // MINUTE_NS + 1) * MINUTE_NS
            self._sync = {s: _Sync(boundary) for s in self._states}
        elif status.status == "DISCONNECTED":
            self.reconnects += 1
            # Minutes of the outage must come from the venue: time may not close them flat meanwhile.
            self._sync = {s: _Sync(_NEVER_NS) for s in self._states}
            for state in self._states.values():
                state.lose_feed()

    # ---- history and repair --------------------------------------------------------------------------------------------

    async def _warm(self, state: SymbolState) -> None:
        """Bars from the store where they join the venue's present, the rest from the venue."""
        now = self.now_ns
        stored = await self._stored(state.symbol)
        history: dict[Timeframe, list[Bar]] = {}
        for timeframe, count in HISTORY_BARS.items():
            end = now // timeframe.ns * timeframe.ns
            start = end - count * timeframe.ns
            kept = [b for b in stored.get(timeframe, []) if start <= b.open_time < end]
            if kept and kept[-1].close_time - kept[0].open_time != len(kept) * timeframe.ns:
                kept = []  # holes: take the venue's series instead
            first = kept[-1].close_time if len(kept) >= count // 2 else start
            fetched = await self._retry(lambda tf=timeframe, a=first, b=end: self._venue.candles(state.symbol, tf, a, b))
            history[timeframe] = (kept if first != start else []) + [bar_of(c) for c in fetched]
        state.warm(history)
        self._log.info("warm", extra={"symbol": state.symbol, "bars": {tf.value: len(h) for tf, h in history.items()}})

    async def _stored(self, symbol: str) -> dict[Timeframe, list[Bar]]:
        try:
            pool = await connect(self._spec.dsn, max_size=1)
        except RetryableError as error:
            self._log.warning("no stored bars: %s", error)
            return {}
        try:
            return {tf: await MarketRecorder(pool).load_bars(symbol, tf, n) for tf, n in HISTORY_BARS.items()}
        finally:
            await pool.close()

    async def _finish_sync(self, state: SymbolState, sync: _Sync) -> None:
        last = state.last_open(Timeframe.M1)
        start = last + MINUTE_NS if last is not None else sync.boundary_ns - MINUTE_NS
        try:
            candles = await self._venue.candles(state.symbol, Timeframe.M1, start, sync.boundary_ns)
        except HeliosError as error:
            self._log.warning("gap not fetched yet: %s", error, extra={"symbol": state.symbol})
            sync.is_fetching = False
            return
        if self._sync.get(state.symbol) is not sync:
            return  # the connection was lost again meanwhile; the newer sync takes over
        state.repair([bar_of(c) for c in candles])
        del self._sync[state.symbol]
        for trade in sync.pending:
            state.on_trade(trade)
        state.is_stale = False
        self.repairs += 1
        await self._publish(state)

    async def _retry(self, action: Callable[[], Awaitable[Any]]) -> Any:
        delay_s = 0.2
        while True:
            try:
                return await action()
            except RetryableError as error:
                self._log.warning("venue not reachable: %s", error)
                await asyncio.sleep(delay_s)
                delay_s = min(5.0, delay_s * 2)


def bar_of(candle: VenueCandle) -> Bar:
    """Return the venue's candle as a bar; what it does not report stays NaN."""
    return Bar(
        candle.symbol,
        candle.timeframe,
        candle.open_time,
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume_base,
        candle.volume_quote,
    )

"""Repairs: what a symbol misses is fetched from the venue before the symbol may trade again, and what it built is checked.

Venue unreachable, slow or lagging behind: asked again with growing pauses; the symbol stays out of trading meanwhile. A venue that
keeps answering without some minutes is believed after `MAX_SHORT_ANSWERS`: they are filled flat with unknown flow, counted and
reported. A connection lost during a repair: the next one starts over and covers the same minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.base import DeskSpec
from helios.domain.enums import Timeframe
from helios.domain.market import Bar, Trade, VenueCandle
from helios.errors import HeliosError, ProtocolError, RetryableError, VenueError
from helios.logs import get_logger
from helios.pipeline.symbol import SymbolState
from helios.store.pool import connect
from helios.store.recorder import MarketRecorder
from helios.venues.base import HISTORY_BARS, MarketVenue

MINUTE_NS = Timeframe.M1.ns
_NEVER_NS = 2**63 - 1
HISTORY_TRIES = 2
MAX_SHORT_ANSWERS = 20
MAX_HELD_BACK = 20_000  # trades kept during one repair
MAX_PAUSE_S = 5.0
LOOK_INTERVAL_S = 0.05
CHECK_EVERY_MINUTES = 5  # market minutes between two looks at minutes without the venue's word
CHECK_AFTER_NS = 150 * 1_000_000_000  # a candle younger than that may still be on its way or in a cache
CHECK_PAUSE_S = 0.2  # per symbol: hundreds of symbols do not ask at once


@dataclass(slots=True)
class _Sync:
    """A symbol on its way back into trading."""

    boundary_ns: int
    pending: list[Trade] = field(default_factory=list)
    short_answers: int = 0
    pause_s: float = 0.1
    next_try_s: float = 0.0
    is_fetching: bool = False


class Repairs:
    """History at the start, gaps after an outage, and the venue's word on minutes that we built."""

    def __init__(
        self,
        spec: DeskSpec,
        states: Mapping[str, SymbolState],
        venue: MarketVenue,
        publish: Callable[[SymbolState], Awaitable[None]],
        alert: Callable[[str, str], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._spec = spec
        self._states = states
        self._venue = venue
        self._publish = publish
        self._alert = alert
        self._now_ns = now_ns
        # Until the first connection every symbol is out of trading.
        self._open: dict[str, _Sync] = {symbol: _Sync(_NEVER_NS) for symbol in states}
        self._log = get_logger("helios.symbol:" + ",".join(states))
        self.repaired = self.repaired_minutes = self.unrepaired_minutes = self.unrepaired_bars = self.failed_fetches = 0

    @property
    def open_symbols(self) -> list[str]:
        """Symbols out of trading until their candles are whole again."""
        return sorted(self._open)

    def is_open(self, symbol: str) -> bool:
        """Whether the symbol's candles are not whole."""
        return symbol in self._open

    def begin(self, boundary_ns: int, symbols: Sequence[str]) -> None:
        """Repair `symbols` up to `boundary_ns`, the first minute that we will see whole."""
        self._open.update({symbol: _Sync(boundary_ns) for symbol in symbols})

    def suspend(self) -> None:
        """Wait for the next connection: minutes of the outage must come from the venue, time may not close them flat."""
        self._open = {symbol: _Sync(_NEVER_NS) for symbol in self._states}

    def hold_back(self, trade: Trade) -> bool:
        """Keep a trade for after the repair; whether the candles must not see it now."""
        sync = self._open.get(trade.symbol)
        if sync is None:
            return False
        if trade.ts_event >= sync.boundary_ns:
            sync.pending.append(trade)
        return True

    def counters(self) -> dict[str, int]:
        """Return what was counted since the start of this incarnation."""
        return {
            "repairs": self.repaired,
            "minutes_repaired": self.repaired_minutes,
            "minutes_unrepaired": self.unrepaired_minutes,
            "history_bars_flat": self.unrepaired_bars,
            "fetches_failed": self.failed_fetches,
        }

    async def run(self, speed: float, grace_ms: int) -> None:
        """Repair and check for ever, each symbol by itself: a slow answer holds up nobody else."""
        grace_ns = int(grace_ms * 1_000_000 * speed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check(CHECK_EVERY_MINUTES * 60.0 / speed))
            while True:
                await asyncio.sleep(LOOK_INTERVAL_S)
                for symbol, sync in list(self._open.items()):
                    is_due = self._now_ns() - grace_ns >= sync.boundary_ns and time.monotonic() >= sync.next_try_s
                    if is_due and not sync.is_fetching:
                        sync.is_fetching = True
                        tasks.create_task(self._finish(self._states[symbol], sync))

    async def warm(self, state: SymbolState) -> None:
        """Bars from the store where they join the venue's present, the rest from the venue.

        What a store that knows the symbol lacks (the minutes of a restart, holes of before) is given out, so that it is recorded.
        """
        now_ns = self._now_ns()
        stored = await self._stored(state.symbol)
        history: dict[Timeframe, list[Bar]] = {}
        lacking: list[Bar] = []
        for timeframe, count in HISTORY_BARS.items():
            end = now_ns // timeframe.ns * timeframe.ns
            start = end - count * timeframe.ns
            kept = [b for b in stored.get(timeframe, []) if start <= b.open_time < end]
            if kept and kept[-1].close_time - kept[0].open_time != len(kept) * timeframe.ns:
                kept = []  # holes: take the venue's series instead
            first = kept[-1].close_time if len(kept) >= count // 2 else start
            base = kept if first != start else []
            history[timeframe] = await self._history(state.symbol, timeframe, first, end, base)
            known = {bar.open_time for bar in stored.get(timeframe, [])}
            lacking += [bar for bar in history[timeframe] if known and bar.open_time not in known and bar.open_time > min(known)]
        state.warm(history, lacking)
        self._log.info("warm", extra={"symbol": state.symbol, "bars": {tf.value: len(h) for tf, h in history.items()}})

    async def _history(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int, known: Sequence[Bar]) -> list[Bar]:
        # What is missing may be a page that a cache had not yet, so it is asked for once more. What stays missing between two bars
        # was quiet or lost at the venue: flat, so that the bars around it are not taken for neighbours. Minutes are left to the
        # candle builder, which does the same and lists them.
        found: dict[int, VenueCandle] = {}
        for _ in range(HISTORY_TRIES):
            fetched = await self.retried(lambda: self._venue.candles(symbol, timeframe, start_ns, end_ns))
            found |= {candle.open_time: candle for candle in on_grid(fetched, timeframe, start_ns, end_ns)}
            if len(found) >= (end_ns - start_ns) // timeframe.ns:
                break
        bars = list(known)
        for opened in sorted(found):
            while timeframe is not Timeframe.M1 and bars and bars[-1].close_time < opened:
                bars.append(flat_after(bars[-1]))
                self.unrepaired_bars += 1
            bars.append(bar_of(found[opened]))
        return bars

    async def retried(self, action: Callable[[], Awaitable[Any]]) -> Any:
        """Await an answer of the venue, asking again for as long as it cannot be reached, refuses or talks nonsense.

        Whatever it says now it may take back; only what is wrong with our own configuration is raised.
        """
        delay_s = 0.2
        while True:
            try:
                return await action()
            except (RetryableError, VenueError, ProtocolError) as error:
                self.failed_fetches += 1
                self._log.warning("no answer from the venue: %s", error)
                await asyncio.sleep(delay_s)
                delay_s = min(MAX_PAUSE_S, delay_s * 2)

    # ---- gaps ----------------------------------------------------------------------------------------------------------

    async def _finish(self, state: SymbolState, sync: _Sync) -> None:
        last = state.last_open(Timeframe.M1)
        start_ns = last + MINUTE_NS if last is not None else sync.boundary_ns - MINUTE_NS
        try:
            candles = await self._venue.candles(state.symbol, Timeframe.M1, start_ns, sync.boundary_ns)
        except HeliosError as error:
            # Not reached: nothing is known, so nothing is given up, however long it takes.
            self.failed_fetches += 1
            self._log.warning("gap not fetched yet: %s", error, extra={"symbol": state.symbol})
            self._again(sync)
            return
        candles = on_grid(candles, Timeframe.M1, start_ns, sync.boundary_ns)
        if self._open.get(state.symbol) is not sync:
            return  # the connection was lost again meanwhile; the newer sync takes over
        missing = (sync.boundary_ns - start_ns) // MINUTE_NS - len(candles)
        if missing > 0 and sync.short_answers < MAX_SHORT_ANSWERS:
            sync.short_answers += 1
            self._again(sync)
            return
        await self._resume(state, sync, candles, missing)

    def _again(self, sync: _Sync) -> None:
        sync.pause_s = min(MAX_PAUSE_S, 2.0 * sync.pause_s)
        sync.next_try_s = time.monotonic() + sync.pause_s
        sync.is_fetching = False
        if len(sync.pending) > MAX_HELD_BACK:
            # What was held back will be among the venue's candles: begin at a later minute.
            sync.boundary_ns = self._now_ns() // MINUTE_NS * MINUTE_NS + MINUTE_NS
            sync.pending.clear()

    async def _resume(self, state: SymbolState, sync: _Sync, candles: Sequence[VenueCandle], missing: int) -> None:
        state.repair([bar_of(candle) for candle in candles], sync.boundary_ns)
        del self._open[state.symbol]
        for trade in sync.pending:
            state.on_trade(trade)
        state.is_stale = False
        self.repaired += 1
        self.repaired_minutes += len(candles)
        if missing > 0:
            self.unrepaired_minutes += missing
            self._alert("gap_unrepaired", f"{state.symbol}: the venue has no candle for {missing} minutes")
        await self._publish(state)

    # ---- checks --------------------------------------------------------------------------------------------------------

    async def _check(self, interval_s: float) -> None:
        """Ask now and then for the venue's candles of minutes that it has not confirmed by itself."""
        while True:
            await asyncio.sleep(max(interval_s, CHECK_PAUSE_S))
            for state in self._states.values():
                old_ns = self._now_ns() - CHECK_AFTER_NS
                opens = [t for t in state.builder.settling.unconfirmed if t <= old_ns]
                if opens and not self.is_open(state.symbol):
                    await self._check_minutes(state, opens)
                    await asyncio.sleep(CHECK_PAUSE_S)

    async def _check_minutes(self, state: SymbolState, opens: Sequence[int]) -> None:
        try:
            candles = await self._venue.candles(state.symbol, Timeframe.M1, opens[0], opens[-1] + MINUTE_NS)
        except HeliosError as error:
            self.failed_fetches += 1
            self._log.warning("minutes not checked yet: %s", error, extra={"symbol": state.symbol})
            return
        for candle in candles:
            state.on_candle(candle)
        if state.has_news:
            await self._publish(state)

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


def on_grid(candles: Sequence[VenueCandle], timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
    """Return what was asked for of an answer, each bucket once, in order: a bucket told twice must not stand for one not told."""
    found = {c.open_time: c for c in candles if start_ns <= c.open_time < end_ns and c.open_time % timeframe.ns == 0}
    return [found[open_time] for open_time in sorted(found)]


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


def flat_after(bar: Bar) -> Bar:
    """Return the bar that follows `bar` where nothing is known: at its close, without volume, its flow unknown."""
    close = bar.close
    return Bar(bar.symbol, bar.timeframe, bar.close_time, close, close, close, close, 0.0)

"""Record all that a venue says: a MarketVenue that keeps a tape of another one, and a driver for recording alone.

On the tape are the frames as they came and, in their place among them, the connection's state, the clock, and every candle that
was asked for. So a desk that ran on a `RecordingVenue` can be run again on the tape alone, its warm-up and repairs included.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from helios.clock import VenueClock
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument, VenueCandle
from helios.errors import ConfigError, HeliosError, RetryableError
from helios.store.raw_recording import RawRecorder
from helios.venues.base import HISTORY_BARS, FeedEvent, FeedStatus, MarketVenue
from helios.venues.tape import (
    CANDLES,
    CLOCK,
    STATUS,
    VALR_PROTOCOL,
    MarketClock,
    candles_json,
    clock_json,
    instrument_json,
)

log = logging.getLogger(__name__)

MINUTE_NS = Timeframe.M1.ns
RETRY_S = 0.5


class FramedVenue(MarketVenue, Protocol):
    """A venue that shows its frames before they are decoded."""

    on_frame: Callable[[str | bytes, int], None] | None


class RecordingVenue:
    """`venue`, with everything it says kept by `recorder`. Closing it closes neither; their owner does."""

    def __init__(self, venue: FramedVenue, recorder: RawRecorder) -> None:
        self._venue = venue
        self._recorder = recorder
        venue.on_frame = recorder.frame

    async def instruments(self) -> list[Instrument]:
        """Return the venue's contracts; those recorded are in the header."""
        return await self._venue.instruments()

    async def clock(self) -> VenueClock:
        """Return the venue's clock and note how it stands to ours."""
        clock = await self._venue.clock()
        self._recorder.note(CLOCK, clock_json(_market_clock(clock)))
        return clock

    async def candles(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        """Return the venue's candles and note them."""
        candles = await self._venue.candles(symbol, timeframe, start_ns, end_ns)
        self._recorder.note(CANDLES, candles_json(symbol, timeframe, start_ns, end_ns, candles))
        return candles

    async def stream(self, symbols: Sequence[str]) -> AsyncGenerator[FeedEvent]:
        """Yield the events of `stream_batches` one by one."""
        async with aclosing(self.stream_batches(symbols)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def stream_batches(self, symbols: Sequence[str]) -> AsyncGenerator[list[FeedEvent]]:
        """Yield the venue's events; its frames and outages are on tape before anybody acts on them."""
        async with aclosing(self._venue.stream_batches(symbols)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                for event in batch:
                    if isinstance(event, FeedStatus):
                        self._recorder.note(STATUS, {"status": event.status, "detail": event.detail})
                yield batch

    async def request_book(self, symbol: str) -> None:
        """Ask the venue for a fresh book; it comes on the stream."""
        await self._venue.request_book(symbol)

    def counters(self) -> Mapping[str, int]:
        """Return the venue's own totals."""
        return self._venue.counters()

    async def aclose(self) -> None:
        """Stop to listen; the venue stays open."""
        self._venue.on_frame = None


async def open_recorder(venue: FramedVenue, symbols: Sequence[str], directory: Path, name: str) -> RawRecorder:
    """Return a recorder whose header says what a replay must know of the venue and of `symbols`.

    Raises
    ------
    ConfigError
        If the venue does not show its frames or does not list a symbol.
    TransportError, VenueError
        If it cannot be asked.
    """
    if not hasattr(venue, "on_frame"):
        raise ConfigError(f"{name} does not show its frames, so they cannot be recorded")
    listed = {instrument.symbol: instrument for instrument in await venue.instruments()}
    unknown = [symbol for symbol in symbols if symbol not in listed]
    if unknown:
        raise ConfigError(f"{name} does not list {unknown[0]}")
    header = {
        "venue": name,
        "protocol": VALR_PROTOCOL,
        "pairs": {listed[s].venue_symbol: s for s in symbols},
        "instruments": [instrument_json(listed[s]) for s in symbols],
        "clock": clock_json(_market_clock(await venue.clock())),
    }
    return RawRecorder(directory, header)


class TapeDriver:
    """Listen without a desk, and ask for what a desk would have asked: history at first, after each outage what was missed.

    Parameters
    ----------
    venue : RecordingVenue
    symbols : sequence of str
    grace_s : float, default=0.15
        Wall seconds that a minute stays open for late trades, as in a desk.
    """

    def __init__(self, venue: RecordingVenue, symbols: Sequence[str], grace_s: float = 0.15) -> None:
        self._venue = venue
        self._symbols = tuple(symbols)
        self._grace_s = grace_s
        self._clock: VenueClock | None = None
        self._missed_from: dict[str, int] = {}  # first minute that is not whole; empty while the feed is whole
        self._boundary_ns: int | None = None
        self.outages = 0
        self.repairs = 0
        self.is_connected = False

    async def run(self) -> None:
        """Record for ever; cancel to end.

        Raises
        ------
        ConfigError
            If the venue does not list a symbol.
        VenueError
            If it refuses to answer.
        """
        self._clock = await self._venue.clock()
        for symbol in self._symbols:
            await self._fetch_history(symbol)
        tasks = [asyncio.create_task(self._repair()), asyncio.create_task(self._listen())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch_history(self, symbol: str) -> None:
        for timeframe, count in HISTORY_BARS.items():
            end = self._now_ns() // timeframe.ns * timeframe.ns
            await self._patiently(symbol, timeframe, end - count * timeframe.ns, end)
            self._missed_from[symbol] = end

    async def _patiently(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> None:
        while True:
            try:
                await self._venue.candles(symbol, timeframe, start_ns, end_ns)
            except RetryableError as error:
                log.warning("history of %s not fetched yet: %s", symbol, error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _listen(self) -> None:
        async with aclosing(self._venue.stream(self._symbols)) as events:
            async for event in events:
                if isinstance(event, FeedStatus):
                    self._take_status(event)

    def _take_status(self, status: FeedStatus) -> None:
        if status.status == "CONNECTED":
            self.is_connected = True
            self._boundary_ns = (self._now_ns() // MINUTE_NS + 1) * MINUTE_NS
            self._lose()
        elif status.status == "DISCONNECTED":
            self.outages += 1
            self.is_connected, self._boundary_ns = False, None
            self._lose()

    def _lose(self) -> None:
        start = (self._now_ns() - self._grace_ns()) // MINUTE_NS * MINUTE_NS
        for symbol in self._symbols:
            self._missed_from.setdefault(symbol, start)

    async def _repair(self) -> None:
        assert self._clock is not None
        interval_s = min(0.5, max(0.05, 12.0 / self._clock.speed))
        while True:
            await asyncio.sleep(interval_s)
            boundary = self._boundary_ns
            if boundary is not None and self._now_ns() - self._grace_ns() >= boundary:
                for symbol in list(self._missed_from):
                    await self._fill(symbol, boundary)

    async def _fill(self, symbol: str, boundary: int) -> None:
        try:
            await self._venue.candles(symbol, Timeframe.M1, self._missed_from[symbol], boundary)
        except HeliosError as error:
            log.warning("missed minutes of %s not fetched yet: %s", symbol, error)
            return
        if self._boundary_ns == boundary:  # else the connection was lost again meanwhile, and the next answer has all
            self._missed_from.pop(symbol, None)
            self.repairs += 1

    def _now_ns(self) -> int:
        assert self._clock is not None
        return self._clock.now_ns()

    def _grace_ns(self) -> int:
        assert self._clock is not None
        return int(self._grace_s * 1e9 * self._clock.speed)


def _market_clock(clock: VenueClock) -> MarketClock:
    return MarketClock(clock.now_ns(), time.time_ns(), clock.speed)

"""A live venue that says what the test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from helios.clock import ManualClock
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument, VenueCandle
from helios.errors import TransportError
from helios.venues.base import FeedEvent
from tests.support.pipeline_values import T0

VENUE_VOLUME = 7.0


class ScriptedVenue:
    """Candles on demand (recognised by their volume), events from a queue, a clock set by hand."""

    def __init__(self, now_ns: int) -> None:
        self.market_clock = ManualClock(now_ns, speed=1_000.0)
        self.events: asyncio.Queue[FeedEvent] = asyncio.Queue()
        self.books_asked: list[str] = []
        self.fetched: list[tuple[Timeframe, int, int]] = []
        self.is_down = False

    async def instruments(self) -> list[Instrument]:
        return []

    async def clock(self) -> ManualClock:
        return self.market_clock

    async def candles(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        if self.is_down:
            raise TransportError("away")
        self.fetched.append((timeframe, start_ns, end_ns))
        return [candle(symbol, timeframe, t) for t in range(start_ns, end_ns, timeframe.ns)]

    async def stream(self, symbols: Sequence[str]) -> AsyncIterator[FeedEvent]:
        while True:
            yield await self.events.get()

    async def request_book(self, symbol: str) -> None:
        self.books_asked.append(symbol)

    async def aclose(self) -> None: ...


def candle(symbol: str, timeframe: Timeframe, open_time: int) -> VenueCandle:
    price = 100.0 + (open_time - T0) // timeframe.ns % 7
    return VenueCandle(symbol, timeframe, open_time, price, price, price, price, VENUE_VOLUME, price * VENUE_VOLUME)

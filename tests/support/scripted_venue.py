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
    """Candles on demand (recognised by their volume), events from a queue, a clock set by hand.

    `unknown` are open times of minutes that the venue has no candle for, `volumes` those with another volume.
    """

    def __init__(self, now_ns: int) -> None:
        self.market_clock = ManualClock(now_ns, speed=1_000.0)
        self.events: asyncio.Queue[FeedEvent] = asyncio.Queue()
        self.books_asked: list[str] = []
        self.fetched: list[tuple[Timeframe, int, int]] = []
        self.is_down = False
        self.malformed = 0
        self.unknown: set[int] = set()
        self.volumes: dict[int, float] = {}

    async def instruments(self) -> list[Instrument]:
        return []

    async def clock(self) -> ManualClock:
        return self.market_clock

    async def candles(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        if self.is_down:
            raise TransportError("away")
        self.fetched.append((timeframe, start_ns, end_ns))
        opens = [t for t in range(start_ns, end_ns, timeframe.ns) if t not in self.unknown]
        return [candle(symbol, timeframe, t, self.volumes.get(t, VENUE_VOLUME)) for t in opens]

    async def stream_batches(self, symbols: Sequence[str]) -> AsyncIterator[list[FeedEvent]]:
        while True:
            yield [await self.events.get()]

    async def request_book(self, symbol: str) -> None:
        self.books_asked.append(symbol)

    def counters(self) -> dict[str, int]:
        return {"malformed": self.malformed, "requests_failed": 4}

    async def aclose(self) -> None: ...


def candle(symbol: str, timeframe: Timeframe, open_time: int, volume: float = VENUE_VOLUME) -> VenueCandle:
    price = 100.0 + (open_time - T0) // timeframe.ns % 7
    return VenueCandle(symbol, timeframe, open_time, price, price, price, price, volume, price * volume)

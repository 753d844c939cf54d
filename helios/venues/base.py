"""What a venue offers to the symbol actors, live or recorded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from helios.clock import VenueClock
from helios.domain.enums import Timeframe
from helios.domain.market import Bar, BookUpdate, Instrument, Trade, VenueCandle

HISTORY_BARS = {Timeframe.H1: 720, Timeframe.M15: 500, Timeframe.M5: 3_000, Timeframe.M1: 500}
"""How far back a desk looks at its start: features need 121 bars and forget their beginning to 1e-12 after 400, volatility ten days
of 5m, covariance thirty days of 1h."""


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """A change of the connection: CONNECTED (after (re)subscription), DISCONNECTED, or ERROR with a reason."""

    status: str
    detail: str
    ts_init: int


FeedEvent = Trade | BookUpdate | VenueCandle | FeedStatus


async def single_batches(events: AsyncIterator[FeedEvent]) -> AsyncGenerator[list[FeedEvent]]:
    """Wrap each event of a `stream` as a batch of its own, for venues that know no better."""
    try:
        async for event in events:
            yield [event]
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()


class MarketVenue(Protocol):
    """A live venue's public data. Every method raises TransportError or VenueError."""

    async def instruments(self) -> list[Instrument]: ...

    async def clock(self) -> VenueClock: ...

    async def candles(self, symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int) -> list[VenueCandle]:
        """Closed candles with start_ns <= open_time < end_ns, oldest first, empty buckets included."""
        ...

    def stream(self, symbols: Sequence[str]) -> AsyncIterator[FeedEvent]:
        """Yield events for ever, reconnecting with back-off; each outage shows as a FeedStatus."""
        ...

    def stream_batches(self, symbols: Sequence[str]) -> AsyncIterator[list[FeedEvent]]:
        """Yield the events of `stream` as they came together: one wake-up for many. No list is empty."""
        ...

    async def request_book(self, symbol: str) -> None:
        """Ask for a fresh book snapshot on the stream (after a sequence gap or a wrong checksum)."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Return running totals of what a person may want to see: `malformed` frames, and what else the venue counts."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Warmup:
    """Closed bars of before the recording, by timeframe, oldest first."""

    bars: Mapping[Timeframe, Sequence[Bar]]


@dataclass(frozen=True, slots=True)
class FeedLost:
    """Nothing is known from `start_ns` (a whole minute) on: the book is worthless, the minutes come as `MissedMinute`."""

    start_ns: int


@dataclass(frozen=True, slots=True)
class Held:
    """An event while the feed is being restored: prices and the book hear of it, the candles do not."""

    event: Trade | BookUpdate


@dataclass(frozen=True, slots=True)
class MissedMinute:
    """A minute that was not observed, as the venue tells it afterwards; what it does not tell is NaN."""

    bar: Bar


@dataclass(frozen=True, slots=True)
class FeedRestored:
    """All missed minutes are there; from here on the feed is whole."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The desk's clock had reached `now_ns`: minutes that ended by then were closed, whatever came later."""

    now_ns: int


ReplayEvent = Bar | Trade | BookUpdate | VenueCandle | Warmup | FeedLost | Held | MissedMinute | FeedRestored | TimePassed


class ReplaySource(Protocol):
    """Recorded data of one symbol, read forward only."""

    @property
    def instrument(self) -> Instrument: ...

    @property
    def start_ns(self) -> int: ...

    @property
    def end_ns(self) -> int: ...

    def read_until(self, until_ns: int) -> Sequence[ReplayEvent]:
        """Return everything that had become known by `until_ns` (bars: close time <= until), in order, once."""
        ...

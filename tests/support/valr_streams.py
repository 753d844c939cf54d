"""Streams of the VALR driver over a server on this machine, and waiting for what they bring."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from helios.domain.market import BookUpdate
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.valr.transport import ValrVenue
from tests.support.valr_server import ValrServer, trade_frame

LIMIT_S = 10.0


@contextlib.asynccontextmanager
async def streaming(server: ValrServer, *symbols: str, silence_timeout_s: float = 5.0, **options: Any):
    venue = ValrVenue(server.rest_url, server.ws_url, silence_timeout_s=silence_timeout_s, rng=random.Random(1), **options)
    try:
        async with contextlib.aclosing(venue.stream(symbols)) as events:
            yield venue, events
    finally:
        await venue.aclose()


async def until(events: AsyncIterator[FeedEvent], found: Callable[[FeedEvent], bool]) -> list[FeedEvent]:
    seen: list[FeedEvent] = []
    async with asyncio.timeout(LIMIT_S):
        async for event in events:
            seen.append(event)
            if found(event):
                return seen
    raise AssertionError("the stream ended")


async def eventually(is_true: Callable[[], bool]) -> None:
    for _ in range(int(LIMIT_S * 100)):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


def is_status(status: str) -> Callable[[FeedEvent], bool]:
    return lambda event: isinstance(event, FeedStatus) and event.status == status


def is_book(symbol: str, sequence: int) -> Callable[[FeedEvent], bool]:
    return lambda event: isinstance(event, BookUpdate) and (event.symbol, event.sequence) == (symbol, sequence)


def trade_with_id(trade_id: str) -> str:
    frame = trade_frame("BTCZAR")
    frame["data"]["id"] = trade_id
    return json.dumps(frame)


def text_frame(text: str) -> bytes:
    """An unmasked text frame of 126 to 65,535 bytes (RFC 6455, section 5.2)."""
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text.encode()


async def push_trades(server: ValrServer, count: int) -> None:
    for number in range(count):
        frame = trade_frame("BTCZAR")
        frame["data"]["id"] = f"t-{number}"
        await server.push(frame)
        await asyncio.sleep(0.018)


async def drain(events: AsyncIterator[FeedEvent]) -> list[FeedEvent]:
    return [event async for event in events]

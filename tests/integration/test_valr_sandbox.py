"""The VALR client against our sandbox exchange, which was written from VALR's documentation by itself."""

from __future__ import annotations

import asyncio
import contextlib

from helios.config import VenueConfig
from helios.domain.enums import Timeframe
from helios.domain.market import BookUpdate, Trade
from helios.market.book import OrderBook
from helios.venues.base import FeedStatus
from helios.venues.factory import make_venue
from helios.venues.sandbox.server import SandboxConfig, SandboxExchange

SYMBOLS = ("BTC/ZAR", "ETH/ZAR")
MINUTE_NS = 60_000_000_000


async def test_books_stay_in_step_and_history_joins_the_present() -> None:
    sandbox = SandboxExchange(SandboxConfig(symbols=SYMBOLS))
    await sandbox.start()
    config = VenueConfig(name="sandbox", rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, speed=60.0)
    venue = make_venue(config)
    books = {symbol: OrderBook(symbol) for symbol in SYMBOLS}
    trades: set[tuple[str, str]] = set()
    n_trades = n_diffs = 0
    statuses: list[str] = []
    try:
        now_ns = (await venue.clock()).now_ns()
        end_ns = now_ns // MINUTE_NS * MINUTE_NS
        candles = await venue.candles("BTC/ZAR", Timeframe.M1, end_ns - 400 * MINUTE_NS, end_ns)
        async with asyncio.timeout(30.0), contextlib.aclosing(venue.stream_batches(SYMBOLS)) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, BookUpdate):
                        books[event.symbol].apply(event)  # raises on a gap or a wrong checksum
                        n_diffs += not event.is_snapshot
                    elif isinstance(event, Trade):
                        trades.add((event.symbol, event.trade_id))
                        n_trades += 1
                    elif isinstance(event, FeedStatus):
                        statuses.append(event.status)
                if n_diffs > 300 and n_trades > 20:
                    break
    finally:
        await venue.aclose()
        await sandbox.stop()
    assert [candle.open_time for candle in candles] == list(range(end_ns - 400 * MINUTE_NS, end_ns, MINUTE_NS))
    assert all(book.is_synced for book in books.values())
    assert (len(trades), statuses) == (n_trades, ["CONNECTED"])

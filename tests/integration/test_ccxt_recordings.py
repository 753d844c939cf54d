"""ccxt's real client against recordings: what comes out of CcxtVenue equals an independent reading of the received lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest

from helios.domain.enums import Side
from helios.domain.market import BookUpdate, Instrument, Trade
from helios.market.book import OrderBook
from helios.venues.base import FeedEvent, FeedStatus
from helios.venues.ccxt.client import Endpoint
from helios.venues.ccxt.inbox import BOOK_LEVELS
from helios.venues.ccxt.support import VENUES
from helios.venues.ccxt.venue import CcxtVenue
from tests.support.ccxt_recordings import RECORDED, SAMPLES, SESSION, Capture, Coinbase, captures
from tests.support.ccxt_server import CcxtServer

LIMIT_S = 40.0
QUIET_S = 1.0

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLES.is_dir() or not SESSION.is_dir(), reason=f"recordings not found under {RECORDED}"),
]


@dataclass
class Heard:
    """What a stream brought, and the books kept from it."""

    instruments: list[Instrument] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    books: dict[str, OrderBook] = field(default_factory=dict)
    updates: int = 0
    statuses: list[str] = field(default_factory=list)
    protocol_errors: int = 0

    def take(self, event: FeedEvent) -> None:
        if isinstance(event, Trade):
            self.trades.append(event)
        elif isinstance(event, BookUpdate):
            self.updates += 1
            self.books.setdefault(event.symbol, OrderBook(event.symbol)).apply(event)
        elif isinstance(event, FeedStatus):
            self.statuses.append(event.status)


async def play(capture: Capture) -> Heard:
    support = VENUES[capture.venue]
    support = replace(support, book_depth=capture.book_depth or support.book_depth)
    heard = Heard()
    async with CcxtServer(capture.ask, capture.speak, capture.pace_s) as server:
        venue = CcxtVenue(support, capture.kind, Endpoint(server.rest_url, server.ws_url), options=capture.options)
        try:
            heard.instruments = await venue.instruments()
            await listen(venue.stream(list(capture.pairs.values())), heard, len(capture.trades()), len(capture.pairs))
        finally:
            heard.protocol_errors = venue.protocol_errors
            await venue.aclose()
    return heard


async def listen(events: AsyncIterator[FeedEvent], heard: Heard, n_trades: int, n_books: int) -> None:
    # Until every trade and some of every book has come and then nothing more for a while.
    async with asyncio.timeout(LIMIT_S):
        waiting = asyncio.ensure_future(anext(events))
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=QUIET_S)
            if done:
                heard.take(waiting.result())
                waiting = asyncio.ensure_future(anext(events))
            elif len(heard.trades) >= n_trades and len(heard.books) == n_books:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                return


@pytest.mark.parametrize("capture", captures(), ids=lambda c: f"{c.name}-{c.kind.value}")
async def test_trades_and_books_are_those_of_the_recording(capture: Capture) -> None:
    heard = await play(capture)
    assert heard.statuses == ["CONNECTED"]
    assert heard.protocol_errors == 0
    expected = [(s, i, float(p), float(q), side, ns) for s, i, p, q, side, ns in capture.trades()]
    actual = [(t.symbol, t.trade_id, t.price, t.quantity, t.taker_side, t.ts_event) for t in heard.trades]
    assert len(expected) > 0
    for symbol in capture.pairs.values():
        assert [row for row in actual if row[0] == symbol] == [row for row in expected if row[0] == symbol]
    for symbol in capture.pairs.values():
        bids, asks = heard.books[symbol].levels(BOOK_LEVELS)
        true_bids, true_asks = capture.book(symbol)
        assert [(Decimal(p), Decimal(q)) for p, q in bids] == sorted(true_bids.items(), reverse=True)[:BOOK_LEVELS]
        assert [(Decimal(p), Decimal(q)) for p, q in asks] == sorted(true_asks.items())[:BOOK_LEVELS]
    assert heard.updates > len(capture.pairs)  # diffs came too, not only snapshots


async def test_the_session_ends_with_the_recorded_best_quotes() -> None:
    capture = captures()[2]
    heard = await play(capture)
    book = heard.books["BTC/USDT:USDT"]
    last_id = max(d["u"] for _, d in capture.frames() if d.get("e") == "depthUpdate")
    quote = [d for _, d in capture.frames() if d.get("e") == "bookTicker" and d["u"] <= last_id][-1]
    bids, asks = book.levels(1)
    assert (bids[0], asks[0]) == ((quote["b"], quote["B"]), (quote["a"], quote["A"]))  # to the last character


async def test_instruments_are_exact() -> None:
    by_venue: dict[str, dict[str, Instrument]] = {}
    for capture in captures():
        async with CcxtServer(capture.ask) as server:
            venue = CcxtVenue(VENUES[capture.venue], capture.kind, Endpoint(server.rest_url, server.ws_url))
            try:
                by_venue[f"{capture.venue}-{capture.kind.value}"] = {i.symbol: i for i in await venue.instruments()}
            finally:
                await venue.aclose()
    steps = {
        name: (str(i.tick_size.normalize()), str(i.lot_size_base.normalize()))
        for name, symbol in [
            ("binance-spot", "NKN/USDT"), ("binance-perp", "SUSHI/USDT:USDT"), ("bybit-spot", "BTC/USDT"),
            ("bybit-perp", "BTC/USDT:USDT"), ("okx-spot", "BTC/USDT"), ("coinbase-spot", "BTC/USD"), ("kraken-spot", "ADA/BTC"),
        ]
        for i in [by_venue[name][symbol]]
    }  # fmt: skip
    # Read by hand from the recorded lists of markets.
    assert steps == {
        "binance-spot": ("0.0001", "1"), "binance-perp": ("0.001", "1"), "bybit-spot": ("0.1", "0.000001"),
        "bybit-perp": ("0.1", "0.001"), "okx-spot": ("0.1", "1E-8"), "coinbase-spot": ("0.01", "1E-8"),
        "kraken-spot": ("1E-8", "1E-8"),
    }  # fmt: skip


def test_coinbase_names_the_maker_side() -> None:
    """A taker's buy prints at the ask. In the recording prints at the ask are written SELL: the side of the resting order."""
    capture = next(c for c in captures() if isinstance(c, Coinbase))
    at_ask = [side for _, bid, ask, price, side in capture.quotes_and_trades() if price >= ask > bid]
    at_bid = [side for _, bid, ask, price, side in capture.quotes_and_trades() if price <= bid < ask]
    assert len(at_ask) > 10
    assert len(at_bid) > 10
    assert at_ask.count(Side.SELL) > 0.9 * len(at_ask)
    assert at_bid.count(Side.BUY) > 0.9 * len(at_bid)

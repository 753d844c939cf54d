"""OKX perpetuals are counted in contracts: the made-up market here is in OKX's documented form, on this machine.

Source of the form: okx.com/docs-v5, "Get instruments", "Get candlesticks", "Trades channel", "Order book channel", as quoted in
ccxt 4.5.90: trades and books count contracts, the seventh field of a candle is the volume in base units.
"""

from __future__ import annotations

import contextlib
import json
import random
from decimal import Decimal
from typing import Any

from helios.domain.enums import MarketKind, Side, Timeframe
from helios.domain.market import BookUpdate, Trade
from helios.venues.ccxt.client import Endpoint
from helios.venues.ccxt.support import VENUES
from helios.venues.ccxt.venue import CcxtVenue
from tests.integration.test_ccxt_stream import is_book, is_status, is_trade, of_kind, until
from tests.support.ccxt_server import CcxtServer

BTC = "BTC/USDT:USDT"
NOW_MS = 1_790_000_030_000
OPEN_MS = 1_789_999_920_000
INSTRUMENT = {
    "instId": "BTC-USDT-SWAP", "instType": "SWAP", "uly": "BTC-USDT", "instFamily": "BTC-USDT", "baseCcy": "", "quoteCcy": "",
    "settleCcy": "USDT", "ctVal": "0.01", "ctMult": "1", "ctValCcy": "BTC", "ctType": "linear", "tickSz": "0.1", "lotSz": "0.1",
    "minSz": "0.1", "lever": "100", "state": "live", "maxLmtSz": "1000", "listTime": "1573557408000", "expTime": "", "alias": "",
}  # fmt: skip


def answer(path: str, query: dict[str, str]) -> Any:
    data: dict[str, Any] = {
        "/api/v5/public/instruments": [INSTRUMENT],
        "/api/v5/public/time": [{"ts": str(NOW_MS)}],
        "/api/v5/market/candles": [[str(OPEN_MS), "100", "102", "99", "101", "628", "6.28", "634.28", "1"]],
        "/api/v5/market/history-candles": [[str(OPEN_MS), "100", "102", "99", "101", "628", "6.28", "634.28", "1"]],
    }
    return {"code": "0", "msg": "", "data": data[path]} if path in data else (404, {}, '{"code":"404","msg":"no"}')


def speak(path: str, message: Any) -> list[str]:
    if message == "ping":
        return ["pong"]
    frames = []
    for arg in message["args"]:
        frames.append({"event": "subscribe", "arg": arg})
        if arg["channel"] == "trades":
            row = {"instId": "BTC-USDT-SWAP", "tradeId": "1", "px": "100.5", "sz": "25", "side": "sell", "ts": str(NOW_MS)}
            frames.append({"arg": arg, "data": [row]})
        else:
            book = {
                "asks": [["100.6", "3", "0", "1"]],
                "bids": [["100.5", "12.5", "0", "2"]],
                "ts": str(NOW_MS),
                "seqId": 5,
                "prevSeqId": -1,
            }
            update = {"asks": [], "bids": [["100.5", "0.1", "0", "2"]], "ts": str(NOW_MS), "seqId": 7, "prevSeqId": 5}
            frames += [{"arg": arg, "action": "snapshot", "data": [book]}, {"arg": arg, "action": "update", "data": [update]}]
    return [json.dumps(frame) for frame in frames]


@contextlib.asynccontextmanager
async def okx():
    async with CcxtServer(answer, speak) as server:
        venue = CcxtVenue(VENUES["okx"], MarketKind.PERP, Endpoint(server.rest_url, server.ws_url), rng=random.Random(1))
        try:
            async with contextlib.aclosing(venue.stream([BTC])) as events:
                yield venue, events, server
        finally:
            await venue.aclose()


async def test_lots_and_candles_are_in_base_units() -> None:
    async with okx() as (venue, _, _):
        (instrument,) = await venue.instruments()
        (candle,) = await venue.candles(BTC, Timeframe.M1, OPEN_MS * 1_000_000, NOW_MS * 1_000_000)
    assert (instrument.lot_size_base, instrument.min_quantity_base) == (Decimal("0.001"), Decimal("0.001"))
    assert (instrument.tick_size, instrument.max_leverage) == (Decimal("0.1"), Decimal(100))
    assert candle.volume_base == 6.28


async def test_trades_and_books_are_in_base_units_and_a_gap_in_the_sequence_starts_anew() -> None:
    async with okx() as (_, events, server):
        seen = await until(events, is_trade)
        while not any(book.bids == (("100.5", "0.001"),) for book in of_kind(seen, BookUpdate)):
            seen += await until(events, is_book)
        gap = {"asks": [], "bids": [["100.4", "1", "0", "1"]], "ts": str(NOW_MS), "seqId": 99, "prevSeqId": 98}
        arg = {"channel": "books", "instId": "BTC-USDT-SWAP"}
        await server.push(json.dumps({"arg": arg, "action": "update", "data": [gap]}))
        (*_, lost) = await until(events, is_status("DISCONNECTED"))
        again = await until(events, is_book)
    (trade,) = of_kind(seen, Trade)
    assert (trade.price, trade.quantity, trade.taker_side) == (100.5, 0.25, Side.SELL)
    assert "InvalidNonce" in lost.detail
    assert again[-1].is_snapshot

"""A made-up Binance spot market in the venue's documented form, for `CcxtServer`.

Source: binance/binance-spot-api-docs, "General endpoints", "Market data endpoints", "Diff. Depth Stream", read 2026-11.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.support.ccxt_server import CcxtServer

MINUTE_MS = 60_000
NOW_MS = 1_790_000_030_000  # half a minute after a bucket has opened


def symbol_row(pair: str, base: str, quote: str, status: str = "TRADING") -> dict[str, Any]:
    """One entry of exchangeInfo."""
    return {
        "symbol": pair, "status": status, "baseAsset": base, "quoteAsset": quote, "baseAssetPrecision": 8, "quotePrecision": 8,
        "quoteAssetPrecision": 8, "orderTypes": ["LIMIT", "MARKET"], "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "permissions": [], "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00000000", "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9000000.00000000"},
        ],
    }  # fmt: skip


class BinanceMarket:
    """State behind the answers; `trade` and `depth` push what happens to whoever has subscribed to it."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms
        self.first_bucket_ms = 0
        self.missing: set[int] = set()
        self.newest_of_page = 0  # give only so many, the newest, as some venues do
        self.update_id = 1000
        self.trade_id = 0
        self.bids: dict[str, str] = {f"{100 - i / 10:.2f}000000": "1.00000000" for i in range(40)}
        self.asks: dict[str, str] = {f"{101 + i / 10:.2f}000000": "2.00000000" for i in range(40)}
        self.paths: dict[str, str] = {}  # stream to the path of its socket

    def ask(self, path: str, query: dict[str, str]) -> Any:
        if path.endswith("/exchangeInfo"):
            rows = [("BTCUSDT", "BTC", "USDT"), ("ETHUSDT", "ETH", "USDT")]
            symbols = [symbol_row(*row) for row in rows] + [symbol_row("OLDUSDT", "OLD", "USDT", "BREAK")]
            return {"timezone": "UTC", "serverTime": self.now_ms, "rateLimits": [], "exchangeFilters": [], "symbols": symbols}
        if path.endswith("/time"):
            return {"serverTime": self.now_ms}
        if path.endswith("/klines"):
            return self.klines(query)
        if path.endswith("/depth"):
            return {"lastUpdateId": self.update_id, "bids": list(self.bids.items()), "asks": list(self.asks.items())}
        return 404, {}, json.dumps({"code": -1, "msg": f"no {path}"})

    def klines(self, query: dict[str, str]) -> list[list[Any]]:
        step = {"1m": 1, "5m": 5, "15m": 15, "1h": 60}[query["interval"]] * MINUTE_MS
        start = max(-(-int(query["startTime"]) // step) * step, self.first_bucket_ms)
        stop = min(int(query.get("endTime", self.now_ms)), self.now_ms)
        opened = [t for t in range(start, stop + 1, step) if t not in self.missing][: min(int(query.get("limit", 500)), 1000)]
        return [kline(t, step) for t in opened[-self.newest_of_page :]]

    def speak(self, path: str, message: Any) -> list[str]:
        self.paths.update(dict.fromkeys(message["params"], path))
        return [json.dumps({"result": None, "id": message["id"]})]

    async def path(self, server: CcxtServer, stream: str) -> str:
        """Wait until a socket listens to `stream` and return its path."""
        async with asyncio.timeout(5.0):
            while self.paths.get(stream) not in server.sockets.values():  # noqa: ASYNC110 (two dicts, no event to wait for)
                await asyncio.sleep(0.01)
        return self.paths[stream]

    async def trade(self, server: CcxtServer, price: str, quantity: str, is_maker_buyer: bool = False, **changes: Any) -> None:
        self.trade_id += 1
        frame = {
            "e": "trade", "E": self.now_ms, "s": "BTCUSDT", "t": self.trade_id, "p": price, "q": quantity, "T": self.now_ms,
            "m": is_maker_buyer, "M": True,
        } | changes  # fmt: skip
        await server.push(json.dumps(frame), await self.path(server, "btcusdt@trade"))

    async def depth(
        self, server: CcxtServer, bids: dict[str, str], asks: dict[str, str], skip: int = 0, pair: str = "BTCUSDT"
    ) -> None:
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            side.update(changes)
            for price in [p for p, q in changes.items() if float(q) == 0]:
                del side[price]
        first = self.update_id + 1 + skip
        self.update_id = first + 1
        frame = {
            "e": "depthUpdate", "E": self.now_ms, "s": pair, "U": first, "u": self.update_id,
            "b": list(bids.items()), "a": list(asks.items()),
        }  # fmt: skip
        await server.push(json.dumps(frame), await self.path(server, f"{pair.lower()}@depth@100ms"))


def kline(open_ms: int, step_ms: int) -> list[Any]:
    """The candle of a bucket: numbers that follow from its time, as text."""
    n = open_ms // step_ms % 1000
    return [
        open_ms, f"{100 + n}.10000000", f"{100 + n}.90000000", f"{100 + n}.05000000", f"{100 + n}.50000000", f"{n}.00100000",
        open_ms + step_ms - 1, "1000.0", 12, "0.5", "50.0", "0",
    ]  # fmt: skip

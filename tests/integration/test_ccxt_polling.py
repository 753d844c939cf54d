"""A venue without sockets: trades and books by REST, in Delta Exchange's documented form, on this machine.

Source of the form: docs.delta.exchange, "Get product list", "Get public trades", "Get L2 orderbook", as quoted in ccxt 4.5.90.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from helios.domain.enums import MarketKind, Side, Timeframe
from helios.domain.market import BookUpdate, Trade
from helios.venues.ccxt.client import Endpoint
from helios.venues.ccxt.support import VENUES
from helios.venues.ccxt.venue import CcxtVenue
from tests.integration.test_ccxt_stream import is_book, is_status, is_trade, of_kind, until
from tests.support.ccxt_server import CcxtServer

BTC = "BTC/USDT:USDT"
NOW_US = 1_790_000_030_000_000


class DeltaMarket:
    """One perpetual of 0.001 BTC a contract."""

    def __init__(self) -> None:
        self.trades: list[dict[str, Any]] = []
        self.buy = [{"price": "15814.0", "size": 912}, {"price": "15813.5", "size": 1279}]
        self.sell = [{"price": "15814.5", "size": 625}, {"price": "15815.0", "size": 982}]

    def add(self, price: str, size: int, taker: str = "seller", at_us: int = NOW_US) -> None:
        other = {"seller": "buyer", "buyer": "seller"}[taker]
        self.trades.insert(0, {f"{taker}_role": "taker", f"{other}_role": "maker", "price": price, "size": size, "timestamp": at_us})

    def ask(self, path: str, query: dict[str, str]) -> Any:
        results: dict[str, Any] = {
            "/v2/products": [PRODUCT],
            "/v2/settings": {"server_time": NOW_US},
            "/v2/trades/BTCUSDT": self.trades,
            "/v2/l2orderbook/BTCUSDT": {"buy": self.buy, "sell": self.sell, "symbol": "BTCUSDT"},
            "/v2/history/candles": [{"time": 1_789_999_920, "open": 100, "high": 102, "low": 99.5, "close": 101, "volume": 500}],
        }
        return {"success": True, "result": results[path]} if path in results else (404, {}, '{"success":false,"error":{"code":"no"}}')


PRODUCT = {
    "id": 139, "symbol": "BTCUSDT", "contract_type": "perpetual_futures", "contract_value": "0.001", "tick_size": "0.5",
    "state": "live", "notional_type": "vanilla", "maker_commission_rate": "0.0002", "taker_commission_rate": "0.0005",
    "position_size_limit": 10000, "product_specs": {}, "initial_margin": "1", "maintenance_margin": "0.5",
    "underlying_asset": {"symbol": "BTC", "precision": 8}, "quoting_asset": {"symbol": "USDT", "precision": 6},
    "settling_asset": {"symbol": "USDT", "precision": 6},
}  # fmt: skip


@pytest.fixture
def market() -> DeltaMarket:
    return DeltaMarket()


@pytest.fixture
async def server(market: DeltaMarket) -> AsyncIterator[CcxtServer]:
    async with CcxtServer(market.ask) as running:
        yield running


@contextlib.asynccontextmanager
async def polling(server: CcxtServer):
    endpoint = Endpoint(server.rest_url)
    venue = CcxtVenue(VENUES["delta"], MarketKind.PERP, endpoint, rng=random.Random(1), poll_interval_s=0.05)
    try:
        async with contextlib.aclosing(venue.stream([BTC])) as events:
            yield venue, events
    finally:
        await venue.aclose()


async def test_contracts_become_base_units(market: DeltaMarket, server: CcxtServer) -> None:
    market.add("15814.5", 241)
    async with polling(server) as (venue, events):
        (instrument,) = await venue.instruments()
        seen = await until(events, is_book)
        rows = await venue.candles(BTC, Timeframe.M1, 1_789_999_920_000_000_000, NOW_US * 1000)
    assert (instrument.tick_size, instrument.lot_size_base, instrument.kind) == (Decimal("0.5"), Decimal("0.001"), MarketKind.PERP)
    (trade,) = of_kind(seen, Trade)
    assert (trade.price, trade.quantity, trade.taker_side, trade.ts_event) == (15814.5, 0.241, Side.SELL, NOW_US * 1000)
    (book,) = of_kind(seen, BookUpdate)
    assert book.is_snapshot
    assert book.bids == (("15814.0", "0.912"), ("15813.5", "1.279"))
    assert [(row.close, row.volume_base) for row in rows] == [(101.0, 0.5)]


async def test_each_print_comes_once_equal_ones_each(market: DeltaMarket, server: CcxtServer) -> None:
    market.add("15814.5", 1)
    async with polling(server) as (_, events):
        seen = await until(events, is_book)
        market.add("15814.5", 1)  # the same price, size, side and time: another print
        market.add("15815.0", 2, taker="buyer", at_us=NOW_US + 5_000)
        seen += await until(events, is_trade)
        seen += await until(events, is_trade)
        market.buy[0] = {"price": "15814.0", "size": 5}
        seen += await until(events, is_book)
    assert [(t.price, t.taker_side) for t in of_kind(seen, Trade)] == [
        (15814.5, Side.SELL),
        (15814.5, Side.SELL),
        (15815.0, Side.BUY),
    ]
    assert of_kind(seen, BookUpdate)[-1].bids == (("15814.0", "0.005"),)


async def test_an_outage_shows_and_ends(market: DeltaMarket, server: CcxtServer) -> None:
    async with polling(server) as (_, events):
        seen = await until(events, is_book)
        server.answer_next([(502, {}, "<html></html>")] * 5)
        seen += await until(events, is_status("DISCONNECTED"))
        seen += await until(events, is_status("CONNECTED"))
        seen += await until(events, is_book)
    assert of_kind(seen, BookUpdate)[-1].is_snapshot

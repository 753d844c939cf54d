"""Candles of the other venues, each in the form its documentation (as quoted in ccxt 4.5.90) gives, on this machine.

Every answer holds what the real one would: the venue's own page limit, order, units of time and the candle still open.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from helios.domain.enums import MarketKind, Side, Timeframe
from helios.domain.market import BookUpdate, Trade
from helios.venues.ccxt.client import Endpoint
from helios.venues.ccxt.support import VENUES
from helios.venues.ccxt.venue import CcxtVenue
from tests.integration.test_ccxt_stream import is_book, of_kind, until
from tests.support.ccxt_server import CcxtServer

MINUTE_S = 60
NOW_S = 1_790_000_030
OPEN_S = NOW_S // MINUTE_S * MINUTE_S  # of the minute that is not closed yet
Query = dict[str, str]


def numbers(open_s: int) -> tuple[str, str, str, str, str]:
    """Open, high, low, close and volume of the minute that opens then."""
    n = open_s // MINUTE_S % 1000
    return f"{n}.2", f"{n}.9", f"{n}.1", f"{n}.5", f"{n}.25"


def minutes(first_s: float, last_s: float) -> list[int]:
    """Open times from `first_s` to `last_s`, both included, none in the future."""
    start = -(-int(first_s) // MINUTE_S) * MINUTE_S
    return list(range(start, min(int(last_s), OPEN_S) + 1, MINUTE_S))


def bybit(path: str, q: Query) -> Any:
    if path.endswith("/time"):
        return {"retCode": 0, "retMsg": "OK", "result": {}, "time": NOW_S * 1000}
    if path.endswith("/kline"):
        found = minutes(int(q["start"]) / 1000, int(q["end"]) / 1000)[-int(q["limit"]) :]
        rows = [[str(t * 1000), *numbers(t), "1"] for t in reversed(found)]
        return {"retCode": 0, "retMsg": "OK", "result": {"symbol": "BTCUSDT", "category": "spot", "list": rows}}
    market = {
        "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading", "marginTrading": "none",
        "lotSizeFilter": {"basePrecision": "0.000001", "minOrderQty": "0.000001", "maxOrderQty": "230"},
        "priceFilter": {"tickSize": "0.1"},
    }  # fmt: skip
    return {"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": [market]}}


def okx(path: str, q: Query) -> Any:
    if path.endswith("/time"):
        return {"code": "0", "data": [{"ts": str(NOW_S * 1000)}]}
    if "candles" in path:  # after and before are excluded; the newest 300 (100 of older history) of what lies between
        limit = 100 if "history" in path else int(q["limit"])
        found = minutes((int(q["before"]) + 1) / 1000, (int(q["after"]) - 1) / 1000)[-limit:]
        return {"code": "0", "data": [[str(t * 1000), *numbers(t), "1", "1", "0" if t == OPEN_S else "1"] for t in reversed(found)]}
    market = {
        "instId": "BTC-USDT", "instType": "SPOT", "baseCcy": "BTC", "quoteCcy": "USDT", "tickSz": "0.1", "lotSz": "0.00000001",
        "minSz": "0.00001", "state": "live", "lever": "10", "listTime": "1", "expTime": "", "ctVal": "", "settleCcy": "", "uly": "",
    }  # fmt: skip
    return {"code": "0", "data": [market]}


def kraken(path: str, q: Query) -> Any:
    if path.endswith("/Time"):
        return {"error": [], "result": {"unixtime": NOW_S}}
    if path.endswith("/OHLC"):  # `since` excluded; whatever is asked, only the newest 720 exist
        found = [t for t in minutes(OPEN_S - 719 * MINUTE_S, OPEN_S) if t > int(q["since"])]
        rows = [[t, *numbers(t)[:4], "0.0", numbers(t)[4], 3] for t in found]
        return {"error": [], "result": {"XXMRZUSD": rows, "last": OPEN_S - MINUTE_S}}
    market = {
        "altname": "XMRUSD", "wsname": "XMR/USD", "base": "XXMR", "quote": "ZUSD", "pair_decimals": 2, "lot_decimals": 8,
        "lot_multiplier": 1, "leverage_buy": [2], "leverage_sell": [2], "fees": [[0, 0.26]], "fees_maker": [[0, 0.16]],
        "ordermin": "0.05", "tick_size": "0.01", "status": "online",
    }  # fmt: skip
    return {"error": [], "result": {"XXMRZUSD": market} if path.endswith("/AssetPairs") else {}}


def coinbase(path: str, q: Query) -> Any:
    if path.endswith("/time"):
        return (
            {"data": {"epoch": NOW_S, "iso": ""}}
            if "/v2/" in path
            else {"epochSeconds": str(NOW_S), "epochMillis": str(NOW_S * 1000)}
        )
    if path.endswith("/candles"):
        rows = [(t, *numbers(t)) for t in reversed(minutes(int(q["start"]), int(q["end"])))]
        assert len(rows) <= 350
        names = ("start", "open", "high", "low", "close", "volume")
        return {"candles": [dict(zip(names, map(str, row))) for row in rows if row[0] // MINUTE_S % 7]}  # quiet minutes are left out
    market = {
        "product_id": "BTC-USD", "base_increment": "0.00000001", "quote_increment": "0.01", "price_increment": "0.01",
        "status": "online",
        "quote_min_size": "1", "quote_max_size": "150000000", "base_min_size": "0.00000001", "base_max_size": "3400",
        "product_type": "SPOT", "quote_currency_id": "USD", "base_currency_id": "BTC", "trading_disabled": False, "alias_to": [],
    }  # fmt: skip
    return {"products": [market] if q.get("product_type", "SPOT") == "SPOT" else [], "num_products": 1}


def luno(path: str, q: Query) -> Any:
    market = {
        "market_id": "XBTZAR", "trading_status": "ACTIVE", "base_currency": "XBT", "counter_currency": "ZAR", "min_volume": "0.0001",
        "max_volume": "100.00", "volume_scale": 4, "min_price": "10", "max_price": "10000000", "price_scale": 0,
    }  # fmt: skip
    answers = {
        "markets": {"markets": [market]},
        "trades": {"trades": [{"sequence": 9, "timestamp": NOW_S * 1000, "price": "1000000", "volume": "0.003", "is_buy": False}]},
        "orderbook_top": {
            "timestamp": NOW_S * 1000, "bids": [{"price": "999999", "volume": "0.5"}],
            "asks": [{"price": "1000001", "volume": "0.25"}],
        },
        "candles": {
            "candles": [
                {"timestamp": t * 1000, **dict(zip(("open", "high", "low", "close", "volume"), numbers(t)))}
                for t in minutes(int(q.get("since", "0")) / 1000, OPEN_S)[:1000]
            ],
            "duration": 60,
        },
    }  # fmt: skip
    name = path.rsplit("/", 1)[-1]
    return answers[name] if name in answers else (404, {}, json.dumps({"error": f"no {path}"}))


VENUE_FORMS: list[tuple[str, str, Callable[[str, Query], Any], int]] = [
    ("bybit", "BTC/USDT", bybit, 1_300), ("okx", "BTC/USDT", okx, 700), ("okx", "BTC/USDT", okx, 1_900),
    ("kraken", "XMR/USD", kraken, 600), ("coinbase", "BTC/USD", coinbase, 700),
]  # fmt: skip


@pytest.mark.parametrize(("name", "symbol", "form", "count"), VENUE_FORMS)
async def test_candles_are_whole_closed_and_in_order(
    name: str, symbol: str, form: Callable[[str, Query], Any], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ccxt chooses OKX's endpoint by the machine's clock.
    monkeypatch.setattr("ccxt.async_support.okx.milliseconds", staticmethod(lambda: NOW_S * 1000))
    first_s = OPEN_S - count * MINUTE_S
    async with CcxtServer(form) as server:
        venue = CcxtVenue(VENUES[name], MarketKind.SPOT, Endpoint(server.rest_url), rng=random.Random(1))
        try:
            rows = await venue.candles(symbol, Timeframe.M1, first_s * 10**9, (NOW_S + 600) * 10**9)
        finally:
            await venue.aclose()
    opened = [row.open_time // 10**9 for row in rows]
    whole = [first_s + i * MINUTE_S for i in range(count)]
    traded = [t for t in whole if name != "coinbase" or t // MINUTE_S % 7]
    # A quiet minute at either end has no neighbour to say that it was quiet.
    assert opened == [t for t in whole if traded[0] <= t <= traded[-1]]
    for row, open_s in zip(rows, opened):
        if open_s in traded:
            assert (row.open, row.high, row.low, row.close, row.volume_base) == tuple(map(float, numbers(open_s)))
        else:
            assert (row.open, row.close, row.volume_base) == (float(numbers(open_s - MINUTE_S)[3]), row.open, 0.0)


async def test_kraken_gives_no_more_than_it_keeps() -> None:
    async with CcxtServer(kraken) as server:
        venue = CcxtVenue(VENUES["kraken"], MarketKind.SPOT, Endpoint(server.rest_url), rng=random.Random(1))
        try:
            rows = await venue.candles("XMR/USD", Timeframe.M1, (OPEN_S - 2_000 * MINUTE_S) * 10**9, NOW_S * 10**9)
        finally:
            await venue.aclose()
    assert [row.open_time // 10**9 for row in rows] == [OPEN_S - i * MINUTE_S for i in range(719, 0, -1)]


async def test_luno_is_polled_and_gives_candles_with_a_key() -> None:
    async with CcxtServer(luno) as server:
        endpoint = Endpoint(server.rest_url, api_key="k", secret="s")
        venue = CcxtVenue(VENUES["luno"], MarketKind.SPOT, endpoint, rng=random.Random(1), poll_interval_s=0.05)
        stream = venue.stream(["BTC/ZAR"])
        try:
            seen = await until(stream, is_book)
            start_s = 1_600_000_020  # long ago: this venue has no clock, the machine's decides what is closed
            rows = await venue.candles("BTC/ZAR", Timeframe.M1, start_s * 10**9, (start_s + 50 * MINUTE_S) * 10**9)
        finally:
            await stream.aclose()
            await venue.aclose()
    (trade,), (book,) = of_kind(seen, Trade), of_kind(seen, BookUpdate)
    assert (trade.trade_id, trade.price, trade.quantity, trade.taker_side) == ("9", 1e6, 0.003, Side.SELL)
    assert (book.bids, book.asks, book.ts_event) == ((("999999", "0.5"),), (("1000001", "0.25"),), NOW_S * 10**9)
    assert len(rows) == 50

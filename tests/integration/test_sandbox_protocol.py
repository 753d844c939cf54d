"""The venue's protocol at the sandbox exchange beyond books, trades and candles: order-level books, keys, limits, headers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import zlib
from decimal import Decimal
from itertools import chain, pairwise, zip_longest
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from helios.venues.sandbox import wire
from tests.support.sandbox_client import LevelMirror, Message, client_of, decoded, frames, running, subscribe

KEY, SECRET = "test-key", "4961b74efac86b25cce8fbe4c9811c4c7a787b7a5996660afcc2e287ad864363"
Orders = dict[str, dict[str, str]]
"""Quantity by order id, by price, in the order in which they came."""


def take(side: Orders, entries: list[Message]) -> int:
    count = 0
    for entry in entries:
        queue = side.setdefault(entry["Price"], {})
        for order in entry["Orders"]:
            count += 1
            if order["quantity"] == "0":
                queue.pop(order["orderId"], None)
            else:
                queue[order["orderId"]] = order["quantity"]
        if not queue:
            del side[entry["Price"]]
    return count


def order_crc(bids: Orders, asks: Orders) -> int:
    sides = [
        [list(order) for price in sorted(side, key=float, reverse=side is bids) for order in side[price].items()][:25]
        for side in (bids, asks)
    ]  # fmt: skip
    turns = zip_longest(*sides, fillvalue=[])
    return zlib.crc32(":".join(chain.from_iterable(chain.from_iterable(turns))).encode())


def totals(side: Orders) -> dict[str, float]:
    return {price: float(sum(map(Decimal, queue.values()))) for price, queue in side.items()}


async def test_order_level_book_follows_by_the_venues_rules_and_agrees_with_the_levels() -> None:
    async with running(speed=240.0) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        await subscribe(socket, OB_L1_DIFF=["BTCZAR"], FULL_ORDERBOOK_UPDATE=["BTCZAR"])
        found = await frames(socket, lambda texts: len(texts) > 240)
        rest = await _json(sandbox, "/v1/public/BTCZAR/orderbook/full")
    snapshot = decoded(found, "FULL_ORDERBOOK_SNAPSHOT")[0]["data"]
    bids: Orders = {}
    asks: Orders = {}
    take(bids, snapshot["Bids"])
    take(asks, snapshot["Asks"])
    assert order_crc(bids, asks) == snapshot["Checksum"]
    sequence = snapshot["SequenceNumber"]
    kept: set[str] = set()
    levels = LevelMirror(decoded(found, "OB_L1_SNAPSHOT")[0]["d"])
    for diff, message in zip(decoded(found, "OB_L1_DIFF"), decoded(found, "FULL_ORDERBOOK_UPDATE"), strict=False):
        data = message["data"]
        levels.apply(diff["d"])
        sequence += take(bids, data["Bids"]) + take(asks, data["Asks"])
        assert data["SequenceNumber"] == sequence
        assert order_crc(bids, asks) == data["Checksum"]
        assert totals(bids) == {level[0]: float(level[1]) for level in levels.sides["b"].values()}
        kept |= {order for queue in bids.values() for order in queue}
    assert max(len(queue) for queue in asks.values()) > 1
    first = {order["orderId"] for entry in snapshot["Bids"] for order in entry["Orders"]}
    assert len(first & kept) > 20  # identifiers stay
    prices = [float(order["price"]) for order in rest["Asks"]]
    assert prices == sorted(prices)
    assert len(set(prices)) < len(prices)
    assert rest["Asks"][0].keys() == {"side", "quantity", "price", "currencyPair", "id", "positionAtPrice"}


async def test_truncated_snapshots_are_the_top_of_the_whole_book() -> None:
    async with running(speed=240.0) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        await subscribe(socket, OB_L1_D5_SNAPSHOT=["btczar"], OB_L1_D1_SNAPSHOT=["BTCZAR"])
        found = await frames(socket, lambda texts: len(decoded(texts, "OB_L1_D5_SNAPSHOT")) > 20)
    five, one = decoded(found, "OB_L1_D5_SNAPSHOT"), decoded(found, "OB_L1_D1_SNAPSHOT")
    for message in five:
        assert (message["ps"], message["d"].keys()) == ("BTCZAR", {"lc", "a", "b"})
        assert [len(message["d"][side]) for side in "ab"] == [5, 5]
        assert float(message["d"]["b"][0][0]) < float(message["d"]["a"][0][0])
    assert [len(message["d"]["b"]) for message in one] == [1] * len(one)
    assert all(a["d"] != b["d"] for a, b in pairwise(five))
    assert sorted(wire.DEPTHS.values()) == [1, 5, 10, 20, 40, 80]


def headers(secret: str, path: str = "/ws/trade") -> dict[str, str]:
    stamp = str(time.time_ns() // 1_000_000)
    signature = hmac.new(secret.encode(), f"{stamp}GET{path}".encode(), hashlib.sha512).hexdigest()
    return {"X-VALR-API-KEY": KEY, "X-VALR-SIGNATURE": signature, "X-VALR-TIMESTAMP": stamp}


async def test_signed_upgrades_are_told_so_and_outlive_the_others() -> None:
    async with (
        running(lifetime_s=0.4, api_keys=((KEY, SECRET),)) as sandbox,
        connect(sandbox.ws_url, additional_headers=headers(SECRET)) as known,
        connect(sandbox.ws_url, max_queue=None) as other,
    ):
        assert json.loads(await known.recv()) == {"type": "AUTHENTICATED"}
        await subscribe(other, NEW_TRADE=["BTCZAR"])
        with pytest.raises(ConnectionClosed):
            await frames(other, lambda _: False)
        await known.send('{"type":"PING"}')
        assert json.loads(await asyncio.wait_for(known.recv(), 5.0))["type"] == "PONG"


@pytest.mark.parametrize("wrong", [headers("another"), headers(SECRET, "/ws/account"), headers(SECRET) | {"X-VALR-API-KEY": "?"}])
async def test_wrong_signatures_close_with_1007(wrong: dict[str, str]) -> None:
    async with running(api_keys=((KEY, SECRET),)) as sandbox, connect(sandbox.ws_url, additional_headers=wrong) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 5.0)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1007, "Request has an invalid signature")


async def test_compression_is_agreed_to_where_it_is_on() -> None:
    for compress in (False, True):
        async with running(compress=compress) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
            assert [extension.name for extension in socket.protocol.extensions] == (["permessage-deflate"] if compress else [])
            await subscribe(socket, OB_L1_DIFF=["BTCZAR"])
            assert decoded(await frames(socket, lambda texts: len(texts) > 3), "OB_L1_SNAPSHOT")


async def test_public_routes_are_limited_apart_from_the_quick_ones() -> None:
    async with running(rate_limits=True) as sandbox, client_of(sandbox) as client:
        await _until_early_in_the_minute()
        answers = [await client.get("/v1/public/BTCZAR/orderbook") for _ in range(31)]
        assert [answer.status_code for answer in answers] == [200] * 30 + [429]
        assert answers[-1].headers["x-valr-ratelimited"] == "true"
        assert (await client.get("/v1/public/time")).status_code == 200
        assert sandbox.switch.counts.as_dict() == {"limited_public": 1}
        statuses = [(await client.get("/v1/public/status")).status_code for _ in range(60)]
        assert 429 in statuses


async def test_connects_are_limited_to_sixty_a_minute() -> None:
    async with running(rate_limits=True) as sandbox:
        await _until_early_in_the_minute()
        for _ in range(60):
            async with connect(sandbox.ws_url):
                pass
        with pytest.raises(InvalidStatus) as caught:
            await connect(sandbox.ws_url).__aenter__()
        assert caught.value.response.status_code == 429


@pytest.mark.parametrize(("path", "max_age"), [
    ("/v1/public/BTCZAR/orderbook", 30), ("/v1/public/BTCZAR/trades", 30), ("/v1/public/pairs", 60), ("/v1/public/marketsummary", 60),
    ("/v1/public/BTCZAR/marketsummary", 10), ("/v1/public/btczar/ordertypes", 60), ("/v1/public/time", None),
    ("/v1/public/BTCZAR/buckets", None),
])  # fmt: skip
async def test_answers_say_how_long_they_may_be_kept(path: str, max_age: int | None) -> None:
    async with running() as sandbox, client_of(sandbox) as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers.get("cache-control") == (None if max_age is None else f"max-age={max_age},public")
    assert answer.headers.get("age") == (None if max_age is None else "0")


async def test_order_types_and_kinds_of_pairs() -> None:
    async with running() as sandbox:
        types = await _json(sandbox, "/v1/public/BTCZAR/ordertypes")
        assert "LIMIT_POST_ONLY" in types
        every = await _json(sandbox, "/v1/public/ordertypes")
        assert every == [{"currencyPair": pair, "orderTypes": types} for pair in ("BTCZAR", "ETHZAR")]
        assert await _json(sandbox, "/v1/public/pairs/SPOT") == await _json(sandbox, "/v1/public/pairs")
        assert await _json(sandbox, "/v1/public/pairs/FUTURE") == []
        assert [row["symbol"] for row in await _json(sandbox, "/v1/public/currencies")] == ["BTC", "R", "ETH"]
        assert (await _json(sandbox, "/v1/public/NOPEZAR/ordertypes"))["code"] == -21


async def test_trades_are_cut_by_time_and_skip() -> None:
    async with running(speed=600.0) as sandbox, client_of(sandbox) as client:
        await asyncio.sleep(0.4)
        every = (await client.get("/v1/public/BTCZAR/trades?limit=20")).json()
        since, until = every[10]["tradedAt"], every[3]["tradedAt"]
        cut = (await client.get("/v1/public/BTCZAR/trades", params={"startTime": since, "endTime": until})).json()
        assert [trade["id"] for trade in cut] == [t["id"] for t in every if since <= t["tradedAt"] < until]
        before = {"beforeId": every[4]["id"], "skip": 2, "limit": 3}
        page = (await client.get("/v1/public/BTCZAR/trades", params=before)).json()
        assert [trade["id"] for trade in page] == [trade["id"] for trade in every[7:10]]


async def test_fifty_symbols_by_name_trade_at_once() -> None:
    names = tuple(f"SYM{number:02d}/ZAR" for number in range(50))
    async with running(symbols=names, speed=60.0) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        pairs = await _json(sandbox, "/v1/public/pairs")
        assert [pair["shortName"] for pair in pairs] == list(names)
        await subscribe(socket, NEW_TRADE=[name.replace("/", "") for name in names])
        found = await frames(socket, lambda texts: len(texts) >= 400, 20.0)
    assert len(decoded(found, "SUBSCRIBED")) == 50
    assert len({message["currencyPairSymbol"] for message in decoded(found, "NEW_TRADE")}) > 40


async def _json(sandbox: Any, path: str) -> Any:
    async with client_of(sandbox) as client:
        return (await client.get(path)).json()


async def _until_early_in_the_minute() -> None:
    # The limits count wall minutes; a test of seconds must not lie across two of them.
    late_s = time.time() % 60.0
    if late_s > 55.0:
        await asyncio.sleep(60.1 - late_s)

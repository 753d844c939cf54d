"""Recorded captures of other venues: what a server made of them says, and what an independent reading of them holds.

Nothing here uses ccxt or Helios' mapping: the numbers are read from the received lines themselves.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import zstandard

from helios.domain.enums import MarketKind, Side

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))
SAMPLES = RECORDED / "ws-samples-cryptofeed"
SESSION = RECORDED / "binance-l2-2024-07-18/usdm"

TradeRow = tuple[str, str, str, str, Side, int]  # symbol, id, price, quantity, taker side, ns
Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]  # bids and asks, price to quantity


@cache
def lines(name: str) -> list[dict[str, Any]]:
    """Read one capture."""
    raw = zstandard.ZstdDecompressor().stream_reader((SAMPLES / f"{name}.jsonl.zst").read_bytes()).read()
    return [json.loads(line) for line in raw.decode().splitlines()]


def received(name: str, conn: str = "") -> list[Any]:
    """Return the decoded frames of a capture."""
    return [json.loads(row["data"]) for row in lines(name) if row["t"] == "recv" and conn in row["conn"]]


def http_answer(name: str, path: str, query: Mapping[str, str]) -> Any:
    """Return the recorded body of the request that agrees with `path` and in every common parameter, else a 404."""
    for row in lines(name):
        if row["t"] != "http":
            continue
        url = urlsplit(row["url"])
        if url.path == path and all(query.get(key, value) == value for key, value in parse_qsl(url.query) if key != "limit"):
            return row["data"]
    return 404, {}, '{"code": -1, "msg": "not recorded"}'


def put(side: dict[Decimal, Decimal], price: str, quantity: str) -> None:
    """Set or remove a level."""
    if Decimal(quantity) == 0:
        side.pop(Decimal(price), None)
    else:
        side[Decimal(price)] = Decimal(quantity)


@dataclass
class Capture:
    """One venue's recording as a server and as a truth.

    `speak` answers a subscription with its acknowledgement and all frames of it in recorded order; `trades` and `book` are
    the independent reading.
    """

    venue: str
    kind: MarketKind
    name: str
    pairs: dict[str, str]  # venue's pair -> symbol
    options: dict[str, Any] = field(default_factory=dict)
    book_depth: int | None = None
    pace_s: float = 0.002  # of the server, so that changes come one after another and not only their sum

    def ask(self, path: str, query: dict[str, str]) -> Any:
        return http_answer(self.name, path, query)

    def speak(self, path: str, message: Any) -> list[str]:
        raise NotImplementedError

    def trades(self) -> list[TradeRow]:
        raise NotImplementedError

    def book(self, symbol: str) -> Sides:
        raise NotImplementedError


class Binance(Capture):
    trade_event = "aggTrade"
    trade_id = "a"

    def frames(self) -> Iterator[tuple[str, Any]]:
        for frame in received(self.name):
            yield frame["stream"], frame["data"]

    def snapshot(self, pair: str) -> Any:
        path = "/fapi/v1/depth" if self.kind is MarketKind.PERP else "/api/v3/depth"
        return json.loads(http_answer(self.name, path, {"symbol": pair}))

    def speak(self, path: str, message: Any) -> list[str]:
        wanted = set(message["params"])
        frames = [json.dumps(data) for stream, data in self.frames() if stream.replace("@0ms", "@100ms") in wanted]
        return [json.dumps({"result": None, "id": message["id"]}), *frames]

    def trades(self) -> list[TradeRow]:
        return [
            (self.pairs[d["s"]], str(d[self.trade_id]), d["p"], d["q"], Side.SELL if d["m"] else Side.BUY, d["T"] * 1_000_000)
            for _, d in self.frames()
            if d.get("e") == self.trade_event and d["s"] in self.pairs and Decimal(d["q"]) > 0
        ]

    def book(self, symbol: str) -> Sides:
        pair = next(p for p, s in self.pairs.items() if s == symbol)
        first = self.snapshot(pair)
        bids, asks = ({Decimal(p): Decimal(q) for p, q, *_ in first[side]} for side in ("bids", "asks"))
        for _, d in self.frames():
            if d.get("e") == "depthUpdate" and d["s"] == pair and d["u"] > first["lastUpdateId"]:
                for side, rows in ((bids, d["b"]), (asks, d["a"])):
                    for price, quantity, *_ in rows:
                        put(side, price, quantity)
        return bids, asks


class BinanceSession(Binance):
    """The raw session of one perpetual; `name` is the pair."""

    trade_event = "trade"
    trade_id = "t"

    def frames(self) -> Iterator[tuple[str, Any]]:
        return iter(self._read()[0])

    def snapshot(self, pair: str) -> Any:
        return self._read()[1]

    def ask(self, path: str, query: dict[str, str]) -> Any:
        # The session holds no list of contracts; that of the other perpetual recording has these pairs too.
        return json.dumps(self._read()[1]) if path.endswith("/depth") else http_answer("BINANCE_FUTURES", path, query)

    def _read(self) -> tuple[list[tuple[str, Any]], Any]:
        return _session(self.name)


@cache
def _session(pair: str) -> tuple[list[tuple[str, Any]], Any]:
    frames: list[tuple[str, Any]] = []
    snapshot = None
    for path in sorted(SESSION.glob(f"{pair}_*.raw.gz")):
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            row = json.loads(line.split(" ", 1)[1])
            if "lastUpdateId" in row:
                snapshot = snapshot or row
            else:
                frames.append((row["stream"], row["data"]))
    return frames, snapshot


class Bybit(Capture):
    def ask(self, path: str, query: dict[str, str]) -> Any:
        if query.get("status") == "PreLaunch":  # asked by ccxt, not by the recorder
            return {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [], "nextPageCursor": ""}}
        return super().ask(path, query)

    def speak(self, path: str, message: Any) -> list[str]:
        if message["op"] != "subscribe":
            return [json.dumps({"op": "pong", "success": True, "ret_msg": "pong", "req_id": message.get("req_id", "")})]
        wanted = set(message["args"])
        ack = {"success": True, "ret_msg": "", "conn_id": "x", "req_id": message.get("req_id", ""), "op": "subscribe"}
        return [json.dumps(ack), *[json.dumps(f) for f in self._frames() if f.get("topic") in wanted]]

    def trades(self) -> list[TradeRow]:
        return [
            (self.pairs[t["s"]], t["i"], t["p"], t["v"], Side.BUY if t["S"] == "Buy" else Side.SELL, t["T"] * 1_000_000)
            for f in self._frames()
            if f.get("topic", "").startswith("publicTrade")
            for t in f["data"]
            if t["s"] in self.pairs
        ]

    def book(self, symbol: str) -> Sides:
        pair = next(p for p, s in self.pairs.items() if s == symbol)
        bids: dict[Decimal, Decimal] = {}
        asks: dict[Decimal, Decimal] = {}
        for f in self._frames():
            if f.get("topic") == f"orderbook.200.{pair}":
                if f["type"] == "snapshot":
                    bids.clear()
                    asks.clear()
                for side, rows in ((bids, f["data"]["b"]), (asks, f["data"]["a"])):
                    for price, quantity in rows:
                        put(side, price, quantity)
        return bids, asks

    def _frames(self) -> list[Any]:
        return received(self.name, "ws.2" if self.kind is MarketKind.PERP else "ws.3")


class Okx(Capture):
    def speak(self, path: str, message: Any) -> list[str]:
        if message == "ping":
            return ["pong"]
        acks = [json.dumps({"event": "subscribe", "arg": arg, "connId": "x"}) for arg in message["args"]]
        return acks + [json.dumps(f) for f in received(self.name) if "data" in f and f["arg"] in message["args"]]

    def trades(self) -> list[TradeRow]:
        return [
            (self.pairs[t["instId"]], t["tradeId"], t["px"], t["sz"], Side[t["side"].upper()], int(t["ts"]) * 1_000_000)
            for f in received(self.name)
            if f["arg"]["channel"] == "trades" and "data" in f
            for t in f["data"]
            if t["instId"] in self.pairs
        ]

    def book(self, symbol: str) -> Sides:
        pair = next(p for p, s in self.pairs.items() if s == symbol)
        bids: dict[Decimal, Decimal] = {}
        asks: dict[Decimal, Decimal] = {}
        for f in received(self.name):
            if f["arg"] == {"channel": "books", "instId": pair} and "data" in f:
                for side, name in ((bids, "bids"), (asks, "asks")):
                    for price, quantity, *_ in f["data"][0][name]:
                        put(side, price, quantity)
        return bids, asks


class Coinbase(Capture):
    def speak(self, path: str, message: Any) -> list[str]:
        channel = {"level2": "l2_data"}.get(message["channel"], message["channel"])
        ack = {
            "channel": "subscriptions",
            "sequence_num": 0,
            "events": [{"subscriptions": {message["channel"]: message["product_ids"]}}],
        }
        return [json.dumps(ack), *[json.dumps(f) for f in received(self.name) if f["channel"] == channel]]

    def trades(self) -> list[TradeRow]:
        rows: list[TradeRow] = []
        for f in received(self.name):
            for event in f["events"] if f["channel"] == "market_trades" else []:
                # Newest first within an event; `side` is the maker's.
                for t in reversed(event["trades"]):
                    taker = Side.SELL if t["side"] == "BUY" else Side.BUY
                    rows.append((self.pairs[t["product_id"]], t["trade_id"], t["price"], t["size"], taker, iso_ns(t["time"])))
        return rows

    def book(self, symbol: str) -> Sides:
        pair = next(p for p, s in self.pairs.items() if s == symbol)
        sides: dict[str, dict[Decimal, Decimal]] = {"bid": {}, "offer": {}}
        for f in received(self.name):
            for event in f["events"] if f["channel"] == "l2_data" else []:
                if event["product_id"] == pair:
                    for row in event["updates"]:
                        put(sides[row["side"]], row["price_level"], row["new_quantity"])
        return sides["bid"], sides["offer"]

    def quotes_and_trades(self) -> Iterator[tuple[str, Decimal, Decimal, Decimal, Side]]:
        """Yield (product, best bid, best ask, price, side as written) of each print, with the quote before it."""
        quotes: dict[str, tuple[Decimal, Decimal]] = {}
        for f in received(self.name):
            for event in f["events"]:
                for ticker in event.get("tickers", []):
                    quotes[ticker["product_id"]] = (Decimal(ticker["best_bid"]), Decimal(ticker["best_ask"]))
                for t in reversed(event.get("trades", [])):
                    if t["product_id"] in quotes and event["type"] == "update":
                        yield t["product_id"], *quotes[t["product_id"]], Decimal(t["price"]), Side[t["side"]]


class Kraken(Capture):
    """Recorded in protocol v1, spoken as v2: the same prices, quantities and times in v2's frames, as bare JSON numbers."""

    def ask(self, path: str, query: dict[str, str]) -> Any:
        body = super().ask(path, query)
        if path.endswith("AssetPairs"):  # `status` is younger than the recording
            pairs = json.loads(body)["result"]
            return {"error": [], "result": {name: {"status": "online", **pair} for name, pair in pairs.items()}}
        return body

    def speak(self, path: str, message: Any) -> list[str]:
        if message["method"] == "ping":
            return [json.dumps({"method": "pong", "req_id": message.get("req_id")})]
        channel, symbols = message["params"]["channel"], set(message["params"]["symbol"])
        acks = [
            json.dumps(
                {"method": "subscribe", "success": True, "req_id": message["req_id"], "result": {"channel": channel, "symbol": s}}
            )
            for s in sorted(symbols)
        ]
        make: Callable[[], Iterator[tuple[str, str]]] = self._v2_trades if channel == "trade" else self._v2_books
        return acks + [frame for symbol, frame in make() if symbol in symbols]

    def trades(self) -> list[TradeRow]:
        return [
            (symbol, str(number), price, volume, Side.BUY if side == "b" else Side.SELL, _epoch_ns(time))
            for number, (symbol, price, volume, time, side) in enumerate(self._v1_trades(), 1)
            if symbol in self.pairs.values()
        ]

    def book(self, symbol: str) -> Sides:
        bids: dict[Decimal, Decimal] = {}
        asks: dict[Decimal, Decimal] = {}
        for name, parts in self._v1_books():
            if name == symbol:
                for part in parts:
                    for side, keys in ((bids, ("bs", "b")), (asks, ("as", "a"))):
                        for price, quantity, *_ in [row for key in keys for row in part.get(key, [])]:
                            put(side, price, quantity)
        return bids, asks

    def _v1_trades(self) -> Iterator[tuple[str, str, str, str, str]]:
        for f in received(self.name, "ws.48"):
            if isinstance(f, list) and f[-2] == "trade":
                for price, volume, time, side, *_ in f[1]:
                    yield f[-1].replace("XBT", "BTC"), price, volume, time, side

    def _v1_books(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for f in received(self.name):
            if isinstance(f, list) and str(f[-2]).startswith("book"):
                yield f[-1].replace("XBT", "BTC"), f[1:-2]

    def _v2_trades(self) -> Iterator[tuple[str, str]]:
        for number, (symbol, price, volume, time, side) in enumerate(self._v1_trades(), 1):
            yield (
                symbol,
                (
                    f'{{"channel":"trade","type":"update","data":[{{"symbol":"{symbol}","side":"{"buy" if side == "b" else "sell"}",'
                    f'"price":{price},"qty":{volume},"ord_type":"limit","trade_id":{number},"timestamp":"{_iso(time)}"}}]}}'
                ),
            )

    def _v2_books(self) -> Iterator[tuple[str, str]]:
        for symbol, parts in self._v1_books():
            is_snapshot = "as" in parts[0] or "bs" in parts[0]
            rows = {
                side: [r for part in parts for key in keys for r in part.get(key, [])]
                for side, keys in (("bids", ("bs", "b")), ("asks", ("as", "a")))
            }
            sides = ",".join(
                f'"{side}":[{",".join(f"""{{"price":{r[0]},"qty":{r[1]}}}""" for r in levels)}]' for side, levels in rows.items()
            )
            times = [r[2] for levels in rows.values() for r in levels]
            yield (
                symbol,
                (
                    f'{{"channel":"book","type":"{"snapshot" if is_snapshot else "update"}","data":[{{"symbol":"{symbol}",{sides},'
                    f'"checksum":0,"timestamp":"{_iso(max(times, key=Decimal))}"}}]}}'
                ),
            )


def iso_ns(text: str) -> int:
    """Return the ns of an ISO time in UTC."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 1_000_000_000 + int(rest.ljust(9, "0"))


def _epoch_ns(seconds: str) -> int:
    return int(Decimal(seconds) * 1_000_000_000)


def _iso(seconds: str) -> str:
    whole, _, rest = seconds.partition(".")
    return f"{datetime.fromtimestamp(int(whole), UTC):%Y-%m-%dT%H:%M:%S}.{rest or '0'}Z"


SPOT, PERP = MarketKind.SPOT, MarketKind.PERP


def captures() -> list[Capture]:
    """Return every recording that ccxt can be spoken to with."""
    agg = {"watchTradesForSymbols": {"name": "aggTrade"}}
    single = {"watchTradesForSymbols": {"name": "trade"}}
    perps = {f"{c}USDT": f"{c}/USDT:USDT" for c in ("SUSHI", "AKRO", "KEEP", "CTK")}
    return [
        Binance(
            "binance", SPOT, "BINANCE", {"NKNUSDT": "NKN/USDT", "BLZETH": "BLZ/ETH", "LRCBTC": "LRC/BTC", "RUNEEUR": "RUNE/EUR"}, agg
        ),
        Binance("binance", PERP, "BINANCE_FUTURES", perps, agg),
        BinanceSession("binance", PERP, "BTCUSDT", {"BTCUSDT": "BTC/USDT:USDT"}, single, pace_s=0.01),
        Bybit("bybit", PERP, "BYBIT", {f"{c}USDT": f"{c}/USDT:USDT" for c in ("BTC", "ETH", "SOL", "DOGE")}),
        Bybit("bybit", SPOT, "BYBIT", {"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT"}),
        Okx("okx", SPOT, "OKX", {"BTC-USDT": "BTC/USDT"}),
        Coinbase("coinbase", SPOT, "COINBASE", {"BTC-USD": "BTC/USD", "ETH-USD": "ETH/USD"}),
        Kraken("kraken", SPOT, "KRAKEN", {"XMR/USD": "XMR/USD", "ADA/XBT": "ADA/BTC", "WAVES/EUR": "WAVES/EUR"}, book_depth=1000),
    ]

"""A scripted venue on 127.0.0.1 that speaks as much of VALR's public protocol as its client needs.

Test methods: `push` sends a frame to every socket, `cut` aborts them, `mute` makes the server deaf and dumb,
`answer_next` queues HTTP answers (status, headers, body) that come before the normal one, `refuse_next` statuses for upgrades,
`refuse_key` turns away whoever shows a key, by an HTTP status or by a close code.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Answer = tuple[int, dict[str, str], str | bytes]

BTCZAR = {
    "symbol": "BTCZAR", "baseCurrency": "BTC", "quoteCurrency": "ZAR", "shortName": "BTC/ZAR", "active": True,
    "minBaseAmount": "0.00001", "maxBaseAmount": "3.89", "minQuoteAmount": "10", "maxQuoteAmount": "5000000",
    "tickSize": "1", "baseDecimalPlaces": "8", "marginTradingAllowed": True, "currencyPairType": "SPOT",
}  # fmt: skip
ETHZAR = BTCZAR | {"symbol": "ETHZAR", "baseCurrency": "ETH", "shortName": "ETH/ZAR"}
PAIRS = [BTCZAR, ETHZAR]
SOCKET_PAIRS = [row["symbol"] for row in PAIRS]
"""What the socket knows; listed by REST or not."""


def iso(epoch_s: int) -> str:
    """Write epoch seconds as VALR writes the start of a bucket."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ValrServer:
    """Use as `async with ValrServer() as server`."""

    def __init__(self, now_s: int = 1_790_000_030, first_bucket_s: int = 0, keeps_time: bool = False) -> None:
        self.keeps_time = keeps_time  # whether its time is this machine's instead of `now_s`
        self.now_s = now_s
        self.first_bucket_s = first_bucket_s
        self.requests: list[str] = []
        self.received: list[dict[str, Any]] = []
        self.sockets: dict[ServerConnection, dict[str, list[str]]] = {}
        self.connections = 0
        self.skipped_buckets: set[int] = set()
        self.trades: list[dict[str, Any]] = []
        self.upgrades: list[Headers] = []
        self._refusals: deque[tuple[int, Sequence[tuple[str, str]]]] = deque()
        self._answers: deque[Answer] = deque()
        self._is_mute = False
        self._key_refusal = 0
        self._server: Server | None = None

    async def __aenter__(self) -> ValrServer:
        self._server = await serve(self._socket, "127.0.0.1", 0, process_request=self._process, ping_interval=None, close_timeout=0.2)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    # Test methods

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/ws/trade"

    def answer_next(self, answers: Iterable[Answer]) -> None:
        self._answers.extend(answers)

    def refuse_next(self, statuses: Iterable[int], headers: Sequence[tuple[str, str]] = ()) -> None:
        self._refusals.extend((status, headers) for status in statuses)

    def refuse_key(self, status_or_code: int) -> None:
        self._key_refusal = status_or_code

    def mute(self, is_mute: bool = True) -> None:
        self._is_mute = is_mute

    def cut(self) -> None:
        for socket in list(self.sockets):
            socket.transport.abort()

    async def push(self, frame: dict[str, Any] | str) -> None:
        for socket in list(self.sockets):
            with suppress(ConnectionClosed):  # its client has just gone
                await socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    def subscribes(self) -> list[dict[str, list[str]]]:
        frames = [frame["subscriptions"] for frame in self.received if frame["type"] == "SUBSCRIBE"]
        return [{row["event"]: row["pairs"] for row in rows} for rows in frames]

    # HTTP

    @property
    def _port(self) -> int:
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def _process(self, _: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            self.upgrades.append(request.headers)
            if self._key_refusal in (401, 403) and "X-VALR-API-KEY" in request.headers:
                self.refuse_next([self._key_refusal])
            return self._refusal()
        self.requests.append(request.path)
        status, headers, body = self._answers.popleft() if self._answers else self._route(request.path)
        content = body.encode() if isinstance(body, str) else body
        known = Headers(headers)
        known["Content-Length"] = str(len(content))
        known["Connection"] = "close"
        return Response(status, HTTPStatus(status).phrase, known, content)

    def _refusal(self) -> Response | None:
        if not self._refusals:
            return None
        status, headers = self._refusals.popleft()
        return Response(status, HTTPStatus(status).phrase, Headers([("Content-Length", "0"), *headers]), b"")

    def _route(self, path: str) -> Answer:
        url = urlsplit(path)
        if url.path == "/v1/public/time":
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z") if self.keeps_time else iso(self.now_s)
            return 200, {}, json.dumps({"epochTime": self.now_s, "time": now})
        if url.path == "/v1/public/status":
            return 200, {}, '{"status":"online"}'
        if url.path == "/v1/public/pairs":
            return 200, {}, json.dumps(PAIRS)
        if url.path.endswith("/buckets"):
            return self._buckets({name: values[0] for name, values in parse_qs(url.query).items()})
        if url.path.endswith("/trades"):
            return self._trades({name: values[0] for name, values in parse_qs(url.query).items()})
        return 404, {}, '{"code":-111,"message":"Market summary not found"}'

    def _buckets(self, query: dict[str, str]) -> Answer:
        period, start, end = int(query["periodSeconds"]), int(query["startTime"]), int(query["endTime"])
        if end - start > 300 * period:
            return 400, {}, '{"code":-11,"message":"Invalid Request"}'
        opens = range(-(-max(start, self.first_bucket_s) // period) * period, min(end, self.now_s) + 1, period)
        rows = [self._row(at, period) for at in reversed(opens) if at not in self.skipped_buckets]
        return 200, {}, json.dumps(rows[: int(query["limit"])])

    def _trades(self, query: dict[str, str]) -> Answer:
        """Newest first; `beforeId` names the trade to start after."""
        rows = self.trades[::-1]
        if "beforeId" in query:
            rows = rows[[row["id"] for row in rows].index(query["beforeId"]) + 1 :]
        return 200, {"Age": "12"}, json.dumps(rows[: int(query["limit"])])

    def _row(self, at: int, period: int) -> dict[str, Any]:
        price = 1_000_000 + at // period % 1000
        prices = {"open": str(price), "high": str(price + 5), "low": str(price - 5), "close": str(price + 1)}
        rest = {"volume": "0.5", "quoteVolume": "500000", "startTime": iso(at), "bucketPeriodInSeconds": period}
        return {"currencyPairSymbol": "BTCZAR"} | prices | rest

    # Socket

    async def _socket(self, socket: ServerConnection) -> None:
        self.connections += 1
        if self._key_refusal >= 1000 and socket.request is not None and "X-VALR-API-KEY" in socket.request.headers:
            await socket.close(self._key_refusal, "Request has an invalid signature")
            return
        self.sockets[socket] = {}
        try:
            async for text in socket:
                if not self._is_mute:
                    await self._handle(socket, json.loads(text))
        except ConnectionClosed:
            return
        finally:
            del self.sockets[socket]

    async def _handle(self, socket: ServerConnection, frame: dict[str, Any]) -> None:
        self.received.append(frame)
        if frame["type"] == "PING":
            is_idle = not any(self.sockets[socket].values())
            await socket.send(json.dumps({"type": "PONG"} | ({"message": "NO_SUBSCRIPTIONS"} if is_idle else {})))
            return
        for row in frame["subscriptions"]:
            await self._replace(socket, row["event"], row["pairs"])

    async def _replace(self, socket: ServerConnection, event: str, pairs: list[str]) -> None:
        listed = set(SOCKET_PAIRS)
        before, after = self.sockets[socket].get(event, []), [pair for pair in pairs if pair in listed]
        self.sockets[socket][event] = after
        for pair in sorted(set(before) - set(after)):
            await socket.send(json.dumps({"type": "UNSUBSCRIBED", "message": f"{event}:{pair}"}))
        for pair in pairs:
            if pair not in listed:
                text = f"Channel {event}, pair {pair} combination invalid"
                await socket.send(json.dumps({"type": "ERROR", "message": text}))
        for pair in [pair for pair in after if pair not in before]:
            await socket.send(json.dumps({"type": "SUBSCRIBED", "message": f"{event}:{pair}"}))
            if event == "OB_L1_DIFF":
                await socket.send(json.dumps(book_frame(pair, True, 100)))


def book_frame(pair: str, is_snapshot: bool, sequence: int) -> dict[str, Any]:
    """Return a book frame with one level a side."""
    levels = {"a": [["1000010", "0.5"]], "b": [["1000000", "0.25"]] if is_snapshot else []}
    kind = "OB_L1_SNAPSHOT" if is_snapshot else "OB_L1_DIFF"
    return {"type": kind, "ps": pair, "d": {"lc": 1_790_000_030_000, **levels, "sq": sequence, "cs": 7}}


def trade_frame(pair: str, price: str = "1000005", quantity: str = "0.01") -> dict[str, Any]:
    """Return a public trade as the venue sends it."""
    data = {"price": price, "quantity": quantity, "currencyPair": pair, "tradedAt": "2026-09-21T13:33:50.123Z"}
    return {"type": "NEW_TRADE", "currencyPairSymbol": pair, "data": data | {"takerSide": "buy", "id": "t-1"}}

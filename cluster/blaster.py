"""A venue that only sends: VALR's protocol at a fixed rate from prepared frames, to load symbol actors for `helios bench`.

Every frame carries the wall time at which it is sent, so that whoever took it can say how late it was.
"""

from __future__ import annotations

import argparse
import asyncio
import http
import json
import sys
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from helios.cli.contests_feed import PAIR, feed_frames

CYCLE_FRAMES = 10_000
BATCH_S = 0.005
_TIME, _ID = "@time@", "@id@"


class Tape:
    """Prepared frames of one pair, sent over and over; each round begins with a snapshot.

    Parameters
    ----------
    pair : str
        Name put into the frames.
    """

    def __init__(self, pair: str) -> None:
        self._parts = [_parts(frame, pair) for frame in feed_frames(CYCLE_FRAMES)]
        self._next = self._round = 0

    def frames(self, count: int, now_ms: int) -> list[str]:
        """Return the next frames, stamped with `now_ms`."""
        at = datetime.fromtimestamp(now_ms / 1e3, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        made = []
        for _ in range(count):
            if self._next == len(self._parts):
                self._next, self._round = 0, self._round + 1
            parts = self._parts[self._next]
            made.append(
                f"{parts[0]}{now_ms}{parts[1]}"
                if len(parts) == 2
                else f"{parts[0]}{at}{parts[1]}{now_ms}-{self._round}-{self._next}{parts[2]}"
            )
            self._next += 1
        return made


def _parts(frame: bytes, pair: str) -> list[str]:
    # What stands around the fields that differ at each sending: two pieces of a book frame, three of a trade.
    message = orjson.loads(frame)
    if "d" in message:
        message["ps"], message["d"]["lc"] = pair, _TIME
        return orjson.dumps(message).decode().split(f'"{_TIME}"')
    data = message["data"]
    message["currencyPairSymbol"] = data["currencyPair"] = pair
    data["tradedAt"], data["id"] = _TIME, _ID
    before, after = orjson.dumps(message).decode().split(_TIME)
    return [before, *after.split(_ID)]


async def blast(pairs: list[str], per_s: int, port: int = 0) -> None:
    """Serve until cancelled; prints the address as JSON once it listens."""

    async def pump(connection: ServerConnection, wanted: list[str]) -> None:
        tapes = [Tape(pair) for pair in wanted]
        begin_s, sent = time.monotonic(), 0
        while True:
            await asyncio.sleep(BATCH_S)
            due = int((time.monotonic() - begin_s) * per_s) - sent
            sent += due
            now_ms = time.time_ns() // 1_000_000
            for tape in tapes:
                for text in tape.frames(due, now_ms):
                    await connection.send(text)

    async def take(connection: ServerConnection) -> None:
        pumping: asyncio.Task[None] | None = None
        try:
            async for message in connection:
                request = orjson.loads(message)
                if request["type"] == "PING":
                    await connection.send('{"type":"PONG"}')
                elif pumping is None:
                    wanted = sorted({pair for s in request["subscriptions"] for pair in s["pairs"]})
                    for subscription in request["subscriptions"]:
                        for pair in subscription["pairs"]:
                            await connection.send(json.dumps({"type": "SUBSCRIBED", "message": f"{subscription['event']}:{pair}"}))
                    pumping = asyncio.create_task(pump(connection, wanted))
        except ConnectionClosed:
            pass
        finally:
            if pumping is not None:
                pumping.cancel()

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        return None if request.path == "/ws/trade" else _respond(connection, request.path, pairs)

    async with serve(take, "127.0.0.1", port, process_request=answer, compression=None, ping_interval=None) as server:
        print(json.dumps({"port": next(iter(server.sockets)).getsockname()[1]}), flush=True)
        await asyncio.Future()


def _respond(connection: ServerConnection, path: str, pairs: list[str]) -> Response:
    body = orjson.dumps(_rest(path, pairs))
    response = connection.respond(http.HTTPStatus.OK, body.decode())
    response.headers["Content-Type"] = "application/json"
    return response


def _rest(path: str, pairs: list[str]) -> object:
    parts = urlsplit(path)
    if parts.path.endswith("/time"):
        return {"epochTime": int(time.time()), "time": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
    if parts.path.endswith("/pairs"):
        return [_pair(pair) for pair in pairs]
    query = {name: int(values[0]) for name, values in parse_qs(parts.query).items() if values[0].isdigit()}
    period, end = query.get("periodSeconds", 60), min(query.get("endTime", 0), int(time.time()))
    first = -(-query.get("startTime", 0) // period) * period
    return [_bucket(parts.path.split("/")[-2], period, start) for start in range(first, end + 1, period)][::-1]


def _pair(pair: str) -> dict[str, object]:
    base = pair.removesuffix("ZAR")
    return {
        "symbol": pair, "baseCurrency": base, "quoteCurrency": "ZAR", "shortName": f"{base}/ZAR", "active": True,
        "minBaseAmount": "0.00001", "maxBaseAmount": "10", "minQuoteAmount": "10", "maxQuoteAmount": "5000000",
        "tickSize": "1", "baseDecimalPlaces": "8", "marginTradingAllowed": False, "currencyPairType": "SPOT",
    }  # fmt: skip


def _bucket(pair: str, period: int, start: int) -> dict[str, object]:
    text = datetime.fromtimestamp(start, UTC).isoformat().replace("+00:00", "Z")
    price = str(1_700_000 + start // period % 7)
    return {
        "currencyPairSymbol": pair, "bucketPeriodInSeconds": period, "startTime": text,
        "open": price, "high": price, "low": price, "close": price, "volume": "1", "quoteVolume": price,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python -m cluster.blaster`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", default=PAIR)
    parser.add_argument("--per-s", type=int, default=1_000)
    options = parser.parse_args(arguments)
    asyncio.run(blast(options.pairs.split(","), options.per_s))
    return 0


if __name__ == "__main__":
    sys.exit(main())

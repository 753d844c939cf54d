"""A plain client of the sandbox exchange: httpx and websockets, nothing of ours but the server."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import chain, zip_longest
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection

from helios.venues.sandbox.server import SandboxConfig, SandboxExchange

Message = dict[str, Any]
PAIRS = ["BTCZAR", "ETHZAR"]


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[SandboxExchange]:
    """Run an exchange of two symbols on a free port."""
    sandbox = SandboxExchange(SandboxConfig(**({"symbols": ("BTC/ZAR", "ETH/ZAR"), "start_ns": 1_750_000_020 * 10**9} | changes)))
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.stop()


@asynccontextmanager
async def client_of(sandbox: SandboxExchange) -> AsyncIterator[httpx.AsyncClient]:
    """Open a REST client; paths are whole."""
    async with httpx.AsyncClient(base_url=sandbox.rest_url, timeout=5.0) as client:
        yield client


async def subscribe(socket: ClientConnection, **pairs: list[str]) -> None:
    """Send one SUBSCRIBE."""
    subscriptions = [{"event": event, "pairs": names} for event, names in pairs.items()]
    await socket.send(json.dumps({"type": "SUBSCRIBE", "subscriptions": subscriptions}))


async def frames(socket: ClientConnection, done: Callable[[list[str]], bool], limit_s: float = 10.0) -> list[str]:
    """Return the frames until `done` says so of what came."""
    found: list[str] = []
    deadline = time.monotonic() + limit_s
    while not done(found):
        found.append(str(await asyncio.wait_for(socket.recv(), deadline - time.monotonic())))
    return found


def decoded(found: list[str], kind: str) -> list[Message]:
    """Return the messages of one type; frames that are no JSON are left out."""
    messages = []
    for text in found:
        try:
            messages.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return [message for message in messages if message.get("type") == kind]


class LevelMirror:
    """A book as a client keeps it, with a checksum of its own."""

    def __init__(self, snapshot: Message) -> None:
        self.sides = {side: {float(price): [price, quantity] for price, quantity in snapshot[side]} for side in "ba"}

    def apply(self, diff: Message) -> None:
        """Take a diff."""
        for side in "ba":
            for price, quantity in diff[side]:
                self.sides[side][float(price)] = [price, quantity]
                if quantity == "0":
                    del self.sides[side][float(price)]

    def crc(self) -> int:
        """Return the checksum over the best 25 levels."""
        bids, asks = self.sides["b"], self.sides["a"]
        turns = zip_longest((bids[p] for p in sorted(bids, reverse=True)[:25]), (asks[p] for p in sorted(asks)[:25]), fillvalue=[])
        return zlib.crc32(":".join(chain.from_iterable(chain.from_iterable(turns))).encode())

from __future__ import annotations

import asyncio
from typing import Any, cast

from websockets.asyncio.server import ServerConnection

from helios.venues.sandbox.clients import Client


class StuckConnection:
    """A peer that reads nothing: sends never return."""

    def __init__(self) -> None:
        self.transport = self
        self.aborted = False

    async def send(self, frame: bytes, text: bool) -> None:
        await asyncio.Event().wait()

    def abort(self) -> None:
        self.aborted = True


def stuck_client(queue_frames: int) -> tuple[StuckConnection, Client]:
    connection = StuckConnection()
    return connection, Client(cast(ServerConnection, cast(Any, connection)), ["BTCZAR"], queue_frames, 0.0)


async def test_client_that_reads_nothing_is_dropped_though_its_writer_hangs() -> None:
    connection, client = stuck_client(queue_frames=3)
    writer = asyncio.create_task(client.write())
    for _ in range(5):
        client.offer(b"{}")
        await asyncio.sleep(0)
    assert client.is_slow
    client.reap()
    assert not connection.aborted  # the writer gets the time to say 1008
    client.reap()
    assert connection.aborted
    writer.cancel()


async def test_client_within_its_queue_is_left_alone() -> None:
    connection, client = stuck_client(queue_frames=3)
    for _ in range(3):
        client.offer(b"{}")
    client.reap()
    client.reap()
    assert not connection.aborted

"""A server that speaks the Messages API over a local socket and answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Reply = tuple[int, Any]
Handler = Callable[[dict[str, Any]], Awaitable[Reply]]


class FakeMessages:
    """Keeps each request it got; `handler` turns one into status and JSON body (or raw text)."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-length"))
            request = json.loads(await reader.readexactly(length))
            self.headers.append(head)
            self.requests.append(request)
            status, body = await self._handler(request)
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
                "connection: close\r\n\r\n".encode()
                + data
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client gave up, which is what a deadline test wants
        finally:
            writer.close()


@asynccontextmanager
async def fake_messages(handler: Handler) -> AsyncIterator[FakeMessages]:
    """Run a server on a free port."""
    fake = FakeMessages(handler)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()


def tool_reply(tool_input: Any, name: str = "submit_verdict", tokens: tuple[int, int] = (900, 120)) -> Reply:
    """A message whose only block is a tool call."""
    return 200, {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use", "stop_sequence": None,
        "content": [{"type": "tool_use", "id": "t1", "name": name, "input": tool_input}],
        "usage": {"input_tokens": tokens[0], "output_tokens": tokens[1]},
    }  # fmt: skip

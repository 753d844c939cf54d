"""The live stream: one poll of the Supervisor, the same frame to every WebSocket.

Supervisor down: clients get `down` and keep their sockets. Client slow: it is dropped, the others do not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from helios.errors import HeliosError
from helios.store.pool import dump_json
from serve.backend import Backend
from serve.security import Security

AUTH_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 5.0
MAX_WAITING = 8
MAX_CLIENTS = 128
UNAUTHORIZED, TOO_MANY, TOO_SLOW = 4401, 4429, 4408


class Hub:
    """Push snapshots to all clients while there are any.

    Parameters
    ----------
    backend : Backend
    security : Security
    interval_s : float
        Between two polls.
    auth_timeout_s : float
        How long a client may take to show its token.
    """

    def __init__(self, backend: Backend, security: Security, interval_s: float, auth_timeout_s: float = AUTH_TIMEOUT_S) -> None:
        self._backend = backend
        self._security = security
        self._interval_s = interval_s
        self._auth_timeout_s = auth_timeout_s
        self._clients: set[asyncio.Queue[str | None]] = set()
        self._poller: asyncio.Task[None] | None = None
        self._n_open = 0

    @property
    def n_clients(self) -> int:
        """Authenticated clients."""
        return len(self._clients)

    async def serve(self, socket: WebSocket) -> None:
        """Handle one client until it leaves."""
        await socket.accept()
        if self._n_open >= MAX_CLIENTS:
            await socket.close(TOO_MANY, "too many clients")
            return
        self._n_open += 1
        try:
            if await self._is_authorized(socket):
                await self._stream(socket)
            else:
                await _close(socket, UNAUTHORIZED, "authentication failed")
        except WebSocketDisconnect:
            return
        finally:
            self._n_open -= 1

    async def aclose(self) -> None:
        """Stop polling and let every client go."""
        for queue in self._clients:
            _put(queue, None)
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _is_authorized(self, socket: WebSocket) -> bool:
        try:
            message = orjson.loads(await asyncio.wait_for(socket.receive_text(), self._auth_timeout_s))
        except (TimeoutError, orjson.JSONDecodeError, KeyError):  # KeyError: a binary frame
            return False
        if not isinstance(message, Mapping) or message.get("type") != "auth":
            return False
        token = message.get("token")
        return isinstance(token, str) and self._security.is_token(token)

    async def _stream(self, socket: WebSocket) -> None:
        queue: asyncio.Queue[str | None] = asyncio.Queue(MAX_WAITING)
        self._clients.add(queue)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="snapshot-poll")
        tasks = [asyncio.create_task(_send_all(socket, queue)), asyncio.create_task(_listen(socket, queue))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.discard(queue)
            for task in tasks:
                task.add_done_callback(_forget)
                task.cancel()

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while self._clients:
            started = loop.time()
            self._push(await self._frame())
            await asyncio.sleep(max(0.0, self._interval_s - (loop.time() - started)))

    async def _frame(self) -> str:
        try:
            message: dict[str, Any] = {"type": "snapshot", "data": await self._backend.snapshot()}
        except HeliosError as error:
            message = {"type": "down", "detail": str(error)}
        return dump_json(message).decode()

    def _push(self, frame: str) -> None:
        for queue in list(self._clients):
            if not queue.full():
                queue.put_nowait(frame)
            else:
                self._clients.discard(queue)
                _put(queue, None)


async def _send_all(socket: WebSocket, queue: asyncio.Queue[str | None]) -> None:
    while (frame := await queue.get()) is not None:
        try:
            await asyncio.wait_for(socket.send_text(frame), SEND_TIMEOUT_S)
        except TimeoutError:
            break
    await _close(socket, TOO_SLOW, "too slow, or the server is stopping")


async def _listen(socket: WebSocket, queue: asyncio.Queue[str | None]) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") == '{"type":"ping"}' and not queue.full():
            queue.put_nowait('{"type":"pong"}')


# A socket that broke while sending ends the client; there is nobody left to tell.
def _forget(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


# The end mark must get through even where the queue is full: what waits there is of no use any more.
def _put(queue: asyncio.Queue[str | None], item: str | None) -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(item)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    if socket.application_state is WebSocketState.CONNECTED and socket.client_state is WebSocketState.CONNECTED:
        with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            await asyncio.wait_for(socket.close(code, reason), SEND_TIMEOUT_S)

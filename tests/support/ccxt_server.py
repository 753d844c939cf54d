"""A venue on 127.0.0.1 for ccxt's client: HTTP answers by path and a script for the sockets.

Test methods: `answer_next` queues HTTP answers that come before the normal one, `push` sends a frame to every socket (of a path),
`cut` aborts them, `mute` makes the sockets deaf and dumb (pings included).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import WSMsgType, web

Answer = tuple[int, dict[str, str], str]
Ask = Callable[[str, dict[str, str]], Any]
Speak = Callable[[str, Any], list[str]]

CHUNK = 20


class CcxtServer:
    """Use as `async with CcxtServer(ask, speak) as server`.

    Parameters
    ----------
    ask : callable
        Path and query to what is answered: a string (sent as it is), JSON values, or an Answer.
    speak : callable
        Path and message of a socket to the frames that follow, sent in order, a few at a time.
    pace_s : float, default=0
        Pause between those.
    """

    def __init__(self, ask: Ask, speak: Speak = lambda path, message: [], pace_s: float = 0.0) -> None:
        self._ask = ask
        self._speak = speak
        self._pace_s = pace_s
        self._answers: deque[Answer] = deque()
        self._runner: web.AppRunner | None = None
        self._is_mute = False
        self._port = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.heard: list[Any] = []
        self.sockets: dict[web.WebSocketResponse, str] = {}  # to the path they came to
        self._transports: list[asyncio.BaseTransport] = []
        self.connections = 0

    async def __aenter__(self) -> CcxtServer:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = site._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        assert self._runner is not None
        await self._runner.cleanup()

    # Test methods

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    def answer_next(self, answers: Iterable[Answer]) -> None:
        self._answers.extend(answers)

    def mute(self, is_mute: bool = True) -> None:
        self._is_mute = is_mute

    def cut(self) -> None:
        for transport in self._transports:
            transport.abort()
        self._transports.clear()
        self.sockets.clear()

    async def push(self, frame: str, path: str = "") -> None:
        for socket, its_path in list(self.sockets.items()):
            if path in ("", its_path):
                await socket.send_str(frame)

    # The server

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        self.requests.append((request.path, dict(request.query)))
        answer = self._answers.popleft() if self._answers else self._ask(request.path, dict(request.query))
        status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(
            status=status, headers=headers, text=text, content_type="text/html" if text[:1] == "<" else "application/json"
        )

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.connections += 1
        self.sockets[socket] = request.path
        assert request.transport is not None
        self._transports.append(request.transport)
        async for message in socket:
            if self._is_mute:
                continue
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                await self._answer(socket, request.path, message.data)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, path: str, text: str) -> None:
        message = json.loads(text) if text[:1] in "{[" else text
        self.heard.append(message)
        for at, frame in enumerate(self._speak(path, message)):
            if socket.closed:
                return
            await socket.send_str(frame)
            if at % CHUNK == 0:
                await asyncio.sleep(self._pace_s)

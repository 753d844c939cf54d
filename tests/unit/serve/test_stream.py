"""The live stream: authentication, one poll for all, a desk that is down, clients that are slow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from helios.errors import TransportError
from serve.gateway import build_api
from serve.security import Security
from serve.stream import MAX_WAITING, Hub
from tests.support.desk_fake import FakeDesk
from tests.support.waiting import until

PATH = "/api/v1/stream"
HOST = {"host": "localhost"}
LOGIN = {"type": "auth", "token": "t"}


def make(desk: FakeDesk, auth_timeout_s: float = 5.0) -> tuple[TestClient, Hub]:
    security = Security(token="t")
    hub = Hub(desk, security, 0.02, auth_timeout_s)
    return TestClient(build_api(desk, security, hub=hub), base_url="http://localhost"), hub


@pytest.mark.parametrize("first", ["[]", "nonsense", '{"type":"auth"}', '{"type":"auth","token":"x"}', '{"type":"ping"}', "7"])
def test_anything_but_the_token_first_closes_4401(first: str) -> None:
    client, hub = make(FakeDesk())
    with client, client.websocket_connect(PATH, headers=HOST) as socket:
        socket.send_text(first)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 4401
        assert hub.n_clients == 0


def test_silence_instead_of_the_token_closes_4401() -> None:
    client, _ = make(FakeDesk(), auth_timeout_s=0.05)
    with client, client.websocket_connect(PATH, headers=HOST) as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_json()
    assert closed.value.code == 4401


def test_foreign_pages_cannot_connect() -> None:
    client, _ = make(FakeDesk())
    headers = HOST | {"origin": "http://evil.example"}
    with client, pytest.raises(WebSocketDisconnect), client.websocket_connect(PATH, headers=headers):
        pytest.fail("connected")


def test_snapshots_keep_coming_with_the_curve() -> None:
    desk = FakeDesk()
    client, _ = make(desk)
    with client, client.websocket_connect(PATH, headers=HOST) as socket:
        socket.send_json(LOGIN)
        first = socket.receive_json()
        assert first["type"] == "snapshot"
        assert len(first["data"]["equity_history"]) == 600
        desk.state = "PAUSED"
        assert any(socket.receive_json()["data"]["state"] == "PAUSED" for _ in range(10))


def test_a_ping_is_answered() -> None:
    client, _ = make(FakeDesk())
    with client, client.websocket_connect(PATH, headers=HOST) as socket:
        socket.send_json(LOGIN)
        socket.send_text("anything else is tolerated")
        socket.send_text('{"type":"ping"}')
        assert any(socket.receive_json()["type"] == "pong" for _ in range(20))


def test_a_dead_desk_says_down_and_recovers_on_the_same_socket() -> None:
    desk = FakeDesk()
    desk.error = TransportError("the supervisor is not running")
    client, _ = make(desk)
    with client, client.websocket_connect(PATH, headers=HOST) as socket:
        socket.send_json(LOGIN)
        assert socket.receive_json() == {"type": "down", "detail": "the supervisor is not running"}
        desk.error = None
        assert any(socket.receive_json()["type"] == "snapshot" for _ in range(10))


class FakeSocket:
    """A WebSocket whose sending may be blocked."""

    def __init__(self, is_slow: bool = False) -> None:
        from starlette.websockets import WebSocketState

        self.application_state = self.client_state = WebSocketState.CONNECTED
        self.is_slow = is_slow
        self.sent: list[str] = []
        self.gone = asyncio.Event()
        self.closed: int | None = None

    async def accept(self) -> None:
        return

    async def receive_text(self) -> str:
        return '{"type":"auth","token":"t"}'

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "websocket.disconnect"}

    async def send_text(self, text: str) -> None:
        if self.is_slow:
            await asyncio.Event().wait()
        self.sent.append(text)

    async def close(self, code: int, reason: str) -> None:
        self.closed = code


async def test_sixty_clients_share_one_poll_and_get_the_same_frames() -> None:
    desk = FakeDesk()
    hub = Hub(desk, Security(token="t"), 0.03)
    sockets = [FakeSocket() for _ in range(60)]
    tasks = [asyncio.create_task(hub.serve(s)) for s in sockets]  # type: ignore[arg-type]
    await asyncio.sleep(0.3)
    assert len(sockets[-1].sent) >= 3
    assert desk.n_snapshots <= len(sockets[0].sent) + 1
    assert all(s.sent[-3:] == sockets[0].sent[-3:] for s in sockets)
    for s in sockets:
        s.gone.set()
    await asyncio.gather(*tasks)
    assert hub.n_clients == 0
    await asyncio.sleep(0.05)
    polled = desk.n_snapshots
    await asyncio.sleep(0.1)
    assert desk.n_snapshots == polled  # nobody listens, nobody is asked


async def test_a_slow_client_holds_up_nobody_and_gets_no_more() -> None:
    hub = Hub(FakeDesk(), Security(token="t"), 0.01)
    slow, quick = FakeSocket(is_slow=True), FakeSocket()
    tasks = [asyncio.create_task(hub.serve(s)) for s in (slow, quick)]  # type: ignore[arg-type]
    await until(lambda: len(quick.sent) > MAX_WAITING + 2)
    assert slow.closed is None  # its frame is still on the way
    assert hub.n_clients == 1
    quick.gone.set()
    slow.gone.set()
    await asyncio.gather(*tasks)


async def test_a_client_that_takes_no_frame_in_time_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.stream.SEND_TIMEOUT_S", 0.05)
    slow = FakeSocket(is_slow=True)
    hub = Hub(FakeDesk(), Security(token="t"), 0.01)
    await asyncio.wait_for(hub.serve(slow), 5)  # type: ignore[arg-type]
    assert (slow.closed, hub.n_clients) == (4408, 0)

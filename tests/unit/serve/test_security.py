"""Limits, headers, and who may call under which name."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from helios.errors import ConfigError
from serve.gateway import build_api
from serve.security import MAX_BODY_BYTES, RateLimiter, Security
from tests.support.desk_fake import FakeDesk

AUTH = {"Authorization": "Bearer t"}


def client(**rules: int) -> TestClient:
    return TestClient(build_api(FakeDesk(), Security(token="t", **rules)), base_url="http://localhost")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/", "/health", "/static/app.js", "/api/v1/status", "/nothing"])
def test_every_answer_has_the_security_headers(path: str) -> None:
    headers = client().get(path).headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_data_is_not_cached() -> None:
    assert client().get("/api/v1/status", headers=AUTH).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("192.168.1.4", True),
        ("desk.example", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("[::1", False),
        ("evil@localhost", False),
        ("", False),
        (None, False),
    ],
)
def test_only_names_that_cannot_be_rebound_are_served(host: str | None, is_ours: bool) -> None:
    assert Security(token="t", allowed_hosts=("desk.example",)).is_host(host) is is_ours


def test_foreign_host_and_foreign_origin_are_refused_even_with_the_token() -> None:
    api = client()
    assert api.get("/api/v1/status", headers=AUTH | {"Host": "evil.example"}).status_code == 421
    assert api.post("/api/v1/engine/pause", headers=AUTH | {"Origin": "http://evil.example"}).status_code == 403
    assert api.post("/api/v1/engine/pause", headers=AUTH | {"Origin": "null"}).status_code == 403
    assert api.post("/api/v1/engine/pause", headers=AUTH | {"Origin": "http://localhost"}).status_code == 200


def test_too_many_calls_are_429_and_say_when_to_come_back() -> None:
    api = client(requests_per_min=3)
    assert [api.get("/api/v1/status", headers=AUTH).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = api.get("/api/v1/status", headers=AUTH)
    assert 1 <= int(answer.headers["retry-after"]) <= 20
    assert answer.json() == {"detail": "too many calls"}
    assert answer.headers["x-frame-options"] == "DENY"


def test_commands_have_their_own_limit() -> None:
    api = client(requests_per_min=1, commands_per_min=2)
    assert [api.get("/api/v1/status", headers=AUTH).status_code for _ in range(2)] == [200, 429]
    assert [api.post("/api/v1/engine/pause", headers=AUTH).status_code for _ in range(3)] == [200, 200, 429]


def test_strangers_cannot_use_up_the_operators_emergency_stop() -> None:
    api = client(failures_per_min=2, commands_per_min=1)
    assert [api.post("/api/v1/engine/emergency-stop").status_code for _ in range(3)] == [401, 401, 429]
    assert api.post("/api/v1/engine/emergency-stop", headers=AUTH).status_code == 200


def test_large_bodies_are_refused_unread() -> None:
    headers = AUTH | {"Content-Length": str(MAX_BODY_BYTES + 1)}
    assert client().post("/api/v1/predict", content=b"", headers=headers).status_code == 413


def test_bucket_refills_with_time() -> None:
    now = [0.0]
    limiter = RateLimiter(lambda: now[0])
    assert [limiter.wait_s("a", "k", 60) > 0 for _ in range(61)] == [False] * 60 + [True]
    assert limiter.wait_s("b", "k", 60) == 0
    now[0] = 1.0
    assert limiter.wait_s("a", "k", 60) == 0
    assert limiter.wait_s("a", "k", 60) == pytest.approx(1.0)


def test_an_empty_token_is_refused_and_a_token_never_shown() -> None:
    with pytest.raises(ConfigError):
        Security(token="")
    assert "abc123" not in repr(Security(token="abc123"))
    assert not Security(token="abc123").is_token("é\udcff")

"""Who may call the API and how often: token, rate limits, Host and Origin checks, security headers, body limits.

Pure ASGI, so that it also guards WebSockets and static files and never buffers a stream.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from helios.errors import ConfigError

COMMANDS = "/api/v1/engine/"
PUBLIC = frozenset({"/", "/health", "/openapi.json"})
"""Paths without a token, beside the dashboard's own files; none of them holds data. Everything else needs one."""
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
MAX_BODY_BYTES = 16 * 1024 * 1024
"""A predict call with 64 windows has 345,600 numbers."""
MAX_CLIENTS = 4_096


@dataclass(frozen=True, slots=True)
class Security:
    """Rules of one gateway.

    Attributes
    ----------
    token : str
        The bearer token; kept out of `repr`.
    requests_per_min : int
        Calls of one client and minute, commands not counted.
    commands_per_min : int
        Calls of `/api/v1/engine/*` of one client and minute.
    failures_per_min : int
        Calls without a valid token to anything but the page itself.
    allowed_hosts : tuple of str
        Host names beside localhost and plain IP addresses.

    Raises
    ------
    ConfigError
        If the token is empty.
    """

    token: str
    requests_per_min: int = 600
    commands_per_min: int = 60
    failures_per_min: int = 120
    allowed_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.token:
            raise ConfigError("the API needs a token")

    def __repr__(self) -> str:
        return "Security(token=***)"

    def is_token(self, given: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode())

    def is_authorized(self, authorization: str | None) -> bool:
        """Whether an Authorization header has the token."""
        scheme, _, given = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(given.strip())

    def is_host(self, host: str | None) -> bool:
        """Whether a Host header names this machine in a way that a foreign web page cannot rebind.

        An IP address cannot be rebound; of the names only localhost and the configured ones are ours.
        """
        name = host_name(host)
        return name is not None and (name == "localhost" or name in self.allowed_hosts or _is_ip(name))


class RateLimiter:
    """Token buckets, one per key; the oldest keys are forgotten beyond 4,096.

    Parameters
    ----------
    now : callable
        Monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, kind: str, per_min: int) -> float:
        """Take one call; return 0, or the seconds until one would be free."""
        now = self._now()
        left, since = self._buckets.pop((client, kind), (float(per_min), now))
        left = min(float(per_min), left + (now - since) * per_min / 60)
        allowed = left >= 1
        self._buckets[client, kind] = (left - 1 if allowed else left, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) * 60 / per_min


class SecurityMiddleware:
    """Refuse what must not reach the routes, and put security headers on every answer.

    Parameters
    ----------
    app : ASGI application
    security : Security
    limiter : RateLimiter, optional
    """

    def __init__(self, app: ASGIApp, security: Security, limiter: RateLimiter | None = None) -> None:
        self._app = app
        self._security = security
        self._limiter = limiter or RateLimiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4400 + refusal[0] % 100, "reason": refusal[1]})
        else:
            await _refuse(_with_headers(send), *refusal)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, dict[str, str]] | None:
        if not self._security.is_host(headers.get("host")):
            return 421, "this host name is not served here", {}
        if not _is_same_origin(headers):
            return 403, "calls from other web pages are refused", {}
        if _content_length(headers) > MAX_BODY_BYTES:
            return 413, f"a body may have at most {MAX_BODY_BYTES} bytes", {}
        wait_s = self._wait_s(scope, headers)
        if wait_s > 0:
            return 429, "too many calls", {"retry-after": str(math.ceil(wait_s))}
        if scope["type"] == "http" and _needs_token(scope["path"]) and not self._is_authorized(headers):
            return 401, "a bearer token is needed", {"www-authenticate": 'Bearer realm="helios"'}
        return None

    # Callers without a token have a bucket of their own: they cannot use up an operator's calls, least of all the
    # emergency stop's, even where all share one address.
    def _wait_s(self, scope: Scope, headers: dict[str, str]) -> float:
        client = scope["client"][0] if scope.get("client") else "unknown"
        rules = self._security
        if scope["type"] == "http" and not _needs_token(scope["path"]):
            return self._limiter.wait_s(client, "page", rules.requests_per_min)
        if scope["type"] == "http" and not self._is_authorized(headers):
            return self._limiter.wait_s(client, "failure", rules.failures_per_min)
        if scope["path"].startswith(COMMANDS):
            return self._limiter.wait_s(client, "command", rules.commands_per_min)
        return self._limiter.wait_s(client, scope["type"], rules.requests_per_min)

    def _is_authorized(self, headers: dict[str, str]) -> bool:
        return self._security.is_authorized(headers.get("authorization"))


def host_name(host: str | None) -> str | None:
    """Return the name of a Host header without its port and without the brackets of IPv6; None if it is malformed."""
    if not host or "@" in host or "/" in host:
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same_origin(headers: dict[str, str]) -> bool:
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _content_length(headers: dict[str, str]) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isdecimal() else MAX_BODY_BYTES + 1


def _needs_token(path: str) -> bool:
    return path not in PUBLIC and not path.startswith("/static/")


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            extra = list(HEADERS)
            if b"cache-control" not in present:
                extra.append((b"cache-control", b"no-store"))
            message["headers"] = [*message["headers"], *extra]
        await send(message)

    return wrapped


async def _refuse(send: Send, status: int, detail: str, headers: dict[str, str]) -> None:
    body = orjson.dumps({"detail": detail})
    fixed = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    own = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fixed + own})
    await send({"type": "http.response.body", "body": body})

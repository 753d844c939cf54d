"""The exchange's HTTP side: REST answers with the venue's headers, request limits and the faults of the plan; no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from helios.venues.sandbox.chaos import ReplyFaults
from helios.venues.sandbox.ratelimits import CONNECT, RateLimits, limit_of
from helios.venues.sandbox.rest import Reply, RestApi, View
from helios.venues.sandbox.switch import FaultSwitch

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=UTF-8"
MAX_AGE_S = {
    "orderbook": 30, "orderbook/full": 30, "trades": 30, "marketsummary": 60, "pairs": 60, "pairs/SPOT": 60, "pairs/FUTURE": 60,
    "currencies": 60, "ordertypes": 60,
}  # fmt: skip
ONE_SUMMARY_MAX_AGE_S = 10
TOO_MANY = b'{"message":"Too many requests"}'
PAGES = {502: b"""<!DOCTYPE html>
<html lang=en><meta charset=utf-8><title>Error 502 (Server Error)!!1</title>
<p><b>502.</b> <ins>That's an error.</ins><p>The server encountered a temporary error and could not complete your request.
<p>Please try again in 30 seconds.</html>
""", 400: b"""<!DOCTYPE html>
<html lang=en><meta charset=utf-8><title>Error 400 (Bad Request)!!1</title>
<p><b>400.</b> <ins>That's an error.</ins><p>Your client has issued a malformed or illegal request.</html>
"""}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What goes back to a client, after `delay_wall_s`."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]
    delay_wall_s: float = 0.0


class Edge:
    """Answers requests as the venue's front end does.

    Parameters
    ----------
    rest : RestApi
    switch : FaultSwitch
    limits : RateLimits, optional
        None: any number of requests.
    wall_ns : callable
        Wall clock, of the limits and the Date header.
    """

    def __init__(self, rest: RestApi, switch: FaultSwitch, limits: RateLimits | None, wall_ns: Callable[[], int]) -> None:
        self._rest = rest
        self._switch = switch
        self._limits = limits
        self._wall_ns = wall_ns

    def answer(self, target: str, address: str) -> HttpAnswer:
        """Answer a GET of `target` (path with query) by the client at `address`."""
        route = self._rest.route_of(target)
        if self._is_limited(address, route):
            return self._rate_limited(ReplyFaults())
        if self._switch.is_quiet:
            return self._json(route, target, self._rest.get(target), 0, 0.0)
        faults = self._switch.reply(route)
        if faults.status == 429:
            return self._rate_limited(faults)
        if faults.status in PAGES:
            headers = (("Content-Type", HTML_TYPE), ("Via", "1.1 google"), *self._common())
            return HttpAnswer(faults.status, PAGES[faults.status], headers, faults.delay_wall_s)
        reply = self._rest.get(target, View(int(faults.age_market_s * 1e9), self._switch.clock_error_ns(), faults.page))
        if faults.page and reply.status == 200:
            self._switch.counts.add(faults.page)
        return self._json(route, target, reply, int(faults.age_market_s), faults.delay_wall_s)

    def refuse_upgrade(self, address: str) -> HttpAnswer | None:
        """Return the answer that refuses a client's upgrade, None to accept it."""
        if self._limits is not None and not self._limits.admits(address, CONNECT, self._wall_ns()):
            self._switch.counts.add(CONNECT.name)
            return self._rate_limited(ReplyFaults())
        status = self._switch.refusal()
        if status == 429:
            return self._rate_limited(ReplyFaults())
        if status:
            return HttpAnswer(status, b'{"message":"Service unavailable"}', (("Content-Type", JSON_TYPE), *self._common()))
        return None

    def plain(self, reply: Reply) -> HttpAnswer:
        """Return a reply that no front end has touched."""
        return HttpAnswer(reply.status, reply.body, (("Content-Type", JSON_TYPE), *self._common()))

    def _is_limited(self, address: str, route: str) -> bool:
        limit = limit_of(route)
        if self._limits is None or self._limits.admits(address, limit, self._wall_ns()):
            return False
        self._switch.counts.add(limit.name)
        return True

    def _rate_limited(self, faults: ReplyFaults) -> HttpAnswer:
        headers = [("Content-Type", JSON_TYPE), ("x-valr-ratelimited", "true"), *self._common()]
        if faults.retry_after_s is not None:
            headers.append(("Retry-After", str(faults.retry_after_s)))
        return HttpAnswer(429, TOO_MANY, tuple(headers), faults.delay_wall_s)

    def _json(self, route: str, target: str, reply: Reply, age_s: int, delay_s: float) -> HttpAnswer:
        headers = [("Content-Type", JSON_TYPE), ("x-valr-upstream-service-time", "8"), ("Via", "1.1 google"), *self._common()]
        max_age = MAX_AGE_S.get(route)
        if route == "marketsummary" and not target.partition("?")[0].rstrip("/").endswith("public/marketsummary"):
            max_age = ONE_SUMMARY_MAX_AGE_S
        if max_age is not None:
            headers.append(("Cache-Control", f"max-age={max_age},public"))
        if max_age is not None or age_s:
            headers.append(("Age", str(age_s)))
        return HttpAnswer(reply.status, reply.body, tuple(headers), delay_s)

    def _common(self) -> tuple[tuple[str, str], ...]:
        return (("Date", formatdate(self._wall_ns() / 1e9, usegmt=True)),)

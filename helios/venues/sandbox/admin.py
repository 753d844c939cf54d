"""Routes for those who test against the sandbox: faults and truth. They exist only where the exchange is told to have them."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import orjson

from helios.errors import ConfigError
from helios.venues.sandbox import wire
from helios.venues.sandbox.faults import plan_of
from helios.venues.sandbox.rest import Reply
from helios.venues.sandbox.switch import FaultSwitch
from helios.venues.sandbox.ticks import SECOND_NS
from helios.venues.sandbox.truth import KEPT_MINUTES, Truth

PREFIX = "/sandbox/"
DEFAULT_MINUTES = 300


class Admin:
    """Answers `GET` and `PUT /sandbox/faults` and `GET /sandbox/truth/{pair}/minutes?start&end` (epoch seconds, oldest first).

    Parameters
    ----------
    switch : FaultSwitch
    truth : Truth
    pairs : collection of str
        Pairs that exist, upper case.
    now_ns : callable
        Present market time.
    speed : float
        Market seconds per wall second.
    """

    def __init__(self, switch: FaultSwitch, truth: Truth, pairs: list[str], now_ns: Callable[[], int], speed: float) -> None:
        self._switch = switch
        self._truth = truth
        self._pairs = pairs
        self._now_ns = now_ns
        self._speed = speed

    def answer(self, target: str, body: bytes | None) -> Reply:
        """Answer a request; `body` is that of a PUT, None for a GET."""
        parts = urlsplit(target)
        names = parts.path.removeprefix(PREFIX).rstrip("/").split("/")
        if names == ["faults"]:
            return self._faults() if body is None else self._put(body)
        if len(names) == 3 and names[0] == "truth" and names[2] == "minutes" and body is None:
            return self._minutes(names[1].upper(), dict(parse_qsl(parts.query)))
        return _refused(404, "no such route")

    def _faults(self) -> Reply:
        switch = self._switch
        return Reply(200, wire.dump({
            "plan": switch.plan.to_json(), "counters": switch.counts.as_dict(),
            "time": wire.iso_ns(self._now_ns()), "speed": self._speed,
        }))  # fmt: skip

    def _put(self, body: bytes) -> Reply:
        try:
            self._switch.put(plan_of(orjson.loads(body)))
        except (ConfigError, orjson.JSONDecodeError) as error:
            return _refused(400, str(error))
        return self._faults()

    def _minutes(self, pair: str, query: dict[str, str]) -> Reply:
        if pair not in self._pairs:
            return _refused(404, f"unknown pair {pair}")
        try:
            end = int(query.get("end", self._now_ns() // SECOND_NS))
            start = int(query.get("start", end - 60 * DEFAULT_MINUTES))
        except ValueError:
            return _refused(400, "start and end are epoch seconds")
        if end - start > 60 * KEPT_MINUTES:
            return _refused(400, f"at most {KEPT_MINUTES} minutes")
        return Reply(200, wire.dump(self._truth.minutes(pair, start * SECOND_NS, end * SECOND_NS)))


def _refused(status: int, message: str) -> Reply:
    return Reply(status, wire.dump({"message": message}))

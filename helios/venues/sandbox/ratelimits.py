"""VALR's request limits per client address, in fixed windows of wall time; no I/O.

References
----------
.. [1] VALR API documentation, "Rate limiting", docs.valr.com: public routes 30 a minute; buckets, time and status 20 a second;
   WebSocket connects 60 a minute; counters start anew with the wall clock's next minute or second.
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND_NS = 1_000_000_000
QUICK_ROUTES = frozenset({"buckets", "time", "status"})


@dataclass(frozen=True, slots=True)
class Limit:
    """So many in a window; `name` is the kind under which refusals are counted."""

    name: str
    calls: int
    window_s: int


PUBLIC = Limit("limited_public", 30, 60)
QUICK = Limit("limited_quick", 20, 1)
CONNECT = Limit("limited_connect", 60, 60)


class RateLimits:
    """Counts calls per address and limit."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], tuple[int, int]] = {}  # window number and calls in it

    def admits(self, address: str, limit: Limit, wall_ns: int) -> bool:
        """Whether one more call is within the limit; a refused call does not count."""
        window = wall_ns // (limit.window_s * SECOND_NS)
        began, calls = self._used.get((address, limit.name), (window, 0))
        calls = calls if began == window else 0
        if calls >= limit.calls:
            return False
        self._used[address, limit.name] = (window, calls + 1)
        return True


def limit_of(route: str) -> Limit:
    """Return the limit of a public REST route, named without its pair."""
    return QUICK if route in QUICK_ROUTES else PUBLIC

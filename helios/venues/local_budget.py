"""A request budget for one process alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from helios.errors import ConfigError, TransportError
from helios.venues.gcra import NS_PER_S, Gcra, Rate

MAX_WAIT_S = 120.0
WOKEN_EARLY_NS = 1_000_000  # a sleep may end a little early: that is no new pause


class LocalBudget:
    """A RequestBudget kept in memory.

    Parameters
    ----------
    rates : mapping of str to Rate
        Every route with its limit.
    max_wait_s : float, default=120.0
        Longest wait; who would have to wait longer is turned away instead.
    monotonic_ns, sleep : callable
        Monotonic nanoseconds, and waiting for some seconds.
    """

    def __init__(
        self,
        rates: Mapping[str, Rate],
        max_wait_s: float = MAX_WAIT_S,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._routes = {route: Gcra(rate) for route, rate in rates.items()}
        self._max_wait_ns = int(max_wait_s * NS_PER_S)
        self._monotonic_ns = monotonic_ns
        self._sleep = sleep
        self.admitted = 0

    async def admit(self, route: str) -> None:
        """Wait until one more request on `route` may be sent, and count it.

        Raises
        ------
        TransportError
            If the wait would be longer than `max_wait_s`.
        ConfigError
            If the route has no rate.
        """
        state = self._route(route)
        while True:
            wait_ns = state.reserve(self._monotonic_ns(), self._max_wait_ns)
            if wait_ns is None:
                raise TransportError(f"no request on {route} may be sent within {self._max_wait_ns / NS_PER_S:.0f} s")
            if wait_ns > 0:
                await self._sleep(wait_ns / NS_PER_S)
                if state.paused_ns(self._monotonic_ns()) > WOKEN_EARLY_NS:
                    continue
            self.admitted += 1
            return

    async def pause(self, route: str, pause_s: float) -> None:
        """Let nobody send on `route` for `pause_s` seconds."""
        self._route(route).pause(self._monotonic_ns(), int(pause_s * NS_PER_S))

    def charge(self, route: str, n_requests: int = 1) -> None:
        """Count requests on `route` that another budget admitted."""
        self._route(route).charge(self._monotonic_ns(), n_requests)

    def _route(self, route: str) -> Gcra:
        state = self._routes.get(route)
        if state is None:
            raise ConfigError(f"no rate is known for the route {route!r}: {', '.join(sorted(self._routes))}")
        return state

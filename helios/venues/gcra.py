"""How many requests fit into a limit: the generic cell rate algorithm, without a clock.

A stream of requests conforms to one every `interval` with a tolerance of `burst - 1` intervals. The state is one number, the
theoretical arrival time of the next request, so that a database row can hold it and one statement can advance it.

References
----------
.. [1] ITU-T Recommendation I.371 (2004), annex A, "Generic cell rate algorithm", virtual scheduling form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from helios.errors import ConfigError

NS_PER_S: Final = 1_000_000_000
MARGIN: Final = 1.05
"""Requests are spaced for a window longer by this factor: they reach the venue with different delays."""
BURST_SHARE: Final = 5  # a fifth of a limit may be used at once


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` requests in any `window_s` seconds, of which `burst` may come at once.

    Parameters
    ----------
    limit : int
        Of the venue.
    window_s : float
        Length of its window, seconds.
    burst : int, default=0
        0 stands for a fifth of the limit. The rest comes evenly: interval = window / (limit - burst), so that a burst and the
        requests of a whole window after it stay within the limit together.
    """

    limit: int
    window_s: float
    burst: int = 0

    def __post_init__(self) -> None:
        if self.limit < 1 or not self.window_s > 0 or not 0 <= self.burst <= self.limit:
            raise ConfigError(f"impossible rate: {self}")

    @property
    def at_once(self) -> int:
        """Requests admitted together after a rest."""
        return self.burst or max(1, self.limit // BURST_SHARE)

    @property
    def interval_ns(self) -> int:
        """Distance of requests in the long run, ns."""
        # One request in a window is a window apart, even where the whole limit is the burst.
        return int(self.window_s * NS_PER_S * MARGIN / max(1, self.limit - self.at_once)) + 1

    @property
    def tolerance_ns(self) -> int:
        """How far the theoretical arrival time may lie ahead of the present, ns."""
        return (self.at_once - 1) * self.interval_ns

    def share(self, n_processes: int) -> Rate:
        """Return the part of one of `n_processes`: together they stay within this rate without talking to each other."""
        if n_processes <= self.limit:
            return Rate(self.limit // n_processes, self.window_s)
        return Rate(1, self.window_s * n_processes / self.limit)


class Gcra:
    """One route's state: when the next request is due and until when nobody may send.

    Parameters
    ----------
    rate : Rate
        What to keep to.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._due_ns = 0
        self._paused_until_ns = 0

    def reserve(self, now_ns: int, max_wait_ns: int | None = None) -> int | None:
        """Take the next slot and return the ns to wait for it; None, with nothing taken, if that exceeds `max_wait_ns`.

        After waiting you must ask `paused_ns`: a pause that began meanwhile makes the slot void, reserve another.
        """
        slot_ns = max(now_ns, self._due_ns - self.rate.tolerance_ns, self._paused_until_ns)
        if max_wait_ns is not None and slot_ns - now_ns > max_wait_ns:
            return None
        self._due_ns = max(self._due_ns, slot_ns) + self.rate.interval_ns
        return slot_ns - now_ns

    def charge(self, now_ns: int, n_requests: int = 1) -> None:
        """Count requests that somebody else admitted."""
        self._due_ns = max(self._due_ns, now_ns) + n_requests * self.rate.interval_ns

    def pause(self, now_ns: int, pause_ns: int) -> None:
        """Admit nobody until `now_ns + pause_ns`, and no burst then: who waited comes one by one."""
        self._paused_until_ns = max(self._paused_until_ns, now_ns + pause_ns)
        self._due_ns = max(self._due_ns, self._paused_until_ns + self.rate.tolerance_ns)

    def paused_ns(self, now_ns: int) -> int:
        """Return how much longer the pause lasts, 0 without one."""
        return max(0, self._paused_until_ns - now_ns)

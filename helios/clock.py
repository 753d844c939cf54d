"""Clocks: market time is the venue's, wherever it comes from.

Everything that decides takes `now_ns` as an argument. The shells (actors, transports) hold one of these clocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

NS_PER_S = 1_000_000_000
AHEAD_ALLOWED_S = 60.0  # of market time
AHEAD_ALLOWED_WALL_S = 10.0  # what clocks may differ by, in a market that runs faster than they do


class Clock(Protocol):
    """Market time in integer nanoseconds UTC."""

    @property
    def speed(self) -> float:
        """Market seconds per wall second."""
        ...

    def now_ns(self) -> int:
        """Present market time."""
        ...


def is_ahead(ts_event: int, now_ns: int, speed: float) -> bool:
    """Whether an event lies further in the future than clocks may differ: it must close no minute and be no price."""
    return ts_event - now_ns > max(AHEAD_ALLOWED_S, AHEAD_ALLOWED_WALL_S * speed) * NS_PER_S


class VenueClock:
    """Market time that runs at `speed` from a known point.

    Parameters
    ----------
    market_ns : int
        Market time at the moment `monotonic()` returned `anchor_s`.
    anchor_s : float
        Monotonic seconds at that moment.
    speed : float
        Market seconds per wall second; 1 for a real venue.
    monotonic : callable
        Source of monotonic seconds.
    """

    def __init__(self, market_ns: int, anchor_s: float, speed: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._market_ns = market_ns
        self._anchor_s = anchor_s
        self._speed = speed
        self._monotonic = monotonic

    @property
    def speed(self) -> float:
        return self._speed

    def now_ns(self) -> int:
        return self._market_ns + int((self._monotonic() - self._anchor_s) * self._speed * NS_PER_S)


class ManualClock:
    """A clock that tests and replays set by hand."""

    def __init__(self, now_ns: int = 0, speed: float = 1.0) -> None:
        self._now_ns = now_ns
        self._speed = speed

    @property
    def speed(self) -> float:
        return self._speed

    def now_ns(self) -> int:
        return self._now_ns

    def set(self, now_ns: int) -> None:
        """Move to `now_ns`; never backwards."""
        self._now_ns = max(self._now_ns, now_ns)

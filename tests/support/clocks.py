"""Clocks that tests move by hand."""

from __future__ import annotations


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self, wall_s: float = 1_790_000_030.0) -> None:
        self.now_s = wall_s
        self.slept: list[float] = []

    def read(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

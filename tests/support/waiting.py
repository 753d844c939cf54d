"""Waiting for an effect: a busy machine keeps no deadline of milliseconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

STEP_S = 0.02


async def turns(seconds: float) -> None:
    """Let the loop run for `seconds`, in ten steps: a stall of a busy machine takes one of them, and work is done in the others."""
    for _ in range(10):
        await asyncio.sleep(seconds / 10)


class Awake:
    """Seconds in which this loop could run: while the machine gave it no turn, nothing in it could be in time."""

    seconds = 0.0

    async def _count(self) -> None:
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(STEP_S / 2)
            self.seconds += min(time.monotonic() - before_s, STEP_S)


@asynccontextmanager
async def awake() -> AsyncIterator[Awake]:
    """Count the seconds of the block without the stalls of a busy machine."""
    counted = Awake()
    task = asyncio.create_task(counted._count())
    try:
        yield counted
    finally:
        task.cancel()


async def until(probe: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return once `probe` is true; a time-out is left to the caller's own assertion, which says more."""
    for _ in range(round(timeout_s / STEP_S)):
        if probe():
            return
        await asyncio.sleep(STEP_S)

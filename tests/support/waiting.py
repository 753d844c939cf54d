"""Waiting for an effect: a busy machine keeps no deadline of milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STEP_S = 0.02


async def until(probe: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return once `probe` is true; a time-out is left to the caller's own assertion, which says more."""
    for _ in range(round(timeout_s / STEP_S)):
        if probe():
            return
        await asyncio.sleep(STEP_S)

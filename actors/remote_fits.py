"""Volatility fits on the cluster. Kept apart from remote.py: what it imports loads `arch`, which the other actors do without."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from actors.remote import call
from helios.errors import TransportError
from helios.risk.fitting import FitRequest, FitResult


class RemoteFits:
    """Volatility fits as tasks of the cluster, side by side.

    Parameters
    ----------
    task : Ray task
        `helios.risk.fitting.fit`: pure, so that it may be repeated.
    deadline_s : float
        For all of them together.
    """

    def __init__(self, task: Any, deadline_s: float) -> None:
        self._task = task
        self._deadline_s = deadline_s

    async def fit_all(self, requests: Sequence[FitRequest]) -> list[FitResult]:
        """Return the results that came in time, in order of their requests; what failed or is late is left out."""
        calls = (call(self._task.remote(request), self._deadline_s, f"fit {request.symbol}") for request in requests)
        results: list[FitResult] = []
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, TransportError):
                    raise answer
            else:
                results.append(answer)
        return results

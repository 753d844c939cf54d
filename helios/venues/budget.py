"""How many requests may still go to a venue: one budget for everybody who asks it from the same address."""

from __future__ import annotations

from typing import Protocol


class RequestBudget(Protocol):
    """Admission to a venue's REST interface and sockets, shared by all who hold the same budget.

    A route is a name of the venue's own limits ("buckets", "public", "connect"); each has its own rate.
    """

    async def admit(self, route: str) -> None:
        """Wait until one more request on `route` may be sent, and count it.

        Raises
        ------
        TransportError
            If the wait would be longer than the budget allows anybody to wait.
        """
        ...

    async def pause(self, route: str, pause_s: float) -> None:
        """Let nobody send on `route` for `pause_s` seconds: the venue said 429."""
        ...

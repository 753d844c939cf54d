"""The faults that are on now: a plan that can be changed while the exchange runs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from helios.venues.sandbox.chaos import ReplyFaults, SocketChaos, clock_error_ns, refusal, reply_faults
from helios.venues.sandbox.faults import FaultCounts, FaultPlan


class FaultSwitch:
    """Holds the plan and the counts, and makes the deciders.

    Parameters
    ----------
    plan : FaultPlan
    now_ns : callable
        Present market time.

    Attributes
    ----------
    plan : FaultPlan
    counts : FaultCounts
    is_quiet : bool
        Whether the plan injects nothing.
    """

    def __init__(self, plan: FaultPlan, now_ns: Callable[[], int]) -> None:
        self.counts = FaultCounts()
        self._now_ns = now_ns
        self._sockets = 0
        self.put(plan)

    def put(self, plan: FaultPlan) -> None:
        """Switch to another plan; open sockets follow it at once."""
        self.plan, self.is_quiet = plan, plan.is_quiet
        self._since_ns = self._now_ns()
        self._random = Random(f"rest {plan.seed}")

    def new_socket(self) -> SocketChaos:
        """Return the decider of a new socket."""
        self._sockets += 1
        return SocketChaos(Random(f"socket {self.plan.seed} {self._sockets}"), self.counts.add)

    def reply(self, route: str) -> ReplyFaults:
        """Decide for one REST request."""
        return reply_faults(self.plan, route, self._random, self.counts.add)

    def refusal(self) -> int:
        """Return the status with which an upgrade is refused, 0 for none."""
        return refusal(self.plan, self._random, self.counts.add)

    def clock_error_ns(self) -> int:
        """Return what the venue's clock shows more than market time."""
        return clock_error_ns(self.plan, self._now_ns() - self._since_ns)

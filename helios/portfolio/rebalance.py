"""When to bring weights back to their targets, and which trades are worth their cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from helios.portfolio.history import DAY_NS

CHECK_NS = DAY_NS
THRESHOLD_NS = 7 * DAY_NS


@dataclass(frozen=True, slots=True)
class RebalanceAdvice:
    """Why to rebalance (empty: do not) and the weight changes to make, by symbol."""

    reason: str
    trades: Mapping[str, float]


def drifts(weights: Mapping[str, float], targets: Mapping[str, float]) -> dict[str, float]:
    """Return target - weight of every symbol in either, sorted by symbol; a symbol missing on one side counts as 0."""
    return {s: targets.get(s, 0.0) - weights.get(s, 0.0) for s in sorted({*weights, *targets})}


def advise(
    weights: Mapping[str, float],
    targets: Mapping[str, float],
    drift: float,
    now_ns: int,
    last_check_ns: int,
    last_rebalance_ns: int,
    risk_event: bool = False,
    smallest_trade: float = 0.0,
) -> RebalanceAdvice:
    """Decide whether to rebalance now.

    A risk event acts at once. Otherwise weights are looked at once a day, and acted upon when some weight is more than `drift`
    off its target and the last rebalance is a week old, or when one is more than twice `drift` off (waiting would cost more
    than trading). Trades smaller than `smallest_trade` are left out as not worth their cost.

    Parameters
    ----------
    weights, targets : mapping of str to float
        Signed fractions of equity.
    drift, smallest_trade : float
        Fractions of equity.
    now_ns, last_check_ns, last_rebalance_ns : int
        Market time, ns UTC.
    """
    off = drifts(weights, targets)
    reason = _reason(max(map(abs, off.values()), default=0.0), drift, now_ns, last_check_ns, last_rebalance_ns, risk_event)
    if not reason:
        return RebalanceAdvice("", {})
    return RebalanceAdvice(reason, {s: d for s, d in off.items() if d != 0 and abs(d) >= smallest_trade})


def _reason(worst: float, drift: float, now_ns: int, last_check_ns: int, last_rebalance_ns: int, risk_event: bool) -> str:
    if risk_event:
        return "RISK_EVENT"
    if now_ns - last_check_ns < CHECK_NS or worst <= drift:
        return ""
    if worst > 2 * drift:
        return "LARGE_DRIFT"
    return "DRIFT" if now_ns - last_rebalance_ns >= THRESHOLD_NS else ""

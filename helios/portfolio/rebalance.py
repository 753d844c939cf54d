"""When to bring weights back to their targets, how far, and which trades are worth their cost.

With a cost in proportion to what is traded it is best to leave a weight alone within a band around its target and, outside, to
trade to the nearer edge of the band, not to the target: the last step to the target gains less than it costs (Davis and Norman).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from helios.config import PortfolioConfig
from helios.errors import DataError
from helios.portfolio.history import DAY_NS

CHECK_NS = DAY_NS
THRESHOLD_NS = 7 * DAY_NS
NOISE = 1e-9
"""A weight change below this share of equity is rounding, not a trade."""
Calendar = Literal["none", "daily", "weekly", "monthly"]


@dataclass(frozen=True, slots=True)
class RebalanceAdvice:
    """Why to rebalance (empty: do not) and the signed weight changes to make, by symbol."""

    reason: str
    trades: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RebalanceRule:
    """What a rebalance is worth and when it is due.

    Attributes
    ----------
    drift : float
        Distance from the target, as a fraction of equity, that makes the drift rule act.
    cost_pct : float
        One-way cost of a trade as a fraction of its value.
    risk_aversion : float
        With the cost it sets the width of the band.
    calendar : {"none", "daily", "weekly", "monthly"}
        Fixed times besides the drift rule: each day, Monday, the first of the month, at `hour_utc`.
    gross_cap : float
        Purchases are scaled down until the sum of absolute weights is at most this, or what it was.
    max_turnover : float
        All trades of one rebalance are scaled down in common until they sum to at most this; a risk event knows no such limit.
    """

    drift: float = 0.05
    cost_pct: float = 0.0
    risk_aversion: float = 2.5
    calendar: Calendar = "none"
    hour_utc: int = 0
    gross_cap: float = 1.0
    max_turnover: float = math.inf

    @classmethod
    def of(cls, config: PortfolioConfig, gross_cap: float = 1.0) -> RebalanceRule:
        """Return the rule that the configuration describes."""
        return cls(
            config.rebalance_drift,
            config.cost_pct,
            config.risk_aversion,
            config.rebalance_calendar,
            config.rebalance_hour_utc,
            gross_cap,
            math.inf if config.max_turnover is None else config.max_turnover,
        )


@dataclass(frozen=True, slots=True)
class RebalanceTimes:
    """When weights were last looked at and last rebalanced, and the calendar's time last seen (ns UTC; None: never)."""

    last_check_ns: int | None = None
    last_rebalance_ns: int | None = None
    last_slot_ns: int | None = None


def drifts(weights: Mapping[str, float], targets: Mapping[str, float]) -> dict[str, float]:
    """Return target - weight of every symbol in either, sorted by symbol; a symbol missing on one side counts as 0."""
    return {s: targets.get(s, 0.0) - weights.get(s, 0.0) for s in sorted({*weights, *targets})}


def half_band(target: float, cost_pct: float, risk_aversion: float) -> float:
    """Return how far a weight may be off its target before a trade gains more than it costs.

    (3 / 2 x cost / risk aversion x w^2 (1 - w)^2)^(1/3) for target w: the leading term of the optimal no-trade band for one risky
    asset beside cash. It is 0 for a target of 0 or 1, where no trade need ever be taken back. For 20 %, 0.15 % and 2.5: 2.8 %.

    References
    ----------
    .. [1] Davis and Norman, "Portfolio selection with transaction costs", Mathematics of Operations Research 15, 1990.
    .. [2] Janecek and Shreve, "Asymptotic analysis for optimal investment and consumption with transaction costs", Finance and
       Stochastics 8, 2004, theorem 1.
    """
    w = min(abs(target), 1.0)
    return math.cbrt(1.5 * cost_pct / risk_aversion * (w * (1.0 - w)) ** 2)


def calendar_slot(now_ns: int, calendar: Calendar, hour_utc: int) -> int | None:
    """Return the calendar's latest time at or before `now_ns` (ns UTC); None for the calendar "none"."""
    if calendar == "none":
        return None
    now = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    slot = now.replace(hour=hour_utc, minute=0, second=0, microsecond=0)
    if slot > now:
        slot -= timedelta(days=1)
    if calendar == "weekly":
        slot -= timedelta(days=slot.weekday())
    elif calendar == "monthly":
        slot = slot.replace(day=1)
    return int(slot.timestamp()) * 1_000_000_000


def advise(
    weights: Mapping[str, float],
    targets: Mapping[str, float],
    now_ns: int,
    rule: RebalanceRule,
    times: RebalanceTimes,
    risk_event: bool = False,
    fresh: Collection[str] | None = None,
    smallest_trade: float = 0.0,
) -> RebalanceAdvice:
    """Decide whether to rebalance now, and which weights change by how much.

    A risk event acts at once and only reduces: every holding above its target goes to the target itself, whatever that costs.
    Otherwise weights are looked at once a day and acted upon when one is more than `drift` (and the band) off its target and the
    last rebalance is a week old, or when one is more than twice that off (waiting would cost more than trading); and at the
    times of the calendar. What is then outside its band is traded to the band's edge.

    Parameters
    ----------
    weights, targets : mapping of str to float
        Signed fractions of equity. A symbol missing on one side counts as 0.
    now_ns : int
        Market time, ns UTC.
    fresh : collection of str or None
        Symbols whose price is known now; only those are looked at and traded. None: all.
    smallest_trade : float
        Smaller changes, as a fraction of equity, are left out: the venue or its minimum fee would not take them.

    Notes
    -----
    A weight or target that is not a number takes its symbol out, as a price that is not fresh does.
    """
    off = {s: d for s, d in drifts(weights, targets).items() if math.isfinite(d) and (fresh is None or s in fresh)}
    if risk_event:
        reducing = {s: _reducing(weights.get(s, 0.0), targets.get(s, 0.0)) for s in off}
        return RebalanceAdvice("RISK_EVENT", _worthwhile(reducing, smallest_trade))
    bands = {s: half_band(targets.get(s, 0.0), rule.cost_pct, rule.risk_aversion) for s in off}
    reason = _reason(off, bands, now_ns, rule, times)
    if not reason:
        return RebalanceAdvice("", {})
    trades = {s: math.copysign(max(abs(d) - bands[s], 0.0), d) for s, d in off.items()}
    trades = _slowed(_affordable(weights, trades, rule.gross_cap), rule.max_turnover)
    trades = _worthwhile(trades, smallest_trade)
    return RebalanceAdvice(reason, trades) if trades else RebalanceAdvice("", {})


def _reason(off: Mapping[str, float], bands: Mapping[str, float], now_ns: int, rule: RebalanceRule, times: RebalanceTimes) -> str:
    if _is_due(now_ns, times.last_check_ns, CHECK_NS):
        if any(abs(d) > max(2 * rule.drift, bands[s]) for s, d in off.items()):
            return "LARGE_DRIFT"
        is_off = any(abs(d) > max(rule.drift, bands[s]) for s, d in off.items())
        if is_off and _is_due(now_ns, times.last_rebalance_ns, THRESHOLD_NS):
            return "DRIFT"
    slot = calendar_slot(now_ns, rule.calendar, rule.hour_utc)
    # The first time seen only starts the calendar: switching the desk on is no reason to trade.
    return "CALENDAR" if slot is not None and times.last_slot_ns is not None and slot > times.last_slot_ns else ""


def _is_due(now_ns: int, last_ns: int | None, after_ns: int) -> bool:
    return last_ns is None or now_ns - last_ns >= after_ns


def _reducing(weight: float, target: float) -> float:
    # Towards the target as far as that makes the holding smaller; a target on the other side of zero only closes it.
    kept = min(abs(weight), abs(target)) if weight * target > 0 else 0.0
    return math.copysign(kept, weight) - weight


def _affordable(weights: Mapping[str, float], trades: Mapping[str, float], gross_cap: float) -> dict[str, float]:
    # Edges of bands need not sum to 1: what is bought is scaled to the room there is after what is sold.
    grown = {s: abs(weights.get(s, 0.0) + d) - abs(weights.get(s, 0.0)) for s, d in trades.items()}
    gross = sum(abs(w) for w in weights.values() if math.isfinite(w))
    needed = sum(g for g in grown.values() if g > 0)
    room = max(gross_cap - gross, 0.0) - sum(g for g in grown.values() if g < 0)
    share = min(1.0, room / needed) if needed > 0 else 1.0
    return {s: d * share if grown[s] > 0 else d for s, d in trades.items()}


def _slowed(trades: Mapping[str, float], most: float) -> dict[str, float]:
    turnover = sum(abs(d) for d in trades.values())
    share = most / turnover if turnover > most else 1.0
    return {s: d * share for s, d in trades.items()}


def _worthwhile(trades: Mapping[str, float], smallest: float) -> dict[str, float]:
    return {s: d for s, d in trades.items() if abs(d) >= max(smallest, NOISE)}


class RebalancePlanner:
    """`advise` with the memory it needs: when weights were last looked at and rebalanced.

    Parameters
    ----------
    rule : RebalanceRule
    times : RebalanceTimes
        From an earlier session, so that a restart is no reason to trade.
    """

    def __init__(self, rule: RebalanceRule, times: RebalanceTimes | None = None) -> None:
        self._rule = rule
        self.times = times or RebalanceTimes()

    def advise(
        self,
        weights: Mapping[str, float],
        targets: Mapping[str, float],
        now_ns: int,
        risk_event: bool = False,
        fresh: Collection[str] | None = None,
        smallest_trade: float = 0.0,
    ) -> RebalanceAdvice:
        """Return `advise(...)` and remember the times; a time before one already seen is answered but not remembered."""
        advice = advise(weights, targets, now_ns, self._rule, self.times, risk_event, fresh, smallest_trade)
        slot = calendar_slot(now_ns, self._rule.calendar, self._rule.hour_utc)
        seen = self.times
        if _is_due(now_ns, seen.last_check_ns, CHECK_NS):
            seen = replace(seen, last_check_ns=now_ns)
        if slot is not None and slot > (seen.last_slot_ns or 0):
            seen = replace(seen, last_slot_ns=slot)
        if advice.trades and now_ns > (seen.last_rebalance_ns or 0) and not risk_event:
            seen = replace(seen, last_rebalance_ns=now_ns)
        self.times = seen
        return advice

    def to_json(self) -> dict[str, int | None]:
        """Return the times as JSON types."""
        return asdict(self.times)

    @classmethod
    def from_json(cls, rule: RebalanceRule, saved: Mapping[str, object]) -> RebalancePlanner:
        """Return the planner that `to_json` described.

        Raises
        ------
        DataError
            If what was saved is not such a description.
        """
        names = set(RebalanceTimes.__dataclass_fields__)
        is_known = set(saved) <= names and all(v is None or type(v) is int for v in saved.values())
        if not is_known:
            raise DataError("the saved rebalancing times are not what this version writes")
        return cls(rule, RebalanceTimes(**{name: saved.get(name) for name in names}))  # type: ignore[arg-type]

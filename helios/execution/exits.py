"""The exits of one symbol: stop, break-even, trailing stop, target, time-out and scale-out, on prices, bars or time alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from helios.domain.enums import ExitReason
from helios.domain.market import Bar, MarketSnapshot
from helios.domain.orders import ExitPlan, ExitTriggered
from helios.execution.exit_rules import protective_stop
from helios.execution.water import Extremes

MarketSource = Callable[[], MarketSnapshot]
RETRY_NS = 1_000_000_000
MAX_RETRY_NS = 8_000_000_000
"""Pause before an exit that did not close its position may fire again: it doubles, so that a refusing venue is not flooded."""


class _Hit(NamedTuple):
    reason: ExitReason
    price: float
    ts: int
    fraction: float = 1.0


@dataclass(slots=True)
class _Watch:
    """A plan with the best price since the position was opened (`water`)."""

    plan: ExitPlan
    water: float
    is_armed: bool = True
    is_scaled: bool = False
    fired_at: int = 0
    ready_at: int = 0
    failures: int = 0

    def take(self, plan: ExitPlan) -> None:
        """Follow the newest form of the plan; an exit that ended without closing the position may fire again, later each time."""
        if not self.is_armed and plan.attempts != self.plan.attempts:
            self.failures += 1
            self.ready_at = self.fired_at + min(RETRY_NS << (self.failures - 1), MAX_RETRY_NS)
            self.is_armed = True
        self.plan = plan
        self.raise_water(plan.best_price)

    def at(self, price: float, ts: int) -> list[_Hit]:
        """Test one price: stop, target and time-out of the whole, then the scale-out of a part."""
        hits = self._judge(price, ts) if self._may_fire(ts) else []
        self.raise_water(price)
        return hits

    def through(self, bar: Bar) -> list[_Hit]:
        """Test a bar on the path that is worst for us: open, adverse extreme, favourable extreme, close."""
        hits = self.at(bar.open, bar.open_time)
        if self._may_fire(bar.close_time):
            hits += self._inside(bar)
        self.raise_water(bar.high if self.plan.side > 0 else bar.low)
        return hits

    def on_time(self, now_ns: int, price: float) -> list[_Hit]:
        return self._timed_out(price, now_ns) if self._may_fire(now_ns) else []

    def raise_water(self, price: float) -> None:
        if _is_price(price) and self.plan.side * price > self.plan.side * self.water:
            self.water = price

    def _judge(self, price: float, ts: int) -> list[_Hit]:
        side = self.plan.side
        stop, reason = protective_stop(self.plan, self.water)
        if side * price <= side * stop:
            return self._close(reason, price, ts)
        if side * price >= side * self.plan.target_price:
            return self._close(ExitReason.TARGET, price, ts)
        return self._timed_out(price, ts) or self._scale_out(price, price, ts)

    def _inside(self, bar: Bar) -> list[_Hit]:
        # After the open; levels on the way are met at their own price, the scale-out before the target.
        plan, side, ts = self.plan, self.plan.side, bar.close_time
        worst, best = (bar.low, bar.high) if side > 0 else (bar.high, bar.low)
        stop, reason = protective_stop(plan, self.water)
        if side * worst <= side * stop:
            return self._close(reason, side * min(side * stop, side * bar.open), ts)
        hits = self._scale_out(best, plan.scale_out_price, ts)
        if side * best >= side * plan.target_price:
            return hits + self._close(ExitReason.TARGET, plan.target_price, ts)
        self.raise_water(best)
        stop, reason = protective_stop(plan, self.water)
        if side * bar.close <= side * stop:  # the close comes after the extreme, so the price went through the stop
            return hits + self._close(reason, stop, ts)
        return hits + self._timed_out(bar.close, ts)

    def _may_fire(self, ts: int) -> bool:
        return self.is_armed and ts >= self.ready_at

    def _timed_out(self, price: float, ts: int) -> list[_Hit]:
        return self._close(ExitReason.TIMEOUT, price, ts) if 0 < self.plan.expires_at <= ts else []

    def _close(self, reason: ExitReason, price: float, ts: int) -> list[_Hit]:
        self.is_armed, self.fired_at = False, ts
        return [_Hit(reason, price, ts)]

    def _scale_out(self, best: float, price: float, ts: int) -> list[_Hit]:
        plan, side = self.plan, self.plan.side
        if self.is_scaled or not side * best >= side * plan.scale_out_price:
            return []
        self.is_scaled = True
        return [_Hit(ExitReason.SCALE_OUT, price, ts, plan.scale_out_fraction)]


class ExitMonitor:
    """Watches the open positions of one symbol; decides, sends nothing.

    A plan closes its position once, and a part of it once before. It fires again only after `ExitPlan.attempts` said that the exit
    ended and the position is still there, or after `rearm`. Prices that are not positive numbers never trigger anything, not even a
    time-out: there would be nothing to fill it at.
    """

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}
        self.is_watching = False  # any position, its exit fired or not; asked at every book update
        self._extremes = Extremes()

    @property
    def armed(self) -> tuple[str, ...]:
        """Ids of the positions whose exit has not fired."""
        return tuple(position_id for position_id, watch in self._watches.items() if watch.is_armed)

    def arm(self, plans: Sequence[ExitPlan]) -> None:
        """Replace the watched set; positions that stay keep their high-water mark and whether they fired.

        The high-water mark of a position that is new here is the best of its entry, what execution saw and the closed bars since
        the opening.
        """
        watches: dict[str, _Watch] = {}
        for plan in plans:
            watch = self._watches.get(plan.position_id)
            if watch is None:
                watch = _Watch(plan, plan.entry_price)
                if plan.opened_at > 0:
                    watch.raise_water(self._extremes.best_since(plan.opened_at, plan.side))
            watch.take(plan)
            watches[plan.position_id] = watch
        self._watches = watches
        self.is_watching = bool(watches)

    def rearm(self, position_id: str) -> None:
        """Let a plan fire again at once; an unknown id is ignored."""
        if position_id in self._watches:
            self._watches[position_id].is_armed = True

    def learn(self, bar: Bar) -> None:
        """Take a closed or corrected bar as past: it fires nothing, but what the price reached in it counts."""
        self._extremes.add(bar)
        for watch in self._watches.values():
            if 0 < watch.plan.opened_at <= bar.open_time:
                watch.raise_water(bar.high if watch.plan.side > 0 else bar.low)

    def on_price(self, price: float, ts: int, market: MarketSource) -> list[ExitTriggered]:
        """Return the exits that `price` at `ts` (ns) fires, a gap at the price itself; `market` is asked only then."""
        if not _is_price(price):
            return []
        return self._fire(lambda watch: watch.at(price, ts), market)

    def on_bar(self, bar: Bar, market: MarketSource) -> list[ExitTriggered]:
        """Return the exits that a closed bar fires, where single prices are unknown.

        The trigger price is the level, or the open where that was beyond it already. The snapshot of each exit carries the
        trigger price as last price and no levels: the book at the close is not the book of that moment. A bar whose prices are
        unknown or contradict each other fires nothing.
        """
        if not (0 < bar.low <= bar.open <= bar.high < math.inf and bar.low <= bar.close <= bar.high):
            return []
        fired = self._fire(lambda watch: watch.through(bar), market)
        return [replace(trigger, market=_moved(trigger)) for trigger in fired]

    def on_time(self, now_ns: int, last_price: float, market: MarketSource) -> list[ExitTriggered]:
        """Return the positions whose time is over though no price came."""
        if not _is_price(last_price):
            return []
        return self._fire(lambda watch: watch.on_time(now_ns, last_price), market)

    def _fire(self, test: Callable[[_Watch], list[_Hit]], market: MarketSource) -> list[ExitTriggered]:
        return [
            ExitTriggered(position_id, watch.plan.symbol, hit.reason, hit.price, hit.ts, market(), hit.fraction)
            for position_id, watch in self._watches.items()
            for hit in test(watch)
        ]


def _moved(trigger: ExitTriggered) -> MarketSnapshot:
    return replace(trigger.market, last=Decimal(str(trigger.trigger_price)), ts_event=trigger.ts_event, bids=(), asks=())


def _is_price(price: float) -> bool:
    return math.isfinite(price) and price > 0

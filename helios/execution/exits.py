"""Protective exits of one symbol: stop, trailing stop, target and time-out, on prices, bars or time alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from helios.domain.enums import ExitReason
from helios.domain.market import Bar, MarketSnapshot
from helios.domain.orders import ExitPlan, ExitTriggered

MarketSource = Callable[[], MarketSnapshot]
_Hit = tuple[ExitReason, float, int]


@dataclass(slots=True)
class _Watch:
    """A plan with the best price since it was armed (`water`)."""

    plan: ExitPlan
    water: float
    is_armed: bool = True

    def stop(self) -> tuple[float, ExitReason]:
        """The nearer of the fixed and, once it is active, the trailing stop; NaN where there is none."""
        plan, side = self.plan, self.plan.side
        trailing = math.nan
        if plan.trailing_pct > 0 and plan.trailing_activate_pct > 0:
            gain = side * (self.water / plan.entry_price - 1.0)
            if gain >= plan.trailing_activate_pct:
                trailing = self.water * (1.0 - side * plan.trailing_pct)
        if math.isnan(plan.stop_price) or side * trailing > side * plan.stop_price:
            return trailing, ExitReason.TRAILING_STOP
        return plan.stop_price, ExitReason.STOP

    def at(self, price: float, ts: int) -> _Hit | None:
        """Test one price, the stop before the target before the time-out."""
        plan, side = self.plan, self.plan.side
        stop, reason = self.stop()
        if side * price <= side * stop:
            return reason, price, ts
        if side * price >= side * plan.target_price:
            return ExitReason.TARGET, price, ts
        if 0 < plan.expires_at <= ts:
            return ExitReason.TIMEOUT, price, ts
        self.raise_water(price)
        return None

    def raise_water(self, price: float) -> None:
        if self.plan.side * price > self.plan.side * self.water:
            self.water = price

    def through(self, bar: Bar) -> _Hit | None:
        """Test a bar on the path that is worst for us: open, adverse extreme, favourable extreme, close."""
        hit = self.at(bar.open, bar.open_time)
        if hit is not None:
            return hit
        plan, side, ts = self.plan, self.plan.side, bar.close_time
        worst, best = (bar.low, bar.high) if side > 0 else (bar.high, bar.low)
        stop, reason = self.stop()
        if side * worst <= side * stop:
            return reason, stop, ts
        if side * best >= side * plan.target_price:
            return ExitReason.TARGET, plan.target_price, ts
        self.raise_water(best)
        stop, reason = self.stop()
        if side * bar.close <= side * stop:  # the close comes after the extreme, so the price went through the stop
            return reason, stop, ts
        if 0 < plan.expires_at <= ts:
            return ExitReason.TIMEOUT, bar.close, ts
        return None


class ExitMonitor:
    """Watches the open positions of one symbol; decides, sends nothing.

    A plan triggers once. After an exit that failed, `rearm` lets it trigger again. Prices that are not positive numbers never
    trigger anything, not even a time-out: there would be nothing to fill it at.
    """

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}

    @property
    def armed(self) -> tuple[str, ...]:
        """Ids of the positions whose exit has not fired."""
        return tuple(position_id for position_id, watch in self._watches.items() if watch.is_armed)

    def arm(self, plans: Sequence[ExitPlan]) -> None:
        """Replace the watched set; positions that stay keep their high-water mark and whether they fired."""
        watches: dict[str, _Watch] = {}
        for plan in plans:
            known = self._watches.get(plan.position_id)
            watches[plan.position_id] = _Watch(plan, plan.entry_price) if known is None else _Watch(plan, known.water, known.is_armed)
        self._watches = watches

    def rearm(self, position_id: str) -> None:
        """Let a plan fire again after its exit failed; an unknown id is ignored."""
        if position_id in self._watches:
            self._watches[position_id].is_armed = True

    def on_price(self, price: float, ts: int, market: MarketSource) -> list[ExitTriggered]:
        """Return the exits that `price` at `ts` (ns) fires; `market` is asked only then."""
        if not _is_price(price):
            return []
        return self._fire(lambda watch: watch.at(price, ts), market)

    def on_bar(self, bar: Bar, market: MarketSource) -> list[ExitTriggered]:
        """Return the exits that a closed bar fires, where single prices are unknown.

        The trigger price is the level, or the open where that was beyond it already. The snapshot of each exit carries the
        trigger price as last price and no levels: the book at the close is not the book of that moment.
        """
        if not all(_is_price(price) for price in (bar.open, bar.high, bar.low, bar.close)):
            return []
        fired = self._fire(lambda watch: watch.through(bar), market)
        return [replace(trigger, market=_moved(trigger)) for trigger in fired]

    def on_time(self, now_ns: int, last_price: float, market: MarketSource) -> list[ExitTriggered]:
        """Return the positions whose time is over though no price came."""
        if not _is_price(last_price):
            return []
        return self._fire(
            lambda watch: (ExitReason.TIMEOUT, last_price, now_ns) if 0 < watch.plan.expires_at <= now_ns else None, market
        )

    def _fire(self, test: Callable[[_Watch], _Hit | None], market: MarketSource) -> list[ExitTriggered]:
        fired: list[ExitTriggered] = []
        for position_id, watch in self._watches.items():
            hit = test(watch) if watch.is_armed else None
            if hit is not None:
                watch.is_armed = False
                reason, price, ts = hit
                fired.append(ExitTriggered(position_id, watch.plan.symbol, reason, price, ts, market()))
        return fired


def _moved(trigger: ExitTriggered) -> MarketSnapshot:
    return replace(trigger.market, last=Decimal(str(trigger.trigger_price)), ts_event=trigger.ts_event, bids=(), asks=())


def _is_price(price: float) -> bool:
    return math.isfinite(price) and price > 0

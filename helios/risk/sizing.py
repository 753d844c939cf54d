"""How much of equity one trade may have: a method's fraction, then every reason to take less."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from decimal import ROUND_DOWN, Decimal

from helios.config import LimitConfig, RiskConfig
from helios.domain.enums import Side, VolatilityRegime
from helios.domain.market import Instrument
from helios.errors import RejectedError
from helios.risk.exits import exit_levels, is_tradable
from helios.risk.methods import base_size, kelly_full
from helios.risk.ramp import WATCH_ONLY, ramp_share

DRAWDOWN_STEP = 0.10
"""Drawdown above which the size is halved."""
_ALERTED = (VolatilityRegime.HIGH, VolatilityRegime.EXTREME)
MONEY_STEP = Decimal("0.00000001")
_ROOM_TO_TRADE = 3
"""The ramp lets an order have at least so many smallest orders: a step at which nothing can be bought would prove nothing, and the
reviewer may halve it and the lot grid take some more."""


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """One entry to be sized.

    Attributes
    ----------
    confidence : float
        Calibrated probability of the predicted side.
    daily_volatility, drawdown : float
        Fractions.
    equity, held_notional : Decimal
        Quote currency; what is held already on the same side, 0 or more.
    leverage : float
        From `helios.risk.leverage`; 1 on spot.
    volatility_ratio : float
        Present volatility over its 30-day mean; NaN where unknown.
    payoff_ratio : float
        b; NaN takes it from the exits after `round_trip_cost_pct`.
    side : Side
        Of the entry: what is sold short can fall by 100 % at most.
    """

    confidence: float
    daily_volatility: float
    regime: VolatilityRegime
    equity: Decimal
    drawdown: float = 0.0
    held_notional: Decimal = Decimal(0)
    leverage: float = 1.0
    volatility_ratio: float = math.nan
    payoff_ratio: float = math.nan
    side: Side = Side.BUY


@dataclass(frozen=True, slots=True)
class SizeBounds:
    """Bounds from outside the method: on the whole holding (fraction of capital) and on the one order (quote currency)."""

    max_position: float = 0.20
    min_notional_quote: Decimal = Decimal(0)
    max_notional_quote: Decimal = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class SizeDecision:
    """A size with every number it comes from. Fractions are of `capital_quote` unless the name says otherwise.

    Attributes
    ----------
    equity_quote, capital_quote : Decimal
        The account's equity, and the part of it that sizing sees: less the reserve, times the ramp's share.
    kelly_full : float
        f* = p - (1 - p) / b.
    base_fraction : float
        What the method begins with; for kelly f* times `kelly_multiplier` (a quarter by default).
    volatility_scaled : float
        The former after the method's volatility rule; by default over (1 + daily volatility / reference).
    drawdown_scaled : float
        The former, halved when drawdown is above 10 %.
    leveraged : float
        The former times leverage: the exposure asked for. The quantity carries it, P&L does not get it a second time.
    regime_cap, position_cap : float
        Upper bounds on the whole holding.
    target_fraction : float
        The whole holding wanted: the smallest of the three.
    held_fraction, fraction : float
        What is held already, and what is added: target less held, after the bounds of one order.
    order_cap_quote : Decimal
        Upper bound on one order.
    notional_quote, loss_at_stop_quote, gain_at_target_quote : Decimal
        What is added, in money, and what it loses or gains at its exits before costs.
    stop_pct, target_pct : float
        Distances of stop and target from the entry, as fractions of the price.
    """

    method: str
    volatility_rule: str
    confidence: float
    payoff_ratio: float
    round_trip_cost_pct: float
    equity_quote: Decimal
    reserve: float
    ramp_share: float
    capital_quote: Decimal
    kelly_full: float
    kelly_multiplier: float
    base_fraction: float
    daily_volatility: float
    volatility_reference: float
    volatility_ratio: float
    volatility_scaled: float
    drawdown: float
    drawdown_scaled: float
    leverage: float
    leveraged: float
    regime: VolatilityRegime
    regime_cap: float
    position_cap: float
    target_fraction: float
    held_fraction: float
    fraction: float
    order_cap_quote: Decimal
    notional_quote: Decimal
    stop_pct: float
    target_pct: float
    loss_at_stop_quote: Decimal
    gain_at_target_quote: Decimal

    def values(self) -> tuple[tuple[str, float | str], ...]:
        """Return every number by name, for the decision trace and the explanation; money as text, unknown ones left out."""
        named = ((f.name, getattr(self, f.name)) for f in fields(self))
        known = ((k, str(v) if isinstance(v, Decimal | str) else v) for k, v in named if not (isinstance(v, float) and math.isnan(v)))
        return tuple(known)

    @property
    def notes(self) -> tuple[str, ...]:
        """The chain in few words, alerts among them; helios.risk.explain tells it in sentences."""
        found = (
            (True, f"full Kelly {self.kelly_full:.4f} at p {self.confidence:.3f} and b {self.payoff_ratio:.3f}"),
            (True, f"{self.method} begins with {self.base_fraction:.4f}"),
            (True, f"daily volatility {self.daily_volatility:.4f} leaves {self.volatility_scaled:.4f}"),
            (self.regime in _ALERTED, f"ALERT: volatility regime {self.regime.value}"),
            (not self.drawdown <= DRAWDOWN_STEP, f"drawdown {self.drawdown:.2%} halves it to {self.drawdown_scaled:.4f}"),
            (self.leveraged > self.drawdown_scaled, f"leverage {self.leverage:.1f} makes it {self.leveraged:.4f}"),
            (self.target_fraction < self.leveraged, f"the {self.cap_name} cap holds it at {self.target_fraction:.4f}"),
            (self.held_fraction > 0.0, f"{self.held_fraction:.4f} is held already"),
            (self.is_order_capped, f"order limit holds it at {self.notional_quote:.2f}"),
            (True, f"final fraction {self.fraction:.4f}, stop {self.stop_pct:.2%}, target {self.target_pct:.2%}"),
        )
        return tuple(words for applies, words in found if applies)

    @property
    def cap_name(self) -> str:
        """Which of the two caps on the holding is the tighter."""
        return "position" if self.position_cap <= self.regime_cap else f"{self.regime.value} regime"

    @property
    def is_order_capped(self) -> bool:
        """Whether the bound of one order took something."""
        return self.notional_quote == self.order_cap_quote and self.fraction + self.held_fraction < self.target_fraction


@dataclass(frozen=True, slots=True)
class SizeRefusal:
    """Why there is no size.

    LOW_CONFIDENCE, INVALID_CONFIDENCE, NO_EDGE, NO_VOLATILITY, STOP_TOO_WIDE, TARGET_TOO_WIDE, NO_EQUITY, ALREADY_HELD,
    MIN_NOTIONAL or RAMP_WATCH_ONLY.
    """

    code: str
    detail: str


def payoff_ratio(stop_pct: float, target_pct: float, round_trip_cost_pct: float = 0.0) -> float:
    """Return b = (target - cost) / (stop + cost): what a win brings over what a loss takes, once both have paid.

    Zero or below where costs eat the target.
    """
    if not stop_pct + round_trip_cost_pct > 0.0:
        raise RejectedError(f"stop distance and cost must be above 0, not {stop_pct} and {round_trip_cost_pct}")
    return (target_pct - round_trip_cost_pct) / (stop_pct + round_trip_cost_pct)


def size_bounds(limits: LimitConfig, instrument: Instrument) -> SizeBounds:
    """Return the bounds that limits and venue put on a size in one instrument: of two the tighter."""
    return SizeBounds(
        limits.max_position,
        max(limits.min_notional_quote, instrument.min_notional_quote),
        min(limits.max_notional_quote, instrument.max_notional_quote),
    )


def size_position(request: SizeRequest, config: RiskConfig, bounds: SizeBounds | None = None) -> SizeDecision | SizeRefusal:
    """Size one entry by the configured method.

    The result is notional as a fraction of capital (the cautious reading of Kelly: a full loss of the stake would be the loss),
    not money at risk; the loss at the stop is reported beside it. Every cap holds for every method. At ramp step 0 the size is
    found for the whole capital, told in the detail and refused.
    """
    refusal = _refuse(request, config)
    if refusal is not None:
        return refusal
    watches = config.ramp_step == WATCH_ONLY
    decision = _decide(request, config, bounds or SizeBounds(), 1.0 if watches else ramp_share(config.ramp_step))
    if watches and isinstance(decision, SizeDecision):
        asked = f"would take {decision.notional_quote:.2f} at the whole capital"
        return SizeRefusal("RAMP_WATCH_ONLY", f"ramp step 0 only watches: {asked}; risk.ramp_step = 1 trades with a tenth")
    return decision


def _decide(r: SizeRequest, config: RiskConfig, bounds: SizeBounds, share: float) -> SizeDecision | SizeRefusal:
    stop_pct, target_pct = exit_levels(r.daily_volatility, config)
    b = _payoff(r, config)
    base = base_size(r.confidence, b, r.daily_volatility, r.volatility_ratio, stop_pct, config)
    capital = _money(1.0 - config.reserve, _money(share, r.equity))
    # "not below": an unknown (NaN) drawdown halves too
    drawn = base.scaled * (1.0 if r.drawdown <= DRAWDOWN_STEP else 0.5)
    wanted = drawn * r.leverage if base.takes_leverage else drawn
    cap = config.regime_caps[list(VolatilityRegime).index(r.regime)]
    target = min(wanted, cap, bounds.max_position)
    order_cap = _order_cap(bounds, share)
    notional = _notional(r, target, capital, order_cap, bounds, config)
    if isinstance(notional, SizeRefusal):
        return notional
    return SizeDecision(
        method=config.size_method,
        volatility_rule=config.volatility_rule,
        confidence=r.confidence,
        payoff_ratio=b,
        round_trip_cost_pct=config.round_trip_cost_pct,
        equity_quote=r.equity,
        reserve=config.reserve,
        ramp_share=share,
        capital_quote=capital,
        kelly_full=base.kelly,
        kelly_multiplier=config.kelly_multiplier,
        base_fraction=base.base,
        daily_volatility=r.daily_volatility,
        volatility_reference=config.volatility_reference,
        volatility_ratio=r.volatility_ratio,
        volatility_scaled=base.scaled,
        drawdown=r.drawdown,
        drawdown_scaled=drawn,
        leverage=r.leverage,
        leveraged=wanted,
        regime=r.regime,
        regime_cap=cap,
        position_cap=bounds.max_position,
        target_fraction=target,
        held_fraction=float(r.held_notional / capital),
        fraction=float(notional / capital),
        order_cap_quote=order_cap,
        notional_quote=notional,
        stop_pct=stop_pct,
        target_pct=target_pct,
        loss_at_stop_quote=_money(stop_pct, notional),
        gain_at_target_quote=_money(target_pct, notional),
    )


def _notional(
    r: SizeRequest, target: float, capital: Decimal, order_cap: Decimal, bounds: SizeBounds, config: RiskConfig
) -> Decimal | SizeRefusal:
    # what may be added: the room under the target, within the bounds of one order
    if target <= 0.0:
        return SizeRefusal("NO_EDGE", f"{config.size_method} asks for {target:.4f} of the capital")
    if not capital > 0:
        return SizeRefusal("NO_EQUITY", f"nothing of {r.equity} is left to size with")
    room = _money(target, capital) - r.held_notional
    notional, smallest, is_held = min(room, order_cap), bounds.min_notional_quote, r.held_notional > 0
    if is_held:
        # Chasing every twitch of the target would spend the day's entries and fees on crumbs.
        smallest = max(smallest, capital * Decimal(str(config.min_addition)))
    if notional <= 0 or notional < smallest:
        detail = f"room for {max(room, Decimal(0)):.2f} with {r.held_notional:.2f} held, at least {smallest:.2f} is needed"
        return SizeRefusal("ALREADY_HELD" if is_held else "MIN_NOTIONAL", detail)
    return notional


def _refuse(r: SizeRequest, config: RiskConfig) -> SizeRefusal | None:
    p, volatility = r.confidence, r.daily_volatility
    if not p >= config.min_confidence:
        return SizeRefusal("LOW_CONFIDENCE", f"confidence {p:.3f} is below {config.min_confidence:.3f}")
    if p > 1.0:
        return SizeRefusal("INVALID_CONFIDENCE", f"confidence {p} is no probability")
    if not is_tradable(volatility):
        return SizeRefusal("NO_VOLATILITY", f"daily volatility {volatility}: a price that hardly moves gives no stop distance")
    if not r.equity > 0:
        return SizeRefusal("NO_EQUITY", f"equity is {r.equity}")
    stop, target = exit_levels(volatility, config)
    if stop >= 1.0:
        return SizeRefusal("STOP_TOO_WIDE", f"a stop {stop:.0%} away lies at or below a price of 0")
    if r.side is Side.SELL and target >= 1.0:
        # b would promise what no short can earn
        return SizeRefusal("TARGET_TOO_WIDE", f"a target {target:.0%} below the entry lies at or below a price of 0")
    b = _payoff(r, config)
    if not b > 0.0 or kelly_full(p, b) <= 0.0:
        full = f"{kelly_full(p, b):.3f}" if b > 0.0 else "undefined"
        return SizeRefusal("NO_EDGE", f"full Kelly is {full} at confidence {p:.3f} and payoff ratio {b:.3f}")
    return None


def _payoff(r: SizeRequest, config: RiskConfig) -> float:
    if not math.isnan(r.payoff_ratio):
        return r.payoff_ratio
    return payoff_ratio(*exit_levels(r.daily_volatility, config), config.round_trip_cost_pct)


def _order_cap(bounds: SizeBounds, share: float) -> Decimal:
    # the ramp scales the largest order with the capital, down to what a venue still takes
    largest = bounds.max_notional_quote
    if share == 1.0 or not largest.is_finite():
        return largest
    return max(_money(share, largest), min(largest, _ROOM_TO_TRADE * bounds.min_notional_quote))


def _money(fraction: float, amount: Decimal) -> Decimal:
    # ten decimals: below any lot, above the noise of binary fractions (0.145 / 2.5 is 0.057999999999999996)
    return (Decimal(f"{fraction:.10f}") * amount).quantize(MONEY_STEP, rounding=ROUND_DOWN)

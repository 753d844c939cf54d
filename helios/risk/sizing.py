"""How much of equity one trade may have: Kelly, then every reason to take less."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from typing import Literal

from helios.config import RiskConfig
from helios.domain.enums import VolatilityRegime
from helios.errors import RejectedError
from helios.risk.exits import exit_levels, is_tradable

DRAWDOWN_STEP = 0.10
"""Drawdown above which the size is halved."""
MONEY_STEP = Decimal("0.00000001")
MAX_POSITION = 0.20


@dataclass(frozen=True, slots=True)
class SizeDecision:
    """A size with every number it comes from. Fractions are of equity unless the name says otherwise.

    Attributes
    ----------
    kelly_full : float
        f* = p - (1 - p) / b.
    kelly_scaled : float
        f* times `kelly_multiplier` (a quarter by default).
    volatility_scaled : float
        The former over (1 + daily volatility / reference).
    drawdown_scaled : float
        The former, halved when drawdown is above 10 %.
    leveraged : float
        The former times leverage: the exposure asked for. The quantity carries it, P&L does not get it a second time.
    regime_cap, position_cap : float
        Upper bounds on the whole holding.
    target_fraction : float
        The whole holding wanted: the smallest of the three.
    held_fraction, fraction : float
        What is held already, and what is added: target less held.
    notional_quote, loss_at_stop_quote, gain_at_target_quote : Decimal
        What is added, in money, and what it loses or gains at its exits before costs.
    stop_pct, target_pct : float
        Distances of stop and target from the entry, as fractions of the price.
    """

    confidence: float
    payoff_ratio: float
    kelly_full: float
    kelly_scaled: float
    volatility_scaled: float
    drawdown_scaled: float
    leverage: float
    leveraged: float
    regime: VolatilityRegime
    regime_cap: float
    position_cap: float
    target_fraction: float
    held_fraction: float
    fraction: float
    notional_quote: Decimal
    stop_pct: float
    target_pct: float
    loss_at_stop_quote: Decimal
    gain_at_target_quote: Decimal
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SizeRefusal:
    """Why there is no size.

    LOW_CONFIDENCE, INVALID_CONFIDENCE, NO_EDGE, NO_VOLATILITY, STOP_TOO_WIDE, NO_EQUITY, ALREADY_HELD or MIN_NOTIONAL.
    """

    code: str
    detail: str


def kelly_full(p: float, b: float) -> float:
    """Return the growth-optimal fraction f* = p - (1 - p) / b; zero or below means no edge.

    Parameters
    ----------
    p : float
        Probability of winning, 0 to 1.
    b : float
        Gain of a win over loss of a loss, above 0.

    Raises
    ------
    RejectedError
        If either is outside its range or NaN.

    References
    ----------
    .. [1] J. L. Kelly, "A New Interpretation of Information Rate", Bell System Technical Journal 35, 1956.
    """
    if not 0.0 <= p <= 1.0 or not b > 0.0:
        raise RejectedError(f"Kelly needs a probability in 0..1 and a payoff ratio above 0, not {p} and {b}")
    return p - (1.0 - p) / b


def payoff_ratio(stop_pct: float, target_pct: float, round_trip_cost_pct: float = 0.0) -> float:
    """Return b = (target - cost) / (stop + cost): what a win brings over what a loss takes, once both have paid.

    Zero or below where costs eat the target.
    """
    if not stop_pct + round_trip_cost_pct > 0.0:
        raise RejectedError(f"stop distance and cost must be above 0, not {stop_pct} and {round_trip_cost_pct}")
    return (target_pct - round_trip_cost_pct) / (stop_pct + round_trip_cost_pct)


def volatility_factor(daily_volatility: float, reference: float, rule: Literal["damped", "inverse"] = "damped") -> float:
    """Return what a size is multiplied by at this volatility.

    `damped` is 1 / (1 + volatility / reference), the rule of the desk; `inverse` is min(1, reference / volatility), which
    keeps the money at risk constant.
    """
    if rule == "inverse":
        return min(1.0, reference / daily_volatility) if daily_volatility > 0.0 else 1.0
    return 1.0 / (1.0 + daily_volatility / reference)


def size_position(
    confidence: float,
    payoff_ratio: float,
    daily_volatility: float,
    regime: VolatilityRegime,
    drawdown: float,
    held_notional: Decimal,
    equity: Decimal,
    config: RiskConfig,
    *,
    leverage: float = 1.0,
    max_position: float = MAX_POSITION,
) -> SizeDecision | SizeRefusal:
    """Size one entry.

    The result is notional as a fraction of equity (the cautious reading of Kelly: a full loss of the stake would be the
    loss), not money at risk; the loss at the stop is reported beside it.

    Parameters
    ----------
    confidence : float
        Calibrated probability of the predicted side.
    payoff_ratio : float
        b, after costs if they are known.
    daily_volatility, drawdown : float
        Fractions.
    held_notional : Decimal
        What is held already on the same side, quote currency, 0 or more.
    leverage : float
        From `helios.risk.leverage`; 1 on spot.
    max_position : float
        Cap on the whole holding in one symbol, whatever the regime.
    """
    refusal = _refuse(confidence, payoff_ratio, daily_volatility, equity, config)
    if refusal is not None:
        return refusal
    full = kelly_full(confidence, payoff_ratio)
    scaled = full * config.kelly_multiplier
    damped = scaled * volatility_factor(daily_volatility, config.volatility_reference)
    drawn = damped * (0.5 if drawdown > DRAWDOWN_STEP else 1.0)
    cap = config.regime_caps[list(VolatilityRegime).index(regime)]
    target = min(drawn * leverage, cap, max_position)
    held = float(held_notional / equity)
    fraction = target - held
    if fraction <= 0.0:
        return SizeRefusal("ALREADY_HELD", f"{held:.2%} of equity is held, the target is {target:.2%}")
    stop_pct, target_pct = exit_levels(daily_volatility, config)
    notional = _money(fraction, equity)
    if notional == 0:
        return SizeRefusal("MIN_NOTIONAL", f"{fraction:.3g} of {equity} rounds to nothing")
    decision = SizeDecision(
        confidence=confidence,
        payoff_ratio=payoff_ratio,
        kelly_full=full,
        kelly_scaled=scaled,
        volatility_scaled=damped,
        drawdown_scaled=drawn,
        leverage=leverage,
        leveraged=drawn * leverage,
        regime=regime,
        regime_cap=cap,
        position_cap=max_position,
        target_fraction=target,
        held_fraction=held,
        fraction=fraction,
        notional_quote=notional,
        stop_pct=stop_pct,
        target_pct=target_pct,
        loss_at_stop_quote=_money(stop_pct, notional),
        gain_at_target_quote=_money(target_pct, notional),
        notes=(),
    )
    return _with_notes(decision, drawdown, daily_volatility, config)


def _refuse(p: float, b: float, daily_volatility: float, equity: Decimal, config: RiskConfig) -> SizeRefusal | None:
    if not p >= config.min_confidence:
        return SizeRefusal("LOW_CONFIDENCE", f"confidence {p:.3f} is below {config.min_confidence:.3f}")
    if p > 1.0:
        return SizeRefusal("INVALID_CONFIDENCE", f"confidence {p} is no probability")
    if not is_tradable(daily_volatility):
        return SizeRefusal("NO_VOLATILITY", f"daily volatility {daily_volatility} gives no stop distance")
    if not equity > 0:
        return SizeRefusal("NO_EQUITY", f"equity is {equity}")
    if not b > 0.0 or kelly_full(p, b) <= 0.0:
        full = f"{kelly_full(p, b):.3f}" if b > 0.0 else "undefined"
        return SizeRefusal("NO_EDGE", f"full Kelly is {full} at confidence {p:.3f} and payoff ratio {b:.3f}")
    stop_pct, _ = exit_levels(daily_volatility, config)
    if stop_pct >= 1.0:
        return SizeRefusal("STOP_TOO_WIDE", f"a stop {stop_pct:.0%} away lies at or below a price of 0")
    return None


def _money(fraction: float, amount: Decimal) -> Decimal:
    # ten decimals: below any lot, above the noise of binary fractions (0.145 / 2.5 is 0.057999999999999996)
    return (Decimal(f"{fraction:.10f}") * amount).quantize(MONEY_STEP, rounding=ROUND_DOWN)


def _with_notes(size: SizeDecision, drawdown: float, daily_volatility: float, config: RiskConfig) -> SizeDecision:
    notes = [
        f"full Kelly {size.kelly_full:.4f} at p {size.confidence:.3f} and b {size.payoff_ratio:.3f}",
        f"times {config.kelly_multiplier:g} is {size.kelly_scaled:.4f}",
        f"daily volatility {daily_volatility:.4f} leaves {size.volatility_scaled:.4f}",
    ]
    if size.regime in (VolatilityRegime.HIGH, VolatilityRegime.EXTREME):
        notes.append(f"ALERT: volatility regime {size.regime.value}")
    if drawdown > DRAWDOWN_STEP:
        notes.append(f"drawdown {drawdown:.2%} halves it to {size.drawdown_scaled:.4f}")
    if size.leverage > 1.0:
        notes.append(f"leverage {size.leverage:.1f} makes it {size.leveraged:.4f}")
    if size.target_fraction < size.leveraged:
        cap = "position" if size.position_cap <= size.regime_cap else f"{size.regime.value} regime"
        notes.append(f"the {cap} cap holds it at {size.target_fraction:.4f}")
    if size.held_fraction > 0.0:
        notes.append(f"{size.held_fraction:.4f} is held already")
    notes.append(f"final fraction {size.fraction:.4f} of equity, stop {size.stop_pct:.2%}, target {size.target_pct:.2%}")
    return replace(size, notes=tuple(notes))

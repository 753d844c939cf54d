"""Where a size begins: the fraction of capital a method asks for, before drawdown, leverage and caps take their part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from helios.config import RiskConfig
from helios.errors import RejectedError

SizeMethod = Literal["kelly", "half_kelly", "fixed_fractional", "volatility_adjusted"]
HALF = 0.5
HALF_KELLY_CAP = 0.25
MOST_ENLARGED = 2.0
"""The volatility-adjusted method at most doubles its base in a calm market."""


@dataclass(frozen=True, slots=True)
class BaseSize:
    """A method's fraction of capital (`base`), what volatility leaves of it (`scaled`), and the Kelly fraction behind it.

    `takes_leverage` is False where the method fixes the money at the stop: leverage then decides the margin alone.
    """

    kelly: float
    base: float
    scaled: float
    takes_leverage: bool


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


def half_kelly(win_rate: float, average_win: float, average_loss: float, cap: float = HALF_KELLY_CAP) -> float:
    """Return half of Kelly's fraction from a record of trades, within 0 and `cap`.

    b is average win / average loss, both positive and in one unit. 0 where the average loss is 0 (no record, or one without a
    single loss, says nothing about b) and where there is no edge.

    Raises
    ------
    RejectedError
        If a figure is NaN, infinite, negative, or the win rate is above 1.
    """
    if not (0.0 <= win_rate <= 1.0 and 0.0 <= average_win < math.inf and 0.0 <= average_loss < math.inf):
        raise RejectedError(f"no record of trades: win rate {win_rate}, average win {average_win}, average loss {average_loss}")
    if average_loss == 0.0 or average_win == 0.0:
        return 0.0
    return min(max(HALF * kelly_full(win_rate, average_win / average_loss), 0.0), cap)


def fixed_fractional(risk_per_trade: float, stop_pct: float) -> float:
    """Return the notional fraction that loses `risk_per_trade` of the capital at a stop `stop_pct` away."""
    if not stop_pct > 0.0:
        raise RejectedError(f"no size from a stop {stop_pct} away")
    return risk_per_trade / stop_pct


def volatility_adjusted(base: float, volatility_ratio: float, daily_volatility: float, reference: float) -> float:
    """Return base x min(mean volatility / present volatility, 2).

    `volatility_ratio` is present over mean. Where it is unknown (NaN) `reference` stands for the mean and nothing is enlarged.
    """
    if volatility_ratio > 0.0:
        return base * min(1.0 / volatility_ratio, MOST_ENLARGED)
    return base * min(reference / daily_volatility, 1.0)


def volatility_factor(daily_volatility: float, reference: float, rule: Literal["damped", "inverse"] = "damped") -> float:
    """Return what a size is multiplied by at this volatility.

    `damped` is 1 / (1 + volatility / reference), the rule of the desk; `inverse` is min(1, reference / volatility), which
    keeps the money at risk constant above the reference.
    """
    if rule == "inverse":
        return min(1.0, reference / daily_volatility) if daily_volatility > 0.0 else 1.0
    return 1.0 / (1.0 + daily_volatility / reference)


def base_size(p: float, b: float, daily_volatility: float, volatility_ratio: float, stop_pct: float, config: RiskConfig) -> BaseSize:
    """Return what the configured method asks for at confidence `p` and payoff ratio `b`, of which `kelly` alone is made."""
    full, method = kelly_full(p, b), config.size_method
    if method == "fixed_fractional":
        base = fixed_fractional(config.risk_per_trade, stop_pct)
        return BaseSize(full, base, base, takes_leverage=False)  # the stop, two volatilities away, has volatility in it
    if method == "volatility_adjusted":
        scaled = volatility_adjusted(config.base_fraction, volatility_ratio, daily_volatility, config.volatility_reference)
        return BaseSize(full, config.base_fraction, scaled, takes_leverage=True)
    factor = volatility_factor(daily_volatility, config.volatility_reference, config.volatility_rule)
    base = full * config.kelly_multiplier
    if method == "half_kelly":
        base = half_kelly(config.win_rate, config.average_win_pct, config.average_loss_pct)
    return BaseSize(full, base, base * factor, takes_leverage=True)

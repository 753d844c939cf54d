"""How a position will be left, decided before it is opened."""

from __future__ import annotations

import math

from helios.config import RiskConfig
from helios.domain.orders import ExitRule
from helios.errors import RejectedError

NS_PER_H = 3_600_000_000_000
MIN_DAILY_VOLATILITY = 1e-6
"""Below this a stop would lie inside a tick: such a market (a pegged or dead one) has no distance to give."""


def is_tradable(daily_volatility: float) -> bool:
    """Whether a stop distance can be taken from this volatility; NaN and infinity give none."""
    return MIN_DAILY_VOLATILITY <= daily_volatility < math.inf


def exit_levels(daily_volatility: float, config: RiskConfig) -> tuple[float, float]:
    """Return stop and target distance as fractions of the entry price.

    The stop is `stop_daily_volatilities` daily volatilities away (2 by default; no average true range is in it), the target
    `reward_to_risk` times that. `stop_method = "fixed"` takes `fixed_stop_pct` and `fixed_target_pct` whatever the volatility.

    Raises
    ------
    RejectedError
        If the volatility is not at least 1e-6: a position without a stop distance must not be opened.
    """
    if not is_tradable(daily_volatility):
        raise RejectedError(f"no stop distance from a daily volatility of {daily_volatility}")
    if config.stop_method == "fixed":
        return config.fixed_stop_pct, config.fixed_target_pct
    # ten decimals: 2 x 0.03 is 6 %, not 6 % and a binary crumb
    stop = round(config.stop_daily_volatilities * daily_volatility, 10)
    return stop, round(config.reward_to_risk * stop, 10)


def exit_rule(daily_volatility: float, config: RiskConfig) -> ExitRule:
    """Return stop, target, trailing stop and time-out for a position opened at this volatility."""
    return rule_of(*exit_levels(daily_volatility, config), config)


def rule_of(stop_pct: float, target_pct: float, config: RiskConfig) -> ExitRule:
    """Return the whole rule for these distances: trailing stop, break-even, scale-out and time-out as configured."""
    return ExitRule(
        stop_loss_pct=stop_pct,
        take_profit_pct=target_pct,
        trailing_activate_pct=config.trailing_activate_pct,
        trailing_pct=config.trailing_pct,
        timeout_ns=horizon_ns(config),
        breakeven_activate_pct=config.breakeven_activate_pct,
        breakeven_offset_pct=config.breakeven_offset_pct,
        scale_out_fraction=config.scale_out_fraction,
        scale_out_at=config.scale_out_at,
    )


def horizon_ns(config: RiskConfig) -> int:
    """Return how long a position may stay open, ns."""
    return int(config.timeout_h * NS_PER_H)

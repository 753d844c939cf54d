"""Kelly's b: from what a model's trades really gave where that was measured, else from the distances of stop and target.

A position that may last a day meets a stop two daily volatilities away, or a target four away, in a few cases of a hundred; the
others end by time in between, where a win is hardly larger than a loss. Target over stop then promises a payoff that is not there.
"""

from __future__ import annotations

import math

from helios.config import RiskConfig
from helios.domain.decisions import Payoff
from helios.risk.exits import exit_levels
from helios.risk.sizing import payoff_ratio


def measured_payoff(payoff: Payoff | None, config: RiskConfig) -> Payoff | None:
    """Return the measured payoff if it is to be used and was measured under the exits that a position would have here."""
    if payoff is None or config.payoff != "measured" or config.stop_method != "volatility":
        return None
    here = (config.stop_daily_volatilities, config.reward_to_risk, config.timeout_h)
    there = (payoff.stop_daily_volatilities, payoff.reward_to_risk, payoff.timeout_h)
    return payoff if all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(here, there, strict=True)) else None


def payoff_of(measured: Payoff | None, daily_volatility: float, config: RiskConfig) -> float:
    """Return Kelly's b: the measured one, but never more than the exits can give; NaN (the exits alone) without one."""
    if measured is None:
        return math.nan
    largest = payoff_ratio(*exit_levels(daily_volatility, config), config.round_trip_cost_pct)
    return min(measured.win_stops / measured.loss_stops, largest) if measured.loss_stops > 0.0 else largest

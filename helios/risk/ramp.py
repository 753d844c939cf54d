"""After going live: the intended capital step by step, and when the next step is due."""

from __future__ import annotations

from dataclasses import dataclass

LIVE_RAMP = (0.0, 0.10, 0.25, 0.50, 0.75, 1.0)
"""Share of the intended capital at each step; the first only watches."""
WATCH_ONLY = 0
DAYS_PER_STEP = 7.0
TRADES_PER_STEP = 5
DRAWDOWN_SHARE = 0.5
"""Of the drawdown limit: from here on the desk has nothing to prove with more money."""


@dataclass(frozen=True, slots=True)
class RampAdvice:
    """The step that is permitted now, and why."""

    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class RampFacts:
    """What happened since a step began, in market time.

    Attributes
    ----------
    since : int
        Market time at which the step's first run began, ns UTC.
    days : float
        Days the desk has worked since: no more than days with a known equity.
    trades : int
        Positions closed.
    drawdown : float
        Deepest fraction of the peak; NaN where nothing is known.
    limits_broken : int
        Breakers of losses that tripped. An order that was stopped before it was sent is none.
    is_halted : bool
        Whether trading was halted, by a breaker or an emergency stop.
    """

    since: int
    days: float
    trades: int
    drawdown: float
    limits_broken: int
    is_halted: bool


def advise(step: int, facts: RampFacts, max_drawdown: float) -> RampAdvice:
    """Return `next_ramp_step` for what happened."""
    f = facts
    return next_ramp_step(step, f.days, f.trades, f.drawdown, max_drawdown, f.limits_broken, f.is_halted)


def ramp_share(step: int | None) -> float:
    """Return the share of equity that sizing may see at a step: 0, 0.10, 0.25, 0.50, 0.75, 1; None is no ramp."""
    return 1.0 if step is None else LIVE_RAMP[step]


def next_ramp_step(
    step: int,
    days_at_step: float,
    trades: int,
    drawdown: float,
    max_drawdown: float = 0.15,
    limits_broken: int = 0,
    is_halted: bool = False,
) -> RampAdvice:
    """Return the ramp step that is permitted now: one further, the same, or after a halt one back.

    Further needs at least 7 days at the step, at least 5 trades closed in them (none while only watching: there can be none), no
    limit broken and a drawdown below half its limit. Unknown (NaN) days or drawdown keep the step. Nothing here changes the
    configuration: whoever answers for the money sets `risk.ramp_step`.

    Parameters
    ----------
    step : int
        0..5, index into `LIVE_RAMP`.
    days_at_step : float
        Since this step began.
    trades, limits_broken : int
        Closed trades, and orders or accounts found beyond a limit, since this step began. An order that a limit stopped before it
        was sent broke nothing.
    drawdown, max_drawdown : float
        Deepest fraction of the peak since this step began, and its limit.
    is_halted : bool
        Whether trading was halted (drawdown limit, emergency stop) since this step began.
    """
    if is_halted:
        return RampAdvice(max(step - 1, WATCH_ONLY), "trading was halted: one step back")
    if step >= len(LIVE_RAMP) - 1:
        return RampAdvice(len(LIVE_RAMP) - 1, "the whole of the intended capital is in use")
    needed = 0 if step == WATCH_ONLY else TRADES_PER_STEP
    bound = DRAWDOWN_SHARE * max_drawdown
    for is_met, reason in (
        (days_at_step >= DAYS_PER_STEP, f"{days_at_step:.1f} days at this step, {DAYS_PER_STEP:g} are needed"),
        (trades >= needed, f"{trades} closed trades at this step, {needed} are needed"),
        (limits_broken <= 0, f"{limits_broken} limits broken at this step"),
        (drawdown < bound, f"drawdown {drawdown:.2%} is not below half its limit, {bound:.2%}"),
    ):
        if not is_met:
            return RampAdvice(step, reason)
    return RampAdvice(step + 1, f"{LIVE_RAMP[step + 1]:.0%} of the intended capital is permitted")

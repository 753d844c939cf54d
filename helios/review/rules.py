"""The rule reviewer: the same answer to the same plan, without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helios.config import ReviewConfig
from helios.domain.decisions import TradePlan, Verdict
from helios.domain.enums import Side, VerdictKind, VolatilityRegime
from helios.domain.orders import AccountSnapshot
from helios.pipeline.ports import ReviewRequest

MAX_DAILY_VOLATILITY = 0.10
FULL_SIZE_CONFIDENCE = 0.62
CAUTION_DRAWDOWN = 0.05
CAUTION_INVESTED = 0.60
ONE_SIDED_ATTENTION = 0.80
HALF = 0.5


@dataclass(frozen=True, slots=True)
class _Case:
    """One plan with what the rules look at."""

    plan: TradePlan
    account: AccountSnapshot
    attention: tuple[float, float, float] | None

    @property
    def invested(self) -> float:
        """Absolute value of all positions as a fraction of equity."""
        if self.account.equity_quote <= 0:
            return 1.0
        return float(sum(p.notional_quote for p in self.account.positions) / self.account.equity_quote)


@dataclass(frozen=True, slots=True)
class Rule:
    """A named condition: the multiplier it asks for (0 rejects, 1 only flags) and its sentence with numbers."""

    code: str
    multiplier: float
    applies: Callable[[_Case], bool]
    says: Callable[[_Case], str]


RULES: tuple[Rule, ...] = (
    Rule(
        "VOLATILITY_TOO_HIGH",
        0.0,
        # Written as "not within": an unknown (NaN) volatility is refused too.
        lambda c: not c.plan.daily_volatility <= MAX_DAILY_VOLATILITY,
        lambda c: f"daily volatility {c.plan.daily_volatility:.1%} is above {MAX_DAILY_VOLATILITY:.0%}",
    ),
    Rule(
        "EXTREME_REGIME",
        HALF,
        lambda c: c.plan.regime is VolatilityRegime.EXTREME,
        lambda c: f"volatility {c.plan.daily_volatility:.1%} is extreme for {c.plan.symbol}",
    ),
    Rule(
        "LOW_CONFIDENCE",
        HALF,
        lambda c: not c.plan.confidence >= FULL_SIZE_CONFIDENCE,
        lambda c: f"confidence {c.plan.confidence:.0%} is below {FULL_SIZE_CONFIDENCE:.0%}",
    ),
    Rule(
        "DRAWDOWN",
        HALF,
        lambda c: not c.account.drawdown <= CAUTION_DRAWDOWN,
        lambda c: f"drawdown {c.account.drawdown:.1%} is above {CAUTION_DRAWDOWN:.0%}",
    ),
    Rule(
        "HEAVILY_INVESTED",
        HALF,
        lambda c: c.invested > CAUTION_INVESTED,
        lambda c: f"{c.invested:.0%} of equity is already invested, above {CAUTION_INVESTED:.0%}",
    ),
    Rule(
        "ONE_SIDED_ATTENTION",
        1.0,
        lambda c: c.attention is not None and max(c.attention) > ONE_SIDED_ATTENTION,
        lambda c: f"one timeframe carries {max(c.attention or (0.0,)):.0%} of the model's attention",
    ),
)


class RuleReviewer:
    """Judge plans by `RULES`: multipliers multiply, a zero rejects. Reduce-only plans always pass whole.

    Parameters
    ----------
    config : ReviewConfig or None
        Kept for the same construction as the other reviewers; the rules have no settings.
    """

    name = "rules"

    def __init__(self, config: ReviewConfig | None = None) -> None:
        self.config = config or ReviewConfig()

    def review(self, request: ReviewRequest) -> list[Verdict]:
        """Return one verdict per plan, in order."""
        return [self.judge(plan, request) for plan in request.plans]

    def judge(self, plan: TradePlan, request: ReviewRequest) -> Verdict:
        """Judge one plan of `request`."""
        if plan.reduce_only:
            words = f"Approved: {strategy(plan)} only reduces what is held."
            return Verdict(plan.decision_id, plan.symbol, VerdictKind.APPROVE, 1.0, words, (), self.name)
        prediction = request.predictions.get(plan.symbol)
        case = _Case(plan, request.account, prediction.attention if prediction else None)
        hits = [rule for rule in RULES if rule.applies(case)]
        multiplier = 1.0
        for rule in hits:
            multiplier *= rule.multiplier
        kind = kind_of(multiplier)
        flags = tuple(rule.code for rule in hits)
        return Verdict(plan.decision_id, plan.symbol, kind, multiplier, _sentence(kind, case, hits, multiplier), flags, self.name)


class AsyncRuleReviewer:
    """The rule reviewer behind the review port."""

    def __init__(self, rules: RuleReviewer) -> None:
        self._rules = rules
        self.name = rules.name

    async def review(self, request: ReviewRequest) -> list[Verdict]:
        """Return one verdict per plan, in order."""
        return self._rules.review(request)


def kind_of(multiplier: float) -> VerdictKind:
    """Name a multiplier in 0..1: 0 rejects, 1 approves, anything between modifies."""
    if multiplier <= 0:
        return VerdictKind.REJECT
    return VerdictKind.APPROVE if multiplier >= 1 else VerdictKind.MODIFY


def strategy(plan: TradePlan) -> str:
    """Name what the plan does."""
    if plan.reduce_only:
        return "EXIT_LONG" if plan.side is Side.SELL else "EXIT_SHORT"
    return "MOMENTUM_LONG" if plan.side is Side.BUY else "MOMENTUM_SHORT"


def _sentence(kind: VerdictKind, case: _Case, hits: list[Rule], multiplier: float) -> str:
    plan = case.plan
    about = f"{strategy(plan)} at confidence {plan.confidence:.0%} and daily volatility {plan.daily_volatility:.1%}"
    reasons = "; ".join(rule.says(case) for rule in hits)
    verdict = {
        VerdictKind.APPROVE: "Approved",
        VerdictKind.MODIFY: f"Reduced to {multiplier:.2f} of its size",
        VerdictKind.REJECT: "Rejected",
    }[kind]
    return f"{verdict}: {about}" + (f"; {reasons}." if reasons else ".")

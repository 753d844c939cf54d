"""What the decision cycle asks of each tier.

The same cycle runs over these ports in one process (backtest, parity tests) and over Ray actors (the desk). All methods take
and return the frozen values of helios.domain, one batch of symbols at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from helios.domain.decisions import (
    DecisionTrace,
    FeatureWindow,
    NoTrade,
    Prediction,
    TradePlan,
    Verdict,
    VolatilityForecast,
)
from helios.domain.events import Mark
from helios.domain.market import MarketSnapshot
from helios.domain.orders import AccountSnapshot, ExitPlan, ExitTriggered, OrderIntent, OrderOutcome

SOLVER_FAILED = "SOLVER_FAILED"
"""Code of the refusals, and status of the whole allocation, where the optimiser has no answer: the present weights are kept."""


@dataclass(frozen=True, slots=True)
class SymbolContext:
    """The part of a feature window that the tiers after the model need."""

    symbol: str
    bar_time: int
    close: float
    volume_quote: float
    market: MarketSnapshot


@dataclass(frozen=True, slots=True)
class RiskRequest:
    """One bar close for tier 3; `contexts` has every symbol of the bar, `predictions` those with one."""

    bar_time: int
    predictions: tuple[Prediction, ...]
    contexts: Mapping[str, SymbolContext]
    account: AccountSnapshot


@dataclass(frozen=True, slots=True)
class RiskResponse:
    """One plan or refusal per prediction, in the same order, and the forecasts they rest on.

    `volatility_ratios` (present forecast over its mean, by symbol; NaN where unknown) are what the volatility breaker goes by.
    """

    plans: tuple[TradePlan | NoTrade, ...]
    forecasts: Mapping[str, VolatilityForecast]
    volatility_ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """The plans of one bar for tier 4, in order."""

    bar_time: int
    plans: tuple[TradePlan, ...]
    predictions: Mapping[str, Prediction]
    account: AccountSnapshot


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """Approved or shrunk plans of one bar with their verdicts (same order) for tier 5. REJECT never gets here."""

    bar_time: int
    plans: tuple[TradePlan, ...]
    verdicts: tuple[Verdict, ...]
    contexts: Mapping[str, SymbolContext]
    account: AccountSnapshot


@dataclass(frozen=True, slots=True)
class AllocationResponse:
    """One intent or refusal per plan, in the same order, and the weights they come from (plain JSON, for the trace)."""

    intents: tuple[OrderIntent | NoTrade, ...]
    weights: Mapping[str, float]
    solver_status: str

    @property
    def failure(self) -> str:
        """Why the optimiser had no answer; empty where it had one or was not asked."""
        failed = (i.detail for i in self.intents if isinstance(i, NoTrade) and i.code == SOLVER_FAILED)
        return next(failed, "")


@dataclass(frozen=True, slots=True)
class RebalanceRequest:
    """One bar for tier 5's upkeep of what is held; `contexts` are the symbols whose data came, `account` as it is after the orders
    of the bar. `is_risk_event`: what is held breaks a limit now, so that no calendar is waited for.
    """

    bar_time: int
    contexts: Mapping[str, SymbolContext]
    account: AccountSnapshot
    is_risk_event: bool = False


@dataclass(frozen=True, slots=True)
class RebalanceResponse:
    """Orders that bring weights back, why (empty: nothing is due), and the targets they come from.

    `failure` says why the optimiser had no answer, where a broken limit was trimmed without it.
    """

    intents: tuple[OrderIntent, ...] = ()
    reason: str = ""
    targets: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""


class PredictionTier(Protocol):
    async def predict(self, windows: Sequence[FeatureWindow]) -> list[Prediction]: ...


class RiskTier(Protocol):
    async def plan(self, request: RiskRequest) -> RiskResponse: ...


class ReviewTier(Protocol):
    async def review(self, request: ReviewRequest) -> list[Verdict]: ...


class PortfolioTier(Protocol):
    async def observe(self, contexts: Mapping[str, SymbolContext]) -> None:
        """Take in the closes of an hour; called at each full hour, whether or not there are plans."""
        ...

    async def allocate(self, request: AllocationRequest) -> AllocationResponse: ...

    async def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        """Bring what is held back to its targets; asked at each full hour and at risk events while anything is held."""
        ...


class ExecutionTier(Protocol):
    async def account(self, marks: Sequence[Mark]) -> AccountSnapshot:
        """Mark to market (in the given order) and return the account."""
        ...

    async def submit(self, intents: Sequence[OrderIntent], markets: Mapping[str, MarketSnapshot]) -> list[OrderOutcome]:
        """Check, commit and send; one outcome per intent. Repeating an intent returns its first outcome."""
        ...

    async def exits(self, triggers: Sequence[ExitTriggered]) -> list[OrderOutcome]:
        """Close positions whose exit fired; a repeated trigger does nothing."""
        ...

    async def exit_plans(self) -> list[ExitPlan]:
        """What the symbols must watch now."""
        ...

    async def note_volatility(self, ratios: Mapping[str, float]) -> None:
        """Show the breakers each symbol's present volatility over its mean; repeating it changes nothing."""
        ...

    async def flatten(self, markets: Mapping[str, MarketSnapshot], *, for_good: bool = True) -> list[str]:
        """Close what has a market; return the symbols still open. To be repeated until there are none.

        `for_good`: entries are refused until they are allowed again; else the breakers alone say so.
        """
        ...


class TraceSink(Protocol):
    async def record(self, traces: Sequence[DecisionTrace], forecasts: Sequence[VolatilityForecast]) -> None:
        """Keep traces; a decision id is stored once."""
        ...

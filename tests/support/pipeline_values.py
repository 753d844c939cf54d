"""Windows, predictions, plans and tiers for tests of the decision cycle and the conductor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from helios.domain.decisions import (
    WINDOW_STEPS,
    DecisionTrace,
    FeatureWindow,
    NoTrade,
    Prediction,
    TradePlan,
    Verdict,
    VolatilityForecast,
    decision_id,
)
from helios.domain.enums import Action, OrderStatus, Side, Timeframe, TradingState, VerdictKind, VolatilityRegime
from helios.domain.events import Mark
from helios.domain.market import NAN, Bar, MarketSnapshot
from helios.domain.orders import (
    AccountSnapshot,
    ExitPlan,
    ExitTriggered,
    Fill,
    OrderIntent,
    OrderOutcome,
    OrderRecord,
    PositionView,
    client_order_id,
)
from helios.pipeline.cycle import Tiers
from helios.pipeline.ports import (
    SOLVER_FAILED,
    AllocationRequest,
    AllocationResponse,
    RebalanceRequest,
    RebalanceResponse,
    ReviewRequest,
    RiskRequest,
    RiskResponse,
    SymbolContext,
)

MINUTE_NS = Timeframe.M1.ns
BAR_NS = Timeframe.M5.ns
T0 = 1_700_000_000_000_000_000 // Timeframe.D1.ns * Timeframe.D1.ns
D = Decimal


def bar(index: int, close: float = 100.0, timeframe: Timeframe = Timeframe.M1, symbol: str = "BTC/USDT", **changes: Any) -> Bar:
    """The bar that opens `index` lengths after T0."""
    low, high = changes.pop("low", close - 1.0), changes.pop("high", close + 1.0)
    return Bar(symbol, timeframe, T0 + index * timeframe.ns, close, high, low, close, changes.pop("volume", 2.0), **changes)


def snapshot(symbol: str = "BTC/USDT", price: str = "100", ts: int = T0) -> MarketSnapshot:
    return MarketSnapshot(symbol, D(price), ts, ((D(price), D(5)),), ((D(price) + D("0.1"), D(5)),), 10.0)


def window(
    symbol: str = "BTC/USDT", bar_time: int = T0, is_stale: bool = False, is_warm: bool = True, close: float = 100.0
) -> FeatureWindow:
    values = np.full((3, WINDOW_STEPS, 30), 0.25, dtype=np.float32)
    returns = np.zeros((3, WINDOW_STEPS + 59))
    return FeatureWindow(symbol, bar_time, values, returns, is_warm, close, NAN, snapshot(symbol, ts=bar_time), is_stale)


def account(ts: int = T0) -> AccountSnapshot:
    cash = D(100_000)
    return AccountSnapshot(ts, cash, cash, cash, cash, D(0), D(0), D(0), 0.0, 0.0, (), 0, 0, (), 0, 0)


def position(symbol: str, quantity: str = "100", price: str = "100") -> PositionView:
    return PositionView(symbol, D(quantity), D(price), D(price), D(0), D(0), T0, 1.0, "d", math.nan, math.nan, 0)


def prediction(symbol: str, bar_time: int) -> Prediction:
    return Prediction(symbol, bar_time, Action.BUY, 0.7, (0.7, 0.2, 0.1), (0.5, 0.3, 0.2), "fake-1")


def forecast(symbol: str, bar_time: int) -> VolatilityForecast:
    # An EWMA forecast has no GARCH parameters: they are NaN, and a trace must still be JSON.
    return VolatilityForecast(symbol, bar_time, 0.03, 0.57, VolatilityRegime.MEDIUM, "EWMA", NAN, NAN, NAN, math.inf)


def plan(symbol: str, bar_time: int) -> TradePlan:
    return TradePlan(
        decision_id(symbol, bar_time), symbol, bar_time, Side.BUY, 0.7, D(5000), 1.0, D(100), 0.06, 0.12, D(300), BAR_NS,
        0.4, 0.1, 2.0, 0.03, VolatilityRegime.MEDIUM, notes=("a note",),
    )  # fmt: skip


def verdict(plan_: TradePlan, kind: VerdictKind = VerdictKind.APPROVE, multiplier: float = 1.0) -> Verdict:
    return Verdict(plan_.decision_id, plan_.symbol, kind, multiplier, f"{kind.value} because", (), "rules")


def intent(plan_: TradePlan) -> OrderIntent:
    name = plan_.decision_id
    return OrderIntent(
        client_order_id(name, "entry"), name, plan_.symbol, Side.BUY, D(50), D(100), False, "entry", 1.0, plan_.bar_time
    )


def record(of: OrderIntent, status: OrderStatus = OrderStatus.FILLED, deny_codes: tuple[str, ...] = ()) -> OrderRecord:
    filled = of.quantity_base if status is OrderStatus.FILLED else D(0)
    return OrderRecord(
        of.client_order_id, of.decision_id, of.symbol, of.side, of.quantity_base, of.reference_price, of.reduce_only, of.leg,
        of.leverage, status, filled, D(100), D("0.5"), of.ts_event, of.ts_event, 1, "why", deny_codes,
    )  # fmt: skip


def fill(of: OrderRecord) -> Fill:
    fee = D("0.5")
    return Fill(
        of.client_order_id + "-0", of.client_order_id, of.symbol, of.side, of.filled_base, D(100), fee, "USDT", fee, of.ts_event
    )


@dataclass
class ScriptedTiers:
    """All tiers in one: each answers for every symbol unless the script says otherwise; `failing` raise."""

    failing: dict[str, Exception] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[VerdictKind, float]] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    denials: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    allocated: list[str] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)
    predicted: list[FeatureWindow] = field(default_factory=list)
    traces: list[DecisionTrace] = field(default_factory=list)
    forecasts: list[VolatilityForecast] = field(default_factory=list)
    plans_to_watch: list[ExitPlan] = field(default_factory=list)
    log: list[tuple[str, Any]] = field(default_factory=list)
    held: tuple[PositionView, ...] = ()
    trading_state: TradingState = TradingState.ACTIVE
    ratios: Mapping[str, float] = field(default_factory=dict)
    trims: RebalanceResponse = field(default_factory=RebalanceResponse)
    rebalances: list[RebalanceRequest] = field(default_factory=list)
    unsolved: str = ""
    flattened: list[list[str]] = field(default_factory=list)

    def tiers(self) -> Tiers:
        return Tiers(
            prediction=_Prediction(self), risk=_Risk(self), review=_Review(self), portfolio=_Portfolio(self),
            execution=_Execution(self), traces=_Traces(self),
        )  # fmt: skip

    def enter(self, tier: str) -> None:
        self.calls.append(tier)
        if tier in self.failing:
            raise self.failing[tier]


class _Part:
    def __init__(self, script: ScriptedTiers) -> None:
        self.script = script


class _Prediction(_Part):
    async def predict(self, windows: Sequence[FeatureWindow]) -> list[Prediction]:
        self.script.enter("prediction")
        self.script.predicted += windows
        return [prediction(w.symbol, w.bar_time) for w in windows]


class _Risk(_Part):
    async def plan(self, request: RiskRequest) -> RiskResponse:
        self.script.enter("risk")
        plans = [self._answer(p.symbol, request.bar_time) for p in request.predictions]
        return RiskResponse(tuple(plans), {s: forecast(s, request.bar_time) for s in request.contexts}, self.script.ratios)

    def _answer(self, symbol: str, bar_time: int) -> TradePlan | NoTrade:
        code = self.script.refusals.get(symbol)
        return NoTrade(decision_id(symbol, bar_time), symbol, "risk", code, "too small") if code else plan(symbol, bar_time)


class _Review(_Part):
    async def review(self, request: ReviewRequest) -> list[Verdict]:
        self.script.enter("review")
        return [verdict(p, *self.script.verdicts.get(p.symbol, (VerdictKind.APPROVE, 1.0))) for p in request.plans]


class _Portfolio(_Part):
    async def observe(self, contexts: Mapping[str, SymbolContext]) -> None:
        self.script.enter("observe")

    async def allocate(self, request: AllocationRequest) -> AllocationResponse:
        self.script.enter("portfolio")
        self.script.allocated += [p.symbol for p in request.plans]
        if self.script.unsolved:
            refused = (NoTrade(p.decision_id, p.symbol, "portfolio", SOLVER_FAILED, self.script.unsolved) for p in request.plans)
            return AllocationResponse(tuple(refused), {}, SOLVER_FAILED)
        return AllocationResponse(tuple(intent(p) for p in request.plans), {p.symbol: 0.05 for p in request.plans}, "optimal")

    async def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        self.script.enter("rebalance")
        self.script.rebalances.append(request)
        return self.script.trims


class _Execution(_Part):
    async def account(self, marks: Sequence[Mark]) -> AccountSnapshot:
        self.script.log += [("mark", m) for m in marks]
        return replace(account(), positions=self.script.held, trading_state=self.script.trading_state)

    async def submit(self, intents: Sequence[OrderIntent], markets: Mapping[str, MarketSnapshot]) -> list[OrderOutcome]:
        self.script.enter("execution")
        self.script.submitted += [i.symbol for i in intents]
        return [self._outcome(i) for i in intents]

    def _outcome(self, of: OrderIntent) -> OrderOutcome:
        if of.symbol in self.script.denials:
            return OrderOutcome(record(of, OrderStatus.REJECTED, self.script.denials[of.symbol]))
        done = record(of)
        return OrderOutcome(done, (fill(done),))

    async def exits(self, triggers: Sequence[ExitTriggered]) -> list[OrderOutcome]:
        self.script.log += [("exit", t) for t in triggers]
        return [OrderOutcome(record(intent(plan(t.symbol, t.ts_event)))) for t in triggers]

    async def note_volatility(self, ratios: Mapping[str, float]) -> None:
        self.script.enter("volatility")
        self.script.log += [("volatility", dict(ratios))]

    async def exit_plans(self) -> list[ExitPlan]:
        return list(self.script.plans_to_watch)

    async def flatten(self, markets: Mapping[str, MarketSnapshot], *, for_good: bool = True) -> list[str]:
        self.script.flattened.append(sorted(markets))
        self.script.log.append(("flatten", for_good))
        return []


class _Traces(_Part):
    async def record(self, traces: Sequence[DecisionTrace], forecasts: Sequence[VolatilityForecast]) -> None:
        self.script.enter("record")
        self.script.traces += traces
        self.script.forecasts += forecasts


def ticking() -> Callable[[], float]:
    """A timer that gains a second per look."""
    seconds = iter(range(1_000_000))
    return lambda: float(next(seconds))

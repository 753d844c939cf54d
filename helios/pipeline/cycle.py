"""One decision cycle: a bar closed, five tiers answer one after the other, every answer is kept.

The cycle is the same over local objects and over actors (see ports.py). A tier that cannot answer ends the decisions of that
bar with its name; it never stops the desk and never leaves a symbol without a trace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from helios.domain.decisions import (
    DecisionTrace,
    FeatureWindow,
    NoTrade,
    Prediction,
    TradePlan,
    Verdict,
    VolatilityForecast,
    decision_id,
)
from helios.domain.enums import OrderStatus, VerdictKind
from helios.domain.orders import AccountSnapshot, OrderIntent, OrderOutcome
from helios.errors import HeliosError
from helios.features.window import fill_reference_correlation
from helios.pipeline import trace as view
from helios.pipeline.ports import (
    AllocationRequest,
    ExecutionTier,
    PortfolioTier,
    PredictionTier,
    RebalanceRequest,
    ReviewRequest,
    ReviewTier,
    RiskRequest,
    RiskTier,
    SymbolContext,
    TraceSink,
)

T = TypeVar("T")
A = TypeVar("A", TradePlan, OrderIntent)
Timer = Callable[[], float]
HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Tiers:
    """The five tiers of a desk, wherever they live."""

    prediction: PredictionTier
    risk: RiskTier
    review: ReviewTier
    portfolio: PortfolioTier
    execution: ExecutionTier
    traces: TraceSink


@dataclass(slots=True)
class CycleResult:
    """What one cycle did. Durations are wall seconds per tier; errors name the tiers that could not answer."""

    bar_time: int
    traces: list[DecisionTrace] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    plans: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    outcomes: list[OrderOutcome] = field(default_factory=list)
    durations_s: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class DecisionCycle:
    """Run the tiers for one bar.

    Parameters
    ----------
    tiers : Tiers
    reference_symbol : str or None
        The venue's BTC pair, for btc_correlation_60.
    timer : callable
        Monotonic seconds, for the latency figures alone.
    is_risk_event : callable or None
        Says of an account whether what is held must be cut at once; None waits for the full hour always.
    """

    def __init__(
        self,
        tiers: Tiers,
        reference_symbol: str | None,
        timer: Timer,
        is_risk_event: Callable[[AccountSnapshot], bool] | None = None,
    ) -> None:
        self._tiers = tiers
        self._reference = reference_symbol
        self._timer = timer
        self._is_risk_event = is_risk_event or (lambda _account: False)

    async def run(
        self, bar_time: int, windows: Sequence[FeatureWindow], missing: Sequence[str], account: AccountSnapshot
    ) -> CycleResult:
        """Decide for every window; `missing` symbols get a trace that says their data did not arrive."""
        result = CycleResult(bar_time)
        traces = {s: _open_trace(s, bar_time) for s in sorted({w.symbol for w in windows} | set(missing))}
        for symbol in missing:
            _end(traces[symbol], "data", "DATA_MISSING", "no feature window arrived before the deadline")
        usable = self._usable(windows, traces)
        contexts = {w.symbol: _context(w) for w in windows}
        for symbol, context in contexts.items():
            traces[symbol].steps["data"] = view.data_step(context)
        if bar_time % HOUR_NS == 0:
            await self._timed(result, "observe", self._tiers.portfolio.observe(contexts))
        forecasts = await self._decide(result, traces, usable, contexts, account)
        await self._keep_up(result, traces, {w.symbol: contexts[w.symbol] for w in usable}, account)
        result.traces = list(traces.values())
        await self._timed(result, "record", self._tiers.traces.record(result.traces, forecasts))
        return result

    def _usable(self, windows: Sequence[FeatureWindow], traces: dict[str, DecisionTrace]) -> list[FeatureWindow]:
        ordered = sorted(windows, key=lambda w: w.symbol)
        for window in ordered:
            if window.is_stale:
                _end(traces[window.symbol], "data", "STALE_DATA", "the feed was silent or being repaired at the close")
        return [w for w in fill_reference_correlation(ordered, self._reference) if not w.is_stale]

    async def _decide(
        self,
        result: CycleResult,
        traces: dict[str, DecisionTrace],
        windows: Sequence[FeatureWindow],
        contexts: Mapping[str, SymbolContext],
        account: AccountSnapshot,
    ) -> list[VolatilityForecast]:
        predictions = await self._predict(result, traces, windows)
        if predictions is None:
            return []
        response = await self._timed(
            result, "risk", self._tiers.risk.plan(RiskRequest(result.bar_time, tuple(predictions), contexts, account))
        )
        if response is None:
            _end_open(traces, "risk", result)
            return []
        forecasts = [response.forecasts[s] for s in sorted(response.forecasts)]
        for forecast in forecasts:
            if forecast.symbol in traces:
                traces[forecast.symbol].steps["volatility"] = view.volatility_step(forecast)
        if response.volatility_ratios:
            # before the orders of this bar; without an answer the breakers keep what they saw last, and tier 3 its own bound
            await self._timed(result, "volatility", self._tiers.execution.note_volatility(response.volatility_ratios))
        plans = _split(response.plans, traces, "plan", view.plan_step)
        result.plans = len(plans)
        if plans:
            await self._trade(result, traces, plans, predictions, contexts, account)
        return forecasts

    async def _predict(
        self, result: CycleResult, traces: dict[str, DecisionTrace], windows: Sequence[FeatureWindow]
    ) -> list[Prediction] | None:
        predictions = await self._timed(result, "prediction", self._tiers.prediction.predict(windows)) if windows else []
        if predictions is None:
            _end_open(traces, "prediction", result, "MODEL_UNAVAILABLE")
            return None
        result.predictions = predictions
        for prediction in predictions:
            traces[prediction.symbol].steps["prediction"] = view.prediction_step(prediction)
        return predictions

    async def _trade(
        self,
        result: CycleResult,
        traces: dict[str, DecisionTrace],
        plans: list[TradePlan],
        predictions: Sequence[Prediction],
        contexts: Mapping[str, SymbolContext],
        account: AccountSnapshot,
    ) -> None:
        by_symbol = {p.symbol: p for p in predictions}
        request = ReviewRequest(result.bar_time, tuple(plans), by_symbol, account)
        verdicts = await self._timed(result, "review", self._tiers.review.review(request))
        if verdicts is None:
            _end_open(traces, "review", result)
            return
        result.verdicts = verdicts
        kept: list[tuple[TradePlan, Verdict]] = []
        for plan, verdict in zip(plans, verdicts, strict=True):
            traces[plan.symbol].steps["review"] = view.review_step(verdict)
            if verdict.kind is VerdictKind.REJECT or verdict.multiplier <= 0:
                _end(traces[plan.symbol], "review", "REVIEW_REJECTED", verdict.reasoning)
            else:
                kept.append((plan, verdict))
        if kept:
            await self._execute(result, traces, kept, contexts, account)

    async def _execute(
        self,
        result: CycleResult,
        traces: dict[str, DecisionTrace],
        kept: list[tuple[TradePlan, Verdict]],
        contexts: Mapping[str, SymbolContext],
        account: AccountSnapshot,
    ) -> None:
        request = AllocationRequest(result.bar_time, tuple(p for p, _ in kept), tuple(v for _, v in kept), contexts, account)
        response = await self._timed(result, "portfolio", self._tiers.portfolio.allocate(request))
        if response is None:
            _end_open(traces, "portfolio", result)
            return
        if response.failure:
            result.errors.append(f"portfolio: {response.failure}")

        def step(intent: OrderIntent) -> view.Step:
            return view.allocation_step(intent, response.weights.get(intent.symbol), response.solver_status)

        intents = _split(response.intents, traces, "allocation", step)
        if not intents:
            return
        markets = {i.symbol: contexts[i.symbol].market for i in intents}
        outcomes = await self._timed(result, "execution", self._tiers.execution.submit(intents, markets))
        if outcomes is None:
            _end_open(traces, "execution", result, "EXECUTION_UNKNOWN")
            return
        result.outcomes = outcomes
        for outcome in outcomes:
            _end_executed(traces[outcome.record.symbol], outcome)

    async def _keep_up(
        self,
        result: CycleResult,
        traces: dict[str, DecisionTrace],
        contexts: Mapping[str, SymbolContext],
        account: AccountSnapshot,
    ) -> None:
        """Bring what is held back to its targets. Whatever fails here, the decisions of the bar stand."""
        is_event = self._is_risk_event(account)
        if not account.open_positions or not (is_event or result.bar_time % HOUR_NS == 0):
            return
        # the orders of this bar may have changed the account: trims must not rest on what was held before them
        if result.outcomes:
            now = await self._timed(result, "account", self._tiers.execution.account([]))
            if now is None:
                return
            account = now
        request = RebalanceRequest(result.bar_time, contexts, account, is_event)
        response = await self._timed(result, "rebalance", self._tiers.portfolio.rebalance(request))
        if response is not None and response.failure:
            result.errors.append(f"rebalance: {response.failure}")
        if response is None or not response.intents:
            return
        markets = {i.symbol: contexts[i.symbol].market for i in response.intents}
        outcomes = await self._timed(result, "rebalancing", self._tiers.execution.submit(response.intents, markets)) or []
        result.outcomes = [*result.outcomes, *outcomes]
        for outcome in outcomes:
            traces[outcome.record.symbol].steps["rebalance"] = view.rebalance_step(outcome, response)

    async def _timed(self, result: CycleResult, tier: str, awaitable: Awaitable[T]) -> T | None:
        """Await one tier; None when it cannot answer, with the error kept: every symbol of the bar still gets its trace."""
        started = self._timer()
        try:
            return await awaitable
        except HeliosError as error:
            result.errors.append(f"{tier}: {error}")
            return None
        finally:
            result.durations_s[tier] = self._timer() - started


def _open_trace(symbol: str, bar_time: int) -> DecisionTrace:
    return DecisionTrace(decision_id(symbol, bar_time), symbol, bar_time)


def _context(window: FeatureWindow) -> SymbolContext:
    return SymbolContext(window.symbol, window.bar_time, window.close, window.volume_quote, window.market)


def _end(trace: DecisionTrace, tier: str, outcome: str, detail: str) -> None:
    trace.tier, trace.outcome, trace.detail = tier, outcome, detail


def _end_open(traces: Mapping[str, DecisionTrace], tier: str, result: CycleResult, code: str | None = None) -> None:
    """End every decision that is still open: the tier could not answer."""
    for trace in traces.values():
        if trace.outcome == "OPEN":
            _end(trace, tier, code or f"{tier.upper()}_UNAVAILABLE", result.errors[-1] if result.errors else "")


def _split(answers: Sequence[A | NoTrade], traces: Mapping[str, DecisionTrace], name: str, step: Callable[[A], view.Step]) -> list[A]:
    """Put each answer into its trace; return those that go on."""
    going_on: list[A] = []
    for answer in answers:
        trace = traces[answer.symbol]
        if isinstance(answer, NoTrade):
            trace.steps[name] = view.refusal_step(answer)
            _end(trace, answer.tier, answer.code, answer.detail)
        else:
            trace.steps[name] = step(answer)
            going_on.append(answer)
    return going_on


def _end_executed(trace: DecisionTrace, outcome: OrderOutcome) -> None:
    record = outcome.record
    trace.steps["execution"] = view.execution_step(outcome)
    trace.client_order_id = record.client_order_id
    if record.status is OrderStatus.REJECTED:
        _end(trace, "execution", record.deny_codes[0] if record.deny_codes else "REJECTED", record.reason)
    else:
        _end(trace, "execution", "ORDERED", f"{record.side.name} {record.filled_base} at {record.average_price}")

"""The whole desk in one process: the tiers called directly, orders in a ledger in memory. Backtests and parity tests run this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from helios.config import HeliosConfig
from helios.domain.decisions import DecisionTrace, FeatureWindow, Prediction, Verdict, VolatilityForecast
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument, quote_currency
from helios.domain.orders import ExitPlan
from helios.execution.engine import ExecutionEngine
from helios.execution.guard import AccountGuard
from helios.execution.memory import MemoryLedger
from helios.execution.paper import PaperBroker
from helios.pipeline.checks import make_check
from helios.pipeline.conductor import Conductor, StepReport
from helios.pipeline.cycle import DecisionCycle, Tiers, Timer
from helios.pipeline.ports import (
    AllocationRequest,
    AllocationResponse,
    RebalanceRequest,
    RebalanceResponse,
    ReviewRequest,
    RiskRequest,
    RiskResponse,
    SymbolContext,
)
from helios.pipeline.series import SymbolHistory
from helios.pipeline.symbol import SymbolState, SymbolStep
from helios.portfolio.accounting import Account
from helios.portfolio.build import make_portfolio_desk
from helios.portfolio.tier import PortfolioDesk
from helios.portfolio.upkeep import risk_event_of
from helios.review.rules import RuleReviewer
from helios.risk.build import make_risk_desk
from helios.risk.tier import RiskDesk
from helios.venues.base import ReplaySource


class WindowPredictor(Protocol):
    """What the desk asks of a model."""

    def predict_windows(self, windows: Sequence[FeatureWindow]) -> list[Prediction]: ...


class LocalPrediction:
    def __init__(self, predictor: WindowPredictor) -> None:
        self._predictor = predictor

    async def predict(self, windows: Sequence[FeatureWindow]) -> list[Prediction]:
        return self._predictor.predict_windows(windows)


class LocalRisk:
    def __init__(self, desk: RiskDesk) -> None:
        self._desk = desk

    async def plan(self, request: RiskRequest) -> RiskResponse:
        return self._desk.plan(request)


class LocalReview:
    def __init__(self, reviewer: RuleReviewer) -> None:
        self._reviewer = reviewer

    async def review(self, request: ReviewRequest) -> list[Verdict]:
        return self._reviewer.review(request)


class LocalPortfolio:
    def __init__(self, desk: PortfolioDesk) -> None:
        self._desk = desk

    async def observe(self, contexts: Mapping[str, SymbolContext]) -> None:
        self._desk.observe(contexts)

    async def allocate(self, request: AllocationRequest) -> AllocationResponse:
        return self._desk.allocate(request)

    async def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        return self._desk.rebalance(request)


class LocalTraces:
    """Keeps every trace, once."""

    def __init__(self) -> None:
        self.traces: dict[str, DecisionTrace] = {}

    async def record(self, traces: Sequence[DecisionTrace], forecasts: Sequence[VolatilityForecast]) -> None:
        for trace in traces:
            self.traces.setdefault(trace.decision_id, trace)


class LocalSymbols:
    """Symbol states fed from recorded data."""

    def __init__(self, sources: Mapping[str, ReplaySource], config: HeliosConfig) -> None:
        timeframe, exit_price = Timeframe(config.desk.decision_timeframe), config.risk.exit_price
        self._sources = dict(sources)
        self.states = {s: SymbolState(source.instrument, timeframe, exit_price) for s, source in sources.items()}

    async def advance(self, until_ns: int, plans: Sequence[ExitPlan]) -> list[SymbolStep]:
        steps = []
        for symbol in sorted(self.states):
            state = self.states[symbol]
            state.arm([p for p in plans if p.symbol == symbol])
            state.on_events(self._sources[symbol].read_until(until_ns), until_ns)
            steps.append(state.drain())
        return steps

    async def histories(self, symbols: Sequence[str]) -> list[SymbolHistory]:
        return [self.states[s].history() for s in symbols]


class LocalSeeds:
    def __init__(self, risk: RiskDesk, portfolio: PortfolioDesk) -> None:
        self._risk = risk
        self._portfolio = portfolio

    async def seed(self, histories: Sequence[SymbolHistory]) -> None:
        for h in histories:
            self._risk.seed(h.symbol, h.closes, h.end_time)
            self._portfolio.seed(h.symbol, list(h.hourly_times), h.hourly_closes, h.turnover_quote)


class LocalDesk:
    """The five tiers and execution over recorded data, in lockstep.

    Parameters
    ----------
    config : HeliosConfig
    sources : mapping of symbol to ReplaySource
        Opened afresh: they are read forward once.
    predictor : WindowPredictor
    reference_symbol : str or None
        The BTC pair, for btc_correlation_60.
    timer : callable
        Monotonic seconds, for latency figures alone.
    """

    def __init__(
        self,
        config: HeliosConfig,
        sources: Mapping[str, ReplaySource],
        predictor: WindowPredictor,
        reference_symbol: str | None,
        timer: Timer,
    ) -> None:
        instruments = {s: source.instrument for s, source in sources.items()}
        self._step_ns = Timeframe(config.desk.decision_timeframe).ns
        self._end_ns = max(s.end_ns for s in sources.values())
        self._next = (min(s.start_ns for s in sources.values()) // self._step_ns + 1) * self._step_ns
        risk, portfolio = make_risk_desk(config, instruments), make_portfolio_desk(config, instruments)
        self.traces = LocalTraces()
        self.ledger = MemoryLedger()
        self.execution = make_engine(config, instruments, self.ledger)
        tiers = Tiers(
            prediction=LocalPrediction(predictor),
            risk=LocalRisk(risk),
            review=LocalReview(RuleReviewer(config.review)),
            portfolio=LocalPortfolio(portfolio),
            execution=self.execution,
            traces=self.traces,
        )
        self.symbols = LocalSymbols(sources, config)
        cycle = DecisionCycle(tiers, reference_symbol, timer, risk_event_of(config))
        self._conductor = Conductor(self.symbols, cycle, self.execution, LocalSeeds(risk, portfolio))

    async def run(self, n_bars: int | None = None) -> list[StepReport]:
        """Run to the end of the data, or for `n_bars` decision bars; may be called again to go on."""
        if self.execution.epoch == 0:
            await self.execution.start()
        reports = []
        for bar_time in self._bar_times(n_bars):
            reports.append(await self._conductor.step(bar_time))
            self._next = bar_time + self._step_ns
        return reports

    def _bar_times(self, n_bars: int | None) -> Iterable[int]:
        end = self._end_ns if n_bars is None else min(self._end_ns, self._next + (n_bars - 1) * self._step_ns)
        return range(self._next, end + 1, self._step_ns)


def make_engine(config: HeliosConfig, instruments: Mapping[str, Instrument], ledger: MemoryLedger) -> ExecutionEngine:
    """Return an execution engine over a ledger in memory and the paper broker."""
    check = make_check(config.limits, instruments)
    return ExecutionEngine(
        store=ledger,
        broker=PaperBroker(config.execution, instruments),
        account=Account(Decimal(config.desk.initial_cash_quote), 0, quote=quote_currency(instruments)),
        instruments=instruments,
        check=check,
        owner="local",
        guard=AccountGuard(config.limits),
        findings=check.findings,
    )

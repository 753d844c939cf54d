"""SignalActor: gathers all symbols at a bar close, asks the predictor once, and runs the decision cycle.

Symbol late or dead: the cycle starts at the deadline without it, and its decision says so. Predictor down: every decision of the
bar is MODEL_UNAVAILABLE. Killed: the bar under way is lost as a decision (never as an order: the ledger knows what was sent); the
next bar is decided.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from actors.base import DeskSpec, HeliosActor
from actors.metrics import DeskMetrics
from actors.peers import PeerLookup
from actors.remote import (
    RemoteExecution,
    RemotePortfolio,
    RemoteReview,
    RemoteRisk,
    RemoteSeeds,
    RemoteSymbols,
    RemoteTraces,
    call,
)
from helios.domain.decisions import FeatureWindow
from helios.domain.enums import Timeframe
from helios.domain.universe import Member
from helios.errors import HeliosError
from helios.pipeline.conductor import Conductor
from helios.pipeline.cycle import CycleResult, DecisionCycle, Tiers
from helios.pipeline.trace import number
from helios.portfolio.upkeep import risk_event_of

LATENCIES_KEPT = 2_000
TIER_DEADLINE_S = 10.0
SERVE_APP = "predictor"


class SignalActor(HeliosActor):
    """Run the tiers for every closed bar.

    Parameters
    ----------
    spec : DeskSpec
    symbols : sequence of (symbols, actor name)
        Who owns the symbols the desk was started with.
    peers : PeerLookup
        Returns a named actor's handle.
    """

    name = "signal"

    def __init__(self, spec: DeskSpec, symbols: Sequence[tuple[tuple[str, ...], str]], peers: PeerLookup) -> None:
        super().__init__(spec)
        self._peers = peers
        self._first_owners = self._owners = tuple(symbols)
        self._pending: dict[int, dict[str, FeatureWindow]] = {}
        self._known: set[str] = set()
        self._decided_until = 0
        self._turn = asyncio.Lock()
        self._cycle: DecisionCycle | None = None
        self._execution: RemoteExecution | None = None
        self._seeds: RemoteSeeds | None = None
        self._latencies: dict[str, deque[float]] = {}
        self._metrics: DeskMetrics | None = None
        self._replay: dict[str, Any] | None = None
        self._stop_replay = False
        self.latest: dict[str, dict[str, Any]] = {}
        self.recent: deque[dict[str, Any]] = deque(maxlen=50)
        self.outcomes: dict[str, int] = {}
        self.counters = dict.fromkeys(
            ("feature_windows", "predictions", "plans", "reviews", "orders", "decisions", "cycles", "late_windows"), 0
        )
        self.errors: deque[str] = deque(maxlen=50)
        self.error_count = 0
        self.first_prediction_at: float | None = None
        self.bar_time = 0
        self.model_answers: bool | None = None

    async def on_start(self) -> None:
        # Whoever looks this actor up imports its class; Serve's client is 60 MB that only this process needs.
        from actors.remote_prediction import RemotePrediction

        deadline_s = TIER_DEADLINE_S
        self._execution = RemoteExecution(self._peers("execution"), "execution", deadline_s)
        tiers = Tiers(
            prediction=RemotePrediction("Predictor", SERVE_APP, self.config.model.deadline_ms / 1e3),
            risk=RemoteRisk(self._peers("risk"), "risk", deadline_s),
            review=RemoteReview(self._peers("review"), "review", self.config.review.deadline_s + 2.0),
            portfolio=RemotePortfolio(self._peers("portfolio"), "portfolio", deadline_s),
            execution=self._execution,
            traces=RemoteTraces(self._peers("recorder"), "recorder", deadline_s),
        )
        self._cycle = DecisionCycle(tiers, self.spec.reference_symbol, time.perf_counter, risk_event_of(self.config))
        self._seeds = RemoteSeeds([(n, self._peers(n)) for n in ("risk", "portfolio")], 60.0)
        self._metrics = DeskMetrics()

    async def follow(self, members: Sequence[Member]) -> None:
        """Decide upon the symbols of the desk; one that has just come is waited for at a bar's close as soon as it is warm."""
        await self.ready()
        later = tuple(((m.symbol,), m.owner) for m in members if m.owner)
        for _, name in set(self._owners) - {*self._first_owners, *later}:
            self._peers.forget(name)
        self._owners = (*self._first_owners, *later)
        gone = self._known - self._symbols
        self._known -= gone
        for symbol in gone:
            self.latest.pop(symbol, None)

    @property
    def _symbols(self) -> set[str]:
        return {symbol for owned, _ in self._owners for symbol in owned}

    # ---- live ----------------------------------------------------------------------------------------------------------

    async def submit(self, windows: Sequence[FeatureWindow]) -> None:
        """Take windows of closed bars; the last expected one, or the deadline, starts the cycle."""
        await self.ready()
        symbols = self._symbols
        for window in windows:
            if window.symbol not in symbols:
                continue  # its owner was quicker than the word of it, or has not heard yet that it left
            self.counters["feature_windows"] += 1
            if window.bar_time <= self._decided_until:
                self.counters["late_windows"] += 1
                continue
            is_first = window.bar_time not in self._pending
            self._pending.setdefault(window.bar_time, {})[window.symbol] = window
            if is_first:
                self.spawn(self._deadline(window.bar_time), "deadline")
            if self._known == symbols and symbols <= self._pending[window.bar_time].keys():
                await self._decide(window.bar_time)

    async def _deadline(self, bar_time: int) -> None:
        await asyncio.sleep(self.config.desk.gather_deadline_ms / 1e3)
        await self._decide(bar_time)
        self._tasks = [t for t in self._tasks if not t.done()]

    async def _decide(self, bar_time: int) -> None:
        async with self._turn:
            windows = self._pending.pop(bar_time, None)
            if windows is None or bar_time <= self._decided_until:
                return
            self._decided_until = bar_time
            for old in [t for t in self._pending if t < bar_time]:
                self.counters["late_windows"] += len(self._pending.pop(old))
            try:
                await self._run(bar_time, [w for w in windows.values() if w.symbol in self._symbols])
            except HeliosError as error:
                self._fail(f"cycle: {error}")

    async def _run(self, bar_time: int, windows: list[FeatureWindow]) -> None:
        assert self._cycle is not None and self._execution is not None
        started = time.perf_counter()
        await self._learn_new([w.symbol for w in windows])
        account = await self._execution.account([])
        missing = sorted(self._known - {w.symbol for w in windows})
        result = await self._cycle.run(bar_time, windows, missing, account)
        self._keep(result, time.perf_counter() - started)
        if result.outcomes:
            await self._rearm({o.record.symbol for o in result.outcomes})

    async def _learn_new(self, symbols: Sequence[str]) -> None:
        new = sorted(set(symbols) - self._known)
        if new:
            assert self._seeds is not None
            owners = [(owned, handle) for owned, handle in self._handles() if set(owned) & set(new)]
            histories = await RemoteSymbols(owners, TIER_DEADLINE_S).histories(new)
            await self._seeds.seed(histories)
            self._known.update(new)

    async def _rearm(self, symbols: set[str]) -> None:
        assert self._execution is not None
        plans = await self._execution.exit_plans()
        for owned, handle in self._handles():
            if symbols & set(owned):
                await call(handle.arm.remote([p for p in plans if p.symbol in owned]), TIER_DEADLINE_S, owned[0])

    def _handles(self) -> list[tuple[tuple[str, ...], Any]]:
        return [(owned, self._peers(name)) for owned, name in self._owners]

    # ---- replay --------------------------------------------------------------------------------------------------------

    async def replay(self, start_ns: int, end_ns: int, speed: float | None) -> dict[str, Any]:
        """Run recorded data bar by bar from `start_ns` to `end_ns`; `speed` None means as fast as possible."""
        await self.ready()
        assert self._cycle is not None and self._execution is not None and self._seeds is not None
        symbols = RemoteSymbols(self._handles(), 60.0)
        conductor = Conductor(symbols, self._cycle, self._execution, self._seeds)
        step_ns = Timeframe(self.config.desk.decision_timeframe).ns
        bar_time = (start_ns // step_ns + 1) * step_ns
        first, began = bar_time, time.monotonic()
        while bar_time <= end_ns and not self._stop_replay:
            if speed is not None:
                await asyncio.sleep(max(0.0, began + (bar_time - first) / 1e9 / speed - time.monotonic()))
            started = time.perf_counter()
            report = await conductor.step(bar_time)
            self.counters["feature_windows"] += sum(w.is_warm for s in report.steps for w in s.windows)
            if report.result is not None:
                self._known.update(t.symbol for t in report.result.traces)
                self._keep(report.result, time.perf_counter() - started)
            self.bar_time = bar_time
            self._replay = {"start_ns": first, "bar_time": bar_time, "end_ns": end_ns, "exits": conductor.exits}
            bar_time += step_ns
        return self._replay or {}

    async def stop_replay(self) -> None:
        """End the replay after the bar under way."""
        self._stop_replay = True

    # ---- figures -------------------------------------------------------------------------------------------------------

    def _keep(self, result: CycleResult, total_s: float) -> None:
        self.bar_time = result.bar_time
        counts = self.counters
        counts["cycles"] += 1
        counts["predictions"] += len(result.predictions)
        counts["plans"] += result.plans
        counts["reviews"] += len(result.verdicts)
        counts["orders"] += len(result.outcomes)
        counts["decisions"] += len(result.traces)
        if result.predictions and self.first_prediction_at is None:
            self.first_prediction_at = time.time()
        asked = "prediction" in result.durations_s
        if asked:
            self.model_answers = not any(error.startswith("prediction:") for error in result.errors)
        for error in result.errors:
            self._fail(error)
        for tier, seconds in {**result.durations_s, "cycle": total_s}.items():
            self._latencies.setdefault(tier, deque(maxlen=LATENCIES_KEPT)).append(seconds)
        for prediction in result.predictions:
            self.latest[prediction.symbol] = {
                "symbol": prediction.symbol,
                "bar_time": prediction.bar_time,
                "action": prediction.action.name,
                "confidence": number(prediction.confidence),
                "probabilities": [number(p) for p in prediction.probabilities],
                "attention": [number(a) for a in prediction.attention],
                "model_version": prediction.model_version,
            }
        for trace in result.traces:
            self.outcomes[trace.outcome] = self.outcomes.get(trace.outcome, 0) + 1
            self.recent.appendleft(
                {
                    "decision_id": trace.decision_id,
                    "symbol": trace.symbol,
                    "bar_time": trace.bar_time,
                    "outcome": trace.outcome,
                    "tier": trace.tier,
                    "detail": trace.detail,
                }
            )
        if self._metrics is not None:
            self._metrics.observe(result, total_s)

    def _fail(self, message: str) -> None:
        self.error_count += 1
        self.errors.append(message)
        self.log.warning("%s", message)

    def details(self) -> dict[str, Any]:
        return {
            "bar_time": self.bar_time,
            "model_answers": self.model_answers,
            "known": sorted(self._known),
            "counters": dict(self.counters),
            "outcomes": dict(self.outcomes),
            "latency_ms": {tier: quantiles_ms(values) for tier, values in self._latencies.items()},
            "predictions": [self.latest[s] for s in sorted(self.latest)],
            "decisions": list(self.recent),
            "errors": list(self.errors)[-10:],
            "error_count": self.error_count,
            "first_prediction_at": self.first_prediction_at,
            "replay": self._replay,
        }


def quantiles_ms(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {f"p{q}": round(1e3 * ordered[max(0, math.ceil(q / 100 * len(ordered)) - 1)], 3) for q in (50, 95, 99)}

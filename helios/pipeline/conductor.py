"""Lockstep replay: every symbol advances to the same bar close, then the desk decides, then time goes on.

Used by the actors' replay and by the in-process pipeline, which is why both decide the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from helios.domain.decisions import FeatureWindow
from helios.domain.enums import TradingState
from helios.domain.orders import AccountSnapshot, ExitPlan
from helios.pipeline.cycle import CycleResult, DecisionCycle
from helios.pipeline.ports import ExecutionTier
from helios.pipeline.series import SymbolHistory
from helios.pipeline.symbol import SymbolStep


class SymbolsPort(Protocol):
    """The owners of all symbols, asked together."""

    async def advance(self, until_ns: int, plans: Sequence[ExitPlan]) -> list[SymbolStep]:
        """Watch `plans`, take everything known by `until_ns`, return one step per symbol that answered."""
        ...

    async def histories(self, symbols: Sequence[str]) -> list[SymbolHistory]: ...


class HistorySink(Protocol):
    """The tiers that are seeded with a symbol's past before its first decision."""

    async def seed(self, histories: Sequence[SymbolHistory]) -> None: ...


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step of the replay; `result` is None before any symbol is warm."""

    bar_time: int
    steps: tuple[SymbolStep, ...]
    result: CycleResult | None
    account: AccountSnapshot


class Conductor:
    """Advance all symbols bar by bar.

    An account that its breakers have HALTED is flattened at the bar that found it so, and at later ones until nothing is open. It
    trades again only where `limits.auto_reset_h` ends the halt.

    Parameters
    ----------
    symbols : SymbolsPort
    cycle : DecisionCycle
    execution : ExecutionTier
    seeds : HistorySink
    """

    def __init__(self, symbols: SymbolsPort, cycle: DecisionCycle, execution: ExecutionTier, seeds: HistorySink) -> None:
        self._symbols = symbols
        self._cycle = cycle
        self._execution = execution
        self._seeds = seeds
        self._warm: set[str] = set()
        self._plans: list[ExitPlan] | None = None
        self.exits = 0

    async def step(self, bar_time: int) -> StepReport:
        """Advance to `bar_time`, settle its exits and marks in time order, decide where windows are warm."""
        if self._plans is None:
            self._plans = await self._execution.exit_plans()
        steps = await self._symbols.advance(bar_time, self._plans)
        account = await self._settle(steps)
        if account.trading_state is TradingState.HALTED and account.open_positions:
            account = await self._flatten(steps)
        windows = [w for s in steps for w in s.windows if w.bar_time == bar_time and w.is_warm]
        await self._seed(windows)
        missing = sorted(self._warm - {w.symbol for w in windows})
        result = await self._cycle.run(bar_time, windows, missing, account) if windows or missing else None
        self._plans = await self._execution.exit_plans()
        return StepReport(bar_time, tuple(steps), result, account)

    async def _settle(self, steps: Sequence[SymbolStep]) -> AccountSnapshot:
        marks = sorted((m for s in steps for m in s.marks), key=lambda m: (m.ts_event, m.symbol))
        triggers = sorted((e for s in steps for e in s.exits), key=lambda e: (e.ts_event, e.symbol, e.position_id))
        for trigger in triggers:
            earlier = [m for m in marks if m.ts_event <= trigger.ts_event]
            marks = marks[len(earlier) :]
            await self._execution.account(earlier)
            self.exits += len(await self._execution.exits([trigger]))
        return await self._execution.account(marks)

    async def _flatten(self, steps: Sequence[SymbolStep]) -> AccountSnapshot:
        markets = {w.symbol: w.market for s in steps for w in s.windows if w.market.last > 0}
        before = {p.position_id for p in await self._execution.exit_plans()}
        await self._execution.flatten(markets, for_good=False)  # the breaker refuses entries for as long as it is open
        self.exits += len(before - {p.position_id for p in await self._execution.exit_plans()})
        return await self._execution.account([])

    async def _seed(self, windows: Sequence[FeatureWindow]) -> None:
        new = sorted({w.symbol for w in windows} - self._warm)
        if new:
            await self._seeds.seed(await self._symbols.histories(new))
            self._warm.update(new)

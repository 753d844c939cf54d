from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from helios.domain.decisions import FeatureWindow
from helios.domain.enums import ExitReason, Side, TradingState
from helios.domain.events import Mark
from helios.domain.orders import ExitPlan, ExitTriggered
from helios.pipeline.conductor import Conductor
from helios.pipeline.cycle import DecisionCycle
from helios.pipeline.series import SymbolHistory
from helios.pipeline.symbol import SymbolStep
from tests.support.pipeline_values import BAR_NS, MINUTE_NS, T0, ScriptedTiers, position, snapshot, ticking, window

BTC, ETH = "BTC/USDT", "ETH/USDT"


def step_of(symbol: str, windows: Sequence[FeatureWindow] = (), marks: Sequence[int] = (), exits: Sequence[int] = ()) -> SymbolStep:
    return SymbolStep(
        symbol,
        (),
        tuple(windows),
        tuple(Mark(symbol, 100.0, T0 + m * MINUTE_NS) for m in marks),
        tuple(ExitTriggered(f"{symbol}-{e}", symbol, ExitReason.STOP, 99.0, T0 + e * MINUTE_NS, snapshot(symbol)) for e in exits),
    )


class ScriptedSymbols:
    def __init__(self, *steps: list[SymbolStep]) -> None:
        self.steps = list(steps)
        self.watched: list[list[str]] = []
        self.asked: list[list[str]] = []

    async def advance(self, until_ns: int, plans: Sequence[ExitPlan]) -> list[SymbolStep]:
        self.watched.append([p.position_id for p in plans])
        return self.steps.pop(0)

    async def histories(self, symbols: Sequence[str]) -> list[SymbolHistory]:
        self.asked.append(list(symbols))
        return [SymbolHistory(s, np.ones(3), T0, np.array([T0]), np.ones(1), 1.0) for s in symbols]


class Seeds:
    def __init__(self) -> None:
        self.seeded: list[str] = []

    async def seed(self, histories: Sequence[SymbolHistory]) -> None:
        self.seeded += [h.symbol for h in histories]


def conductor(script: ScriptedTiers, symbols: ScriptedSymbols, seeds: Seeds | None = None) -> Conductor:
    tiers = script.tiers()
    return Conductor(symbols, DecisionCycle(tiers, BTC, ticking()), tiers.execution, seeds or Seeds())


def watch(name: str) -> ExitPlan:
    return ExitPlan(name, BTC, Side.BUY, 100.0, 95.0, 110.0, 0.0, 0.0, 0)


async def test_marks_and_exits_are_settled_in_time_order_before_the_decision() -> None:
    script = ScriptedTiers()
    steps = [step_of(ETH, [window(ETH)], [1, 3, 5], [4]), step_of(BTC, [window(BTC)], [2, 4], [2])]
    report = await conductor(script, ScriptedSymbols(steps)).step(T0)
    told = [(kind, value.symbol, (value.ts_event - T0) // MINUTE_NS) for kind, value in script.log]
    assert told == [
        ("mark", ETH, 1), ("mark", BTC, 2), ("exit", BTC, 2), ("mark", ETH, 3), ("mark", BTC, 4), ("exit", ETH, 4), ("mark", ETH, 5),
    ]  # fmt: skip
    assert script.calls[0] == "observe"
    assert report.result is not None


async def test_exits_are_counted_and_nothing_is_decided_before_a_symbol_is_warm() -> None:
    script, cold = ScriptedTiers(), [step_of(BTC, [window(BTC, is_warm=False)], [1], [1])]
    driver = conductor(script, ScriptedSymbols(cold))
    report = await driver.step(T0)
    assert (report.result, driver.exits, script.calls) == (None, 1, [])


async def test_windows_of_an_earlier_bar_are_not_decided_upon() -> None:
    script = ScriptedTiers()
    report = await conductor(script, ScriptedSymbols([step_of(BTC, [window(BTC, T0 - BAR_NS)])])).step(T0)
    assert report.result is None


async def test_each_symbol_is_seeded_once_when_it_becomes_warm() -> None:
    later, last = T0 + BAR_NS, T0 + 2 * BAR_NS
    steps = [
        [step_of(BTC, [window(BTC)]), step_of(ETH, [window(ETH, is_warm=False)])],
        [step_of(BTC, [window(BTC, later)]), step_of(ETH, [window(ETH, later)])],
        [step_of(BTC, [window(BTC, last)]), step_of(ETH, [window(ETH, last)])],
    ]
    symbols, seeds = ScriptedSymbols(*steps), Seeds()
    driver = conductor(ScriptedTiers(), symbols, seeds)
    for bar_time in (T0, later, last):
        await driver.step(bar_time)
    assert seeds.seeded == [BTC, ETH]
    assert symbols.asked == [[BTC], [ETH]]


async def test_a_symbol_that_stops_delivering_is_missing_at_every_later_bar() -> None:
    later, last = T0 + BAR_NS, T0 + 2 * BAR_NS
    steps = [
        [step_of(BTC, [window(BTC)]), step_of(ETH, [window(ETH)])],
        [step_of(BTC, [window(BTC, later)])],
        [step_of(BTC), step_of(ETH)],
    ]
    driver = conductor(ScriptedTiers(), ScriptedSymbols(*steps))
    reports = [await driver.step(t) for t in (T0, later, last)]
    found = [{t.symbol: t.outcome for t in r.result.traces} for r in reports if r.result is not None]
    assert found == [
        {BTC: "ORDERED", ETH: "ORDERED"}, {BTC: "ORDERED", ETH: "DATA_MISSING"}, {BTC: "DATA_MISSING", ETH: "DATA_MISSING"},
    ]  # fmt: skip


async def test_plans_left_after_a_step_are_watched_in_the_next() -> None:
    script, symbols = ScriptedTiers(plans_to_watch=[watch("stored")]), ScriptedSymbols([step_of(BTC)], [step_of(BTC)])
    driver = conductor(script, symbols)
    await driver.step(T0)
    script.plans_to_watch = [watch("too late")]
    await driver.step(T0 + BAR_NS)
    assert symbols.watched == [["stored"], ["stored"]]


async def test_a_halted_account_is_closed_with_the_markets_of_the_bar_before_anything_is_decided() -> None:
    script = ScriptedTiers(held=(position(BTC),), trading_state=TradingState.HALTED)
    await conductor(script, ScriptedSymbols([step_of(BTC, [window(BTC)]), step_of(ETH)])).step(T0)
    assert script.flattened == [[BTC]]
    assert ("flatten", False) in script.log  # where the halt may end by itself, nobody else is there to allow entries again


async def test_a_halted_account_without_holdings_and_a_reducing_one_are_left_alone() -> None:
    for script in (
        ScriptedTiers(trading_state=TradingState.HALTED),
        ScriptedTiers(held=(position(BTC),), trading_state=TradingState.REDUCING),
        ScriptedTiers(held=(replace(position(BTC), is_dust=True),), trading_state=TradingState.HALTED),
    ):
        await conductor(script, ScriptedSymbols([step_of(BTC, [window(BTC)])])).step(T0)
        assert script.flattened == []

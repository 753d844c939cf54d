"""Whoever dies between two bars, the symbol's owner, execution or both: the same exits follow, at the same prices."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar
from helios.domain.orders import OrderRecord
from helios.execution.engine import ExecutionEngine
from helios.execution.memory import MemoryLedger
from helios.execution.paper import PaperBroker
from helios.pipeline.symbol import SymbolState
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import EXACT_FILLS, INSTRUMENTS, NS, PERP, RULE, D, allow_all, intent, market

MINUTE = Timeframe.M1.ns
START = 20_000 * 86_400 * NS
RULES = replace(
    RULE,
    timeout_ns=40 * MINUTE,
    breakeven_activate_pct=0.012,
    breakeven_offset_pct=0.003,
    scale_out_fraction=0.4,
    scale_out_at=0.5,
)
STEP = 5
MOVES = st.lists(st.integers(-80, 80), min_size=3 * STEP, max_size=9 * STEP)
DEATHS = st.one_of(
    st.dictionaries(st.integers(1, 8), st.sampled_from(["symbol", "execution", "both"])),
    st.sampled_from(["symbol", "both"]).map(lambda who: dict.fromkeys(range(1, 9), who)),
)


def minutes(moves: list[int]) -> list[Bar]:
    """A path of single steps of at most 0.8 %, as bars with wicks."""
    bars, price = [], 1_000.0
    for n, move in enumerate(moves):
        close = round(price * (1 + move / 10_000), 2)
        wick = 1 + (n * 7 % 5) / 2_000
        high, low = max(price, close) * wick, min(price, close) / wick
        bars.append(Bar(PERP.symbol, Timeframe.M1, START + n * MINUTE, price, high, low, close, 1.0))
        price = close
    return bars


class Run:
    """A position and its minutes, five at a time, as in a replay."""

    def __init__(self, side: Side) -> None:
        self.ledger, self.broker = MemoryLedger(), PaperBroker(EXACT_FILLS, INSTRUMENTS)
        self.stored: list[Bar] = []
        self.symbol = SymbolState(PERP)
        self.side = side

    async def play(self, bars: list[Bar], deaths: dict[int, str]) -> list[OrderRecord]:
        await self.start_execution()
        opening = intent(side=self.side, symbol=PERP.symbol, ts=START, price="1000", rule=RULES)
        await self.engine.submit([opening], {PERP.symbol: market("1000", PERP.symbol, START)})
        for step in range(len(bars) // STEP):
            death = deaths.get(step, "")
            if death in ("symbol", "both"):
                self.symbol = SymbolState(PERP)
                self.symbol.warm({tf: [b for b in self.stored if b.timeframe is tf] for tf in (Timeframe.M1, Timeframe.M5)})
            if death in ("execution", "both"):
                await self.start_execution()
            await self.advance(bars[step * STEP : (step + 1) * STEP])
        return [event for event in self.ledger.events if event.reduce_only]

    async def start_execution(self) -> None:
        account = Account(D(1_000_000), START)
        self.engine = ExecutionEngine(self.ledger, self.broker, account, INSTRUMENTS, allow_all, "property")
        await self.engine.start()

    async def advance(self, bars: list[Bar]) -> None:
        self.symbol.arm(await self.engine.exit_plans())
        self.symbol.on_events(bars, bars[-1].close_time)
        step = self.symbol.drain()
        self.stored += step.bars
        await self.engine.exits(step.exits)
        await self.engine.account(step.marks)


@settings(max_examples=50, deadline=None)
@given(MOVES, DEATHS, st.sampled_from(list(Side)))
def test_deaths_between_two_bars_change_no_exit(moves: list[int], deaths: dict[int, str], side: Side) -> None:
    bars = minutes(moves)
    undisturbed, disturbed = (asyncio.run(Run(side).play(bars, who)) for who in ({}, deaths))
    assert [replace(event, epoch=0) for event in disturbed] == [replace(event, epoch=0) for event in undisturbed]

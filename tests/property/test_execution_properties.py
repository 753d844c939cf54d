"""Whatever line, ledger and process do: no order is filled twice, and ledger, account and broker agree in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from helios.domain.enums import ExitReason, OrderStatus, Side
from helios.domain.market import MarketSnapshot
from helios.domain.orders import ExitTriggered, OrderIntent, OrderRecord
from helios.errors import InvariantError, StoreUnavailableError
from helios.execution.engine import ExecutionEngine
from helios.execution.journal import MemoryJournal
from helios.execution.lifecycle import TERMINAL, TRANSITIONS, transition
from helios.execution.ports import BrokerReport
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import (
    INSTRUMENTS,
    RULE,
    T0,
    D,
    FlakyLedger,
    ProcessDied,
    ScriptedBroker,
    allow_all,
    intent,
    market,
    record,
)

T = TypeVar("T")
SCALING = replace(RULE, scale_out_fraction=0.4, scale_out_at=0.5)
SYMBOLS = tuple(INSTRUMENTS)
WORDS = st.lists(st.sampled_from(["ok", "ok", "ok", "lost", "late", "garbled", "reject", "crash", "late-crash"]), max_size=3)


@given(st.sampled_from(OrderStatus), st.sampled_from(OrderStatus))
def test_every_pair_of_statuses_is_decided_and_ends_are_final(start: OrderStatus, end: OrderStatus) -> None:
    order = record()
    object.__setattr__(order, "status", start)
    try:
        moved = transition(order, end, T0)
    except InvariantError:
        assert end not in TRANSITIONS[start]
    else:
        assert moved.status is end
        assert start not in TERMINAL


def reason_of(fraction: float) -> ExitReason:
    return ExitReason.STOP if fraction == 1.0 else ExitReason.SCALE_OUT


class Witness(ScriptedBroker):
    """A broker that remembers every reducing order which left more, or the other side, of what was held."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    async def send(self, record: OrderRecord, market: MarketSnapshot) -> BrokerReport:
        before = self.position(record.symbol)
        try:
            return await super().send(record, market)
        finally:
            after = self.position(record.symbol)
            if record.reduce_only and not min(before, D(0)) <= after <= max(before, D(0)):
                self.wrong.append(f"{record.leg} of {record.symbol}: from {before} to {after}")


class Execution(RuleBasedStateMachine):
    """Random intents, duplicates, exits, lost answers, outages and crashes on one ledger and one broker."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.ledger, self.broker, self.journal = FlakyLedger(), Witness(), MemoryJournal()
        self.intents: list[OrderIntent] = []
        self.tick = 0

    def teardown(self) -> None:
        self.settle()
        self.loop.close()

    # actions

    @initialize()
    def restart(self) -> None:
        """Start the next incarnation; the ledger must be up for that, and a second crash may hit the recovery."""
        self.ledger.is_down, self.ledger.writes_until_down = False, None
        self.account = Account(D(10_000_000), T0)
        self.engine = ExecutionEngine(self.ledger, self.broker, self.account, INSTRUMENTS, allow_all, "property", self.journal)
        self.do(self.engine.start())

    @rule(
        sides=st.lists(st.sampled_from(Side), min_size=1, max_size=3),
        symbol=st.sampled_from(SYMBOLS),
        reduce_only=st.booleans(),
        script=WORDS,
        thin=st.booleans(),
    )
    def submit(self, sides: list[Side], symbol: str, reduce_only: bool, script: list[str], thin: bool) -> None:
        new = []
        for side in sides:
            self.tick += 1
            new.append(intent(f"d{self.tick}", side, "0.5", symbol, T0 + self.tick, reduce_only, rule=SCALING))
        self.intents += new
        self.broker.script = script
        self.do(self.engine.submit([*new, new[0]], self.markets(thin)))

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        if self.intents:
            again = data.draw(st.lists(st.sampled_from(self.intents), min_size=1, max_size=3))
            self.broker.script = []
            self.do(self.engine.submit(again, self.markets(False)))

    @rule(script=WORDS, thin=st.booleans(), twice=st.booleans(), fractions=st.sampled_from([(1.0,), (0.4,), (0.4, 1.0), (1.0, 0.4)]))
    def exit(self, script: list[str], thin: bool, twice: bool, fractions: tuple[float, ...]) -> None:
        self.tick += 1
        self.broker.script = script
        ids = [(symbol, self.account.position_id(symbol)) for symbol in SYMBOLS]
        snapshots = self.markets(thin)
        triggers = [
            ExitTriggered(position_id, symbol, reason_of(fraction), 800_000.0, T0 + self.tick, snapshots[symbol], fraction)
            for symbol, position_id in ids
            for fraction in fractions
            if position_id is not None
        ]
        self.do(self.engine.exits(triggers * (2 if twice else 1)))

    @rule(has_markets=st.booleans())
    def reconcile(self, has_markets: bool) -> None:
        self.broker.script = []
        self.do(self.engine.reconcile(self.markets(False) if has_markets else {}))

    @rule(writes=st.integers(0, 3))
    def ledger_goes_down(self, writes: int) -> None:
        self.ledger.writes_until_down = writes

    @rule()
    def ledger_comes_back(self) -> None:
        self.ledger.is_down, self.ledger.writes_until_down = False, None

    @rule(is_down=st.booleans())
    def status_line(self, is_down: bool) -> None:
        self.broker.status_is_down = is_down

    # what must hold

    @invariant()
    def no_order_arrives_twice(self) -> None:
        assert len(self.broker.received) == len(set(self.broker.received))

    @invariant()
    def spot_is_never_sold_short(self) -> None:
        assert self.broker.position(SYMBOLS[0]) >= 0

    @invariant()
    def no_reducing_order_takes_more_than_is_held(self) -> None:
        assert self.broker.wrong == []

    @invariant()
    def a_part_is_closed_once(self) -> None:
        parts = {(order.decision_id, order.client_order_id) for order in self.ledger.events if order.leg == "exit-scale"}
        assert len(parts) == len({decision_id for decision_id, _ in parts})

    @invariant()
    def fills_never_exceed_their_order(self) -> None:
        for order, fills in self.booked().values():
            assert sum((f.quantity_base for f in fills), D(0)) <= order.quantity_base

    def settle(self) -> None:
        """Let everything come back, as after a quiet minute; then all three must agree."""
        self.broker.script, self.broker.status_is_down = [], False
        self.restart()
        for _ in range(2):
            self.do(self.engine.reconcile(self.markets(False)))
        assert self.engine.open_orders == ()
        assert self.loop.run_until_complete(self.journal.entries()) == []
        shown = self.account.snapshot(T0 + self.tick)
        for symbol in SYMBOLS:
            position = shown.position(symbol)
            held = D(0) if position is None else position.quantity_base
            in_ledger = [f for _, fills in self.booked().values() for f in fills if f.symbol == symbol]
            assert held == self.broker.position(symbol)
            assert held == sum((f.side * f.quantity_base for f in in_ledger), D(0))

    # helpers

    def do(self, action: Awaitable[T]) -> None:
        try:
            self.loop.run_until_complete(action)  # type: ignore[arg-type]
        except ProcessDied:
            self.restart()
        except StoreUnavailableError:
            pass  # the caller would try again

    def booked(self) -> Mapping[str, tuple[object, Sequence[object]]]:
        rows = self.loop.run_until_complete(self.ledger.fills())
        return {order.client_order_id: (order, [f for o, f in rows if o == order]) for order, _ in rows}

    @staticmethod
    def markets(thin: bool) -> dict[str, MarketSnapshot]:
        level = [("850000", "0.3")] if thin else []
        return {symbol: market(symbol=symbol, bids=level, asks=level) for symbol in SYMBOLS}


TestExecution = Execution.TestCase
TestExecution.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)

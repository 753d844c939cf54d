"""ExecutionActor: the only one that talks to a broker. Order-sending methods are never retried by Ray.

Killed: a new incarnation takes a new epoch (the old one can no longer write), reloads the ledger, asks the broker about every
open order and goes on. Database away: no entry is sent; exits go out and are journalled to disk. Fenced by a newer incarnation:
this process ends at once.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from actors.base import DeskSpec, HeliosActor
from helios.domain.enums import ExitReason, TradingMode
from helios.domain.events import Mark
from helios.domain.market import Instrument, MarketSnapshot, quote_currency
from helios.domain.orders import AccountSnapshot, ExitPlan, ExitTriggered, Movement, OrderIntent, OrderOutcome
from helios.domain.universe import Member
from helios.errors import FencedError
from helios.execution.engine import ExecutionEngine
from helios.execution.guard import AccountGuard
from helios.execution.paper import PaperBroker
from helios.pipeline.checks import LimitCheck, make_check
from helios.pipeline.engine_state import allows_entries
from helios.portfolio.accounting import Account
from helios.portfolio.movements import check_movement
from helios.risk.trips import Trip
from helios.store.engine_store import EngineStore
from helios.store.journal import DiskJournal
from helios.store.ledger import PostgresLedger
from helios.store.pool import connect
from helios.store.universe import UniverseStore

RECONCILE_S = 5.0
TRIPS_KEPT = 100
"""Trips and releases that wait for the Supervisor to write them down; it looks twice a second."""


class ExecutionActor(HeliosActor):
    """Own the ledger, the broker and the account."""

    name = "execution"

    def __init__(self, spec: DeskSpec, instruments: Mapping[str, Instrument]) -> None:
        super().__init__(spec)
        self.instruments = dict(instruments)
        self._pool: asyncpg.Pool | None = None
        self._engine: ExecutionEngine | None = None
        self._check: LimitCheck | None = None
        self._guard: AccountGuard | None = None
        self.orders = 0
        self.fills = 0
        self.denied = 0
        self.warnings: Counter[str] = Counter()
        self.exits_done = 0
        self._trip_log: deque[tuple[int, dict[str, Any]]] = deque(maxlen=TRIPS_KEPT)
        self._trips_seen = 0

    async def on_start(self) -> None:
        self._pool = await connect(self.spec.dsn, max_size=2)
        state, mode = await EngineStore(self._pool).load_state()
        self._check = check = make_check(self.config.limits, self.instruments, mode)
        self._guard = AccountGuard(self.config.limits, self._on_trip)
        self._guard.set_mode(mode)
        self._engine = ExecutionEngine(
            store=PostgresLedger(self._pool),
            broker=PaperBroker(self.config.execution, self.instruments),
            account=Account(self.config.desk.initial_cash_quote, 0, quote=quote_currency(self.instruments)),
            instruments=self.instruments,
            check=check,
            owner=f"{self.spec.run_id}:{os.getpid()}",
            journal=DiskJournal(Path(self.spec.state_dir) / "exits.journal"),
            guard=self._guard,
            findings=check.findings,
        )
        self._engine.set_trading(allows_entries(state))
        saved = await UniverseStore(self._pool, self.spec.run_id).load()
        self.instruments.update({m.symbol: m.instrument for m in saved})
        self._engine.set_reduce_only(m.symbol for m in saved if m.reduce_only)
        await self._guarded(self._engine.start())
        if self.spec.replay_path is None:
            self.spawn(self._reconcile(), "reconcile")

    async def _reconcile(self) -> None:
        """Ask the broker about orders whose end is unknown; without this an answer lost on the line waits for the next order."""
        while True:
            await asyncio.sleep(RECONCILE_S)
            if self._core.open_orders:
                self._count(await self._guarded(self._core.reconcile({})))

    async def account(self, marks: Sequence[Mark]) -> AccountSnapshot:
        """Mark to market in the given order and return the account."""
        await self.ready()
        return await self._core.account(marks)

    async def mark(self, marks: Sequence[Mark]) -> None:
        """Mark to market."""
        await self.account(marks)

    async def submit(self, intents: Sequence[OrderIntent], markets: Mapping[str, MarketSnapshot]) -> list[OrderOutcome]:
        """Check, commit and send; see ExecutionEngine.submit."""
        await self.ready()
        return self._count(await self._guarded(self._core.submit(intents, markets)))

    async def exits(self, triggers: Sequence[ExitTriggered]) -> list[OrderOutcome]:
        """Close positions whose exit fired; repeating a trigger does nothing."""
        await self.ready()
        outcomes = await self._guarded(self._core.exits(triggers))
        self.exits_done += len(outcomes)
        return self._count(outcomes)

    async def exit_plans(self) -> list[ExitPlan]:
        """Return what the symbols must watch now."""
        await self.ready()
        return await self._core.exit_plans()

    async def set_trading(self, allowed_entries: bool) -> None:
        """Allow or deny new positions; exits always pass."""
        await self.ready()
        self._core.set_trading(allowed_entries)

    async def follow(self, members: Sequence[Member]) -> None:
        """Know the desk's symbols; open nothing in those that are to be left, or have left while a decision was under way."""
        await self.ready()
        self.instruments.update({m.symbol: m.instrument for m in members})
        self._core.set_reduce_only(self.instruments.keys() - {m.symbol for m in members if not m.reduce_only})

    async def set_mode(self, mode: TradingMode) -> None:
        """Follow the engine's trading mode: LIVE tolerates fewer losses in a row."""
        await self.ready()
        assert self._check is not None
        assert self._guard is not None
        self._check.set_mode(mode)
        self._guard.set_mode(mode)

    async def flatten(self, markets: Mapping[str, MarketSnapshot], for_good: bool = True) -> list[str]:
        """Close everything; return the symbols that are still open. Repeat it until there are none."""
        await self.ready()
        left: list[str] = await self._guarded(self._core.flatten(markets, ExitReason.EMERGENCY, for_good=for_good))
        return left

    async def move(self, movement: Movement) -> AccountSnapshot:
        """Book a deposit, a withdrawal or funding; an id that is known changes nothing.

        Raises
        ------
        RejectedError
            If it cannot have happened on this account.
        """
        await self.ready()
        if not self._core.has_movement(movement.movement_id):
            check_movement(movement, await self._core.account([]), self.instruments, quote_currency(self.instruments))
        account: AccountSnapshot = await self._guarded(self._core.move([movement]))
        return account

    async def reset_breakers(self, code: str | None = None) -> AccountSnapshot:
        """Release by a person's hand what has tripped and no longer holds."""
        await self.ready()
        account: AccountSnapshot = await self._guarded(self._core.reset_breakers(code))
        return account

    async def profits(self) -> list[float]:
        """Return the profit of each closed trade still remembered, after fees, in quote currency."""
        await self.ready()
        return [float(trade.pnl_quote) for trade in self._core.closed_trades]

    async def note_volatility(self, ratios: Mapping[str, float]) -> None:
        """Show the breakers each symbol's volatility over its mean."""
        await self.ready()
        await self._guarded(self._core.note_volatility(ratios))

    async def set_unhealthy(self, components: Sequence[str]) -> None:
        """Note the components that do not answer."""
        await self.ready()
        self._core.set_unhealthy(components)

    def _on_trip(self, trip: Trip) -> None:
        self._trips_seen += 1
        self._trip_log.append((self._trips_seen, trip.to_json()))
        self.log.warning("breaker %s %s: %s", trip.code.value, "released" if trip.released_at else "tripped", trip.detail)

    @property
    def _core(self) -> ExecutionEngine:
        assert self._engine is not None
        return self._engine

    def _count(self, outcomes: list[OrderOutcome]) -> list[OrderOutcome]:
        self.orders += len(outcomes)
        self.fills += sum(len(o.fills) for o in outcomes)
        self.denied += sum(bool(o.record.deny_codes) for o in outcomes)
        for warning in (w for o in outcomes for w in o.warnings):
            self.warnings[warning.partition(",")[0]] += 1
        return outcomes

    async def _guarded(self, awaitable: Any) -> Any:
        try:
            return await awaitable
        except FencedError as error:
            self.log.critical("fenced: %s", error)
            os._exit(75)

    async def on_stop(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    def details(self) -> dict[str, Any]:
        return {
            "orders": self.orders,
            "fills": self.fills,
            "denied": self.denied,
            "warnings": dict(self.warnings),
            "exits": self.exits_done,
            "epoch": self._core.epoch,
            "trips": [trip.to_json() for trip in self._core.trips],
            "trip_log": list(self._trip_log),
        }

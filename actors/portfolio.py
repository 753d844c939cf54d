"""PortfolioActor: tier 5 over one PortfolioDesk.

Killed: hourly closes, turnover, standing views and rebalancing times come back from the store. Optimiser without an answer: the
weights stay as they are and an alert is stored, once until it answers again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import numpy as np

from actors.base import DeskSpec, HeliosActor
from actors.stored import closes_until, turnover_until
from helios.domain.enums import Timeframe
from helios.domain.events import EngineEvent
from helios.domain.market import Instrument
from helios.domain.orders import AccountSnapshot
from helios.domain.universe import Member
from helios.errors import DataError, HeliosError, SolverError
from helios.pipeline.ports import (
    SOLVER_FAILED,
    AllocationRequest,
    AllocationResponse,
    RebalanceRequest,
    RebalanceResponse,
    SymbolContext,
)
from helios.pipeline.series import HOURS_KEPT, SymbolHistory
from helios.portfolio.build import make_portfolio_desk
from helios.portfolio.upkeep import LEG
from helios.risk.report import RiskInputs, risk_report
from helios.store.engine_store import EngineStore
from helios.store.pool import connect

EQUITY_DAYS, EQUITY_POINTS = 400, 600


class PortfolioActor(HeliosActor):
    """Fit approved plans into the whole."""

    name = "portfolio"

    def __init__(self, spec: DeskSpec, instruments: Mapping[str, Instrument]) -> None:
        super().__init__(spec)
        self.instruments = dict(instruments)
        self.desk = make_portfolio_desk(spec.config, self.instruments)
        self._seeded: set[str] = set()
        self._pool: asyncpg.Pool | None = None
        self._kept: dict[str, Any] = {}
        self._is_failing = False
        self.allocations = 0
        self.rebalances = 0

    async def on_start(self) -> None:
        self._pool = await connect(self.spec.dsn, max_size=1)
        await self._remember()

    async def _remember(self) -> None:
        saved = await self._store.load_upkeep()
        try:
            if saved is not None:
                self.desk.upkeep.restore(saved)
                return
        except DataError as error:
            self.log.warning("views begin anew: %s", error)
        self.desk.upkeep.resume(await self._store.last_order_at(LEG))

    @property
    def _store(self) -> EngineStore:
        assert self._pool is not None
        return EngineStore(self._pool)

    async def follow(self, members: Sequence[Member]) -> None:
        """Know the instruments of the desk's symbols."""
        self.instruments.update({m.symbol: m.instrument for m in members})

    async def seed(self, histories: Sequence[SymbolHistory]) -> None:
        """Learn the past of symbols that become tradable."""
        await self.ready()
        for history in histories:
            self.desk.seed(history.symbol, list(history.hourly_times), history.hourly_closes, history.turnover_quote)
            self._seeded.add(history.symbol)

    async def observe(self, contexts: Mapping[str, SymbolContext]) -> None:
        """Take in the closes of an hour."""
        await self.ready()
        self.desk.observe(contexts)

    async def allocate(self, request: AllocationRequest) -> AllocationResponse:
        """Turn approved plans into order intents."""
        await self.ready()
        await self._reseed(request)
        self.allocations += 1
        response = self.desk.allocate(request)
        await self._tell(request.bar_time, response.failure)
        await self._keep()
        return response

    async def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        """Bring what is held back to its targets, where that is due."""
        await self.ready()
        await self._reseed(request)
        try:
            response = self.desk.rebalance(request)
        except SolverError as error:
            await self._tell(request.bar_time, f"rebalancing keeps the present weights: {error}")
            raise
        if response.intents:
            self.rebalances += 1
            trims = ", ".join(f"{i.side.name} {i.quantity_base} {i.symbol}" for i in response.intents)
            data = {"targets": dict(response.targets), "orders": [i.client_order_id for i in response.intents]}
            await self._record(EngineEvent("REBALANCE", "INFO", self.name, f"{response.reason}: {trims}", request.bar_time, data))
        if response.failure:
            await self._tell(request.bar_time, f"a broken limit is trimmed without an optimum: {response.failure}")
        await self._keep()
        return response

    async def _tell(self, bar_time: int, failure: str) -> None:
        """Store an alert when the optimiser begins to fail; a store that is away must not fail the bar as well."""
        is_new, self._is_failing = bool(failure) and not self._is_failing, bool(failure)
        self.faults += self._is_failing
        if not is_new:
            return
        self.log.error("optimiser failed: %s", failure)
        # not stored, it is said again at the next failure
        self._is_failing = await self._record(EngineEvent(SOLVER_FAILED, "WARNING", self.name, failure, bar_time, {}))

    async def _record(self, event: EngineEvent) -> bool:
        try:
            await self._store.add_event(event)
        except HeliosError as error:
            self.log.warning("event not stored: %s", error)
            return False
        return True

    async def _keep(self) -> None:
        state = self.desk.upkeep.to_json()
        if state == self._kept:
            return
        try:
            await self._store.save_upkeep(state)
            self._kept = state
        except HeliosError as error:
            self.log.warning("views not stored yet: %s", error)

    async def risk_report(self, account: AccountSnapshot, profits: Sequence[float]) -> dict[str, Any]:
        """Return the risk of what is held now, as plain JSON; `profits` are those of closed trades, in quote currency."""
        await self.ready()
        store = self._store
        points = [*await store.daily_equity(EQUITY_DAYS), *await store.equity_history(EQUITY_POINTS)]
        matrix = self.desk.history.returns_matrix(tuple(self.instruments))
        inputs = RiskInputs(
            now_ns=account.ts_event,
            account=account,
            limits=self.config.limits,
            equity_times=np.array([p["ts_ns"] for p in points], dtype=np.int64),
            equity=np.array([float(p["equity_quote"]) for p in points]),
            transfers=np.array([float(p["transfers_quote"]) for p in points]),
            symbols=matrix.symbols,
            returns=matrix.returns,
            market_symbol=self.spec.reference_symbol or "",
            state=account.trading_state.value,
            profits=np.array(profits, dtype=np.float64),
        )
        return risk_report(inputs).to_json()

    async def _reseed(self, request: AllocationRequest | RebalanceRequest) -> None:
        held = {p.symbol for p in request.account.positions}
        for symbol in sorted({*request.contexts, *held} - self._seeded):
            assert self._pool is not None
            times, closes = await closes_until(self._pool, symbol, Timeframe.H1, HOURS_KEPT, request.bar_time)
            turnover = await turnover_until(self._pool, symbol, request.bar_time)
            self.desk.seed(symbol, list(times), closes, turnover)
            self._seeded.add(symbol)

    async def on_stop(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    def details(self) -> dict[str, Any]:
        return {
            "allocations": self.allocations,
            "rebalances": self.rebalances,
            "seeded": sorted(self._seeded),
            "allocation": self.desk.allocation,
        }

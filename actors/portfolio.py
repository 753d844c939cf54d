"""PortfolioActor: tier 5 over one PortfolioDesk. Killed: hourly closes and the time of the last trim come back from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import numpy as np

from actors.base import DeskSpec, HeliosActor
from actors.stored import closes_until
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument
from helios.domain.orders import AccountSnapshot
from helios.pipeline.ports import AllocationRequest, AllocationResponse, RebalanceRequest, RebalanceResponse, SymbolContext
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
        self.desk = make_portfolio_desk(spec.config, instruments)
        self._seeded: set[str] = set()
        self._pool: asyncpg.Pool | None = None
        self.allocations = 0
        self.rebalances = 0

    async def on_start(self) -> None:
        self._pool = await connect(self.spec.dsn, max_size=1)
        self.desk.upkeep.resume(await EngineStore(self._pool).last_order_at(LEG))

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
        await self._reseed([s for s in sorted(request.contexts) if s not in self._seeded], request.bar_time)
        self.allocations += 1
        return self.desk.allocate(request)

    async def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        """Bring what is held back to its targets, where that is due."""
        await self.ready()
        await self._reseed([s for s in sorted(request.contexts) if s not in self._seeded], request.bar_time)
        response = self.desk.rebalance(request)
        self.rebalances += bool(response.intents)
        return response

    async def risk_report(self, account: AccountSnapshot, profits: Sequence[float]) -> dict[str, Any]:
        """Return the risk of what is held now, as plain JSON; `profits` are those of closed trades, in quote currency."""
        await self.ready()
        assert self._pool is not None
        store = EngineStore(self._pool)
        points = [*await store.daily_equity(EQUITY_DAYS), *await store.equity_history(EQUITY_POINTS)]
        matrix = self.desk.history.returns_matrix(self.spec.symbols)
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

    async def _reseed(self, symbols: Sequence[str], bar_time: int) -> None:
        for symbol in symbols:
            assert self._pool is not None
            times, closes = await closes_until(self._pool, symbol, Timeframe.H1, HOURS_KEPT, bar_time)
            self.desk.seed(symbol, list(times), closes, 0.0)
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

"""RiskActor: tier 3 over one RiskDesk. Killed: a symbol it does not know is seeded from stored closes before its next plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from actors.base import DeskSpec, HeliosActor
from actors.stored import closes_until
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument
from helios.errors import InsufficientHistoryError
from helios.pipeline.ports import RiskRequest, RiskResponse
from helios.pipeline.series import CLOSES_KEPT, SymbolHistory
from helios.risk.build import make_risk_desk
from helios.store.pool import connect


class RiskActor(HeliosActor):
    """Turn predictions into plans."""

    name = "risk"

    def __init__(self, spec: DeskSpec, instruments: Mapping[str, Instrument]) -> None:
        super().__init__(spec)
        self.desk = make_risk_desk(spec.config, instruments)
        self._seeded: set[str] = set()
        self._pool: asyncpg.Pool | None = None
        self.plans = 0

    async def on_start(self) -> None:
        self._pool = await connect(self.spec.dsn, max_size=1)

    async def seed(self, histories: Sequence[SymbolHistory]) -> None:
        """Learn the past of symbols that become tradable."""
        await self.ready()
        for history in histories:
            self.desk.seed(history.symbol, history.closes, history.end_time)
            self._seeded.add(history.symbol)

    async def plan(self, request: RiskRequest) -> RiskResponse:
        """Size every prediction of the bar or say why not."""
        await self.ready()
        await self._reseed([s for s in sorted(request.contexts) if s not in self._seeded], request.bar_time)
        response = self.desk.plan(request)
        self.plans += len(response.plans)
        return response

    async def _reseed(self, symbols: Sequence[str], bar_time: int) -> None:
        timeframe = Timeframe(self.config.desk.decision_timeframe)
        for symbol in symbols:
            assert self._pool is not None
            times, closes = await closes_until(self._pool, symbol, timeframe, CLOSES_KEPT, bar_time)
            if len(closes) == 0:
                raise InsufficientHistoryError(f"no stored closes of {symbol}")
            self.desk.seed(symbol, closes, int(times[-1]))
            self._seeded.add(symbol)
            self.log.info("seeded from the store", extra={"symbol": symbol, "closes": len(closes)})

    async def on_stop(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    def details(self) -> dict[str, Any]:
        return {"plans": self.plans, "seeded": sorted(self._seeded)}

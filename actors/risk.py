"""RiskActor: tier 3 over one RiskDesk. Killed: a symbol it does not know is seeded from stored closes before its next plan."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from actors.base import DeskSpec, HeliosActor
from actors.remote_fits import RemoteFits
from actors.stored import closes_until
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument
from helios.domain.universe import Member
from helios.errors import InsufficientHistoryError
from helios.pipeline.ports import RiskRequest, RiskResponse
from helios.pipeline.series import CLOSES_KEPT, SymbolHistory
from helios.risk.build import make_risk_desk
from helios.store.pool import connect

FIT_DEADLINE_S = 3.0
"""A new worker process needs about two for its libraries; the rest of a plan's ten is for fitting here what did not come."""
FIT_PAUSE_NS = 900_000_000_000
"""How long a cluster without a free core is left alone after that, in market time."""


class RiskActor(HeliosActor):
    """Turn predictions into plans.

    Parameters
    ----------
    spec, instruments
    fit_task : Ray task or None
        `helios.risk.fitting.fit` as a task of the cluster. Where many symbols are to be fitted at one bar (a start, a shock to
        the whole market) they are fitted side by side; few are fitted here, sooner than a task would have begun.
    """

    name = "risk"

    def __init__(self, spec: DeskSpec, instruments: Mapping[str, Instrument], fit_task: Any = None) -> None:
        super().__init__(spec)
        self.instruments = dict(instruments)
        self.desk = make_risk_desk(spec.config, self.instruments)
        self._seeded: set[str] = set()
        self._pool: asyncpg.Pool | None = None
        self._fits = None if fit_task is None else RemoteFits(fit_task, FIT_DEADLINE_S)
        # While fits are computed elsewhere no other bar may be taken in; made here, used only on the actor's own loop.
        self._one_at_a_time = asyncio.Lock()
        self._told_fallbacks: dict[str, int] = {}
        self.plans = 0
        self.remote_fits = 0
        self._no_tasks_before = 0

    async def on_start(self) -> None:
        self._pool = await connect(self.spec.dsn, max_size=1)

    async def follow(self, members: Sequence[Member]) -> None:
        """Know the instruments of the desk's symbols."""
        self.instruments.update({m.symbol: m.instrument for m in members})

    async def seed(self, histories: Sequence[SymbolHistory]) -> None:
        """Learn the past of symbols that become tradable."""
        await self.ready()
        async with self._one_at_a_time:
            for history in histories:
                self.desk.volatility.begin(history.symbol, history.closes, history.end_time)
                self._seeded.add(history.symbol)
            await self._fit(max((history.end_time for history in histories), default=0))

    async def plan(self, request: RiskRequest) -> RiskResponse:
        """Size every prediction of the bar or say why not."""
        await self.ready()
        async with self._one_at_a_time:
            await self._reseed([s for s in sorted(request.contexts) if s not in self._seeded], request.bar_time)
            self.desk.volatility.take(request.contexts)
            await self._fit(request.bar_time)
            response = self.desk.plan(request)
        self._tell()
        self.plans += len(response.plans)
        return response

    async def _fit(self, now_ns: int) -> None:
        # What does not come back in time is fitted here: the same function, the same numbers.
        due = [each for each in self.desk.volatility.due() if each.is_garch]
        is_worth_it = len(due) >= self.config.risk.garch_tasks_from and now_ns >= self._no_tasks_before
        if self._fits is not None and is_worth_it:
            results = await self._fits.fit_all(due)
            self.desk.volatility.apply(results)
            self.remote_fits += len(results)
            if len(results) < len(due):
                self._no_tasks_before = now_ns + FIT_PAUSE_NS
                self.log.warning("fits did not come back", extra={"asked": len(due), "came": len(results)})
        self.desk.volatility.fit_here()

    def _tell(self) -> None:
        for alert in self.desk.volatility.new_alerts():
            self.log.warning(alert.words(), extra={"symbol": alert.symbol, "before": alert.before, "after": alert.after})
        for symbol, count in self.desk.fallbacks.items():
            if count > self._told_fallbacks.get(symbol, 0):
                reason = self.desk.volatility.fallback_reason(symbol)
                self.log.warning("no usable GARCH, EWMA instead", extra={"symbol": symbol, "fallbacks": count, "reason": reason})
        self._told_fallbacks = self.desk.fallbacks

    async def _reseed(self, symbols: Sequence[str], bar_time: int) -> None:
        timeframe = Timeframe(self.config.desk.decision_timeframe)
        for symbol in symbols:
            assert self._pool is not None
            times, closes = await closes_until(self._pool, symbol, timeframe, CLOSES_KEPT, bar_time)
            if len(closes) == 0:
                raise InsufficientHistoryError(f"no stored closes of {symbol}")
            self.desk.volatility.begin(symbol, closes, int(times[-1]))
            self._seeded.add(symbol)
            self.log.info("seeded from the store", extra={"symbol": symbol, "closes": len(closes)})

    async def on_stop(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    def details(self) -> dict[str, Any]:
        return {
            "plans": self.plans,
            "seeded": sorted(self._seeded),
            "remote_fits": self.remote_fits,
            "fallbacks": self.desk.fallbacks,
            "alerts": {symbol: alert.words() for symbol, alert in self.desk.volatility.alerts.items()},
            "volatility": self.desk.volatility.report(),
        }

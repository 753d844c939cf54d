"""The tier ports over Ray handles: same calls as in process, Ray's errors turned into ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from ray.exceptions import RayActorError, RayError, RayTaskError

from helios.domain.decisions import DecisionTrace, Verdict, VolatilityForecast
from helios.domain.events import Mark
from helios.domain.market import MarketSnapshot
from helios.domain.orders import AccountSnapshot, ExitPlan, ExitTriggered, OrderIntent, OrderOutcome
from helios.errors import HeliosError, TransportError
from helios.pipeline.ports import (
    AllocationRequest,
    AllocationResponse,
    RebalanceRequest,
    RebalanceResponse,
    ReviewRequest,
    RiskRequest,
    RiskResponse,
    SymbolContext,
)
from helios.pipeline.series import SymbolHistory
from helios.pipeline.symbol import SymbolStep

T = TypeVar("T")
RESTART_TRIES, RESTART_WAIT_S = 20, 0.5
RECORD_RETRY_S = (0.5, 1.0, 2.0)


class PeerDownError(TransportError):
    """The actor's process is gone and Ray restarts it; whatever it was doing for this call died with it."""


async def call(awaitable: Awaitable[T], timeout_s: float, what: str) -> T:
    """Await a remote answer under a deadline.

    Raises
    ------
    HeliosError
        The callee's own error, where it raised one of ours.
    TransportError
        The callee is dead, restarting or silent: the effect of the call is unknown.
    """
    try:
        return await asyncio.wait_for(awaitable, timeout_s)
    except TimeoutError:
        raise TransportError(f"{what}: no answer within {timeout_s:g} s") from None
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, HeliosError) else None
        raise (cause or TransportError(f"{what}: {error.cause!r}")) from None
    except RayActorError:
        raise PeerDownError(f"{what}: the actor is down or restarting") from None
    except RayError as error:
        raise TransportError(f"{what}: {type(error).__name__}") from None


async def again(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the callee restarts, for about ten seconds. For calls that may be repeated, and those alone."""
    for _ in range(RESTART_TRIES):
        try:
            return await ask()
        except PeerDownError:
            await asyncio.sleep(RESTART_WAIT_S)
    return await ask()


class RemoteTier:
    """A tier behind an actor handle. Order-sending calls are never retried here or by Ray."""

    def __init__(self, handle: Any, name: str, deadline_s: float) -> None:
        self._handle = handle
        self._name = name
        self._deadline_s = deadline_s

    def _call(self, method: str, *args: Any) -> Awaitable[Any]:
        return call(getattr(self._handle, method).remote(*args), self._deadline_s, self._name)


class RemoteRisk(RemoteTier):
    async def plan(self, request: RiskRequest) -> RiskResponse:
        return await self._call("plan", request)  # type: ignore[no-any-return]


class RemoteReview(RemoteTier):
    async def review(self, request: ReviewRequest) -> list[Verdict]:
        return await self._call("review", request)  # type: ignore[no-any-return]


class RemotePortfolio(RemoteTier):
    async def observe(self, contexts: Mapping[str, SymbolContext]) -> None:
        await self._call("observe", dict(contexts))

    async def allocate(self, request: AllocationRequest) -> AllocationResponse:
        return await self._call("allocate", request)  # type: ignore[no-any-return]

    async def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        return await self._call("rebalance", request)  # type: ignore[no-any-return]


class RemoteExecution(RemoteTier):
    async def account(self, marks: Sequence[Mark]) -> AccountSnapshot:
        return await again(lambda: self._call("account", list(marks)))  # type: ignore[no-any-return]

    async def submit(self, intents: Sequence[OrderIntent], markets: Mapping[str, MarketSnapshot]) -> list[OrderOutcome]:
        return await self._call("submit", list(intents), dict(markets))  # type: ignore[no-any-return]

    async def exits(self, triggers: Sequence[ExitTriggered]) -> list[OrderOutcome]:
        return await again(lambda: self._call("exits", list(triggers)))  # type: ignore[no-any-return]

    async def exit_plans(self) -> list[ExitPlan]:
        return await again(lambda: self._call("exit_plans"))  # type: ignore[no-any-return]

    async def note_volatility(self, ratios: Mapping[str, float]) -> None:
        await again(lambda: self._call("note_volatility", dict(ratios)))

    async def flatten(self, markets: Mapping[str, MarketSnapshot], *, for_good: bool = True) -> list[str]:
        # repeating it is safe: an exit has one id per position and attempt, and nothing is sent while one is on its way
        return await again(lambda: self._call("flatten", dict(markets), for_good))  # type: ignore[no-any-return]


class RemoteTraces(RemoteTier):
    """Traces are stored once per decision id, so this call may be repeated while the recorder restarts."""

    async def record(self, traces: Sequence[DecisionTrace], forecasts: Sequence[VolatilityForecast]) -> None:
        for delay_s in RECORD_RETRY_S:
            try:
                await self._call("record_traces", list(traces), list(forecasts))
                return
            except TransportError:
                await asyncio.sleep(delay_s)
        await self._call("record_traces", list(traces), list(forecasts))


class RemoteSeeds:
    """Tiers 3 and 5 are told a symbol's past together."""

    def __init__(self, handles: Sequence[tuple[str, Any]], deadline_s: float) -> None:
        self._handles = handles
        self._deadline_s = deadline_s

    async def seed(self, histories: Sequence[SymbolHistory]) -> None:
        await asyncio.gather(*(call(h.seed.remote(list(histories)), self._deadline_s, name) for name, h in self._handles))


class RemoteSymbols:
    """All symbol actors, asked together; used by the lockstep replay.

    A symbol actor that died is asked again once it is back: its new incarnation has read nothing yet and catches up by itself.
    """

    def __init__(self, handles: Sequence[tuple[tuple[str, ...], Any]], deadline_s: float) -> None:
        self._handles = handles
        self._deadline_s = deadline_s

    async def advance(self, until_ns: int, plans: Sequence[ExitPlan]) -> list[SymbolStep]:
        async def one(symbols: tuple[str, ...], handle: Any) -> list[SymbolStep]:
            mine = [p for p in plans if p.symbol in symbols]
            return await again(lambda: call(handle.advance.remote(until_ns, mine), self._deadline_s, symbols[0]))

        answers = await asyncio.gather(*(one(symbols, handle) for symbols, handle in self._handles))
        return sorted((step for answer in answers for step in answer), key=lambda s: s.symbol)

    async def histories(self, symbols: Sequence[str]) -> list[SymbolHistory]:
        async def one(owned: tuple[str, ...], handle: Any) -> list[SymbolHistory]:
            mine = [s for s in owned if s in symbols]
            return await again(lambda: call(handle.histories.remote(mine), self._deadline_s, owned[0]))

        answers = await asyncio.gather(*(one(owned, handle) for owned, handle in self._handles))
        return [history for answer in answers for history in answer]

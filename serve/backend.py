"""What the gateway asks others: the Supervisor, the predictor, the database. One protocol, one implementation over Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import asyncpg
import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import HeliosError, ModelUnavailableError, TransportError
from helios.portfolio.attribution_report import Grouping, Question
from helios.store.attribution import AttributionReader
from helios.store.engine_store import EngineStore, daily_report
from helios.store.pool import connect, session
from helios.store.recorder import MarketRecorder
from helios.store.traces import SUMMARY, PostgresTraces

T = TypeVar("T")
SNAPSHOT_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 10.0
SLOW_COMMANDS_S = {"emergency_stop": 30.0, "add_symbol": 20.0}
PREDICT_TIMEOUT_S = 10.0
NO_CASH = Decimal(0)  # the run itself says with how much it began
DECISIONS_PAGE = f"""
    SELECT {SUMMARY} FROM decisions
    WHERE ($2::text IS NULL OR symbol = $2)
      AND ($3::bigint IS NULL OR bar_time_ns < $3 OR (bar_time_ns = $3 AND symbol > $4))
    ORDER BY bar_time_ns DESC, symbol LIMIT $1"""
Rows = list[dict[str, Any]]


class Backend(Protocol):
    """Everything the API shows or does. All methods raise only errors of helios.errors and answer within a deadline."""

    async def snapshot(self) -> dict[str, Any]:
        """Return the Supervisor's snapshot."""

    async def command(self, name: str, *args: str) -> Any:
        """Give the Supervisor a command; RejectedError if it refuses."""

    async def predict(self, values: NDArray[np.float32]) -> dict[str, Any]:
        """Return probabilities and attention, both (n, 3), and model_version for windows (n, 3, 60, 30)."""

    async def orders(self, limit: int) -> Rows:
        """Return the newest orders."""

    async def fills(self, limit: int) -> Rows:
        """Return the newest fills."""

    async def events(self, limit: int) -> list[Any]:
        """Return the newest engine events."""

    async def decisions(self, limit: int, symbol: str | None, after: tuple[int, str] | None) -> Rows:
        """Return decisions, newest first, after the one with this bar time (ns) and symbol."""

    async def candles(self, symbol: str, timeframe: Timeframe, limit: int) -> Rows:
        """Return the newest candles of a symbol, oldest first; none of a symbol that the desk does not know."""

    async def explain(self, decision_id: str) -> dict[str, Any]:
        """Return one decision with all its steps; RejectedError if there is none."""

    async def attribution(self, by: Grouping, first_day: int | None, last_day: int | None) -> dict[str, Any]:
        """Return where the profit of these UTC days (since 1970, both included; None: no bound) came from."""

    async def daily(self, days: int) -> Rows:
        """Return the account's last `days` UTC days, oldest first: value, profit, return, drawdown, Sharpe ratio."""

    async def aclose(self) -> None:
        """Release connections."""


class RayBackend:
    """The running desk.

    Parameters
    ----------
    namespace : str
        Ray namespace of the actors.
    dsn : str
        PostgreSQL address; the pool opens at the first question.
    """

    def __init__(self, namespace: str, dsn: str) -> None:
        self._namespace = namespace
        self._dsn = dsn
        self._supervisor: Any = None
        self._predictor: Any = None
        self._pool: asyncpg.Pool | None = None
        self._attribution: AttributionReader | None = None
        self._opening = asyncio.Lock()

    async def snapshot(self) -> dict[str, Any]:
        return dict(await self._ask("snapshot", SNAPSHOT_TIMEOUT_S))

    async def command(self, name: str, *args: str) -> Any:
        return await self._ask(name, SLOW_COMMANDS_S.get(name, COMMAND_TIMEOUT_S), *args)

    async def predict(self, values: NDArray[np.float32]) -> dict[str, Any]:
        try:
            return dict(await remote(self._classify(values), PREDICT_TIMEOUT_S, "the predictor"))
        except TransportError as error:
            raise ModelUnavailableError(str(error)) from None

    # One coroutine, so that errors of making the handle are met like errors of the call.
    async def _classify(self, values: NDArray[np.float32]) -> Any:
        if self._predictor is None:
            try:
                self._predictor = serve.get_deployment_handle("Predictor", app_name="predictor")
            except KeyError:  # how Serve says that there is no such deployment
                raise TransportError("the predictor is not running") from None
        return await self._predictor.predict_batch.remote(values)

    async def orders(self, limit: int) -> Rows:
        return await EngineStore(await self._database()).orders(limit)

    async def fills(self, limit: int) -> Rows:
        return await EngineStore(await self._database()).fills(limit)

    async def events(self, limit: int) -> list[Any]:
        return list(await EngineStore(await self._database()).events(limit))

    async def decisions(self, limit: int, symbol: str | None, after: tuple[int, str] | None) -> Rows:
        bar_time, last_symbol = after or (None, None)
        async with session(await self._database()) as connection:
            return [dict(row) for row in await connection.fetch(DECISIONS_PAGE, limit, symbol, bar_time, last_symbol)]

    async def candles(self, symbol: str, timeframe: Timeframe, limit: int) -> Rows:
        bars = await MarketRecorder(await self._database()).load_bars(symbol, timeframe, limit)
        return [{"open_time": bar.open_time} | {name: getattr(bar, name) for name in BAR_VALUES} for bar in bars]

    async def explain(self, decision_id: str) -> dict[str, Any]:
        return await PostgresTraces(await self._database()).explain(decision_id)

    async def attribution(self, by: Grouping, first_day: int | None, last_day: int | None) -> dict[str, Any]:
        pool = await self._database()
        self._attribution = self._attribution or AttributionReader(pool)
        return await self._attribution.attribution(Question(by, first_day, last_day), NO_CASH, with_benchmark=True)

    async def daily(self, days: int) -> Rows:
        return await daily_report(EngineStore(await self._database()), days)

    async def aclose(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = self._attribution = None

    async def _database(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await connect(self._dsn, max_size=4, check=False)
            return self._pool

    async def _ask(self, method: str, timeout_s: float, *args: str) -> Any:
        handle = await self._handle()
        try:
            return await remote(getattr(handle, method).remote(*args), timeout_s, "the supervisor")
        except TransportError:
            self._supervisor = None  # it may be gone for good, and another one started under the name
            raise

    async def _handle(self) -> Any:
        if self._supervisor is None:
            lookup = asyncio.to_thread(ray.get_actor, "supervisor", namespace=self._namespace)
            try:
                self._supervisor = await asyncio.wait_for(lookup, SNAPSHOT_TIMEOUT_S)
            except TimeoutError:
                raise TransportError("the cluster does not answer") from None
            except (ValueError, RayError):
                raise TransportError("the supervisor is not running") from None
        return self._supervisor


async def remote(awaitable: Awaitable[T], timeout_s: float, what: str) -> T:
    """Await a Ray answer under a deadline.

    Raises
    ------
    HeliosError
        The callee's own error, where it raised one of ours.
    TransportError
        It is dead, restarting, overloaded or silent: the effect of the call is unknown.
    """
    try:
        return await asyncio.wait_for(awaitable, timeout_s)
    except TimeoutError:
        raise TransportError(f"{what} did not answer within {timeout_s:g} s") from None
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, HeliosError) else None
        raise (cause or TransportError(f"{what} failed: {type(error.cause).__name__}")) from None
    except RayActorError:
        raise TransportError(f"{what} is down or restarting") from None
    except (RayError, RayServeException) as error:
        raise TransportError(f"{what} is unavailable: {type(error).__name__}") from None

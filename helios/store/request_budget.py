"""One request budget for all processes of a cluster, in PostgreSQL, and what each may do while that is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import asyncpg

from helios.errors import ConfigError, StoreUnavailableError, TransportError
from helios.store.pool import connect, session
from helios.venues.gcra import NS_PER_S, Rate
from helios.venues.local_budget import MAX_WAIT_S, LocalBudget

log = logging.getLogger(__name__)

US_PER_S = 1_000_000
DATABASE_TIMEOUT_S = 1.0
RETRY_S = 5.0
MAX_OWED = 10_000
CLUSTER_ADDRESS = "cluster"
"""All nodes are taken to reach the venue from one address, as behind one router: at worst that sends too little."""

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
# GCRA in one statement: the row's lock orders the processes, and its values are read after the lock is held. Time may pass
# between two readings of the clock in it, which only makes the next request later. No row comes back where the wait would be
# too long; nothing is counted then.
_SLOT = f"GREATEST({_NOW}, b.due_us - $5::bigint, b.paused_until_us)"
_RESERVE = f"""
INSERT INTO request_budgets AS b (venue, address, route, due_us, granted_us, admitted)
VALUES ($1, $2, $3, {_NOW} + $4::bigint * (1 + $7::bigint), {_NOW}, 1 + $7::bigint)
ON CONFLICT (venue, address, route) DO UPDATE
SET granted_us = {_SLOT},
    due_us = GREATEST(b.due_us, {_SLOT}) + $4::bigint * (1 + $7::bigint),
    admitted = b.admitted + 1 + $7::bigint
WHERE {_SLOT} - {_NOW} <= $6::bigint
RETURNING granted_us - {_NOW} AS wait_us
"""
_PAUSE = f"""
INSERT INTO request_budgets AS b (venue, address, route, due_us, granted_us, paused_until_us, pauses)
VALUES ($1, $2, $3, {_NOW} + $4::bigint + $5::bigint, 0, {_NOW} + $4::bigint, 1)
ON CONFLICT (venue, address, route) DO UPDATE
SET paused_until_us = GREATEST(b.paused_until_us, {_NOW} + $4::bigint),
    due_us = GREATEST(b.due_us, {_NOW} + $4::bigint + $5::bigint),
    pauses = b.pauses + 1
"""
# A sleep may end a little early: less than a millisecond of the old pause is no new one.
_PAUSED = f"SELECT paused_until_us > {_NOW} + 1000 FROM request_budgets WHERE venue = $1 AND address = $2 AND route = $3"


class PostgresBudget:
    """A RequestBudget shared through the database by everybody who names the same venue and address.

    While the database is away each process keeps to its share of the limit by itself, so the feed never stops for it: the
    share counts what this process was granted before, and what was sent meanwhile is entered when the database is back.

    Parameters
    ----------
    dsn : str
        PostgreSQL address; connected to at the first request, one connection per process.
    venue, address : str
        The venue and the address its limits count (processes behind one network address must give the same).
    rates : mapping of str to Rate
        Every route with its limit; must be the same in all processes.
    n_processes : int
        How many processes share the budget at most; each may use that part of it while the database is away.
    max_wait_s : float, default=120.0
        Longest wait; who would have to wait longer is turned away instead.
    monotonic_ns, sleep : callable
        Monotonic nanoseconds, and waiting for some seconds.

    Notes
    -----
    In the one window in which the database goes away the sum of what was granted before and of the shares can exceed the
    limit, by at most the unused shares of the others; a 429 then pauses everybody.
    """

    def __init__(
        self,
        dsn: str,
        venue: str,
        address: str,
        rates: Mapping[str, Rate],
        n_processes: int,
        max_wait_s: float = MAX_WAIT_S,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._dsn = dsn
        self._key = (venue, address)
        self._rates = dict(rates)
        self._max_wait_s = max_wait_s
        self._monotonic_ns = monotonic_ns
        self._sleep = sleep
        shares = {route: rate.share(n_processes) for route, rate in rates.items()}
        self._own = LocalBudget(shares, max_wait_s, monotonic_ns, sleep)
        self._owed: Counter[str] = Counter()  # sent while the database was away, not yet entered there
        self._pool: asyncpg.Pool | None = None
        self._connecting = asyncio.Lock()
        self._away_until_ns: int | None = None
        self.fallbacks = 0

    @property
    def is_shared(self) -> bool:
        """Whether the database answered the last question: otherwise this process keeps to its own share."""
        return self._away_until_ns is None

    async def admit(self, route: str) -> None:
        """Wait until one more request on `route` may be sent, and count it.

        Raises
        ------
        TransportError
            If the wait would be longer than `max_wait_s`.
        ConfigError
            If the route has no rate.
        """
        rate = self._rate(route)
        while not self._is_away():
            try:
                wait_s = await self._reserve(route, rate)
                if wait_s <= 0.0:
                    return
                await self._sleep(wait_s)
                if not await self._is_paused(route):
                    return
            except StoreUnavailableError as error:
                self._lose(error)
        await self._own.admit(route)
        self._owed[route] = min(MAX_OWED, self._owed[route] + 1)

    async def pause(self, route: str, pause_s: float) -> None:
        """Let nobody of the cluster send on `route` for `pause_s` seconds; only this process while the database is away."""
        rate = self._rate(route)
        await self._own.pause(route, pause_s)
        if self._is_away():
            return
        try:
            async with self._session() as connection:
                await connection.execute(_PAUSE, *self._key, route, int(pause_s * US_PER_S), rate.tolerance_ns // 1000)
        except StoreUnavailableError as error:
            self._lose(error)

    async def aclose(self) -> None:
        """Give the connection back."""
        if self._pool is not None:
            self._pool.terminate()  # nothing is under way that must be finished
            self._pool = None

    async def _reserve(self, route: str, rate: Rate) -> float:
        # One request at the front of the line counts those of the outage as well, so that they are not forgotten.
        owed = self._owed.pop(route, 0)
        try:
            async with self._session() as connection:
                wait_us = await connection.fetchval(
                    _RESERVE, *self._key, route, -(-rate.interval_ns // 1000), rate.tolerance_ns // 1000,
                    int(self._max_wait_s * US_PER_S), owed,
                )  # fmt: skip
        except (StoreUnavailableError, asyncio.CancelledError):
            self._owed[route] += owed
            raise
        self._found()
        if wait_us is None:
            self._owed[route] += owed
            raise TransportError(f"no request on {route} may be sent within {self._max_wait_s:.0f} s")
        self._own.charge(route)
        return float(wait_us) / US_PER_S

    async def _is_paused(self, route: str) -> bool:
        async with self._session() as connection:
            return bool(await connection.fetchval(_PAUSED, *self._key, route))

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[asyncpg.Connection]:
        try:
            async with session(await self._connected(), DATABASE_TIMEOUT_S) as connection:
                yield connection
        except asyncpg.PostgresError as error:
            # A table not migrated yet, a refused password: no reason to stop asking the venue either.
            raise StoreUnavailableError(f"database: {type(error).__name__}: {error}") from error

    async def _connected(self) -> asyncpg.Pool:
        async with self._connecting:
            if self._pool is None:
                self._pool = await connect(self._dsn, max_size=1, timeout_s=DATABASE_TIMEOUT_S, check=False)
            return self._pool

    def _is_away(self) -> bool:
        return self._away_until_ns is not None and self._monotonic_ns() < self._away_until_ns

    def _lose(self, error: StoreUnavailableError) -> None:
        if self._away_until_ns is None:
            self.fallbacks += 1
            log.warning("request budget: %s; each process keeps to its own share until the database is back", error)
        self._away_until_ns = self._monotonic_ns() + int(RETRY_S * NS_PER_S)

    def _found(self) -> None:
        if self._away_until_ns is not None:
            log.info("request budget: the database is back, the budget is shared again")
            self._away_until_ns = None

    def _rate(self, route: str) -> Rate:
        rate = self._rates.get(route)
        if rate is None:
            raise ConfigError(f"no rate is known for the route {route!r}: {', '.join(sorted(self._rates))}")
        return rate

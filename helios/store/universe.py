"""What was added to a run's symbols and what it is to leave, for who must know it after a crash."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from helios.domain.universe import Member, Origin
from helios.store.pool import session, transaction
from helios.venues.tape import instrument_json, read_instrument

INSERT = """
    INSERT INTO universe (run_id, symbol, origin, reduce_only, instrument, updated)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp())"""


class UniverseStore:
    """The members of one run that its configuration does not tell; any method may raise StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool, run_id: str) -> None:
        self._pool = pool
        self._run_id = run_id

    async def load(self) -> list[Member]:
        """Return what `save` wrote last in this run, in its order."""
        query = "SELECT origin, reduce_only, instrument FROM universe WHERE run_id = $1 ORDER BY updated, symbol"
        async with session(self._pool) as connection:
            rows = await connection.fetch(query, self._run_id)
        return [Member(read_instrument(row["instrument"]), Origin(row["origin"]), row["reduce_only"]) for row in rows]

    async def save(self, members: Sequence[Member]) -> None:
        """Replace the run's members by these, all or none; those of other runs go."""
        async with transaction(self._pool) as connection:
            await connection.execute("DELETE FROM universe")
            for m in members:
                values = (m.symbol, m.origin.value, m.reduce_only, instrument_json(m.instrument))
                await connection.execute(INSERT, self._run_id, *values)

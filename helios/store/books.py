"""The ledger's whole past with the decisions behind it, as lots need it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg

from helios.portfolio.attribution_report import Books
from helios.store.ledger import PostgresLedger
from helios.store.pool import session

# Only the steps that the stages read: prompts and reasons of years would fill the memory for nothing.
DECISIONS = """
    SELECT decision_id, jsonb_build_object('plan', steps -> 'plan', 'review', steps -> 'review', 'allocation', steps -> 'allocation')
        AS steps
    FROM decisions
    WHERE decision_id IN (SELECT decision_id FROM orders WHERE client_order_id IN (SELECT client_order_id FROM fills))"""
INITIAL_CASH = "SELECT config -> 'desk' ->> 'initial_cash_quote' FROM runs ORDER BY started_at DESC LIMIT 1"


class PostgresBooks:
    """Reads over a pool of `helios.store.pool.connect`. Any method may raise StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def books(self, initial_cash: Decimal) -> Books:
        """Return the ledger's whole past with the decisions behind it.

        Parameters
        ----------
        initial_cash : Decimal
            Used where no run says with how much it began.
        """
        ledger = PostgresLedger(self._pool)
        history, movements = await ledger.fills(), await ledger.movements()
        async with session(self._pool) as connection:
            rows = await connection.fetch(DECISIONS)
            said = await connection.fetchval(INITIAL_CASH)
        return Books(history, movements, {row["decision_id"]: _steps(row["steps"]) for row in rows}, _cash(said, initial_cash))


def _steps(known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {tier: step for tier, step in known.items() if isinstance(step, dict)}


def _cash(said: str | None, otherwise: Decimal) -> Decimal:
    return otherwise if said is None else Decimal(said)

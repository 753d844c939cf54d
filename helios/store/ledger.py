"""The write-ahead order ledger in PostgreSQL, and the fence that keeps a second incarnation from trading.

Every writer first locks the single row of `trading_epoch` and compares its epoch. Taking trading over updates that row: it
waits for writers under way, and every later writer of an older epoch reads the new number and is refused. Nothing is left to
timing. Writers of fills lock the row for themselves, so the order of their numbers is the order of their commits.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import asyncpg

from helios.domain.enums import MovementKind, OrderStatus, Side
from helios.domain.orders import AccountSnapshot, ExitRule, Fill, Movement, OrderRecord
from helios.errors import FencedError, InvariantError
from helios.execution.ports import AccountState
from helios.store.pool import session, transaction, utc

OPEN_STATUSES = [OrderStatus.PENDING, OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED]
ORDER_COLUMNS = (
    "client_order_id, decision_id, symbol, side, quantity_base, reference_price, reduce_only, leg, leverage, status, "
    "filled_base, average_price, fee_quote, ts_event, ts_updated, epoch, reason, deny_codes, exit_rule"
)
INSERT_ORDER = f"""
    INSERT INTO orders ({ORDER_COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
    ON CONFLICT (client_order_id) DO NOTHING RETURNING client_order_id"""
UPDATE_ORDER = """
    UPDATE orders SET status = $2, filled_base = $3, average_price = $4, fee_quote = $5, ts_updated = $6, epoch = $7,
        reason = $8, deny_codes = $9 WHERE client_order_id = $1"""
INSERT_EVENT = """
    INSERT INTO order_events (client_order_id, status, filled_base, average_price, reason, ts_ns, epoch)
    VALUES ($1, $2, $3, $4, $5, $6, $7)"""
INSERT_FILL = """
    INSERT INTO fills (fill_id, client_order_id, symbol, side, quantity_base, price, fee, fee_currency, fee_quote,
        executed_at, ts_ns, epoch)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (fill_id) DO NOTHING"""
INSERT_MOVEMENT = """
    INSERT INTO account_movements (movement_id, kind, symbol, currency, amount, value_quote, moved_at, ts_ns, epoch)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (movement_id) DO NOTHING"""
SAVE_ACCOUNT = """
    INSERT INTO account_state (id, ts_ns, equity_quote, peak_equity_quote, day, day_start_equity_quote, drawdown, snapshot,
        epoch, peak_rebased_ns, breakers)
    VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (id) DO UPDATE SET ts_ns = $1, equity_quote = $2, peak_equity_quote = $3, day = $4,
        day_start_equity_quote = $5, drawdown = $6, snapshot = $7, epoch = $8, peak_rebased_ns = $9, breakers = $10,
        updated = now()"""
LOAD_ACCOUNT = """
    SELECT peak_equity_quote, day, day_start_equity_quote, peak_rebased_ns, snapshot -> 'positions' AS positions,
        coalesce(snapshot -> 'rates', '[]') AS rates, breakers
    FROM account_state"""


class PostgresLedger:
    """LedgerStore over a pool of `helios.store.pool.connect`. Any method may raise StoreUnavailableError.

    After StoreUnavailableError from a write its effect is unknown; repeating the same call is always safe.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def acquire_epoch(self, owner: str) -> int:
        """Take trading over: return an epoch above all earlier ones and lock out their writers."""
        async with transaction(self._pool) as connection:
            epoch: int = await connection.fetchval(
                "UPDATE trading_epoch SET epoch = greatest(epoch, (SELECT coalesce(max(epoch), 0) FROM trading_epochs)) + 1"
                " RETURNING epoch"
            )
            await connection.execute("INSERT INTO trading_epochs (epoch, owner) VALUES ($1, $2)", epoch, owner)
        return epoch

    async def commit_intents(self, records: Sequence[OrderRecord], epoch: int) -> list[bool]:
        """Insert records in one transaction; False where the id was there already (that row stays as it was)."""
        inserted: set[str] = set()
        async with self._fenced(epoch, "SHARE") as connection:
            # Sorted, so that two batches with the same ids wait for each other instead of deadlocking.
            for record in sorted(records, key=lambda r: r.client_order_id):
                if await connection.fetchval(INSERT_ORDER, *_order_values(record, epoch)) is not None:
                    inserted.add(record.client_order_id)
                    await connection.execute(INSERT_EVENT, *_event_values(record, epoch))
        return [_take(inserted, record.client_order_id) for record in records]

    async def advance(self, records: Sequence[OrderRecord], fills: Sequence[Fill], epoch: int) -> None:
        """In one transaction update orders, append an event for each change of status or amount, and insert new fills.

        Raises
        ------
        FencedError
            If a newer epoch exists; nothing is written.
        InvariantError
            If an order was never committed; nothing is written.
        """
        async with self._fenced(epoch, "NO KEY UPDATE") as connection:
            for record in records:
                await _advance_one(connection, record, epoch)
            await connection.executemany(INSERT_FILL, [_fill_values(fill, epoch) for fill in fills])

    async def order(self, client_order_id: str) -> OrderRecord | None:
        """Return one order, or None."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(f"SELECT {ORDER_COLUMNS} FROM orders WHERE client_order_id = $1", client_order_id)
        return None if row is None else to_order(row)

    async def open_orders(self) -> list[OrderRecord]:
        """Return the orders that may still change, oldest first."""
        query = f"SELECT {ORDER_COLUMNS} FROM orders WHERE status = ANY($1::text[]) ORDER BY seq"
        async with session(self._pool) as connection:
            rows = await connection.fetch(query, [str(status) for status in OPEN_STATUSES])
        return [to_order(row) for row in rows]

    async def fills(self) -> list[tuple[OrderRecord, Fill]]:
        """Return all fills in the order in which they were committed, each with its order as it is now."""
        async with session(self._pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            orders = {row["client_order_id"]: to_order(row) for row in await connection.fetch(
                f"SELECT {ORDER_COLUMNS} FROM orders WHERE client_order_id IN (SELECT client_order_id FROM fills)"
            )}  # fmt: skip
            rows = await connection.fetch("SELECT * FROM fills ORDER BY seq")
        return [(orders[row["client_order_id"]], to_fill(row)) for row in rows]

    async def fills_of(self, client_order_id: str) -> list[Fill]:
        """Return the fills of one order in the order in which they were committed."""
        async with session(self._pool) as connection:
            rows = await connection.fetch("SELECT * FROM fills WHERE client_order_id = $1 ORDER BY seq", client_order_id)
        return [to_fill(row) for row in rows]

    async def record_movements(self, movements: Sequence[Movement], epoch: int) -> None:
        """Insert funding and transfers in one transaction; a known movement id is ignored.

        Raises
        ------
        FencedError
            If a newer epoch exists; nothing is written.
        """
        async with self._fenced(epoch, "NO KEY UPDATE") as connection:
            await connection.executemany(INSERT_MOVEMENT, [_movement_values(m, epoch) for m in movements])

    async def movements(self) -> list[Movement]:
        """Return all funding and transfers in the order in which they were committed."""
        async with session(self._pool) as connection:
            rows = await connection.fetch("SELECT * FROM account_movements ORDER BY seq")
        return [to_movement(row) for row in rows]

    async def save_account(self, snapshot: AccountSnapshot, epoch: int, breakers: str = "") -> None:
        """Replace the account's state and what its breakers remember; the day is the UTC date of the snapshot."""
        values = (
            snapshot.ts_event, snapshot.equity_quote, snapshot.peak_equity_quote, utc(snapshot.ts_event).date(),
            snapshot.day_start_equity_quote, snapshot.drawdown, asdict(snapshot), epoch,
            snapshot.peak_rebased_at, breakers,
        )  # fmt: skip
        async with self._fenced(epoch, "SHARE") as connection:
            await connection.execute(SAVE_ACCOUNT, *values)

    async def load_account(self) -> AccountState | None:
        """Return peak, day (ISO date, UTC), the day's first equity, last reset, marks and breakers; None before the first save."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(LOAD_ACCOUNT)
        if row is None:
            return None
        peak, start = str(row["peak_equity_quote"]), str(row["day_start_equity_quote"])
        # An older program's snapshot has no time of the mark: then the price is none to rely on.
        marks = tuple((p["symbol"], p["mark_price"], p["marked_at"]) for p in row["positions"] if p.get("marked_at"))
        rates = tuple((currency, rate, ts) for currency, rate, ts in row["rates"])
        bests = tuple((p["symbol"], p["best_mark"], p["opened_at"]) for p in row["positions"] if p.get("best_mark"))
        return AccountState(peak, row["day"].isoformat(), start, row["peak_rebased_ns"], marks, rates, row["breakers"], bests)

    async def history(self, client_order_id: str) -> list[dict[str, Any]]:
        """Return every status an order went through, oldest first."""
        query = (
            "SELECT status, filled_base, average_price, reason, ts_ns, epoch FROM order_events"
            " WHERE client_order_id = $1 ORDER BY seq"
        )
        async with session(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(query, client_order_id)]

    async def statistics(self) -> dict[str, int]:
        """Return the number of orders per status."""
        async with session(self._pool) as connection:
            rows = await connection.fetch("SELECT status, count(*) AS n FROM orders GROUP BY status ORDER BY status")
        return {row["status"]: row["n"] for row in rows}

    @asynccontextmanager
    async def _fenced(self, epoch: int, lock: str) -> AsyncIterator[asyncpg.Connection]:
        async with transaction(self._pool) as connection:
            current = await connection.fetchval(f"SELECT epoch FROM trading_epoch FOR {lock}")
            if current != epoch:
                raise FencedError(f"epoch {epoch} writes, but trading belongs to epoch {current}")
            yield connection


async def _advance_one(connection: asyncpg.Connection, record: OrderRecord, epoch: int) -> None:
    query = "SELECT status, filled_base FROM orders WHERE client_order_id = $1 FOR NO KEY UPDATE"
    before = await connection.fetchrow(query, record.client_order_id)
    if before is None:
        raise InvariantError(f"order {record.client_order_id} was never committed")
    await connection.execute(
        UPDATE_ORDER, record.client_order_id, str(record.status), record.filled_base, record.average_price, record.fee_quote,
        record.ts_updated, epoch, record.reason, list(record.deny_codes),
    )  # fmt: skip
    if (before["status"], before["filled_base"]) != (record.status, record.filled_base):
        await connection.execute(INSERT_EVENT, *_event_values(record, epoch))


# The first mention of an id in a batch is the one that was inserted; a repetition in the same batch was not.
def _take(inserted: set[str], client_order_id: str) -> bool:
    if client_order_id not in inserted:
        return False
    inserted.remove(client_order_id)
    return True


def _order_values(r: OrderRecord, epoch: int) -> tuple[Any, ...]:
    rule = None if r.exit_rule is None else asdict(r.exit_rule)
    return (
        r.client_order_id, r.decision_id, r.symbol, int(r.side), r.quantity_base, r.reference_price, r.reduce_only, r.leg,
        r.leverage, str(r.status), r.filled_base, r.average_price, r.fee_quote, r.ts_event, r.ts_updated, epoch, r.reason,
        list(r.deny_codes), rule,
    )  # fmt: skip


def _event_values(r: OrderRecord, epoch: int) -> tuple[Any, ...]:
    return (r.client_order_id, str(r.status), r.filled_base, r.average_price, r.reason, r.ts_updated, epoch)


def _fill_values(f: Fill, epoch: int) -> tuple[Any, ...]:
    return (
        f.fill_id, f.client_order_id, f.symbol, int(f.side), f.quantity_base, f.price, f.fee, f.fee_currency, f.fee_quote,
        utc(f.ts_event), f.ts_event, epoch,
    )  # fmt: skip


def _movement_values(m: Movement, epoch: int) -> tuple[Any, ...]:
    moved_at = utc(m.ts_event)
    return (m.movement_id, str(m.kind), m.symbol, m.currency, m.amount, m.value_quote, moved_at, m.ts_event, epoch)


def to_movement(row: asyncpg.Record) -> Movement:
    """Return a row of `account_movements` as the domain's value."""
    kind = MovementKind(row["kind"])
    return Movement(
        row["movement_id"], kind, row["amount"], row["ts_ns"], row["symbol"], row["currency"], row["value_quote"]
    )  # fmt: skip


def to_order(row: asyncpg.Record) -> OrderRecord:
    """Return a row with ORDER_COLUMNS as the domain's record."""
    values = {name: row[name] for name in ORDER_COLUMNS.split(", ")}
    values["side"] = Side(values["side"])
    values["status"] = OrderStatus(values["status"])
    values["deny_codes"] = tuple(values["deny_codes"])
    values["exit_rule"] = _to_rule(values["exit_rule"])
    return OrderRecord(**values)


def to_fill(row: asyncpg.Record) -> Fill:
    """Return a row of `fills` as the domain's value."""
    return Fill(
        row["fill_id"], row["client_order_id"], row["symbol"], Side(row["side"]), row["quantity_base"], row["price"], row["fee"],
        row["fee_currency"], row["fee_quote"], row["ts_ns"],
    )  # fmt: skip


# JSON has no NaN: a rule switched off by NaN comes back from null.
def _to_rule(data: dict[str, Any] | None) -> ExitRule | None:
    if data is None:
        return None
    numbers: dict[str, Any] = {key: math.nan if value is None else value for key, value in data.items()}
    return ExitRule(**numbers)

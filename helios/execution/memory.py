"""A ledger in memory: backtests and tests run on it; it forgets with its process."""

from __future__ import annotations

from collections.abc import Sequence

from helios.domain.orders import AccountSnapshot, Fill, Movement, OrderRecord
from helios.errors import FencedError, InvariantError
from helios.execution.lifecycle import is_open
from helios.execution.ports import AccountState
from helios.portfolio.accounting import utc_day


class MemoryLedger:
    """LedgerStore without a database: the same rules of epochs, idempotence and order."""

    def __init__(self) -> None:
        self.epoch = 0
        self.owner = ""
        self.events: list[OrderRecord] = []
        """Every status an order went through, in the order written."""
        self._orders: dict[str, OrderRecord] = {}
        self._open: dict[str, None] = {}
        self._fills: dict[str, Fill] = {}
        self._fills_of: dict[str, list[Fill]] = {}
        self._movements: dict[str, Movement] = {}
        self._account: AccountState | None = None

    async def acquire_epoch(self, owner: str) -> int:
        """Return an epoch above all earlier ones."""
        self.epoch += 1
        self.owner = owner
        return self.epoch

    async def commit_intents(self, records: Sequence[OrderRecord], epoch: int) -> list[bool]:
        """Insert records; False where the id was there already."""
        self._check(epoch)
        inserted = []
        for record in records:
            inserted.append(record.client_order_id not in self._orders)
            if inserted[-1]:
                self._write(record)
        return inserted

    async def advance(self, records: Sequence[OrderRecord], fills: Sequence[Fill], epoch: int) -> None:
        """Update orders and insert fills; a known fill id is ignored.

        Raises
        ------
        InvariantError
            If an order was never committed; nothing is written then.
        """
        self._check(epoch)
        ids = [record.client_order_id for record in records] + [fill.client_order_id for fill in fills]
        unknown = [client_order_id for client_order_id in ids if client_order_id not in self._orders]
        if unknown:
            raise InvariantError(f"orders were never committed: {unknown}")
        for record in records:
            self._write(record)
        for fill in fills:
            if fill.fill_id not in self._fills:
                self._fills[fill.fill_id] = fill
                self._fills_of.setdefault(fill.client_order_id, []).append(fill)

    async def order(self, client_order_id: str) -> OrderRecord | None:
        """Return the newest record of an order."""
        return self._orders.get(client_order_id)

    async def open_orders(self) -> list[OrderRecord]:
        """Return orders that may still change, oldest first."""
        return [self._orders[client_order_id] for client_order_id in self._open]

    async def fills(self) -> list[tuple[OrderRecord, Fill]]:
        """Return all fills in commit order, each with its order."""
        return [(self._orders[fill.client_order_id], fill) for fill in self._fills.values()]

    async def fills_of(self, client_order_id: str) -> list[Fill]:
        """Return the fills of one order in commit order."""
        return list(self._fills_of.get(client_order_id, ()))

    async def record_movements(self, movements: Sequence[Movement], epoch: int) -> None:
        """Insert funding and transfers; a known movement id is ignored."""
        self._check(epoch)
        for movement in movements:
            self._movements.setdefault(movement.movement_id, movement)

    async def movements(self) -> list[Movement]:
        """Return all funding and transfers in commit order."""
        return list(self._movements.values())

    async def save_account(self, snapshot: AccountSnapshot, epoch: int, breakers: str = "") -> None:
        """Keep the peak, the start of the day and the breakers."""
        self._check(epoch)
        self._account = AccountState(
            str(snapshot.peak_equity_quote),
            utc_day(snapshot.ts_event),
            str(snapshot.day_start_equity_quote),
            snapshot.peak_rebased_at,
            tuple((p.symbol, str(p.mark_price), p.marked_at) for p in snapshot.positions),
            tuple((currency, str(rate), ts) for currency, rate, ts in snapshot.rates),
            breakers,
            tuple((p.symbol, str(p.best_mark), p.opened_at) for p in snapshot.positions if p.best_mark is not None),
        )

    async def load_account(self) -> AccountState | None:
        """Return what `save_account` kept."""
        return self._account

    def _check(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise FencedError(f"epoch {epoch} is not the present epoch {self.epoch} of {self.owner}")

    def _write(self, record: OrderRecord) -> None:
        self._orders[record.client_order_id] = record
        self.events.append(record)
        if is_open(record):
            self._open.setdefault(record.client_order_id)
        else:
            self._open.pop(record.client_order_id, None)

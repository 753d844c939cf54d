"""One order on its way: commit, send, book what the broker says, ask again where its answer was lost."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from decimal import Decimal

from helios.domain.enums import OrderStatus
from helios.domain.market import MarketSnapshot
from helios.domain.orders import Fill, OrderOutcome, OrderRecord
from helios.errors import InvariantError, ProtocolError, StoreUnavailableError, TransportError, VenueError
from helios.execution.journal import ExitJournal
from helios.execution.lifecycle import advance_to, is_open, transition
from helios.execution.ports import Broker, BrokerReport, LedgerStore
from helios.portfolio.accounting import Account

NEVER_SENT = "NEVER_SENT"
_NO_ANSWER = (TransportError, ProtocolError, VenueError)
_MISSES_TO_EXPIRE = 2  # one "unknown order" can overtake a request that is still on its way


class OrderSender:
    """Keeps ledger, broker, account and the orders of this incarnation in step. Not for use outside the engine.

    Attributes
    ----------
    records : dict
        Newest record of every order this incarnation has seen; ahead of the ledger while entries wait in the journal.
    open : dict
        The records among them that may still change.
    pending_exits : dict
        Reducing orders that were committed but never reached the broker: sent again, same id, once there is a market.
    has_unsaved_fills : bool
        Whether fills were booked since the account was last saved.
    """

    def __init__(self, store: LedgerStore, broker: Broker, account: Account, journal: ExitJournal) -> None:
        self.epoch = 0
        self.records: dict[str, OrderRecord] = {}
        self.open: dict[str, OrderRecord] = {}
        self.pending_exits: dict[str, OrderRecord] = {}
        self.has_unsaved_fills = False
        self._store = store
        self._broker = broker
        self._account = account
        self._journal = journal
        self._fills: dict[str, list[Fill]] = {}
        self._misses: dict[str, int] = {}

    async def load(self) -> None:
        """Bring journal into ledger, then ledger into account and memory.

        Movements go between the fills by their times: funding belongs to the position that was open when it was paid.
        """
        await self.replay_journal()
        movements = deque(sorted(await self._store.movements(), key=lambda movement: movement.ts_event))
        for record, fill in await self._store.fills():
            while movements and movements[0].ts_event < fill.ts_event:
                self._account.book(movements.popleft())
            self._remember(record)
            self._apply(record, fill)
        for movement in movements:
            self._account.book(movement)
        for record in await self._store.open_orders():
            self._remember(record)

    async def replay_journal(self) -> None:
        """Write what the ledger missed; safe to repeat, and entries go only once all are written.

        Raises
        ------
        StoreUnavailableError
            If the ledger is still away; the journal keeps its entries.
        """
        entries = await self._journal.entries()
        for record, fills in entries:
            pending = replace(
                record, status=OrderStatus.PENDING, filled_base=Decimal(0), average_price=Decimal(0), fee_quote=Decimal(0)
            )
            await self._store.commit_intents([pending], self.epoch)
            stored = await self._store.order(record.client_order_id)
            is_news = stored is not None and is_open(stored) and record.status is not OrderStatus.PENDING
            await self._store.advance([record] if is_news else [], fills, self.epoch)
        if entries:
            await self._journal.drop(len(entries))

    async def commit(self, record: OrderRecord) -> bool:
        """Write an intent ahead of its sending; False where the ledger had its id."""
        inserted = (await self._store.commit_intents([record], self.epoch))[0]
        if inserted:
            self._remember(record)
        return inserted

    async def commit_exit(self, record: OrderRecord) -> bool:
        """Like `commit`, but with the ledger away write to the journal.

        False then too: nobody can say whether an earlier incarnation sent this id, so the broker must be asked first.
        """
        try:
            return await self.commit(record)
        except StoreUnavailableError:
            await self._journal.append(record, ())
            self._remember(record)
            return False

    async def recorded(self, client_order_id: str) -> OrderRecord:
        """Return the record of an id that is known to be in memory or ledger."""
        if client_order_id not in self.records:
            stored = await self._store.order(client_order_id)
            if stored is None:
                raise InvariantError(f"order {client_order_id} vanished from the ledger")
            self._remember(stored)
        return self.records[client_order_id]

    def outcome(self, record: OrderRecord) -> OrderOutcome:
        """Return the newest record of an order with its fills."""
        newest = self.records.get(record.client_order_id, record)
        return OrderOutcome(newest, tuple(self._fills.get(record.client_order_id, ())))

    async def send(self, record: OrderRecord, market: MarketSnapshot) -> OrderOutcome:
        """Hand an order to the broker and book the answer. Without one it stays SUBMITTED until `resolve` learns more."""
        self.pending_exits.pop(record.client_order_id, None)
        submitted = record
        if record.status is OrderStatus.PENDING:
            submitted = transition(record, OrderStatus.SUBMITTED, max(record.ts_event, market.ts_event))
        try:
            report = await self._broker.send(submitted, market)
        except (TransportError, ProtocolError):  # an answer nobody can read is no answer
            report = BrokerReport(submitted, ())
        except VenueError as error:
            # A server error says nothing about the order; a client error is the venue's refusal.
            refused = error.status < 500
            report = BrokerReport(
                transition(submitted, OrderStatus.REJECTED, submitted.ts_updated, str(error)) if refused else submitted, ()
            )
        return self.outcome(await self.book(record, report))

    async def resolve(self, record: OrderRecord) -> OrderRecord:
        """Ask the broker about an open order and book its answer.

        An order the broker never saw: a reducing one becomes a pending exit, an entry expires (its moment has passed). An
        entry that may still be on its way expires only when it is unknown twice.
        """
        try:
            report = await self._broker.status(record)
        except _NO_ANSWER:
            return record
        if report is not None:
            self._misses.pop(record.client_order_id, None)
            return await self.book(record, report)
        if record.reduce_only:
            self.pending_exits[record.client_order_id] = record
            return record
        misses = self._misses[record.client_order_id] = self._misses.get(record.client_order_id, 0) + 1
        if record.status is OrderStatus.PENDING or misses >= _MISSES_TO_EXPIRE:
            return await self.expire(record, NEVER_SENT)
        return record

    async def cancel(self, record: OrderRecord) -> OrderRecord:
        """Ask the broker to cancel an open order; unanswered or refused, the order stays as it is."""
        try:
            return await self.book(record, await self._broker.cancel(record))
        except _NO_ANSWER:
            return record

    async def expire(self, record: OrderRecord, reason: str) -> OrderRecord:
        """Close an order that never reached the broker."""
        self._misses.pop(record.client_order_id, None)
        expired = transition(record, OrderStatus.EXPIRED, record.ts_updated, reason)
        await self._write([expired], [])
        return expired

    async def book(self, record: OrderRecord, report: BrokerReport) -> OrderRecord:
        """Write the broker's news in one transaction, then move the account. Known fills are not news.

        Raises
        ------
        InvariantError
            If the fills exceed the order.
        """
        known = self._fills.get(record.client_order_id, [])
        known_ids = {fill.fill_id for fill in known}
        news = [self._account.valued(fill) for fill in report.fills if fill.fill_id not in known_ids]
        filled = sum((fill.quantity_base for fill in (*known, *news)), Decimal(0))
        if filled > record.quantity_base:
            raise InvariantError(f"order {record.client_order_id}: fills of {filled} exceed {record.quantity_base}")
        steps = advance_to(record, report.record)
        if not steps and not news:
            return record
        newest = steps[-1] if steps else record
        await self._write(steps or [record], news)
        return newest

    async def _write(self, steps: list[OrderRecord], fills: list[Fill]) -> None:
        # The order is out: what happened to it counts even where the ledger cannot take it now.
        try:
            await self._store.advance(steps, fills, self.epoch)
        except StoreUnavailableError:
            await self._journal.append(steps[-1], fills)
        self._remember(steps[-1])
        for fill in fills:
            self._apply(steps[-1], fill)

    def _remember(self, record: OrderRecord) -> None:
        self.records[record.client_order_id] = record
        if is_open(record):
            self.open[record.client_order_id] = record
        else:
            self.open.pop(record.client_order_id, None)
            self.pending_exits.pop(record.client_order_id, None)

    def _apply(self, record: OrderRecord, fill: Fill) -> None:
        known = self._fills.setdefault(record.client_order_id, [])
        if all(fill.fill_id != other.fill_id for other in known):
            known.append(fill)
        self._account.apply(record, fill)
        self.has_unsaved_fills = True

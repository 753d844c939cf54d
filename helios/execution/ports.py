"""What the execution engine asks of its ledger and its broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from helios.domain.market import MarketSnapshot
from helios.domain.orders import AccountSnapshot, Fill, Movement, OrderRecord


@dataclass(frozen=True, slots=True)
class AccountState:
    """The part of the account that fills and movements alone cannot rebuild.

    With `peak_rebased_at` (ns, 0: never) the peak is a person's decision, and nothing replayed may raise it again. `marks` are the
    last prices (symbol, price, ns) of the positions, without which a restart would value them at their last fills, and `rates` those
    of the currencies held. `bests` are the best prices since each opening (symbol, price, ns of the opening), which a trailing stop
    goes by. `breakers` is what the circuit breakers remember, as they wrote it.
    """

    peak_equity_quote: str
    day: str
    day_start_equity_quote: str
    peak_rebased_at: int = 0
    marks: tuple[tuple[str, str, int], ...] = ()
    rates: tuple[tuple[str, str, int], ...] = ()
    breakers: str = ""
    bests: tuple[tuple[str, str, int], ...] = ()


class LedgerStore(Protocol):
    """The write-ahead ledger. Every write carries the writer's epoch and fails with FencedError if a newer one exists."""

    async def acquire_epoch(self, owner: str) -> int:
        """Take trading over: return an epoch above all earlier ones and lock out their writers."""
        ...

    async def commit_intents(self, records: Sequence[OrderRecord], epoch: int) -> list[bool]:
        """Insert records (PENDING, or REJECTED with deny codes) in one transaction; False where the id was there already."""
        ...

    async def advance(self, records: Sequence[OrderRecord], fills: Sequence[Fill], epoch: int) -> None:
        """In one transaction update orders, append their status events and insert fills (a known fill id is ignored)."""
        ...

    async def order(self, client_order_id: str) -> OrderRecord | None: ...

    async def open_orders(self) -> list[OrderRecord]: ...

    async def fills(self) -> list[tuple[OrderRecord, Fill]]:
        """All fills in the order in which they were committed, each with its order."""
        ...

    async def fills_of(self, client_order_id: str) -> list[Fill]: ...

    async def record_movements(self, movements: Sequence[Movement], epoch: int) -> None:
        """Insert funding and transfers in one transaction; a known movement id is ignored."""
        ...

    async def movements(self) -> list[Movement]:
        """All funding and transfers in the order in which they were committed."""
        ...

    async def save_account(self, snapshot: AccountSnapshot, epoch: int, breakers: str = "") -> None: ...

    async def load_account(self) -> AccountState | None: ...


@dataclass(frozen=True, slots=True)
class BrokerReport:
    """What the broker says of one order: its new record and any new fills."""

    record: OrderRecord
    fills: tuple[Fill, ...]


class Broker(Protocol):
    """Sends orders. A TransportError means the outcome is unknown: ask `status` before anything is sent again."""

    async def send(self, record: OrderRecord, market: MarketSnapshot) -> BrokerReport: ...

    async def status(self, record: OrderRecord) -> BrokerReport | None:
        """None: the broker has never seen this client order id."""
        ...

    async def cancel(self, record: OrderRecord) -> BrokerReport: ...

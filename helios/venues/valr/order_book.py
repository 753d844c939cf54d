"""The order-level book of one pair: every resting order, from VALR's FULL_ORDERBOOK events. Pure.

Unlike the level book of `helios.market`, which the desk trades on, this one knows how many orders stand at a price and in
which queue; it is either in step with the venue or empty.

References
----------
.. [1] VALR WebSocket API documentation, "FULL_ORDERBOOK_UPDATE", docs.valr.com, read 2026-11: order quantity "0" removes the
   order; the next SequenceNumber is the previous one plus the number of order entries of the update, removals counted; the
   checksum is CRC32 over the first 25 orders of each side in price, then queue order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Final
from zlib import crc32

from helios.domain.market import Level
from helios.errors import InvariantError
from helios.market.book import BookDesyncError
from helios.venues.valr.events import OrderEntry, OrdersUpdate

CHECKSUM_ORDERS: Final = 25
_Queue = dict[str, str]  # order id -> quantity as received, oldest first


class _Side:
    """One side: price keys best first (negated for bids), a queue of orders at each, and where each order stands."""

    __slots__ = ("_keys", "_levels", "_price_of", "_sign")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self.clear()

    def clear(self) -> None:
        self._keys: list[Decimal] = []
        self._levels: dict[Decimal, tuple[str, _Queue]] = {}
        self._price_of: dict[str, Decimal] = {}

    def apply(self, entries: Iterable[OrderEntry]) -> None:
        for price, quantity, order_id in entries:
            key = Decimal(price) * self._sign
            if Decimal(quantity) == 0:
                self._remove(order_id)
                continue
            if self._price_of.get(order_id, key) != key:
                self._remove(order_id)  # moved to another price: it joins the end of the queue there
            self._set(key, price, quantity, order_id)

    def _set(self, key: Decimal, price: str, quantity: str, order_id: str) -> None:
        if key not in self._levels:
            self._keys.insert(bisect_left(self._keys, key), key)
            self._levels[key] = (price, {})
        self._levels[key][1][order_id] = quantity  # a known order keeps its place in the queue
        self._price_of[order_id] = key

    def _remove(self, order_id: str) -> None:
        key = self._price_of.pop(order_id, None)
        if key is None:
            return
        _, queue = self._levels[key]
        del queue[order_id]
        if not queue:
            del self._levels[key]
            del self._keys[bisect_left(self._keys, key)]

    @property
    def best(self) -> Decimal | None:
        return self._keys[0] * self._sign if self._keys else None

    @property
    def n_orders(self) -> int:
        return len(self._price_of)

    def orders(self) -> Iterator[OrderEntry]:
        for key in self._keys:
            price, queue = self._levels[key]
            for order_id, quantity in queue.items():
                yield price, quantity, order_id

    def levels(self, n_levels: int | None) -> tuple[Level, ...]:
        return tuple((price, _total(queue)) for price, queue in (self._levels[key] for key in self._keys[:n_levels]))


class OrderLevelBook:
    """A pair's orders, verified after every update.

    Parameters
    ----------
    symbol : str
        Unified symbol; updates of another one are refused.

    Notes
    -----
    After `BookDesyncError` the owner must ask the venue for a snapshot; every diff until then raises again with reason
    `no_snapshot`.
    """

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.is_synced = False
        self._sequence = 0
        self._bids = _Side(-1)
        self._asks = _Side(1)

    def apply(self, update: OrdersUpdate) -> None:
        """Take a snapshot or a diff and verify sequence, order of the sides and checksum.

        Raises
        ------
        BookDesyncError
            If the book cannot be trusted any more; it is then empty and `is_synced` is False. Reasons: `no_snapshot`,
            `sequence_gap`, `crossed`, `checksum_mismatch`.
        InvariantError
            If the update belongs to another symbol: routing is broken.
        """
        if update.symbol != self.symbol:
            raise InvariantError(f"update of {update.symbol} given to the order book of {self.symbol}")
        if update.is_snapshot:
            self.clear()
        else:
            self._check_continuity(update)
        self._bids.apply(update.bids)
        self._asks.apply(update.asks)
        self._verify(update.checksum)
        self._sequence = update.sequence
        self.is_synced = True

    def clear(self) -> None:
        """Forget everything, as on a lost connection."""
        self.is_synced = False
        self._bids.clear()
        self._asks.clear()

    def checksum(self) -> int:
        """Return the unsigned CRC32 of the first 25 orders a side, `bidId:bidQty:askId:askQty:...`; 0 for an empty book.

        A shorter side's turns are skipped; quantities as received.
        """
        bids, asks = (islice(side.orders(), CHECKSUM_ORDERS) for side in (self._bids, self._asks))
        turns = [entry for pair in zip_longest(bids, asks) for entry in pair if entry is not None]
        return crc32(":".join(f"{order_id}:{quantity}" for _, quantity, order_id in turns).encode())

    def orders(self) -> tuple[tuple[OrderEntry, ...], tuple[OrderEntry, ...]]:
        """Return all bids and asks as (price, quantity, order id), best price first, then oldest first."""
        return tuple(self._bids.orders()), tuple(self._asks.orders())

    def to_levels(self, n_levels: int | None = None) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Return the best `n_levels` bids and asks (None: all) with the exact sum of the quantities at each price."""
        return self._bids.levels(n_levels), self._asks.levels(n_levels)

    @property
    def n_orders(self) -> int:
        """Resting orders of both sides."""
        return self._bids.n_orders + self._asks.n_orders

    def _check_continuity(self, update: OrdersUpdate) -> None:
        if not self.is_synced:
            raise self._desync("no_snapshot")
        expected = self._sequence + len(update.bids) + len(update.asks)
        if update.sequence != expected:
            raise self._desync("sequence_gap", f"{update.sequence} instead of {expected}")

    def _verify(self, expected: int) -> None:
        bid, ask = self._bids.best, self._asks.best
        if bid is not None and ask is not None and bid >= ask:
            raise self._desync("crossed", f"{bid} >= {ask}")
        if (actual := self.checksum()) != expected:
            raise self._desync("checksum_mismatch", f"{actual} != {expected}")

    def _desync(self, reason: str, detail: str = "") -> BookDesyncError:
        self.clear()
        return BookDesyncError(self.symbol, reason, detail)


def _total(queue: _Queue) -> str:
    if len(queue) == 1:
        return next(iter(queue.values()))
    return format(sum(map(Decimal, queue.values()), Decimal(0)), "f")

"""An order-level book made of the level book: each level is a queue of a few orders with identifiers that stay."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from decimal import Decimal
from random import Random
from typing import Any

from helios.domain.market import BookUpdate, Level
from helios.venues.sandbox.book import LOT_DECIMALS, decimal_text

CHECKED_ORDERS = 25  # a side
MAX_ORDERS = 4  # of a level
LOTS = Decimal(10**LOT_DECIMALS)

Json = dict[str, Any]
Queue = dict[str, int]
"""Lots per order id, oldest first."""


class _Side:
    def __init__(self, sign: int, random: Random) -> None:
        self._sign = sign
        self._random = random
        self.queues: dict[str, Queue] = {}

    def prices(self) -> list[str]:
        return sorted(self.queues, key=lambda price: self._sign * Decimal(price))

    def first_orders(self) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for price in self.prices():
            found.extend(self.queues[price].items())
            if len(found) >= CHECKED_ORDERS:
                break
        return found[:CHECKED_ORDERS]

    def set_level(self, price: str, quantity: str) -> Queue:
        # Makes the level's orders add up to `quantity` and returns the changed ones, 0 for those that went.
        queue = self.queues.setdefault(price, {})
        changed = self._resize(queue, int(Decimal(quantity) * LOTS))
        if not queue:
            del self.queues[price]
        return changed

    def _resize(self, queue: Queue, lots: int) -> Queue:
        more = lots - sum(queue.values())
        if more > 0 and len(queue) >= MAX_ORDERS:
            last = next(reversed(queue))
            queue[last] += more
            return {last: queue[last]}
        if more > 0:
            parts = self._split(more) if not queue else [more]
            new = {self._new_id(): part for part in parts}
            queue.update(new)
            return new
        return self._take(queue, -more)

    @staticmethod
    def _take(queue: Queue, lots: int) -> Queue:
        # Oldest first, as trades do.
        changed: Queue = {}
        for order in list(queue):
            if lots == 0:
                break
            taken = min(lots, queue[order])
            queue[order] -= taken
            lots -= taken
            changed[order] = queue[order]
            if queue[order] == 0:
                del queue[order]
        return changed

    def _split(self, lots: int) -> list[int]:
        count = min(self._random.randint(1, 3), lots)
        cuts = sorted(self._random.sample(range(1, lots), count - 1)) if count > 1 else []
        return [b - a for a, b in zip([0, *cuts], [*cuts, lots])]

    def _new_id(self) -> str:
        text = f"{self._random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


class OrderBook:
    """Order-level view of one pair's book.

    Parameters
    ----------
    pair : str
    snapshot : BookUpdate
        The level book to begin with.

    Notes
    -----
    An update's sequence is the one before plus the number of its order entries, and its checksum the CRC32 over
    `bidOrderId:quantity:askOrderId:quantity:...` of the first 25 orders a side, as VALR documents for FULL_ORDERBOOK_UPDATE.
    """

    def __init__(self, pair: str, snapshot: BookUpdate) -> None:
        self.pair = pair
        random = Random(f"{pair}{snapshot.sequence}")
        self._bids, self._asks = _Side(-1, random), _Side(1, random)
        for side, levels in ((self._bids, snapshot.bids), (self._asks, snapshot.asks)):
            for price, quantity in levels:
                side.set_level(price, quantity)
        self.sequence = random.randrange(10**8, 10**9)
        self._changed_ms = snapshot.ts_event // 1_000_000

    def snapshot_frame(self) -> Json:
        """Return a FULL_ORDERBOOK_SNAPSHOT message."""
        sides = [[_entry(price, side.queues[price]) for price in side.prices()] for side in (self._bids, self._asks)]
        return self._message("FULL_ORDERBOOK_SNAPSHOT", *sides)

    def apply(self, update: BookUpdate) -> Json | None:
        """Follow a change of the level book and return the FULL_ORDERBOOK_UPDATE message, None if no order changed."""
        bids, asks = self._changes(self._bids, update.bids), self._changes(self._asks, update.asks)
        count = sum(len(entry["Orders"]) for entry in (*bids, *asks))
        if count == 0:
            return None
        self.sequence += count
        self._changed_ms = update.ts_event // 1_000_000
        return self._message("FULL_ORDERBOOK_UPDATE", bids, asks)

    def rest(self) -> Json:
        """Return the body of /orderbook/full."""
        sides = ((self._asks, "sell"), (self._bids, "buy"))
        asks, bids = ([_rest_order(self.pair, name, *row) for row in _rows(side)] for side, name in sides)
        return {
            "Asks": asks,
            "Bids": bids,
            "LastChange": self._changed_ms,
            "SequenceNumber": self.sequence,
            "Checksum": self.checksum(),
        }

    def checksum(self) -> int:
        """Return the CRC32 over the first orders."""
        bids, asks = self._bids.first_orders(), self._asks.first_orders()
        shared = min(len(bids), len(asks))
        turns = [order for pair in zip(bids, asks) for order in pair] + bids[shared:] + asks[shared:]
        return zlib.crc32(":".join(f"{order}:{decimal_text(lots, LOT_DECIMALS)}" for order, lots in turns).encode())

    @staticmethod
    def _changes(side: _Side, levels: Iterable[Level]) -> list[Json]:
        entries = [_entry(price, side.set_level(price, quantity)) for price, quantity in levels]
        return [entry for entry in entries if entry["Orders"]]

    def _message(self, kind: str, bids: list[Json], asks: list[Json]) -> Json:
        data = {
            "LastChange": self._changed_ms, "Asks": asks, "Bids": bids, "SequenceNumber": self.sequence, "Checksum": self.checksum(),
        }  # fmt: skip
        return {"type": kind, "currencyPairSymbol": self.pair, "data": data}


def _entry(price: str, orders: Queue) -> Json:
    rows = [{"orderId": order, "quantity": decimal_text(lots, LOT_DECIMALS)} for order, lots in orders.items()]
    return {"Price": price, "Orders": rows}


def _rows(side: _Side) -> list[tuple[str, int, str, int]]:
    return [
        (price, position, order, lots)
        for price in side.prices()
        for position, (order, lots) in enumerate(side.queues[price].items(), start=1)
    ]


def _rest_order(pair: str, side: str, price: str, position: int, order: str, lots: int) -> Json:
    quantity = decimal_text(lots, LOT_DECIMALS)
    return {"side": side, "quantity": quantity, "price": price, "currencyPair": pair, "id": order, "positionAtPrice": position}

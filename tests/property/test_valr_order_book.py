"""The order-level book against a list of orders that is sorted anew after every entry."""

from __future__ import annotations

from decimal import Decimal
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.market.book import BookDesyncError
from helios.venues.valr.events import OrderEntry, OrdersUpdate
from helios.venues.valr.order_book import OrderLevelBook

IDS = st.sampled_from([f"id-{n}" for n in range(60)])
QUANTITIES = st.sampled_from(["0", "0.0", "1", "1.0", "0.5", "2.25", "10"])
BIDS = st.lists(st.tuples(st.sampled_from(["90", "90.5", "91", "91.0", "99.9"]), QUANTITIES, IDS.map("b".__add__)), max_size=40)
ASKS = st.lists(st.tuples(st.sampled_from(["100", "100.0", "101", "105.5"]), QUANTITIES, IDS.map("a".__add__)), max_size=40)
UPDATES = st.lists(st.tuples(BIDS, ASKS), min_size=1, max_size=6)


class NaiveSide:
    """Orders in a list, in order of arrival at their price."""

    def __init__(self, is_bid: bool) -> None:
        self.is_bid = is_bid
        self.orders: list[OrderEntry] = []

    def apply(self, entry: OrderEntry) -> None:
        price, quantity, order_id = entry
        at = next((n for n, order in enumerate(self.orders) if order[2] == order_id), None)
        if at is not None and Decimal(quantity) > 0 and Decimal(self.orders[at][0]) == Decimal(price):
            self.orders[at] = (price, quantity, order_id)
            return
        if at is not None:
            del self.orders[at]
        if Decimal(quantity) > 0:
            self.orders.append(entry)

    def sorted(self) -> list[OrderEntry]:
        return sorted(self.orders, key=lambda order: Decimal(order[0]) * (-1 if self.is_bid else 1))


def checksum(bids: list[OrderEntry], asks: list[OrderEntry]) -> int:
    parts = [f"{side[n][2]}:{side[n][1]}" for n in range(25) for side in (bids, asks) if n < len(side)]
    return crc32(":".join(parts).encode())


def numbers(orders: tuple[OrderEntry, ...] | list[OrderEntry]) -> list[tuple[Decimal, str, str]]:
    return [(Decimal(price), quantity, order_id) for price, quantity, order_id in orders]


@settings(max_examples=150, deadline=None)
@given(UPDATES)
def test_any_series_of_updates_gives_the_naive_book(updates: list[tuple[list[OrderEntry], list[OrderEntry]]]) -> None:
    book, bids, asks, sequence = OrderLevelBook("A/B"), NaiveSide(True), NaiveSide(False), 1000
    for number, (bid_entries, ask_entries) in enumerate(updates):
        for side, entries in ((bids, bid_entries), (asks, ask_entries)):
            for entry in entries:
                side.apply(entry)
        sequence += len(bid_entries) + len(ask_entries)
        summed = checksum(bids.sorted(), asks.sorted())
        book.apply(OrdersUpdate("A/B", number == 0, tuple(bid_entries), tuple(ask_entries), sequence, summed, 1))
        got_bids, got_asks = book.orders()
        assert (numbers(got_bids), numbers(got_asks)) == (numbers(bids.sorted()), numbers(asks.sorted()))
        levels = book.to_levels()
        assert sum(Decimal(q) for side in levels for _, q in side) == sum(Decimal(o[1]) for o in bids.orders + asks.orders)
        prices = [[Decimal(price) for price, _ in side] for side in levels]
        assert prices == [sorted(set(prices[0]), reverse=True), sorted(set(prices[1]))]
        assert not prices[0] or not prices[1] or prices[0][0] < prices[1][0]


@settings(max_examples=80, deadline=None)
@given(BIDS, st.integers(-3, 3).filter(bool), st.booleans())
def test_a_wrong_count_or_checksum_empties_the_book(entries: list[OrderEntry], shift: int, in_sequence: bool) -> None:
    book = OrderLevelBook("A/B")
    book.apply(OrdersUpdate("A/B", True, (), (("200", "1", "ask"),), 10, crc32(b"ask:1"), 1))
    naive = NaiveSide(True)
    for entry in entries:
        naive.apply(entry)
    summed = checksum(naive.sorted(), [("200", "1", "ask")])
    wrong = OrdersUpdate(
        "A/B", False, tuple(entries), (), 10 + len(entries) + (shift if in_sequence else 0), summed ^ (not in_sequence), 1
    )
    with pytest.raises(BookDesyncError):
        book.apply(wrong)
    assert (book.is_synced, book.orders()) == (False, ((), ()))

"""The order-level book against the documented rules and vectors."""

from __future__ import annotations

from zlib import crc32

import pytest

from helios.errors import InvariantError
from helios.market.book import BookDesyncError
from helios.venues.valr.codec import decode_event
from helios.venues.valr.events import OrderEntry, OrdersUpdate
from helios.venues.valr.order_book import OrderLevelBook
from tests.support.valr_frames import ORDERS_SNAPSHOT, PAIR_SYMBOLS

A, B, C = "763080a8-9154-4c41-98de-ae09a0cf48cd", "1d2e7745-5020-4d48-a77e-afc787ad048d", "33ceace1-d1e8-4d41-af96-9b13b655f0e8"
BIDS: tuple[OrderEntry, ...] = (("45147", "0.00014782", A), ("45121", "0.011", C))
ASKS: tuple[OrderEntry, ...] = (("45363", "0.0019", B),)
VECTOR = 1000882110  # CRC32 of A:0.00014782:B:0.0019:C:0.011


def update(
    bids: tuple[OrderEntry, ...], asks: tuple[OrderEntry, ...], sequence: int, checksum: int, is_snapshot: bool = False
) -> OrdersUpdate:
    return OrdersUpdate("BTC/USDC", is_snapshot, bids, asks, sequence, checksum, 1)


def crc(*parts: str) -> int:
    return crc32(":".join(parts).encode())


@pytest.fixture
def book() -> OrderLevelBook:
    made = OrderLevelBook("BTC/USDC")
    made.apply(update(BIDS, ASKS, 100, VECTOR, is_snapshot=True))
    return made


def test_the_published_vectors_of_the_checksum() -> None:
    assert crc32(b"123456789") == 3421780262
    assert OrderLevelBook("BTC/USDC").checksum() == 0


def test_a_snapshot_is_verified_by_the_order_level_vector(book: OrderLevelBook) -> None:
    assert book.is_synced
    assert book.checksum() == VECTOR
    assert book.orders() == (BIDS, ASKS)


def test_the_documented_sample_is_truncated_so_its_checksum_is_refused() -> None:
    sample = decode_event(ORDERS_SNAPSHOT, PAIR_SYMBOLS, 1)
    assert isinstance(sample, OrdersUpdate)
    with pytest.raises(BookDesyncError, match="checksum_mismatch"):
        OrderLevelBook("BTC/USDC").apply(sample)


def test_every_entry_counts_in_the_sequence_removals_and_repeats_too(book: OrderLevelBook) -> None:
    entries = (("45363", "0", B), ("45364", "0.5", "x"), ("45364", "0.25", "x"))
    book.apply(update((), entries, 103, crc(A, "0.00014782", "x", "0.25", C, "0.011")))
    assert book.to_levels()[1] == (("45364", "0.25"),)


@pytest.mark.parametrize("sequence", [100, 101, 103])
def test_a_sequence_that_does_not_count_the_entries_is_a_gap(book: OrderLevelBook, sequence: int) -> None:
    with pytest.raises(BookDesyncError, match="sequence_gap"):
        book.apply(update((("45147", "0", A), ("45121", "0", C)), (), sequence, 0))
    assert (book.is_synced, book.n_orders) == (False, 0)
    with pytest.raises(BookDesyncError, match="no_snapshot"):
        book.apply(update((), ASKS, sequence + 1, 0))


def test_a_changed_quantity_keeps_the_place_in_the_queue_and_a_new_price_loses_it(book: OrderLevelBook) -> None:
    book.apply(update((("45147", "2", "late"),), (), 101, crc(A, "0.00014782", B, "0.0019", "late", "2", C, "0.011")))
    book.apply(update((("45147", "1", A),), (), 102, crc(A, "1", B, "0.0019", "late", "2", C, "0.011")))
    assert book.to_levels(1)[0] == (("45147", "3"),)
    book.apply(update((("45121", "1", A),), (), 103, crc("late", "2", B, "0.0019", C, "0.011", A, "1")))
    assert book.to_levels() == ((("45147", "2"), ("45121", "1.011")), (("45363", "0.0019"),))


def test_a_removal_of_an_unknown_order_changes_nothing(book: OrderLevelBook) -> None:
    book.apply(update((("1", "0", "nobody"),), (), 101, VECTOR))
    assert book.n_orders == 3


@pytest.mark.parametrize(("price", "reason"), [("45147", "crossed"), ("45000", "crossed"), ("45148", "checksum_mismatch")])
def test_a_crossed_book_or_wrong_checksum_empties_it(book: OrderLevelBook, price: str, reason: str) -> None:
    with pytest.raises(BookDesyncError, match=reason):
        book.apply(update((), ((price, "1", "bad"),), 101, VECTOR))
    assert book.to_levels() == ((), ())


def test_an_update_of_another_pair_is_our_own_error(book: OrderLevelBook) -> None:
    with pytest.raises(InvariantError):
        book.apply(OrdersUpdate("ETH/ZAR", True, (), (), 1, 0, 1))


def test_only_the_first_twenty_five_orders_a_side_are_summed() -> None:
    bids = tuple((str(1000 - n), "1", f"b{n}") for n in range(30))
    asks = tuple((str(2000 + n), "2", f"a{n}") for n in range(3))
    turns = [part for n in range(25) for part in ((f"b{n}:1",) if n > 2 else (f"b{n}:1", f"a{n}:2"))]
    OrderLevelBook("BTC/USDC").apply(update(bids, asks, 7, crc(*turns), is_snapshot=True))

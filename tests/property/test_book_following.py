"""A book that gets every diff with the venue's checksum follows the venue; any corruption is noticed."""

from __future__ import annotations

from itertools import chain, zip_longest
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.market import BookUpdate, Level
from helios.market.book import BookDesyncError, OrderBook

Change = tuple[int, int]  # ticks away from the middle, quantity in lots (0 removes)
changes = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), max_size=4)
steps = st.lists(st.tuples(changes, changes), min_size=1, max_size=25)


class Venue:
    """The other side of the protocol, written the slow way: two dictionaries, sorted for every checksum."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.sequence = 100

    @staticmethod
    def text(price: int, quantity: int) -> Level:
        return f"{price / 10:.1f}", f"{quantity / 100:.2f}" if quantity else "0"

    def change(self, bids: list[Change], asks: list[Change], is_snapshot: bool = False) -> BookUpdate:
        given_bids = [(5000 - ticks, quantity) for ticks, quantity in bids]
        given_asks = [(5000 + ticks, quantity) for ticks, quantity in asks]
        for side, given_levels in ((self.bids, given_bids), (self.asks, given_asks)):
            for price, quantity in given_levels:
                side.pop(price, None)
                if quantity:
                    side[price] = quantity
        self.sequence += 1
        texts = [tuple(self.text(*level) for level in levels) for levels in (given_bids, given_asks)]
        return BookUpdate("X", is_snapshot, texts[0], texts[1], self.sequence, self.checksum(), 1)

    def best(self) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        bids = tuple(self.text(p, self.bids[p]) for p in sorted(self.bids, reverse=True))
        return bids, tuple(self.text(p, self.asks[p]) for p in sorted(self.asks))

    def checksum(self) -> int:
        bids, asks = (levels[:25] for levels in self.best())
        turns = chain.from_iterable(zip_longest(bids, asks))
        return crc32(":".join(":".join(level) for level in turns if level is not None).encode())


@settings(max_examples=80, deadline=None)
@given(steps)
def test_book_follows_every_diff_with_a_correct_checksum(diffs: list[tuple[list[Change], list[Change]]]) -> None:
    venue, book = Venue(), OrderBook("X")
    book.apply(venue.change([(3, 1)], [(3, 1)], is_snapshot=True))
    for bids, asks in diffs:
        book.apply(venue.change(bids, asks))
        assert book.levels(1000) == venue.best()
        assert book.is_synced
        if book.best_bid is not None and book.best_ask is not None:
            assert book.best_bid < book.best_ask


@settings(max_examples=80, deadline=None)
@given(steps, st.integers(1, 40), st.booleans())
def test_lost_level_change_is_noticed_at_once(diffs: list[tuple[list[Change], list[Change]]], ticks: int, is_bid: bool) -> None:
    venue, book = Venue(), OrderBook("X")
    book.apply(venue.change([(3, 1)], [(3, 1)], is_snapshot=True))
    for bids, asks in diffs:
        book.apply(venue.change(bids, asks))
    lost = (5000 - ticks, venue.bids) if is_bid else (5000 + ticks, venue.asks)
    rank = sorted(set(lost[1]) | {lost[0]}, reverse=is_bid).index(lost[0])
    change = [(ticks, 9)]  # a quantity no step has, so the venue's book really differs
    diff = venue.change(change if is_bid else [], [] if is_bid else change)
    stripped = BookUpdate("X", False, (), (), diff.sequence, diff.checksum, 1)
    if rank >= 25:  # outside the checksum's reach
        book.apply(stripped)
        return
    with pytest.raises(BookDesyncError) as caught:
        book.apply(stripped)
    assert caught.value.reason == "checksum_mismatch"
    assert not book.is_synced


@settings(max_examples=60, deadline=None)
@given(steps)
def test_what_candles_read_of_the_best_levels_is_what_the_methods_say(given_steps: list[tuple[list[Change], list[Change]]]) -> None:
    venue, book = Venue(), OrderBook("X")
    for i, (bids, asks) in enumerate(given_steps):
        book.apply(venue.change(bids, asks, is_snapshot=i == 0))
        separate = (book.spread_bps(), book.imbalance(), book.depth_log(), book.microprice_bps())
        assert book.top() == pytest.approx(separate, rel=1e-15, nan_ok=True)

from __future__ import annotations

import math
import pickle
from decimal import Decimal

import pytest

from helios.domain.market import BookUpdate, Level
from helios.errors import InvariantError, StaleDataError
from helios.market.book import BookDesyncError, OrderBook

BIDS: tuple[Level, ...] = (("45121", "0.00169"), ("45147", "0.011"), ("44809", "0.0694"))
ASKS: tuple[Level, ...] = (("46125", "0.0418"), ("45363", "0.00102078"))


def update(
    bids: tuple[Level, ...] = (),
    asks: tuple[Level, ...] = (),
    sequence: int | None = 7,
    checksum: int | None = None,
    is_snapshot: bool = False,
    symbol: str = "BTC/ZAR",
) -> BookUpdate:
    return BookUpdate(symbol, is_snapshot, bids, asks, sequence, checksum, ts_event=1)


def synced(bids: tuple[Level, ...] = BIDS, asks: tuple[Level, ...] = ASKS) -> OrderBook:
    book = OrderBook("BTC/ZAR")
    book.apply(update(bids, asks, is_snapshot=True))
    return book


def desync_reason(book: OrderBook, diff: BookUpdate) -> str:
    with pytest.raises(BookDesyncError) as caught:
        book.apply(diff)
    assert not book.is_synced
    assert book.levels(50) == ((), ())
    return caught.value.reason


def test_checksum_runs_over_the_venues_strings_and_skips_the_shorter_sides_turns() -> None:
    assert synced().checksum() == 795633320


def test_checksum_of_an_empty_book_is_zero() -> None:
    book = OrderBook("BTC/ZAR")
    book.apply(update(is_snapshot=True, checksum=0))
    assert book.is_synced
    assert book.mid is None


def test_snapshot_with_the_venues_checksum_is_accepted_and_sorted() -> None:
    book = OrderBook("BTC/ZAR")
    book.apply(update(BIDS, ASKS, checksum=795633320, is_snapshot=True))
    bids, asks = book.levels(2)
    assert bids == (("45147", "0.011"), ("45121", "0.00169"))
    assert asks == (("45363", "0.00102078"), ("46125", "0.0418"))


def test_checksum_covers_only_25_levels_a_side() -> None:
    deep = tuple((str(1000 - i), "1") for i in range(40))
    assert synced(deep[:26], ()).checksum() == synced(deep[:25], ()).checksum()
    assert synced(deep[:24], ()).checksum() != synced(deep[:25], ()).checksum()


def test_diff_replaces_inserts_and_removes_levels() -> None:
    book = synced()
    book.apply(update((("45147", "0.5"), ("45150", "1")), (("45363", "0"), ("99999", "0")), sequence=8))
    assert book.levels(9) == (
        (("45150", "1"), ("45147", "0.5"), ("45121", "0.00169"), ("44809", "0.0694")),
        (("46125", "0.0418"),),
    )


def test_the_same_price_in_other_digits_is_the_same_level() -> None:
    book = synced((("100.0", "1"),), (("200", "1"),))
    book.apply(update((("100.00000000000000000000", "2"),), (), sequence=8))
    assert book.levels(9)[0] == (("100.00000000000000000000", "2"),)


def test_prices_that_differ_beyond_a_double_are_different_levels() -> None:
    low, high = "0.12345678901234567890", "0.12345678901234567891"
    assert synced(((low, "1"), (high, "2")), ()).levels(2)[0] == ((high, "2"), (low, "1"))


def test_sequence_gap_empties_the_book() -> None:
    assert desync_reason(synced(), update((("45000", "1"),), sequence=9)) == "sequence_gap"


def test_repeated_sequence_empties_the_book() -> None:
    assert desync_reason(synced(), update((("45000", "1"),), sequence=7)) == "sequence_gap"


def test_diff_before_any_snapshot_is_refused() -> None:
    assert desync_reason(OrderBook("BTC/ZAR"), update(BIDS, ASKS)) == "no_snapshot"


def test_wrong_checksum_empties_the_book() -> None:
    assert desync_reason(synced(), update((("45000", "1"),), sequence=8, checksum=1)) == "checksum_mismatch"


@pytest.mark.parametrize("bid", ["45363", "45364"])
def test_locked_or_crossed_book_is_refused(bid: str) -> None:
    assert desync_reason(synced(), update(((bid, "1"),), sequence=8)) == "crossed"


@pytest.mark.parametrize("level", [("x", "1"), ("1", "x"), ("-1", "1"), ("1", "-1"), ("nan", "1"), ("inf", "1"), ("0", "1")])
def test_level_that_is_no_price_and_quantity_empties_the_book(level: Level) -> None:
    assert desync_reason(synced(), update((level,), sequence=8)) == "malformed_level"


def test_desync_is_a_reason_to_skip_and_a_snapshot_repairs_it() -> None:
    book = synced()
    with pytest.raises(StaleDataError):
        book.apply(update(sequence=99))
    assert desync_reason(book, update(sequence=100)) == "no_snapshot"
    book.apply(update(BIDS, ASKS, sequence=500, is_snapshot=True))
    book.apply(update((("45000", "1"),), sequence=501))
    assert book.is_synced


def test_venue_without_sequence_or_checksum_is_followed_unchecked() -> None:
    book = OrderBook("BTC/ZAR")
    book.apply(update(BIDS, ASKS, sequence=None, is_snapshot=True))
    book.apply(update((("45148", "1"),), sequence=None))
    assert book.best_bid == 45148.0


def test_update_of_another_symbol_is_an_invariant_violation() -> None:
    with pytest.raises(InvariantError):
        synced().apply(update(symbol="ETH/ZAR"))


def test_measures_of_a_small_book() -> None:
    book = synced((("99", "3"), ("98", "1")), (("101", "1"), ("103", "1")))
    assert (book.best_bid, book.best_ask, book.mid) == (99.0, 101.0, 100.0)
    assert book.spread_bps() == pytest.approx(200.0)
    assert book.imbalance(10) == pytest.approx((4 - 2) / 6)
    assert book.imbalance(1) == pytest.approx((3 - 1) / 4)
    assert book.depth_log(10) == pytest.approx(math.log(99 * 3 + 98 + 101 + 103))
    # microprice = (99 x 1 + 101 x 3) / 4 = 100.5
    assert book.microprice_bps() == pytest.approx(50.0)


def test_measures_without_a_side_are_unknown() -> None:
    book = synced((("99", "3"),), ())
    assert book.mid is None
    assert math.isnan(book.spread_bps())
    assert math.isnan(book.microprice_bps())
    assert book.imbalance(10) == 1.0
    assert math.isnan(OrderBook("BTC/ZAR").imbalance(10))
    assert math.isnan(OrderBook("BTC/ZAR").depth_log(10))


def test_snapshot_has_ten_exact_levels_a_side() -> None:
    bids = tuple((f"{100 - i}.10", "0.30") for i in range(12))
    snapshot = synced(bids, (("101", "1"),)).snapshot(Decimal("100.5"), ts=9)
    assert len(snapshot.bids) == 10
    assert snapshot.bids[0] == (Decimal("100.10"), Decimal("0.30"))
    assert (snapshot.last, snapshot.ts_event) == (Decimal("100.5"), 9)
    assert snapshot.spread_bps == pytest.approx((101 - 100.1) / 100.55 * 1e4)


def test_desync_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BookDesyncError("BTC/ZAR", "sequence_gap", "7 -> 9")))
    assert (error.symbol, error.reason, str(error)) == (
        "BTC/ZAR",
        "sequence_gap",
        "book of BTC/ZAR lost sync: sequence_gap 7 -> 9",
    )

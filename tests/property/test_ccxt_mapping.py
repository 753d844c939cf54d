"""Whatever ccxt hands over: exact numbers stay exact, books follow, and nothing but DataError comes out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Timeframe
from helios.domain.market import BookUpdate
from helios.errors import DataError
from helios.market.book import OrderBook
from helios.venues.ccxt.inbox import Inbox, SeenTrades
from helios.venues.ccxt.mapping import ExactNumber, exact, exact_ns, text_of, to_candle, to_instrument, to_levels, to_trade, with_ids

DECIMALS = st.decimals(min_value=Decimal("1e-12"), max_value=Decimal("1e12"), places=12, allow_nan=False, allow_infinity=False)
WORDS = st.text("ab/.-1eN", max_size=6)  # a small alphabet: the whole of Unicode takes seconds to prepare
JUNK: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)


@given(DECIMALS)
def test_a_decimal_survives_as_written(number: Decimal) -> None:
    text = text_of(number)
    assert exact(ExactNumber(text), "n") == number
    assert to_levels([[ExactNumber(text), ExactNumber(text)]], 1) == ((text, text),)


@given(st.dictionaries(st.sampled_from(["id", "price", "amount", "side", "timestamp", "datetime"]), JUNK))
def test_a_trade_of_junk_is_a_trade_or_a_data_error(trade: dict[str, Any]) -> None:
    try:
        made = to_trade(trade, "A/B", 0)
    except DataError:
        return
    assert made.price > 0
    assert made.quantity > 0


@given(st.lists(JUNK, max_size=7) | JUNK)
def test_a_row_of_junk_is_a_candle_or_a_data_error(row: Any) -> None:
    try:
        made = to_candle(row, "A/B", Timeframe.M1)
    except DataError:
        return
    assert made.low <= min(made.open, made.close) <= max(made.open, made.close) <= made.high


MARKET_KEYS = st.sampled_from(["id", "symbol", "base", "quote", "spot", "swap", "linear", "settle", "contractSize", "maker", "taker"])


@given(st.dictionaries(MARKET_KEYS, JUNK), st.dictionaries(st.sampled_from(["price", "amount"]), JUNK), st.integers(0, 5))
def test_a_market_of_junk_is_an_instrument_or_a_data_error(market: dict[str, Any], precision: dict[str, Any], mode: int) -> None:
    base = {"id": "X", "symbol": "A/B", "base": "A", "quote": "B", "spot": True}
    try:
        made = to_instrument(base | market | {"precision": precision, "limits": {}}, "v", mode)
    except DataError:
        return
    assert made.tick_size > 0
    assert made.lot_size_base > 0


@given(st.integers(1, 4_000_000_000_000), st.integers(0, 999_999_999))
def test_a_time_is_never_moved_by_more_than_its_millisecond(ms: int, fraction: int) -> None:
    assert 0 <= exact_ns(ms, f"2026-08-09T21:05:42.{fraction:09d}Z") - ms * 1_000_000 < 1_000_000


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["buy", "sell"])), max_size=12), st.integers(0, 12))
def test_names_of_a_page_are_distinct_and_stay_when_it_grows(rows: list[tuple[int, str]], known: int) -> None:
    page = [{"timestamp": at, "side": side, "price": 1, "amount": 1} for at, side in rows]
    names = [trade["id"] for trade in with_ids(page)]
    assert len(set(names)) == len(names)
    assert [trade["id"] for trade in with_ids(page[:known])] == names[:known]


SIDE = st.dictionaries(st.integers(1, 30), st.integers(1, 9), max_size=12)


@settings(max_examples=200)
@given(st.lists(st.tuples(SIDE, SIDE, st.booleans()), min_size=1, max_size=12), st.integers(1, 6))
def test_a_book_built_from_the_updates_is_the_window(
    states: list[tuple[dict[int, int], dict[int, int], bool]], n_levels: int
) -> None:
    # Bids lie below 100 and asks above: never crossed. Reads come now and then, as a slow reader's do.
    box, book = Inbox({"A/B": Decimal("0.1")}, SeenTrades(), lambda: 1, n_levels), OrderBook("A/B")
    for bids, asks, is_read in [*states, (*states[-1][:2], True)]:
        sides = [
            [[ExactNumber(str(100 + sign * p)), ExactNumber(str(q))] for p, q in sorted(side.items())]
            for side, sign in ((bids, -1), (asks, 1))
        ]
        box.on_book({"symbol": "A/B", "bids": sides[0], "asks": sides[1], "timestamp": 1})
        if not is_read:
            continue
        for update in box.take():
            assert isinstance(update, BookUpdate)
            book.apply(update)
        want = [
            [(str(100 + sign * p), Decimal(q) / 10) for p, q in sorted(side.items())][:n_levels]
            for side, sign in ((bids, -1), (asks, 1))
        ]
        assert [[(p, Decimal(q)) for p, q in levels] for levels in book.levels(50)] == want

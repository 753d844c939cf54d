"""The smaller pure parts of the sandbox exchange: limits, keys, truth, minute paths, full-depth books."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios.domain.enums import Side, Timeframe
from helios.domain.market import BookUpdate, VenueCandle
from helios.venues.sandbox.book import checksum
from helios.venues.sandbox.levelbook import LevelBook, plain
from helios.venues.sandbox.orders import OrderBook
from helios.venues.sandbox.path import minute_path, split
from helios.venues.sandbox.ratelimits import CONNECT, PUBLIC, QUICK, RateLimits, limit_of
from helios.venues.sandbox.ticks import TickTrade
from helios.venues.sandbox.truth import Truth
from helios.venues.sandbox.upgrade import Identity, identify

S = 10**9
MINUTE = 60 * S
START = 1_750_000_020 * S
SECRET = "4961b74efac86b25cce8fbe4c9811c4c7a787b7a5996660afcc2e287ad864363"
SIGNATURE = (
    "819a2650ba597a17da05cd5fb4a41b914de46abed43e267c1d905f4414c8fa2b45a8a94080b71ff19f16e845b29ae2869e9edb51afba6610dc5508db37494568"
)


def test_limits_count_per_address_and_start_anew_with_the_wall_clocks_window() -> None:
    limits, now = RateLimits(), 600 * S + 5
    assert [limits.admits("a", PUBLIC, now) for _ in range(31)] == [True] * 30 + [False]
    assert limits.admits("b", PUBLIC, now)
    assert limits.admits("a", QUICK, now)
    assert not limits.admits("a", PUBLIC, 660 * S - 1)
    assert limits.admits("a", PUBLIC, 660 * S)
    assert [limits.admits("a", CONNECT, now) for _ in range(61)].count(True) == 60
    assert [limits.admits("c", QUICK, now) for _ in range(21)][-1] is False
    assert (limit_of("buckets"), limit_of("time"), limit_of("orderbook"), limit_of("")) == (QUICK, QUICK, PUBLIC, PUBLIC)


def test_signed_headers_are_known_by_the_published_vector() -> None:
    headers = {"X-VALR-API-KEY": "k", "X-VALR-SIGNATURE": SIGNATURE, "X-VALR-TIMESTAMP": "1558014486185"}
    assert identify(headers, "/ws/trade", {"k": SECRET}) is Identity.AUTHENTICATED
    assert identify({}, "/ws/trade", {"k": SECRET}) is Identity.ANONYMOUS
    for wrong in (headers | {"X-VALR-TIMESTAMP": "1558014486186"}, headers | {"X-VALR-API-KEY": "j"}, {"X-VALR-API-KEY": "k"}):
        assert identify(wrong, "/ws/trade", {"k": SECRET}) is Identity.REFUSED


def trade(second: int, price: str, quantity: str, side: Side = Side.BUY) -> TickTrade:
    return TickTrade("BTC/ZAR", f"id{second}{price}", second, price, quantity, side, START + second * S)


def closed(minute: int, close: float = 0.0) -> VenueCandle:
    return VenueCandle("BTC/ZAR", Timeframe.M1, START + minute * MINUTE, close, close, close, close, 0.0)


def test_truth_is_the_exact_sum_of_the_trades() -> None:
    truth = Truth([("BTC/ZAR", "BTCZAR")], START)
    truth.take([trade(1, "10", "0.1"), trade(5, "12.5", "0.2", Side.SELL), trade(59, "9", "0.00000001"), closed(0)])
    truth.take([closed(1), trade(121, "11", "3"), closed(2)])
    rows = truth.minutes("BTCZAR", START, START + 10 * MINUTE)
    assert [rows[0][name] for name in ("open", "high", "low", "close")] == ["10", "12.5", "9", "9"]
    assert [rows[0][name] for name in ("volume", "buyVolume", "quoteVolume", "tradeCount")] == [
        "0.30000001",
        "0.10000001",
        "3.50000009",
        3,
    ]
    assert [rows[1][name] for name in ("open", "close", "volume", "tradeCount")] == ["9", "9", "0", 0]
    assert [row["start"] for row in rows] == [START // S + 60 * minute for minute in range(3)]
    assert truth.minutes("BTCZAR", START + 1, START + MINUTE + 1) == [rows[1]]


def test_a_minute_that_was_open_at_the_start_is_not_told() -> None:
    truth = Truth([("BTC/ZAR", "BTCZAR")], START + 20 * S)
    truth.take([trade(25, "10", "1"), closed(0), trade(70, "11", "1"), closed(1)])
    assert [row["open"] for row in truth.minutes("BTCZAR", 0, 2 * START)] == ["11"]


@st.composite
def candles(draw: st.DrawFn) -> tuple[list[int], int]:
    low = draw(st.integers(1, 10**7))
    high = low + draw(st.integers(0, 10**5))
    inside = st.integers(low, high)
    return [draw(inside), high, low, draw(inside)], draw(st.integers(4, 10**15))


@given(candles(), st.integers())
def test_any_candle_comes_out_of_its_path(candle: tuple[list[int], int], seed: int) -> None:
    (open_, high, low, close), lots = candle
    trades = minute_path(Random(seed), [open_, high, low, close], lots)
    assert list(trades) == sorted(trades)
    assert set(trades) <= set(range(60))
    prices = [price for price, _, _ in trades.values()]
    assert (prices[0], max(prices), min(prices), prices[-1]) == (open_, high, low, close)
    assert sum(size for _, size, _ in trades.values()) == lots
    assert min(size for _, size, _ in trades.values()) > 0


@given(st.integers(1, 40), st.integers(0, 10**12), st.integers())
def test_parts_add_up(count: int, more: int, seed: int) -> None:
    parts = split(Random(seed), count + more, count)
    assert (len(parts), sum(parts)) == (count, count + more)
    assert min(parts) >= 1


@pytest.mark.parametrize(
    ("text", "want"), [("0.000", "0"), ("3.500", "3.5"), ("100", "100"), ("100.0", "100"), ("0.00010", "0.0001")]
)
def test_recorded_numbers_lose_their_padding(text: str, want: str) -> None:
    assert plain(text) == want


def level_update(is_snapshot: bool, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> BookUpdate:
    return BookUpdate("BTC/ZAR", is_snapshot, tuple(bids), tuple(asks), None, None, START)


def test_a_recorded_book_is_renumbered_and_a_new_snapshot_becomes_a_change() -> None:
    book = LevelBook("BTC/ZAR", 5)
    book.apply(level_update(True, [("10", "1"), ("9", "2")], [("11", "1.50")]))
    assert book.apply(level_update(False, [("8", "0"), ("10", "1.0")], [])) is None  # nothing that anybody has
    change = book.apply(level_update(True, [("10", "3"), ("8", "1")], [("11", "1.5")]))
    assert change is not None
    assert (change.sequence, change.is_snapshot, change.asks) == (7, False, ())
    assert set(change.bids) == {("9", "0"), ("10", "3"), ("8", "1")}
    assert change.checksum == checksum([("10", "3"), ("8", "1")], [("11", "1.5")])
    assert book.snapshot(0).bids == (("10", "3"), ("8", "1"))


levels = st.tuples(
    st.integers(1, 12).map(str), st.one_of(st.just("0"), st.integers(1, 10**9).map(lambda lots: plain(f"{lots / 1e8:.8f}")))
)


@given(st.lists(st.lists(levels, max_size=5), max_size=15))
def test_orders_of_a_level_always_add_up_to_it(changes: list[list[tuple[str, str]]]) -> None:
    book = OrderBook("BTCZAR", BookUpdate("BTC/ZAR", True, (("5", "1"),), (("13", "2"),), 9, 0, START))
    queues: dict[str, dict[str, str]] = {}
    totals = {"5": 1.0}
    for entry in book.snapshot_frame()["data"]["Bids"]:
        queues[entry["Price"]] = {order["orderId"]: order["quantity"] for order in entry["Orders"]}
    for change in changes:
        before = book.sequence
        totals |= {price: float(quantity) for price, quantity in change}
        message = book.apply(level_update(False, list(dict(change).items()), []))
        entries = [] if message is None else message["data"]["Bids"]
        for entry in entries:
            queues.setdefault(entry["Price"], {}).update({order["orderId"]: order["quantity"] for order in entry["Orders"]})
        assert book.sequence - before == sum(len(entry["Orders"]) for entry in entries)
        for price, total in totals.items():
            assert sum(map(float, queues.get(price, {}).values())) == pytest.approx(total, abs=1e-12)

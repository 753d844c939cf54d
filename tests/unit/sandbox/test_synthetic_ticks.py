from __future__ import annotations

import time
import zlib
from collections import Counter
from decimal import Decimal
from itertools import zip_longest

import pytest

from helios.domain.enums import Side
from helios.domain.market import BookUpdate, VenueCandle
from helios.venues.sandbox.book import checksum, decimal_text
from helios.venues.sandbox.market import MacroMarket, MarketConfig, MarketEvent, TickMarket, TickTrade

END_NS = 1_767_225_600 * 1_000_000_000
STEPS = 2_000


class Mirror:
    """A client's book: applies what it is told and knows nothing else."""

    def __init__(self, snapshot: BookUpdate) -> None:
        self.bids = {Decimal(price): (price, quantity) for price, quantity in snapshot.bids}
        self.asks = {Decimal(price): (price, quantity) for price, quantity in snapshot.asks}
        self.sequence = snapshot.sequence

    def apply(self, update: BookUpdate) -> None:
        assert self.sequence is not None
        assert update.sequence == self.sequence + 1
        self.sequence = update.sequence
        for side, levels in ((self.bids, update.bids), (self.asks, update.asks)):
            for price, quantity in levels:
                if quantity == "0":
                    del side[Decimal(price)]
                else:
                    side[Decimal(price)] = (price, quantity)

    def crc(self) -> int:
        bids, asks = sorted(self.bids, reverse=True)[:25], sorted(self.asks)[:25]
        parts: list[str] = []
        for bid, ask in zip_longest(bids, asks):
            parts += self.bids[bid] if bid is not None else ()
            parts += self.asks[ask] if ask is not None else ()
        return zlib.crc32(":".join(parts).encode())


def new_market(seed: int = 5) -> TickMarket:
    return TickMarket(MacroMarket(MarketConfig(), seed).history(1_000, END_NS).state, seed)


@pytest.fixture(scope="module")
def session() -> tuple[TickMarket, dict[str, Mirror], list[MarketEvent]]:
    market = new_market()
    mirrors = {symbol: Mirror(ticks.snapshot(END_NS)) for symbol, ticks in market.symbols.items()}
    return market, mirrors, [event for _ in range(STEPS) for event in market.step()]


def test_published_checksum_vector() -> None:
    bids = [("45147", "0.011"), ("45121", "0.00169"), ("44809", "0.0694")]
    asks = [("45363", "0.00102078"), ("46125", "0.0418")]
    assert checksum(bids, asks) == 795633320
    assert checksum([], []) == 0


@pytest.mark.parametrize(("units", "decimals", "text"), [
    (1_900_000, 0, "1900000"), (4510, 2, "45.1"), (4500, 2, "45"), (1, 8, "0.00000001"), (100_000_000, 8, "1"),
])  # fmt: skip
def test_decimal_text_has_no_padding(units: int, decimals: int, text: str) -> None:
    assert decimal_text(units, decimals) == text


def test_every_diff_matches_an_independent_checksum_and_never_crosses(
    session: tuple[TickMarket, dict[str, Mirror], list[MarketEvent]],
) -> None:
    _, mirrors, events = session
    n = 0
    for event in events:
        if isinstance(event, BookUpdate):
            mirror = mirrors[event.symbol]
            mirror.apply(event)
            assert mirror.crc() == event.checksum
            assert max(mirror.bids) < min(mirror.asks)
            n += 1
    assert n > STEPS


def test_book_keeps_twenty_levels_a_side(session: tuple[TickMarket, dict[str, Mirror], list[MarketEvent]]) -> None:
    market, _, _ = session
    for ticks in market.symbols.values():
        assert 20 <= len(ticks.bids.levels) <= 25
        assert 20 <= len(ticks.asks.levels) <= 25


def test_trades_print_at_the_touch_the_client_knows() -> None:
    market = new_market(9)
    mirrors = {symbol: Mirror(ticks.snapshot(END_NS)) for symbol, ticks in market.symbols.items()}
    n = 0
    for _ in range(300):
        for event in market.step():
            if isinstance(event, TickTrade):
                mirror = mirrors[event.symbol]
                touch = min(mirror.asks) if event.taker_side is Side.BUY else max(mirror.bids)
                assert Decimal(event.price) == touch
                n += 1
            elif isinstance(event, BookUpdate):
                mirrors[event.symbol].apply(event)
    assert n > 100


def test_candles_are_the_sums_of_the_trades(session: tuple[TickMarket, dict[str, Mirror], list[MarketEvent]]) -> None:
    _, _, events = session
    trades: dict[str, list[TickTrade]] = {}
    checked = 0
    for event in events:
        if isinstance(event, TickTrade):
            trades.setdefault(event.symbol, []).append(event)
        elif isinstance(event, VenueCandle):
            mine = trades.pop(event.symbol, [])
            assert all(event.open_time <= trade.ts_event < event.open_time + 60 * 10**9 for trade in mine)
            if mine:
                prices = [float(trade.price) for trade in mine]
                assert (event.open, event.high, event.low, event.close) == (prices[0], max(prices), min(prices), prices[-1])
                assert event.volume_base == pytest.approx(sum(float(trade.quantity) for trade in mine), abs=1e-12)
                checked += 1
            else:
                assert event.open == event.high == event.low == event.close
                assert event.volume_base == 0.0
    assert checked > 100


def test_trade_identities_are_unique_and_beyond_a_double(
    session: tuple[TickMarket, dict[str, Mirror], list[MarketEvent]],
) -> None:
    trades = [event for event in session[2] if isinstance(event, TickTrade)]
    assert max(Counter(trade.trade_id for trade in trades).values()) == 1
    assert len({trade.sequence_id for trade in trades}) == len(trades)
    assert trades[0].sequence_id > 2**53


def test_equal_seeds_give_equal_events() -> None:
    first, again, other = new_market(5), new_market(5), new_market(6)
    events = [event for _ in range(130) for event in first.step()]
    assert events == [event for _ in range(130) for event in again.step()]
    assert events != [event for _ in range(130) for event in other.step()]


def test_step_is_within_its_budget() -> None:
    market = new_market()
    start = time.process_time()
    for _ in range(600):
        market.step()
    assert (time.process_time() - start) / 600 < 0.0006

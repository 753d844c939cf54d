"""Exits are judged on the last print held within the book: one wild print fires none, a book that stands still holds none back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from helios.domain.enums import ExitReason, MarketKind, Side, Timeframe
from helios.domain.market import BookUpdate, Instrument, Trade
from helios.domain.orders import ExitPlan
from helios.market.held import BOOK_ANSWERS_NS, SKEW_NS
from helios.pipeline.symbol import SymbolState
from tests.support.pipeline_values import MINUTE_NS, T0, bar

BTC = Instrument("BTC/USDT", "BTC", "USDT", "test", "BTCUSDT", kind=MarketKind.PERP)
LONG = ExitPlan("p1", BTC.symbol, Side.BUY, 100.0, 95.0, 110.0, 0.0, 0.0, 0)
SHORT = replace(LONG, side=Side.SELL, stop_price=105.0, target_price=90.0)
SECOND = 1_000_000_000
WAIT_S = BOOK_ANSWERS_NS / SECOND


def at(second: float) -> int:
    return T0 + int(second * SECOND)


class Market:
    """A symbol with a print at 100, one second after T0, and a book of 99.9 to 100.1 that has answered it."""

    def __init__(self, *plans: ExitPlan, exit_price: str = "held") -> None:
        self.symbol = SymbolState(BTC, exit_price=exit_price)  # type: ignore[arg-type]
        self._n = 0
        self.trade(1.0, 100.0)
        self.book(1.1, "99.9", "100.1")
        self.symbol.arm(plans)

    def book(self, second: float, bid: str, ask: str) -> None:
        self.symbol.on_book(BookUpdate(BTC.symbol, True, ((bid, "3"),), ((ask, "1"),), None, None, at(second)))

    def trade(self, second: float, price: float) -> None:
        self._n += 1
        self.symbol.on_trade(Trade(BTC.symbol, str(self._n), price, 0.001, Side.BUY, at(second)))

    def time(self, second: float) -> None:
        self.symbol.on_time(at(second))

    def hits(self) -> list[tuple[ExitReason, float, int]]:
        return [(hit.reason, hit.trigger_price, hit.ts_event) for hit in self.symbol.drain().exits]


@pytest.mark.parametrize(("plan", "wild"), [(LONG, 1.0), (LONG, 1_000.0), (SHORT, 1_000.0), (SHORT, 1.0)])
def test_a_wild_print_that_the_book_does_not_follow_fires_neither_stop_nor_target(plan: ExitPlan, wild: float) -> None:
    market = Market(plan)
    market.trade(2.0, wild)
    market.book(2.1, "99.9", "100.2")
    market.time(2.0 + 10 * WAIT_S)
    market.trade(2.1 + 10 * WAIT_S, 100.0)
    assert market.hits() == []


def test_it_fires_with_the_book_that_follows_the_print_at_the_price_that_the_book_has() -> None:
    market = Market(LONG)
    market.trade(2.0, 94.0)
    market.book(2.1, "96.0", "96.2")  # on its way
    assert market.hits() == []
    market.book(2.2, "94.5", "94.7")
    market.book(2.3, "93.0", "93.2")
    assert market.hits() == [(ExitReason.STOP, 94.5, at(2.2))]


def test_it_fires_when_the_book_falls_past_the_print() -> None:
    market = Market(LONG)
    market.trade(2.0, 94.0)
    market.book(2.2, "93.0", "94.2")
    assert market.hits() == [(ExitReason.STOP, 94.0, at(2.2))]


@pytest.mark.parametrize("later", ["time", "trade", "book"])
def test_a_book_that_stands_still_holds_a_print_no_longer_than_its_time(later: str) -> None:
    market = Market(LONG)
    market.trade(2.0, 94.0)
    market.time(1.9 + WAIT_S)
    assert market.hits() == []
    if later == "time":
        market.time(2.5 + WAIT_S)
    elif later == "trade":
        market.trade(2.0 + WAIT_S, 94.0)
    else:
        market.book(3.0 + WAIT_S, "99.9", "100.1")  # too late: live, the timer has fired by then
    assert market.hits() == [(ExitReason.STOP, 94.0, at(2.0 + WAIT_S))]


def test_a_print_that_comes_too_late_takes_no_exit_back_that_was_due_before_it() -> None:
    market = Market(LONG)
    market.trade(2.0, 94.0)
    market.trade(3.0 + WAIT_S, 100.0)
    assert market.hits() == [(ExitReason.STOP, 94.0, at(2.0 + WAIT_S))]


def test_while_the_book_stands_still_every_print_counts_at_once() -> None:
    market = Market(LONG)
    market.trade(2.0, 100.05)
    market.trade(3.0 + WAIT_S, 94.0)
    assert market.hits() == [(ExitReason.STOP, 94.0, at(3.0 + WAIT_S))]


def test_a_book_that_lags_behind_the_prints_holds_none_either() -> None:
    market = Market(LONG)
    for second in range(2, 20):
        market.trade(float(second), 100.0)
        market.book(second - 10.0 if second > 11 else 1.5, "99.9", "100.1")
    market.trade(20.0, 94.0)
    assert market.hits() == [(ExitReason.STOP, 94.0, at(20.0))]


def test_a_book_that_lags_by_less_than_its_time_still_holds() -> None:
    market = Market(LONG)
    for half_second in range(4, 60):
        market.trade(half_second / 2, 100.0)
        market.book(half_second / 2 - 2.0, "99.9", "100.1")
    market.trade(30.0, 94.0)
    assert market.hits() == []


def test_a_book_that_has_caught_up_holds_again() -> None:
    market = Market(LONG)
    market.trade(2.0, 100.0)
    market.time(3.0 + WAIT_S)
    market.book(3.5 + WAIT_S, "99.9", "100.1")
    market.trade(4.0 + WAIT_S, 94.0)
    market.book(4.1 + WAIT_S, "99.9", "100.1")
    assert market.hits() == []


def test_clocks_of_books_and_prints_may_differ_by_a_little() -> None:
    market = Market(LONG)
    market.trade(2.0, 100.0)
    market.book(2.1 - SKEW_NS / SECOND, "99.9", "100.1")  # the update that the print caused
    market.trade(60.0, 94.0)  # the market was quiet, its book is not old
    market.book(60.1 - SKEW_NS / SECOND, "99.9", "100.1")
    market.time(120.0)
    assert market.hits() == []


def test_a_print_that_comes_late_waits_for_an_answer_of_its_own() -> None:
    market = Market(LONG)
    market.trade(2.0, 100.0)
    market.book(1.9, "99.9", "100.1")
    market.trade(1.95, 94.0)
    market.time(7.0)
    assert market.hits() == [(ExitReason.STOP, 94.0, at(7.0))]


def test_an_older_snapshot_takes_no_answer_back() -> None:
    market = Market(LONG)
    market.trade(2.0, 100.0)
    market.book(3.0, "99.9", "100.1")
    market.book(0.5, "99.9", "100.1")
    market.trade(20.0, 94.0)
    market.book(20.1, "99.9", "100.1")
    assert market.hits() == []


def test_without_a_book_in_step_the_print_counts_at_once() -> None:
    market = Market(LONG)
    market.symbol.lose_feed()
    market.trade(2.0, 94.0)
    assert market.hits() == [(ExitReason.STOP, 94.0, at(2.0))]


@pytest.mark.parametrize("loss", ["feed", "sequence"])
def test_a_print_that_the_book_has_not_answered_counts_when_the_book_is_lost(loss: str) -> None:
    market = Market(LONG)
    market.trade(2.0, 94.0)
    if loss == "feed":
        market.symbol.lose_feed()
    else:
        market.symbol.on_book(BookUpdate(BTC.symbol, False, (), (("50", "1"),), None, None, at(2.0)))  # crossed
    assert market.hits() == [(ExitReason.STOP, 94.0, at(2.0))]


def test_a_print_that_the_book_has_denied_stays_denied_when_the_book_is_lost() -> None:
    market = Market(LONG)
    market.trade(2.0, 94.0)
    market.book(2.1, "99.9", "100.1")
    market.symbol.lose_feed()
    market.symbol.arm([LONG])
    market.time(30.0)
    assert market.hits() == []


def test_a_market_that_falls_without_a_trade_fires_as_its_mark_does() -> None:
    market = Market(LONG)
    market.book(2.0, "90.0", "100.1")  # bids alone: somebody would still pay more than the last print
    assert market.hits() == []
    market.book(2.1, "90.0", "94.0")
    assert market.symbol.mark_price == 94.0
    assert market.hits() == [(ExitReason.STOP, 94.0, at(2.1))]


def test_last_takes_every_print_and_no_book() -> None:
    market = Market(LONG, exit_price="last")
    market.book(2.1, "90.0", "94.0")
    assert market.hits() == []
    market.trade(2.2, 1_000.0)
    assert market.hits() == [(ExitReason.TARGET, 1_000.0, at(2.2))]


TRAILING = replace(LONG, target_price=math.nan, trailing_activate_pct=0.02, trailing_pct=0.01, opened_at=T0)
BREAKEVEN = replace(LONG, target_price=math.nan, breakeven_activate_pct=0.02, breakeven_price=100.3)


@pytest.mark.parametrize("plan", [TRAILING, BREAKEVEN])
def test_a_wild_print_moves_no_stop_nor_does_the_bar_that_it_is_in(plan: ExitPlan) -> None:
    market = Market(plan)
    market.trade(2.0, 130.0)
    for second in (2.1, 70.0, 140.0, 301.0):  # a minute that ends with it, one without a trade, five of them
        market.book(second, "99.9", "100.1")
    market.trade(301.1, 100.0)
    bars = [b for b in market.symbol.drain().bars if b.timeframe is Timeframe.M5]
    assert [b.high for b in bars] == [130.0]
    market.symbol.arm([replace(plan, position_id="p2")])  # one that did not watch then
    market.trade(301.2, 100.0)
    assert market.hits() == []


def test_the_stop_trails_what_the_book_says() -> None:
    market = Market(TRAILING)
    market.book(2.0, "104.0", "104.2")  # no trade: somebody pays 104
    market.trade(2.1, 104.1)
    market.trade(2.2, 120.0)
    market.book(2.3, "103.2", "103.4")
    assert market.hits() == []  # 104.2 x 0.99 = 103.158
    market.book(2.4, "103.0", "103.1")
    assert market.hits() == [(ExitReason.TRAILING_STOP, 103.1, at(2.4))]


def test_a_part_is_left_at_the_held_price_only() -> None:
    market = Market(replace(LONG, scale_out_fraction=0.5, scale_out_price=105.0))
    market.trade(2.0, 106.0)
    market.book(2.1, "99.9", "100.1")
    assert market.hits() == []
    market.book(2.2, "105.5", "105.7")
    assert market.hits() == [(ExitReason.SCALE_OUT, 105.7, at(2.2))]


def test_a_repaired_minute_counts_as_it_is() -> None:
    market = Market(TRAILING)
    market.symbol.lose_feed()
    market.symbol.repair([replace(bar(0), high=100.1), bar(1, high=106.0, close=105.0)], T0 + 2 * MINUTE_NS)
    market.trade(130.0, 104.0)
    assert market.hits() == [(ExitReason.TRAILING_STOP, 104.0, at(130.0))]


def test_an_exit_that_failed_fires_again_though_only_the_book_speaks() -> None:
    market = Market(LONG)
    market.book(2.0, "93.0", "94.0")
    assert len(market.hits()) == 1
    market.symbol.arm([replace(LONG, attempts=1)])
    market.book(4.0, "93.0", "94.0")
    assert market.hits() == [(ExitReason.STOP, 94.0, at(4.0))]


def test_time_ends_a_position_at_the_held_price() -> None:
    market = Market(replace(LONG, expires_at=at(50.0)))
    market.trade(2.0, 1.0)
    market.book(2.1, "99.9", "100.1")
    market.time(50.0)
    assert market.hits() == [(ExitReason.TIMEOUT, 99.9, at(50.0))]

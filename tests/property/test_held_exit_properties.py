"""Whatever prints and books come: a stop on held prices is never late, and never fires on a print outside a book that keeps up."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Side
from helios.domain.market import BookUpdate, Instrument, Trade
from helios.domain.orders import ExitPlan, ExitTriggered
from helios.market.held import BOOK_ANSWERS_NS, SKEW_NS
from helios.pipeline.symbol import SymbolState
from helios.venues.base import FeedLost
from tests.support.pipeline_values import T0

BTC = Instrument("BTC/ZAR", "BTC", "ZAR", "test", "BTCZAR")
STOP = 95
PLAN = ExitPlan("p", BTC.symbol, Side.BUY, 100.0, float(STOP), math.nan, 0.0, 0.0, 0)
STEP_NS = 500_000_000


class Event(NamedTuple):
    """One thing that happens `wait` half seconds after the one before; a book is as of `lag` half seconds earlier."""

    kind: Literal["print", "book", "loss", "time"]
    wait: int
    price: int
    lag: int


EVENTS = st.lists(
    st.builds(
        Event,
        st.sampled_from(["print", "print", "book", "book", "book", "time", "loss"]),
        st.sampled_from([0, 0, 1, 1, 2, 4, 11]),
        st.sampled_from([90, 94, 95, 96, 99, 100, 101, 110]),
        st.sampled_from([0, 0, 0, 1, 2, 5, 20]),
    ),
    max_size=30,
)


class Model:
    """The rule as docs/exits.md says it, each print remembered by itself."""

    def __init__(self) -> None:
        self.last = self.denied_at = math.nan
        self.bid: int | None = None  # the ask is 1 above
        self.book_ns = self.first_ns = 0
        self.known_ns = 0  # what time it is: the newest that a print, a book or the clock has said
        self.unanswered: list[int] = []

    def take(self, event: Event, now_ns: int) -> None:
        self.known_ns = max(self.known_ns, now_ns - event.lag * STEP_NS if event.kind == "book" else now_ns)
        if event.kind == "print":
            self.last, self.denied_at = float(event.price), math.nan
            if now_ns > self.book_ns:
                self.first_ns = self.first_ns if self.unanswered else now_ns
                self.unanswered.append(now_ns)
        elif event.kind == "book":
            self.bid, self.book_ns, self.denied_at = event.price, now_ns - event.lag * STEP_NS, math.nan
            self.unanswered = [ts for ts in self.unanswered if ts > self.book_ns + SKEW_NS]
        elif event.kind == "loss" and self.bid is not None:
            if not self.unanswered:
                self.denied_at = self.by_book  # what the book has said of a print stays said
            self.bid = None

    @property
    def by_book(self) -> float:
        if not math.isnan(self.denied_at) or self.bid is None:
            return self.denied_at
        return min(max(self.last, self.bid), self.bid + 1)

    @property
    def is_fresh(self) -> bool:
        """Whether nobody could call the book old: it has answered all, or waits since the first of them, or is itself, young."""
        age_ns = self.known_ns - max(self.first_ns, self.book_ns)
        return not math.isnan(self.by_book) and (not self.unanswered or age_ns < BOOK_ANSWERS_NS)

    @property
    def is_old(self) -> bool:
        """Whether nobody could call it fresh: a print has waited too long."""
        is_lost = math.isnan(self.by_book)
        return is_lost or any(self.known_ns - ts >= BOOK_ANSWERS_NS for ts in self.unanswered)

    @property
    def is_due(self) -> bool:
        return (self.by_book <= STOP and self.is_fresh) or (self.last <= STOP and self.is_old)

    @property
    def may_fire(self) -> bool:
        return self.by_book <= STOP or (self.last <= STOP and not self.is_fresh)


def give(symbol: SymbolState, event: Event, now_ns: int, number: int) -> list[ExitTriggered]:
    if event.kind == "print":
        symbol.on_trade(Trade(BTC.symbol, str(number), float(event.price), 1.0, Side.SELL, now_ns))
    elif event.kind == "book":
        levels = ((str(event.price), "1"),), ((str(event.price + 1), "1"),)
        symbol.on_book(BookUpdate(BTC.symbol, True, *levels, None, None, now_ns - event.lag * STEP_NS))
    elif event.kind == "loss":
        symbol.lose_feed()
    else:
        symbol.on_time(now_ns)
    return list(symbol.drain().exits)


@settings(max_examples=500, deadline=None)
@given(EVENTS)
def test_a_held_stop_fires_at_the_first_event_whose_held_price_is_past_it_and_on_no_wild_print(events: list[Event]) -> None:
    symbol, model, now_ns = SymbolState(BTC), Model(), T0
    symbol.arm([PLAN])
    for number, event in enumerate(events):
        now_ns += event.wait * STEP_NS
        model.take(event, now_ns)
        fired = give(symbol, event, now_ns, number)
        if fired:
            was_overdue = fired[0].ts_event < now_ns  # seen only now, by what came next
            assert was_overdue or model.may_fire
            assert fired[0].trigger_price <= STOP
            return
        assert not model.is_due


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_a_print_below_a_book_that_keeps_up_fires_nothing(events: list[Event]) -> None:
    symbol, now_ns = SymbolState(BTC), T0
    symbol.arm([PLAN])
    for number, event in enumerate(events):
        now_ns += event.wait * STEP_NS
        book = Event("book", 0, 96 + event.price % 5, 0)
        assert give(symbol, book, now_ns, -number - 1) == []
        assert give(symbol, event._replace(kind="print"), now_ns, number) == []


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_on_last_prices_a_stop_fires_at_the_first_print_past_it(events: list[Event]) -> None:
    symbol, now_ns = SymbolState(BTC, exit_price="last"), T0
    symbol.arm([PLAN])
    for number, event in enumerate(events):
        now_ns += event.wait * STEP_NS
        fired = give(symbol, event, now_ns, number)
        is_due = event.kind == "print" and event.price <= STOP
        assert [hit.trigger_price for hit in fired] == ([float(event.price)] if is_due else [])
        if is_due:
            return


@settings(max_examples=500, deadline=None)
@given(EVENTS, st.sampled_from(["held", "last"]))
def test_a_replay_without_a_timer_fires_what_the_live_desk_fired(events: list[Event], exit_price: Literal["held", "last"]) -> None:
    live, replay = SymbolState(BTC, exit_price=exit_price), SymbolState(BTC, exit_price=exit_price)
    live.arm([PLAN])
    replay.arm([PLAN])
    now_ns, mine, theirs = T0, [], []
    for number, event in enumerate(events):
        for _ in range(event.wait):
            now_ns += STEP_NS
            live.on_time(now_ns)
        if event.kind != "time":
            mine += [*live.drain().exits, *give(live, event._replace(lag=0), now_ns, number)]
            theirs += _recorded_loss(replay, now_ns) if event.kind == "loss" else give(replay, event._replace(lag=0), now_ns, number)
    for symbol, hits in ((live, mine), (replay, theirs)):
        symbol.on_time(now_ns)
        hits += symbol.drain().exits
    assert mine == theirs


def _recorded_loss(symbol: SymbolState, now_ns: int) -> list[ExitTriggered]:
    symbol.on_events([FeedLost(now_ns)], now_ns)
    return list(symbol.drain().exits)

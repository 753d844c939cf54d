"""The price that exits are judged on: the last print, held within best bid and ask as long as the book answers for it.

One print far outside the book (a slip of the hand, a venue's glitch) is no price at which anybody could sell what is held. But a
book says so only while it is in step and keeps up with the prints: see `HeldPrice`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from helios.domain.enums import Timeframe
from helios.domain.market import Bar
from helios.market.book import OrderBook

BOOK_ANSWERS_NS = 5_000_000_000
"""A print that the book has not answered for so long stands by itself: more than two polls of a polled book, in market time."""
SKEW_NS = 1_000_000_000
"""So far apart may a venue's clocks for books and prints be, and a print and the update that it causes still be one moment."""
MINUTES_KEPT = 64
"""Longer than a minute can still be corrected (`settling`), and its five-minute bar with it."""
_MINUTE_NS = Timeframe.M1.ns


def within_book(price: float, book: OrderBook) -> float:
    """Return `price` moved to best bid or ask where it lies outside; as it is without a book in step that has both sides."""
    bounds = _best(book)
    return price if bounds is None else _held(price, bounds)


class HeldPrice:
    """The newest print as far as the book confirms it.

    A print is answered by a book as of its own time or later, or by an update that comes after it and is as of at most
    `SKEW_NS` before. With a print unanswered for `BOOK_ANSWERS_NS` (the feed of books stands still, or lags) the print itself is
    the price, until the book has caught up: a book that is no longer true must hold no stop back. Without a book in step the
    print is the price at once.

    Attributes
    ----------
    judged : float
        What exits were last judged on; NaN when they are to be judged again whatever the price.
    """

    __slots__ = ("_answered_ns", "_book", "_book_ns", "_first_ns", "_newest_ns", "judged")

    def __init__(self, book: OrderBook) -> None:
        self._book = book
        self._first_ns = self._newest_ns = self._answered_ns = self._book_ns = 0
        self.judged = math.nan

    def note_print(self, ts: int) -> None:
        """Take the time of a print: from now on it waits for the book's answer."""
        if ts <= self._book_ns:
            return
        if self._newest_ns <= self._answered_ns:
            self._first_ns = ts
        self._newest_ns = max(self._newest_ns, ts, self._answered_ns + 1)  # one that comes late waits all the same

    def note_book(self, ts: int) -> None:
        """Take the time of an update that the book took."""
        self._book_ns = ts
        answered_ns = ts if self._newest_ns <= ts else min(self._newest_ns, ts + SKEW_NS)
        if answered_ns > self._answered_ns:  # what an older snapshot does not know was answered all the same
            self._answered_ns = answered_ns

    @property
    def deadline_ns(self) -> int:
        """Until when the book may hold the last print, ns; 0 where it has answered every print."""
        if self._newest_ns <= self._answered_ns:
            return 0
        # The book may have answered the first of the prints and not the last: the oldest unanswered one is then newer than the book.
        return max(self._first_ns, self._answered_ns) + BOOK_ANSWERS_NS

    def bounds(self, now_ns: int) -> tuple[float, float] | None:
        """Return the best bid and ask that hold the newest print at `now_ns` (ns), None where the book holds nothing."""
        if self._answered_ns < self._newest_ns and self.deadline_ns <= max(now_ns, self._newest_ns):
            return None
        return _best(self._book)

    def of(self, last: float, now_ns: int) -> float:
        """Return what `last`, the newest print, is worth to an exit at `now_ns` (ns)."""
        bounds = self.bounds(now_ns)
        return last if bounds is None else _held(last, bounds)


class HeldMinutes:
    """How far the price went in each of the newest minutes, by the book: what a closed bar may add to a high-water mark.

    A bar is made of prints, the wild one among them. So its extremes count as far as the book went while it was printed.
    """

    def __init__(self) -> None:
        self._ranges: dict[int, tuple[float, float]] = {}

    def note(self, ts: int, bounds: tuple[float, float]) -> None:
        """Take the least and the highest price that the market had at `ts` (ns)."""
        minute = ts - ts % _MINUTE_NS
        known = self._ranges.get(minute)
        if known is None:
            if len(self._ranges) >= MINUTES_KEPT:
                del self._ranges[min(self._ranges)]
            self._ranges[minute] = bounds
        elif bounds[0] < known[0] or bounds[1] > known[1]:
            self._ranges[minute] = (min(known[0], bounds[0]), max(known[1], bounds[1]))

    def take(self, minute: Bar) -> None:
        """Take a minute from others, of which there is nothing but its candle: it counts as it is."""
        self._ranges.pop(minute.open_time, None)
        self.note(minute.open_time, (minute.low, minute.high))

    def within(self, bar: Bar) -> Bar | None:
        """Return the bar cut to what the market had in its minutes; None if nothing was heard of it then."""
        opens = range(bar.open_time, bar.close_time, _MINUTE_NS)
        known = [self._ranges[minute] for minute in opens if minute in self._ranges]
        if not known:
            return None
        low, high = min(low for low, _ in known), max(high for _, high in known)
        return replace(bar, low=min(max(bar.low, low), high), high=max(min(bar.high, high), low))


def _best(book: OrderBook) -> tuple[float, float] | None:
    bid, ask = book.best_bid, book.best_ask
    return None if not book.is_synced or bid is None or ask is None else (bid, ask)


def _held(price: float, bounds: tuple[float, float]) -> float:
    return price if math.isnan(price) else min(max(price, bounds[0]), bounds[1])

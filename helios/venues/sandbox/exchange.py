"""The sandbox exchange without its sockets: market, candles, trades and summaries at a market time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Protocol, Self

import numpy as np

from helios.domain.market import BookUpdate, VenueCandle
from helios.venues.sandbox import wire
from helios.venues.sandbox.buckets import DAY_NS, BucketStore, days_before
from helios.venues.sandbox.macro import MINUTE_NS, MacroMarket
from helios.venues.sandbox.specs import MarketConfig, SymbolSpec
from helios.venues.sandbox.ticks import SECOND_NS, MarketEvent, TickMarket, TickTrade

KEPT_TRADES = 2_000
BOOK_EVERY_NS = 5 * SECOND_NS  # between the books that are kept for stale answers


class PairMarket(Protocol):
    """One pair of a market."""

    @property
    def last_price(self) -> str:
        """Price of the last trade."""
        ...

    def snapshot(self, ts_ns: int) -> BookUpdate:
        """Return the whole book, best first."""
        ...


class Market(Protocol):
    """Where trades and books come from, second by second."""

    time_ns: int

    @property
    def specs(self) -> tuple[SymbolSpec, ...]:
        """What is traded."""
        ...

    @property
    def symbols(self) -> Mapping[str, PairMarket]:
        """The pairs by symbol."""
        ...

    def step(self) -> list[MarketEvent]:
        """Advance one second; a minute's last step ends with its candles, one per symbol."""
        ...


class Exchange:
    """A venue's public state.

    Parameters
    ----------
    market : Market
        Goes on where `buckets` end.
    buckets : dict of str to BucketStore
        Minutes and days per pair.
    trades : iterable of TickTrade
        Trades of the past, oldest first.
    """

    def __init__(self, market: Market, buckets: dict[str, BucketStore], trades: Iterable[TickTrade] = ()) -> None:
        self.market = market
        self.buckets = buckets
        self.specs = {spec.pair: spec for spec in market.specs}
        self.keeps_books_ns = 0
        self._pair_of = {spec.symbol: spec.pair for spec in market.specs}
        self._books: dict[str, deque[tuple[int, BookUpdate]]] = {pair: deque() for pair in self.specs}
        self._trades: dict[str, deque[TickTrade]] = {pair: deque(maxlen=KEPT_TRADES) for pair in self.specs}
        for trade in trades:
            self._trades[self._pair_of[trade.symbol]].append(trade)

    @classmethod
    def new(cls, config: MarketConfig, seed: int, start_ns: int, history_days: int = 35, daily_days: int = 100) -> Self:
        """Return an exchange with a fresh history.

        Parameters
        ----------
        config : MarketConfig
        seed : int
        start_ns : int
            Market time at which trading goes on from the history, cut to the minute.
        history_days : int, default=35
            Whole days of minutes before the day of `start_ns`.
        daily_days : int, default=100
            Days of daily candles in all.
        """
        start = start_ns // MINUTE_NS * MINUTE_NS
        first = start // DAY_NS * DAY_NS - history_days * DAY_NS
        history = MacroMarket(config, seed).history((start - first) // MINUTE_NS, start)
        rng = np.random.default_rng([seed, 3])
        buckets: dict[str, BucketStore] = {}
        for spec in config.specs:
            rows = history.bars[spec.symbol][:, :6]
            days = days_before(rng, rows, max(daily_days - history_days, 0), float(spec.tick_size))
            buckets[spec.pair] = BucketStore(first, rows, days)
        return cls(TickMarket(history.state, seed), buckets)

    @property
    def time_ns(self) -> int:
        """Market time up to which everything has happened."""
        return self.market.time_ns

    def advance(self, until_ns: int, max_steps: int) -> list[MarketEvent]:
        """Step to `until_ns`, at most `max_steps` seconds, and return what happened."""
        events: list[MarketEvent] = []
        steps = min((until_ns - self.market.time_ns) // SECOND_NS, max_steps)
        for _ in range(steps):
            events.extend(self.market.step())
        for event in events:
            pair = self._pair_of[event.symbol]
            if isinstance(event, TickTrade):
                self._trades[pair].append(event)
            elif isinstance(event, VenueCandle):
                self.buckets[pair].append(event)
        self._keep_books()
        return events

    def pair_of(self, symbol: str) -> str:
        """Return the venue's name of a symbol."""
        return self._pair_of[symbol]

    def book(self, pair: str) -> BookUpdate:
        """Return the whole book as it is now."""
        return self.market.symbols[self.specs[pair].symbol].snapshot(self.time_ns)

    def book_before(self, pair: str, age_ns: int) -> BookUpdate:
        """Return the book as it was about so long ago, as far as `keeps_books_ns` reaches."""
        if age_ns == 0:
            return self.book(pair)
        older = [book for when, book in self._books[pair] if when <= self.time_ns - age_ns]
        return older[-1] if older else self._books[pair][0][1] if self._books[pair] else self.book(pair)

    def trades(self, pair: str) -> list[TickTrade]:
        """Return the kept trades, newest first."""
        return list(reversed(self._trades[pair]))

    def mark_price(self, pair: str) -> str:
        """Return the median of last trade, best bid and best ask."""
        bid, ask, last = self._quotes(pair)
        return sorted((bid, ask, last), key=Decimal)[1]

    def summary(self, pair: str) -> wire.Json:
        """Return REST's market summary: quotes now, the rest over the last 24 hours of closed minutes."""
        day = self.buckets[pair].last_day()
        (bid, ask, last), previous = self._quotes(pair), float(day[0, 0])
        change = 100.0 * (float(last) / previous - 1.0)
        return {
            "currencyPair": pair, "askPrice": ask, "bidPrice": bid,
            "lastTradedPrice": last, "previousClosePrice": wire.plain(previous),
            "baseVolume": wire.plain(float(day[:, 4].sum())), "quoteVolume": wire.plain(float(day[:, 5].sum())),
            "highPrice": wire.plain(max(float(day[:, 1].max()), float(last))),
            "lowPrice": wire.plain(min(float(day[:, 2].min()), float(last))),
            "created": wire.iso_ms(self.time_ns), "changeFromPrevious": f"{change:.2f}", "markPrice": self.mark_price(pair),
        }  # fmt: skip

    def pair_json(self, spec: SymbolSpec) -> wire.Json:
        """Return an element of /pairs."""
        return {
            "symbol": spec.pair, "baseCurrency": spec.base, "quoteCurrency": spec.quote, "shortName": spec.symbol,
            "active": True, "minBaseAmount": f"{spec.min_base:f}", "maxBaseAmount": f"{spec.max_base:f}",
            "minQuoteAmount": "10", "maxQuoteAmount": f"{spec.max_quote:f}", "tickSize": f"{spec.tick_size:f}",
            "baseDecimalPlaces": "8", "marginTradingAllowed": False, "currencyPairType": "SPOT",
        }  # fmt: skip

    def _quotes(self, pair: str) -> tuple[str, str, str]:
        # Bid, ask and last price; "0" for an empty side, as the venue has it.
        symbol = self.market.symbols[self.specs[pair].symbol]
        book = symbol.snapshot(self.time_ns)
        return book.bids[0][0] if book.bids else "0", book.asks[0][0] if book.asks else "0", symbol.last_price

    def _keep_books(self) -> None:
        if self.keeps_books_ns <= 0:
            return
        for pair, kept in self._books.items():
            if not kept or self.time_ns - kept[-1][0] >= BOOK_EVERY_NS:
                kept.append((self.time_ns, self.book(pair)))
            while kept[0][0] < self.time_ns - self.keeps_books_ns - BOOK_EVERY_NS:
                kept.popleft()

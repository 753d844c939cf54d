"""Markets from raw captures of books and trades: the recorded events in VALR's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from helios.domain.enums import Timeframe
from helios.domain.market import BookUpdate, Trade, VenueCandle
from helios.errors import ConfigError, DataError
from helios.venues.replay.session import SessionReplay, open_session_replay
from helios.venues.sandbox import wire
from helios.venues.sandbox.buckets import DAY_NS, BucketStore
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.levelbook import LevelBook
from helios.venues.sandbox.macro import MINUTE_NS
from helios.venues.sandbox.specs import SymbolSpec
from helios.venues.sandbox.ticks import FIRST_SEQUENCE_ID, SECOND_NS, MarketEvent, TickTrade

FIRST_BOOK_SEQUENCE = 900_000


class CapturedSymbol:
    """One pair of a capture.

    Parameters
    ----------
    spec : SymbolSpec
    events : sequence of Trade or BookUpdate
        In order of the exchange's time. The first book snapshot is known from the start.
    first_price : float
        Price before the first trade.
    """

    def __init__(self, spec: SymbolSpec, events: Sequence[Trade | BookUpdate], first_price: float) -> None:
        self.spec = spec
        first = next(event for event in events if isinstance(event, BookUpdate) and event.is_snapshot)
        self._events = [event for event in events if event is not first]
        self._at = 0
        self._book = LevelBook(spec.symbol, FIRST_BOOK_SEQUENCE)
        self._book.apply(first)
        self._prices = [first_price] * 4
        self.last_price = wire.plain(first_price)
        self._volume = self._quote = Decimal(0)

    def snapshot(self, ts_ns: int) -> BookUpdate:
        """Return the whole book."""
        return self._book.snapshot(ts_ns)

    def step(self, until_ns: int, sequence_id: int) -> list[TickTrade | BookUpdate]:
        """Return what the exchange dated before `until_ns` and was not returned before."""
        found: list[TickTrade | BookUpdate] = []
        while self._at < len(self._events) and self._events[self._at].ts_event < until_ns:
            event = self._events[self._at]
            self._at += 1
            if isinstance(event, BookUpdate):
                change = self._book.apply(event)
                found += [] if change is None else [change]
            else:
                found.append(self._trade(event, sequence_id + len(found)))
        return found

    def close(self, open_ns: int) -> VenueCandle:
        """Return the candle of the trades since the last one, and begin the next."""
        open_, high, low, close = self._prices
        volume, quote = float(self._volume), float(round(self._quote, 8))
        candle = VenueCandle(self.spec.symbol, Timeframe.M1, open_ns, open_, high, low, close, volume, quote)
        self._prices = [float(self.last_price)] * 4
        self._volume = self._quote = Decimal(0)
        return candle

    def _trade(self, trade: Trade, sequence_id: int) -> TickTrade:
        price = trade.price
        if self._volume == 0:
            self._prices = [price] * 4
        self._prices[1], self._prices[2], self._prices[3] = max(self._prices[1], price), min(self._prices[2], price), price
        self.last_price, quantity = wire.plain(price), wire.plain(trade.quantity)
        self._volume += Decimal(quantity)
        self._quote += Decimal(self.last_price) * Decimal(quantity)
        return TickTrade(
            self.spec.symbol, trade.trade_id, sequence_id, self.last_price, quantity, trade.taker_side, trade.ts_event
        )  # fmt: skip


class CapturedMarket:
    """Captures played second by second; after the end nothing happens any more.

    Parameters
    ----------
    symbols : sequence of CapturedSymbol
    start_ns, end_ns : int
        A whole minute, and the time after which all is quiet.
    """

    def __init__(self, symbols: Sequence[CapturedSymbol], start_ns: int, end_ns: int) -> None:
        self.time_ns = start_ns
        self.specs = tuple(symbol.spec for symbol in symbols)
        self.symbols = {symbol.spec.symbol: symbol for symbol in symbols}
        self._in_order = list(symbols)
        self._end_ns = end_ns
        self._number = FIRST_SEQUENCE_ID

    def step(self) -> list[MarketEvent]:
        """Advance one second; a minute's last step ends with its candles."""
        self.time_ns += SECOND_NS
        events: list[MarketEvent] = []
        for symbol in self._in_order:
            before = len(events)
            events.extend(symbol.step(self.time_ns, self._number))
            self._number += len(events) - before
        if self.time_ns % MINUTE_NS == 0 and self.time_ns - MINUTE_NS < self._end_ns:
            events.extend(symbol.close(self.time_ns - MINUTE_NS) for symbol in self._in_order)
        return events


def capture_exchange(directory: Path, symbols: Sequence[str] | None) -> Exchange:
    """Return an exchange on the raw captures of `directory`, from the first one's minute on.

    Parameters
    ----------
    directory : Path
        See `open_session_replay`.
    symbols : sequence of str, optional
        Which to play, as BASE/QUOTE; all by default.

    Raises
    ------
    ConfigError
        If a symbol is not there.
    DataError
        If a capture is broken.

    Notes
    -----
    Events keep the exchange's time and are put in its order. There are no minutes before a capture: the history since the
    midnight a day before stands at the first trade's price with volume 0.
    """
    sources = {symbol.partition(":")[0]: source for symbol, source in open_session_replay(directory).items()}
    chosen = list(sources) if symbols is None else list(symbols)
    missing = sorted(set(chosen) - set(sources))
    if missing:
        raise ConfigError(f"recorded: no {', '.join(missing)}; there are {', '.join(sources)}")
    start = min(sources[symbol].start_ns for symbol in chosen) // MINUTE_NS * MINUTE_NS
    found = [_symbol(symbol, sources[symbol]) for symbol in chosen]
    begins_ns = start // DAY_NS * DAY_NS - DAY_NS
    stores: dict[str, BucketStore] = {}
    for traded in found:
        price = float(traded.last_price)
        rows = np.tile([price, price, price, price, 0.0, 0.0], ((start - begins_ns) // MINUTE_NS, 1))
        stores[traded.spec.pair] = BucketStore(begins_ns, rows, np.empty((0, 6)))
    return Exchange(CapturedMarket(found, start, max(sources[symbol].end_ns for symbol in chosen)), stores)


def _symbol(symbol: str, source: SessionReplay) -> CapturedSymbol:
    events = sorted(source.read_until(source.end_ns), key=lambda event: event.ts_event)  # stable: the books stay in their chain
    prices = [event.price for event in events if isinstance(event, Trade)]
    if not prices:
        raise DataError(f"{symbol}: a capture without trades")
    contract = source.instrument
    spec = SymbolSpec(
        symbol, prices[0], contract.tick_size, contract.min_quantity_base, contract.max_quantity_base, contract.max_notional_quote,
        0.0, 0.0, 0.0, 0.0,
    )  # fmt: skip
    return CapturedSymbol(spec, events, prices[0])

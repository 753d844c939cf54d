"""Recordings written by hand: frames in VALR's form at given market minutes, local time equal to market time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from helios.domain.enums import Side, Timeframe
from helios.domain.market import BookUpdate, Instrument, VenueCandle
from helios.market.book import OrderBook
from helios.store.raw_recording import RawRecorder
from helios.venues.sandbox.ticks import TickTrade
from helios.venues.sandbox.wire import book_frame, trade_frame
from helios.venues.tape import CANDLES, STATUS, VALR_PROTOCOL, MarketClock, candles_json, clock_json, instrument_json

MINUTE_NS = Timeframe.M1.ns
T0 = 1_790_000_100 * 10**9 // Timeframe.M15.ns * Timeframe.M15.ns
BTC = Instrument("BTC/ZAR", "BTC", "ZAR", "valr", "BTCZAR")
ETH = Instrument("ETH/ZAR", "ETH", "ZAR", "valr", "ETHZAR")
VENUE_VOLUME = 7.0


def at(minute: float) -> int:
    return T0 + round(minute * MINUTE_NS)


class Tape:
    """A recorder under a hand-set clock; every method puts one line on tape. Call `flush` to end a chunk."""

    def __init__(self, directory: Path, start_minute: float = 0.0) -> None:
        header = {
            "venue": "valr", "protocol": VALR_PROTOCOL, "pairs": {"BTCZAR": "BTC/ZAR", "ETHZAR": "ETH/ZAR"},
            "instruments": [instrument_json(i) for i in (BTC, ETH)],
            "clock": clock_json(MarketClock(at(start_minute), at(start_minute), 1.0)),
        }  # fmt: skip
        self.now_ns = at(start_minute)
        self.recorder = RawRecorder(directory, header, wall_ns=lambda: self.now_ns)
        self._books = {i.venue_symbol: OrderBook(i.symbol) for i in (BTC, ETH)}
        self._sequences = {i.venue_symbol: 100 for i in (BTC, ETH)}
        self._trades = 0

    def trade(self, minute: float, price: float = 100.0, *, arrives: float | None = None, pair: str = "BTCZAR") -> None:
        self._trades += 1
        symbol = f"{pair[:3]}/ZAR"
        print_ = TickTrade(symbol, f"t{at(minute)}-{self._trades}", self._trades, str(price), "2", Side.BUY, at(minute))
        self.frame(trade_frame(pair, print_), minute if arrives is None else arrives)

    def book(self, minute: float, bid: float = 99.0, *, is_snapshot: bool = False, pair: str = "BTCZAR") -> None:
        sequence = self._sequences[pair] = self._sequences[pair] + 1
        book, symbol = self._books[pair], f"{pair[:3]}/ZAR"
        update = BookUpdate(symbol, is_snapshot, ((str(bid), "1"),), (("101", "1"),), sequence, None, at(minute))
        book.apply(update)
        self.frame(book_frame(pair, replace(update, checksum=book.checksum())), minute)

    def frame(self, frame: bytes | str, minute: float) -> None:
        self.now_ns = max(self.now_ns + 1, at(minute))
        self.recorder.frame(frame, self.now_ns)

    def status(self, status: str, minute: float) -> None:
        self.now_ns = max(self.now_ns + 1, at(minute))
        self.recorder.note(STATUS, {"status": status, "detail": ""})

    def candles(self, start: int, end: int, *, arrives: float, timeframe: Timeframe = Timeframe.M1, symbol: str = "BTC/ZAR") -> None:
        """What the venue answers for minutes start to end, recognised by its volume."""
        self.now_ns = max(self.now_ns + 1, at(arrives))
        opens = range(at(start), at(end), timeframe.ns)
        rows = [VenueCandle(symbol, timeframe, t, 100.0, 100.0, 100.0, 100.0, VENUE_VOLUME, 700.0) for t in opens]
        self.recorder.note(CANDLES, candles_json(symbol, timeframe, at(start), at(end), rows))

    def flush(self) -> None:
        assert self.recorder.flush()

    def close(self) -> None:
        self.recorder.close()

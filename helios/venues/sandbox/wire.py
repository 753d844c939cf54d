"""VALR's public wire format: market events as JSON frames, see the venue's own API collection (December 2025)."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from helios.domain.enums import Side
from helios.domain.market import BookUpdate, Level, VenueCandle
from helios.venues.sandbox.ticks import MS_NS, SECOND_NS, TickTrade

OB_L1_DIFF = "OB_L1_DIFF"
NEW_TRADE = "NEW_TRADE"
NEW_TRADE_BUCKET = "NEW_TRADE_BUCKET"
MARKET_SUMMARY_UPDATE = "MARKET_SUMMARY_UPDATE"
AGGREGATED_ORDERBOOK_UPDATE = "AGGREGATED_ORDERBOOK_UPDATE"
MARK_PRICE_UPDATE = "MARK_PRICE_UPDATE"
FULL_ORDERBOOK_UPDATE = "FULL_ORDERBOOK_UPDATE"
DEPTHS = {f"OB_L1_D{depth}_SNAPSHOT": depth for depth in (1, 5, 10, 20, 40, 80)}
EVENTS = frozenset({
    OB_L1_DIFF, NEW_TRADE, NEW_TRADE_BUCKET, MARKET_SUMMARY_UPDATE, AGGREGATED_ORDERBOOK_UPDATE, MARK_PRICE_UPDATE,
    FULL_ORDERBOOK_UPDATE, *DEPTHS,
})  # fmt: skip
AGGREGATED_LEVELS = 40
# REST and aggregated books count differently from OB_L1_DIFF at the venue; so they do here.
BOOK_NUMBER_OFFSET = 1_000_000_000

Json = dict[str, Any]


def dump(message: object) -> bytes:
    """Return JSON as bytes."""
    return orjson.dumps(message)


def plain(number: float) -> str:
    """Return a number as a plain decimal string, at most 8 decimals, without trailing zeros or exponent."""
    if not math.isfinite(number):
        return "0"
    text = f"{Decimal(repr(number)):.8f}"
    return text.rstrip("0").rstrip(".")


@lru_cache(maxsize=256)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def iso_s(ns: int) -> str:
    """Return ISO-8601 UTC in seconds, as bucket times are."""
    return _second_text(ns // SECOND_NS) + "Z"


def iso_ms(ns: int) -> str:
    """Return ISO-8601 UTC in milliseconds."""
    return f"{_second_text(ns // SECOND_NS)}.{ns // MS_NS % 1000:03d}Z"


def iso_ns(ns: int) -> str:
    """Return ISO-8601 UTC in nanoseconds, as /time has it."""
    return f"{_second_text(ns // SECOND_NS)}.{ns % SECOND_NS:09d}Z"


def book_frame(pair: str, update: BookUpdate) -> bytes:
    """Return an OB_L1_SNAPSHOT or OB_L1_DIFF frame."""
    kind = "OB_L1_SNAPSHOT" if update.is_snapshot else OB_L1_DIFF
    data = {
        "lc": update.ts_event // MS_NS, "a": update.asks, "b": update.bids, "sq": update.sequence, "cs": update.checksum,
    }  # fmt: skip
    return dump({"type": kind, "ps": pair, "d": data})


def trade_frame(pair: str, trade: TickTrade) -> bytes:
    """Return a NEW_TRADE frame."""
    return _frame(NEW_TRADE, pair, trade_json(pair, trade))


def trade_json(pair: str, trade: TickTrade) -> Json:
    """Return what NEW_TRADE and REST trades have in common."""
    return {
        "price": trade.price, "quantity": trade.quantity, "currencyPair": pair, "tradedAt": iso_ms(trade.ts_event),
        "takerSide": "buy" if trade.taker_side is Side.BUY else "sell", "id": trade.trade_id,
    }  # fmt: skip


def rest_trade_json(pair: str, trade: TickTrade) -> Json:
    """Return an element of /{pair}/trades."""
    quote = Decimal(trade.price) * Decimal(trade.quantity)
    return trade_json(pair, trade) | {"sequenceId": trade.sequence_id, "quoteVolume": plain(float(quote))}


def bucket_json(
    pair: str, period_s: int, start_ns: int, prices: tuple[float, float, float, float], volume: float, quote_volume: float
) -> Json:
    """Return a candle as REST and NEW_TRADE_BUCKET have it."""
    open_, high, low, close = map(plain, prices)
    return {
        "currencyPairSymbol": pair, "bucketPeriodInSeconds": period_s, "startTime": iso_s(start_ns),
        "open": open_, "high": high, "low": low, "close": close,
        "volume": plain(volume), "quoteVolume": plain(quote_volume),
    }  # fmt: skip


def bucket_frame(pair: str, candle: VenueCandle) -> bytes:
    """Return a NEW_TRADE_BUCKET frame of a closed candle."""
    prices = (candle.open, candle.high, candle.low, candle.close)
    data = bucket_json(pair, candle.timeframe.seconds, candle.open_time, prices, candle.volume_base, candle.volume_quote)
    return _frame(NEW_TRADE_BUCKET, pair, data)


def aggregated_json(pair: str, book: BookUpdate) -> Json:
    """Return the best levels of a book, PascalCase, as REST and AGGREGATED_ORDERBOOK_UPDATE have it."""
    return {
        "Asks": [_order(pair, "sell", level) for level in book.asks[:AGGREGATED_LEVELS]],
        "Bids": [_order(pair, "buy", level) for level in book.bids[:AGGREGATED_LEVELS]],
        "LastChange": iso_ms(book.ts_event),
        "SequenceNumber": (book.sequence or 0) + BOOK_NUMBER_OFFSET,
    }


def aggregated_frame(pair: str, book: BookUpdate) -> bytes:
    """Return an AGGREGATED_ORDERBOOK_UPDATE frame."""
    return _frame(AGGREGATED_ORDERBOOK_UPDATE, pair, aggregated_json(pair, book))


def summary_frame(pair: str, summary: Json) -> bytes:
    """Return a MARKET_SUMMARY_UPDATE frame from REST's summary: the pair's key differs between the two."""
    data = {"currencyPairSymbol" if key == "currencyPair" else key: value for key, value in summary.items()}
    return _frame(MARKET_SUMMARY_UPDATE, pair, data)


def mark_price_frame(pair: str, price: str) -> bytes:
    """Return a MARK_PRICE_UPDATE frame."""
    return _frame(MARK_PRICE_UPDATE, pair, {"price": price})


def error_frame(message: str) -> bytes:
    """Return an ERROR frame; the socket stays open."""
    return dump({"type": "ERROR", "message": message})


def _frame(kind: str, pair: str, data: Json) -> bytes:
    return dump({"type": kind, "currencyPairSymbol": pair, "data": data})


def _order(pair: str, side: str, level: Level) -> Json:
    return {"side": side, "quantity": level[1], "price": level[0], "currencyPair": pair, "orderCount": 1}

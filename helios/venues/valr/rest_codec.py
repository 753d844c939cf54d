"""Bodies of VALR's public REST calls: text in, values out. Pure.

References
----------
.. [1] VALR REST API documentation, "Public APIs", docs.valr.com, read 2026-11.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from helios.domain.enums import MarketKind
from helios.domain.market import BookUpdate, Instrument, Trade, VenueCandle
from helios.errors import ProtocolError, VenueError
from helios.venues.valr.codec import decode_aggregated, decode_candle, decode_trade, is_before_trading
from helios.venues.valr.fields import (
    Json,
    as_list,
    as_object,
    decimal_field,
    parse_json,
    text_field,
    time_field,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
MAX_PLACES = 30
MAX_MESSAGE = 200


def decode_pairs(body: str | bytes, venue: str = "valr") -> list[Instrument]:
    """Decode `/v1/public/pairs`: active spot pairs and perpetuals, in ccxt's unified symbols.

    Fees are not part of this answer and stay at the defaults of `Instrument`. A row that lacks a field or has a bad one is left
    out and logged: among hundreds of pairs one must not cost all the others.

    Raises
    ------
    ProtocolError
        If the answer is no list of pairs, or all its active rows are bad.
    """
    rows = [row for row in as_list(parse_json(body), "pairs") if not isinstance(row, dict) or row.get("active") is True]
    return [made for made in _each(rows, lambda row: _pair(row, venue), "pair") if made is not None]


def decode_buckets(body: str | bytes, symbol: str) -> list[VenueCandle]:
    """Decode `/v1/public/{pair}/buckets`, newest first on the wire, into candles oldest first.

    Periods of before the pair's first trade (all prices "0") are no candles. A bucket that cannot be, or that is of a length
    nobody uses, is left out and logged; it so becomes a hole that is asked for again, and does not keep the rest of its page back.

    Raises
    ------
    ProtocolError
        If the answer is no list of buckets, or all of them are bad.
    """
    rows = as_list(parse_json(body), "buckets")
    candles = [made for made in _each(rows, lambda row: _bucket(row, symbol), "bucket") if made is not None]
    return sorted(candles, key=lambda candle: candle.open_time)


def _each(rows: list[Any], decode: Callable[[Json], T], what: str) -> list[T]:
    # What the good rows say; where there is none, the shape of the answer has changed, and its first error tells how.
    found: list[T] = []
    errors: list[ProtocolError] = []
    for row in rows:
        try:
            found.append(decode(as_object(row, what)))
        except ProtocolError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    if errors:
        log.warning("%d of %d rows left out, the first because: %s %s", len(errors), len(rows), what, errors[0])
    return found


def _pair(row: Json, venue: str) -> Instrument | None:
    decode = _DECODERS.get(text_field(row, "currencyPairType"))
    return None if decode is None else decode(row, venue)


def _bucket(row: Json, symbol: str) -> VenueCandle | None:
    if is_before_trading(row):
        return None
    candle = decode_candle(row, symbol)
    if candle is None:
        raise ProtocolError("bucket of a length that was not asked for")
    return candle


@dataclass(frozen=True, slots=True)
class RestBook:
    """The top of a book as a cache last saw it, `age_s` seconds before it answered. Not for trading on: use the stream."""

    book: BookUpdate
    age_s: float


@dataclass(frozen=True, slots=True)
class RestTrades:
    """Past trades, oldest first; the newest are those of `age_s` seconds ago.

    `is_complete` is False where the pages asked for did not reach back to the wanted start.
    """

    trades: tuple[Trade, ...]
    age_s: float
    is_complete: bool


def decode_book(body: str | bytes, symbol: str, now_ns: int) -> BookUpdate:
    """Decode `/v1/public/{pair}/orderbook`; an inactive pair has an empty one."""
    return decode_aggregated(as_object(parse_json(body), "book"), symbol, now_ns)


def decode_trades(body: str | bytes, symbol: str, now_ns: int) -> list[Trade]:
    """Decode `/v1/public/{pair}/trades`, newest first as on the wire."""
    return [decode_trade(as_object(row, "trade"), symbol, now_ns) for row in as_list(parse_json(body), "trades")]


def decode_time(body: str | bytes) -> int:
    """Decode `/v1/public/time` to ns UTC, from the field with nine digits (the other counts seconds)."""
    return time_field(as_object(parse_json(body), "time"), "time")


def decode_status(body: str | bytes) -> str:
    """Decode `/v1/public/status`: "online" or "read-only"."""
    return text_field(as_object(parse_json(body), "status"), "status")


def decode_error(status: int, body: str | bytes) -> VenueError:
    """Turn the body of a failed call into an error; the venue's front end sometimes answers with a page of HTML."""
    try:
        data = as_object(parse_json(body), "error")
    except ProtocolError:
        return VenueError(status, None, _plain(body))
    code, message = data.get("code"), data.get("message")
    words = [message] if isinstance(message, str) else []
    words += _validation_messages(data)
    known_code = code if isinstance(code, int) and not isinstance(code, bool) else None
    return VenueError(status, known_code, "; ".join(words)[:MAX_MESSAGE] or _plain(body))


def _plain(body: str | bytes) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    return " ".join(text.split())[:MAX_MESSAGE]


def _validation_messages(data: Json) -> list[str]:
    outer = data.get("validationErrors")
    errors = outer.get("errors") if isinstance(outer, dict) else None
    rows = errors if isinstance(errors, list) else []
    return [row["message"] for row in rows if isinstance(row, dict) and isinstance(row.get("message"), str)]


def _spot(row: Json, venue: str) -> Instrument:
    return _instrument(row, venue, text_field(row, "shortName"), MarketKind.SPOT, Decimal(1))


def _perpetual(row: Json, venue: str) -> Instrument:
    base, quote = text_field(row, "baseCurrency"), text_field(row, "quoteCurrency")
    fraction = decimal_field(row, "initialMarginFraction") if "initialMarginFraction" in row else Decimal(1)
    if not 0 < fraction <= 1:
        raise ProtocolError(f"initialMarginFraction out of range: {fraction}")
    return _instrument(row, venue, f"{base}/{quote}:{quote}", MarketKind.PERP, 1 / fraction)


def _instrument(row: Json, venue: str, symbol: str, kind: MarketKind, max_leverage: Decimal) -> Instrument:
    tick_size = decimal_field(row, "tickSize")
    if tick_size == 0:
        raise ProtocolError("tickSize is zero")
    return Instrument(
        symbol=symbol,
        base=text_field(row, "baseCurrency"),
        quote=text_field(row, "quoteCurrency"),
        venue=venue,
        venue_symbol=text_field(row, "symbol"),
        kind=kind,
        tick_size=tick_size,
        lot_size_base=Decimal(1).scaleb(-_places(row)),
        min_quantity_base=decimal_field(row, "minBaseAmount"),
        max_quantity_base=decimal_field(row, "maxBaseAmount"),
        min_notional_quote=decimal_field(row, "minQuoteAmount"),
        max_notional_quote=decimal_field(row, "maxQuoteAmount"),
        max_leverage=max_leverage,
    )


def _places(row: Json) -> int:
    places = decimal_field(row, "baseDecimalPlaces")
    if places != places.to_integral_value() or places > MAX_PLACES:
        raise ProtocolError(f"baseDecimalPlaces out of range: {places}")
    return int(places)


_DECODERS: dict[str, Callable[[Json, str], Instrument]] = {"SPOT": _spot, "FUTURE": _perpetual}

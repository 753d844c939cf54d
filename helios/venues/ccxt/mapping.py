"""What ccxt's unified structures mean in Helios, record by record. Pure: no clock, no socket, no ccxt.

References
----------
.. [1] ccxt 4.5.90 manual, "Market structure", "Public trades", "Order book structure", "OHLCV structure", docs.ccxt.com.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from helios.domain.enums import MarketKind, Side, Timeframe
from helios.domain.market import Instrument, Level, Trade, VenueCandle
from helios.errors import DataError

Json = Mapping[str, Any]

MS_NS = 1_000_000
NS_PER_S = 1_000_000_000
DECIMAL_PLACES, SIGNIFICANT_DIGITS, TICK_SIZE = 2, 3, 4  # ccxt's precision modes, ccxt/base/decimal_to_precision.py
UNKNOWN_FEE = Decimal("0.001")
UNLIMITED_QUANTITY, UNLIMITED_NOTIONAL = Decimal("1e9"), Decimal("1e12")
OHLCV_COLUMNS = 6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ExactNumber(float):
    """A double that remembers the decimal text it was read from.

    ccxt compares and negates prices to keep its books sorted, so they must be numbers; Helios wants the venue's own decimals.

    Parameters
    ----------
    value : str, int or float
        As in the venue's answer. A float (the venue sent a bare JSON number) gets the shortest text that reads back equal.

    Raises
    ------
    ValueError
        If it is not a number.
    """

    __slots__ = ("text",)
    text: str

    def __new__(cls, value: str | float) -> ExactNumber:
        made = super().__new__(cls, value)
        made.text = value.text if isinstance(value, ExactNumber) else str(value)
        return made


def exact(value: object, name: str) -> Decimal:
    """Return a finite number exactly as the venue wrote it.

    Raises
    ------
    DataError
        If it is missing, not a number or not finite.
    """
    text = value.text if isinstance(value, ExactNumber) else value
    if text is None or isinstance(text, bool):
        raise DataError(f"{name} is {text!r}, not a number")
    try:
        number = Decimal(str(text))
    except InvalidOperation:
        raise DataError(f"{name} is {text!r}, not a number") from None
    if not number.is_finite():
        raise DataError(f"{name} is {text}")
    return number


def text_of(number: Decimal) -> str:
    """Write a decimal without an exponent."""
    return f"{number:f}"


def kind_of(market: Json) -> MarketKind | None:
    """Return what a ccxt market is to Helios: spot, a linear perpetual, or None for anything else."""
    if market.get("spot") is True:
        return MarketKind.SPOT
    is_linear_perp = market.get("swap") is True and market.get("linear") is True and market.get("settle") == market.get("quote")
    return MarketKind.PERP if is_linear_perp else None


def to_instrument(market: Json, venue: str, precision_mode: int) -> Instrument:
    """Return the contract of a ccxt market in exact decimals; amounts of perpetuals in base units, not contracts.

    Parameters
    ----------
    market : mapping
        ccxt's unified market.
    venue : str
        Our name of the venue.
    precision_mode : int
        The exchange's `precisionMode`: TICK_SIZE or DECIMAL_PLACES.

    Raises
    ------
    DataError
        If it is neither spot nor a linear perpetual, or its steps are missing or wrong.
    """
    symbol, kind = _text(market, "symbol"), kind_of(market)
    if kind is None:
        raise DataError(f"{symbol} is neither spot nor a linear perpetual")
    size = contract_size(market)
    precision, limits = market.get("precision") or {}, market.get("limits") or {}
    tick = _step(precision.get("price"), precision_mode, f"price step of {symbol}")
    lot = _step(precision.get("amount"), precision_mode, f"quantity step of {symbol}") * size
    return Instrument(
        symbol=symbol, base=_text(market, "base"), quote=_text(market, "quote"),
        venue=venue, venue_symbol=_text(market, "id"), kind=kind,
        tick_size=tick, lot_size_base=lot,
        min_quantity_base=_limit(limits, "amount", "min", Decimal(0)) * size or lot,
        max_quantity_base=_limit(limits, "amount", "max", UNLIMITED_QUANTITY) * size,
        min_notional_quote=_limit(limits, "cost", "min", Decimal(0)),
        max_notional_quote=_limit(limits, "cost", "max", UNLIMITED_NOTIONAL),
        maker_fee=_fee(market, "maker"), taker_fee=_fee(market, "taker"),
        max_leverage=max(Decimal(1), _limit(limits, "leverage", "max", Decimal(1))) if kind is MarketKind.PERP else Decimal(1),
    )  # fmt: skip


def contract_size(market: Json) -> Decimal:
    """Return how much of the base one unit of ccxt's amounts is: 1 for spot, the contract's size for a perpetual."""
    size = market.get("contractSize")
    if kind_of(market) is not MarketKind.PERP or size is None:
        return Decimal(1)
    number = exact(size, f"contract size of {market.get('symbol')}")
    if number <= 0:
        raise DataError(f"contract size of {market.get('symbol')} is {number}")
    return number


def to_candle(row: Sequence[object], symbol: str, timeframe: Timeframe, size: Decimal = Decimal(1)) -> VenueCandle:
    """Return one OHLCV row (ms, open, high, low, close, volume) as a candle.

    Raises
    ------
    DataError
        If a number is missing or impossible, or the time is not the start of a bucket.
    """
    if not isinstance(row, list | tuple) or len(row) < OHLCV_COLUMNS or not isinstance(row[0], int):
        raise DataError(f"{symbol}: not a candle: {str(row)[:80]}")
    opened = row[0] * MS_NS
    o, h, lo, c = (float(exact(v, f"{symbol} candle price")) for v in row[1:5])
    volume = float(exact(row[5], f"{symbol} candle volume") * size)
    if opened % timeframe.ns or opened < 0:
        raise DataError(f"{symbol}: candle opens at {row[0]} ms, not a multiple of {timeframe.value}")
    if not (0.0 < lo <= min(o, c) and max(o, c) <= h) or volume < 0.0:
        raise DataError(f"{symbol}: impossible candle {o} {h} {lo} {c} {volume}")
    return VenueCandle(symbol, timeframe, opened, o, h, lo, c, volume)


def to_trade(trade: Json, symbol: str, ts_init: int, size: Decimal = Decimal(1), *, is_maker_side: bool = False) -> Trade:
    """Return ccxt's unified trade as a public print.

    Parameters
    ----------
    trade : mapping
        Keys id, price, amount, side, timestamp (ms) and datetime.
    symbol : str
        Whose it is.
    ts_init : int
        Our time of arrival, ns.
    size : Decimal, default=1
        Base units per ccxt unit.
    is_maker_side : bool, default=False
        The venue's `side` is that of the resting order.

    Raises
    ------
    DataError
        If the id, price, quantity, side or time is missing or impossible.
    """
    side = {"buy": Side.BUY, "sell": Side.SELL}.get(str(trade.get("side")))
    trade_id, price, quantity = trade.get("id"), exact(trade.get("price"), "price"), exact(trade.get("amount"), "quantity") * size
    if side is None or trade_id in (None, ""):
        raise DataError(f"{symbol}: trade without {'side' if side is None else 'id'}")
    if price <= 0 or quantity <= 0:
        raise DataError(f"{symbol}: trade of {quantity} at {price}")
    ts_event = exact_ns(trade.get("timestamp"), trade.get("datetime"))
    return Trade(symbol, str(trade_id), float(price), float(quantity), side.opposite if is_maker_side else side, ts_event, ts_init)


def exact_ns(timestamp_ms: object, iso: object) -> int:
    """Return a time in ns: ccxt's milliseconds, refined by the venue's ISO text where that is finer and agrees."""
    if not isinstance(timestamp_ms, int) or isinstance(timestamp_ms, bool) or timestamp_ms <= 0:
        raise DataError(f"trade time is {timestamp_ms!r}")
    coarse = timestamp_ms * MS_NS
    if isinstance(iso, str) and len(iso) > len("2026-01-01T00:00:00.000Z"):
        try:
            fine = _iso_ns(iso)
        except ValueError:
            return coarse
        return fine if 0 <= fine - coarse < MS_NS else coarse
    return coarse


def with_ids(page: Iterable[Json]) -> list[Json]:
    """Give each trade of a REST page an id where the venue gives none: what it says, and which of its equals it is."""
    counts: dict[tuple[object, ...], int] = {}
    named: list[Json] = []
    for trade in page:
        if trade.get("id") in (None, ""):
            key = tuple(str(trade.get(field)) for field in ("timestamp", "side", "price", "amount"))
            counts[key] = counts.get(key, 0) + 1
            trade = {**trade, "id": "-".join([*map(str, key), str(counts[key])])}
        named.append(trade)
    return named


def to_levels(side: Sequence[Sequence[object]], n_levels: int, size: Decimal = Decimal(1)) -> tuple[Level, ...]:
    """Return the best `n_levels` of a ccxt book side as decimal text, in ccxt's order.

    Raises
    ------
    DataError
        If a price is not positive or a quantity not at least 0, or either is not a number.
    """
    return tuple([_level(row, size) for row in side[:n_levels]])


def _level(row: Sequence[object], size: Decimal) -> Level:
    price, quantity = row[0], row[1]
    if isinstance(price, ExactNumber) and isinstance(quantity, ExactNumber) and size == 1:
        # The hot path: thousands a second, and both numbers have been read already.
        if not (0.0 < price < math.inf and 0.0 <= quantity < math.inf):
            raise DataError(f"book level {price.text}:{quantity.text}")
        return price.text, quantity.text
    exact_price, exact_quantity = exact(price, "book price"), exact(quantity, "book quantity") * size
    if exact_price <= 0 or exact_quantity < 0:
        raise DataError(f"book level {exact_price}:{exact_quantity}")
    return text_of(exact_price), text_of(exact_quantity)


def _step(value: object, mode: int, name: str) -> Decimal:
    number = exact(value, name)
    if mode == DECIMAL_PLACES:
        return Decimal(1).scaleb(-int(number))
    if mode != TICK_SIZE:
        raise DataError(f"{name}: significant digits are not a step")
    if number <= 0:
        raise DataError(f"{name} is {number}")
    return number


def _limit(limits: Json, name: str, end: str, default: Decimal) -> Decimal:
    value = (limits.get(name) or {}).get(end)
    number = default if value is None else exact(value, f"{end} {name}")
    return default if number <= 0 else number


def _fee(market: Json, name: str) -> Decimal:
    value = market.get(name)
    return UNKNOWN_FEE if value is None else exact(value, f"{name} fee of {market.get('symbol')}")


def _text(market: Json, name: str) -> str:
    value = market.get(name)
    if not isinstance(value, str) or not value:
        raise DataError(f"market without {name}: {str(market.get('id'))[:40]}")
    return value


def _iso_ns(iso: str) -> int:
    # datetime keeps microseconds; venues write up to nine digits.
    whole, _, rest = iso.removesuffix("Z").partition(".")
    delta = datetime.fromisoformat(whole + "+00:00") - _EPOCH
    if not rest.isdigit() or len(rest) > 9:
        raise ValueError(iso)
    return (delta.days * 86_400 + delta.seconds) * NS_PER_S + int(rest.ljust(9, "0"))

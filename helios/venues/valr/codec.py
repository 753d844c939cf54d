"""Frames of VALR's trade socket: text in, events out, and the few frames a client sends. Pure.

References
----------
.. [1] VALR WebSocket API documentation, docs.valr.com, read 2026-11. Where the wire is known to differ from the
   documentation (nesting, PascalCase books, optional ids) the wire holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from helios.domain.enums import Timeframe
from helios.domain.market import NAN, BookUpdate, Level, Trade, VenueCandle
from helios.venues.valr import build
from helios.venues.valr.events import (
    AllowedOrderTypes,
    Authenticated,
    FundingRunCompleted,
    Ignored,
    MarketSummary,
    MarkPrice,
    OrderEntry,
    OrdersUpdate,
    PnlRunCompleted,
    Pong,
    Refused,
    ServerError,
    Subscribed,
    Unsubscribed,
    ValrEvent,
)
from helios.venues.valr.fields import (
    FieldError,
    Json,
    as_list,
    as_object,
    decimal_text,
    float_field,
    int_field,
    is_plain,
    list_field,
    millis_field,
    object_field,
    parse_json,
    positive_field,
    side_field,
    text_field,
    time_field,
    timeframe_field,
    volume_field,
)

MAX_CRC = 2**32 - 1
GOOD_PRICES_KEPT = 50_000
_DEPTH_SNAPSHOT = re.compile(r"OB_L1_D[0-9]{1,4}_SNAPSHOT")
_Decode = Callable[[Json, str, int], ValrEvent]


def decode_frame(text: str | bytes, to_symbol: Mapping[str, str], now_ns: int) -> list[ValrEvent]:
    """Decode one frame; see `decode_event`, whose answer comes in a list of one."""
    return [decode_event(text, to_symbol, now_ns)]


def decode_event(text: str | bytes, to_symbol: Mapping[str, str], now_ns: int) -> ValrEvent:
    """Decode one frame.

    Parameters
    ----------
    text : str or bytes
        The frame as received.
    to_symbol : mapping of str to str
        VALR pair to Helios symbol. Frames of other pairs come out as `Ignored`.
    now_ns : int
        Local time of arrival, ns UTC; becomes `ts_init`.

    Returns
    -------
    event : ValrEvent
        What the frame says: every frame of this protocol says one thing.

    Raises
    ------
    ProtocolError
        For anything outside the protocol: not JSON, a missing field, a wrong type, a bad decimal, a price or traded
        quantity that is not positive. No other error can come out. `FieldError.field` names what was wrong.
    """
    frame = as_object(parse_json(text), "frame")
    kind = frame.get("type")
    if type(kind) is not str or not kind:
        raise FieldError("type", "no text under type")
    decode = _MARKET.get(kind)
    if decode is None:
        control = _CONTROLS.get(kind)
        if control is not None:
            return control(frame)
        if _DEPTH_SNAPSHOT.fullmatch(kind) is None:
            return Ignored(kind)
        decode = _depth
    # Order-book level frames say `ps`; the others `currencyPairSymbol`.
    pair = frame.get("ps") or frame.get("currencyPairSymbol")
    if type(pair) is not str or not pair:
        pair = _pair(frame)
    symbol = to_symbol.get(pair)
    return Ignored(kind) if symbol is None else decode(frame, symbol, now_ns)


def subscribe_frame(subscriptions: Mapping[str, Sequence[str]]) -> str:
    """Encode a SUBSCRIBE. The list of an event replaces the one before it; an empty list ends the event.

    Parameters
    ----------
    subscriptions : mapping of str to sequence of str
        Event name to VALR pairs.
    """
    wanted = [{"event": event, "pairs": list(pairs)} for event, pairs in subscriptions.items()]
    return orjson.dumps({"type": "SUBSCRIBE", "subscriptions": wanted}).decode()


def ping_frame() -> str:
    """Encode the application's keep-alive; the venue closes sockets that say nothing for a minute."""
    return '{"type":"PING"}'


def is_before_trading(data: Json) -> bool:
    """Return whether a bucket has no price at all: nothing was traded yet, so not even a last close could be repeated.

    The venue writes "0" for prices that do not exist (seen in summaries of illiquid pairs).
    """
    prices = [data.get(name) for name in ("open", "high", "low", "close")]
    return all(is_plain(price) and float(price) == 0.0 for price in prices)


def decode_candle(data: Json, symbol: str) -> VenueCandle | None:
    """Decode a bucket of the socket or of REST; None if its length is not one of our timeframes.

    Raises
    ------
    ProtocolError
        If a field is bad or the prices contradict each other.
    """
    timeframe = timeframe_field(data, "bucketPeriodInSeconds")
    return None if timeframe is None else _candle(data, symbol, timeframe)


def _candle(data: Json, symbol: str, timeframe: Timeframe) -> VenueCandle:
    opening, high, low, close = (positive_field(data, name) for name in ("open", "high", "low", "close"))
    if not low <= min(opening, close) <= max(opening, close) <= high:
        raise FieldError("candle", f"impossible candle: open {opening} high {high} low {low} close {close}")
    return VenueCandle(
        symbol=symbol,
        timeframe=timeframe,
        open_time=time_field(data, "startTime"),
        open=opening,
        high=high,
        low=low,
        close=close,
        volume_base=volume_field(data, "volume"),
        volume_quote=_optional_volume(data, "quoteVolume"),
    )


def _pair(frame: Json) -> str:
    # Older samples say `currencyPair`, some only inside `data`.
    data = frame.get("data")
    inner = data if isinstance(data, dict) else {}
    return text_field({**inner, **frame}, "ps", "currencyPairSymbol", "currencyPair")


def _trade(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    return decode_trade(object_field(frame, "data"), symbol, now_ns)


def decode_trade(data: Json, symbol: str, now_ns: int) -> Trade:
    """Decode a public trade of the socket or of REST.

    Raises
    ------
    ProtocolError
        If a field is bad.
    """
    price, quantity, side = positive_field(data, "price"), positive_field(data, "quantity"), side_field(data, "takerSide")
    traded_at = time_field(data, "tradedAt")
    # An old sample has no id; a print then is named by its contents, so that a repeat is still recognised.
    trade_id = data.get("id") or f"{traded_at}:{data['price']}:{data['quantity']}:{side.name}"
    if type(trade_id) is not str:
        raise FieldError("id", "trade id is not text")
    return build.trade(symbol, trade_id, price, quantity, side, traded_at, now_ns)


def _levels(rows: list[Any]) -> tuple[Level, ...]:
    levels: list[Level] = []
    for row in rows:
        if type(row) is list and len(row) == 2:
            price, quantity = row
            if type(price) is str and (price in _good_prices or _is_good_price(price)) and is_plain(quantity):
                levels.append((price, quantity))
                continue
        levels.append(_level(row))
    return tuple(levels)


_good_prices: set[str] = set()  # prices come again and again; looking one up costs a tenth of checking it


def _is_good_price(price: str) -> bool:
    if not is_plain(price) or not float(price) > 0.0:
        return False
    if len(_good_prices) >= GOOD_PRICES_KEPT:
        _good_prices.clear()
    _good_prices.add(price)
    return True


def _level(row: Any) -> Level:
    pair = as_list(row, "level")
    if len(pair) != 2:
        raise FieldError("level", "a level is not a price and a quantity")
    return _checked_level(pair[0], pair[1])


def _checked_level(price: Any, quantity: Any) -> Level:
    level = decimal_text(price, "level price"), decimal_text(quantity, "level quantity")
    if not 0 < float(level[0]) < float("inf") or not 0 <= float(level[1]) < float("inf"):
        raise FieldError("level", f"impossible level: {level}")
    return level


def _sequenced(is_snapshot: bool) -> _Decode:
    def decode(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
        data = object_field(frame, "d")
        bids, asks = _levels(list_field(data, "b")), _levels(list_field(data, "a"))
        sequence, checksum = int_field(data, "sq"), int_field(data, "cs", MAX_CRC)
        return build.book_update(symbol, is_snapshot, bids, asks, sequence, checksum, millis_field(data, "lc"), now_ns)

    return decode


def _depth(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    data = object_field(frame, "d")
    bids, asks = _levels(list_field(data, "b")), _levels(list_field(data, "a"))
    return build.book_update(symbol, True, bids, asks, None, None, millis_field(data, "lc"), now_ns)


def _orders(is_snapshot: bool) -> _Decode:
    def decode(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
        data = object_field(frame, "data")
        return OrdersUpdate(
            symbol=symbol,
            is_snapshot=is_snapshot,
            bids=_order_entries(data, "Bids"),
            asks=_order_entries(data, "Asks"),
            sequence=int_field(data, "SequenceNumber"),
            checksum=int_field(data, "Checksum", MAX_CRC),
            ts_event=millis_field(data, "LastChange"),
            ts_init=now_ns,
        )

    return decode


def _order_entries(data: Json, side: str) -> tuple[OrderEntry, ...]:
    entries: list[OrderEntry] = []
    for row in list_field(data, side):
        level = as_object(row, "level")
        price = level.get("Price")
        for order in list_field(level, "Orders"):
            entry = as_object(order, "order")
            entries.append((*_checked_level(price, entry.get("quantity")), text_field(entry, "orderId")))
    return tuple(entries)


def _aggregated(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    return decode_aggregated(object_field(frame, "data"), symbol, now_ns)


def decode_aggregated(data: Json, symbol: str, now_ns: int) -> BookUpdate:
    """Decode the top of a book, of the socket or of REST; its SequenceNumber does not count updates and is left out.

    Raises
    ------
    ProtocolError
        If a field is bad.
    """
    sides = [[as_object(row, "level") for row in list_field(data, name)] for name in ("Bids", "Asks")]
    bids, asks = (tuple([_checked_level(row.get("price"), row.get("quantity")) for row in rows]) for rows in sides)
    return build.book_update(symbol, True, bids, asks, None, None, time_field(data, "LastChange"), now_ns)


def _bucket(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    data = object_field(frame, "data")
    return (None if is_before_trading(data) else decode_candle(data, symbol)) or Ignored("NEW_TRADE_BUCKET")


def _quote(data: Json, name: str) -> float:
    return _optional_volume(data, name) or NAN  # illiquid pairs quote "0" for a side nobody offers


def _optional_volume(data: Json, name: str) -> float:
    return NAN if data.get(name) is None else volume_field(data, name)


def _summary(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    data = object_field(frame, "data")
    return MarketSummary(
        symbol=symbol,
        bid=_quote(data, "bidPrice"),
        ask=_quote(data, "askPrice"),
        last=_quote(data, "lastTradedPrice"),
        mark=_quote(data, "markPrice"),
        previous_close=_quote(data, "previousClosePrice"),
        high_24h=_quote(data, "highPrice"),
        low_24h=_quote(data, "lowPrice"),
        volume_base_24h=_optional_volume(data, "baseVolume"),
        volume_quote_24h=_optional_volume(data, "quoteVolume"),
        change_pct_24h=NAN if data.get("changeFromPrevious") is None else float_field(data, "changeFromPrevious"),
        ts_event=time_field(data, "created"),
        ts_init=now_ns,
    )


def _mark(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    return MarkPrice(symbol, positive_field(object_field(frame, "data"), "price"), now_ns)


def _order_types(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    types = list_field(frame, "data")
    if not all(isinstance(name, str) and name for name in types):
        raise FieldError("data", "an order type is not text")
    return AllowedOrderTypes(symbol, tuple(types), now_ns)


def _pnl_run(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    return PnlRunCompleted(symbol, positive_field(object_field(frame, "data"), "price"), now_ns)


def _funding_run(frame: Json, symbol: str, now_ns: int) -> ValrEvent:
    return FundingRunCompleted(symbol, now_ns)


def _channel(frame: Json) -> tuple[str, str]:
    event, _, pair = text_field(frame, "message").partition(":")
    if not event:
        raise FieldError("message", "acknowledgement without an event")
    return event, pair


def _optional_message(frame: Json) -> str:
    message = frame.get("message", "")
    if not isinstance(message, str):
        raise FieldError("message", "message is not text")
    return message


_CONTROLS: dict[str, Callable[[Json], ValrEvent]] = {
    "SUBSCRIBED": lambda frame: Subscribed(*_channel(frame)),
    "UNSUBSCRIBED": lambda frame: Unsubscribed(*_channel(frame)),
    "PONG": lambda frame: Pong(_optional_message(frame)),
    "AUTHENTICATED": lambda frame: Authenticated(),
    "ERROR": lambda frame: ServerError(_optional_message(frame)),
    # Seen in older clients' lists of types, bodies unknown: whatever they say in `message` is kept.
    "UNAUTHORIZED": lambda frame: Refused("UNAUTHORIZED", _optional_message(frame)),
    "UNSUPPORTED": lambda frame: Refused("UNSUPPORTED", _optional_message(frame)),
}
_MARKET: dict[str, _Decode] = {
    "OB_L1_DIFF": _sequenced(False),
    "NEW_TRADE": _trade,
    "OB_L1_SNAPSHOT": _sequenced(True),
    **{f"OB_L1_D{depth}_SNAPSHOT": _depth for depth in (1, 5, 10, 20, 40, 60, 80)},
    "AGGREGATED_ORDERBOOK_UPDATE": _aggregated,
    "MARKET_SUMMARY_UPDATE": _summary,
    "MARK_PRICE_UPDATE": _mark,
    "NEW_TRADE_BUCKET": _bucket,
    "FULL_ORDERBOOK_SNAPSHOT": _orders(True),
    "FULL_ORDERBOOK_UPDATE": _orders(False),
    "ALLOWED_ORDER_TYPES_UPDATED": _order_types,
    "PNL_RUN_COMPLETED": _pnl_run,
    "FUNDING_RUN_COMPLETED": _funding_run,
}

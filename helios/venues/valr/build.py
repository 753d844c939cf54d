"""The two values of the hot path, built at half the price of their constructors.

A frozen dataclass sets each field through `object.__setattr__`, which looks the slot up by name; the slots' own descriptors
need no look-up. The values are the same in every respect, and a test holds them against the constructors.
"""

from __future__ import annotations

from typing import Any

from helios.domain.enums import Side
from helios.domain.market import BookUpdate, Level, Trade

_new = object.__new__


def _setters(cls: type) -> list[Any]:
    return [vars(cls)[name].__set__ for name in cls.__dataclass_fields__]  # type: ignore[attr-defined]


# Unpacking fails here, at import, if a field is ever added to one of the two and not to its builder.
_b_symbol, _b_is_snapshot, _b_bids, _b_asks, _b_sequence, _b_checksum, _b_ts_event, _b_ts_init = _setters(BookUpdate)
_t_symbol, _t_trade_id, _t_price, _t_quantity, _t_taker_side, _t_ts_event, _t_ts_init = _setters(Trade)


def book_update(
    symbol: str,
    is_snapshot: bool,
    bids: tuple[Level, ...],
    asks: tuple[Level, ...],
    sequence: int | None,
    checksum: int | None,
    ts_event: int,
    ts_init: int,
) -> BookUpdate:
    """Return BookUpdate(...) of the same arguments."""
    book = _new(BookUpdate)
    _b_symbol(book, symbol)
    _b_is_snapshot(book, is_snapshot)
    _b_bids(book, bids)
    _b_asks(book, asks)
    _b_sequence(book, sequence)
    _b_checksum(book, checksum)
    _b_ts_event(book, ts_event)
    _b_ts_init(book, ts_init)
    return book


def trade(symbol: str, trade_id: str, price: float, quantity: float, taker_side: Side, ts_event: int, ts_init: int) -> Trade:
    """Return Trade(...) of the same arguments."""
    made = _new(Trade)
    _t_symbol(made, symbol)
    _t_trade_id(made, trade_id)
    _t_price(made, price)
    _t_quantity(made, quantity)
    _t_taker_side(made, taker_side)
    _t_ts_event(made, ts_event)
    _t_ts_init(made, ts_init)
    return made

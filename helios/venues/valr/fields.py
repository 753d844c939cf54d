"""Checked access to the fields of VALR's JSON: whatever is missing, of the wrong type or out of range is a ProtocolError."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeGuard

import orjson

from helios.domain.enums import Side, Timeframe
from helios.errors import ProtocolError

Json = dict[str, Any]

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MAX_NS = 2**63 - 1
MAX_DIGITS = 64  # far beyond any price or quantity; bounds what a hostile frame can make Decimal do

_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_FRACTION = re.compile(r"(?:\.([0-9]{1,9}))?(?:Z|\+00:00)")
_SECOND_LENGTH: Final = 19
_MILLIS_LENGTH: Final = 24  # of 2026-09-23T03:14:35.175Z
_TIMEFRAMES = {timeframe.seconds: timeframe for timeframe in Timeframe}
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


class FieldError(ProtocolError):
    """A field is missing, of the wrong type or out of range.

    Parameters
    ----------
    field : str
        Which one, in the words of this program: a reason to count malformed frames by (`json` for no JSON at all).
    message : str
        What is wrong with it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)  # all of them, so that it survives pickling between processes
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return self.message


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; anything else is a ProtocolError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise FieldError("json", f"not JSON: {error}") from error


def as_object(value: Any, what: str) -> Json:
    """Return `value` if it is a JSON object."""
    if type(value) is not dict:
        raise FieldError(what, f"{what} is not an object")
    return value


def as_list(value: Any, what: str) -> list[Any]:
    """Return `value` if it is a JSON array."""
    if type(value) is not list:
        raise FieldError(what, f"{what} is not an array")
    return value


def object_field(data: Json, name: str) -> Json:
    """Return the object under `name`."""
    return as_object(data.get(name), name)


def list_field(data: Json, name: str) -> list[Any]:
    """Return the array under `name`."""
    return as_list(data.get(name), name)


def text_field(data: Json, *names: str) -> str:
    """Return the first non-empty string under `names` (VALR calls some fields differently in different places)."""
    for name in names:
        value = data.get(name)
        if type(value) is str and value:
            return value
    raise FieldError(names[0], f"no text under {' or '.join(names)}")


def int_field(data: Json, name: str, upper: int = MAX_NS) -> int:
    """Return the integer under `name`, within 0 and `upper`."""
    value = data.get(name)
    if type(value) is int and 0 <= value <= upper:  # a JSON true is of type bool
        return value
    raise FieldError(name, f"{name} is not an integer from 0 to {upper}: {value!r:.80}")


def is_plain(value: Any) -> TypeGuard[str]:
    """Return whether `value` is text of ASCII digits with at most one point between them: a finite number, at least 0.

    Half the price of the regular expression, which stays for the rare signs and exponents.
    """
    return (
        type(value) is str
        and len(value) <= MAX_DIGITS
        and value.isascii()
        and (value.isdecimal() or (value.replace(".", "", 1).isdecimal() and value[0] != "." != value[-1]))
    )


def decimal_text(value: Any, what: str) -> str:
    """Return `value` if it is a string holding a decimal number."""
    if is_plain(value) or (isinstance(value, str) and len(value) <= MAX_DIGITS and _DECIMAL.fullmatch(value) is not None):
        return str(value)
    raise FieldError(what, f"{what} is not a decimal string: {value!r:.80}")


def decimal_field(data: Json, name: str) -> Decimal:
    """Return the exact number under `name`, at least 0."""
    number = Decimal(decimal_text(data.get(name), name))
    if number < 0:
        raise FieldError(name, f"{name} is negative: {number}")
    return number


def float_field(data: Json, name: str) -> float:
    """Return the finite number under `name`."""
    number = float(decimal_text(data.get(name), name))
    if not math.isfinite(number):
        raise FieldError(name, f"{name} is out of range")
    return number


def positive_field(data: Json, name: str) -> float:
    """Return the number under `name`, above 0."""
    value = data.get(name)
    number = float(value) if is_plain(value) else float_field(data, name)
    if number <= 0:
        raise FieldError(name, f"{name} is not positive: {number}")
    return number


def volume_field(data: Json, name: str) -> float:
    """Return the number under `name`, at least 0."""
    value = data.get(name)
    if is_plain(value):
        return float(value)
    number = float_field(data, name)
    if number < 0:
        raise FieldError(name, f"{name} is negative: {number}")
    return number


def side_field(data: Json, name: str) -> Side:
    """Return the side under `name`, "buy" or "sell" in any case."""
    text = text_field(data, name)
    side = _SIDES.get(text) or _SIDES.get(text.lower())
    if side is None:
        raise FieldError(name, f"{name} is not a side")
    return side


def time_field(data: Json, *names: str) -> int:
    """Return the ISO-8601 UTC time under one of `names` as ns, to the last of up to nine digits."""
    text = text_field(data, *names)
    second_ns = _second_ns(text[:_SECOND_LENGTH])
    if second_ns is not None:
        millis = text[20:23]
        if len(text) == _MILLIS_LENGTH and text[19] == "." and text[23] == "Z" and millis.isascii() and millis.isdecimal():
            return second_ns + int(millis) * NS_PER_MS
        match = _FRACTION.fullmatch(text, _SECOND_LENGTH)
        if match is not None:
            return second_ns + int((match[1] or "").ljust(9, "0"))
    raise FieldError(names[0], f"not a UTC time: {text!r:.80}")


@lru_cache(maxsize=4096)
def _second_ns(text: str) -> int | None:
    # Most frames of a stream fall into the same few seconds, so nearly all of them find theirs parsed already.
    if _SECOND.fullmatch(text) is None:
        return None
    try:
        ns = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S
    except ValueError:
        return None
    return ns if 0 <= ns < MAX_NS - NS_PER_S else None


def millis_field(data: Json, name: str) -> int:
    """Return the epoch milliseconds under `name` as ns."""
    return int_field(data, name, MAX_NS // NS_PER_MS) * NS_PER_MS


def timeframe_field(data: Json, name: str) -> Timeframe | None:
    """Return the timeframe of so many seconds, None for a period that Helios does not use."""
    return _TIMEFRAMES.get(int_field(data, name))

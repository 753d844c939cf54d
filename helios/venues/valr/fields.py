"""Checked access to the fields of VALR's JSON: whatever is missing, of the wrong type or out of range is a ProtocolError."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from helios.domain.enums import Side, Timeframe
from helios.errors import ProtocolError

Json = dict[str, Any]

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MAX_NS = 2**63 - 1
MAX_DIGITS = 64  # far beyond any price or quantity; bounds what a hostile frame can make Decimal do

_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|\+00:00)")
_TIMEFRAMES = {timeframe.seconds: timeframe for timeframe in Timeframe}
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; anything else is a ProtocolError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"not JSON: {error}") from error


def as_object(value: Any, what: str) -> Json:
    """Return `value` if it is a JSON object."""
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} is not an object")
    return value


def as_list(value: Any, what: str) -> list[Any]:
    """Return `value` if it is a JSON array."""
    if not isinstance(value, list):
        raise ProtocolError(f"{what} is not an array")
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
        if isinstance(value, str) and value:
            return value
    raise ProtocolError(f"no text under {' or '.join(names)}")


def int_field(data: Json, name: str, upper: int = MAX_NS) -> int:
    """Return the integer under `name`, within 0 and `upper`."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= upper:
        raise ProtocolError(f"{name} is not an integer from 0 to {upper}: {value!r:.80}")
    return value


def decimal_text(value: Any, what: str) -> str:
    """Return `value` if it is a string holding a decimal number."""
    if not isinstance(value, str) or len(value) > MAX_DIGITS or _DECIMAL.fullmatch(value) is None:
        raise ProtocolError(f"{what} is not a decimal string: {value!r:.80}")
    return value


def decimal_field(data: Json, name: str) -> Decimal:
    """Return the exact number under `name`, at least 0."""
    number = Decimal(decimal_text(data.get(name), name))
    if number < 0:
        raise ProtocolError(f"{name} is negative: {number}")
    return number


def float_field(data: Json, name: str) -> float:
    """Return the finite number under `name`."""
    number = float(decimal_text(data.get(name), name))
    if not math.isfinite(number):
        raise ProtocolError(f"{name} is out of range")
    return number


def positive_field(data: Json, name: str) -> float:
    """Return the number under `name`, above 0."""
    number = float_field(data, name)
    if number <= 0:
        raise ProtocolError(f"{name} is not positive: {number}")
    return number


def volume_field(data: Json, name: str) -> float:
    """Return the number under `name`, at least 0."""
    number = float_field(data, name)
    if number < 0:
        raise ProtocolError(f"{name} is negative: {number}")
    return number


def side_field(data: Json, name: str) -> Side:
    """Return the side under `name`, "buy" or "sell" in any case."""
    side = _SIDES.get(text_field(data, name).lower())
    if side is None:
        raise ProtocolError(f"{name} is not a side")
    return side


def time_field(data: Json, *names: str) -> int:
    """Return the ISO-8601 UTC time under one of `names` as ns, to the last of up to nine digits."""
    text = text_field(data, *names)
    match = _TIME.fullmatch(text)
    if match is None:
        raise ProtocolError(f"not a UTC time: {text!r:.80}")
    try:
        whole_s = int(datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise ProtocolError(f"not a UTC time: {text!r:.80}") from error
    ns = whole_s * NS_PER_S + int((match[2] or "").ljust(9, "0"))
    if not 0 <= ns <= MAX_NS:
        raise ProtocolError(f"time out of range: {text!r:.80}")
    return ns


def millis_field(data: Json, name: str) -> int:
    """Return the epoch milliseconds under `name` as ns."""
    return int_field(data, name, MAX_NS // NS_PER_MS) * NS_PER_MS


def timeframe_field(data: Json, name: str) -> Timeframe | None:
    """Return the timeframe of so many seconds, None for a period that Helios does not use."""
    return _TIMEFRAMES.get(int_field(data, name))

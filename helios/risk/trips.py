"""A trip of a breaker, and the form in which the board's memory outlives a restart."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from helios.domain.enums import TradingState
from helios.errors import DataError

VERSION = 1


class TripCode(StrEnum):
    """What can trip."""

    EQUITY_NOT_POSITIVE = "EQUITY_NOT_POSITIVE"
    MAX_DRAWDOWN = "MAX_DRAWDOWN"
    MAX_DAILY_LOSS = "MAX_DAILY_LOSS"
    MAX_DAILY_LOSS_QUOTE = "MAX_DAILY_LOSS_QUOTE"
    MAX_CONSECUTIVE_LOSSES = "MAX_CONSECUTIVE_LOSSES"
    TRADE_FREQUENCY = "TRADE_FREQUENCY"
    COMPONENTS_UNHEALTHY = "COMPONENTS_UNHEALTHY"
    ACCOUNT_STALE = "ACCOUNT_STALE"
    VOLATILITY_BREAKER = "VOLATILITY_BREAKER"
    STATE_UNREADABLE = "STATE_UNREADABLE"


class ResetRule(StrEnum):
    """What lets a breaker go again, once what tripped it is over."""

    MANUAL = "MANUAL"  # a person
    MANUAL_OR_COOLDOWN = "MANUAL_OR_COOLDOWN"  # a person, or after auto_reset_h where that is set
    NEXT_DAY = "NEXT_DAY"  # 00:00 UTC
    NEXT_DAY_OR_WIN = "NEXT_DAY_OR_WIN"  # 00:00 UTC or a winning trade, as the account counts its losses
    COOLDOWN = "COOLDOWN"  # trade_cooldown_s
    WHILE = "WHILE"  # at once
    HYSTERESIS = "HYSTERESIS"  # at volatility_release times the limit


@dataclass(frozen=True, slots=True)
class Trip:
    """One breaker that has tripped.

    Attributes
    ----------
    state : TradingState
        What it demands of the whole account; ACTIVE where it blocks one `symbol` only.
    value, limit : float
        What was found at the trip; NaN where there is no number.
    tripped_at, until_ns, released_at : int
        ns UTC. `until_ns` is the earliest end by time alone, 0 where time does not end it; `released_at` 0 while it is open.
    """

    code: TripCode
    state: TradingState
    detail: str
    value: float
    limit: float
    tripped_at: int
    reset_rule: ResetRule
    until_ns: int = 0
    symbol: str = ""
    released_at: int = 0

    @property
    def key(self) -> str:
        """Code, with the symbol where it is of one."""
        return f"{self.code.value}:{self.symbol}" if self.symbol else self.code.value

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values; numbers that are none become None."""
        return {
            "code": self.code.value,
            "state": self.state.value,
            "detail": self.detail,
            "value": self.value if math.isfinite(self.value) else None,
            "limit": self.limit if math.isfinite(self.limit) else None,
            "tripped_at": self.tripped_at,
            "reset_rule": self.reset_rule.value,
            "until_ns": self.until_ns,
            "symbol": self.symbol,
            "released_at": self.released_at,
        }


@dataclass(slots=True)
class BoardState:
    """What a board remembers.

    Attributes
    ----------
    entries : (int, int) or None
        UTC day number and the entries of that day at the last look.
    trade_times : list of int
        ns UTC at which entries were first seen, within the window.
    rebased : (Decimal, Decimal) or None
        The account's peak that a reset of the drawdown put aside, and the peak since.
    """

    trips: dict[str, Trip] = field(default_factory=dict)
    now_ns: int = 0
    account_ts: int = -1
    entries: tuple[int, int] | None = None
    trade_times: list[int] = field(default_factory=list)
    rebased: tuple[Decimal, Decimal] | None = None


def dump_state(state: BoardState) -> str:
    """Return the state as JSON with its version."""
    tree = {
        "version": VERSION,
        "trips": [state.trips[key].to_json() for key in sorted(state.trips)],
        "now_ns": state.now_ns,
        "account_ts": state.account_ts,
        "entries": None if state.entries is None else list(state.entries),
        "trade_times": state.trade_times,
        "rebased": None if state.rebased is None else [str(value) for value in state.rebased],
    }
    return json.dumps(tree, allow_nan=False)


def load_state(text: str | bytes) -> BoardState:
    """Read what `dump_state` wrote.

    Raises
    ------
    DataError
        If it is not JSON, of another version, or a part is missing or not what it should be.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("the state of the breakers is not JSON") from None
    if not isinstance(tree, dict) or tree.get("version") != VERSION:
        found = tree.get("version") if isinstance(tree, dict) else None
        raise DataError(f"the state of the breakers has version {found!r}, this program reads {VERSION}")
    try:
        return _state(tree)
    except (LookupError, TypeError, ValueError, InvalidOperation) as error:
        raise DataError(f"the state of the breakers is damaged: {error!r}") from None


def _state(tree: dict[str, Any]) -> BoardState:
    trips = [_trip(part) for part in tree["trips"]]
    entries, rebased = tree["entries"], tree["rebased"]
    return BoardState(
        trips={trip.key: trip for trip in trips},
        now_ns=_integer(tree["now_ns"]),
        account_ts=_integer(tree["account_ts"]),
        entries=None if entries is None else (_integer(entries[0]), _integer(entries[1])),
        trade_times=[_integer(value) for value in tree["trade_times"]],
        rebased=None if rebased is None else (_amount(rebased[0]), _amount(rebased[1])),
    )


def _trip(part: dict[str, Any]) -> Trip:
    return Trip(
        TripCode(part["code"]),
        TradingState(part["state"]),
        _text(part["detail"]),
        _number(part["value"]),
        _number(part["limit"]),
        _integer(part["tripped_at"]),
        ResetRule(part["reset_rule"]),
        _integer(part["until_ns"]),
        _text(part["symbol"]),
    )


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not an integer")
    return value


def _number(value: object) -> float:
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise TypeError(f"{value!r} is not a number")
    return math.nan if value is None else float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _amount(value: object) -> Decimal:
    amount = Decimal(_text(value))
    if not amount.is_finite():
        raise ValueError(f"{value!r} is not an amount")
    return amount

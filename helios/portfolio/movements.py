"""Deposits, withdrawals and funding as a person reports them: checked before they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from helios.domain.enums import MovementKind
from helios.domain.market import Instrument
from helios.domain.orders import AccountSnapshot, Movement
from helios.errors import RejectedError
from helios.portfolio.currency import is_spot

LARGEST = Decimal(10) ** 15
DIGITS = 18
"""After the point, the most a ledger column and any coin has."""


def movement_of(
    movement_id: str, kind: str, amount: str, ts_event: int, symbol: str = "", currency: str = "", value: str = ""
) -> Movement:
    """Return the movement that these words mean.

    Parameters
    ----------
    movement_id : str
        Whoever reports the same money again gives the same id, and nothing happens.
    kind : str
        `transfer` or `funding`.
    amount, value : str
        Signed amount, what the account gained; worth in quote currency of another currency than the account's, empty where unknown.
    ts_event : int
        Market time, ns UTC.

    Raises
    ------
    RejectedError
        Naming what is missing or wrong.
    """
    try:
        meant = MovementKind(kind.upper())
    except ValueError:
        raise RejectedError(f"unknown kind {kind!r}: transfer or funding") from None
    if not movement_id:
        raise RejectedError("a movement needs an id, so that money reported twice counts once")
    if meant is MovementKind.FUNDING and (not symbol or currency or value):
        raise RejectedError("funding belongs to a symbol and is in the account's own currency")
    if meant is MovementKind.TRANSFER and symbol:
        raise RejectedError("a transfer belongs to no symbol")
    if value and not currency:
        raise RejectedError("a value is said of another currency alone: name it")
    worth = _amount(value, "the value") if value else None
    moved = _amount(amount, "the amount")
    if moved == 0 or (worth is not None and (worth < 0) is not (moved < 0)):
        raise RejectedError("the amount is nothing, or its value has another sign")
    return Movement(movement_id, meant, moved, ts_event, symbol, currency.upper(), worth)


def check_movement(movement: Movement, account: AccountSnapshot, instruments: Mapping[str, Instrument], quote: str) -> None:
    """Refuse what cannot have happened on this account.

    Raises
    ------
    RejectedError
        If more is withdrawn than there is, or funding came for a symbol that has none.
    """
    if movement.kind is MovementKind.FUNDING:
        if movement.symbol not in instruments or is_spot(movement.symbol):
            raise RejectedError(f"{movement.symbol} is no perpetual of this desk: it has no funding")
        return
    is_own = movement.currency in ("", quote)
    there = account.cash_quote if is_own else dict(account.balances).get(movement.currency, Decimal(0))
    if movement.amount < 0 and -movement.amount > there:
        raise RejectedError(f"{-movement.amount} {movement.currency or quote} cannot be withdrawn: there are {there}")


def _amount(text: str, name: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise RejectedError(f"{name} {text!r} is not a number") from None
    if not value.is_finite() or abs(value) > LARGEST or value != round(value, DIGITS):
        raise RejectedError(f"{name} {text!r} is not a number of at most {DIGITS} decimals up to {LARGEST:f}")
    return value

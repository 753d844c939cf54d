"""What the engine itself refuses before any limit is asked: orders that cannot mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from helios.domain.enums import Side
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, OrderIntent

PreTradeCheck = Callable[[OrderIntent, AccountSnapshot, MarketSnapshot | None, int], tuple[str, ...]]
"""(intent, account now, market or None, time ns) -> deny codes; empty means allowed."""

TRADING_PAUSED = "TRADING_PAUSED"
LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
UNRESOLVED_ORDER = "UNRESOLVED_ORDER"
SYMBOL_REDUCE_ONLY = "SYMBOL_REDUCE_ONLY"


def structural_codes(
    intent: OrderIntent, account: AccountSnapshot, market: MarketSnapshot | None, instrument: Instrument | None
) -> tuple[str, ...]:
    """Return all reasons why the order makes no sense for what is held and may be held.

    UNKNOWN_INSTRUMENT, NO_MARKET, BAD_QUANTITY, NOTHING_TO_REDUCE (reduce-only without an opposite position),
    SHORT_NOT_ALLOWED (a sale that would go below zero where only holdings can be sold) and SYMBOL_REDUCE_ONLY (more of a symbol
    that is to be left).
    """
    if not (intent.quantity_base.is_finite() and intent.quantity_base > 0):
        return ("BAD_QUANTITY",)
    held = _held(account, intent.symbol)
    after = held + intent.side * intent.quantity_base
    findings = (
        ("UNKNOWN_INSTRUMENT", instrument is None),
        ("NO_MARKET", market is None),
        ("NOTHING_TO_REDUCE", intent.reduce_only and held * intent.side >= 0),
        ("SHORT_NOT_ALLOWED", instrument is not None and not instrument.can_short and intent.side is Side.SELL and after < 0),
        (SYMBOL_REDUCE_ONLY, intent.symbol in account.reduce_only and abs(after) > abs(held)),
    )
    return tuple(code for code, is_found in findings if is_found)


def _held(account: AccountSnapshot, symbol: str) -> Decimal:
    position = account.position(symbol)
    return Decimal(0) if position is None else position.quantity_base

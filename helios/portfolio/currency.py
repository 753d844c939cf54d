"""Fees and balances in other currencies than the quote: what a fill moves, and what is held or owed beside the cash.

Three cases of a fee, by the currency the venue took it in:

- quote (or settlement) currency: cash falls by `fee_quote`;
- base asset of a spot pair: the holding changes by less than was bought (or by more than was sold). Cash moves by price x traded
  quantity alone, so a purchase of q with fee f is exactly a purchase of q - f with a quote fee of f x price;
- any other currency: a balance of that currency, which may go below zero (the venue took it from money the account does not
  follow). It is booked at `fee_quote` and revalued once a rate is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from helios.domain.orders import Fill
from helios.errors import InvariantError

ZERO = Decimal(0)


@lru_cache(maxsize=4_096)
def base_of(symbol: str) -> str:
    """Return the base asset of a unified symbol (BTC of BTC/USDT:USDT)."""
    return symbol.partition("/")[0]


@lru_cache(maxsize=4_096)
def quote_of(symbol: str) -> str:
    """Return the quote currency of a unified symbol (USDT of BTC/USDT:USDT), empty where it has none."""
    return symbol.partition("/")[2].partition(":")[0]


def is_spot(symbol: str) -> bool:
    """Whether a unified symbol is of a spot pair: contracts name their settlement currency after a colon."""
    return ":" not in symbol


@dataclass(frozen=True, slots=True)
class BookedFill:
    """What a fill moves: the position by `quantity_base` (positive, in the fill's direction), `fee_quote` of profit.

    `foreign` is the change of a balance in another currency with its value, None where the fee is in quote or base.
    """

    quantity_base: Decimal
    fee_quote: Decimal
    foreign: tuple[str, Decimal, Decimal | None] | None = None


def book_fill(fill: Fill, rates: Mapping[str, Decimal] | None = None) -> BookedFill:
    """Return what `fill` moves.

    Parameters
    ----------
    rates : mapping or None
        Quote currency per unit of other currencies; used where the broker did not value the fee (`fee_quote` is not a number).

    Raises
    ------
    InvariantError
        If price or quantity is not positive, the fee eats the quantity, or a fee in quote currency is not a number.
    """
    if not (is_positive(fill.price) and is_positive(fill.quantity_base) and fill.fee.is_finite()):
        raise InvariantError(f"fill {fill.fill_id} has no positive price and quantity")
    if fill.fee and fill.fee_currency == base_of(fill.symbol) and is_spot(fill.symbol):
        quantity = fill.quantity_base - fill.side * fill.fee
        if quantity <= 0:
            raise InvariantError(f"fill {fill.fill_id}: a fee of {fill.fee} leaves nothing of {fill.quantity_base}")
        return BookedFill(quantity, fill.fee * fill.price)
    if fill.fee and _is_foreign(fill):
        value = _value(fill, rates or {})
        return BookedFill(
            fill.quantity_base, ZERO if value is None else value, (fill.fee_currency, -fill.fee, None if value is None else -value)
        )
    if not fill.fee_quote.is_finite():
        raise InvariantError(f"fill {fill.fill_id} has a fee that is not a number")
    return BookedFill(fill.quantity_base, fill.fee_quote)


def valued(fill: Fill, rates: Mapping[str, Decimal]) -> Fill:
    """Return `fill` with its fee valued, where the broker did not and a rate is known: settled before it is written down.

    Read back without rates, a fee would count as nothing until the next one, and then as a loss by the rate.
    """
    if fill.fee_quote.is_finite() or not (fill.fee and _is_foreign(fill) and fill.fee_currency in rates):
        return fill
    return replace(fill, fee_quote=fill.fee * rates[fill.fee_currency])


def is_positive(value: Decimal) -> bool:
    """Whether a value is a number above zero."""
    return value.is_finite() and value > 0


@dataclass(slots=True)
class _Balance:
    amount: Decimal = ZERO
    value: Decimal = ZERO
    """What the amounts were booked at."""
    is_valued: bool = True


class CurrencyBalances:
    """Balances in other currencies than the account's: amounts, what they were booked at, what they are worth.

    Worth is amount x rate; before any rate, what they were booked at. An amount booked without a value counts as nothing and its
    currency stays in `unvalued` until the first rate, when its whole worth shows as unrealised.
    """

    def __init__(self) -> None:
        self.rates: dict[str, Decimal] = {}
        self._rated_at: dict[str, int] = {}
        self._balances: dict[str, _Balance] = {}

    def __contains__(self, currency: str) -> bool:
        return currency in self._balances

    def add(self, currency: str, amount: Decimal, value: Decimal | None) -> None:
        """Book an amount (negative: paid) at its value in quote currency, None where unknown."""
        balance = self._balances.setdefault(currency, _Balance())
        balance.amount += amount
        balance.value += value or ZERO
        balance.is_valued = balance.is_valued and value is not None

    def rate(self, currency: str, rate: Decimal, ts: int) -> bool:
        """Take the price of one unit; False, and nothing changes, where it is not positive or older than the last."""
        if not is_positive(rate) or ts < self._rated_at.get(currency, 0):
            return False
        self.rates[currency], self._rated_at[currency] = rate, ts
        return True

    @property
    def amounts(self) -> tuple[tuple[str, Decimal], ...]:
        """Every currency that ever moved, with what is held of it."""
        return tuple((currency, self._balances[currency].amount) for currency in sorted(self._balances))

    @property
    def rated(self) -> tuple[tuple[str, Decimal, int], ...]:
        """The known prices of the currencies that moved, and when they came."""
        return tuple((c, self.rates[c], self._rated_at[c]) for c in sorted(self._balances) if c in self.rates)

    @property
    def unvalued(self) -> tuple[str, ...]:
        """Currencies whose worth is not fully known."""
        return tuple(c for c in sorted(self._balances) if not self._balances[c].is_valued and c not in self.rates)

    def worth(self) -> Decimal:
        """Return what all balances are worth in quote currency."""
        return sum((self._worth(currency) for currency in self._balances), ZERO)

    def gain(self) -> Decimal:
        """Return the worth less what the balances were booked at."""
        return sum((self._worth(currency) - balance.value for currency, balance in self._balances.items()), ZERO)

    def _worth(self, currency: str) -> Decimal:
        balance, rate = self._balances[currency], self.rates.get(currency)
        return balance.value if rate is None else balance.amount * rate


def _is_foreign(fill: Fill) -> bool:
    own = {"", quote_of(fill.symbol), fill.symbol.partition(":")[2]}
    return bool(quote_of(fill.symbol)) and fill.fee_currency not in own


def _value(fill: Fill, rates: Mapping[str, Decimal]) -> Decimal | None:
    if fill.fee_quote.is_finite():
        return fill.fee_quote
    rate = rates.get(fill.fee_currency)
    return None if rate is None else fill.fee * rate

"""Days of the account for the attribution: what was held at the start, what was traded, and what a benchmark would have held.

Holdings and cash are folds of fills and movements; prices are the last ones of each UTC day. Trades inside a day move cash at that
day's last exchange rate. Money in another currency (cash of another quote currency, deposits, fees that were taken in it) is an asset
of its own, named by the currency, whose only price is its rate; a currency that has no rate on any day counts at its booked value.
The sum over all assets is the change of the account's equity less what was paid in, marked at these closes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_FLOOR, Decimal, localcontext

from helios.domain.enums import MovementKind
from helios.domain.orders import Fill, Movement
from helios.errors import InsufficientHistoryError
from helios.portfolio.accounting import NS_PER_DAY, utc_day
from helios.portfolio.attribution import ONE, AssetPeriod, Period
from helios.portfolio.currency import book_fill, quote_of
from helios.portfolio.lots import EXACT, SHARE, ZERO

Closes = Mapping[int, Mapping[str, Decimal]]
"""By day (days since 1970) and symbol; for exchange rates by day and currency."""


@dataclass(frozen=True, slots=True)
class PricedDays:
    """What days need of the market, by day.

    Attributes
    ----------
    closes : mapping
        Last price of each symbol, of the day before the first too.
    weights : mapping
        The benchmark's weights at the start of each day, by symbol. Symbols without both prices are left out of it (its cash grows).
    rates : mapping
        Last value of other currencies, in the account's per unit.
    """

    closes: Closes
    weights: Closes
    rates: Closes


def turnover_weights(turnover: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return each symbol's share of the whole quote turnover, cut so that the sum stays at or below 1; the prior portfolio of tier 5.

    Symbols without a positive turnover have no weight.
    """
    known = {symbol: value for symbol, value in sorted(turnover.items()) if value.is_finite() and value > 0}
    with localcontext(EXACT):
        whole = sum(known.values(), ZERO)
        return {symbol: (value / whole).quantize(SHARE, rounding=ROUND_FLOOR) for symbol, value in known.items()}


@dataclass(slots=True)
class _Flows:
    """What one symbol did in one day: quantity that came, quote currency that was paid for it, fees less funding.

    `elsewhere` is the part of the fees that was not paid out of the quote currency.
    """

    quantity: Decimal = ZERO
    paid: Decimal = ZERO
    costs: Decimal = ZERO
    elsewhere: Decimal = ZERO


@dataclass(slots=True)
class _Money:
    """What came of a third currency in one day (below zero: went), and what it was booked at."""

    amount: Decimal = ZERO
    value: Decimal = ZERO


@dataclass(slots=True)
class _Day:
    """What happened in one day. `foreign` are fees in third currencies: symbol, fee in quote, currency, amount, value."""

    symbols: dict[str, _Flows] = field(default_factory=dict)
    foreign: list[tuple[str, Decimal, str, Decimal, Decimal | None]] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)


class AccountDays:
    """Fills and movements by UTC day, in sums: the order in which they come is of no consequence."""

    def __init__(self) -> None:
        self._days: dict[int, _Day] = {}

    @property
    def first_day(self) -> int | None:
        """The oldest day with a fill or a movement."""
        return min(self._days, default=None)

    @property
    def currencies(self) -> set[str]:
        """Third currencies that moved: of fees and of movements."""
        fees = {currency for day in self._days.values() for _, _, currency, _, _ in day.foreign}
        return fees | {m.currency for day in self._days.values() for m in day.movements}

    def add_fill(self, fill: Fill) -> None:
        """Add one fill, once.

        Raises
        ------
        InvariantError
            If it has no positive price or quantity.
        """
        with localcontext(EXACT):
            day = self._days.setdefault(fill.ts_event // NS_PER_DAY, _Day())
            booked, line = book_fill(fill), day.symbols.setdefault(fill.symbol, _Flows())
            line.quantity += fill.side * booked.quantity_base
            line.paid += fill.side * booked.quantity_base * fill.price
            line.costs += booked.fee_quote
            if booked.foreign is not None:
                day.foreign.append((fill.symbol, booked.fee_quote, *booked.foreign))

    def add_movement(self, movement: Movement) -> None:
        """Add one movement, once."""
        self._days.setdefault(movement.ts_event // NS_PER_DAY, _Day()).movements.append(movement)

    def known(self, until: int) -> list[int]:
        """Return the days before `until` on which something happened, oldest first."""
        return sorted(day for day in self._days if day < until)

    def of(self, day: int) -> _Day:
        """Return what happened on a day."""
        return self._days.get(day, _NOTHING)


_NOTHING = _Day()


@dataclass(frozen=True, slots=True)
class DayTerms:
    """On what all days rest.

    Attributes
    ----------
    initial_cash : Decimal
        In `base`, before any event.
    base : str
        The account's currency; empty counts every quote currency as it.
    rated : frozenset of str
        Other currencies that have a rate on any day.
    """

    initial_cash: Decimal
    base: str
    rated: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Moved:
    symbols: dict[str, _Flows]
    money: dict[str, _Money]


class DayBook:
    """Holdings and cash per quote currency, day after day; its methods are to be called inside the context EXACT."""

    def __init__(self, days: AccountDays, terms: DayTerms) -> None:
        self._days = days
        self._terms = terms
        self._held: dict[str, Decimal] = {}
        self._cash: dict[str, Decimal] = {terms.base: terms.initial_cash}
        self._money: dict[str, Decimal] = {}

    def copy(self) -> DayBook:
        """Return a book at the same day that goes on by itself."""
        book = DayBook(self._days, self._terms)
        book._held, book._cash, book._money = dict(self._held), dict(self._cash), dict(self._money)
        return book

    def roll(self, day: int) -> None:
        """Take over everything before `day`."""
        for past in self._days.known(day):
            self._transfer(past)
            self._close(self._flows(past))

    def day(self, day: int, market: PricedDays) -> Period | str:
        """Return the period of one day, or why there is none (a missing price is never made up), and go on to the next day."""
        self._transfer(day)
        flows = self._flows(day)
        held, cash, money = dict(self._held), dict(self._cash), dict(self._money)
        self._close(flows)
        try:
            return _Marked(market, self._terms).period(day, held, cash, money, flows)
        except InsufficientHistoryError as missing:
            return str(missing)

    def _flows(self, day: int) -> _Moved:
        happened = self._days.of(day)
        flows = {symbol: replace(line) for symbol, line in happened.symbols.items()}
        money: dict[str, _Money] = {}
        for symbol, fee_quote, currency, amount, value in happened.foreign:
            if currency in self._terms.rated:
                flows[symbol].elsewhere += fee_quote
                _add(money, currency, amount, value)
        for m in happened.movements:
            if m.kind is MovementKind.FUNDING:
                flows.setdefault(m.symbol, _Flows()).costs -= m.amount
            elif self._is_money(m):
                _add(money, m.currency, m.amount, m.value_quote)
        return _Moved(flows, money)

    def _is_money(self, m: Movement) -> bool:
        return m.currency not in ("", self._terms.base) and m.currency in self._terms.rated

    def _transfer(self, day: int) -> None:
        # A deposit counts from the start of its day: it is no profit of that day. Another currency comes at its value of then, and
        # what the rate makes of it until the day's end is profit already.
        for m in self._days.of(day).movements:
            if m.kind is MovementKind.TRANSFER and not self._is_money(m):
                self._cash[self._terms.base] += m.amount if m.value_quote is None else m.value_quote

    def _close(self, flows: _Moved) -> None:
        for symbol, line in flows.symbols.items():
            currency = currency_of(symbol, self._terms)
            self._held[symbol] = self._held.get(symbol, ZERO) + line.quantity
            self._cash[currency] = self._cash.get(currency, ZERO) - line.paid - line.costs + line.elsewhere
            if self._held[symbol] == 0:
                del self._held[symbol]
        for currency, new in flows.money.items():
            self._money[currency] = self._money.get(currency, ZERO) + new.amount


class _Marked:
    """One day at its market's prices."""

    def __init__(self, market: PricedDays, terms: DayTerms) -> None:
        self._market = market
        self._terms = terms

    def period(
        self, day: int, held: Mapping[str, Decimal], cash: Mapping[str, Decimal], money: Mapping[str, Decimal], flows: _Moved
    ) -> Period:
        weights = self._market.weights.get(day, {})
        priced = self._market.closes.get(day - 1, {}).keys() & self._market.closes.get(day, {}).keys()
        symbols = held.keys() | flows.symbols.keys() | (weights.keys() & priced)
        assets = [
            self._asset(s, day, held.get(s, ZERO), flows.symbols.get(s, _Flows()), weights.get(s, ZERO) if s in priced else ZERO)
            for s in sorted(symbols)
        ]
        others = {c: amount for c, amount in cash.items() if c != self._terms.base}
        for currency in money:
            others[currency] = others.get(currency, ZERO) + money[currency]
        came = {c: flows.money.get(c, _Money()) for c in sorted(others.keys() | flows.money.keys())}
        assets += [self._currency(c, day, others.get(c, ZERO), new) for c, new in came.items() if others.get(c) or new.amount]
        equity = cash[self._terms.base] + sum((a.start_value for a in assets), ZERO)
        if equity <= 0:
            raise InsufficientHistoryError("the equity at the start is not positive")
        return Period(utc_day(day * NS_PER_DAY), equity, tuple(assets))

    def _asset(self, symbol: str, day: int, held: Decimal, flows: _Flows, weight: Decimal) -> AssetPeriod:
        currency, after = currency_of(symbol, self._terms), held + flows.quantity
        start_rate, end_rate = self._rate(currency, day - 1), self._rate(currency, day)
        start = self._close_of(symbol, day - 1, needed=bool(held or weight))
        end = self._close_of(symbol, day, needed=bool(held or after or weight))
        # Without a holding at the start its price is of no consequence, and the end's stands in for it.
        start, end = start or end or ONE, end or start or ONE
        pnl = after * end * end_rate - held * start * start_rate - flows.paid * end_rate
        return AssetPeriod(symbol, held, start, end, pnl, flows.costs * end_rate, weight, start_rate, end_rate)

    def _currency(self, currency: str, day: int, amount: Decimal, new: _Money) -> AssetPeriod:
        start, end = self._rate(currency, day - 1), self._rate(currency, day)
        pnl = amount * (end - start) + new.amount * end - new.value
        return AssetPeriod(currency, amount, ONE, ONE, pnl, ZERO, ZERO, start, end)

    def _close_of(self, symbol: str, day: int, needed: bool) -> Decimal | None:
        price = self._market.closes.get(day, {}).get(symbol)
        if price is None and needed:
            raise InsufficientHistoryError(f"no price of {symbol} at the end of {utc_day(day * NS_PER_DAY)}")
        return price

    def _rate(self, currency: str, day: int) -> Decimal:
        if currency == self._terms.base:
            return ONE
        rate = self._market.rates.get(day, {}).get(currency)
        if rate is None:
            raise InsufficientHistoryError(f"no rate of {currency} at the end of {utc_day(day * NS_PER_DAY)}")
        return rate


def currency_of(symbol: str, terms: DayTerms) -> str:
    """Return the currency a symbol is paid in; without a currency of the account all are the same."""
    return quote_of(symbol) if terms.base else ""


def _add(money: dict[str, _Money], currency: str, amount: Decimal, value: Decimal | None) -> None:
    line = money.setdefault(currency, _Money())
    line.amount += amount
    line.value += value or ZERO

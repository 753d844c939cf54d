"""Days of the account for the attribution: what was held at the start, what was traded, and what a benchmark would have held.

Holdings and cash are folds of fills and movements; prices are the last ones of each UTC day. Trades inside a day move cash at that
day's last exchange rate. Money in another currency (cash of another quote currency, deposits, fees that were taken in it) is an asset
of its own, named by the currency, whose only price is its rate; a currency that has no rate on any day counts at its booked value.
The sum over all assets is the change of the account's equity less what was paid in, marked at these closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import TypeVar

from helios.domain.enums import MovementKind
from helios.domain.orders import Fill, Movement
from helios.errors import InsufficientHistoryError
from helios.portfolio.accounting import NS_PER_DAY, utc_day
from helios.portfolio.attribution import ONE, AssetPeriod, Period
from helios.portfolio.currency import book_fill, quote_of
from helios.portfolio.lots import EXACT, SHARE, ZERO

E = TypeVar("E", Fill, Movement)
Closes = Mapping[int, Mapping[str, Decimal]]
"""By day (days since 1970) and symbol; for exchange rates by day and currency."""


@dataclass(frozen=True, slots=True)
class DailyInputs:
    """What the account did and what the market was.

    Attributes
    ----------
    initial_cash : Decimal
        In `base`, before any event.
    fills, movements : sequence
        The whole past, in commit order.
    closes : mapping
        Last price of each symbol on each day.
    weights : mapping
        The benchmark's weights at the start of each day, by symbol. Symbols without both prices are left out of it (its cash grows).
    base : str
        The account's currency; empty counts every quote currency as it.
    rates : mapping
        Last value of other currencies on each day, in `base` per unit.
    """

    initial_cash: Decimal
    fills: Sequence[Fill]
    movements: Sequence[Movement]
    closes: Closes
    weights: Closes
    base: str = ""
    rates: Closes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DailyPeriods:
    """Days that can be attributed, and why others cannot (day, reason): a price that is missing is never made up."""

    periods: tuple[Period, ...]
    skipped: tuple[tuple[str, str], ...]


def daily_periods(inputs: DailyInputs, first_day: int, last_day: int) -> DailyPeriods:
    """Return the periods of the days `first_day` to `last_day` (days since 1970, both included), oldest first.

    Raises
    ------
    InvariantError
        If a fill has no positive price or quantity.
    """
    book = _Book(inputs)
    periods: list[Period] = []
    skipped: list[tuple[str, str]] = []
    with localcontext(EXACT):
        book.roll(first_day)
        for day in range(first_day, last_day + 1):
            found = book.day(day)
            if isinstance(found, str):
                skipped.append((utc_day(day * NS_PER_DAY), found))
            else:
                periods.append(found)
    return DailyPeriods(tuple(periods), tuple(skipped))


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


@dataclass(frozen=True, slots=True)
class _Day:
    symbols: dict[str, _Flows]
    money: dict[str, _Money]


class _Book:
    """Holdings and cash per quote currency, day after day."""

    def __init__(self, inputs: DailyInputs) -> None:
        self._inputs = inputs
        self._fills = _by_day({f.fill_id: f for f in inputs.fills}.values())
        self._movements = _by_day({m.movement_id: m for m in inputs.movements}.values())
        self._rated = {currency for rates in inputs.rates.values() for currency in rates}
        self._held: dict[str, Decimal] = {}
        self._cash: dict[str, Decimal] = {inputs.base: inputs.initial_cash}
        self._money: dict[str, Decimal] = {}

    def roll(self, day: int) -> None:
        """Take over everything before `day`."""
        for past in sorted(d for d in self._fills.keys() | self._movements.keys() if d < day):
            self._transfer(past)
            self._close(self._flows(past))

    def day(self, day: int) -> Period | str:
        """Return the period of one day, or why there is none, and go on to the next day."""
        self._transfer(day)
        flows = self._flows(day)
        held, cash, money = dict(self._held), dict(self._cash), dict(self._money)
        self._close(flows)
        try:
            return self._period(day, held, cash, money, flows)
        except InsufficientHistoryError as missing:
            return str(missing)

    def _period(
        self, day: int, held: Mapping[str, Decimal], cash: Mapping[str, Decimal], money: Mapping[str, Decimal], flows: _Day
    ) -> Period:
        weights = self._inputs.weights.get(day, {})
        priced = self._inputs.closes.get(day - 1, {}).keys() & self._inputs.closes.get(day, {}).keys()
        symbols = held.keys() | flows.symbols.keys() | (weights.keys() & priced)
        assets = [
            self._asset(s, day, held.get(s, ZERO), flows.symbols.get(s, _Flows()), weights.get(s, ZERO) if s in priced else ZERO)
            for s in sorted(symbols)
        ]
        others = {c: amount for c, amount in cash.items() if c != self._inputs.base}
        for currency in money:
            others[currency] = others.get(currency, ZERO) + money[currency]
        came = {c: flows.money.get(c, _Money()) for c in sorted(others.keys() | flows.money.keys())}
        assets += [self._currency(c, day, others.get(c, ZERO), new) for c, new in came.items() if others.get(c) or new.amount]
        equity = cash[self._inputs.base] + sum((a.start_value for a in assets), ZERO)
        if equity <= 0:
            raise InsufficientHistoryError("the equity at the start is not positive")
        return Period(utc_day(day * NS_PER_DAY), equity, tuple(assets))

    def _asset(self, symbol: str, day: int, held: Decimal, flows: _Flows, weight: Decimal) -> AssetPeriod:
        currency, after = self._currency_of(symbol), held + flows.quantity
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
        price = self._inputs.closes.get(day, {}).get(symbol)
        if price is None and needed:
            raise InsufficientHistoryError(f"no price of {symbol} at the end of {utc_day(day * NS_PER_DAY)}")
        return price

    def _rate(self, currency: str, day: int) -> Decimal:
        if currency == self._inputs.base:
            return ONE
        rate = self._inputs.rates.get(day, {}).get(currency)
        if rate is None:
            raise InsufficientHistoryError(f"no rate of {currency} at the end of {utc_day(day * NS_PER_DAY)}")
        return rate

    def _currency_of(self, symbol: str) -> str:
        return quote_of(symbol) if self._inputs.base else ""

    def _flows(self, day: int) -> _Day:
        flows: dict[str, _Flows] = {}
        money: dict[str, _Money] = {}
        for fill in self._fills.get(day, ()):
            booked, line = book_fill(fill), flows.setdefault(fill.symbol, _Flows())
            line.quantity += fill.side * booked.quantity_base
            line.paid += fill.side * booked.quantity_base * fill.price
            line.costs += booked.fee_quote
            if booked.foreign is not None and booked.foreign[0] in self._rated:
                line.elsewhere += booked.fee_quote
                _add(money, *booked.foreign)
        for m in self._movements.get(day, ()):
            if m.kind is MovementKind.FUNDING:
                flows.setdefault(m.symbol, _Flows()).costs -= m.amount
            elif self._is_money(m):
                _add(money, m.currency, m.amount, m.value_quote)
        return _Day(flows, money)

    def _is_money(self, m: Movement) -> bool:
        return m.currency not in ("", self._inputs.base) and m.currency in self._rated

    def _transfer(self, day: int) -> None:
        # A deposit counts from the start of its day: it is no profit of that day. Another currency comes at its value of then, and
        # what the rate makes of it until the day's end is profit already.
        for m in self._movements.get(day, ()):
            if m.kind is MovementKind.TRANSFER and not self._is_money(m):
                self._cash[self._inputs.base] += m.amount if m.value_quote is None else m.value_quote

    def _close(self, flows: _Day) -> None:
        for symbol, line in flows.symbols.items():
            currency = self._currency_of(symbol)
            self._held[symbol] = self._held.get(symbol, ZERO) + line.quantity
            self._cash[currency] = self._cash.get(currency, ZERO) - line.paid - line.costs + line.elsewhere
            if self._held[symbol] == 0:
                del self._held[symbol]
        for currency, new in flows.money.items():
            self._money[currency] = self._money.get(currency, ZERO) + new.amount


def _add(money: dict[str, _Money], currency: str, amount: Decimal, value: Decimal | None) -> None:
    line = money.setdefault(currency, _Money())
    line.amount += amount
    line.value += value or ZERO


def _by_day(events: Iterable[E]) -> dict[int, list[E]]:
    days: dict[int, list[E]] = {}
    for event in events:
        days.setdefault(event.ts_event // NS_PER_DAY, []).append(event)
    return days

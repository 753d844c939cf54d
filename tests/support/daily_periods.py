"""Days of an account in one call: what it did and what the market was in, periods out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

from helios.domain.orders import Fill, Movement
from helios.portfolio.accounting import NS_PER_DAY, utc_day
from helios.portfolio.attribution import Period
from helios.portfolio.lots import EXACT
from helios.portfolio.periods import AccountDays, Closes, DayBook, DayTerms, PricedDays


@dataclass(frozen=True, slots=True)
class DailyInputs:
    initial_cash: Decimal
    fills: Sequence[Fill]
    movements: Sequence[Movement]
    closes: Closes
    weights: Closes
    base: str = ""
    rates: Closes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DailyPeriods:
    periods: tuple[Period, ...]
    skipped: tuple[tuple[str, str], ...]


def daily_periods(inputs: DailyInputs, first_day: int, last_day: int) -> DailyPeriods:
    days = AccountDays()
    for fill in inputs.fills:
        days.add_fill(fill)
    for movement in inputs.movements:
        days.add_movement(movement)
    rated = frozenset(currency for rates in inputs.rates.values() for currency in rates)
    book = DayBook(days, DayTerms(inputs.initial_cash, inputs.base, rated))
    prices = PricedDays(inputs.closes, inputs.weights, inputs.rates)
    with localcontext(EXACT):
        book.roll(first_day)
        found = {day: book.day(day, prices) for day in range(first_day, last_day + 1)}
    periods = tuple(each for each in found.values() if isinstance(each, Period))
    return DailyPeriods(periods, tuple((utc_day(d * NS_PER_DAY), each) for d, each in found.items() if isinstance(each, str)))

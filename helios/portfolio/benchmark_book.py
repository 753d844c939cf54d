"""Attribution against the benchmark, day after day: days that are settled are folded once, the newest again at each report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

from helios.portfolio.accounting import NS_PER_DAY, utc_day
from helios.portfolio.attribution import Attribution, Period, attribute, total
from helios.portfolio.currency import base_of, is_spot, quote_of
from helios.portfolio.lots import EXACT, ZERO
from helios.portfolio.periods import AccountDays, Closes, DayBook, DayTerms, PricedDays, turnover_weights
from helios.risk.sectors import sector_of

TURNOVER_DAYS = 30
"""The prior portfolio of tier 5: weights by the quote turnover of the days before."""


@dataclass(frozen=True, slots=True)
class Market:
    """Daily closes and quote turnover by day (days since 1970) and symbol."""

    closes: Closes
    turnover: Closes


@dataclass(frozen=True, slots=True)
class Tally:
    """Days so far: the sum of their effects, the profit of each, and those left out with why."""

    whole: Attribution = field(default_factory=lambda: total("all", ()))
    days: tuple[tuple[str, Mapping[str, Decimal]], ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


def priced_days(market: Market, quote: str, first_day: int, last_day: int) -> PricedDays:
    """Return what the days `first_day` to `last_day` need of a market; `quote` is the currency of the rates, empty for none.

    What a third currency is worth is the price of its own spot pair, as in the account.
    """
    weights = {day: turnover_weights(_turnover_before(market.turnover, day)) for day in range(first_day, last_day + 1)}
    rates = {day: _rates(closes, quote) for day, closes in market.closes.items()} if quote else {}
    return PricedDays(market.closes, weights, rates)


def rated_currencies(closes: Closes, quote: str) -> set[str]:
    """Return the third currencies that have a rate on any day."""
    symbols = {symbol for of_day in closes.values() for symbol in of_day}
    return {base_of(s) for s in symbols if is_spot(s) and quote_of(s) == quote} if quote else set()


def group_by_sector(symbol: str) -> str:
    """Return the sector of a symbol's base asset."""
    return sector_of(base_of(symbol))


class BenchmarkBook:
    """Effects of the days from `first_day` on.

    Parameters
    ----------
    days : AccountDays
        What the account did. Nothing may be added to it before `next_day`: then a new book is needed.
    terms : DayTerms
    first_day : int
    group_of : callable
        Group of a symbol.
    """

    def __init__(self, days: AccountDays, terms: DayTerms, first_day: int, group_of: Callable[[str], str]) -> None:
        self.next_day = first_day
        self.terms = terms
        self._group_of = group_of
        self._tally = Tally()
        self._book = DayBook(days, terms)
        with localcontext(EXACT):
            self._book.roll(first_day)

    def settle(self, until_day: int, prices: PricedDays) -> None:
        """Fold the days before `until_day` that are not yet, for good."""
        self._tally = self._fold(self._book, self._tally, until_day, prices)
        self.next_day = max(self.next_day, until_day)

    def tally(self, last_day: int, prices: PricedDays) -> Tally:
        """Return the days up to `last_day`; those that are not settled stay so."""
        return self._fold(self._book.copy(), self._tally, last_day + 1, prices)

    def _fold(self, book: DayBook, before: Tally, until_day: int, prices: PricedDays) -> Tally:
        parts: list[Attribution] = []
        skipped = list(before.skipped)
        for day in range(self.next_day, until_day):
            found = self._attributed(book, day, prices)
            if isinstance(found, str):
                skipped.append((utc_day(day * NS_PER_DAY), found))
            else:
                parts.append(found)
        days = before.days + tuple((part.name, with_pnl(part)) for part in parts)
        return Tally(total("all", [before.whole, *parts]), days, tuple(skipped))

    def _attributed(self, book: DayBook, day: int, prices: PricedDays) -> Attribution | str:
        with localcontext(EXACT):
            period: Period | str = book.day(day, prices)
        return period if isinstance(period, str) else attribute(period, self._group_of)


def with_pnl(part: Attribution) -> dict[str, Decimal]:
    """Return the three profits and the sum of each effect."""
    pnl = {"portfolio_pnl": part.portfolio_pnl, "benchmark_pnl": part.benchmark_pnl, "active_pnl": part.active_pnl}
    return pnl | part.totals()


def _rates(closes: Mapping[str, Decimal], quote: str) -> dict[str, Decimal]:
    return {base_of(s): price for s, price in closes.items() if is_spot(s) and quote_of(s) == quote}


def _turnover_before(turnover: Closes, day: int) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    with localcontext(EXACT):
        for symbol, value in _items(turnover, day):
            sums[symbol] = sums.get(symbol, ZERO) + value
    return sums


def _items(turnover: Closes, day: int) -> Iterable[tuple[str, Decimal]]:
    return (item for past in range(day - TURNOVER_DAYS, day) for item in turnover.get(past, {}).items())

"""Attribution as plain JSON, for the API and the command line: by decision stage, and against the benchmark portfolio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args

from helios.domain.orders import Fill, Movement, OrderRecord
from helios.errors import RejectedError
from helios.portfolio.accounting import NS_PER_DAY, utc_day
from helios.portfolio.benchmark_book import BenchmarkBook, Market, Tally, group_by_sector, priced_days, rated_currencies, with_pnl
from helios.portfolio.currency import quote_of
from helios.portfolio.lots import EXACT, ZERO
from helios.portfolio.periods import AccountDays, DayTerms
from helios.portfolio.stages import STAGES, StageEffects, Steps, stage_effects, stage_totals

Grouping = Literal["stage", "symbol", "sector", "day"]
UNIT_SHARE = Decimal("0.05")


@dataclass(frozen=True, slots=True)
class Books:
    """What the ledger knows: all fills with their orders and all movements, commit order, and the trace steps of the decisions."""

    history: Sequence[tuple[OrderRecord, Fill]]
    movements: Sequence[Movement] = ()
    decisions: Mapping[str, Steps] = field(default_factory=dict)
    initial_cash_quote: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the grouping, the days (both included; None: no bound) and N0 of the stages, in quote currency.

    Stage lines count on the day on which they closed. Without N0 it is UNIT_SHARE of the initial cash.
    """

    by: Grouping = "stage"
    first_day: int | None = None
    last_day: int | None = None
    unit_notional_quote: Decimal | None = None

    def __post_init__(self) -> None:
        if self.by not in get_args(Grouping):
            raise RejectedError(f"attribution by {self.by!r} is not one of {', '.join(get_args(Grouping))}")


def attribution_report(books: Books, question: Question, market: Market | None = None) -> dict[str, Any]:
    """Return `stages` and, with a market, `benchmark`; money as text.

    Raises
    ------
    InvariantError
        If a fill of the ledger has no positive price or quantity.
    """
    report: dict[str, Any] = {"by": question.by, "stages": stage_report(books, question)}
    if market is not None:
        report["benchmark"] = benchmark_report(books, market, question)
    return report


def stage_report(books: Books, question: Question) -> dict[str, Any]:
    """Return effects by decision stage: `totals`, `groups`, `trades` (newest last), and whether all is explained.

    Groups by "stage" are the stages themselves with their money; otherwise each group has its effects.
    """
    unit = question.unit_notional_quote
    unit = books.initial_cash_quote * UNIT_SHARE if unit is None else unit
    lines = [
        line
        for line in stage_effects(books.history, books.movements, books.decisions, unit)
        if is_within(line.closed_at // NS_PER_DAY, question)
    ]
    totals = stage_totals(lines)
    return {
        "unit_notional_quote": amount_text(unit),
        "totals": amounts_text(totals),
        "groups": _stage_groups(lines, question.by, totals),
        "is_explained": not any(line.missing for line in lines),
        "trades": [trade_json(line) for line in lines],
    }


def benchmark_report(books: Books, market: Market, question: Question) -> dict[str, Any]:
    """Return the effects against the portfolio of turnover weights: `totals`, `groups`, the days and those left out with why.

    Groups are assets by "symbol", days by "day", otherwise sectors.
    """
    first, last = _days(market, question)
    days = AccountDays()
    for fill in {fill.fill_id: fill for _, fill in books.history}.values():
        days.add_fill(fill)
    for movement in {movement.movement_id: movement for movement in books.movements}.values():
        days.add_movement(movement)
    quote = quote_of(books.history[0][1].symbol) if books.history else ""
    terms = DayTerms(books.initial_cash_quote, "", frozenset(rated_currencies(market.closes, quote)))
    book = BenchmarkBook(days, terms, first, benchmark_groups(question.by))
    return tally_json(book.tally(last, priced_days(market, quote, first, last)), question.by)


def benchmark_groups(by: Grouping) -> Callable[[str], str]:
    """Return the function that names the group of a symbol."""
    return str if by == "symbol" else group_by_sector


def tally_json(found: Tally, by: Grouping) -> dict[str, Any]:
    """Return what `benchmark_report` returns, of days that are folded."""
    if by == "day":
        groups = [{"key": name} | amounts_text(values) for name, values in found.days]
    else:
        groups = [{"key": group} | amounts_text(effects) for group, effects in found.whole.effects.items()]
    return {
        "totals": amounts_text(with_pnl(found.whole)),
        "groups": groups,
        "days": [name for name, _ in found.days],
        "skipped": [{"day": day, "reason": reason} for day, reason in found.skipped],
    }


def _stage_groups(lines: Sequence[StageEffects], by: Grouping, totals: Mapping[str, Decimal]) -> list[dict[str, Any]]:
    if by == "stage":
        return [{"key": name, "pnl_quote": amount_text(totals[name])} for name in STAGES]
    groups: dict[str, list[StageEffects]] = {}
    for line in lines:
        groups.setdefault(_key(line, by), []).append(line)
    return [{"key": key, "trades": len(groups[key])} | amounts_text(stage_totals(groups[key])) for key in sorted(groups)]


def _key(line: StageEffects, by: Grouping) -> str:
    if by == "day":
        return utc_day(line.closed_at)
    return line.symbol if by == "symbol" else group_by_sector(line.symbol)


def trade_json(line: StageEffects) -> dict[str, Any]:
    """Return one line of `trades`."""
    return {
        "entry_order_id": line.entry_order_id,
        "exit_order_id": line.exit_order_id,
        "decision_id": line.decision_id,
        "symbol": line.symbol,
        "side": line.side,
        "quantity_base": amount_text(line.quantity_base),
        "opened_at": line.opened_at,
        "closed_at": line.closed_at,
        "exit_reason": line.exit_reason,
        "pnl_quote": amount_text(line.pnl_quote),
        "effects": amounts_text(line.effects),
        "missing": list(line.missing),
    }


def _days(market: Market, question: Question) -> tuple[int, int]:
    # A day needs the close before it, so the oldest known day can only be a start.
    known = sorted(market.closes)
    first = question.first_day if question.first_day is not None else (known[0] + 1 if known else 0)
    last = question.last_day if question.last_day is not None else (known[-1] if known else -1)
    return first, last


def is_within(day: int, question: Question) -> bool:
    """Whether a day is one of those asked for."""
    after = question.first_day is None or day >= question.first_day
    return after and (question.last_day is None or day <= question.last_day)


def amounts_text(values: Mapping[str, Decimal]) -> dict[str, str]:
    """Return amounts as text."""
    return {name: amount_text(value) for name, value in values.items()}


def amount_text(value: Decimal) -> str:
    """Return an amount as text, all its digits and no zeros after them."""
    return f"{value.normalize(EXACT):f}"

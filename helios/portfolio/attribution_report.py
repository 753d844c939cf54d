"""Attribution as plain JSON, for the API and the command line: by decision stage, and against the benchmark portfolio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any, Literal, get_args

from helios.domain.orders import Fill, Movement, OrderRecord
from helios.errors import RejectedError
from helios.portfolio.accounting import NS_PER_DAY, utc_day
from helios.portfolio.attribution import EFFECTS, Attribution, attribute, total
from helios.portfolio.currency import base_of, is_spot, quote_of
from helios.portfolio.lots import EXACT, ZERO
from helios.portfolio.periods import Closes, DailyInputs, daily_periods, turnover_weights
from helios.portfolio.stages import STAGES, StageEffects, Steps, stage_effects, stage_totals
from helios.risk.sectors import sector_of

Grouping = Literal["stage", "symbol", "sector", "day"]
UNIT_SHARE = Decimal("0.05")
TURNOVER_DAYS = 30
"""The prior portfolio of tier 5: weights by the quote turnover of the days before."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the ledger knows: all fills with their orders and all movements, commit order, and the trace steps of the decisions."""

    history: Sequence[tuple[OrderRecord, Fill]]
    movements: Sequence[Movement] = ()
    decisions: Mapping[str, Steps] = field(default_factory=dict)
    initial_cash_quote: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Market:
    """Daily closes and quote turnover by day (days since 1970) and symbol."""

    closes: Closes
    turnover: Closes


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
        if _is_within(line.closed_at // NS_PER_DAY, question)
    ]
    totals = stage_totals(lines)
    return {
        "unit_notional_quote": _text(unit),
        "totals": _texts(totals),
        "groups": _stage_groups(lines, question.by, totals),
        "is_explained": not any(line.missing for line in lines),
        "trades": [_trade(line) for line in lines],
    }


def benchmark_report(books: Books, market: Market, question: Question) -> dict[str, Any]:
    """Return the effects against the portfolio of turnover weights: `totals`, `groups`, the days and those left out with why.

    Groups are assets by "symbol", days by "day", otherwise sectors.
    """
    first, last = _days(market, question)
    weights = {day: turnover_weights(_turnover_before(market.turnover, day)) for day in range(first, last + 1)}
    fills = [fill for _, fill in books.history]
    quote = quote_of(fills[0].symbol) if fills else ""
    rates = {day: _rates(closes, quote) for day, closes in market.closes.items()} if quote else {}
    inputs = DailyInputs(books.initial_cash_quote, fills, books.movements, market.closes, weights, rates=rates)
    found = daily_periods(inputs, first, last)
    group_of: Callable[[str], str] = str if question.by == "symbol" else _sector
    parts = [attribute(period, group_of) for period in found.periods]
    whole = total("all", parts)
    return {
        "totals": _texts(_with_pnl(whole)),
        "groups": _benchmark_groups(parts, whole, question.by),
        "days": [part.name for part in parts],
        "skipped": [{"day": day, "reason": reason} for day, reason in found.skipped],
    }


def _stage_groups(lines: Sequence[StageEffects], by: Grouping, totals: Mapping[str, Decimal]) -> list[dict[str, Any]]:
    if by == "stage":
        return [{"key": name, "pnl_quote": _text(totals[name])} for name in STAGES]
    groups: dict[str, list[StageEffects]] = {}
    for line in lines:
        groups.setdefault(_key(line, by), []).append(line)
    return [{"key": key, "trades": len(groups[key])} | _texts(stage_totals(groups[key])) for key in sorted(groups)]


def _key(line: StageEffects, by: Grouping) -> str:
    if by == "day":
        return utc_day(line.closed_at)
    return line.symbol if by == "symbol" else _sector(line.symbol)


def _benchmark_groups(parts: Iterable[Attribution], whole: Attribution, by: Grouping) -> list[dict[str, Any]]:
    if by == "day":
        return [{"key": part.name} | _texts(_with_pnl(part)) for part in parts]
    return [{"key": group} | _texts(effects) for group, effects in whole.effects.items()]


def _with_pnl(part: Attribution) -> dict[str, Decimal]:
    pnl = {"portfolio_pnl": part.portfolio_pnl, "benchmark_pnl": part.benchmark_pnl, "active_pnl": part.active_pnl}
    return pnl | (part.totals() if part.effects else dict.fromkeys(EFFECTS, ZERO))


def _trade(line: StageEffects) -> dict[str, Any]:
    return {
        "entry_order_id": line.entry_order_id,
        "exit_order_id": line.exit_order_id,
        "decision_id": line.decision_id,
        "symbol": line.symbol,
        "side": line.side,
        "quantity_base": _text(line.quantity_base),
        "opened_at": line.opened_at,
        "closed_at": line.closed_at,
        "exit_reason": line.exit_reason,
        "pnl_quote": _text(line.pnl_quote),
        "effects": _texts(line.effects),
        "missing": list(line.missing),
    }


def _days(market: Market, question: Question) -> tuple[int, int]:
    # A day needs the close before it, so the oldest known day can only be a start.
    known = sorted(market.closes)
    first = question.first_day if question.first_day is not None else (known[0] + 1 if known else 0)
    last = question.last_day if question.last_day is not None else (known[-1] if known else -1)
    return first, last


def _rates(closes: Mapping[str, Decimal], quote: str) -> dict[str, Decimal]:
    # What a third currency is worth is the price of its own spot pair, as in the account.
    return {base_of(s): price for s, price in closes.items() if is_spot(s) and quote_of(s) == quote}


def _turnover_before(turnover: Closes, day: int) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for past in range(day - TURNOVER_DAYS, day):
        for symbol, value in turnover.get(past, {}).items():
            sums[symbol] = sums.get(symbol, ZERO) + value
    return sums


def _is_within(day: int, question: Question) -> bool:
    after = question.first_day is None or day >= question.first_day
    return after and (question.last_day is None or day <= question.last_day)


def _sector(symbol: str) -> str:
    return sector_of(base_of(symbol))


def _texts(values: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items()}


def _text(value: Decimal) -> str:
    with localcontext(EXACT):
        return f"{value.normalize():f}"

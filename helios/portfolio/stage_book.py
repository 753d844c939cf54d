"""The stage report of a ledger that grows: what was told once is not folded again.

The report is that of `attribution_report.stage_report` over everything told so far, to the last byte. Most of a ledger is settled:
both orders of a closing are final, its decision is known, and nothing later can change its line. Such a line is kept as the JSON it
is shown as, and its amounts in sums by day and by symbol. What is open or not final yet is kept as it is and valued at each report.

Where something comes that does not simply follow (a fill dated before one that its symbol has already, a fill of an order whose
line was settled, the decision of a line that was settled without it) the book says so by `OutOfOrderError`: it must be thrown away
and all be told to a new one. That is rare and costs what the first telling cost, and it leaves one way of folding to be right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

import orjson

from helios.domain.enums import MovementKind
from helios.domain.orders import Fill, Movement
from helios.portfolio.accounting import NS_PER_DAY, utc_day
from helios.portfolio.attribution_report import Grouping, Question, amount_text, amounts_text, is_within, trade_json
from helios.portfolio.benchmark_book import group_by_sector
from helios.portfolio.lots import EXACT, ZERO, Disposal, LotFold, LotMethod
from helios.portfolio.stages import STAGES, ClosedPart, StageEffects, Steps, stage_line

Place = tuple[int, int, int]
"""Of a closing among all: market time of its first fill, that fill's number in the ledger, which lot of that fill."""
SUMS = (*STAGES, "pnl_quote")


class OutOfOrderError(Exception):
    """What was told does not follow what was told before: begin a new book. Never leaves the reader of the ledger."""


@dataclass(frozen=True, slots=True)
class LedgerOrder:
    """What the report needs of an order; `is_final`: its status can change no more."""

    client_order_id: str
    decision_id: str
    symbol: str
    leg: str
    reason: str
    reference_price: Decimal
    is_final: bool


@dataclass(slots=True)
class _Sums:
    n_trades: int = 0
    n_missing: int = 0
    amounts: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(SUMS, ZERO))

    def add(self, n_trades: int, n_missing: int, amounts: Mapping[str, Decimal]) -> None:
        self.n_trades += n_trades
        self.n_missing += n_missing
        for name, value in amounts.items():
            if value:
                self.amounts[name] += value


@dataclass(slots=True)
class _Closing:
    place: Place
    disposals: list[Disposal]


@dataclass(frozen=True, slots=True, order=True)
class _Line:
    place: Place
    day: int
    symbol: str = field(compare=False)
    text: bytes = field(compare=False)


class StageBook:
    """Stage effects of all closings, fed as the ledger grows.

    Parameters
    ----------
    unit_notional_quote : Decimal
        N0, quote currency. Every line depends on it: another N0 needs another book.
    """

    def __init__(self, unit_notional_quote: Decimal) -> None:
        self.unit_notional_quote = unit_notional_quote
        self._fold = LotFold(LotMethod.FIFO, is_unique=True)
        self._newest: dict[str, tuple[int, int]] = {}
        self._orders: dict[str, LedgerOrder] = {}  # of open lots and of closings not settled
        self._filled: dict[str, Decimal] = {}
        self._closings: dict[tuple[str, str], _Closing] = {}
        self._settled: list[_Line] = []
        self._settled_orders: set[str] = set()
        self._undecided: set[str] = set()
        self._by_day: dict[int, _Sums] = {}
        self._by_symbol: dict[str, _Sums] = {}

    @property
    def unsettled_orders(self) -> list[str]:
        """Orders that may still change: tell their newest state with `tell_orders` before each report."""
        return [order_id for order_id, order in self._orders.items() if not order.is_final]

    @property
    def wanted_decisions(self) -> set[str]:
        """Decisions whose steps the next `settle` needs."""
        return {self._orders[entry].decision_id for entry, _ in self._closings}

    @property
    def undecided(self) -> Collection[str]:
        """Decisions that were not there when a line was settled: once one of them is, the book is out of date."""
        return self._undecided

    def tell_orders(self, orders: Iterable[LedgerOrder]) -> None:
        """Take over the present state of orders: those of the fills told next, and those not final before."""
        self._orders.update({order.client_order_id: order for order in orders})

    def tell(self, fills: Sequence[tuple[int, Fill]], movements: Iterable[Movement]) -> None:
        """Fold new fills (with their numbers in the ledger, rising) and movements, none of which was told before.

        Raises
        ------
        OutOfOrderError
            If one of them is dated before what its symbol has, or belongs to an order whose line is settled.
        InvariantError
            If a fill has no positive price or quantity.
        """
        events: list[tuple[int, int, int, Fill | Movement]] = [(f.ts_event, 0, seq, f) for seq, f in fills]
        events += [(m.ts_event, 1, 0, m) for m in movements if m.kind is MovementKind.FUNDING]
        with localcontext(EXACT):
            for ts, kind, seq, event in sorted(events, key=lambda e: e[:2]):
                if (ts, kind) < self._newest.get(event.symbol, (ts, kind)):
                    raise OutOfOrderError(event.symbol)
                self._newest[event.symbol] = (ts, kind)
                if isinstance(event, Fill):
                    self._fill(event, seq)
                else:
                    self._fold.fund(event)

    def settle(self, decisions: Mapping[str, Steps]) -> list[_Line]:
        """Value every closing that is not settled, settle those that no later event can change, and return the others' lines."""
        open_lines: list[_Line] = []
        with localcontext(EXACT):
            for (entry, exit_), closing in list(self._closings.items()):
                pair = self._orders[entry], self._orders[exit_]
                part = ClosedPart.of(closing.disposals, *pair, self._filled[entry])
                effects = stage_line(part, decisions, self.unit_notional_quote)
                line = _line(closing.place, effects)
                if not all(order.is_final for order in pair):
                    open_lines.append(line)
                    continue
                del self._closings[entry, exit_]
                self._settled.append(line)
                self._settled_orders.update((entry, exit_))
                self._count(self._by_day, self._by_symbol, effects)
                if effects.decision_id not in decisions:
                    self._undecided.add(effects.decision_id)
        self._settled.sort()
        self._forget_orders()
        return open_lines

    def report(self, question: Question, open_lines: Sequence[_Line]) -> dict[str, Any]:
        """Return what `stage_report` returns of the whole ledger; `trades` are JSON already."""
        lines = sorted([*self._settled, *open_lines]) if open_lines else self._settled
        if question.first_day is not None or question.last_day is not None:
            lines = [line for line in lines if is_within(line.day, question)]
        days, symbols = self._sums(question, lines, open_lines)
        whole = _merged(days.values())
        return {
            "unit_notional_quote": amount_text(self.unit_notional_quote),
            "totals": amounts_text(whole.amounts),
            "groups": _groups(question.by, whole, days, symbols),
            "is_explained": not whole.n_missing,
            "trades": [orjson.Fragment(line.text) for line in lines],
        }

    def _fill(self, fill: Fill, seq: int) -> None:
        order_id = fill.client_order_id
        if order_id in self._settled_orders:
            raise OutOfOrderError(order_id)
        self._filled[order_id] = self._filled.get(order_id, ZERO) + fill.quantity_base
        self._fold.fill(fill)
        for nth, disposal in enumerate(self._fold.take_disposals()):
            pair = (disposal.entry_order_id, disposal.exit_order_id)
            self._closings.setdefault(pair, _Closing((fill.ts_event, seq, nth), [])).disposals.append(disposal)

    def _sums(
        self, question: Question, lines: Sequence[_Line], open_lines: Sequence[_Line]
    ) -> tuple[dict[int, _Sums], dict[str, _Sums]]:
        # Sums by day serve any range of days; those by symbol the whole ledger alone, so a range is counted from its lines.
        days = {day: sums for day, sums in self._by_day.items() if is_within(day, question)}
        is_whole = question.first_day is None and question.last_day is None
        if is_whole and not open_lines:
            return days, self._by_symbol
        days = {day: _merged([sums]) for day, sums in days.items()}
        counted: dict[str, _Sums] = {symbol: _merged([sums]) for symbol, sums in self._by_symbol.items()} if is_whole else {}
        needs_symbols = question.by in ("symbol", "sector")
        with localcontext(EXACT):
            for line in open_lines:
                if is_within(line.day, question):
                    _add_line(days.setdefault(line.day, _Sums()), line)
            for line in (open_lines if is_whole else lines) if needs_symbols else ():
                _add_line(counted.setdefault(line.symbol, _Sums()), line)
        return days, counted

    @staticmethod
    def _count(days: dict[int, _Sums], symbols: dict[str, _Sums], line: StageEffects) -> None:
        amounts = {**line.effects, "pnl_quote": line.pnl_quote}
        for sums in (days.setdefault(line.closed_at // NS_PER_DAY, _Sums()), symbols.setdefault(line.symbol, _Sums())):
            sums.add(1, int(bool(line.missing)), amounts)

    def _forget_orders(self) -> None:
        # An order stays while a lot of it is open or a closing of it is not settled.
        needed = self._fold.open_order_ids().union(*self._closings) if self._closings else self._fold.open_order_ids()
        self._orders = {order_id: self._orders[order_id] for order_id in self._orders.keys() & needed}
        self._filled = {order_id: self._filled[order_id] for order_id in self._filled.keys() & needed}


def _line(place: Place, effects: StageEffects) -> _Line:
    return _Line(place, effects.closed_at // NS_PER_DAY, effects.symbol, orjson.dumps(trade_json(effects)))


def _add_line(sums: _Sums, line: _Line) -> None:
    shown = orjson.loads(line.text)
    amounts = {name: Decimal(value) for name, value in shown["effects"].items()}
    sums.add(1, int(bool(shown["missing"])), amounts | {"pnl_quote": Decimal(shown["pnl_quote"])})


def _merged(parts: Iterable[_Sums]) -> _Sums:
    whole = _Sums()
    with localcontext(EXACT):
        for part in parts:
            whole.add(part.n_trades, part.n_missing, part.amounts)
    return whole


def _groups(by: Grouping, whole: _Sums, days: Mapping[int, _Sums], symbols: Mapping[str, _Sums]) -> list[dict[str, Any]]:
    if by == "stage":
        return [{"key": name, "pnl_quote": amount_text(whole.amounts[name])} for name in STAGES]
    groups: dict[str, list[_Sums]] = {}
    if by == "day":
        groups = {utc_day(day * NS_PER_DAY): [sums] for day, sums in days.items()}
    else:
        for symbol, sums in symbols.items():
            groups.setdefault(symbol if by == "symbol" else group_by_sector(symbol), []).append(sums)
    merged = {key: _merged(groups[key]) for key in sorted(groups)}
    return [{"key": key, "trades": sums.n_trades} | amounts_text(sums.amounts) for key, sums in merged.items()]

"""Tax lots as plain JSON and as CSV: one line per disposal, one per open lot, totals per year and currency."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from helios.domain.enums import MovementKind
from helios.domain.orders import Movement
from helios.portfolio.currency import quote_of
from helios.portfolio.lots import EXACT, ZERO, Disposal, Lot, LotReport

NOTE = (
    "Not tax advice. Calendar years in UTC, amounts in the quote currency named on each line, none converted; "
    "which method and year your law asks for is for you and your adviser to say."
)
DISPOSAL_COLUMNS = (
    "symbol", "side", "quantity_base", "acquired_at", "disposed_at", "held_days", "proceeds_quote", "cost_quote", "gain_quote",
    "fees_quote", "funding_quote", "currency", "lot_id", "exit_fill_id",
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LotFilter:
    """Which disposals are shown; None and empty show all."""

    year: int | None = None
    currency: str = ""

    def takes(self, year: int, currency: str) -> bool:
        """Whether a line of this year and currency is shown."""
        return self.year in (None, year) and self.currency in ("", currency)


def lot_report(report: LotReport, movements: Sequence[Movement] = (), wanted: LotFilter | None = None) -> dict[str, Any]:
    """Return a fold of lots as plain JSON (money as text, times ISO in UTC).

    Keys: `method`, `note`, `disposals`, `open_lots`, `totals` (per year and currency: count, proceeds, cost, gain, fees of the
    disposals, and all funding of that year), `unvalued_fees`. Open lots are those of now whatever the year.
    """
    wanted = wanted or LotFilter()
    disposals = [d for d in report.disposals if wanted.takes(_moment(d.closed_at).year, d.quote)]
    lots = [lot for lot in report.open_lots if wanted.currency in ("", quote_of(lot.symbol))]
    return {
        "method": report.method.value,
        "note": NOTE,
        "disposals": [_disposal(d) for d in disposals],
        "open_lots": [_open_lot(lot) for lot in lots],
        "totals": _totals(disposals, movements, wanted),
        "unvalued_fees": list(report.unvalued_fees),
    }


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = DISPOSAL_COLUMNS) -> str:
    """Return rows as CSV with a header; without rows the header alone."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _disposal(d: Disposal) -> dict[str, Any]:
    # In time order for both sides: a short acquires when it is bought back, but its lot was opened by the sale.
    with localcontext(EXACT):
        fees = d.entry_fees_quote + d.exit_fees_quote
    return {
        "symbol": d.symbol,
        "side": "LONG" if d.side > 0 else "SHORT",
        "quantity_base": _text(d.quantity_base),
        "acquired_at": _iso(d.opened_at if d.side > 0 else d.closed_at),
        "disposed_at": _iso(d.closed_at if d.side > 0 else d.opened_at),
        "opened_at": _iso(d.opened_at),
        "closed_at": _iso(d.closed_at),
        "held_days": d.held_days,
        "proceeds_quote": _text(d.proceeds_quote),
        "cost_quote": _text(d.cost_quote),
        "gain_quote": _text(d.gain_quote),
        "fees_quote": _text(fees),
        "funding_quote": _text(d.funding_quote),
        "currency": d.quote,
        "lot_id": d.lot_id,
        "exit_fill_id": d.exit_fill_id,
    }


def _open_lot(lot: Lot) -> dict[str, Any]:
    return {
        "symbol": lot.symbol,
        "side": "LONG" if lot.side > 0 else "SHORT",
        "quantity_base": _text(lot.quantity_base),
        "opened_at": _iso(lot.opened_at),
        "value_quote": _text(lot.value_quote),
        "fees_quote": _text(lot.fees_quote),
        "funding_quote": _text(lot.funding_quote),
        "currency": quote_of(lot.symbol),
        "lot_id": lot.lot_id,
    }


def _totals(disposals: Sequence[Disposal], movements: Sequence[Movement], wanted: LotFilter) -> list[dict[str, Any]]:
    sums: dict[tuple[int, str], dict[str, Decimal]] = {}

    def add(year: int, currency: str, **amounts: Decimal) -> None:
        line = sums.setdefault((year, currency), dict.fromkeys(("count", "proceeds", "cost", "gain", "fees", "funding"), ZERO))
        for name, amount in amounts.items():
            line[name] += amount

    with localcontext(EXACT):
        for d in disposals:
            fees = d.entry_fees_quote + d.exit_fees_quote
            year = _moment(d.closed_at).year
            add(year, d.quote, count=Decimal(1), proceeds=d.proceeds_quote, cost=d.cost_quote, gain=d.gain_quote, fees=fees)
        for m in {m.movement_id: m for m in movements if m.kind is MovementKind.FUNDING}.values():
            if wanted.takes(_moment(m.ts_event).year, quote_of(m.symbol)):
                add(_moment(m.ts_event).year, quote_of(m.symbol), funding=m.amount)
    return [
        {"year": year, "currency": currency, "count": int(line.pop("count"))} | {f"{k}_quote": _text(v) for k, v in line.items()}
        for (year, currency), line in sorted(sums.items())
    ]


def _moment(ts_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ts_ns // 1_000)


def _iso(ts_ns: int) -> str:
    return _moment(ts_ns).isoformat()


def _text(value: Decimal) -> str:
    with localcontext(EXACT):
        return f"{value.normalize():f}"

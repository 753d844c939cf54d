"""Days, tax lots and attribution of the run's database; they work whether or not the desk runs."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, cast

import asyncpg
import typer

from helios.cli.app import app
from helios.cli.control import AsJson, StateDir
from helios.cli.queries import _answer, _table
from helios.config import load_config
from helios.errors import ConfigError
from helios.portfolio.attribution_report import Books, Grouping, Question
from helios.portfolio.lot_report import NOTE, LotFilter, lot_report, to_csv
from helios.portfolio.lots import LotMethod, fold_lots
from helios.store.attribution import AttributionReader
from helios.store.books import PostgresBooks
from helios.store.engine_store import EngineStore, daily_report
from helios.store.pool import dump_json

EPOCH = date(1970, 1, 1)


@app.command()
def lots(
    method: Annotated[LotMethod, typer.Option(help="Which lot a sale takes first.")] = LotMethod.FIFO,
    year: Annotated[int | None, typer.Option(help="Only disposals closed in this calendar year (UTC).")] = None,
    currency: Annotated[str, typer.Option(help="Only symbols quoted in this currency.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Write the disposals to this file as CSV.")] = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Tax lots: disposals with dates, proceeds, cost and gain, and totals per year. Not tax advice."""
    books = _answer(state_dir, _load)
    report = lot_report(fold_lots((f for _, f in books.history), books.movements, method), books.movements, LotFilter(year, currency))
    if csv is not None:
        _write(csv, to_csv(report["disposals"]))
    show_lots(report, as_json)


@app.command()
def attribution(
    by: Annotated[str, typer.Option(help="stage, symbol, sector or day.")] = "stage",
    from_day: Annotated[str | None, typer.Option("--from", help="UTC date, YYYY-MM-DD, included.")] = None,
    to_day: Annotated[str | None, typer.Option("--to", help="UTC date, YYYY-MM-DD, included.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="Notional at which the signal alone is valued; 5 % of the initial cash if left out.")
    ] = None,
    benchmark: Annotated[bool, typer.Option("--benchmark", help="Also against the portfolio of turnover weights.")] = False,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Which stage of the decisions made the money, and what was made beyond the benchmark portfolio."""
    asked = Question(cast(Grouping, by), _day(from_day), _day(to_day), _amount(unit))
    if asked.first_day is not None and asked.last_day is not None and asked.first_day > asked.last_day:
        raise ConfigError("--from is later than --to")
    cash = load_config().desk.initial_cash_quote
    show_attribution(_answer(state_dir, lambda pool: AttributionReader(pool).attribution(asked, cash, benchmark)), as_json)


@app.command()
def performance(
    days: Annotated[int, typer.Option(min=1, max=4_000, help="UTC days, the newest.")] = 30,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """The account by UTC days: value, profit, return, drawdown, and the yearly Sharpe ratio of the days so far."""
    show_days(_answer(state_dir, lambda pool: daily_report(EngineStore(pool), days)), as_json)


def show_days(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print what `daily_report` returned."""
    formats = {"daily_return": "{:.2%}", "drawdown": "{:.2%}", "sharpe": "{:.2f}"}
    shown = rows if as_json else [{k: "-" if v is None else formats.get(k, "{}").format(v) for k, v in row.items()} for row in rows]
    columns = ("day", "equity_quote", "pnl_quote", "daily_return", "drawdown", "sharpe", "open_positions", "transfers_quote")
    _table(shown, columns, as_json)


def show_lots(report: dict[str, Any], as_json: bool) -> None:
    """Print what `lot_report` returned."""
    if as_json:
        print(json.dumps(report))
        return
    _table(
        report["disposals"], ("disposed_at", "symbol", "side", "quantity_base", "proceeds_quote", "cost_quote", "gain_quote"), False
    )
    print("\nopen")
    _table(report["open_lots"], ("opened_at", "symbol", "side", "quantity_base", "value_quote", "fees_quote"), False)
    print("\nper year")
    _table(report["totals"], ("year", "currency", "count", "proceeds_quote", "cost_quote", "gain_quote", "funding_quote"), False)
    if report["unvalued_fees"]:
        print(f"\nfees in other currencies that nobody valued: {len(report['unvalued_fees'])} fills, counted as nothing")
    print(f"\n{NOTE}")


def show_attribution(report: dict[str, Any], as_json: bool) -> None:
    """Print what `attribution_report` returned."""
    if as_json:
        print(dump_json(report).decode())
        return
    stages = report["stages"]
    _table(stages["groups"], _columns(stages["groups"]), False)
    print(f"\n{len(stages['trades'])} closings in whole or in part, {stages['totals']['pnl_quote']} realised")
    if not stages["is_explained"]:
        print("some of them lack the record of a stage: their share is under unexplained")
    if "benchmark" in report:
        found = report["benchmark"]
        print(f"\nagainst the portfolio of turnover weights, {len(found['days'])} days")
        _table(found["groups"], _columns(found["groups"]), False)
        print("\n" + "  ".join(f"{name} {value}" for name, value in found["totals"].items()))
        for left_out in found["skipped"]:
            print(f"left out: {left_out['day']}, {left_out['reason']}")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None


async def _load(pool: asyncpg.Pool) -> Books:
    return await PostgresBooks(pool).books(load_config().desk.initial_cash_quote)


def _columns(groups: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(groups[0]) if groups else ()


def _day(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return (date.fromisoformat(text) - EPOCH).days
    except ValueError:
        raise ConfigError(f"{text!r} is not a date, YYYY-MM-DD") from None


def _amount(text: str | None) -> Decimal | None:
    try:
        value = None if text is None else Decimal(text)
    except ArithmeticError:
        raise ConfigError(f"{text!r} is not an amount") from None
    if value is not None and not (value.is_finite() and value > 0):
        raise ConfigError("the unit notional must be positive")
    return value

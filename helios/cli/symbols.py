"""`helios symbols`: what the running desk trades, and adding and removing symbols while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from helios.cli.app import app
from helios.cli.control import AsJson, StateDir, ask
from helios.errors import RetryableError

WARM_TIMEOUT_S = 60.0
symbols_app = typer.Typer(help="The symbols of the running desk: list them, add and remove some while it runs.")
Names = Annotated[list[str], typer.Argument(help="Symbols, e.g. SOL/ZAR.", metavar="SYMBOL...")]


@symbols_app.callback(invoke_without_command=True)
def symbols(context: typer.Context, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """The symbols of the running desk, with their newest prices."""
    if context.invoked_subcommand is not None:
        return
    rows = _rows(state_dir)
    if as_json:
        print(json.dumps({"symbols": rows}))
        return
    for row in rows:
        print(f"{row['symbol']:>20}  {status_of(row):<14}  {_price(row)}")


@symbols_app.command()
def add(
    names: Names,
    wait: Annotated[bool, typer.Option(help="Wait until each has its history.")] = True,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Trade symbols from now on, until the desk stops; to keep them, name them in desk.symbols."""
    added = [ask(state_dir, "POST", "/api/v1/symbols", {"symbol": name}) for name in names]
    if wait:
        _await_warm(state_dir, {row["symbol"] for row in added})
    _show(added, "is traded from now on", as_json)


@symbols_app.command()
def remove(names: Names, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Open nothing more in symbols; what is held of them is watched until it is closed."""
    removed = [ask(state_dir, "DELETE", f"/api/v1/symbols/{quote(name, safe='')}") for name in names]
    _show(removed, "is to be left: nothing more is opened in it", as_json)


def status_of(row: Mapping[str, Any]) -> str:
    """Return in a word or two what the desk does with a symbol."""
    if row["reduce_only"]:
        return "closing only"
    if not row["is_warm"]:
        return "warming up"
    return "no fresh data" if row["is_stale"] else "traded"


def _price(row: Mapping[str, Any]) -> str:
    spread = "" if row.get("spread_bps") is None else f"  {row['spread_bps']:.1f} bps"
    bid, ask_price = row.get("best_bid"), row.get("best_ask")
    quotes = "" if bid is None or ask_price is None else f"  {bid:.10g} / {ask_price:.10g}"
    return "-" if row.get("last_price") is None else f"{row['last_price']:.10g}{quotes}{spread}"


def _rows(state_dir: str | None) -> list[dict[str, Any]]:
    return list(ask(state_dir, "GET", "/api/v1/symbols")["symbols"])


def _await_warm(state_dir: str | None, wanted: set[str]) -> None:
    deadline = time.monotonic() + WARM_TIMEOUT_S
    while cold := wanted - {row["symbol"] for row in _rows(state_dir) if row["is_warm"]}:
        if time.monotonic() > deadline:
            raise RetryableError(f"added, but without their history after {WARM_TIMEOUT_S:g} s: {', '.join(sorted(cold))}")
        time.sleep(0.5)


def _show(rows: list[dict[str, Any]], words: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"symbols": rows}))
        return
    for row in rows:
        print(f"{row['symbol']} {words}")


app.add_typer(symbols_app, name="symbols")

"""Questions to the ledger and the traces; they work whether or not the desk runs."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import asyncpg
import typer

from helios.cli.app import app
from helios.cli.control import AsJson, StateDir, run_dir
from helios.config import HeliosConfig, database_url, load_config
from helios.errors import ConfigError
from helios.risk.explain import explain as explain_decision
from helios.store.embedded import EmbeddedPostgres
from helios.store.engine_store import EngineStore
from helios.store.pool import connect
from helios.store.traces import PostgresTraces

T = TypeVar("T")
LINE_WIDTH = 118
Limit = Annotated[int, typer.Option(help="At most this many rows.")]


@asynccontextmanager
async def _database(state_dir: str | None) -> AsyncIterator[asyncpg.Pool]:
    """Yield a pool on the data of the running or the last desk; an embedded server is started for the question if need be."""
    directory = run_dir(state_dir)
    info = directory.read()
    if info is None:
        raise ConfigError(f"no desk has run in {directory.path}; start one with: helios up")
    given = database_url()
    server = None
    if info.database == "url":
        if given is None:
            raise ConfigError("this desk's data are in the database of DATABASE_URL, which is not set")
        dsn = given
    else:
        server = EmbeddedPostgres(directory.path / "postgres")
        was_running = server.is_running
        dsn = server.start()
    try:
        pool = await connect(f"{dsn}{'&' if '?' in dsn else '?'}search_path={info.schema}", max_size=2)
        try:
            yield pool
        finally:
            await pool.close()
    finally:
        if server is not None and not was_running:
            server.stop()


def _answer(state_dir: str | None, question: Callable[[asyncpg.Pool], Awaitable[T]]) -> T:
    async def run() -> T:
        async with _database(state_dir) as pool:
            return await question(pool)

    return asyncio.run(run())


@app.command()
def orders(limit: Limit = 20, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """The newest orders of the ledger."""
    rows = _answer(state_dir, lambda pool: EngineStore(pool).orders(limit))
    _table(rows, ("client_order_id", "symbol", "side", "quantity_base", "status", "filled_base", "average_price"), as_json)


@app.command()
def positions(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Positions as of the last account snapshot; dust is a rest that no order of the venue can close."""
    rows = _answer(state_dir, lambda pool: EngineStore(pool).positions())
    rows = [row | {"kind": "dust" if row.get("is_dust") else "open"} for row in rows]
    columns = ("symbol", "kind", "quantity_base", "average_price", "mark_price", "unrealised_pnl_quote", "stop_price", "target_price")
    _table(rows, columns, as_json)


@app.command()
def decisions(
    limit: Limit = 20,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """The newest decisions, one per symbol and closed bar."""
    rows = _answer(state_dir, lambda pool: PostgresTraces(pool).decisions(limit, symbol))
    _table(rows, ("decision_id", "bar_time", "symbol", "outcome", "tier", "detail"), as_json)


@app.command()
def explain(
    decision: Annotated[str, typer.Argument(help="A decision id, or its first digits.")],
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """What every tier said about one decision, every number in words; --json prints the stored values."""
    found = _answer(state_dir, lambda pool: PostgresTraces(pool).explain(decision))
    if as_json:
        print(json.dumps(found, default=str))
        return
    print(_explanation(found))


def _explanation(found: dict[str, Any]) -> str:
    lines = [f"decision {found['decision_id']}  {found['symbol']}  bar closed {_words(found['bar_time'])} UTC"]
    for chapter in explain_decision(found):
        lines += ["", chapter.tier]
        lines += [textwrap.fill(line, LINE_WIDTH, initial_indent="  ", subsequent_indent="    ") for line in chapter.sentences]
    return "\n".join(lines)


config_app = typer.Typer(help="The configuration in force.")
app.add_typer(config_app, name="config")


@config_app.command("show")
def config_show(as_json: AsJson = False) -> None:
    """Print every value; secrets are not among them."""
    loaded = load_config()
    print(loaded.model_dump_json() if as_json else _toml(loaded))


@config_app.command("check")
def config_check() -> None:
    """Validate file and environment."""
    print(f"ok, digest {load_config().digest()}")


def _toml(config: HeliosConfig) -> str:
    lines = []
    for section, values in config.model_dump(mode="json").items():
        lines.append(f"[{section}]")
        # TOML has no null: a key that is not set is left out, and reads back as not set
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None]
        lines.append("")
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, default=str))
        return
    if not rows:
        print("none")
        return
    cells = [columns, *(tuple(_words(row.get(c, "")) for c in columns) for row in rows)]
    widths = [min(60, max(len(line[i]) for line in cells)) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell[:60].ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _words(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list | dict):
        return json.dumps(value, default=str)
    return str(value)

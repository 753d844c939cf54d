"""helios deposit, withdraw, funding: money that came and went without a trade, told to the running desk."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from helios.cli.app import app
from helios.cli.control import AsJson, StateDir, ask, show
from helios.errors import ConfigError

Amount = Annotated[str, typer.Argument(help="Above 0, e.g. 2500 or 0.05.")]
Currency = Annotated[str, typer.Option(help="Another currency than the account's, e.g. BTC.")]
Value = Annotated[str, typer.Option(help="What that was worth in the account's currency; else its last price counts.")]
Id = Annotated[str | None, typer.Option("--id", help="The venue's id: the same money told again counts once.")]


@app.command()
def deposit(
    amount: Amount,
    currency: Currency = "",
    value: Value = "",
    movement_id: Id = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell the desk of a deposit: equity rises by it, the peak in proportion, and neither profit nor drawdown moves."""
    body = {"kind": "transfer", "amount": _above_zero(amount), "currency": currency, "value": value}
    _tell(body, movement_id, state_dir, as_json)


@app.command()
def withdraw(
    amount: Amount,
    currency: Currency = "",
    value: Value = "",
    movement_id: Id = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell the desk of a withdrawal: equity falls by it, the peak in proportion, and neither profit nor drawdown moves."""
    gone = f"-{_above_zero(value)}" if value else ""
    body = {"kind": "transfer", "amount": f"-{_above_zero(amount)}", "currency": currency, "value": gone}
    _tell(body, movement_id, state_dir, as_json)


@app.command()
def funding(
    symbol: Annotated[str, typer.Argument(help="The perpetual, e.g. BTC/USDT:USDT.")],
    received: Annotated[str, typer.Option(help="What the account received.")] = "",
    paid: Annotated[str, typer.Option(help="What it paid.")] = "",
    movement_id: Id = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell the desk of funding of a perpetual: it is realised profit of the position that is open."""
    if bool(received) is bool(paid):
        raise ConfigError("say either --received or --paid")
    amount = _above_zero(received) if received else f"-{_above_zero(paid)}"
    _tell({"kind": "funding", "amount": amount, "symbol": symbol}, movement_id, state_dir, as_json)


def _tell(body: dict[str, Any], movement_id: str | None, state_dir: str | None, as_json: bool) -> None:
    named = body if movement_id is None else body | {"movement_id": movement_id}
    show(ask(state_dir, "POST", "/api/v1/portfolio/movements", named), as_json)


def _above_zero(text: str) -> str:
    if text.strip().startswith(("-", "+")):
        raise ConfigError(f"the amount {text!r} has a sign: the command says the direction")
    return text.strip()

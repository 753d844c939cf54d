"""Commands that control a running desk, over its API."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from helios.cli.app import app
from helios.cli.rundir import RunDir, RunInfo
from helios.config import load_config
from helios.errors import ConfigError, RetryableError, VenueError

STOP_TIMEOUT_S = 20.0

StateDir = Annotated[str | None, typer.Option("--state-dir", help="The desk's state directory (default .helios).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run_dir(state_dir: str | None) -> RunDir:
    """Return the state directory of the option or the configuration."""
    return RunDir(Path(load_config(overrides={"store.state_dir": state_dir}).store.state_dir).resolve())


def running(directory: RunDir) -> RunInfo:
    """Return the running desk.

    Raises
    ------
    ConfigError
        If none runs here.
    """
    info = directory.read()
    if info is None or not directory.is_locked:
        raise ConfigError(f"no desk runs in {directory.path}; start one with: helios up")
    return info


def ask(state_dir: str | None, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Call the running desk's API.

    Raises
    ------
    ConfigError
        If none runs here.
    RetryableError
        If it does not answer.
    VenueError
        With the API's own words if it refuses.
    """
    directory = run_dir(state_dir)
    info = running(directory)
    try:
        answer = httpx.request(
            method,
            info.api_url + path,
            json=body,
            headers={"Authorization": f"Bearer {directory.token()}"},
            timeout=25.0,
            trust_env=False,  # our own machine is not behind a proxy that the environment may name
        )
    except httpx.HTTPError as error:
        raise RetryableError(f"the desk at {info.api_url} does not answer: {type(error).__name__}") from None
    if answer.is_error:
        raise VenueError(answer.status_code, None, _detail(answer))
    return answer.json()


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail", answer.text))
    except json.JSONDecodeError:
        return answer.text[:200]


def show(value: Any, as_json: bool) -> None:
    """Print a value for people or for programs."""
    if as_json or not isinstance(value, dict):
        print(json.dumps(value))
        return
    for name, item in value.items():
        if not isinstance(item, dict | list):
            print(f"{name:>20}  {item}")


@app.command()
def status(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """State, equity, positions and health of the running desk."""
    answer = ask(state_dir, "GET", "/api/v1/status")
    if as_json:
        show(answer, True)
        return
    for name in ("state", "mode", "venue", "run_id", "uptime_s", "equity", "currency", "drawdown", "unrealised_pnl"):
        print(f"{name:>20}  {answer.get(name)}")
    for tier in answer.get("tiers", []):
        latency = tier.get("latency_ms", {}).get("p50")
        print(f"{tier['name']:>20}  {tier['status']}" + (f", p50 {latency} ms" if latency is not None else ""))
    for position in answer.get("positions", []):
        kind = ", dust" if position.get("is_dust") else ""
        print(f"{position['symbol']:>20}  {position['side']} {position['quantity']} at {position['average_price']}{kind}")


@app.command()
def down(state_dir: StateDir = None) -> None:
    """Stop the running desk cleanly and wait until it is gone."""
    directory = run_dir(state_dir)
    info = running(directory)
    os.kill(info.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while directory.is_locked:
        if time.monotonic() > deadline:
            raise RetryableError(f"pid {info.pid} has not stopped within {STOP_TIMEOUT_S:g} s")
        time.sleep(0.1)
    print("stopped")


@app.command()
def pause(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Open nothing new; stops and targets go on."""
    show(ask(state_dir, "POST", "/api/v1/engine/pause"), as_json)


@app.command()
def resume(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Trade again after a pause."""
    show(ask(state_dir, "POST", "/api/v1/engine/resume"), as_json)


@app.command("emergency-stop")
def emergency_stop(
    clear: Annotated[bool, typer.Option("--clear", help="Acknowledge it; the desk is then paused.")] = False,
    reason: Annotated[str, typer.Option(help="Kept with the event.")] = "operator",
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Close everything now and stay halted until cleared."""
    if clear:
        show(ask(state_dir, "POST", "/api/v1/engine/emergency-stop/clear"), as_json)
    else:
        show(ask(state_dir, "POST", "/api/v1/engine/emergency-stop", {"reason": reason}), as_json)


@app.command()
def mode(
    wanted: Annotated[str, typer.Argument(help="paper or live")],
    confirm: Annotated[str, typer.Option(help="LIVE needs I_CONFIRM_LIVE_TRADING.")] = "",
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Switch between PAPER and LIVE."""
    show(ask(state_dir, "POST", "/api/v1/engine/mode", {"mode": wanted, "confirmation": confirm}), as_json)


@app.command()
def risk(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Breakers, use of the limits, VaR and the volatility of every symbol of the running desk."""
    answer = ask(state_dir, "GET", "/api/v1/risk")
    if as_json:
        show(answer, True)
        return
    report = answer.get("risk") or {}
    print(f"{'trading state':>20}  {answer.get('trading_state')}")
    for trip in answer.get("trips") or []:
        print(f"{trip['code']:>20}  {trip['detail']} (reset: {trip['reset_rule']})")
    for limit in report.get("limit_utilisation", []):
        print(f"{limit['name']:>20}  {_number(limit['value'])} of {_number(limit['limit'])}  {limit['of']}")
    for tail in report.get("tails", []):
        method = f"{tail['method']} {tail['level']:.0%}"
        print(f"{method:>20}  VaR {_number(tail['var'])}  CVaR {_number(tail['cvar'])} of equity, a day")
    if report.get("var_95_days"):
        told = f"on {report['var_95_exceeded']} of {report['var_95_days']} days (p {_number(report['var_95_p_value'])})"
        print(f"{'VaR 95% exceeded':>20}  {told}")
    for name in ("risk_score", "gross_exposure", "beta_market", "sharpe_30d", "max_drawdown", "correlation_regime"):
        print(f"{name:>20}  {_number(report.get(name))}")
    for row in answer.get("volatility") or []:
        print(f"{row['symbol']:>20}  {_number(row.get('daily_volatility'))} a day, {row.get('regime')}, {row.get('method')}")


@app.command("reset-breakers")
def reset_breakers(
    code: Annotated[str | None, typer.Argument(help="Which one, e.g. MAX_DRAWDOWN; all of them without it.")] = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Release circuit breakers that tripped and no longer hold; a drawdown then counts from the present equity."""
    answer = ask(state_dir, "POST", "/api/v1/risk/reset", {} if code is None else {"code": code})
    if as_json:
        show(answer, True)
        return
    print(f"{answer['trading_state']}" + (f", still open: {', '.join(answer['trips'])}" if answer["trips"] else ""))


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)

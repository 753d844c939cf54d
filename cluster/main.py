"""The `helios` command: everything of helios.cli, plus what needs Ray."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

import cluster.commands  # noqa: F401  adds `helios cluster`
from cluster.options import UpOptions
from helios.cli.app import app, main
from helios.cli.bench import SELF_TIMED, Figure
from helios.config import load_config
from helios.errors import ConfigError

__all__ = ["app", "run"]


def _feed_actors() -> list[Figure]:
    from cluster.bench_feed import feed_actors  # imports Ray: seconds that no other command should wait for

    return feed_actors()


SELF_TIMED["feed_actors"] = _feed_actors


@app.command()
def up(
    venue: Annotated[str | None, typer.Option(help="sandbox (default) or valr.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Comma separated, e.g. BTC/ZAR,ETH/ZAR.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Recorded data instead of a venue.")] = None,
    speed: Annotated[str | None, typer.Option(help="Market seconds per wall second, or max (replay).")] = None,
    duration: Annotated[float | None, typer.Option(help="Stop after this many seconds of running.")] = None,
    mode: Annotated[str, typer.Option(help="paper or live.")] = "paper",
    config: Annotated[Path | None, typer.Option(help="Configuration file (default helios.toml).")] = None,
    address: Annotated[str | None, typer.Option(help="An existing Ray cluster, e.g. auto.")] = None,
    state_dir: Annotated[str | None, typer.Option(help="Where the desk keeps its state (default .helios).")] = None,
    port: Annotated[int | None, typer.Option(help="API and dashboard port; 0 takes a free one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Run the desk: data, prediction, risk, review, portfolio, execution. Ctrl-C stops it cleanly."""
    if mode != "paper":
        raise ConfigError("only paper trading can be started here; LIVE needs: helios mode live (after its checks)")
    pace = _speed(speed, replay is not None)
    overrides: dict[str, Any] = {
        "venue.name": venue,
        "venue.speed": pace if replay is None else None,
        "desk.symbols": tuple(s.strip() for s in symbols.split(",") if s.strip()) if symbols else None,
        "store.state_dir": state_dir,
        "api.port": port,
    }
    loaded = load_config(config, overrides=overrides)
    if loaded.venue.name not in ("sandbox", "valr"):
        raise ConfigError(f"unknown venue {loaded.venue.name!r}: sandbox or valr")
    from cluster.application import run as run_desk

    with redirect_stdout(sys.stderr):  # Ray's driver prints of its own accord; stdout is for the summary alone
        summary = run_desk(UpOptions(loaded, replay, pace if replay is not None else None, duration, address, as_json))
    print(json.dumps(summary) if as_json else _readable(summary))


@app.command()
def train(
    preset: Annotated[str, typer.Option(help="starter, compact or full.")] = "starter",
    source: Annotated[str, typer.Option(help="sandbox (synthetic market), archive (--data) or venue (VALR).")] = "sandbox",
    data: Annotated[Path | None, typer.Option(help="Directory of one-minute candle files, for --source archive.")] = None,
    days: Annotated[float, typer.Option(help="Days of history per symbol (sandbox and venue).")] = 60.0,
    seed: Annotated[int, typer.Option(help="First seed of the synthetic markets, and of the weights.")] = 1000,
    markets: Annotated[int, typer.Option(help="How many synthetic markets.")] = 24,
    epochs: Annotated[int, typer.Option(help="At most this many epochs.")] = 6,
    workers: Annotated[int, typer.Option(help="Workers of Ray Train.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads of each worker.")] = 2,
    version: Annotated[str, typer.Option(help="Name in the registry (default: preset and seed).")] = "",
    out: Annotated[Path | None, typer.Option(help="Registry directory (default: models in the state directory).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the model card as JSON.")] = False,
) -> None:
    """Train a model with Ray Train, measure it against the baselines, and register it."""
    from cluster.history import training_history
    from training.cli import train_command

    loaded = load_config()
    card = train_command(
        preset=preset,
        source=source,
        minutes=int(days * 1440),
        seed=seed,
        version=version,
        out=out or Path(loaded.store.state_dir) / "models",
        epochs=epochs,
        as_json=as_json,
        history=training_history(source, data, days, loaded),
        n_markets=markets,
        num_workers=workers,
        num_threads=threads,
    )
    print(json.dumps(card) if as_json else _readable(card))


def _speed(text: str | None, is_replay: bool) -> float | None:
    if text is None or (is_replay and text == "max"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value <= 0:
        raise ConfigError(f"--speed takes a positive number{' or max' if is_replay else ''}, not {text!r}")
    return value


def _readable(values: dict[str, Any]) -> str:
    return "\n".join(f"{name:>20}  {value}" for name, value in values.items() if not isinstance(value, dict | list))


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())

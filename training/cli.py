"""What `helios train` runs."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from helios.errors import ConfigError, RejectedError
from helios.learn.artifact import ModelCard
from helios.learn.dataset import History
from helios.venues.sandbox.history import synthetic_history
from helios.venues.sandbox.specs import SPECS
from training.job import TrainRequest
from training.loop import Progress as TrainProgress
from training.loop import TrainSettings
from training.train import train

N_SANDBOX_SYMBOLS = 6
N_SANDBOX_MARKETS = 24  # many histories of one market: its slow flow turns every 8 h or so, so one holds few examples


def train_command(
    preset: str,
    source: str = "sandbox",
    minutes: int = 60 * 1440,
    seed: int = 1000,
    version: str = "",
    out: Path = Path(".helios/models"),
    epochs: int = 6,
    as_json: bool = False,
    *,
    history: History | None = None,
    n_markets: int = N_SANDBOX_MARKETS,
    stride: int = 60,
    num_workers: int = 1,
    num_threads: int = 1,
    use_ray: bool = True,
) -> dict[str, Any]:
    """Train a model and put it into the registry directory `out`; return its card.

    Parameters
    ----------
    preset : str
        starter, compact or full.
    source : str
        "sandbox" makes its own synthetic markets; "archive" and "venue" need the bars in `history`.
    minutes, seed : int
        Length and first seed of the synthetic markets.
    version : str
        Name in the registry; empty makes one from preset and seed.
    out : Path
        Registry directory.
    as_json : bool
        Print no progress.
    history : History or None
        1m bars per symbol for the sources that are not synthetic.
    n_markets : int
        How many synthetic histories, with consecutive seeds.
    stride : int
        Distance of training decisions in decision bars.
    num_workers, num_threads, use_ray
        Workers of Ray Train and threads of each; `use_ray=False` trains in this process.

    Raises
    ------
    ConfigError
        If the source is unknown or comes without history.
    RejectedError
        If the version exists.
    """
    name = version or f"{preset}-{seed}"
    if (out / name / "card.json").exists():
        raise RejectedError(f"model version exists already: {name}")
    markets, described = _markets(source, minutes, seed, n_markets, history)
    request = TrainRequest(
        preset=preset,
        version=name,
        trained_on=described,
        made_by=_command(),
        stride=stride,
        settings=TrainSettings(epochs=epochs, seed=seed, num_threads=num_threads),
    )
    with _bar(as_json) as bar:
        card = _train_into(out / name, request, markets, num_workers, use_ray, bar)
    return card.model_dump()


def _markets(source: str, minutes: int, seed: int, n_markets: int, history: History | None) -> tuple[Sequence[History], str]:
    if source == "sandbox":
        symbols = list(SPECS)[:N_SANDBOX_SYMBOLS]
        markets = [synthetic_history(symbols, minutes, seed + i) for i in range(n_markets)]
        last = seed + n_markets - 1
        return markets, f"synthetic market, seeds {seed} to {last}, {minutes / 1440:g} days each, {', '.join(symbols)}"
    if source not in ("archive", "venue"):
        raise ConfigError(f"unknown training source: {source} (sandbox, archive or venue)")
    if not history:
        raise ConfigError(f"no bars for training from {source}")
    days = max(len(times) for times, _ in history.values()) / 1440
    return [history], f"{source}, {days:.1f} days, {', '.join(history)}"


def _train_into(
    target: Path, request: TrainRequest, markets: Sequence[History], num_workers: int, use_ray: bool, bar: Progress
) -> ModelCard:
    task = bar.add_task(f"training {request.version}", total=request.settings.epochs)

    def on_epoch(progress: TrainProgress) -> None:
        last = progress.history[-1]
        text = f"epoch {progress.epoch}: train {last['train_loss']:.4f}, validation {last['validation_loss']:.4f}"
        bar.update(task, completed=progress.epoch, description=text)

    # Work beside the target: a registry folder holds finished models only
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".training-") as folder:
        card = train(request, markets, Path(folder) / request.version, num_workers, use_ray, on_epoch)
        shutil.rmtree(Path(folder) / request.version / "checkpoints")
        (Path(folder) / request.version).rename(target)
    return card


def _bar(as_json: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=as_json)


def _command() -> str:
    program = Path(sys.argv[0]).name or "python"
    return shlex.join([program, *sys.argv[1:]]) if program.startswith("helios") else "training.cli.train_command"

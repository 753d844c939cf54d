"""Search over learning rate, dropout and weight decay with Ray Tune."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from helios.errors import SolverError
from helios.learn.network import TimeframeAttentionNet, preset
from training.job import Job
from training.loop import Progress, Trainer, TrainSettings


@dataclass(frozen=True, slots=True)
class Trial:
    """One tried setting and its best validation loss."""

    learning_rate: float
    dropout: float
    weight_decay: float
    validation_loss: float


def tune_settings(job: Job, storage_dir: Path, n_trials: int = 8, cpus_per_trial: float = 1.0, seed: int = 0) -> list[Trial]:
    """Try settings on the training and validation parts and return the trials, best first.

    The calibration and test parts are not touched. Bad trials are stopped early (ASHA on the validation loss). The
    job travels once, through the object store.

    Parameters
    ----------
    job : Job
        From `training.job.prepare`.
    storage_dir : Path
        Where Ray Tune keeps its state.
    n_trials : int
        Settings to try.
    cpus_per_trial : float
        CPUs reserved for each.
    seed : int
        Of the search; equal seeds try equal settings.

    Raises
    ------
    SolverError
        If no trial gave a loss.
    """
    space = {
        "learning_rate": tune.loguniform(3e-4, 3e-3),
        "dropout": tune.choice([0.1, 0.2, 0.3, 0.4]),
        "weight_decay": tune.loguniform(1e-3, 1e-1),
    }
    search = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, job=job), {"cpu": cpus_per_trial}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="validation_loss",
            mode="min",
            num_samples=n_trials,
            search_alg=tune.search.BasicVariantGenerator(random_state=seed),
            scheduler=tune.schedulers.ASHAScheduler(max_t=max(2, job.request.settings.epochs), grace_period=1),
        ),
        run_config=tune.RunConfig(storage_path=str(storage_dir.resolve()), name=f"tune-{job.request.version}", verbose=0),
    )
    grid = search.fit()
    results = [grid[i] for i in range(len(grid))]
    trials = [_trial(result.config, result.metrics) for result in results if result.metrics and not result.error]
    if not trials:
        raise SolverError("no tuning trial gave a validation loss")
    return sorted(trials, key=lambda trial: trial.validation_loss)


def run_trial(config: dict[str, float], job: Job) -> None:
    """Train one setting and report its best validation loss after every epoch."""
    torch.set_num_threads(job.request.settings.num_threads)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trial_trainer(job, config, Path(folder))
        trainer.run(on_epoch=_report)


def trial_trainer(job: Job, config: dict[str, float], folder: Path) -> Trainer:
    """Return the trainer of one setting."""
    settings: TrainSettings = replace(
        job.request.settings, learning_rate=config["learning_rate"], weight_decay=config["weight_decay"]
    )
    torch.manual_seed(settings.seed)
    net = TimeframeAttentionNet(replace(preset(job.request.preset), dropout=config["dropout"]))
    return Trainer(net, job.dataset, job.scaler, job.splits.train, job.splits.validation, settings, folder)


def _report(progress: Progress) -> None:
    tune.report({"validation_loss": progress.best_loss, "epoch": progress.epoch})


def _trial(config: dict[str, float] | None, metrics: dict[str, Any]) -> Trial:
    chosen = config or {}
    loss = float(metrics.get("validation_loss", math.inf))
    return Trial(chosen["learning_rate"], chosen["dropout"], chosen["weight_decay"], loss)


def as_rows(trials: list[Trial]) -> list[dict[str, float]]:
    """Return plain rows, for printing."""
    return [asdict(trial) for trial in trials]

"""Train a model in this process or on Ray Train, judge it and write it down."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Read by Ray Train when it is first used; its default makes a small fit wait seconds for nothing.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")

import ray
import torch
from ray import train as ray_train
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model

from helios.errors import SolverError
from helios.learn.artifact import ModelCard, save_model
from helios.learn.dataset import History
from training.job import Job, TrainRequest, finish, initial_network, prepare
from training.loop import BatchHook, EpochHook, Progress, Trainer

NICENESS = 10
"""Of a training worker: a desk on the same machine comes first."""


def train(
    request: TrainRequest,
    markets: Sequence[History],
    output_dir: Path,
    num_workers: int = 1,
    use_ray: bool = True,
    on_epoch: EpochHook | None = None,
    on_batch: BatchHook | None = None,
) -> ModelCard:
    """Prepare, fit, calibrate, judge and save one model.

    Parameters
    ----------
    request : TrainRequest
        Preset, version, labels and settings.
    markets : sequence of History
        One or more markets, each symbol -> (open times, 1m bars of shape (n, 13)).
    output_dir : Path
        Receives weights, scaler and card; checkpoints go to its `checkpoints` folder, from which an interrupted in-process run
        resumes.
    num_workers : int
        Workers of Ray Train.
    use_ray : bool
        False trains in this process.
    on_epoch, on_batch : callable or None
        Progress; on Ray only `on_epoch` is called, once, with the final history.

    Raises
    ------
    InsufficientHistoryError
        If the history is too short.
    SolverError
        If Ray Train gave no checkpoint.
    """
    job = prepare(request, markets)
    checkpoints = output_dir / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    if use_ray:
        run_training(job, checkpoints, num_workers, on_epoch)
    else:
        fit_here(job, checkpoints, on_epoch, on_batch)
    net, card = finish(job, checkpoints)
    return save_model(output_dir, net, job.scaler, card)


def fit_here(job: Job, checkpoints: Path, on_epoch: EpochHook | None = None, on_batch: BatchHook | None = None) -> Progress:
    """Fit in this process, on the GPU where there is one; resumes from `checkpoints`."""
    torch.set_num_threads(job.request.settings.num_threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = _trainer(job, initial_network(job.request).to(device), checkpoints, 0, 1, device)
    trainer.resume()
    return trainer.run(on_epoch=on_epoch, on_batch=on_batch)


def run_training(job: Job, checkpoints: Path, num_workers: int = 1, on_epoch: EpochHook | None = None) -> None:
    """Fit on Ray Train and copy the checkpoints of the finished run into `checkpoints`.

    Starts a local Ray where none is connected. The job travels through the object store, so workers on other nodes need no
    shared folder for the data; the checkpoints of several nodes need a storage path that all of them see.

    Raises
    ------
    SolverError
        If the run gave no checkpoint.
    """
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    has_gpu = ray.cluster_resources().get("GPU", 0.0) >= num_workers  # type: ignore[no-untyped-call]
    trainer = TorchTrainer(
        worker_loop,
        train_loop_config={"job": ray.put(job)},
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=has_gpu),
        run_config=RunConfig(
            name=job.request.version,
            storage_path=str((checkpoints / "ray").resolve()),
            failure_config=FailureConfig(max_failures=1),
        ),
    )
    result = trainer.fit()
    if result.checkpoint is None:
        raise SolverError("Ray Train ended without a checkpoint")
    with result.checkpoint.as_directory() as folder:
        shutil.copytree(folder, checkpoints, dirs_exist_ok=True)
    if on_epoch is not None:
        state = torch.load(checkpoints / "last.pt", map_location="cpu", weights_only=True)
        on_epoch(Progress(**state["progress"]))


def worker_loop(config: dict[str, Any]) -> None:
    """Run one Ray Train worker; a restarted worker goes on from the last reported checkpoint."""
    os.nice(NICENESS)
    job: Job = ray.get(config["job"])
    context = ray_train.get_context()
    torch.set_num_threads(job.request.settings.num_threads)
    net = prepare_model(initial_network(job.request))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        earlier = ray_train.get_checkpoint()
        if earlier is not None:
            earlier.to_directory(folder)
        rank, size = context.get_world_rank(), context.get_world_size()
        trainer = _trainer(job, net, folder, rank, size, get_device())
        trainer.resume()
        trainer.run(on_epoch=lambda progress: _report(progress, folder, rank))


def _report(progress: Progress, folder: Path, rank: int) -> None:
    # Every worker must report (Ray waits for all); rank 0 alone has files.
    checkpoint = Checkpoint.from_directory(folder) if rank == 0 else None
    ray_train.report(dict(progress.history[-1]), checkpoint=checkpoint)


def _trainer(job: Job, net: torch.nn.Module, folder: Path, rank: int, size: int, device: torch.device) -> Trainer:
    return Trainer(
        net,
        job.dataset,
        job.scaler,
        job.splits.train,
        job.splits.validation,
        job.request.settings,
        folder,
        rank,
        size,
        device,
    )

"""One training loop, run in process and by every worker of Ray Train alike."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from helios.domain.decisions import FloatArray
from helios.domain.enums import FEATURE_TIMEFRAMES
from helios.features.definitions import FLOW_BOOK_COLUMNS
from helios.learn.dataset import Dataset, IntArray
from helios.learn.scaling import FeatureScaler

logger = logging.getLogger(__name__)
LAST, BEST = "last.pt", "best.pt"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train; every number that changes the result.

    Attributes
    ----------
    epochs : int
        Length of the cosine schedule and upper bound of the training.
    patience : int
        Epochs without a lower validation loss before stopping.
    hide_flow_probability : float
        Chance per training row that everything known only from trades and books is hidden, so that one model also serves
        rows made of candles alone.
    class_weight_floor : float
        Least share a class counts with; bounds the weight of a rare or absent class.
    part_size : int
        Rows per forward pass, for small GPUs: gradients of a batch are accumulated over its parts. 0 takes the whole batch.
    mixed_precision : bool
        float16 with loss scaling, on a GPU only.
    """

    epochs: int = 8
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 5e-2
    patience: int = 3
    seed: int = 0
    hide_flow_probability: float = 0.5
    class_weight_floor: float = 0.10
    label_smoothing: float = 0.0
    part_size: int = 0
    mixed_precision: bool = True
    num_threads: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for the model card."""
        return asdict(self)


@dataclass(slots=True)
class Progress:
    """Where a training stands; part of every checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    history: list[dict[str, float]] = field(default_factory=list)

    def is_finished(self, settings: TrainSettings) -> bool:
        """Whether the schedule is over or early stopping has struck."""
        return self.epoch >= settings.epochs or self.epoch - self.best_epoch >= settings.patience > 0


LONGEST_WINDOW_MINUTES = 60 * 15  # sixty steps of the longest timeframe
EpochHook = Callable[[Progress], None]
BatchHook = Callable[[int, int], None]


def class_weights(labels: NDArray[np.int8], floor: float) -> tuple[float, float, float]:
    """Return loss weights inverse to the class shares, mean 1 over the rows that exist.

    Shares below `floor` count as `floor`: an absent class cannot divide by zero and a rare one cannot rule the loss.
    """
    shares = np.bincount(labels, minlength=3) / max(len(labels), 1)
    raw = 1.0 / np.maximum(shares, floor)
    weights = raw / float((raw * shares).sum())
    return float(weights[0]), float(weights[1]), float(weights[2])


class Trainer:
    """Trains one network on one dataset; checkpoints after every epoch and resumes bit-exactly.

    Parameters
    ----------
    net : nn.Module
        Plain, or wrapped for several workers.
    dataset, scaler
        Windows and their standardisation.
    train_rows, validation_rows : int64 arrays
        Rows of the dataset.
    settings : TrainSettings
    directory : Path
        Where `last.pt` and `best.pt` go; written by rank 0 alone.
    rank, world_size : int
        This worker among how many.
    device : torch.device
    """

    def __init__(
        self,
        net: nn.Module,
        dataset: Dataset,
        scaler: FeatureScaler,
        train_rows: IntArray,
        validation_rows: IntArray,
        settings: TrainSettings,
        directory: Path,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self._net, self._dataset, self._scaler = net, dataset, scaler
        self._train, self._validation = train_rows, validation_rows
        self._settings, self._directory = settings, directory
        self._rank, self._world, self._device = rank, world_size, device or torch.device("cpu")
        self._weights = class_weights(dataset.labels[train_rows], settings.class_weight_floor)
        self._weight_tensor = torch.tensor(self._weights, device=self._device)
        self._loss = nn.CrossEntropyLoss(self._weight_tensor, label_smoothing=settings.label_smoothing)
        self._optimiser = torch.optim.AdamW(net.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        self._steps = max(1, math.ceil(len(train_rows) / (settings.batch_size * world_size)))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, self._rate)
        self._amp = settings.mixed_precision and self._device.type == "cuda"
        self._grad_scaler = torch.amp.GradScaler("cuda", enabled=self._amp)
        self._part_size = settings.part_size or settings.batch_size
        self.progress = Progress()

    def run(self, stop_after: int | None = None, on_epoch: EpochHook | None = None, on_batch: BatchHook | None = None) -> Progress:
        """Train until the schedule ends, early stopping strikes, or `stop_after` epochs are done in all."""
        while not self.progress.is_finished(self._settings) and (stop_after is None or self.progress.epoch < stop_after):
            train_loss = self._epoch(on_batch)
            validation_loss = self.validate()
            self._note(train_loss, validation_loss)
            if on_epoch is not None:
                on_epoch(self.progress)
        return self.progress

    def validate(self) -> float:
        """Return the weighted validation loss; the mean of all rows known in full and all rows from candles alone."""
        self._net.eval()
        total = np.zeros(2)
        with torch.inference_mode():
            for rows in _chunks(self._validation[self._rank :: self._world], self._settings.batch_size):
                for known in (np.inf, 0.0):
                    logits, labels = self._logits(rows, np.full(len(rows), known))
                    weight = float(self._weight_tensor[labels].sum())
                    total += (float(self._loss(logits, labels)) * weight, weight)
        sums = self._sum_over_workers(total)
        return float(sums[0] / sums[1])

    def resume(self) -> bool:
        """Load `last.pt` where there is one; the next epoch then is what it would have been."""
        path = self._directory / LAST
        if not path.exists():
            return False
        state = torch.load(path, map_location=self._device, weights_only=True)
        _plain(self._net).load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._grad_scaler.load_state_dict(state["grad_scaler"])
        self.progress = Progress(**state["progress"])
        return True

    def _epoch(self, on_batch: BatchHook | None) -> float:
        # Everything random is drawn from (seed, epoch, rank): no generator state needs to survive a restart.
        rng = np.random.default_rng([self._settings.seed, self.progress.epoch])
        torch.manual_seed(self._settings.seed * 100_003 + self.progress.epoch * 1_009 + self._rank)
        order = rng.permutation(self._train)
        known = draw_known_minutes(rng, len(order), self._settings.hide_flow_probability)
        self._net.train()
        total = np.zeros(2)
        for step in range(self._steps):
            mine = _share(len(order), step, self._settings.batch_size, self._rank, self._world)
            total += self._step(order[mine], known[mine])
            if on_batch is not None:
                on_batch(step + 1, self._steps)
        sums = self._sum_over_workers(total)
        return float(sums[0] / sums[1])

    def _step(self, rows: IntArray, known: FloatArray) -> tuple[float, float]:
        loss = self._gradients(rows, known)
        self._grad_scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self._net.parameters(), 1.0)
        self._grad_scaler.step(self._optimiser)
        self._grad_scaler.update()
        self._schedule.step()
        return loss * len(rows), float(len(rows))

    def _gradients(self, rows: IntArray, known: FloatArray) -> float:
        """Gradients of the batch's mean loss, in as few parts as memory allows; the step stays the same."""
        while True:
            self._optimiser.zero_grad(set_to_none=True)
            try:
                return sum(self._backward(part, known_part, len(rows)) for part, known_part in self._parts(rows, known))
            except torch.OutOfMemoryError:
                # Workers that disagree on the number of parts would wait for each other for ever
                if self._world > 1 or self._part_size <= 1:
                    raise
                self._part_size = max(1, min(self._part_size, len(rows)) // 2)
                logger.warning("out of GPU memory: batches go in parts of %d rows from now on", self._part_size)

    def _parts(self, rows: IntArray, known: FloatArray) -> list[tuple[IntArray, FloatArray]]:
        size = self._part_size
        return [(rows[i : i + size], known[i : i + size]) for i in range(0, len(rows), size)]

    def _backward(self, rows: IntArray, known: FloatArray, n_batch: int) -> float:
        logits, labels = self._logits(rows, known)
        loss = self._loss(logits, labels) * (len(rows) / n_batch)
        self._grad_scaler.scale(loss).backward()
        return float(loss.detach())

    def _logits(self, rows: IntArray, known: FloatArray) -> tuple[Tensor, Tensor]:
        windows = hide_flow(self._dataset.gather(rows), known)
        inputs = torch.from_numpy(self._scaler.transform(windows)).to(self._device, non_blocking=True)  # (B, 3, 60, 30)
        labels = torch.from_numpy(self._dataset.labels[rows].astype(np.int64)).to(self._device)  # (B,)
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._amp):
            logits, _ = self._net(inputs)  # (B, 3)
        return logits.float(), labels

    def _note(self, train_loss: float, validation_loss: float) -> None:
        progress = self.progress
        progress.epoch += 1
        progress.history.append({"epoch": progress.epoch, "train_loss": train_loss, "validation_loss": validation_loss})
        is_best = validation_loss < progress.best_loss
        if is_best:
            progress.best_loss, progress.best_epoch = validation_loss, progress.epoch
        if self._rank == 0:
            self._save(LAST)
            if is_best:
                self._save(BEST)

    def _save(self, name: str) -> None:
        state = {
            "net": _plain(self._net).state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "grad_scaler": self._grad_scaler.state_dict(),
            "progress": asdict(self.progress),
            "class_weights": list(self._weights),
        }
        temporary = self._directory / f"{name}.tmp"
        torch.save(state, temporary)
        temporary.replace(self._directory / name)  # a crash leaves the old checkpoint or the new one, never half of one

    def _rate(self, step: int) -> float:
        """Linear warm-up over the first tenth of an epoch, then half a cosine to 1 % over the whole schedule."""
        warm = max(1, self._steps // 10)
        done = min(1.0, step / (self._steps * self._settings.epochs))
        return min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * done)))

    def _sum_over_workers(self, values: FloatArray) -> FloatArray:
        if self._world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float32 if self._device.type == "mps" else torch.float64, device=self._device)
        dist.all_reduce(tensor)
        return tensor.cpu().numpy().astype(np.float64)


def hide_flow(windows: NDArray[np.float32], known_minutes: FloatArray) -> NDArray[np.float32]:
    """Return windows whose flow and book columns are NaN in steps that began more than `known_minutes` ago; in place.

    A desk that has listened for an hour knows the flow of that hour and, from the venue's candles, nothing of it before.

    Parameters
    ----------
    windows : float32 array of shape (n, 3, 60, 30)
    known_minutes : float64 array of shape (n,)
        0 hides everything, infinity nothing.
    """
    column = np.isin(np.arange(windows.shape[-1]), FLOW_BOOK_COLUMNS)
    age_minutes = np.outer([t.seconds / 60 for t in FEATURE_TIMEFRAMES], np.arange(windows.shape[2], 0, -1))  # (3, 60)
    hidden = age_minutes > known_minutes[:, None, None]
    np.copyto(windows, np.nan, where=hidden[..., None] & column)
    return windows


def draw_known_minutes(rng: np.random.Generator, n: int, hide_probability: float) -> FloatArray:
    """Return how long each of `n` rows has listened: for ever, or (with `hide_probability`) never or 1 to 900 minutes, evenly."""
    known = np.full(n, np.inf)
    hidden = rng.random(n) < hide_probability
    partial = np.exp(rng.uniform(0.0, math.log(LONGEST_WINDOW_MINUTES), n))
    known[hidden] = np.where(rng.random(n) < 0.5, 0.0, partial)[hidden]
    return known


def predict_logits(net: nn.Module, dataset: Dataset, scaler: FeatureScaler, rows: IntArray, hide: bool) -> FloatArray:
    """Return the logits of some rows, with or without flow and book columns: float64 of shape (len(rows), 3)."""
    net.eval()
    parts = []
    with torch.inference_mode():
        for part in _chunks(rows, 512):
            windows = hide_flow(dataset.gather(part), np.full(len(part), 0.0 if hide else np.inf))
            parts.append(net(torch.from_numpy(scaler.transform(windows)))[0].double().numpy())
    return np.concatenate(parts) if parts else np.empty((0, 3))


def _share(n_rows: int, step: int, batch_size: int, rank: int, world: int) -> IntArray:
    """Positions of this worker's part of a global batch; wraps at the end so that all workers have equally many rows."""
    padded = math.ceil(n_rows / world) * world
    size = batch_size * world
    return np.arange(step * size, min((step + 1) * size, padded))[rank::world] % n_rows


def _chunks(rows: IntArray, size: int) -> list[IntArray]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _plain(net: nn.Module) -> nn.Module:
    """The network itself, without the wrapper for several workers."""
    inner = getattr(net, "module", net)
    assert isinstance(inner, nn.Module)
    return inner

"""Inference: one batched call for all symbols of a bar close, on the CPU and, where there is one, on the GPU."""

from __future__ import annotations

import numpy as np

from helios.cli.contest import Contest, Sizes
from helios.cli.contests import SEED
from helios.learn.network import example_shape, parameter_count
from helios.learn.predictor import BatchPredictor
from helios.learn.untrained import gpu_name, untrained_model

_ON_CPU = ("starter", "compact")  # `full` is for a GPU: seconds a batch on a CPU
_ON_GPU = ("starter", "compact", "full")


def inference(sizes: Sizes) -> list[Contest]:
    """Windows in, calibrated probabilities and attention out."""
    contests = [_contest(name, "cpu", "CPU, one thread", n) for name in _ON_CPU for n in sizes.windows]
    if gpu := gpu_name():
        contests += [_contest(name, "cuda", gpu, n) for name in _ON_GPU for n in sizes.windows]
    return contests


def _contest(name: str, device: str, where: str, n_windows: int) -> Contest:
    model = untrained_model(name, SEED)
    predictor = BatchPredictor(model, device=device)
    asked = np.random.default_rng(SEED).normal(0.0, 1.0, example_shape(n_windows)).astype(np.float32)
    work = f"{name} ({parameter_count(model.net):,} parameters), {n_windows} windows, {where}"
    return Contest(work, "ms", 1, lambda: predictor.predict(asked), note="random weights; the way to the device and back included")

"""The network on a GPU: the same answers as on the CPU, repeatably, and a training that learns and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helios.learn.labels import BarrierSpec
from helios.learn.network import PRESETS, example_shape
from helios.learn.predictor import BatchPredictor
from helios.learn.untrained import untrained_model
from helios.venues.sandbox.history import synthetic_history
from training.job import Job, TrainRequest, initial_network, prepare
from training.loop import LAST, Trainer, TrainSettings

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")]
CUDA = torch.device("cuda")


def windows(n: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 2, example_shape(n)).astype(np.float32)
    values[0, :, :, 9] = np.nan
    return values


@pytest.fixture(scope="module")
def job() -> Job:
    settings = TrainSettings(epochs=4, batch_size=64, patience=9)
    spec = BarrierSpec(horizon_bars=24, volatility_half_life_bars=24)
    request = TrainRequest("starter", "t", "synthetic", "test", stride=12, embargo_bars=1, spec=spec, settings=settings)
    return prepare(request, [synthetic_history(("BTC/ZAR", "ETH/ZAR"), 6 * 1440, seed=5, flow_strength=3.0)])


def trainer(job: Job, folder: Path) -> Trainer:
    folder.mkdir(exist_ok=True)
    net = initial_network(job.request).to(CUDA)
    return Trainer(net, job.dataset, job.scaler, job.splits.train, job.splits.validation, job.request.settings, folder, device=CUDA)


@pytest.mark.parametrize("name", PRESETS)
def test_gpu_and_cpu_give_the_same_probabilities(name: str) -> None:
    loaded, asked = untrained_model(name), windows(16)
    on_cpu, on_gpu = BatchPredictor(loaded).predict(asked), BatchPredictor(loaded, device="cuda").predict(asked)
    # Single precision, and the reduced precision that cuDNN takes for recurrent layers: no decision hangs on a tenth of a percent.
    np.testing.assert_allclose(on_gpu[0], on_cpu[0], atol=1e-3)
    np.testing.assert_allclose(on_gpu[1], on_cpu[1], atol=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_answers_of_the_gpu_repeat_exactly(name: str) -> None:
    predictor, asked = BatchPredictor(untrained_model(name), device="cuda"), windows(64)
    first, second = predictor.predict(asked), predictor.predict(asked)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_training_in_mixed_precision_lowers_the_loss(job: Job, tmp_path: Path) -> None:
    progress = trainer(job, tmp_path).run()
    assert progress.history[-1]["train_loss"] < progress.history[0]["train_loss"]


def test_a_training_that_was_broken_off_goes_on_where_it_was(job: Job, tmp_path: Path) -> None:
    whole = trainer(job, tmp_path / "whole")
    whole.run()
    trainer(job, tmp_path / "parts").run(stop_after=2)
    resumed = trainer(job, tmp_path / "parts")
    assert resumed.resume()
    resumed.run()
    assert [e["epoch"] for e in resumed.progress.history] == [e["epoch"] for e in whole.progress.history]
    losses = [[e["validation_loss"] for e in run.progress.history] for run in (whole, resumed)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)  # atomics of the backward pass add in no fixed order
    assert torch.load(tmp_path / "parts" / LAST, weights_only=True)["progress"]["epoch"] == whole.progress.epoch

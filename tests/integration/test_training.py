"""Training on Ray Train: two CPU workers, and one worker against the same loop in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

from helios.learn.artifact import Registry, load_model
from helios.learn.labels import BarrierSpec
from helios.venues.sandbox.history import synthetic_history
from training.cli import train_command
from training.job import TrainRequest, prepare
from training.loop import BEST, LAST, TrainSettings
from training.train import fit_here, run_training, train
from training.tuning import tune_settings

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
REQUEST = TrainRequest(
    "starter", "t", "synthetic", "test", stride=24, embargo_bars=1,
    spec=BarrierSpec(horizon_bars=24, volatility_half_life_bars=24),
    settings=TrainSettings(epochs=2, batch_size=64),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def markets() -> list:
    return [synthetic_history(("BTC/ZAR", "ETH/ZAR"), 6 * 1440, seed=5)]


def test_two_workers_give_a_model_that_loads(markets: list, tmp_path: Path) -> None:
    card = train(REQUEST, markets, tmp_path / "m", num_workers=2)
    assert load_model(tmp_path / "m").card == card
    assert len(card.metrics["history"]) == 2


def test_one_worker_does_what_the_loop_in_process_does(markets: list, tmp_path: Path) -> None:
    job = prepare(REQUEST, markets)
    for name in ("here", "ray"):
        (tmp_path / name).mkdir()
    fit_here(job, tmp_path / "here")
    run_training(job, tmp_path / "ray", num_workers=1)
    here, there = (torch.load(tmp_path / name / LAST, weights_only=True) for name in ("here", "ray"))
    assert (tmp_path / "ray" / BEST).exists()
    assert here["progress"] == there["progress"]
    assert all(torch.equal(here["net"][key], there["net"][key]) for key in here["net"])


def test_tuning_tries_settings_and_sorts_them(markets: list, tmp_path: Path) -> None:
    job = prepare(REQUEST, markets)
    trials = tune_settings(job, tmp_path, n_trials=2)
    assert len({trial.learning_rate for trial in trials}) == 2
    assert trials[0].validation_loss <= trials[1].validation_loss < 3


def test_the_command_registers_what_it_trained(tmp_path: Path) -> None:
    card = train_command("starter", minutes=15 * 1440, seed=1, version="mine", out=tmp_path, epochs=1, as_json=True, n_markets=2)
    assert Registry(tmp_path).get("mine").card.model_dump() == card
    assert "seeds 1 to 2" in card["trained_on"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]

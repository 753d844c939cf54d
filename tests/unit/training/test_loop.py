from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helios.errors import ConfigError, RejectedError
from helios.features.definitions import CANDLE_COLUMNS, FLOW_BOOK_COLUMNS
from helios.learn.artifact import load_model
from helios.learn.labels import BarrierSpec
from helios.venues.sandbox.history import synthetic_history
from training.cli import train_command
from training.job import Job, TrainRequest, initial_network, prepare, verdict_of
from training.loop import LAST, Trainer, TrainSettings, _share, class_weights, draw_known_minutes, hide_flow
from training.train import train

SPEC = BarrierSpec(horizon_bars=24, volatility_half_life_bars=24)


def request(**settings) -> TrainRequest:
    chosen = TrainSettings(**{"epochs": 4, "batch_size": 64, "patience": 9, **settings})
    return TrainRequest("starter", "t", "synthetic", "test", stride=12, embargo_bars=1, spec=SPEC, settings=chosen)


@pytest.fixture(scope="module")
def markets() -> list:
    return [synthetic_history(("BTC/ZAR", "ETH/ZAR"), 6 * 1440, seed=5, flow_strength=3.0)]


@pytest.fixture(scope="module")
def job(markets: list) -> Job:
    torch.set_num_threads(1)
    return prepare(request(), markets)


def trainer(job: Job, folder: Path, settings: TrainSettings | None = None) -> Trainer:
    chosen = settings or job.request.settings
    net = initial_network(job.request)
    return Trainer(net, job.dataset, job.scaler, job.splits.train, job.splits.validation, chosen, folder)


def test_two_and_two_epochs_equal_four_bit_for_bit(job: Job, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = trainer(job, tmp_path / "whole")
    whole.run()
    trainer(job, tmp_path / "parts").run(stop_after=2)
    resumed = trainer(job, tmp_path / "parts")
    assert resumed.resume()
    assert resumed.progress.epoch == 2
    resumed.run()
    assert resumed.progress == whole.progress
    states = [torch.load(tmp_path / name / LAST, weights_only=True)["net"] for name in ("whole", "parts")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_training_lowers_the_loss(job: Job, tmp_path: Path) -> None:
    history = trainer(job, tmp_path).run().history
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_nothing_to_resume_starts_fresh(job: Job, tmp_path: Path) -> None:
    assert not trainer(job, tmp_path).resume()


def test_early_stopping_keeps_the_best_epoch(job: Job, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=9, batch_size=64, patience=2, learning_rate=0.0)  # nothing is learnt: the first is the best
    progress = trainer(job, tmp_path, settings).run()
    assert (progress.best_epoch, progress.epoch) == (1, 3)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["progress"]["epoch"] == 1


def test_out_of_memory_makes_the_parts_smaller_and_training_goes_on(job: Job, tmp_path: Path) -> None:
    seen: list[int] = []

    def forward_hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if torch.is_grad_enabled():
            if len(inputs[0]) > 20:
                raise torch.OutOfMemoryError
            seen.append(len(inputs[0]))

    small = trainer(job, tmp_path)
    small._net.register_forward_pre_hook(forward_hook)
    progress = small.run(stop_after=1)
    assert progress.epoch == 1
    assert max(seen) == 16  # 64 -> 32 -> 16


def test_class_weights_survive_an_absent_class() -> None:
    weights = class_weights(np.array([0] * 90 + [1] * 10, dtype=np.int8), floor=0.05)
    assert np.isfinite(weights).all()
    assert weights[1] == pytest.approx(9 * weights[0])
    assert weights[2] == pytest.approx(18 * weights[0])


def test_class_weights_keep_the_mean_loss_scale() -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20, dtype=np.int8)
    assert np.asarray(class_weights(labels, 0.05))[labels].mean() == pytest.approx(1)


def test_hiding_flow_leaves_the_candles() -> None:
    windows = np.ones((2, 3, 60, 30), dtype=np.float32)
    hide_flow(windows, np.array([0.0, np.inf]))
    assert np.isnan(windows[0][..., list(FLOW_BOOK_COLUMNS)]).all()
    assert (windows[0][..., list(CANDLE_COLUMNS)] == 1).all()
    assert (windows[1] == 1).all()


def test_flow_heard_for_an_hour_is_known_for_an_hour_on_every_timeframe() -> None:
    windows = np.ones((1, 3, 60, 30), dtype=np.float32)
    hide_flow(windows, np.array([60.0]))
    known = np.isfinite(windows[0, :, :, FLOW_BOOK_COLUMNS[0]])
    assert known.sum(axis=1).tolist() == [60, 12, 4]
    assert known[:, -1].all()


def test_half_of_the_hidden_rows_know_a_part() -> None:
    known = draw_known_minutes(np.random.default_rng(1), 4_000, 0.5)
    assert np.isinf(known).mean() == pytest.approx(0.5, abs=0.03)
    assert (known == 0).mean() == pytest.approx(0.25, abs=0.03)
    assert known[(known > 0) & np.isfinite(known)].max() <= 900


@pytest.mark.parametrize(("n_rows", "world"), [(10, 1), (10, 3), (128, 2), (3, 4)])
def test_workers_share_all_rows_evenly(n_rows: int, world: int) -> None:
    n_steps = -(-n_rows // (4 * world))
    shares = [[_share(n_rows, step, 4, rank, world) for step in range(n_steps)] for rank in range(world)]
    assert len({sum(len(part) for part in worker) for worker in shares}) == 1
    assert set(np.concatenate([part for worker in shares for part in worker]).tolist()) == set(range(n_rows))


def test_train_saves_a_model_that_loads_and_tells_the_truth(markets: list, tmp_path: Path) -> None:
    card = train(request(epochs=2), markets, tmp_path / "m", use_ray=False)
    model = load_model(tmp_path / "m")
    assert model.card == card
    assert set(card.baselines) == {"majority", "logistic", "lightgbm"}
    assert set(card.train_ranges) == {"train", "validation", "calibration", "test"}
    assert card.metrics["n_rows"] == card.train_ranges["test"][2]
    assert card.beats_baselines == verdict_of(card.metrics, card.baselines)[0]
    assert card.logit_offset == pytest.approx(np.log(card.class_weights))
    assert card.temperature > 0


def test_verdict_names_the_baseline_that_was_not_beaten() -> None:
    metrics = {"log_loss": 0.95, "mcc": 0.1, "n_rows": 9}
    beats, text = verdict_of(metrics, {"majority": {"log_loss": 1.0, "mcc": 0.0}, "lightgbm": "not installed"})
    assert beats
    worse, text = verdict_of(metrics, {"majority": {"log_loss": 1.0, "mcc": 0.0}, "logistic": {"log_loss": 0.9, "mcc": 0.05}})
    assert not worse
    assert "logistic" in text.split(":")[0]


def test_command_refuses_an_unknown_source_and_an_existing_version(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="moon"):
        train_command("starter", "moon", out=tmp_path)
    with pytest.raises(ConfigError, match="archive"):
        train_command("starter", "archive", out=tmp_path)
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "card.json").write_text("{}")
    with pytest.raises(RejectedError, match="exists"):
        train_command("starter", version="v", out=tmp_path)

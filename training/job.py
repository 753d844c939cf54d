"""What a training run is made of: the job that workers get, and the steps before and after the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helios.domain.enums import FEATURE_TIMEFRAMES
from helios.learn.artifact import ModelCard
from helios.learn.baselines import baseline_metrics
from helios.learn.calibration import Calibration, fit_temperature
from helios.learn.dataset import DECISION, Dataset, History, build_windows, concatenate, fit_scaler
from helios.learn.labels import BarrierSpec, class_counts
from helios.learn.metrics import TRADE_CONFIDENCE, confidence_report, evaluate, payoffs_at
from helios.learn.network import TimeframeAttentionNet, preset
from helios.learn.scaling import FeatureScaler
from helios.learn.splits import Splits, split_by_time
from training.loop import BEST, LAST, TrainSettings, class_weights, predict_logits

DECISION_NS = FEATURE_TIMEFRAMES[DECISION].ns


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train and how to name it.

    Attributes
    ----------
    preset : str
        Size of the network.
    version : str
        Name in the registry.
    trained_on, made_by : str
        Source of the history and command, in words, for the card.
    stride : int
        Distance of decisions in decision bars.
    embargo_bars : int
        Gap after each split, in decision bars, in addition to the purge.
    """

    preset: str
    version: str
    trained_on: str
    made_by: str
    stride: int = 12
    embargo_bars: int = 12
    spec: BarrierSpec = field(default_factory=BarrierSpec)
    settings: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A prepared training: everything a worker needs."""

    request: TrainRequest
    dataset: Dataset
    splits: Splits
    scaler: FeatureScaler


def reference_of(history: History) -> str | None:
    """Return the BTC pair of a market, if it has one."""
    return next((symbol for symbol in history if symbol.startswith("BTC/")), None)


def prepare(request: TrainRequest, markets: Sequence[History]) -> Job:
    """Features, labels, purged time splits and the scaler of the training part.

    Raises
    ------
    InsufficientHistoryError
        If the history is too short for four purged splits.
    """
    datasets = [build_windows(market, reference_of(market), request.stride, request.spec) for market in markets]
    dataset = concatenate(datasets)
    splits = split_by_time(dataset, request.spec.horizon_bars * DECISION_NS, request.embargo_bars * DECISION_NS)
    return Job(request, dataset, splits, fit_scaler(dataset, splits.train))


def initial_network(request: TrainRequest) -> TimeframeAttentionNet:
    """Return the network before training; equal seeds give equal weights on every worker."""
    torch.manual_seed(request.settings.seed)
    return TimeframeAttentionNet(preset(request.preset))


def finish(job: Job, checkpoint_dir: Path) -> tuple[TimeframeAttentionNet, ModelCard]:
    """Load the best checkpoint, calibrate it and judge it on the test slice, beside the baselines."""
    state = torch.load(checkpoint_dir / BEST, map_location="cpu", weights_only=True)
    net = initial_network(job.request)
    net.load_state_dict(state["net"])
    net.eval()
    calibration = _calibrate(job, net)
    metrics, baselines = _judge(job, net, calibration)
    payoffs = measured_payoffs(job, net, calibration)
    last = torch.load(checkpoint_dir / LAST, map_location="cpu", weights_only=True)["progress"]
    metrics["history"], metrics["best_epoch"] = last["history"], last["best_epoch"]
    return net, _card(job, calibration, metrics, baselines, payoffs)


def _calibrate(job: Job, net: TimeframeAttentionNet) -> Calibration:
    rows, labels = job.splits.calibration, job.dataset.labels[job.splits.calibration]
    a, b, c = (float(np.log(w)) for w in _weights(job))
    full, candles = (
        fit_temperature(predict_logits(net, job.dataset, job.scaler, rows, hide), labels, (a, b, c)) for hide in (False, True)
    )
    return Calibration(full, candles, (a, b, c))


def measured_payoffs(job: Job, net: TimeframeAttentionNet, calibration: Calibration) -> dict[str, dict[str, float]]:
    """Return what the model's trades gave on the calibration slice: it is used, like the temperatures; the test slice stays clean."""
    rows = job.splits.calibration
    logits = predict_logits(net, job.dataset, job.scaler, rows, False)
    returns, stops = job.dataset.exit_returns[rows], job.dataset.stop_pcts[rows]
    return payoffs_at(calibration.probabilities(logits, False), returns, stops, TRADE_CONFIDENCE)


def _judge(job: Job, net: TimeframeAttentionNet, calibration: Calibration) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = job.splits.test
    labels, returns = job.dataset.labels[rows], job.dataset.exit_returns[rows]
    full, candles = (
        calibration.probabilities(predict_logits(net, job.dataset, job.scaler, rows, hide), hide) for hide in (False, True)
    )
    metrics = evaluate(full, labels, returns)
    metrics["confidence"] = confidence_report(full, labels)
    metrics["candles_only"] = {**evaluate(candles, labels, returns), "confidence": confidence_report(candles, labels)}
    return metrics, baseline_metrics(job.dataset, job.scaler, job.splits.train, rows)


def _weights(job: Job) -> tuple[float, float, float]:
    return class_weights(job.dataset.labels[job.splits.train], job.request.settings.class_weight_floor)


def _card(
    job: Job,
    calibration: Calibration,
    metrics: dict[str, Any],
    baselines: dict[str, Any],
    payoffs: dict[str, dict[str, float]],
) -> ModelCard:
    request, dataset = job.request, job.dataset
    beats, verdict = verdict_of(metrics, baselines)
    buys, sells, holds = (int(n) for n in class_counts(dataset.labels[job.splits.train]))
    return ModelCard(
        version=request.version,
        preset=request.preset,
        data_hash=dataset.digest(),
        trained_on=request.trained_on,
        made_by=request.made_by,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        barriers=request.spec.to_dict(),
        payoffs=payoffs,
        train_ranges={
            name: (int(dataset.times[rows].min()), int(dataset.times[rows].max()), len(rows)) for name, rows in job.splits.items()
        },
        class_counts=(buys, sells, holds),
        class_weights=_weights(job),
        temperature=calibration.temperature,
        candles_temperature=calibration.candles_temperature,
        logit_offset=calibration.offset,
        settings={**request.settings.to_dict(), "stride": request.stride, "embargo_bars": request.embargo_bars},
        metrics=metrics,
        baselines=baselines,
        beats_baselines=beats,
        verdict=verdict,
    )


def verdict_of(metrics: dict[str, Any], baselines: dict[str, Any]) -> tuple[bool, str]:
    """Return whether the network has a lower log loss and a higher MCC than every baseline, and that in one sentence."""
    ran = {name: b for name, b in baselines.items() if isinstance(b, dict)}
    losses = [name for name, b in ran.items() if metrics["log_loss"] >= b["log_loss"] or metrics["mcc"] <= b["mcc"]]
    facts = ", ".join(f"{name} {b['log_loss']:.4f} / {b['mcc']:.3f}" for name, b in ran.items())
    lead = f"log loss {metrics['log_loss']:.4f} / MCC {metrics['mcc']:.3f} on {metrics['n_rows']} test rows against {facts}"
    if losses:
        return False, f"Does NOT beat the baselines ({', '.join(losses)}): {lead}."
    return True, f"Beats the baselines: {lead}."

"""Models nobody has trained, for measuring: the time of a forward pass does not depend on the weights."""

from __future__ import annotations

import numpy as np
import torch

from helios.domain.decisions import N_FEATURES
from helios.learn.artifact import LoadedModel, ModelCard
from helios.learn.network import N_TIMEFRAMES, TimeframeAttentionNet, preset
from helios.learn.scaling import FeatureScaler


def untrained_model(name: str, seed: int = 0) -> LoadedModel:
    """Return a preset with random weights and a scaler that changes nothing.

    Raises
    ------
    ConfigError
        If there is no such preset.
    """
    torch.manual_seed(seed)
    shape = (N_TIMEFRAMES, N_FEATURES)
    scaler = FeatureScaler(np.zeros(shape), np.ones(shape))
    return LoadedModel(TimeframeAttentionNet(preset(name)), scaler, ModelCard(version="untrained", preset=name))


def gpu_name() -> str:
    """Return what the first GPU calls itself; empty where torch sees none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""

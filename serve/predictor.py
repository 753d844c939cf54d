"""Predictor: tier 2 as a Serve deployment. One batched call per bar close; HTTP callers are batched by Serve.

GPU where `num_gpus` > 0, else CPU. Model missing or corrupt: the constructor raises ModelUnavailableError, Serve reports the
deployment unhealthy and the desk trades nothing. Replica killed: Serve starts another; bars meanwhile are MODEL_UNAVAILABLE.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve

from helios.config import ModelConfig
from helios.errors import RejectedError
from helios.learn.artifact import Registry
from helios.learn.predictor import BatchPredictor

MAX_ROWS = 1_024


@serve.deployment(
    name="Predictor",
    num_replicas=1,
    max_ongoing_requests=16,
    health_check_period_s=1,
    health_check_timeout_s=5,
    graceful_shutdown_timeout_s=1,
    graceful_shutdown_wait_loop_s=0.2,
)
class Predictor:
    """Hold one model and answer batches.

    Parameters
    ----------
    config : ModelConfig
        Version, registry directory, threads; a GPU is used when Ray gave this replica one.
    """

    def __init__(self, config: ModelConfig) -> None:
        root = Path(config.registry_dir) if config.registry_dir else None
        model = Registry(root).get(config.version)
        device = "cuda" if config.num_gpus > 0 else "cpu"
        self._predictor = BatchPredictor(model, device=device, num_threads=config.num_threads)
        self._version = config.version

    async def predict_batch(self, values: np.ndarray) -> dict[str, Any]:
        """Return probabilities (n, 3) and attention (n, 3) for windows of shape (n, 3, 60, 30), NaN where unknown; payoffs by class.

        Raises
        ------
        RejectedError
            If the shape is wrong or the batch is larger than 1,024 rows.
        """
        if values.ndim != 4 or values.shape[1:] != (3, 60, 30) or not 1 <= len(values) <= MAX_ROWS:
            raise RejectedError(f"expected windows of shape (1..{MAX_ROWS}, 3, 60, 30), got {values.shape}")
        probabilities, attention = self._predictor.predict(np.ascontiguousarray(values, dtype=np.float32))
        about = {"model_version": self._version, "payoffs": self._predictor.payoffs}
        return {"probabilities": probabilities, "attention": attention} | about

    async def about(self) -> dict[str, Any]:
        """Return the process id and the model's version."""
        return {"pid": os.getpid(), "model_version": self._version}

    def check_health(self) -> None:
        """Serve calls this once a second."""


def predictor_app(config: ModelConfig) -> serve.Application:
    """Return the deployment bound to its model, pinned to a GPU share where one is configured."""
    options = {"num_cpus": 0, "num_gpus": config.num_gpus}
    return Predictor.options(ray_actor_options=options).bind(config)

"""Tier 2 over Serve. Kept apart from remote.py: only the SignalActor pays for importing Serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from actors.remote import call
from helios.domain.decisions import FeatureWindow, Prediction
from helios.domain.enums import Action
from helios.errors import ModelUnavailableError, TransportError


class RemotePrediction:
    """Tier 2 over the Serve deployment: one call for all symbols of a bar."""

    def __init__(self, deployment: str, app: str, deadline_s: float) -> None:
        self._deployment = deployment
        self._app = app
        self._deadline_s = deadline_s
        self._handle: DeploymentHandle | None = None

    async def predict(self, windows: Sequence[FeatureWindow]) -> list[Prediction]:
        values = np.stack([w.values for w in windows])
        try:
            answer = await call(self._ask(values), self._deadline_s, "predictor")
        except TransportError as error:
            raise ModelUnavailableError(str(error)) from None
        return [_prediction(w, answer, i) for i, w in enumerate(windows)]

    async def _ask(self, values: np.ndarray) -> dict[str, Any]:
        if self._handle is None:
            try:
                self._handle = serve.get_deployment_handle(self._deployment, self._app)
            except (KeyError, RayServeException):
                raise ModelUnavailableError("the predictor is not deployed yet") from None
        return await self._handle.predict_batch.remote(values)  # type: ignore[no-any-return]


def _prediction(window: FeatureWindow, answer: Mapping[str, Any], row: int) -> Prediction:
    probabilities = tuple(float(p) for p in answer["probabilities"][row])
    best = int(np.argmax(probabilities))
    return Prediction(
        symbol=window.symbol,
        bar_time=window.bar_time,
        action=Action(best),
        confidence=probabilities[best],
        probabilities=probabilities,  # type: ignore[arg-type]
        attention=tuple(float(a) for a in answer["attention"][row]),  # type: ignore[arg-type]
        model_version=str(answer["model_version"]),
        payoff=answer["payoffs"][best],
    )

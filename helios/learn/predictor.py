"""Batched, deterministic inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from helios.domain.decisions import FeatureWindow, Float32Array, FloatArray, Payoff, Prediction
from helios.domain.enums import Action
from helios.errors import ConfigError, DataError
from helios.features.definitions import FLOW_BOOK_COLUMNS
from helios.learn.artifact import LoadedModel
from helios.learn.network import example_shape, parameter_count

PROBABILITY_DIGITS = 6
ATTENTION_DIGITS = 4
# Below this size double precision costs a few ms a batch and makes a row's rounded answer independent of its neighbours.
DOUBLE_PRECISION_PARAMETERS = 1_000_000


class BatchPredictor:
    """Answer for many windows in one forward pass.

    Parameters
    ----------
    model : LoadedModel
        From `load_model` or `Registry.get`.
    device : str
        "cpu", "cuda" or "cuda:N".
    num_threads : int
        Threads of torch in this process (CPU only).

    Raises
    ------
    ConfigError
        If the device cannot be used.
    """

    def __init__(self, model: LoadedModel, device: str = "cpu", num_threads: int = 1) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"device {device} is not available")
        torch.set_num_threads(num_threads)
        self._model = model
        self._payoffs = tuple(model.card.payoff(action) for action in Action)
        self._device = torch.device(device)
        is_small = parameter_count(model.net) < DOUBLE_PRECISION_PARAMETERS
        self._dtype = torch.float64 if is_small and device == "cpu" else torch.float32
        self._net = _copy_of(model).to(self._device, self._dtype).eval()
        self.predict(np.zeros(example_shape(1), dtype=np.float32))  # first calls are slow; not at a bar close

    @property
    def version(self) -> str:
        """Version of the model."""
        return self._model.card.version

    @property
    def phase(self) -> str:
        """Phase of the model when it was loaded."""
        return self._model.card.phase

    @property
    def payoffs(self) -> tuple[Payoff | None, ...]:
        """What trades of BUY, SELL, HOLD gave, see `ModelCard.payoff`."""
        return self._payoffs

    def predict(self, values: Float32Array) -> tuple[FloatArray, FloatArray]:
        """Return calibrated probabilities and attention.

        Parameters
        ----------
        values : float32 array of shape (n, 3, 60, 30)
            Raw features, NaN where unknown; standardised here.

        Returns
        -------
        probabilities : float64 array of shape (n, 3)
            BUY, SELL, HOLD, rounded to 6 digits.
        attention : float64 array of shape (n, 3)
            Attention received by 1m, 5m, 15m, rounded to 4 digits.

        Raises
        ------
        DataError
            If the shape is another one.
        """
        if values.shape != example_shape(len(values)):
            raise DataError(f"windows have shape {values.shape}, expected {example_shape(len(values))}")
        if not len(values):
            return np.empty((0, 3)), np.empty((0, 3))
        scaled = torch.from_numpy(self._model.scaler.transform(values)).to(self._device, self._dtype)  # (n, 3, 60, 30)
        with torch.inference_mode():
            logits, attention = self._net(scaled)  # (n, 3), (n, 3)
        probabilities = self._model.card.calibration.probabilities(logits.double().cpu().numpy(), is_candles_only(values))
        return np.round(probabilities, PROBABILITY_DIGITS), np.round(attention.double().cpu().numpy(), ATTENTION_DIGITS)

    def predict_windows(self, windows: Sequence[FeatureWindow]) -> list[Prediction]:
        """Return one prediction per window, in order; the confidence is the predicted class's calibrated probability."""
        if not windows:
            return []
        probabilities, attention = self.predict(np.stack([w.values for w in windows]).astype(np.float32, copy=False))
        return [
            self._prediction(window, p.tolist(), a.tolist()) for window, p, a in zip(windows, probabilities, attention, strict=True)
        ]

    def _prediction(self, window: FeatureWindow, p: list[float], a: list[float]) -> Prediction:
        best = int(np.argmax(p))
        return Prediction(
            symbol=window.symbol,
            bar_time=window.bar_time,
            action=Action(best),
            confidence=p[best],
            probabilities=(p[0], p[1], p[2]),
            attention=(a[0], a[1], a[2]),
            model_version=self.version,
            payoff=self._payoffs[best],
        )


def is_candles_only(values: Float32Array) -> NDArray[np.bool_]:
    """Return which windows of shape (n, 3, 60, 30) know nothing of trades and books: bool of shape (n,)."""
    return np.asarray(np.isnan(values[..., FLOW_BOOK_COLUMNS]).all(axis=(1, 2, 3)))


def _copy_of(model: LoadedModel) -> torch.nn.Module:
    """A private copy: converting the caller's network in place would change it under other users."""
    net = type(model.net)(model.net.config)
    net.load_state_dict(model.net.state_dict())
    return net

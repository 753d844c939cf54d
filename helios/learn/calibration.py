"""Confidence that means what it says: temperature scaling and calibration error.

References
----------
.. [1] Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, sections 2 and 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from helios.domain.decisions import FloatArray
from helios.errors import InsufficientHistoryError

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
N_BINS = 15


def softmax(logits: FloatArray) -> FloatArray:
    """Return probabilities along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def log_loss(probabilities: FloatArray, labels: NDArray[np.int8]) -> float:
    """Return the mean negative log probability of the true class, nats per row."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-15)).mean())


@dataclass(frozen=True, slots=True)
class Calibration:
    """Map from logits to calibrated probabilities: softmax((logits - offset) / temperature of the row).

    Attributes
    ----------
    temperature : float
        Above 1 the network was too sure.
    candles_temperature : float
        The same for rows made of candles alone, on which the network knows less.
    offset : tuple of 3 floats
        Log class weights of the training loss. A network trained with weights w estimates w p / sum(w p); subtracting log w
        gives p back, without which no temperature could make the confidence honest.
    """

    temperature: float = 1.0
    candles_temperature: float = 1.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def probabilities(self, logits: FloatArray, candles_only: NDArray[np.bool_] | bool = False) -> FloatArray:
        """Return calibrated probabilities of shape (n, 3).

        Parameters
        ----------
        logits : float64 array of shape (n, 3)
        candles_only : bool or bool array of shape (n,)
            Which rows had neither flow nor book.
        """
        temperature = np.where(candles_only, self.candles_temperature, self.temperature)
        return softmax((logits - np.asarray(self.offset)) / temperature[..., None])


def fit_temperature(logits: FloatArray, labels: NDArray[np.int8], offset: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> float:
    """Return the temperature with the least log loss on a slice the network was neither trained nor stopped on.

    Parameters
    ----------
    logits : float64 array of shape (n, 3)
    labels : int8 array of shape (n,)
        0, 1, 2.
    offset : tuple of 3 floats
        Log class weights of the training loss.

    Raises
    ------
    InsufficientHistoryError
        If there is no row.
    """
    if not len(labels):
        raise InsufficientHistoryError("the calibration slice is empty")

    def cost(log_temperature: float) -> float:
        return log_loss(Calibration(float(np.exp(log_temperature)), offset=offset).probabilities(logits), labels)

    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows whose confidence lies in (low, high]: how sure the model was and how often it was right."""

    low: float
    high: float
    n_rows: int
    confidence: float
    accuracy: float


def reliability_table(probabilities: FloatArray, labels: NDArray[np.int8], n_bins: int = N_BINS) -> list[ReliabilityBin]:
    """Return the non-empty bins of equal width over the confidence of the predicted class."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    return [
        ReliabilityBin(
            b / n_bins, (b + 1) / n_bins, int(m.sum()), float(confidence[m].mean()), float(right[m].mean())
        )
        for b in range(n_bins)
        if (m := which == b).any()
    ]  # fmt: skip


def expected_calibration_error(probabilities: FloatArray, labels: NDArray[np.int8], n_bins: int = N_BINS) -> float:
    """Return the row-weighted mean gap between confidence and accuracy over the bins."""
    table = reliability_table(probabilities, labels, n_bins)
    return sum(b.n_rows * abs(b.confidence - b.accuracy) for b in table) / len(labels)

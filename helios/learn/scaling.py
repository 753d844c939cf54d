"""Standardisation of windows, fitted on training rows only and stored next to the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from helios.domain.decisions import Float32Array, FloatArray
from helios.errors import DataError, InsufficientHistoryError

CLIP = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class FeatureScaler:
    """Mean and standard deviation per timeframe and feature.

    Attributes
    ----------
    mean, std : float64 arrays of shape (3, 30)
        Of the known (not NaN) training values. A feature without any known value, or without spread, has std 1.
    """

    mean: FloatArray
    std: FloatArray

    @classmethod
    def fit(cls, rows: Sequence[np.ndarray]) -> FeatureScaler:
        """Fit on the training rows of each timeframe.

        Parameters
        ----------
        rows : sequence of 3 arrays of shape (n_rows, 30)
            Feature rows that belong to training windows only; NaN where unknown.

        Raises
        ------
        InsufficientHistoryError
            If a timeframe has fewer than two rows.
        """
        if any(len(part) < 2 for part in rows):
            raise InsufficientHistoryError("the scaler needs at least two training rows per timeframe")
        moments = [_moments(np.asarray(part, dtype=np.float64)) for part in rows]
        return cls(np.stack([m for m, _ in moments]), np.stack([s for _, s in moments]))

    def transform(self, windows: np.ndarray) -> Float32Array:
        """Standardise, clip to +-8 standard deviations and put NaN at the mean (0).

        Parameters
        ----------
        windows : array of shape (n, 3, steps, 30)
            NaN where unknown; infinite values count as unknown.

        Returns
        -------
        windows : float32 array of the same shape
            Finite.
        """
        # float32 throughout: the windows already are, and the clip bounds the result
        scaled = (windows - self.mean[:, None, :].astype(np.float32)) / self.std[:, None, :].astype(np.float32)
        scaled[~np.isfinite(scaled)] = 0.0
        return np.clip(scaled, -CLIP, CLIP).astype(np.float32, copy=False)

    def to_dict(self) -> dict[str, list[list[float]]]:
        """Return plain lists, for JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FeatureScaler:
        """Read what `to_dict` wrote.

        Raises
        ------
        DataError
            If a key is missing, a shape is wrong or a value is not usable.
        """
        try:
            mean, std = (np.asarray(data[key], dtype=np.float64) for key in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"scaler cannot be read: {error}") from None
        if mean.ndim != 2 or mean.shape != std.shape or not np.isfinite(mean).all() or not (std > 0).all():
            raise DataError("scaler has a wrong shape or unusable values")
        return cls(mean, std)


def _moments(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    known = np.isfinite(rows)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, rows, 0.0)
    mean = filled.sum(axis=0) / count
    variance = (np.where(known, rows - mean, 0.0) ** 2).sum(axis=0) / count
    std = np.sqrt(variance)
    # relative test: a constant column leaves rounding noise that would be blown up to +-1
    return mean, np.where(std > 1e-9 * np.maximum(np.abs(mean), 1e-3), std, 1.0)

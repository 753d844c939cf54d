"""Splits by time, purged of overlapping labels and embargoed.

References
----------
.. [1] Lopez de Prado, "Advances in Financial Machine Learning", 2018, chapter 7 (purging and embargo).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from helios.errors import InsufficientHistoryError
from helios.learn.dataset import Dataset, IntArray

NS_PER_DAY = 86_400_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Row numbers of a dataset by use; ascending in time, purged and embargoed between parts."""

    train: IntArray
    validation: IntArray
    calibration: IntArray
    test: IntArray

    def items(self) -> tuple[tuple[str, IntArray], ...]:
        """Name and rows of each part."""
        names = ("train", "validation", "calibration", "test")
        return tuple(zip(names, (self.train, self.validation, self.calibration, self.test), strict=True))


def split_by_time(
    dataset: Dataset,
    horizon_ns: int,
    embargo_ns: int,
    shares: tuple[float, float, float, float] = (0.60, 0.12, 0.12, 0.16),
) -> Splits:
    """Split by time for all symbols at once.

    A decision belongs to a part only if its label ends before the next part begins (purge), and each part begins `embargo_ns`
    after the one before: nothing that a later part is judged on was seen, not even through an overlapping label.

    Parameters
    ----------
    dataset : Dataset
    horizon_ns : int
        How far a label reaches ahead.
    embargo_ns : int
        Additional gap at the start of each part but the first.
    shares : tuple of 4 floats
        Parts of the time range: train, validation, calibration, test.

    Raises
    ------
    InsufficientHistoryError
        If a part would be empty.
    """
    first, last = int(dataset.times.min()), int(dataset.times.max()) + 1
    edges = [first + int((last - first) * share) for share in np.cumsum((0.0, *shares))]
    edges[-1] = last + horizon_ns
    parts = []
    for number, (start, end) in enumerate(pairwise(edges)):
        begin = start + (embargo_ns if number else 0)
        parts.append(_between(dataset, begin, end, horizon_ns))
    if min(len(part) for part in parts) == 0:
        days = (last - first) / 86_400e9
        raise InsufficientHistoryError(f"{days:.1f} days of decisions are too few for four purged splits")
    return Splits(*parts)


def walk_forward(
    dataset: Dataset,
    horizon_ns: int,
    train_days: float = 180.0,
    validation_days: float = 30.0,
    test_days: float = 30.0,
    step_days: float = 7.0,
    max_folds: int = 12,
) -> Iterator[Splits]:
    """Yield the latest `max_folds` rolling folds, oldest first; the validation span is halved into validation and calibration.

    Every part is purged by the label horizon. Raises InsufficientHistoryError where the history is shorter than one fold.
    """
    first, last = int(dataset.times.min()), int(dataset.times.max())
    spans = [int(days * NS_PER_DAY) for days in (train_days, validation_days / 2, validation_days / 2, test_days)]
    step = int(step_days * NS_PER_DAY)
    n_folds = (last - first - sum(spans)) // step + 1
    if n_folds < 1:
        raise InsufficientHistoryError(f"{(last - first) / NS_PER_DAY:.1f} days are too few for one walk-forward fold")
    for back in range(min(n_folds, max_folds) - 1, -1, -1):
        start = last + 1 - sum(spans) - back * step
        edges = [start, *(start + int(edge) for edge in np.cumsum(spans))]
        parts = [_between(dataset, a, b, horizon_ns) for a, b in pairwise(edges)]
        if min(len(part) for part in parts):
            yield Splits(*parts)


def _between(dataset: Dataset, begin: int, end: int, horizon_ns: int) -> IntArray:
    return np.flatnonzero((dataset.times >= begin) & (dataset.times + horizon_ns < end))

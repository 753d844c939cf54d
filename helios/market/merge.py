"""One history from two: rows of the same open time are compared, never silently replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helios.domain.decisions import FloatArray

TimeArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MergeCounts:
    """What became of the rows that were offered; they add up to their number.

    Attributes
    ----------
    new : int
        Open times that were not there.
    same : int
        Rows that say nothing the history does not say.
    completed : int
        Rows that make unknown (NaN) values known and contradict none.
    conflicting : int
        Rows that contradict a known value.
    replaced : int
        Those of the conflicting rows that were taken nevertheless, because the newer source was to win.
    """

    new: int = 0
    same: int = 0
    completed: int = 0
    conflicting: int = 0
    replaced: int = 0

    @property
    def rows(self) -> int:
        """Rows that were offered."""
        return self.new + self.same + self.completed + self.conflicting

    @property
    def changed(self) -> int:
        """Rows of the history that are not what they were."""
        return self.new + self.completed + self.replaced

    def __add__(self, other: MergeCounts) -> MergeCounts:
        return MergeCounts(
            self.new + other.new,
            self.same + other.same,
            self.completed + other.completed,
            self.conflicting + other.conflicting,
            self.replaced + other.replaced,
        )


def merge_rows(
    old_times: TimeArray, old: FloatArray, times: TimeArray, rows: FloatArray, *, newer_wins: bool = False
) -> tuple[TimeArray, FloatArray, MergeCounts]:
    """Return the history with `rows` merged into it, in order of time, and what became of them.

    Parameters
    ----------
    old_times, old : int64 array of shape (n,), float64 array of shape (n, k)
        The history: strictly increasing times, NaN where a value is unknown.
    times, rows : int64 array of shape (m,), float64 array of shape (m, k)
        In any order; a time that comes twice is merged twice, in the order given.
    newer_wins : bool, default=False
        Whether a row that contradicts the history replaces it; otherwise the history stays. Either way it is counted.

    Returns
    -------
    times, values, counts : int64 array of shape (p,), float64 array of shape (p, k), MergeCounts
    """
    counts = MergeCounts()
    for layer in _layers(times):
        old_times, old, found = _merge_once(old_times, old, times[layer], rows[layer], newer_wins)
        counts += found
    return old_times, old, counts


def _layers(times: TimeArray) -> Iterator[NDArray[np.int64]]:
    # Row numbers in order of time, such that no time comes twice in a layer: first all first occurrences, then the second ones.
    order = np.argsort(times, kind="stable").astype(np.int64)
    while len(order):
        is_first = np.diff(times[order], prepend=times[order[0]] - 1) != 0
        yield order[is_first]
        order = order[~is_first]


def _merge_once(
    old_times: TimeArray, old: FloatArray, times: TimeArray, rows: FloatArray, newer_wins: bool
) -> tuple[TimeArray, FloatArray, MergeCounts]:
    at = np.searchsorted(old_times, times)
    is_known = np.zeros(len(times), dtype=np.bool_)
    is_known[at < len(old_times)] = old_times[at[at < len(old_times)]] == times[at < len(old_times)]
    merged, counts = _meet(old[at[is_known]], rows[is_known], newer_wins)
    n_new = len(times) - int(is_known.sum())
    counts += MergeCounts(new=n_new)
    if counts.changed > n_new:
        old = old.copy()
        old[at[is_known]] = merged
    if n_new:
        where = at[~is_known]
        old_times, old = np.insert(old_times, where, times[~is_known]), np.insert(old, where, rows[~is_known], axis=0)
    return old_times, old, counts


def _meet(before: FloatArray, after: FloatArray, newer_wins: bool) -> tuple[FloatArray, MergeCounts]:
    was_unknown, is_unknown = np.isnan(before), np.isnan(after)
    conflicts = ((before != after) & ~was_unknown & ~is_unknown).any(axis=1)
    completes = (was_unknown & ~is_unknown).any(axis=1) & ~conflicts
    merged = np.where(was_unknown & ~conflicts[:, None], after, before)
    if newer_wins:
        merged[conflicts] = after[conflicts]  # whole rows: half of one source and half of the other would fit neither
    n_conflicts = int(conflicts.sum())
    return merged, MergeCounts(
        same=int((~conflicts & ~completes).sum()),
        completed=int(completes.sum()),
        conflicting=n_conflicts,
        replaced=n_conflicts if newer_wins else 0,
    )

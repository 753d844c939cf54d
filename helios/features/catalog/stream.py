"""The catalog one bar at a time, from the trailing window that each feature needs.

There is no second set of formulas: the stream calls the batch on as many trailing bars as a feature's lookback, so that the two
can only differ by what older history still adds, which the catalog states (nothing for windows, 1e-9 for recursive averages).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.market import BAR_VALUES, NAN, Bar
from helios.errors import DataError
from helios.features.catalog.frame import CatalogFeature, Frame, checked_bars
from helios.features.catalog.registry import chosen_features, values_of

_WINDOW_STEPS = (64, 256, 768)
"""Features with lookbacks up to the same step share a window and what they compute in common; longer ones share the longest."""


class CatalogStream:
    """Catalog features of one symbol and timeframe, bar by bar.

    Parameters
    ----------
    names : sequence of str, optional
        Which, in this order; default all, in the catalog's order.

    Raises
    ------
    ConfigError
        If a name is unknown.

    Notes
    -----
    Warm after `n_bars_kept` bars: before that, recursive features still show where the history began.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        features = chosen_features(names)
        self.names = tuple(feature.name for feature in features)
        self.n_bars_kept = max((feature.lookback for feature in features), default=1)
        self._groups = _grouped(features)
        self._row = np.full(len(features), NAN)
        self._values = np.full((2 * self.n_bars_kept, len(BAR_VALUES) + 1), NAN)
        self._open_times = np.zeros(2 * self.n_bars_kept, dtype=np.int64)
        self._end = 0
        self._newest: Bar | None = None

    def update(self, bar: Bar, mid: float = NAN) -> FloatArray:
        """Take the next closed bar and return its row, shape (n_names,), NaN where history or input is missing.

        A bar that is already known, or older, changes nothing: the newest row is returned again.

        Parameters
        ----------
        bar : Bar
            Of the same symbol and timeframe as the ones before, opening where the last one closed.
        mid : float, default=NaN
            Mid price of the book at the close.

        Raises
        ------
        DataError
            If bars are missing before it, it belongs elsewhere, or its prices are unusable; the stream is as it was.
        """
        return self.extend((bar,), (mid,))

    def extend(self, bars: Sequence[Bar], mids: Sequence[float] | None = None) -> FloatArray:
        """Take several closed bars in order, as at a start from stored history, and return the newest row.

        Parameters
        ----------
        bars : sequence of Bar
            As for `update`; known ones among them change nothing.
        mids : sequence of float, optional
            Mid prices at their closes, one per bar.

        Raises
        ------
        DataError
            As `update`; none of the bars was taken.
        """
        fresh = self._fresh(bars, [NAN] * len(bars) if mids is None else mids)
        for bar, values in fresh:
            self._append(bar.open_time, values)
            self._newest = bar
        if fresh:
            self._row = self._computed()
        return self._row.copy()

    def _fresh(self, bars: Sequence[Bar], mids: Sequence[float]) -> list[tuple[Bar, list[float]]]:
        # What is new, checked before anything is taken.
        fresh: list[tuple[Bar, list[float]]] = []
        newest = self._newest
        for bar, mid in zip(bars, mids, strict=True):
            if newest is None or _follows(bar, newest):
                fresh.append((bar, [*(getattr(bar, name) for name in BAR_VALUES), mid]))
                newest = bar
        if fresh:
            checked_bars(np.array([values for _, values in fresh])[:, :-1])
        return fresh

    def _append(self, open_time: int, values: list[float]) -> None:
        if self._end == len(self._values):  # full: keep the newest half
            kept = self.n_bars_kept
            self._values[:kept] = self._values[-kept:]
            self._open_times[:kept] = self._open_times[-kept:]
            self._end = kept
        self._values[self._end] = values
        self._open_times[self._end] = open_time
        self._end += 1

    def _computed(self) -> FloatArray:
        row = np.full(len(self.names), NAN)
        for n_bars, columns, features in self._groups:
            rows = slice(max(self._end - n_bars, 0), self._end)
            values = self._values[rows]
            frame = Frame(values[:, :-1], self._open_times[rows], values[:, -1])
            row[columns] = values_of(features, frame)[-1]
        return row


def _follows(bar: Bar, newest: Bar) -> bool:
    # Whether `bar` is the next one; False for one already known.
    if bar.symbol != newest.symbol or bar.timeframe is not newest.timeframe:
        raise DataError(f"{bar.symbol} {bar.timeframe.value} in the stream of {newest.symbol} {newest.timeframe.value}")
    if bar.open_time > newest.close_time:
        raise DataError(f"{bar.symbol} {bar.timeframe.value}: bars missing before {bar.open_time}")
    return bar.open_time == newest.close_time


def _grouped(features: Sequence[CatalogFeature]) -> list[tuple[int, list[int], list[CatalogFeature]]]:
    # (bars to look at, columns, features): few distinct windows, so that features share intermediate results.
    longest = max((feature.lookback for feature in features), default=1)
    steps = [*(step for step in _WINDOW_STEPS if step < longest), longest]
    groups: dict[int, tuple[list[int], list[CatalogFeature]]] = {}
    for column, feature in enumerate(features):
        n_bars = next(step for step in steps if feature.lookback <= step)
        columns, members = groups.setdefault(n_bars, ([], []))
        columns.append(column)
        members.append(feature)
    return [(n_bars, *group) for n_bars, group in groups.items()]

"""The catalog one bar at a time, from the trailing window that each feature needs.

There is no second set of formulas: the stream calls the batch on as many trailing bars as a feature's lookback, so that the two
can only differ by what older history still adds, which the catalog states (nothing for windows, 1e-9 for recursive averages).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, NAN, Bar
from helios.errors import DataError
from helios.features.catalog.frame import CatalogFeature, Frame
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
        self._newest: tuple[str, Timeframe, int] | None = None

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
        if self._newest is not None and self._is_known(bar, *self._newest):
            return self._row.copy()
        self._append(bar, mid)
        try:
            row = self._computed()
        except DataError:
            self._end -= 1
            raise
        self._row = row
        self._newest = (bar.symbol, bar.timeframe, bar.open_time)
        return row.copy()

    def _is_known(self, bar: Bar, symbol: str, timeframe: Timeframe, open_time: int) -> bool:
        if bar.symbol != symbol or bar.timeframe is not timeframe:
            raise DataError(f"{bar.symbol} {bar.timeframe.value} in the stream of {symbol} {timeframe.value}")
        if bar.open_time > open_time + timeframe.ns:
            raise DataError(f"{symbol} {timeframe.value}: bars missing before {bar.open_time}")
        return bar.open_time <= open_time

    def _append(self, bar: Bar, mid: float) -> None:
        if self._end == len(self._values):  # full: keep the newest half
            kept = self.n_bars_kept
            self._values[:kept] = self._values[-kept:]
            self._open_times[:kept] = self._open_times[-kept:]
            self._end = kept
        self._values[self._end] = [*(getattr(bar, name) for name in BAR_VALUES), mid]
        self._open_times[self._end] = bar.open_time
        self._end += 1

    def _computed(self) -> FloatArray:
        row = np.full(len(self.names), NAN)
        for n_bars, columns, features in self._groups:
            rows = slice(max(self._end - n_bars, 0), self._end)
            values = self._values[rows]
            frame = Frame(values[:, :-1], self._open_times[rows], values[:, -1])
            row[columns] = values_of(features, frame)[-1]
        return row


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

"""The one feature that needs two symbols, filled in where the windows of all symbols meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from helios.domain.decisions import WINDOW_STEPS, FeatureWindow, FloatArray
from helios.domain.market import NAN
from helios.features.batch import btc_correlation
from helios.features.definitions import CORRELATION_COLUMN


def fill_reference_correlation(windows: Sequence[FeatureWindow], reference_symbol: str | None) -> list[FeatureWindow]:
    """Return the windows with `btc_correlation_60` at each of their 60 steps, in the same order.

    Parameters
    ----------
    windows : sequence of FeatureWindow
        All symbols of one bar close.
    reference_symbol : str or None
        The venue's BTC pair. If it has no window here, or one of another bar, the column stays NaN.

    Returns
    -------
    windows : list of FeatureWindow
        New values, read-only; 1 for the reference itself, 0 if either side did not move, NaN where returns are missing.
    """
    reference = next((window for window in windows if window.symbol == reference_symbol), None)
    return [_filled(window, reference) for window in windows]


def _filled(window: FeatureWindow, reference: FeatureWindow | None) -> FeatureWindow:
    values = window.values.copy()
    values[:, :, CORRELATION_COLUMN] = _correlation(window, reference)
    values.setflags(write=False)
    return replace(window, values=values)


def _correlation(window: FeatureWindow, reference: FeatureWindow | None) -> FloatArray:
    if reference is None or reference.bar_time != window.bar_time:
        return np.full((len(window.returns), WINDOW_STEPS), NAN)
    correlation = btc_correlation(window.returns, reference.returns)[:, -WINDOW_STEPS:]
    if window.symbol == reference.symbol:
        return np.where(np.isnan(correlation), NAN, 1.0)
    return correlation

"""Bars for feature tests: arrays in the order of BAR_VALUES, and the same as values."""

from __future__ import annotations

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import Bar

START = 20_000 * 86_400 * 1_000_000_000


def random_bars(n_bars: int, seed: int = 0, volatility: float = 0.002, with_flow: bool = True) -> FloatArray:
    """Return bars of a random walk with some minutes without trades, shape (n_bars, 13)."""
    rng = np.random.default_rng(seed)
    volume = rng.exponential(5.0, n_bars) * (rng.random(n_bars) > 0.15)
    close = 250.0 * np.exp(np.cumsum(rng.normal(0.0, volatility, n_bars) * (volume > 0)))
    open_ = np.concatenate(([close[0]], close[:-1]))
    reach = np.where(volume > 0, rng.exponential(volatility / 2, n_bars), 0.0)
    high, low = np.maximum(open_, close) * (1 + reach), np.minimum(open_, close) * (1 - reach)
    flow = [close * volume * (1 + 1e-4), np.ceil(volume * 3), volume * rng.random(n_bars)]
    rest = [*flow, *rng.normal(size=(5, n_bars))]
    return np.column_stack([open_, high, low, close, volume, *(rest if with_flow else np.full((8, n_bars), np.nan))])


def as_bars(rows: FloatArray, timeframe: Timeframe = Timeframe.M1, start: int = START, symbol: str = "X") -> list[Bar]:
    """Return consecutive bars of the rows."""
    return [Bar(symbol, timeframe, start + i * timeframe.ns, *row) for i, row in enumerate(rows.tolist())]


def assert_same_features(got: FloatArray, expected: FloatArray) -> None:
    """Assert that rows of features agree to 1e-9, or to 1e-12 of the price where two nearly equal prices are compared."""
    assert got.shape == expected.shape
    for column in range(got.shape[1]):
        np.testing.assert_allclose(got[:, column], expected[:, column], rtol=1e-9, atol=1e-12, err_msg=f"column {column}")

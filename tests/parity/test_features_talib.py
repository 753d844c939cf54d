"""Indicators equal TA-Lib's, value by value, from the first one on."""

from __future__ import annotations

import numpy as np
import pytest
import talib

from helios.domain.decisions import FloatArray
from helios.features.batch import features_of
from helios.features.definitions import FEATURE_NAMES
from helios.features.stream import TimeframeFeatures
from tests.support.talib_features import averages_and_oscillators, bands
from tests.unit.features.bars import as_bars, random_bars


def assert_equal_to_talib(features: FloatArray, close: FloatArray) -> None:
    # Relative to price: +1 undoes the "- 1" of the *_rel columns, so that 1e-9 means 1e-9 of the indicator itself.
    for name, expected in (averages_and_oscillators(close) | bands(close)).items():
        ours = features[:, FEATURE_NAMES.index(name)]
        offset = 1.0 if name.endswith("_rel") else 0.0
        np.testing.assert_allclose(ours + offset, expected + offset, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", [0, 1])
def test_batch_equals_talib_on_a_random_walk(seed: int) -> None:
    rows = random_bars(3000, seed, volatility=0.01)
    assert_equal_to_talib(features_of(rows), rows[:, 3].copy())


def test_stream_equals_talib_on_a_random_walk() -> None:
    rows = random_bars(1500, seed=2)
    features = TimeframeFeatures()
    assert_equal_to_talib(np.array([features.update(bar) for bar in as_bars(rows)]), rows[:, 3].copy())


def test_volatility_equals_talibs_deviation_of_returns() -> None:
    rows = random_bars(500, seed=3)
    returns = np.diff(np.log(rows[:, 3]))
    expected = talib.STDDEV(returns, 20) * np.sqrt(20 / 19)  # TA-Lib divides by n
    ours = features_of(rows)[1:, FEATURE_NAMES.index("volatility_20")]
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_price_that_never_moved_has_talibs_rsi_of_zero() -> None:
    rows = random_bars(100)
    rows[:, :4] = 0.1
    assert_equal_to_talib(features_of(rows), rows[:, 3].copy())
    assert features_of(rows)[-1, FEATURE_NAMES.index("rsi_7")] == 0.0


@pytest.mark.parametrize("price", [1e-8, 1.0, 1e6])
def test_price_that_stopped_moving_keeps_talibs_rsi_at_any_price_level(price: float) -> None:
    rows = random_bars(700, seed=4)
    rows[100:, :4] = rows[99, 3]
    rows[:, :4] *= price
    assert_equal_to_talib(features_of(rows), rows[:, 3].copy())

"""Indicators equal TA-Lib's, value by value, from the first one on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib

from helios.domain.decisions import FloatArray
from helios.features.batch import features_of
from helios.features.definitions import FEATURE_NAMES
from helios.features.stream import TimeframeFeatures
from tests.unit.features.bars import as_bars, random_bars

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))
SERIES = ("binance-perp-1m-2025-02/BTCUSDT", "binance-perp-1m-2025-05/XRPUSDT", "binanceus-spot-1m-2023-03/BTCUSDC")


def talib_features(close: FloatArray) -> dict[str, FloatArray]:
    macd, signal, _ = talib.MACD(close, 12, 26, 9)
    upper, _, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    return {
        "rsi_14": talib.RSI(close, 14) / 100.0,
        "rsi_7": talib.RSI(close, 7) / 100.0,
        "macd": macd / close,
        "macd_signal": signal / close,
        "sma_20_rel": talib.SMA(close, 20) / close - 1.0,
        "sma_50_rel": talib.SMA(close, 50) / close - 1.0,
        "ema_12_rel": talib.EMA(close, 12) / close - 1.0,
        "ema_26_rel": talib.EMA(close, 26) / close - 1.0,
        "bollinger_upper_rel": upper / close - 1.0,
        "bollinger_lower_rel": lower / close - 1.0,
    }


def assert_equal_to_talib(features: FloatArray, close: FloatArray) -> None:
    # Relative to price: +1 undoes the "- 1" of the *_rel columns, so that 1e-9 means 1e-9 of the indicator itself.
    for name, expected in talib_features(close).items():
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


@pytest.mark.realdata
@pytest.mark.parametrize("name", SERIES)
def test_batch_equals_talib_on_recorded_minutes(name: str) -> None:
    path = RECORDED / f"{name}_1m.parquet"
    if not path.exists():
        pytest.skip(f"recorded candles not found: {path}")
    candles = pl.read_parquet(path).head(10_000).select("open", "high", "low", "close", "volume").to_numpy()
    rows = np.column_stack([candles, np.full((len(candles), 8), np.nan)])
    assert_equal_to_talib(features_of(rows), rows[:, 3].copy())

"""On every recorded series of candles: features equal TA-Lib's to 1e-9, the stream equals the batch, and all stay in range."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib

from helios.domain.decisions import FloatArray
from helios.features.batch import features_of, features_with_reference, log_returns
from helios.features.definitions import CANDLE_COLUMNS, CORRELATION_COLUMN, FEATURE_NAMES, WARMUP_BARS
from helios.features.stream import TimeframeFeatures
from tests.support.features_numpy import numpy_features
from tests.support.talib_features import averages_and_oscillators, bands, deviations, volume_columns
from tests.unit.features.bars import as_bars, assert_same_features

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))
SERIES = sorted(str(path.relative_to(RECORDED)) for length in (1, 5, 15) for path in RECORDED.glob(f"*/*_{length}m.parquet"))
COLUMN = {name: column for column, name in enumerate(FEATURE_NAMES)}
CLOSE = 3

pytestmark = [pytest.mark.realdata, pytest.mark.skipif(not SERIES, reason=f"recorded candles not found: {RECORDED}")]
every_series = pytest.mark.parametrize("name", SERIES or ["none"])


def candles(name: str) -> FloatArray:
    values = pl.read_parquet(RECORDED / name).select("open", "high", "low", "close", "volume").to_numpy()
    return np.column_stack([values, np.full((len(values), 8), np.nan)])


def assert_close(features: FloatArray, name: str, expected: FloatArray, where: slice | FloatArray = slice(None)) -> None:
    # Columns relative to a price are differences from 1: 1e-9 is meant of the price, so the 1 is put back.
    offset = 1.0 if name.endswith("_rel") else 0.0
    ours = features[:, COLUMN[name]]
    np.testing.assert_allclose((ours + offset)[where], (expected + offset)[where], rtol=1e-9, atol=1e-12, err_msg=name)


@every_series
def test_averages_and_oscillators_equal_talibs(name: str) -> None:
    bars = candles(name)
    features = features_of(bars)
    for column, expected in averages_and_oscillators(bars[:, CLOSE].copy()).items():
        assert_close(features, column, expected)


@every_series
def test_bollinger_bands_equal_talibs(name: str) -> None:
    close = candles(name)[:, CLOSE].copy()
    features = features_of(candles(name))
    deviation, is_exact = deviations(close)
    assert is_exact.mean() > 0.9
    mean = talib.SMA(close, 20)
    assert_close(features, "bollinger_upper_rel", (mean + 2.0 * deviation) / close - 1.0, is_exact)
    assert_close(features, "bollinger_lower_rel", (mean - 2.0 * deviation) / close - 1.0, is_exact)
    # TA-Lib's own function on the price as it is: right wherever the price moves by more than a few thousandths of a percent.
    moves = deviation > 1e-4 * close
    for column, expected in bands(close).items():
        assert_close(features, column, expected, moves)


@every_series
def test_volatilities_equal_talibs_deviation(name: str) -> None:
    # TA-Lib divides by 20, we by 19.
    bars = candles(name)
    features = features_of(bars)
    for column, series in (("volatility_20", "return_1"), ("volume_volatility_20", "volume_change_1")):
        deviation, is_exact = deviations(features[:, COLUMN[series]].copy())
        assert is_exact.mean() > 0.5
        assert_close(features, column, deviation * np.sqrt(20 / 19), is_exact)


@every_series
def test_volume_columns_equal_talibs_sums(name: str) -> None:
    bars = candles(name)
    features = features_of(bars)
    expected, is_exact = volume_columns(bars)
    assert is_exact.sum() > 1000
    for column, values in expected.items():
        assert_close(features, column, values, is_exact)


@every_series
def test_deviations_equal_exact_arithmetic(name: str) -> None:
    # Where TA-Lib has no digits left there are still these: fractions of integers, rounded once at the end.
    close = candles(name)[:, CLOSE]
    features = features_of(candles(name))
    quiet = np.argsort(np.abs(features[WARMUP_BARS:, COLUMN["bollinger_upper_rel"]]))[:20] + WARMUP_BARS
    for i in [*quiet.tolist(), *range(WARMUP_BARS, len(close), len(close) // 30)]:
        window = [Fraction(x) for x in close[i - 19 : i + 1].tolist()]
        mean = sum(window) / 20
        deviation = float(sum((x - mean) ** 2 for x in window) / 20) ** 0.5
        for side, column in ((1.0, "bollinger_upper_rel"), (-1.0, "bollinger_lower_rel")):
            expected = float((mean + side * 2 * Fraction(deviation)) / Fraction(float(close[i]))) - 1.0
            assert features[i, COLUMN[column]] == pytest.approx(expected, rel=1e-9, abs=1e-14)


@every_series
def test_stream_and_kernel_equal_the_twin(name: str) -> None:
    bars = candles(name)
    kernel = features_of(bars)
    assert_same_features(kernel, numpy_features(bars))
    features = TimeframeFeatures()
    assert_same_features(np.array([features.update(bar) for bar in as_bars(bars[:5000])]), kernel[:5000])


@every_series
def test_all_candle_features_are_finite_and_in_range(name: str) -> None:
    # Bounds that hold for any price level: a raw MACD of an expensive pair may pass any number, and a price outside the bands
    # makes their position leave 0..1.
    features = features_of(candles(name))[WARMUP_BARS:]
    assert np.isfinite(features[:, CANDLE_COLUMNS]).all()
    bounds = {
        "rsi_14": (0.0, 1.0), "rsi_7": (0.0, 1.0), "close_location": (0.0, 1.0), "high_rel": (0.0, np.inf), "low_rel": (-1.0, 0.0),
        "volatility_20": (0.0, np.inf), "volume_ratio_20": (0.0, 20.0), "volume_volatility_20": (0.0, np.inf), "macd": (-1.0, 1.0),
        "macd_signal": (-1.0, 1.0),
    }  # fmt: skip
    for column, (least, most) in bounds.items():
        values = features[:, COLUMN[column]]
        assert ((values >= least) & (values <= most)).all(), column
    lower, mean, upper = (features[:, COLUMN[column]] for column in ("bollinger_lower_rel", "sma_20_rel", "bollinger_upper_rel"))
    assert (lower <= mean).all()
    assert (mean <= upper).all()


@pytest.mark.parametrize("symbol", ["ETHUSDT", "XRPUSDT"])
def test_correlation_equals_talibs(symbol: str) -> None:
    bars, btc = candles(f"binance-perp-1m-2025-05/{symbol}_1m.parquet"), candles("binance-perp-1m-2025-05/BTCUSDT_1m.parquet")
    n_bars = min(len(bars), len(btc))
    bars, btc = bars[:n_bars], btc[:n_bars]
    ours = features_with_reference(bars, btc)[:, CORRELATION_COLUMN]
    expected = talib.CORREL(log_returns(bars[:, CLOSE])[1:] * 1e3, log_returns(btc[:, CLOSE])[1:] * 1e3, 60)
    np.testing.assert_allclose(ours[60:], expected[59:], rtol=0.0, atol=1e-9)

"""Five-minute bars built from the exchange's minutes equal the exchange's own five-minute bars."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import Bar
from helios.features.batch import TimeArray, resample
from helios.market.candles import CandleBuilder

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not RECORDED.exists(), reason=f"recorded candles not found: {RECORDED}"),
]


def candles(name: str) -> tuple[TimeArray, FloatArray]:
    frame = pl.read_parquet(RECORDED / f"{name}.parquet")
    return frame["ts"].dt.timestamp("ns").to_numpy(), frame.select("open", "high", "low", "close", "volume").to_numpy()


def without_flow(values: FloatArray) -> FloatArray:
    return np.column_stack([values, np.full((len(values), 8), np.nan)])


@pytest.mark.parametrize("symbol", ["BTCUSDT", "SOLUSDT"])
def test_five_minutes_equal_the_exchanges_own(symbol: str) -> None:
    (times, minutes), (own_times, own) = (
        candles(f"binance-perp-1m-2025-05/{symbol}_1m"),
        candles(f"binance-perp-5m-2025/{symbol}_5m"),
    )
    bars, opened = resample(without_flow(minutes), times, Timeframe.M5)
    common, ours, theirs = np.intersect1d(opened, own_times, return_indices=True)
    assert len(common) > 10_000
    np.testing.assert_array_equal(bars[ours, :4], own[theirs, :4])
    np.testing.assert_allclose(bars[ours, 4], own[theirs, 4], rtol=1e-9, atol=1e-9)


def test_illiquid_minutes_give_the_builder_the_same_bars_as_the_batch() -> None:
    times, values = candles("binanceus-spot-1m-2023-03/BTCUSDC_1m")
    times, values = times[:5000], values[:5000]
    builder = CandleBuilder("X", [Timeframe.M15])
    built: list[Bar] = []
    for time, row in zip(times.tolist(), values.tolist()):
        built += builder.on_minute(Bar("X", Timeframe.M1, time, *row))
    bars, opened = resample(without_flow(values), times, Timeframe.M15)
    assert opened.tolist() == [bar.open_time for bar in built]
    got = np.array([[bar.open, bar.high, bar.low, bar.close, bar.volume] for bar in built])
    np.testing.assert_allclose(got, bars[:, :5], rtol=1e-12)

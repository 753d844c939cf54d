"""Candles from recorded trades equal an independent group-by over the same trades."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar, Trade
from helios.market.candles import CandleBuilder

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))
TRADES = RECORDED / "binance-l2-2024-07-18/usdm"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not TRADES.exists(), reason=f"recorded trades not found under {RECORDED}"),
]


def recorded(name: str) -> pl.DataFrame:
    # Insurance-fund transfers are on the tape too; both sides of the comparison see the same rows.
    return pl.read_parquet(TRADES / f"{name}_trades.parquet").with_columns(ns=pl.col("ts").dt.timestamp("ns"))


def built(frame: pl.DataFrame, timeframe: Timeframe) -> list[Bar]:
    builder = CandleBuilder("X", [timeframe])
    bars: list[Bar] = []
    for row in frame.iter_rows(named=True):
        side = Side.BUY if row["side"] == "buy" else Side.SELL
        bars += builder.on_trade(Trade("X", str(row["trade_id"]), row["price"], row["qty"], side, row["ns"]))
    assert (builder.late_trades, builder.duplicate_trades) == (0, 0)
    return bars + builder.advance(frame["ns"][-1] // timeframe.ns * timeframe.ns + timeframe.ns)


def grouped(frame: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    buys = pl.col("side") == "buy"
    return (
        frame.sort("ns", "trade_id")
        .group_by((pl.col("ns") // timeframe.ns * timeframe.ns).alias("open_time"))
        .agg(
            pl.col("price").first().alias("open"),
            pl.col("price").max().alias("high"),
            pl.col("price").min().alias("low"),
            pl.col("price").last().alias("close"),
            pl.col("qty").sum().alias("volume"),
            (pl.col("price") * pl.col("qty")).sum().alias("quote_volume"),
            pl.len().cast(pl.Float64).alias("trade_count"),
            pl.col("qty").filter(buys).sum().alias("buy_volume"),
        )
        .sort("open_time")
    )


@pytest.mark.parametrize("name", ["BTCUSDT", "ETHUSDT"])
def test_minutes_from_trades_equal_a_group_by(name: str) -> None:
    frame = recorded(name)
    bars, expected = built(frame, Timeframe.M1), grouped(frame, Timeframe.M1)
    assert [bar.open_time for bar in bars] == expected["open_time"].to_list()
    for column in expected.columns[1:]:
        assert [getattr(bar, column) for bar in bars] == pytest.approx(expected[column].to_list(), rel=1e-12), column


def test_five_minutes_from_trades_equal_a_group_by_of_the_whole_buckets() -> None:
    frame = recorded("BTCUSDT")
    expected = grouped(frame, Timeframe.M5)[1:]  # the recording begins inside its first bucket
    bars = built(frame, Timeframe.M5)
    assert [bar.open_time for bar in bars] == expected["open_time"].to_list()
    for column in expected.columns[1:]:
        assert [getattr(bar, column) for bar in bars] == pytest.approx(expected[column].to_list(), rel=1e-12), column

"""Time-weighted spread and book imbalance of recorded best quotes equal a step function integrated by numpy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar, BookUpdate, Trade
from helios.market.book import OrderBook
from helios.market.candles import CandleBuilder

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))
QUOTES = RECORDED / "binance-l2-2024-07-18/usdm/ETHUSDT_bbo.parquet"
MINUTE = Timeframe.M1.ns

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not QUOTES.exists(), reason=f"recorded quotes not found under {RECORDED}"),
]


def recorded() -> pl.DataFrame:
    frame = pl.read_parquet(QUOTES).with_columns(ns=pl.col("event_ms") * 1_000_000)
    # One state per millisecond, the last: that is what held for any time at all.
    return frame.group_by("ns", maintain_order=True).last().sort("ns")


def built(frame: pl.DataFrame) -> list[Bar]:
    book, builder, bars = OrderBook("X"), CandleBuilder("X", [Timeframe.M1]), []
    builder.on_trade(Trade("X", "first", 3425.0, 1.0, Side.BUY, frame["ns"][0]))
    for row in frame.iter_rows(named=True):
        bid, ask = (repr(row["bid"]), repr(row["bid_qty"])), (repr(row["ask"]), repr(row["ask_qty"]))
        book.apply(BookUpdate("X", True, (bid,), (ask,), None, None, row["ns"]))
        bars += builder.on_book(book, row["ns"])
    return bars


def step_means(frame: pl.DataFrame, value: np.ndarray, open_times: list[int]) -> list[float]:
    starts = frame["ns"].to_numpy()
    ends = np.append(starts[1:], np.iinfo(np.int64).max)
    means = []
    for opened in open_times:
        held = np.clip(np.minimum(ends, opened + MINUTE) - np.maximum(starts, opened), 0, None)
        means.append(float(np.average(value, weights=held)))
    return means


def test_book_columns_equal_an_integrated_step_function() -> None:
    frame = recorded()
    bars = built(frame)
    opened = [bar.open_time for bar in bars]
    bid, ask, bid_size, ask_size = (frame[name].to_numpy() for name in ("bid", "ask", "bid_qty", "ask_qty"))
    spread = (ask - bid) / ((ask + bid) / 2) * 1e4
    assert len(bars) >= 7
    assert [bar.spread_bps for bar in bars] == pytest.approx(step_means(frame, spread, opened), rel=1e-9)
    imbalance = (bid_size - ask_size) / (bid_size + ask_size)
    assert [bar.book_imbalance for bar in bars] == pytest.approx(step_means(frame, imbalance, opened), rel=1e-9)
    depth = np.log(bid * bid_size + ask * ask_size)
    assert [bar.depth_log for bar in bars] == pytest.approx(step_means(frame, depth, opened), rel=1e-9)


def test_microprice_at_the_close_is_that_of_the_last_quote() -> None:
    frame = recorded()
    for bar in built(frame):
        last = frame.filter(pl.col("ns") < bar.close_time).row(-1, named=True)
        micro = (last["bid"] * last["ask_qty"] + last["ask"] * last["bid_qty"]) / (last["bid_qty"] + last["ask_qty"])
        mid = (last["bid"] + last["ask"]) / 2
        assert bar.microprice_bps == pytest.approx((micro - mid) / mid * 1e4, abs=1e-9)

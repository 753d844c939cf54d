"""Market data through the buffers into the database, with and without an outage."""

from __future__ import annotations

import math
import time
from decimal import Decimal

import asyncpg
import numpy as np
import pytest

from helios.domain.enums import Side, Timeframe
from helios.domain.market import BAR_VALUES, Bar, MarketSnapshot, Trade
from helios.errors import StoreUnavailableError
from helios.store.embedded import EmbeddedPostgres
from helios.store.ledger import PostgresLedger
from helios.store.recorder import DAY_NS, MarketRecorder

START = 1_750_000_020_000_000_000
MINUTE = Timeframe.M1.ns


def bar(n: int, symbol: str = "BTC/ZAR", **values: float) -> Bar:
    numbers = {"open": 1.5 * n, "high": 1.5 * n + 1, "low": 1.5 * n - 1, "close": 1.5 * n + 0.1, "volume": 3.0} | values
    return Bar(symbol, Timeframe.M1, START + n * MINUTE, **numbers)


def trade(n: int, symbol: str = "BTC/ZAR") -> Trade:
    return Trade(symbol, f"t{n}", 10.0 + n, 0.25, Side.SELL, START + n * 1_000_001, START + 7)


def same(left: list[Bar], right: list[Bar]) -> bool:
    keys = [(b.symbol, b.timeframe, b.open_time) for b in left] == [(b.symbol, b.timeframe, b.open_time) for b in right]
    tables = [np.array([[getattr(b, name) for name in BAR_VALUES] for b in bars]) for bars in (left, right)]
    return keys and np.array_equal(*tables, equal_nan=True)


async def test_a_hundred_candles_are_written_in_time_and_come_back_exactly(pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool)
    bars = [bar(n, spread_bps=0.1 * n) for n in range(100)]
    recorder.add_bars(bars)
    started = time.monotonic()
    assert await recorder.flush()
    assert time.monotonic() - started < 5
    assert recorder.pending == 0
    assert same(await recorder.load_bars("BTC/ZAR", Timeframe.M1, 1000), bars)
    assert same(await recorder.load_bars("BTC/ZAR", Timeframe.M1, 3), bars[-3:])
    assert await recorder.load_bars("BTC/ZAR", Timeframe.M5, 3) == []


async def test_the_last_thousand_of_ten_thousand_are_read_in_time(pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool)
    recorder.add_bars(bar(n, "ETH/ZAR") for n in range(10_000))
    assert await recorder.flush()
    started = time.monotonic()
    times, closes = await recorder.load_closes("ETH/ZAR", Timeframe.M1, 1000)
    assert time.monotonic() - started < 0.5
    assert times.tolist() == [START + n * MINUTE for n in range(9000, 10_000)]
    assert closes.tolist() == [1.5 * n + 0.1 for n in range(9000, 10_000)]


async def test_writing_twice_keeps_one_row_and_unknown_never_erases_known(pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool)
    for known in (bar(1, "UPS/ZAR", spread_bps=4.0), bar(1, "UPS/ZAR", close=99.0), bar(1, "UPS/ZAR", trade_count=7.0)):
        recorder.add_bars([known])
        assert await recorder.flush()
    [found] = await recorder.load_bars("UPS/ZAR", Timeframe.M1, 10)
    assert (found.close, found.spread_bps, found.trade_count) == (1.6, 4.0, 7.0)
    assert math.isnan(found.depth_log)


async def test_trades_books_and_features_are_kept_once(pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool)
    book = MarketSnapshot("KEEP/ZAR", Decimal("10.05"), START + 1, ((Decimal("10.0"), Decimal(3)),), ((Decimal("10.1"), Decimal(1)),))
    features = np.arange(90, dtype=np.float32)
    features[3] = math.nan
    for _ in range(2):
        recorder.add_trades(trade(n, "KEEP/ZAR") for n in range(5))
        recorder.add_book("KEEP/ZAR", book)
        recorder.add_features("KEEP/ZAR", START + 2, features)
        assert await recorder.flush()
    assert await recorder.load_trades("KEEP/ZAR", 10) == [trade(n, "KEEP/ZAR") for n in range(5)]
    [stored] = await pg_pool.fetch("SELECT * FROM book_snapshots WHERE symbol = 'KEEP/ZAR'")
    assert (stored["bids"], stored["asks"]) == ([["10.0", "3"]], [["10.1", "1"]])
    assert (stored["imbalance"], stored["depth_quote"], stored["spread_bps"]) == (0.5, Decimal("40.1"), None)
    values = await pg_pool.fetch("SELECT \"values\" FROM feature_rows WHERE symbol = 'KEEP/ZAR'")
    assert np.array_equal(np.array([v[0] for v in values], np.float32), features[None], equal_nan=True)


async def test_retention_deletes_the_old_and_leaves_the_ledger(pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool)
    recorder.add_bars([bar(0, "OLD/ZAR"), bar(1, "OLD/ZAR")])
    recorder.add_trades([trade(0, "OLD/ZAR")])
    assert await recorder.flush()
    deleted = await recorder.apply_retention(START + MINUTE + 730 * DAY_NS)
    assert deleted["candles"] >= 1
    assert [b.open_time for b in await recorder.load_bars("OLD/ZAR", Timeframe.M1, 9)] == [START + MINUTE]
    assert await recorder.load_trades("OLD/ZAR", 9) == []


async def test_an_outage_is_bridged_by_bounded_buffers(pg_server: EmbeddedPostgres, pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool, candle_buffer=50, trade_buffer=10)
    recorder.add_bars(bar(n, "OUT/ZAR") for n in range(20))
    assert await recorder.flush()

    pg_server.stop()
    recorder.add_bars(bar(n, "OUT/ZAR") for n in range(15, 40))
    recorder.add_trades(trade(n, "OUT/ZAR") for n in range(8))
    assert not await recorder.flush()
    recorder.add_bars(bar(n, "OUT/ZAR") for n in range(40, 70))
    recorder.add_trades(trade(n, "OUT/ZAR") for n in range(8, 13))
    assert not await recorder.flush()
    assert (recorder.dropped_candles, recorder.dropped_trades, recorder.pending) == (5, 3, 60)
    with pytest.raises(StoreUnavailableError):
        await recorder.load_bars("OUT/ZAR", Timeframe.M1, 1)
    with pytest.raises(StoreUnavailableError):
        await PostgresLedger(pg_pool).acquire_epoch("nobody")

    pg_server.start()
    assert await recorder.flush()
    assert recorder.pending == 0
    assert same(await recorder.load_bars("OUT/ZAR", Timeframe.M1, 1000), [bar(n, "OUT/ZAR") for n in range(70)])
    assert await recorder.load_trades("OUT/ZAR", 100) == [trade(n, "OUT/ZAR") for n in range(3, 13)]
    assert await pg_pool.fetchval("SELECT count(*) FROM candles WHERE symbol = 'OUT/ZAR'") == 70

"""Market data through the buffers into the database, with and without an outage."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from actors.recorder import RecorderActor
from helios.domain.enums import Side, Timeframe
from helios.domain.events import EngineEvent
from helios.domain.market import BAR_VALUES, Bar, MarketSnapshot, Trade
from helios.errors import StoreUnavailableError
from helios.store.embedded import EmbeddedPostgres
from helios.store.ledger import PostgresLedger
from helios.store.pool import connect
from helios.store.recorder import DAY_NS, MarketRecorder
from tests.support.peers import spec

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
    took_s = []
    for _ in range(3):  # one of them without a stall of a busy machine
        started = time.monotonic()
        times, closes = await recorder.load_closes("ETH/ZAR", Timeframe.M1, 1000)
        took_s.append(time.monotonic() - started)
    assert min(took_s) < 0.5
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


async def test_a_revised_candle_replaces_what_was_stored_unknown_numbers_included(pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool)
    recorder.add_bars([bar(1, "REV/ZAR", buy_volume=2.0, trade_count=4.0), bar(2, "REV/ZAR", buy_volume=1.0)])
    assert await recorder.flush()
    corrected = bar(1, "REV/ZAR", volume=9.0)
    recorder.revise_bars([corrected])
    recorder.add_bars([bar(3, "REV/ZAR")])
    recorder.revise_bars([bar(3, "REV/ZAR", volume=7.0)])  # given out and corrected before the flush
    assert await recorder.flush()
    assert same(
        await recorder.load_bars("REV/ZAR", Timeframe.M1, 9),
        [corrected, bar(2, "REV/ZAR", buy_volume=1.0), bar(3, "REV/ZAR", volume=7.0)],
    )


async def test_trades_books_and_features_are_kept_once(pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool)
    book = MarketSnapshot("KEEP/ZAR", Decimal("10.05"), START + 1, ((Decimal("10.0"), Decimal(3)),), ((Decimal("10.1"), Decimal(1)),))
    features = np.arange(90, dtype=np.float32)
    features[3] = math.nan
    for _ in range(2):
        recorder.add_trades(trade(n, "KEEP/ZAR") for n in range(5))
        recorder.add_book(book)
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


async def test_an_outage_keeps_the_ten_thousand_newest_candles_and_writes_them_once_each(
    pg_server: EmbeddedPostgres, pg_pool: asyncpg.Pool
) -> None:
    recorder = MarketRecorder(pg_pool)
    pg_server.stop()
    for start in range(0, 12_000, 500):
        recorder.add_bars(bar(n, "BIG/ZAR") for n in range(start, start + 500))
        if start % 3_000 == 0:
            assert not await recorder.flush()
    assert not await recorder.flush()
    recorder.add_trades(trade(n, "BIG/ZAR") for n in range(1_200))
    assert (recorder.dropped_candles, recorder.dropped_trades, recorder.pending) == (2_000, 200, 11_000)
    down = recorder.counters()
    assert (down["buffered"], down["dropped"], down["written"], down["failures"]) == (11_000, 2_200, 0, 5)

    pg_server.start()
    assert await recorder.flush()
    recorder.add_bars(bar(n, "BIG/ZAR") for n in range(11_990, 12_000))  # the venue tells some again
    assert await recorder.flush()
    assert same(await recorder.load_bars("BIG/ZAR", Timeframe.M1, 20_000), [bar(n, "BIG/ZAR") for n in range(2_000, 12_000)])
    assert await recorder.load_trades("BIG/ZAR", 2_000) == [trade(n, "BIG/ZAR") for n in range(200, 1_200)]
    up = recorder.counters()
    assert (up["buffered"], up["dropped"], up["written"]) == (0, 2_200, 11_010)
    assert up["seconds_since_success"] < 5


async def test_a_desk_that_starts_without_its_database_buffers_until_it_is_there(
    pg_server: EmbeddedPostgres, pg_dsn: str, tmp_path: Path
) -> None:
    actor = RecorderActor(replace(spec(tmp_path, ("NEW/ZAR",), **{"store.flush_interval_ms": 20}), dsn=pg_dsn))
    pg_server.stop()
    try:
        await actor.add([bar(n, "NEW/ZAR") for n in range(5)], [])
        await actor.record_event(EngineEvent("TEST", "INFO", "recorder", "while away", START, {}))
        assert not await actor._flush_once()
        assert (actor.details()["store"]["buffered"], actor.details()["notes_waiting"]) == (5, 1)
    finally:
        pg_server.start()
    await eventually(lambda: actor.details()["store"]["buffered"] == actor.details()["notes_waiting"] == 0)
    pool = await connect(pg_dsn, max_size=1)
    assert await pool.fetchval("SELECT count(*) FROM candles WHERE symbol = 'NEW/ZAR'") == 5
    assert await pool.fetchval("SELECT count(*) FROM engine_events WHERE kind = 'TEST'") == 1
    await pool.close()
    await actor.stop()


async def test_a_burst_larger_than_the_buffers_loses_nothing_while_the_database_is_there(pg_dsn: str, tmp_path: Path) -> None:
    store = {"store.candle_buffer": 100, "store.trade_buffer": 50, "store.flush_interval_ms": 60_000}
    actor = RecorderActor(replace(spec(tmp_path, ("RUSH/ZAR",), **store), dsn=pg_dsn))
    await actor.add_trades([trade(n, "RUSH/ZAR") for n in range(500)])
    for start in range(0, 600, 30):
        await actor.add([bar(n, "RUSH/ZAR") for n in range(start, start + 30)], [])
    await actor.flush()
    assert actor.details()["store"] | {"seconds_since_success": 0, "failures": 0} == {
        "buffered": 0, "dropped": 0, "written": 1_100, "refused": 0, "failures": 0, "seconds_since_success": 0,
    }  # fmt: skip
    await actor.stop()


REFUSED_TRADES = {
    "text that is none": {"trade_id": "a\0b"},
    "half a character": {"trade_id": "a\ud800"},
    "a time beyond the calendar": {"ts_event": 10**20},
    "a time beyond a bigint": {"ts_init": 2**63},
    "no price": {"price": None},
    "a side that is neither": {"taker_side": 7},
    "an id that is no text": {"trade_id": 5},
}


@pytest.mark.parametrize("what", REFUSED_TRADES)
async def test_a_row_the_database_refuses_holds_up_no_other(pg_pool: asyncpg.Pool, what: str) -> None:
    symbol = f"{what}/ZAR"
    recorder = MarketRecorder(pg_pool)
    recorder.add_bars(bar(n, symbol) for n in range(50))
    recorder.add_trades(replace(trade(n, symbol), **REFUSED_TRADES[what]) if n == 13 else trade(n, symbol) for n in range(20))
    assert await recorder.flush()
    assert (recorder.refused, recorder.pending, recorder.written) == (1, 0, 69)
    assert await recorder.load_trades(symbol, 100) == [trade(n, symbol) for n in range(20) if n != 13]
    assert len(await recorder.load_bars(symbol, Timeframe.M1, 100)) == 50
    recorder.add_trades([trade(21, symbol)])
    assert await recorder.flush()
    assert recorder.counters()["written"] == 70


async def test_candles_and_books_that_are_refused_are_left_out_alone(pg_pool: asyncpg.Pool) -> None:
    recorder = MarketRecorder(pg_pool)
    book = MarketSnapshot("LEFT/ZAR", Decimal("10.05"), START, ((Decimal("10.0"), Decimal(3)),), ((Decimal("10.1"), Decimal(1)),))
    recorder.add_bars([bar(1, "LEFT/ZAR"), replace(bar(2, "LEFT/ZAR"), open_time=10**30), bar(3, "LEFT/ZAR")])
    recorder.add_book(replace(book, ts_event=START + 1, last=None))
    recorder.add_book(book)
    assert await recorder.flush()
    assert same(await recorder.load_bars("LEFT/ZAR", Timeframe.M1, 9), [bar(1, "LEFT/ZAR"), bar(3, "LEFT/ZAR")])
    assert await pg_pool.fetchval("SELECT count(*) FROM book_snapshots WHERE symbol = 'LEFT/ZAR'") == 1
    assert (recorder.refused, recorder.counters()["refused"], recorder.pending) == (2, 2, 0)


async def test_an_outage_while_a_refused_row_is_looked_for_keeps_everything(pg_pool: asyncpg.Pool) -> None:
    class Leaving(MarketRecorder):
        n_left = 3

        async def _write_whole(self, parts):  # type: ignore[no-untyped-def]
            Leaving.n_left -= 1
            if Leaving.n_left < 0:
                raise StoreUnavailableError("away")
            await super()._write_whole(parts)

    recorder = Leaving(pg_pool)
    recorder.add_trades([*(trade(n, "GONE/ZAR") for n in range(8)), replace(trade(8, "GONE/ZAR"), price=None)])
    assert not await recorder.flush()
    assert (recorder.pending, recorder.refused, recorder.failures) == (9, 0, 1)
    Leaving.n_left = 100
    assert await recorder.flush()
    assert (recorder.refused, len(await recorder.load_trades("GONE/ZAR", 99))) == (1, 8)


async def test_many_senders_of_much_at_once_lose_nothing(pg_dsn: str, tmp_path: Path) -> None:
    store = {"store.candle_buffer": 100, "store.trade_buffer": 50, "store.flush_interval_ms": 60_000}
    actor = RecorderActor(replace(spec(tmp_path, ("MANY/ZAR",), **store), dsn=pg_dsn))
    bars = [[bar(n, f"MANY{sender}/ZAR") for n in range(90)] for sender in range(6)]
    trades = [[trade(n, f"MANY{sender}/ZAR") for n in range(90)] for sender in range(6)]
    await asyncio.gather(*(actor.add(own, [], revised=own[:80]) for own in bars), *(actor.add_trades(own) for own in trades))
    await actor.flush()
    details = actor.details()["store"]
    assert (details["dropped"], details["buffered"], details["written"]) == (0, 0, 6 * (90 + 80 + 90))
    await actor.stop()


async def test_one_candle_with_a_wrong_time_makes_nothing_look_old(pg_pool: asyncpg.Pool) -> None:
    await pg_pool.execute("TRUNCATE candles")
    recorder = MarketRecorder(pg_pool)
    assert await recorder.newest_ns() is None
    recorder.add_bars([bar(5, "A/ZAR"), bar(6, "A/ZAR")])
    assert await recorder.flush()
    assert await recorder.newest_ns() == START + 6 * MINUTE
    recorder.add_bars([bar(7, "B/ZAR"), bar(8, "C/ZAR"), bar(10**7, "D/ZAR")])
    assert await recorder.flush()
    assert await recorder.newest_ns() == START + 7 * MINUTE


async def eventually(is_true: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true")

"""The sandbox exchange on recorded files: small ones made here, and the real ones where they are."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from websockets.asyncio.client import connect

from helios.domain.market import BookUpdate, VenueCandle
from helios.errors import ConfigError, DataError
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.files import recorded_exchange
from helios.venues.sandbox.ticks import TickTrade
from tests.support.sandbox_client import LevelMirror, client_of, decoded, frames, running, subscribe

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded"))
START_S = 1_746_370_800  # 2025-05-04 15:00 UTC
MINUTE_NS = 60 * 10**9


def write_candles(directory: Path, n: int = 240, absent: int = 200) -> dict[int, tuple[float, ...]]:
    rng = np.random.default_rng(3)
    close = np.round(100.0 + np.cumsum(rng.standard_normal(n)) * 0.3, 1)
    open_ = np.round(np.concatenate([[100.0], close[:-1]]) + 0.1, 1)
    high, low = np.round(np.maximum(open_, close) + 0.4, 1), np.round(np.minimum(open_, close) - 0.5, 1)
    volume = np.round(rng.uniform(0.5, 9.0, n), 3)
    rows = {START_S + 60 * i: row for i, row in enumerate(zip(*(x.tolist() for x in (open_, high, low, close, volume)), strict=True))}
    del rows[START_S + 60 * absent]
    columns = dict(zip(("open", "high", "low", "close", "volume"), zip(*rows.values(), strict=True), strict=True))
    times = pa.array([1_000 * second for second in rows], pa.timestamp("ms", tz="UTC"))
    pq.write_table(
        pa.table({"ts": times} | {name: pa.array(values) for name, values in columns.items()}), directory / "BTCUSDT_1m.parquet"
    )
    return rows


def check_minutes(exchange: Exchange, rows: dict[int, tuple[float, ...]], minutes: int) -> int:
    """Trade so many minutes; every candle must be the recorded one and the sum of its trades, and every book must follow."""
    (pair,) = exchange.specs
    book = exchange.book(pair)
    mirror, sequence = LevelMirror({"b": book.bids, "a": book.asks}), book.sequence or 0
    trades: list[TickTrade] = []
    checked = 0
    for _ in range(60 * minutes):
        for event in exchange.advance(exchange.time_ns + 10**9, 1):
            if isinstance(event, TickTrade):
                side = mirror.sides["a" if event.taker_side.name == "BUY" else "b"]
                assert float(event.price) == (min(side) if event.taker_side.name == "BUY" else max(side))
                trades.append(event)
            elif isinstance(event, BookUpdate):
                sequence += 1
                mirror.apply({"b": event.bids, "a": event.asks})
                assert (event.sequence, event.checksum) == (sequence, mirror.crc())
                assert max(mirror.sides["b"]) < min(mirror.sides["a"])
            else:
                checked += check_candle(event, trades, rows)
                trades = []
    return checked


def check_candle(candle: VenueCandle, trades: list[TickTrade], rows: dict[int, tuple[float, ...]]) -> bool:
    row = rows.get(candle.open_time // 10**9)
    assert all(candle.open_time <= trade.ts_event < candle.open_time + MINUTE_NS for trade in trades)
    if row is None or row[4] == 0.0:
        assert not trades
        assert (candle.volume_base, candle.open) == (0.0, candle.close)
        return False
    prices = [float(trade.price) for trade in trades]
    assert (prices[0], max(prices), min(prices), prices[-1]) == row[:4]
    assert (candle.open, candle.high, candle.low, candle.close, candle.volume_base) == row
    assert sum(float(trade.quantity) for trade in trades) == pytest.approx(row[4], rel=1e-12)
    quote = sum(float(trade.price) * float(trade.quantity) for trade in trades)
    assert candle.volume_quote == pytest.approx(quote, abs=1e-6)
    return True


def test_trades_and_books_make_up_the_recorded_candles(tmp_path: Path) -> None:
    rows = write_candles(tmp_path, absent=100)
    exchange = recorded_exchange(tmp_path, None, 5, None)
    assert exchange.time_ns == (START_S + 3_600) * 10**9
    assert check_minutes(exchange, rows, 90) == 89


def test_a_minute_trades_alike_wherever_the_market_starts(tmp_path: Path) -> None:
    write_candles(tmp_path)
    found = []
    for start in (START_S + 3_600, START_S + 4_200):
        exchange = recorded_exchange(tmp_path, None, 5, start * 10**9)
        events = exchange.advance((START_S + 4_800) * 10**9, 1_200)
        found.append(
            [
                (t.ts_event, t.price, t.quantity)
                for t in events
                if isinstance(t, TickTrade) and t.ts_event >= (START_S + 4_200) * 10**9
            ]
        )
    assert found[0] == found[1]
    assert len(found[0]) > 80


def test_after_the_last_minute_nothing_trades(tmp_path: Path) -> None:
    write_candles(tmp_path)
    exchange = recorded_exchange(tmp_path, None, 5, (START_S + 239 * 60) * 10**9)
    assert exchange.advance((START_S + 240 * 60) * 10**9, 60)
    assert exchange.advance((START_S + 300 * 60) * 10**9, 3_600) == []
    assert exchange.buckets["BTCUSDT"].end_ns == (START_S + 240 * 60) * 10**9


def test_unusable_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a directory"):
        recorded_exchange(tmp_path / "absent", None, 5, None)
    with pytest.raises(DataError, match="neither"):
        recorded_exchange(tmp_path, None, 5, None)
    write_candles(tmp_path)
    with pytest.raises(ConfigError, match="there are BTC/USDT"):
        recorded_exchange(tmp_path, ["ETH/USDT"], 5, None)
    with pytest.raises(ConfigError, match="not between"):
        recorded_exchange(tmp_path, None, 5, 1)


async def test_rest_and_truth_give_the_recorded_candles(tmp_path: Path) -> None:
    rows = write_candles(tmp_path)
    async with (
        running(recorded=tmp_path, symbols=("BTC/USDT",), speed=600.0, start_ns=None, admin=True) as sandbox,
        client_of(sandbox) as client,
        connect(sandbox.ws_url, max_queue=None) as socket,
    ):
        await subscribe(socket, NEW_TRADE_BUCKET=["BTCUSDT"])
        await frames(socket, lambda texts: len(decoded(texts, "NEW_TRADE_BUCKET")) >= 8)
        path = f"/v1/public/BTCUSDT/buckets?startTime={START_S}&endTime={START_S + 18_000}"
        truth = (await client.get(f"/sandbox/truth/BTCUSDT/minutes?start={START_S}")).json()
        buckets = {_second(row["startTime"]): row for row in (await client.get(path)).json()}  # after it: the market goes on
        pairs = (await client.get("/v1/public/pairs")).json()
    assert len(buckets) >= 67
    for second, bucket in buckets.items():
        assert tuple(float(bucket[name]) for name in ("open", "high", "low", "close", "volume")) == rows[second]
    assert len(truth) >= 8
    for row in truth:
        assert [row[name] for name in ("open", "high", "volume", "quoteVolume")] == [
            buckets[row["start"]][name] for name in ("open", "high", "volume", "quoteVolume")
        ]
    assert (pairs[0]["shortName"], pairs[0]["tickSize"]) == ("BTC/USDT", "0.1")


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["binance-perp-1m-2025-05", "binance-spot-1m-2025-05"])
def test_recorded_candles_of_an_exchange_come_out_as_they_were(folder: str) -> None:
    if not (RECORDED / folder).is_dir():
        pytest.skip("recorded data absent")
    for symbol in ("BTC/USDT", "ETH/USDT"):
        table = pq.read_table(RECORDED / folder / f"{symbol.replace('/', '')}_1m.parquet")
        seconds = table.column("ts").cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()).to_numpy() // 1_000
        values = zip(*(table.column(name).to_pylist() for name in ("open", "high", "low", "close", "volume")), strict=True)
        rows = dict(zip(seconds.tolist(), values, strict=True))
        exchange = recorded_exchange(RECORDED / folder, [symbol], 5, None)
        start = exchange.time_ns // 10**9
        history = exchange.buckets[symbol.replace("/", "")].query(60, (start - 18_000) * 10**9, start * 10**9)
        assert len(history) == 300
        assert all((*bucket.prices, bucket.volume) == rows[bucket.start_ns // 10**9] for bucket in history)
        assert check_minutes(exchange, rows, 120) > 100


def depth(
    second: int, first: int, last: int, before: int, bids: list[list[str]], asks: list[list[str]]
) -> tuple[int, dict[str, Any]]:
    data = {"e": "depthUpdate", "T": second * 1_000, "U": first, "u": last, "pu": before, "b": bids, "a": asks}
    return second, {"data": data}


def write_capture(directory: Path) -> None:
    snapshot = {
        "lastUpdateId": 10,
        "T": START_S * 1_000 + 5_000,
        "bids": [["99.90", "1.000"], ["99.80", "2.0"]],
        "asks": [["100.10", "3"]],
    }
    lines = [
        (START_S + 5, snapshot),
        depth(START_S + 6, 9, 12, 8, [["99.90", "0.000"], ["99.85", "5"]], []),
        (START_S + 7, {"data": {"e": "trade", "t": 71, "p": "100.1", "q": "0.5", "m": False, "T": (START_S + 7) * 1_000}}),
        depth(START_S + 65, 13, 14, 12, [], [["100.10", "2.5"], ["100.2", "7"]]),
        (START_S + 66, {"data": {"e": "trade", "t": 72, "p": "99.85", "q": "1.25", "m": True, "T": (START_S + 66) * 1_000}}),
    ]
    with gzip.open(directory / "BTCUSDT_20250504.raw.gz", "wt") as file:
        file.writelines(f"{second * 10**9} {json.dumps(message)}\n" for second, message in lines)


def test_captures_are_played_as_they_are_with_sequence_and_checksum(tmp_path: Path) -> None:
    write_capture(tmp_path)
    exchange = recorded_exchange(tmp_path, None, 5, None)
    book = exchange.book("BTCUSDT")
    assert (book.bids, book.asks) == ((("99.9", "1"), ("99.8", "2")), (("100.1", "3"),))
    events = exchange.advance((START_S + 120) * 10**9, 120)
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["BookUpdate", "TickTrade", "VenueCandle", "BookUpdate", "TickTrade", "VenueCandle"]
    assert isinstance(events[0], BookUpdate)
    assert (events[0].bids, events[0].sequence) == ((("99.9", "0"), ("99.85", "5")), (book.sequence or 0) + 1)
    candles = [event for event in events if isinstance(event, VenueCandle)]
    assert [(c.open, c.close, c.volume_base) for c in candles] == [(100.1, 100.1, 0.5), (99.85, 99.85, 1.25)]
    assert exchange.summary("BTCUSDT")["bidPrice"] == "99.85"


@pytest.mark.realdata
def test_recorded_capture_follows_with_the_venues_rules() -> None:
    directory = RECORDED / "binance-l2-2024-07-18"
    if not directory.is_dir():
        pytest.skip("recorded data absent")
    exchange = recorded_exchange(directory, ["BTC/USDT"], 5, None)
    book = exchange.book("BTCUSDT")
    mirror, sequence, volume, n_trades = LevelMirror({"b": book.bids, "a": book.asks}), book.sequence or 0, 0.0, 0
    candles: list[VenueCandle] = []
    for event in exchange.advance(exchange.time_ns + 600 * 10**9, 600):
        if isinstance(event, BookUpdate):
            sequence += 1
            mirror.apply({"b": event.bids, "a": event.asks})
            assert event.sequence == sequence
            if sequence % 20 == 0:
                assert mirror.crc() == event.checksum
        elif isinstance(event, TickTrade):
            volume += float(event.quantity)
            n_trades += 1
        else:
            candles.append(event)
    kinds = pq.read_table(directory / "usdm/BTCUSDT_trades.parquet").column("x").to_pylist()
    assert n_trades == kinds.count("MARKET")
    assert sum(candle.volume_base for candle in candles) == pytest.approx(volume)
    assert len(candles) >= 8


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp())

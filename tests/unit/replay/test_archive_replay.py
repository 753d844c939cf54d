from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helios.domain.enums import MarketKind, Timeframe
from helios.errors import ConfigError, DataError
from helios.store.archive import CandleArchive, CandleSeries, Source
from helios.store.imports import import_file
from helios.venues.replay.archive import ArchiveReplay
from helios.venues.replay.candles import CandleReplay
from helios.venues.replay.open import open_replay
from tests.support.candles import MINUTE_NS, START_NS, clean_candles

PERP = CandleSeries("binance", "BTC/USDT:USDT", Timeframe.M1)


def test_an_imported_file_replays_as_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "binance-perp-1m" / "BTCUSDT_1m.parquet"
    path.parent.mkdir()
    times, bars = clean_candles(500)
    kept = np.arange(500) % 100 != 50  # holes stay holes
    columns = {name: bars[kept, i] for i, name in enumerate(("open", "high", "low", "close", "volume"))}
    pq.write_table(pa.table({"ts": pa.array(times[kept] // 10**6, pa.timestamp("ms", tz="UTC"))} | columns), path)
    archive = CandleArchive(tmp_path / "archive")
    import_file(archive, path)
    ours, theirs = ArchiveReplay(archive, PERP), CandleReplay(path, MarketKind.PERP)
    assert ours.instrument == theirs.instrument
    assert (ours.start_ns, ours.end_ns) == (theirs.start_ns, theirs.end_ns)
    for until_ns in range(START_NS, theirs.end_ns + MINUTE_NS, 7 * MINUTE_NS + 1):
        assert repr(ours.read_until(until_ns)) == repr(theirs.read_until(until_ns))  # NaN is not equal to itself
    assert repr(ours.read_until(ours.end_ns)) == repr(theirs.read_until(ours.end_ns)) != "[]"
    assert ours.read_until(ours.end_ns + MINUTE_NS) == []


def test_a_range_and_the_flow_columns_are_kept(tmp_path: Path) -> None:
    archive = CandleArchive(tmp_path)
    times, bars = clean_candles(100)
    bars[:, 5:] = 0.25
    series = CandleSeries("valr", "BTC/ZAR", Timeframe.M1)
    archive.write(series, times, bars, Source("x"))
    replay = ArchiveReplay(archive, series, int(times[10]), int(times[20]))
    found = replay.read_until(replay.end_ns)
    assert [bar.open_time for bar in found] == times[10:20].tolist()
    assert found[0].microprice_bps == 0.25
    assert (replay.instrument.base, replay.instrument.quote, replay.instrument.tick_size) == ("BTC", "ZAR", Decimal("0.01"))
    assert not replay.instrument.can_short


def test_what_cannot_be_replayed_is_one_clear_error(tmp_path: Path) -> None:
    archive = CandleArchive(tmp_path)
    times, bars = clean_candles(100)
    bars[40, 1] = 1.0
    archive.write(PERP, times, bars, Source("x"))
    archive.write(CandleSeries("v", "NAME", Timeframe.M1), *clean_candles(3), Source("x"))
    for series, bounds, words in (
        (PERP, (None, None), "1 impossible bars, the first at 2025-01-01T00:40:00"),
        (PERP, (0, START_NS), "in that range"),
        (CandleSeries("v", "X/Y", Timeframe.M1), (None, None), "has no v X/Y 1m"),
        (CandleSeries("v", "NAME", Timeframe.M1), (None, None), "no symbol such as"),
        (CandleSeries("v", "X/Y", Timeframe.M5), (None, None), "needs minutes"),
    ):
        with pytest.raises(DataError, match=words):
            ArchiveReplay(archive, series, *bounds)


def test_an_archive_directory_is_opened_by_what_lies_in_it(tmp_path: Path) -> None:
    archive = CandleArchive(tmp_path)
    times, bars = clean_candles(30)
    archive.write(PERP, times, bars, Source("a", "1"))
    sources = open_replay(str(tmp_path))
    assert list(sources) == ["BTC/USDT:USDT"]
    assert len(sources["BTC/USDT:USDT"].read_until(START_NS + 10 * MINUTE_NS)) == 10
    with pytest.raises(ConfigError):
        open_replay(str(tmp_path), ["ETH/USDT"])
    archive.write(CandleSeries("bybit", PERP.symbol, Timeframe.M1), times, bars, Source("b", "2"))
    with pytest.raises(DataError, match="from binance and from bybit"):
        open_replay(str(tmp_path))

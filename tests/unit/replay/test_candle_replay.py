from __future__ import annotations

import math
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helios.domain.enums import MarketKind, Timeframe
from helios.errors import ConfigError, DataError
from helios.venues.replay.candles import CandleReplay, open_candle_replay
from helios.venues.replay.contracts import infer_tick, split_pair
from helios.venues.replay.session import detect_replay

MINUTE_NS = 60_000_000_000
START_MS = 1_737_982_920_000
ROOT = Path(__file__).resolve().parents[3]
RECORDED = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded"))


def columns(minutes: list[int]) -> dict[str, list[float]]:
    close = [100.5 + 0.1 * i for i in range(len(minutes))]
    return {
        "open": [round(c - 0.1, 1) for c in close], "high": [round(c + 0.2, 1) for c in close],
        "low": [round(c - 0.3, 1) for c in close], "close": [round(c, 1) for c in close], "volume": [3.5] * len(minutes),
    }  # fmt: skip


def write(path: Path, minutes: list[int], **changes: list[float]) -> Path:
    path.parent.mkdir(exist_ok=True)
    times = pa.array([START_MS + 60_000 * m for m in minutes], pa.timestamp("ms", tz="UTC"))
    table = {"ts": times} | {name: pa.array(values) for name, values in (columns(minutes) | changes).items()}
    pq.write_table(pa.table(table), path)
    return path


def test_bars_are_returned_once_they_have_closed_and_once_only(tmp_path: Path) -> None:
    replay = CandleReplay(write(tmp_path / "BTCUSDT_1m.parquet", [0, 1, 2]), MarketKind.SPOT)
    start = START_MS * 1_000_000
    assert (replay.start_ns, replay.end_ns) == (start, start + 3 * MINUTE_NS)
    assert replay.read_until(start + MINUTE_NS - 1) == []
    first = replay.read_until(start + MINUTE_NS)
    assert [bar.open_time for bar in first] == [start]
    assert [bar.open_time for bar in replay.read_until(start + 10 * MINUTE_NS)] == [start + MINUTE_NS, start + 2 * MINUTE_NS]
    assert replay.read_until(start) == []


def test_what_the_file_does_not_say_is_nan(tmp_path: Path) -> None:
    replay = CandleReplay(write(tmp_path / "BTCUSDT_1m.parquet", [0]), MarketKind.SPOT)
    (bar,) = replay.read_until(replay.end_ns)
    assert (bar.symbol, bar.timeframe) == ("BTC/USDT", Timeframe.M1)
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (100.4, 100.7, 100.2, 100.5, 3.5)
    assert math.isnan(bar.buy_volume)
    assert math.isnan(bar.spread_bps)


def test_missing_minutes_stay_missing(tmp_path: Path) -> None:
    replay = CandleReplay(write(tmp_path / "BTCUSDT_1m.parquet", [0, 5]), MarketKind.SPOT)
    assert len(replay.read_until(replay.end_ns)) == 2


def test_directory_name_says_whether_it_is_a_perpetual(tmp_path: Path) -> None:
    write(tmp_path / "some-perp-1m" / "BTCUSDT_1m.parquet", [0, 1])
    write(tmp_path / "some-spot-1m" / "ETHZAR_1m.parquet", [0, 1])
    perp = open_candle_replay(tmp_path / "some-perp-1m", None)["BTC/USDT:USDT"].instrument
    spot = open_candle_replay(tmp_path / "some-spot-1m", None)["ETH/ZAR"].instrument
    assert (perp.kind, perp.max_leverage, perp.lot_size_base) == (MarketKind.PERP, Decimal(3), Decimal("0.001"))
    assert (spot.kind, spot.quote, spot.can_short) == (MarketKind.SPOT, "ZAR", False)
    assert perp.tick_size == Decimal("0.1")


@pytest.mark.parametrize(("prices", "tick"), [
    ([100.0, 250.0], "1E+1"), ([1.0, 2.0], "1"), ([63943.9, 63944.0], "0.1"), ([0.12345, 3.0], "0.00001"), ([1 / 3], "1E-8"),
])  # fmt: skip
def test_tick_is_the_largest_power_of_ten_that_divides_all_prices(prices: list[float], tick: str) -> None:
    assert infer_tick(np.array(prices)) == Decimal(tick)


@pytest.mark.parametrize(("pair", "parts"), [
    ("BTCUSDT", ("BTC", "USDT")), ("BTCUSD", ("BTC", "USD")), ("ETHBTC", ("ETH", "BTC")), ("SOLUSDC", ("SOL", "USDC")),
    ("BTCEUR", ("BTC", "EUR")), ("SOLETH", ("SOL", "ETH")), ("BTCFDUSD", ("BTC", "FDUSD")), ("BNBUSD", ("BNB", "USD")),
])  # fmt: skip
def test_pairs_are_split_by_known_quotes(pair: str, parts: tuple[str, str]) -> None:
    assert split_pair(pair) == parts


def test_unknown_symbol_lists_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path / "BTCUSDT_1m.parquet", [0])
    with pytest.raises(ConfigError, match=r"ETH/USDT.*it has BTC/USDT"):
        open_candle_replay(tmp_path, ["ETH/USDT"])


@pytest.mark.parametrize(("minutes", "changes", "reason"), [
    ([0, 0], {}, "row 1: time does not come after"),
    ([0, 1], {"high": [100.7, 1.0]}, "row 1: prices are not"),
    ([0, 1], {"low": [0.0, 100.2]}, "row 0: prices are not"),
    ([0, 1], {"volume": [1.0, -1.0]}, "row 1: volume"),
    ([0, 1], {"close": [100.5, math.nan]}, "row 1: a value is missing"),
    ([], {}, "holds no rows"),
])  # fmt: skip
def test_insane_rows_are_named(tmp_path: Path, minutes: list[int], changes: dict[str, list[float]], reason: str) -> None:
    path = write(tmp_path / "BTCUSDT_1m.parquet", minutes, **changes)
    with pytest.raises(DataError, match=reason) as caught:
        CandleReplay(path, MarketKind.SPOT)
    assert str(path) in str(caught.value)


def test_corrupt_file_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT_1m.parquet"
    path.write_bytes(b"PAR1 this is no parquet PAR1")
    with pytest.raises(DataError) as caught:
        open_candle_replay(tmp_path, None)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT_1m.parquet"
    pq.write_table(pa.table({"ts": [START_MS], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0]}), path)
    with pytest.raises(DataError, match="column volume missing"):
        CandleReplay(path, MarketKind.SPOT)


def test_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither minute candles"):
        detect_replay(tmp_path)
    with pytest.raises(ConfigError, match="not a directory"):
        detect_replay(tmp_path / "absent")


@pytest.mark.realdata
def test_recorded_perpetual_reads_whole() -> None:
    directory = RECORDED / "binance-perp-1m-2025-02"
    if not directory.is_dir():
        pytest.skip("recorded data absent")
    replay = detect_replay(directory)["BTC/USDT:USDT"]
    bars = replay.read_until(replay.end_ns)
    assert len(bars) == 43_199
    assert replay.instrument.tick_size == Decimal("0.1")

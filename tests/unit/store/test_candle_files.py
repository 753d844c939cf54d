from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helios.domain.enums import MarketKind, Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import ConfigError, DataError
from helios.market.merge import MergeCounts
from helios.store.archive import CandleArchive, CandleSeries
from helios.store.candle_files import FileCandles, Naming, find_candle_files, naming_of, parse_candles
from helios.store.imports import import_file
from tests.support.candles import START_NS, clean_candles

MS, US = 1_000_000, 1_000
BINANCE = Naming("binance", "BTC/USDT", Timeframe.M1)
KLINES_MS = (
    "1735689600000,93576.00000000,93610.93000000,93537.50000000,93610.93000000,8.21827000,1735689659999,768978.32105860,2631,"
    "3.95157000,369758.43225000,0\n"
    "1735689660000,93610.93000000,93652.00000000,93606.20000000,93652.00000000,6.84030000,1735689719999,640468.47690380,1500,"
    "3.13159000,293249.75396000,0\n"
)  # the columns that Binance documents
KLINES_US = KLINES_MS.replace("00000,935", "00000000,935").replace("60000,936", "60000000,936")
HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"
A21 = "Timestamp,Symbol,Open,High,Low,Close,Volume,Bid,Ask,Bid Size,Ask Size\n"


def parse(text: str, naming: Naming = BINANCE, name: str = "x.csv") -> FileCandles:
    (part,) = parse_candles(Path(name), text.encode(), naming)
    return part


def column(part: FileCandles, name: str) -> list[float]:
    return part.bars[:, BAR_VALUES.index(name)].tolist()


@pytest.mark.parametrize("text", [KLINES_MS, KLINES_US, HEADER + KLINES_MS, HEADER + KLINES_US, KLINES_MS.replace("\n", "\r\n")])
def test_binance_klines_in_every_form(text: str) -> None:
    part = parse(text)
    assert part.series == CandleSeries("binance", "BTC/USDT", Timeframe.M1)
    assert part.open_times.tolist() == [START_NS, START_NS + 60_000 * MS]
    assert part.bars[0, :8].tolist() == [93576.0, 93610.93, 93537.5, 93610.93, 8.21827, 768978.3210586, 2631.0, 3.95157]
    assert np.isnan(part.bars[:, 8:]).all()


def test_a_zip_holds_one_csv() -> None:
    def zipped(*names: str) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, KLINES_US)
        return buffer.getvalue()

    (part,) = parse_candles(Path("BTCUSDT-1m-2025-01.zip"), zipped("BTCUSDT-1m-2025-01.csv"), BINANCE)
    assert len(part.open_times) == 2
    for content in (zipped(), zipped("a.csv", "b.csv"), b"PK not a zip"):
        with pytest.raises(DataError, match=r"BTCUSDT-1m-2025-01\.zip"):
            parse_candles(Path("BTCUSDT-1m-2025-01.zip"), content, BINANCE)


def test_decimals_become_the_nearest_float_as_python_reads_them() -> None:
    rng = np.random.default_rng(2)
    texts = [f"{rng.uniform(1e-8, 1e6):.{rng.integers(0, 18)}f}1" for _ in range(2_000)]
    rows = "".join(f"{START_NS // MS + 60_000 * i},{text},{text},{text},{text},{text}\n" for i, text in enumerate(texts))
    assert column(parse(rows), "close") == [float(text) for text in texts]


@pytest.mark.parametrize("times", [
    ["2025-01-01T00:00:00Z", "2025-01-01T00:01:00Z"],
    ["2025-01-01 00:00:00", "2025-01-01 00:01:00"],
    ["2025-01-01T02:00:00+02:00", "2025-01-01T02:01:00+02:00"],
    ["1735689600", "1735689660"], ["1735689600000", "1735689660000"], ["1735689600000000", "1735689660000000"],
    ["1735689600000000000", "1735689660000000000"],
])  # fmt: skip
def test_times_as_people_write_them(times: list[str]) -> None:
    text = "timestamp,open,high,low,close,volume\n" + "".join(f"{t},1,1,1,1,1\n" for t in times)
    assert parse(text).open_times.tolist() == [START_NS, START_NS + 60_000 * MS]


def test_five_second_rows_with_quotes_become_minutes() -> None:
    def row(second: int, symbol: str, bid: float) -> str:
        at = datetime.fromtimestamp(START_NS // 10**9 + second, UTC).strftime("%Y-%m-%d %H:%M:%S")
        price = 100 + second / 5
        return f"{at},{symbol},{price},{price + 2},{price - 2},{price + 1},0.5,{bid},{bid + 1},3,1\n"

    text = (
        A21 + "".join(row(s, "BTC-USD", 100.0) for s in range(0, 180, 5)) + "".join(row(s, "ETH/USD", 50.0) for s in range(5, 120, 5))
    )
    naming = Naming("coinbase")
    btc, eth = parse_candles(Path("export.csv"), text.encode(), naming)
    assert btc.series == CandleSeries("coinbase", "BTC/USD", Timeframe.M1)
    assert btc.open_times.tolist() == [START_NS + 60_000 * MS * i for i in range(3)]
    assert btc.bars[1, :5].tolist() == [112.0, 125.0, 110.0, 124.0, 6.0]
    assert column(btc, "spread_bps") == pytest.approx([1 / 100.5 * 1e4] * 3)
    assert column(btc, "microprice_bps") == pytest.approx([((100 * 1 + 101 * 3) / 4 / 100.5 - 1) * 1e4] * 3)
    assert np.isnan(column(btc, "book_imbalance")).all()  # ten levels are not known from one
    # The first minute of the other lacks its first row: half a bar would look like a whole one.
    assert (eth.series.symbol, eth.open_times.tolist(), eth.partial) == ("ETH/USD", [START_NS + 60_000 * MS], 1)


@pytest.mark.parametrize(("path", "expected"), [
    ("binance-perp-1m-2025-05/BTCUSDT_1m.parquet", ("binance", "BTC/USDT:USDT", Timeframe.M1, MarketKind.PERP)),
    ("binance-spot-5m-2025/ADAUSDT_5m.parquet", ("binance", "ADA/USDT", Timeframe.M5, MarketKind.SPOT)),
    ("binanceus-spot-1m-2023-03/BTCUSD_1m.parquet", ("binanceus", "BTC/USD", Timeframe.M1, MarketKind.SPOT)),
    ("data/futures/um/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip", (None, "BTC/USDT:USDT", Timeframe.M1, MarketKind.PERP)),
    ("data/spot/daily/klines/ETHUSDT/1h/ETHUSDT-1h-2024-01-05.csv", (None, "ETH/USDT", Timeframe.H1, MarketKind.SPOT)),
    ("klines/ETHUSDT-1s-2024-01-05.csv", (None, "ETH/USDT", None, MarketKind.SPOT)),
    ("download/export.csv", (None, None, None, MarketKind.SPOT)),
])  # fmt: skip
def test_names_and_folders_say_whose_candles_they_are(path: str, expected: tuple[object, ...]) -> None:
    naming = naming_of(Path("/data") / path)
    assert (naming.venue, naming.symbol, naming.timeframe, naming.kind) == expected


def test_options_go_before_names() -> None:
    given = Naming("mine", "A/B", Timeframe.M5)
    assert naming_of(Path("binance-spot-1m-2025/BTCUSDT_1m.parquet"), given) == given


@pytest.mark.parametrize(("text", "words"), [
    ("", "cannot read"), ("a,b\n1,2\n", "no column 'open_time'"), (HEADER, "holds no rows"),
    (KLINES_MS.replace("93576.00000000", "93,576"), "cannot read"),
    (KLINES_MS.replace("93576.00000000", "much"), "wrong kind"),
    (KLINES_MS.replace("1735689660000", "yesterday"), "wrong kind"),
    (KLINES_MS.replace("1735689660000", ""), "wrong kind"),
    ("ts,timestamp,open,high,low,close,volume\n1,1,1,1,1,1,1\n", "mean the same"),
    (KLINES_MS.replace("1735689660000", "1735689607000"), "cannot be rolled up"),
])  # fmt: skip
def test_files_that_make_no_sense_are_one_line(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert "x.csv" in str(caught.value)


def test_a_file_that_does_not_say_whose_it_is_asks_for_the_option() -> None:
    for naming, option in ((Naming(None, "A/B", Timeframe.M1), "--venue"), (Naming("v", None, Timeframe.M1), "--symbol")):
        with pytest.raises(ConfigError, match=option):
            parse(KLINES_MS, naming)
    with pytest.raises(DataError, match="60 s apart, which is not 5m"):
        parse(KLINES_MS, Naming("v", "A/B", Timeframe.M5))


def rows_of(step_s: int, n: int, start_s: int = START_NS // 10**9) -> str:
    return HEADER.split(",close_time")[0] + "\n" + "".join(f"{start_s + step_s * i},1,2,0.5,1,3\n" for i in range(n))


def test_rows_further_apart_than_their_name_says_are_not_taken_for_gaps() -> None:
    with pytest.raises(DataError, match="300 s apart, which is not 1m"):
        parse(rows_of(300, 30))
    sparse = rows_of(300, 30).replace(str(START_NS // 10**9 + 300), str(START_NS // 10**9 + 240))  # one row off that grid
    assert len(parse(sparse).open_times) == 30


@pytest.mark.parametrize("start", [20_250_101, 0, -60, 10**9, 9 * 10**10, 8 * 10**18])
def test_numbers_that_are_no_time_of_a_market_are_refused(start: int) -> None:
    with pytest.raises(DataError, match=f"{start} is no time in seconds"):
        parse(rows_of(60, 3, start))


def test_a_byte_order_mark_is_no_part_of_a_name_or_a_number() -> None:
    plain = parse(KLINES_MS)
    for text in ("\ufeff" + KLINES_MS, "\ufeff" + HEADER + KLINES_MS):
        assert parse(text).open_times.tolist() == plain.open_times.tolist()


def test_missing_values_stay_missing() -> None:
    assert np.isnan(parse(KLINES_MS.replace("93576.00000000", "")).bars[0, 0])


def candles_file(path: Path, n: int = 2_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    times, bars = (rows[:n] for rows in clean_candles(60_000, seed=seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"ts": pa.array(times // MS, pa.timestamp("ms", tz="UTC"))}
    pq.write_table(pa.table(table | {name: bars[:, i] for i, name in enumerate(BAR_VALUES[:5])}), path)
    return times, bars


def test_folders_are_searched_for_candles_alone(tmp_path: Path) -> None:
    candles_file(tmp_path / "binance-spot-1m" / "BTCUSDT_1m.parquet")
    for name in ("BTCUSDT_funding.parquet", "README.md", "notes.csv"):
        (tmp_path / "binance-spot-1m" / name).write_text("x")
    found = find_candle_files([tmp_path, tmp_path / "binance-spot-1m" / "BTCUSDT_1m.parquet"])
    assert [path.name for path in found] == ["BTCUSDT_1m.parquet"]
    for missing in (tmp_path / "nowhere", tmp_path / "binance-spot-1m" / "absent_1m.parquet"):
        with pytest.raises(DataError, match="does not exist"):
            find_candle_files([missing])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file named like"):
        find_candle_files([tmp_path / "empty"])


def test_a_file_is_imported_once_and_exactly(tmp_path: Path) -> None:
    archive, path = CandleArchive(tmp_path / "archive"), tmp_path / "binance-perp-1m" / "BTCUSDT_1m.parquet"
    times, bars = candles_file(path)
    (first,) = import_file(archive, path)
    assert (first.counts, first.report is not None) == (MergeCounts(new=2_000), True)
    assert first.series == CandleSeries("binance", "BTC/USDT:USDT", Timeframe.M1)
    np.testing.assert_array_equal(archive.bars(first.series)[1][:, :5], bars[:, :5])
    np.testing.assert_array_equal(archive.bars(first.series)[0], times)
    (again,) = import_file(archive, path)
    assert (again.rows, again.counts) == (2_000, None)


def test_a_deleted_month_or_a_changed_file_is_imported_again(tmp_path: Path) -> None:
    archive, path = CandleArchive(tmp_path / "archive"), tmp_path / "binance-spot-1m" / "BTCUSDT_1m.parquet"
    candles_file(path, n=50_000)
    (first,) = import_file(archive, path)
    archive.months(first.series)[0].path.unlink()
    (again,) = import_file(archive, path)
    assert again.counts == MergeCounts(new=44_640, same=50_000 - 44_640)
    candles_file(path, n=50_010)
    (changed,) = import_file(archive, path)
    assert changed.counts == MergeCounts(new=10, same=50_000)


def test_a_file_that_contradicts_the_archive_is_counted_and_taken_only_on_request(tmp_path: Path) -> None:
    archive, path = CandleArchive(tmp_path / "archive"), tmp_path / "binance-spot-1m" / "BTCUSDT_1m.parquet"
    candles_file(path)
    import_file(archive, path)
    _, other = candles_file(path, seed=2)
    (kept_out,) = import_file(archive, path)
    assert kept_out.counts is not None
    assert (kept_out.counts.conflicting, kept_out.counts.replaced) == (2_000, 0)
    (taken,) = import_file(archive, path, newer_wins=True)
    assert taken.counts == MergeCounts(conflicting=2_000, replaced=2_000)
    np.testing.assert_array_equal(archive.bars(taken.series)[1][:, :5], other[:, :5])

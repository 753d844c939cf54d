"""Files of candles as people have them: Parquet, CSV with a header, and Binance's public klines (CSV or zip, with or without one).

What a file does not say its name and folder do: `BTCUSDT_1m.parquet`, `BTCUSDT-1m-2025-05.zip`; a folder named
`binance-perp-1m-2025-05` says venue and kind, a folder `futures` anywhere above the kind alone.

References
----------
.. [1] Binance, "Binance Public Data", github.com/binance/binance-public-data, read 2026-11: columns of klines; spot files have
   microseconds from 2025-01-01 on, milliseconds before.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from helios.domain.decisions import FloatArray
from helios.domain.enums import MarketKind, Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import ConfigError, DataError
from helios.market.merge import TimeArray
from helios.market.seconds import roll_up
from helios.store.archive import CandleSeries
from helios.venues.replay.contracts import symbol_of

SUFFIXES = (".parquet", ".csv", ".zip")
MAX_BYTES = 4 * 1024**3  # a file is held in memory; a zip says how large its content is before it is unpacked
_NAME = re.compile(r"(?P<pair>[A-Z0-9]+)[-_](?P<timeframe>1s|1m|5m|15m|1h|1d)(?:[-_.].*)?\.(?:parquet|csv|zip)")
_FOLDER = re.compile(r"(?P<venue>[a-z][a-z0-9]*)-(?:spot|perp)\b")
_KLINES = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trade_count", "buy_volume",
    "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_ALIASES = {
    "ts": "open_time", "timestamp": "open_time", "time": "open_time", "date": "open_time", "datetime": "open_time",
    "pair": "symbol", "count": "trade_count", "trades": "trade_count", "number_of_trades": "trade_count",
    "quote_asset_volume": "quote_volume", "taker_buy_volume": "buy_volume", "taker_buy_base_asset_volume": "buy_volume",
    "bidsize": "bid_size", "asksize": "ask_size", "bid_quantity": "bid_size", "ask_quantity": "ask_size",
}  # fmt: skip
_NEEDED = ("open_time", *BAR_VALUES[:5])
_QUOTES = ("bid", "ask", "bid_size", "ask_size")
_SPREAD, _MICROPRICE = BAR_VALUES.index("spread_bps"), BAR_VALUES.index("microprice_bps")
_TELLING_STEPS = 20  # fewer rows may have nothing but gaps between them
_EPOCH_RANGE_NS = (1_230_768_000_000_000_000, 7_258_118_400_000_000_000)  # 2009 (Bitcoin's first block) to 2200
# Epoch numbers by size: seconds, milliseconds, microseconds, nanoseconds of the years 1973 to 5138.
_EPOCH_NS = ((1e11, 1_000_000_000), (1e14, 1_000_000), (1e17, 1_000))


@dataclass(frozen=True, slots=True)
class Naming:
    """Whose candles a file holds, as far as it is known from outside of it; what is None the file itself must say."""

    venue: str | None = None
    symbol: str | None = None
    timeframe: Timeframe | None = None
    kind: MarketKind = MarketKind.SPOT


@dataclass(frozen=True, slots=True)
class FileCandles:
    """Candles of one series as a file has them, in its order.

    Attributes
    ----------
    open_times, bars : int64 array of shape (n,), float64 array of shape (n, 13)
    partial : int
        Buckets that were left out because rows finer than a minute did not fill them.
    """

    series: CandleSeries
    open_times: TimeArray
    bars: FloatArray
    partial: int = 0


def find_candle_files(paths: list[Path]) -> list[Path]:
    """Return the files named, and those below the folders named whose names are those of candles, in order.

    Raises
    ------
    DataError
        If something named is not there, or a folder has no such file.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.is_file() and _NAME.fullmatch(p.name))
            if not below:
                raise DataError(f"{path} has no file named like BTCUSDT_1m.parquet or BTCUSDT-1m-2025-05.zip")
            found += below
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist")
    return list(dict.fromkeys(found))


def naming_of(path: Path, given: Naming | None = None) -> Naming:
    """Return what name and folders of a file say, or what was `given` wherever that says something."""
    given = given or Naming()
    path = path.resolve()
    name, folder = _NAME.fullmatch(path.name), _FOLDER.match(path.parent.name)
    is_perp = "perp" in path.parent.name.lower() or "futures" in path.parts or given.kind is MarketKind.PERP
    kind = MarketKind.PERP if is_perp else MarketKind.SPOT
    symbol, timeframe = given.symbol, given.timeframe
    if name is not None:
        symbol = symbol or symbol_of(name["pair"], kind)
        timeframe = timeframe or next((each for each in Timeframe if each.value == name["timeframe"]), None)
    return Naming(given.venue or (folder["venue"] if folder else None), symbol, timeframe, kind)


def parse_candles(path: Path, content: bytes, naming: Naming) -> list[FileCandles]:
    """Return the candles of a file, one entry per symbol; values are those of the file, bit by bit.

    Rows finer than a minute are rolled up to minutes. Best bid and ask (columns `bid`, `ask`, `bid_size`, `ask_size`) become
    the bar's spread and microprice; what ten levels are needed for stays unknown.

    Raises
    ------
    DataError
        If the file is not what its name says, lacks a column, or has one of another kind.
    ConfigError
        If neither file nor name nor option says venue or symbol.
    """
    try:
        table = _table(path, content)
    except (pa.ArrowException, OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {_first_line(error)}") from None
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}")
    if table.num_rows == 0:
        raise DataError(f"{path} holds no rows")
    try:
        open_times, bars = _times(table.column("open_time")), _bars(table)
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise DataError(f"{path} has a column of the wrong kind: {_first_line(error)}") from None
    if naming.venue is None:
        raise ConfigError(f"{path}: neither its folder nor --venue says which venue it is from")
    return [_series(path, naming, symbol, open_times[rows], bars[rows]) for symbol, rows in _symbols(path, table, naming)]


def _table(path: Path, content: bytes) -> pa.Table:
    if path.suffix == ".parquet":
        table = pq.read_table(pa.BufferReader(content))
    else:
        table = _csv(_unzipped(path, content) if path.suffix == ".zip" else content)
    names = [re.sub(r"\W+", "_", name.strip().lower()) for name in table.column_names]
    table = table.rename_columns([_ALIASES.get(name, name) for name in names])
    if len(set(table.column_names)) < len(names):
        raise DataError(f"{path} has two columns that mean the same: {', '.join(names)}")
    return table


def _unzipped(path: Path, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [info for info in archive.infolist() if info.filename.lower().endswith(".csv")]
        if len(members) != 1 or members[0].file_size > MAX_BYTES:
            raise DataError(f"{path} holds {len(members)} CSV files, not one of a size that fits")
        return archive.read(members[0])


def _csv(content: bytes) -> pa.Table:
    first = content.split(b"\n", 1)[0].decode("utf-8-sig")
    cells = [cell.strip().strip('"') for cell in first.split(",")]
    has_header = not cells[0].isdigit()
    names = cells if has_header else list(_KLINES[: len(cells)])
    text = {name: pa.string() for name in names}
    read = pc.ReadOptions(column_names=names, skip_rows=1 if has_header else 0)
    # As text first: a price such as "NaN" or "1,000" is then our error with our words, and times are told apart by size.
    return pc.read_csv(
        io.BytesIO(content), read_options=read, convert_options=pc.ConvertOptions(column_types=text, strings_can_be_null=True)
    )


def _times(column: pa.ChunkedArray) -> TimeArray:
    if column.null_count:
        raise ValueError("a time is missing")
    if pa.types.is_string(column.type):
        column = _times_of_text(column)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = getattr(column.type, "tz", None)
        return np.asarray(column.cast(pa.timestamp("ns", tz=zone)).cast(pa.int64()).to_numpy(), dtype=np.int64)
    epochs = np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
    factor = np.ones(len(epochs), dtype=np.int64)
    for limit, factor_ns in reversed(_EPOCH_NS):
        factor[epochs < limit] = factor_ns
    first, last = _EPOCH_RANGE_NS
    is_strange = (epochs < first // factor) | (epochs > last // factor)
    if is_strange.any():  # 20240101 is a date, not a second of 1970
        raise ValueError(f"{epochs[is_strange][0]} is no time in seconds, milliseconds, microseconds or nanoseconds since 1970")
    return epochs * factor


def _times_of_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # Epoch numbers; else ISO 8601, without a zone (UTC) or with one.
    for kind in (pa.int64(), pa.timestamp("ns"), pa.timestamp("ns", tz="UTC")):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid as error:
            reason = error
    raise reason


def _bars(table: pa.Table) -> FloatArray:
    bars = np.full((table.num_rows, len(BAR_VALUES)), np.nan)
    for index, name in enumerate(BAR_VALUES):
        if name in table.column_names:
            bars[:, index] = _numbers(table, name)
    if all(name in table.column_names for name in _QUOTES):
        bid, ask, bid_size, ask_size = (_numbers(table, name) for name in _QUOTES)
        middle = (bid + ask) / 2.0
        with np.errstate(divide="ignore", invalid="ignore"):
            bars[:, _SPREAD] = (ask - bid) / middle * 1e4
            bars[:, _MICROPRICE] = ((bid * ask_size + ask * bid_size) / (bid_size + ask_size) / middle - 1.0) * 1e4
        bars[:, [_SPREAD, _MICROPRICE]] = np.where(
            np.isfinite(bars[:, [_SPREAD, _MICROPRICE]]), bars[:, [_SPREAD, _MICROPRICE]], np.nan
        )
    return bars


def _numbers(table: pa.Table, name: str) -> FloatArray:
    return np.asarray(table.column(name).cast(pa.float64()).to_numpy(), dtype=np.float64)


def _symbols(path: Path, table: pa.Table, naming: Naming) -> list[tuple[str, np.ndarray]]:
    # Symbols with the rows that are theirs. An option or the file's name goes before a column.
    if naming.symbol is not None:
        return [(naming.symbol, np.arange(table.num_rows))]
    if "symbol" not in table.column_names:
        raise ConfigError(f"{path}: neither its name nor a column nor --symbol says which symbol it is")
    symbols = np.array([str(symbol or "").strip() for symbol in table.column("symbol").to_pylist()])
    if not all(symbols):
        raise DataError(f"{path}: a row has no symbol")
    return [(_symbol(name, naming.kind), np.flatnonzero(symbols == name)) for name in np.unique(symbols).tolist()]


def _symbol(name: str, kind: MarketKind) -> str:
    return name if "/" in name else symbol_of(re.sub(r"[-_]", "", name).upper(), kind)


def _series(path: Path, naming: Naming, symbol: str, open_times: TimeArray, bars: FloatArray) -> FileCandles:
    steps = np.diff(np.sort(open_times))
    step_ns = int(np.median(steps[steps > 0])) if steps.any() else 0  # a time that comes twice says nothing about it
    timeframe = naming.timeframe or next((each for each in Timeframe if each.ns == step_ns), None)
    if timeframe is not None and len(steps) >= _TELLING_STEPS and (grid_ns := int(np.gcd.reduce(steps))) > timeframe.ns:
        raise DataError(f"{path}: rows are {grid_ns / 1e9:g} s apart, which is not {timeframe.value}")
    partial = 0
    if timeframe is None and step_ns == 0:
        raise DataError(f"{path}: its rows are of one time, or not in time order: its timeframe cannot be told")
    if 0 < step_ns < Timeframe.M1.ns and timeframe in (None, Timeframe.M1):
        timeframe = Timeframe.M1
        try:
            open_times, bars, partial = roll_up(open_times, bars, step_ns, timeframe)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    elif timeframe is None or 0 < step_ns < timeframe.ns:
        raise DataError(
            f"{path}: rows are {step_ns / 1e9:g} s apart, which is not {timeframe.value if timeframe else 'a known timeframe'}"
        )
    assert naming.venue is not None
    return FileCandles(CandleSeries(naming.venue, symbol, timeframe), open_times, bars, partial)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

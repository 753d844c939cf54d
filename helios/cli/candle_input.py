"""Candle files as commands take them: any form the archive imports, of one symbol or several, as histories without holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.errors import ConfigError, DataError
from helios.features.batch import fill_bars
from helios.market.quality import Flag, check_candles
from helios.store.candle_files import FileCandles, Naming, naming_of, parse_candles
from helios.store.imports import read_bytes

MAX_FILLED_PER_BAR = 50
"""A history with more holes than that has a wrong time in it: filling up to it would not end."""


@dataclass(frozen=True, slots=True)
class History:
    """Consecutive bars of one symbol.

    Attributes
    ----------
    symbol : str
        As the file's name or its column says; the name itself where it is no pair's.
    open_times, bars : int64 array of shape (n_bars,), float64 array of shape (n_bars, 13)
        Without holes: missing bars are flat at the close before, with unknown flow.
    n_filled : int
        How many were missing.
    """

    symbol: str
    timeframe: Timeframe
    open_times: np.ndarray
    bars: FloatArray
    n_filled: int

    @property
    def base(self) -> str:
        """Base currency, the part before the slash."""
        return self.symbol.partition("/")[0]


def read_histories(files: Sequence[Path], timeframe: str | None) -> list[History]:
    """Read candle files; those of one symbol are one history, whatever the order they are named in.

    Parameters
    ----------
    files : sequence of Path
        Parquet, CSV, or a zip of Binance's public data.
    timeframe : str or None
        None: what the file's name says, else the distance of its rows.

    Raises
    ------
    DataError
        If a file is no file of usable candles, or not of that timeframe, or two of them differ in it or overlap.
    ConfigError
        If the timeframe is not known.
    """
    chosen = None if timeframe is None else timeframe_of(timeframe)
    parts: dict[str, list[tuple[Path, FileCandles]]] = {}
    for file in files:
        for part in _parts(file, chosen):
            parts.setdefault(part.series.symbol, []).append((file, part))
    histories = [_history(symbol, found) for symbol, found in parts.items()]
    if len({history.timeframe for history in histories}) > 1:
        named = ", ".join(f"{history.symbol} {history.timeframe.value}" for history in histories)
        raise DataError(f"files of different timeframes: {named}")
    return histories


def read_history(file: Path, timeframe: str | None) -> History:
    """Read a file of one symbol; raises as `read_histories`, and DataError if it has several."""
    histories = read_histories([file], timeframe)
    if len(histories) > 1:
        raise DataError(f"{file} has {len(histories)} symbols; one is wanted here")
    return histories[0]


def timeframe_of(name: str) -> Timeframe:
    """Return the timeframe of that name; raises ConfigError if there is none."""
    try:
        return Timeframe(name)
    except ValueError:
        raise ConfigError(f"unknown timeframe {name!r}: {', '.join(t.value for t in Timeframe)}") from None


def _parts(file: Path, timeframe: Timeframe | None) -> list[FileCandles]:
    content, named = read_bytes(file), naming_of(file)
    naming = Naming("file", named.symbol, timeframe or named.timeframe, named.kind)
    try:
        return parse_candles(file, content, naming)
    except ConfigError:  # no name and no column says whose candles these are, which does not matter here
        return parse_candles(file, content, Naming("file", file.stem, naming.timeframe, naming.kind))


def _history(symbol: str, parts: list[tuple[Path, FileCandles]]) -> History:
    parts = sorted(parts, key=lambda each: int(each[1].open_times[0]) if len(each[1].open_times) else 0)
    file, timeframe = parts[0][0], parts[0][1].series.timeframe
    for path, part in parts:
        _check(path, part)
        if part.series.timeframe is not timeframe:
            raise DataError(f"{path} is of {part.series.timeframe.value}, {file} of {timeframe.value}")
    open_times = np.concatenate([part.open_times for _, part in parts])
    bars = np.concatenate([part.bars for _, part in parts])
    if not (np.diff(open_times) > 0).all():
        raise DataError(f"{', '.join(str(path) for path, _ in parts)}: the files of {symbol} overlap")
    n_wanted = (int(open_times[-1]) - int(open_times[0])) // timeframe.ns + 1
    if n_wanted > MAX_FILLED_PER_BAR * len(open_times) + MAX_FILLED_PER_BAR:
        raise DataError(f"{file}: {len(open_times):,} rows span {n_wanted:,} bars of {timeframe.value}; is one of its times wrong?")
    filled_times, filled = fill_bars(open_times, bars, timeframe)
    return History(symbol, timeframe, filled_times, filled, len(filled_times) - len(open_times))


def _check(path: Path, part: FileCandles) -> None:
    report = check_candles(part.open_times, part.bars, part.series.timeframe)
    if len(part.open_times) == 0 or report.rows_with(Flag.DUPLICATE | Flag.OUT_OF_ORDER).size:
        raise DataError(f"{path} is empty or not in time order")
    wrong = report.rows_with(Flag.NOT_FINITE | Flag.BAD_BAR | Flag.MISALIGNED)
    if wrong.size:
        more = f" and {wrong.size - 1:,} more are" if wrong.size > 1 else " is"
        raise DataError(f"{path}: row {int(wrong[0]) + 1:,}{more} unusable (prices, volume or time); helios data check says why")

"""Daily closes of many symbols from a folder of candle files, one symbol a file (or several files of it)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.market import BAR_VALUES
from helios.errors import DataError
from helios.store.candle_files import SUFFIXES, FileCandles, Naming, naming_of, parse_candles
from helios.venues.replay.contracts import symbol_of

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
TURNOVER_DAYS = 30
_ENDLESS = np.iinfo(np.int64).max
_CLOSE, _VOLUME, _QUOTE = (BAR_VALUES.index(name) for name in ("close", "volume", "quote_volume"))
_PAIR = re.compile(r"([A-Za-z0-9]+)[-_]([A-Za-z0-9]+)")


@dataclass(frozen=True, slots=True)
class DailyCloses:
    """Closes at the end of each UTC day, and what was traded lately.

    Attributes
    ----------
    closes : mapping of str to mapping of int to float
        Per symbol, close by the end of its day (ns UTC).
    turnover : mapping of str to float
        Per symbol, mean quote turnover a day over the last 30 days of the folder; 0 where volume is not known.
    """

    closes: Mapping[str, Mapping[int, float]]
    turnover: Mapping[str, float]


def read_daily_closes(folder: Path, symbols: Collection[str] = (), until_ns: int | None = None) -> DailyCloses:
    """Read the candle files in `folder` (not those in folders below).

    A file's symbol is its name: `BTC-USDT.csv`, `BTC-USDT_1d.csv` and `BTCUSDT_1d.parquet` are BTC/USDT. A day's close is that of
    its last bar, which must end within the day's last hour: a day that was not recorded to its end has none. Prices that are
    no number or not above 0 are left out; of a bar given twice the later row counts.

    Parameters
    ----------
    symbols : collection of str
        Only these are read; empty: all.
    until_ns : int or None
        End of the last day that counts (ns UTC); None: the last there is.

    Raises
    ------
    DataError
        If the folder is not there or has no candle file, a file cannot be read or has no symbol in its name, or a wanted symbol has
        no file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    paths = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in SUFFIXES)
    if not paths:
        raise DataError(f"{folder} has no candle file ({', '.join(SUFFIXES)})")
    closes: dict[str, dict[int, float]] = {}
    traded: dict[str, dict[int, float]] = {}
    for path in paths:
        naming = _naming(path)
        if symbols and naming.symbol not in symbols:
            continue
        series = _read(path, naming)
        days, values = _day_closes(series)
        kept = days <= (until_ns if until_ns is not None else _ENDLESS)
        closes.setdefault(series.series.symbol, {}).update(zip(days[kept].tolist(), values[kept].tolist(), strict=True))
        _add_turnover(traded.setdefault(series.series.symbol, {}), series)
    for symbol in symbols:
        if symbol not in closes:
            raise DataError(f"{folder} has no candle file of {symbol}")
    last = max((day for of_symbol in closes.values() for day in of_symbol), default=0)
    since = last - TURNOVER_DAYS * DAY_NS
    turnover = {s: sum(v for day, v in days.items() if since < day <= last) / TURNOVER_DAYS for s, days in traded.items()}
    return DailyCloses(closes, turnover)


def _naming(path: Path) -> Naming:
    naming = naming_of(path, Naming(venue="files"))
    if naming.symbol is None:
        pair = _PAIR.match(path.stem)
        symbol = f"{pair[1].upper()}/{pair[2].upper()}" if pair else symbol_of(path.stem.upper(), naming.kind)
        naming = replace(naming, symbol=symbol)
    return naming


def _read(path: Path, naming: Naming) -> FileCandles:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return parse_candles(path, content, naming)[0]


def _day_closes(series: FileCandles) -> tuple[np.ndarray, FloatArray]:
    ends = series.open_times + series.series.timeframe.ns
    close = series.bars[:, _CLOSE]
    day = -(-ends // DAY_NS) * DAY_NS
    usable = np.isfinite(close) & (close > 0) & (day - ends < HOUR_NS)
    order = np.argsort(ends[usable], kind="stable")  # of one day the last bar wins, of one bar the later row
    return day[usable][order], close[usable][order]


def _add_turnover(traded: dict[int, float], series: FileCandles) -> None:
    quote = series.bars[:, _QUOTE]
    value = np.where(np.isfinite(quote), quote, series.bars[:, _VOLUME] * series.bars[:, _CLOSE])
    value = np.where(np.isfinite(value) & (value > 0), value, 0.0)
    _, first = np.unique(series.open_times, return_index=True)
    days, index = np.unique(-(-(series.open_times[first] + 1) // DAY_NS) * DAY_NS, return_inverse=True)
    sums = np.bincount(index, weights=value[first])
    for day, total in zip(days.tolist(), sums.tolist(), strict=True):
        traded[day] = traded.get(day, 0.0) + total

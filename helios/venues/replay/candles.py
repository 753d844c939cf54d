"""Replay of recorded minute candles from parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from helios.domain.enums import MarketKind
from helios.errors import ConfigError, DataError
from helios.venues.replay.contracts import infer_tick, recorded_instrument, symbol_of
from helios.venues.replay.minutes import MINUTE_NS, MinuteReplay

SUFFIX = "_1m.parquet"
COLUMNS = ("ts", "open", "high", "low", "close", "volume")
MS_NS = 1_000_000


class CandleReplay(MinuteReplay):
    """One symbol's recorded minutes, a ReplaySource. Minutes that the file lacks are left out.

    Parameters
    ----------
    path : Path
        `<PAIR>_1m.parquet` with ts (open time, ms UTC), open, high, low, close, volume (base units).
    kind : MarketKind
        What was traded; the file does not say.

    Raises
    ------
    DataError
        If the file cannot be read or its rows are not sane candles in order.
    """

    def __init__(self, path: Path, kind: MarketKind) -> None:
        open_times, values = _load(path)
        instrument = recorded_instrument(path.name.removesuffix(SUFFIX), kind, infer_tick(values[:, :4]))
        super().__init__(instrument, open_times, values)


def open_candle_replay(directory: Path, symbols: Sequence[str] | None = None) -> dict[str, CandleReplay]:
    """Open `<PAIR>_1m.parquet` files; a directory with "perp" in its name holds perpetuals, any other spot.

    Raises
    ------
    ConfigError
        If a symbol is asked for that is not there.
    DataError
        If there is no such file or one is corrupt.
    """
    kind = MarketKind.PERP if "perp" in directory.name.lower() else MarketKind.SPOT
    known = {symbol_of(path.name.removesuffix(SUFFIX), kind): path for path in sorted(directory.glob(f"*{SUFFIX}"))}
    if not known:
        raise DataError(f"{directory}: no file is named <PAIR>{SUFFIX}")
    return {symbol: CandleReplay(known[symbol], kind) for symbol in choose(known, symbols)}


def choose(known: Mapping[str, object], wanted: Sequence[str] | None) -> list[str]:
    """Return the wanted symbols, or all; raises ConfigError that names the known ones."""
    missing = sorted(set(wanted or ()) - set(known))
    if missing:
        raise ConfigError(f"replay has no {', '.join(missing)}; it has {', '.join(known)}")
    return list(known if wanted is None else dict.fromkeys(wanted))


def _load(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as parquet: {_first_line(error)}") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: column {', '.join(missing)} missing")
    if table.num_rows == 0:
        raise DataError(f"{path}: holds no rows")
    try:
        values = np.column_stack([table.column(name).cast(pa.float64()).to_numpy() for name in COLUMNS[1:]])
        open_times = _times_ms(table.column("ts")) * MS_NS
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: columns are not numbers: {_first_line(error)}") from error
    _check(path, open_times, values)
    return open_times, np.ascontiguousarray(values)


def _times_ms(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    if column.null_count:
        raise ValueError("ts has nulls")
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", tz=column.type.tz))
    return np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)


def _check(path: Path, open_times: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
    open_, high, low, close, volume = values.T
    finite = np.isfinite(values).all(axis=1)
    bad = {
        "time is not a whole minute": open_times % MINUTE_NS != 0,
        "time does not come after the row before": np.diff(open_times, prepend=np.iinfo(np.int64).min // 2) <= 0,
        "a value is missing or infinite": ~finite,
        "prices are not low <= open, close <= high with low above 0": finite
        & ~((low > 0) & (low <= np.minimum(open_, close)) & (high >= np.maximum(open_, close))),
        "volume is negative": finite & (volume < 0),
    }
    for reason, rows in bad.items():
        if rows.any():
            raise DataError(f"{path}: row {int(np.argmax(rows))}: {reason}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

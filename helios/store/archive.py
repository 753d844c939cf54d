"""Market history on disk: closed candles as Parquet, one file per venue, symbol, timeframe and month.

Layout
------
`ROOT/candles/venue=V/symbol=S/timeframe=1m/month=2025-05/part.parquet`, readable by whatever knows hive partitions::

    pl.scan_parquet(f"{root}/candles/**/*.parquet", hive_partitioning=True)  # while nobody writes; else `CandleArchive.scan`

Venue and symbol are percent-encoded (RFC 3986: every byte but letters, digits and `-._~`), so BTC/USDT:USDT is
`symbol=BTC%2FUSDT%3AUSDT`; polars and pyarrow decode it by themselves. A month is that of the open time in UTC.

Columns: `open_time` (ns UTC, strictly increasing) and the 13 of `BAR_VALUES`, null where unknown. The footer's key
`helios.archive` holds, as JSON, the number of rows, the first and last open time, and every source with the digest of its file:
there is no index beside the files that could disagree with them.

Safety
------
A file is replaced as a whole: written beside, synced, renamed, directory synced. Readers take no lock and see the old month or
the new one. Writers of one series exclude each other by a lock that the kernel drops when its holder dies. Pages carry CRC32
checksums, which reading verifies.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import ConfigError, DataError
from helios.market.merge import MergeCounts, TimeArray, merge_rows

if TYPE_CHECKING:
    import polars as pl

OPEN_TIME = "open_time"
PART = "part.parquet"
META_KEY = b"helios.archive"
FORMAT = 1
ROWS_PER_GROUP = 10_080  # a week of minutes: what a filter on time can skip
# Of real minutes this takes a quarter less room than Parquet's defaults, and a quarter of the time to write.
_PACKING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": False,
    "column_encoding": {OPEN_TIME: "DELTA_BINARY_PACKED", **dict.fromkeys(BAR_VALUES, "BYTE_STREAM_SPLIT")},
}
_SCHEMA = pa.schema([(OPEN_TIME, pa.timestamp("ns", tz="UTC")), *((name, pa.float64()) for name in BAR_VALUES)])


@dataclass(frozen=True, slots=True)
class CandleSeries:
    """Whose candles, and of which length."""

    venue: str
    symbol: str
    timeframe: Timeframe

    def __str__(self) -> str:
        return f"{self.venue} {self.symbol} {self.timeframe.value}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows came from: the name of a file with its SHA-256, or a venue's interface without one."""

    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Month:
    """What a file's footer says. `sources` are newest last."""

    path: Path
    month: str
    rows: int
    first_ns: int
    last_ns: int
    n_bytes: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the archive holds of a series; `expected_rows` follows from its first and last open time."""

    series: CandleSeries
    months: tuple[Month, ...]

    @property
    def rows(self) -> int:
        return sum(month.rows for month in self.months)

    @property
    def n_bytes(self) -> int:
        return sum(month.n_bytes for month in self.months)

    @property
    def first_ns(self) -> int:
        return self.months[0].first_ns

    @property
    def last_ns(self) -> int:
        return self.months[-1].last_ns

    @property
    def expected_rows(self) -> int:
        return (self.last_ns - self.first_ns) // self.series.timeframe.ns + 1


class CandleArchive:
    """Candles under `root`. Any number of processes may read and write.

    Parameters
    ----------
    root : Path
        Made at the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(
        self, series: CandleSeries, open_times: TimeArray, bars: FloatArray, source: Source, *, newer_wins: bool = False
    ) -> MergeCounts:
        """Merge rows into the archive; when this returns they are on disk. Writing the same again changes nothing.

        Parameters
        ----------
        series : CandleSeries
        open_times : int64 array of shape (n,)
            ns UTC, in any order.
        bars : float64 array of shape (n, 13)
            Columns in the order of `BAR_VALUES`, NaN where unknown. Kept as they are, sane or not.
        source : Source
            Kept in every month that the rows touch.
        newer_wins : bool, default=False
            Whether a row that contradicts the archive replaces it; it is counted either way.

        Raises
        ------
        DataError
            If the shapes do not fit, or a month that is there cannot be read: it is then left as it is.
        ConfigError
            If the archive cannot be written.

        Notes
        -----
        Months are committed one by one, oldest first. A process killed in between has committed whole months.
        """
        open_times, bars = np.asarray(open_times, dtype=np.int64), np.asarray(bars, dtype=np.float64)
        if bars.shape != (len(open_times), len(BAR_VALUES)):
            raise DataError(f"{series}: {len(open_times)} open times and values of shape {bars.shape}")
        counts = MergeCounts()
        months = _months(open_times)
        try:
            with self._locked(series):
                for month in months_of(open_times):
                    rows = months == np.datetime64(month)
                    counts += self._write_month(series, month, open_times[rows], bars[rows], source, newer_wins)
        except OSError as error:
            raise ConfigError(f"cannot write the archive {self.root}: {error.strerror or error}") from None
        return counts

    def bars(
        self, series: CandleSeries, start_ns: int | None = None, end_ns: int | None = None, *, may_be_absent: bool = False
    ) -> tuple[TimeArray, FloatArray]:
        """Return open times (n,), ns UTC, strictly increasing, and bars (n, 13) in the order of BAR_VALUES.

        Parameters
        ----------
        series : CandleSeries
        start_ns, end_ns : int, optional
            Rows with start_ns <= open time < end_ns; without them, all.
        may_be_absent : bool, default=False
            Whether no rows are the answer where the archive has nothing of the series.

        Raises
        ------
        DataError
            If the archive has nothing of the series, or a file is corrupt: the message names it.
        """
        files = [] if may_be_absent and not self.has(series) else self._files(series, start_ns, end_ns)
        parts = [_read(path) for path in files]
        open_times = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, dtype=np.int64)
        values = np.concatenate([part[1] for part in parts]) if parts else np.empty((0, len(BAR_VALUES)))
        low = 0 if start_ns is None else int(np.searchsorted(open_times, start_ns))
        high = len(open_times) if end_ns is None else int(np.searchsorted(open_times, end_ns))
        return open_times[low:high], values[low:high]

    def latest(self, series: CandleSeries, n_rows: int) -> tuple[TimeArray, FloatArray]:
        """Return the last `n_rows` (or all) bars, newest first, reading no more months than they need; raises as `bars`."""
        parts: list[tuple[TimeArray, FloatArray]] = []
        for path in reversed(self._files(series)):
            if sum(len(part[0]) for part in parts) >= n_rows:
                break
            open_times, values = _read(path)
            parts.append((open_times[::-1], values[::-1]))
        return np.concatenate([p[0] for p in parts])[:n_rows], np.concatenate([p[1] for p in parts])[:n_rows]

    def scan(self, series: CandleSeries, start_ns: int | None = None, end_ns: int | None = None) -> pl.LazyFrame:
        """Return the rows lazily, with the columns venue, symbol and timeframe besides those of the files.

        Months out of range are not opened, groups of rows out of range not read, columns not asked for not either.

        Raises
        ------
        DataError
            If the archive has nothing of the series, or the footer of a file is corrupt.

        Notes
        -----
        The frame holds its files open: it shows them as they are now, whatever is written before it is collected. (A scan of
        paths would open each of them twice, and fail if it was replaced in between.) polars does not verify page checksums;
        `bars` does.
        """
        import polars as pl  # here: importing it takes a tenth of a second, which the commands that need it not should not pay

        files = self._files(series, start_ns, end_ns) or self._files(series)[:1]
        with ExitStack() as opened:
            handles: list[IO[bytes]] = [opened.enter_context(_footer(path).path.open("rb")) for path in files]
            frame = pl.scan_parquet(handles)  # duplicates the descriptors, so that they live as long as the frame
        # Comparing with a literal of the column's own type keeps the filter pushed down to the row groups.
        if start_ns is not None:
            frame = frame.filter(pl.col(OPEN_TIME) >= pl.lit(start_ns).cast(pl.Datetime("ns", "UTC")))
        if end_ns is not None:
            frame = frame.filter(pl.col(OPEN_TIME) < pl.lit(end_ns).cast(pl.Datetime("ns", "UTC")))
        names = {"venue": series.venue, "symbol": series.symbol, "timeframe": series.timeframe.value}
        return frame.with_columns(**{key: pl.lit(name) for key, name in names.items()})

    def has(self, series: CandleSeries) -> bool:
        """Whether there is any month of the series."""
        return any(self._directory(series).glob(f"month=*/{PART}"))

    def series(self) -> list[CandleSeries]:
        """Return everything the archive has, in order of venue, symbol and length."""
        found = {path.parent.parent for path in (self.root / "candles").glob(f"venue=*/symbol=*/timeframe=*/month=*/{PART}")}
        known = {timeframe.value: timeframe for timeframe in Timeframe}
        series = [
            CandleSeries(_value(path.parent.parent), _value(path.parent), known[_value(path)])
            for path in found
            if _value(path) in known
        ]
        return sorted(series, key=lambda each: (each.venue, each.symbol, each.timeframe.seconds))

    def coverage(self) -> list[Coverage]:
        """Return what there is of each series, from the footers alone; raises DataError for a corrupt one."""
        return [Coverage(each, tuple(self.months(each))) for each in self.series()]

    def months(self, series: CandleSeries) -> list[Month]:
        """Return the months of a series, oldest first; raises DataError if there are none or a footer is corrupt."""
        return [_footer(path) for path in self._files(series)]

    def has_source(self, series: CandleSeries, months: Iterable[str], digest: str) -> bool:
        """Whether each of `months` (2025-05) has rows of the file with this digest; raises DataError for a corrupt footer."""
        paths = [self._directory(series) / f"month={month}" / PART for month in months]
        return all(path.is_file() and any(source.digest == digest for source in _footer(path).sources) for path in paths)

    def _directory(self, series: CandleSeries) -> Path:
        names = {"venue": series.venue, "symbol": series.symbol, "timeframe": series.timeframe.value}
        if not all(names.values()):
            raise ConfigError("a series of the archive needs a venue and a symbol")
        return self.root.joinpath("candles", *(f"{key}={quote(name, safe='')}" for key, name in names.items()))

    def _files(self, series: CandleSeries, start_ns: int | None = None, end_ns: int | None = None) -> list[Path]:
        paths = sorted(self._directory(series).glob(f"month=*/{PART}"))
        if not paths:
            raise DataError(f"the archive {self.root} has no {series}")
        first = "" if start_ns is None else _month_of(start_ns)
        last = "9999-99" if end_ns is None else _month_of(end_ns - 1)
        return [path for path in paths if first <= _value(path.parent) <= last]

    @contextmanager
    def _locked(self, series: CandleSeries) -> Iterator[None]:
        directory = self._directory(series)
        if not directory.exists():
            directory.mkdir(parents=True, exist_ok=True)
            for above in list(directory.parents)[:4]:  # symbol, venue, candles, root: each has a new name in it
                _sync(above)
        with (directory / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _write_month(
        self, series: CandleSeries, month: str, open_times: TimeArray, bars: FloatArray, source: Source, newer_wins: bool
    ) -> MergeCounts:
        path = self._directory(series) / f"month={month}" / PART
        sources: tuple[Source, ...] = ()
        old_times, old = np.empty(0, dtype=np.int64), np.empty((0, len(BAR_VALUES)))
        if path.exists():
            sources = _footer(path).sources
            old_times, old = _read(path)
        times, values, counts = merge_rows(old_times, old, open_times, bars, newer_wins=newer_wins)
        if counts.changed or source not in sources:
            kept = (*(each for each in sources if each != source), source)
            _replace(path, _table(times, values, kept))
        return counts


def _table(open_times: TimeArray, values: FloatArray, sources: tuple[Source, ...]) -> pa.Table:
    columns = [pa.array(open_times).cast(_SCHEMA.field(OPEN_TIME).type)]
    for column in values.T:
        is_known = not np.isnan(column).all()
        columns.append(pa.array(column, from_pandas=True) if is_known else pa.nulls(len(column), pa.float64()))
    meta = {
        "format": FORMAT,
        "rows": len(open_times),
        "first_ns": int(open_times[0]),
        "last_ns": int(open_times[-1]),
        "sources": [asdict(source) for source in sources],
    }
    return pa.Table.from_arrays(columns, schema=_SCHEMA.with_metadata({META_KEY: json.dumps(meta).encode()}))


def _replace(path: Path, table: pa.Table) -> None:
    is_new_month = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")  # one name will do: the lock is held, and a killed writer's rest is overwritten
    with temporary.open("wb") as handle:
        pq.write_table(table, handle, row_group_size=ROWS_PER_GROUP, write_page_checksum=True, **_PACKING)
        handle.flush()
        os.fsync(handle.fileno())  # else a power cut could leave the new name with nothing in it
    temporary.replace(path)
    _sync(path.parent)
    if is_new_month:
        _sync(path.parent.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> tuple[TimeArray, FloatArray]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        open_times = np.asarray(table.column(OPEN_TIME).cast(pa.int64()).to_numpy(), dtype=np.int64)
        values = np.column_stack([table.column(name).to_numpy() for name in BAR_VALUES])
    except (OSError, pa.ArrowException, KeyError) as error:
        raise _corrupt(path, error) from None
    if len(open_times) == 0 or not (np.diff(open_times) > 0).all():
        raise _corrupt(path, "open times are not in order")
    return open_times, values


def _footer(path: Path) -> Month:
    try:
        with pq.ParquetFile(path) as file:
            meta: dict[str, Any] = json.loads(file.schema_arrow.metadata[META_KEY])
            n_rows = file.metadata.num_rows
        sources = tuple(Source(**source) for source in meta["sources"])
        month = Month(path, _value(path.parent), n_rows, meta["first_ns"], meta["last_ns"], path.stat().st_size, sources)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise _corrupt(path, error) from None
    if meta["format"] != FORMAT or n_rows != meta["rows"]:
        raise _corrupt(path, "its footer does not fit its rows")
    return month


def _corrupt(path: Path, reason: object) -> DataError:
    first_line = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return DataError(f"the archive file {path} is corrupt ({first_line}); move it away, then import or download that month again")


def _value(path: Path) -> str:
    return unquote(path.name.partition("=")[2])


def months_of(open_times: TimeArray) -> list[str]:
    """Return the months (2025-05) of open times (ns UTC), each once, in order."""
    months = _months(open_times)
    return sorted({str(month) for month in months[np.flatnonzero(np.diff(months, prepend=months[:1] - 1))]})


def _months(open_times: TimeArray) -> Any:
    return open_times.astype("datetime64[ns]").astype("datetime64[M]")


def _month_of(time_ns: int) -> str:
    return str(_months(np.array([time_ns], dtype=np.int64))[0])

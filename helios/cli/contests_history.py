"""The work `history` of `helios bench`: files of minutes imported, checked and turned into features."""

from __future__ import annotations

import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from weakref import finalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helios.cli.contest import Contest, Sizes
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.errors import DataError
from helios.features.batch import features_of, resample
from helios.market.quality import Verdict, check_candles
from helios.store.archive import CandleArchive
from helios.store.candle_files import Naming
from helios.store.imports import import_file

N_PROCESSES = 2
SEED = 7
_START_NS = 20_000 * Timeframe.D1.ns
_NAMING = Naming("bench")


def history(sizes: Sizes) -> list[Contest]:
    """Ninety days of minutes of eight symbols: what a desk needs before it can be trained or started."""
    return [history_of(sizes.history_symbols, sizes.history_days)]


def history_of(n_symbols: int, n_days: int) -> Contest:
    """Return the work for so many symbols and days. Making the files is not timed; starting the processes is.

    Each run imports into an archive of its own. Files and archives are deleted when the work is no longer needed.
    """
    directory = Path(tempfile.mkdtemp(prefix="helios-history-"))
    files = [_make_file(directory, number, n_days) for number in range(n_symbols)]
    runs = iter(range(sys.maxsize))

    def ours() -> None:
        archive = directory / f"archive-{next(runs)}"
        # A pool of its own each time, so that nothing is warm; spawned, so that no thread of this process is forked.
        with ProcessPoolExecutor(N_PROCESSES, mp_context=get_context("spawn")) as pool:
            rows = list(pool.map(partial(import_check_features, archive), files))
        shutil.rmtree(archive)
        if rows != [n_days * 1_440] * n_symbols:
            raise DataError(f"the benchmark's history came out with {rows} rows")

    finalize(ours, shutil.rmtree, directory, True)
    name = f"{n_symbols} symbols, {n_days} days of minutes: import, check, features"
    note = f"{N_PROCESSES} processes, their start included; features of {', '.join(t.value for t in FEATURE_TIMEFRAMES)}"
    return Contest(name, "s", 1, ours, note=note)


def import_check_features(archive_root: Path, file: Path) -> int:
    """Import one file, read it back, check it, compute the features of all timeframes; return the number of minutes.

    Raises
    ------
    DataError
        If anything about the history is not as it should be.
    """
    archive = CandleArchive(archive_root)
    (imported,) = import_file(archive, file, _NAMING)
    open_times, bars = archive.bars(imported.series)
    report = check_candles(open_times, bars, Timeframe.M1)
    if report.verdict is not Verdict.OK or imported.counts is None or imported.counts.new != report.expected_rows:
        raise DataError(f"{file}: {imported.counts}, {report}")
    for timeframe in FEATURE_TIMEFRAMES:
        higher, _ = resample(bars, open_times, timeframe)
        if not np.isfinite(features_of(higher)[-1, 3]):
            raise DataError(f"{file}: the features of {timeframe.value} are unknown at the end")
    return len(open_times)


def _make_file(directory: Path, number: int, n_days: int) -> Path:
    rng = np.random.default_rng([SEED, number])
    n = n_days * 1_440
    close = np.round(10_000.0 * np.exp(np.cumsum(rng.standard_normal(n) * 5e-4)), 2)
    open_ = np.concatenate(([10_000.0], close[:-1]))
    reach = np.round(rng.exponential(3.0, (2, n)), 2)
    columns = {
        "ts": pa.array((_START_NS + Timeframe.M1.ns * np.arange(n)) // 1_000_000, pa.timestamp("ms", tz="UTC")),
        "open": open_,
        "high": np.maximum(open_, close) + reach[0],
        "low": np.minimum(open_, close) - reach[1],
        "close": close,
        "volume": np.round(rng.gamma(2.0, 3.0, n) + 0.001, 5),
    }
    path = directory / f"S{number}USDT_1m.parquet"
    pq.write_table(pa.table(columns), path)
    return path

"""Every recorded candle comes back from the archive bit by bit, as polars reads the files themselves."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helios.domain.market import BAR_VALUES
from helios.market.quality import Verdict
from helios.store.archive import CandleArchive, CandleSeries
from helios.store.candle_files import find_candle_files
from helios.store.imports import import_file

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(not RECORDED.is_dir(), reason=f"recorded candles not found under {RECORDED}"),
]


def bits(frame: pl.DataFrame) -> list[np.ndarray]:
    return [frame[name].to_numpy().view(np.int64) for name in BAR_VALUES[:5]]


def test_all_recorded_candles_are_imported_exactly(tmp_path: Path) -> None:
    archive = CandleArchive(tmp_path)
    files: dict[CandleSeries, list[Path]] = defaultdict(list)
    for path in find_candle_files([RECORDED]):
        (imported,) = import_file(archive, path)
        assert imported.counts is not None
        assert imported.counts.new == imported.rows, path  # no two recordings overlap
        assert imported.report is not None
        assert imported.report.verdict < Verdict.BAD, path
        files[imported.series].append(path)
    assert sum(len(paths) for paths in files.values()) > 30
    assert archive.series() == sorted(files, key=lambda s: (s.venue, s.symbol, s.timeframe.seconds))
    for series, paths in files.items():
        source = pl.concat([pl.read_parquet(path) for path in paths]).sort("ts")
        there = archive.scan(series).collect()
        assert there["open_time"].dt.timestamp("ms").to_list() == source["ts"].dt.timestamp("ms").to_list(), series
        assert all(np.array_equal(a, b) for a, b in zip(bits(there), bits(source), strict=True)), series
        assert np.array_equal(archive.bars(series)[1][:, :5], source.select(BAR_VALUES[:5]).to_numpy()), series
        assert there.select(pl.col(BAR_VALUES[5:]).null_count()).row(0) == (len(source),) * 8  # unknown, not zero

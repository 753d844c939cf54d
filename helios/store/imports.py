"""Files into the archive, each once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from helios.domain.enums import Timeframe
from helios.errors import ConfigError, DataError
from helios.market.merge import MergeCounts
from helios.market.quality import QualityReport, check_candles
from helios.store.archive import CandleArchive, CandleSeries, Source, months_of
from helios.store.candle_files import MAX_BYTES, Naming, naming_of, parse_candles


@dataclass(frozen=True, slots=True)
class ImportedSeries:
    """What one file brought to one series.

    Attributes
    ----------
    rows : int
        Rows of the file (minutes, if it was finer).
    counts : MergeCounts or None
        What became of them; None if the file had been imported before.
    report : QualityReport or None
        What is wrong with the rows as the file has them; None as above.
    partial : int
        Minutes left out because the finer rows did not fill them.
    """

    series: CandleSeries
    rows: int
    counts: MergeCounts | None = None
    report: QualityReport | None = None
    partial: int = 0


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; raises DataError if it cannot be read or would not fit."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 30} GiB: split it")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def import_file(
    archive: CandleArchive, path: Path, given: Naming | None = None, now_ns: int | None = None, *, newer_wins: bool = False
) -> list[ImportedSeries]:
    """Import a file exactly, or skip it if the archive already has it.

    Parameters
    ----------
    archive : CandleArchive
    path : Path
        See `helios.store.candle_files`.
    given : Naming, optional
        Goes before what the file's name says.
    now_ns : int, optional
        Rows that close later are flagged.
    newer_wins : bool, default=False
        Whether the file is right where it contradicts the archive.

    Returns
    -------
    imported : list of ImportedSeries
        One per symbol. Rows that contradict the archive are counted as conflicting, taken or not.

    Raises
    ------
    DataError, ConfigError
        If the file cannot be read, does not say whose candles it has, or the archive cannot be written.

    Notes
    -----
    That a file was imported is written down when its last month is on disk, and believed only while every month of it still
    names the file as a source: an import that was killed, or a month that was deleted, is imported again.
    """
    content, naming = read_bytes(path), naming_of(path, given)
    digest = hashlib.sha256(content).hexdigest()
    marker = archive.root / "imports" / f"{hashlib.sha256(f'{digest} {naming} {newer_wins}'.encode()).hexdigest()[:32]}.json"
    known = _remembered(archive, marker, digest)
    if known is not None:
        return known
    imported = []
    months: list[list[str]] = []
    for part in parse_candles(path, content, naming):
        report = check_candles(part.open_times, part.bars, part.series.timeframe, now_ns=now_ns)
        counts = archive.write(part.series, part.open_times, part.bars, Source(path.name, digest), newer_wins=newer_wins)
        months.append(months_of(part.open_times))
        imported.append(ImportedSeries(part.series, len(part.open_times), counts, report, part.partial))
    _remember(marker, path, imported, months)
    return imported


def _remember(marker: Path, path: Path, imported: list[ImportedSeries], months: list[list[str]]) -> None:
    series = [
        {"venue": each.series.venue, "symbol": each.series.symbol, "timeframe": each.series.timeframe.value,
         "rows": each.rows, "months": names}
        for each, names in zip(imported, months, strict=True)
    ]  # fmt: skip
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        temporary = marker.with_suffix(f".{os.getpid()}.new")
        temporary.write_text(json.dumps({"file": path.name, "series": series}))
        temporary.replace(marker)
    except OSError as error:
        raise ConfigError(f"cannot write {marker}: {error.strerror}") from None


def _remembered(archive: CandleArchive, marker: Path, digest: str) -> list[ImportedSeries] | None:
    try:
        entries = json.loads(marker.read_text())["series"]
        series = [CandleSeries(e["venue"], e["symbol"], Timeframe(e["timeframe"])) for e in entries]
        whole = all(archive.has_source(s, e["months"], digest) for s, e in zip(series, entries, strict=True))
        return [ImportedSeries(s, e["rows"]) for s, e in zip(series, entries, strict=True)] if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no marker, or one that a power cut left empty: import again, which changes nothing

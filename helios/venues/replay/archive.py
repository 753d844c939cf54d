"""Replay of minutes from the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from helios.domain.enums import MarketKind, Timeframe
from helios.domain.market import Instrument
from helios.errors import DataError
from helios.market.quality import Flag, check_candles
from helios.store.archive import CandleArchive, CandleSeries
from helios.venues.replay.candles import choose
from helios.venues.replay.contracts import infer_tick, recorded_instrument
from helios.venues.replay.minutes import MinuteReplay

UNUSABLE = Flag.NOT_FINITE | Flag.BAD_BAR | Flag.MISALIGNED


class ArchiveReplay(MinuteReplay):
    """One symbol's minutes from the archive, a ReplaySource. Minutes that the archive lacks are left out.

    Parameters
    ----------
    archive : CandleArchive
    series : CandleSeries
        Of minutes.
    start_ns, end_ns : int, optional
        Rows with start_ns <= open time < end_ns; without them, all.

    Raises
    ------
    DataError
        If there are none, a file is corrupt, or a row says something impossible: `helios data check --repair` finds and fetches it.
    """

    def __init__(self, archive: CandleArchive, series: CandleSeries, start_ns: int | None = None, end_ns: int | None = None) -> None:
        if series.timeframe is not Timeframe.M1:
            raise DataError(f"{series}: a replay needs minutes")
        open_times, values = archive.bars(series, start_ns, end_ns)
        if len(open_times) == 0:
            raise DataError(f"the archive {archive.root} has no {series} in that range")
        unusable = check_candles(open_times, values, series.timeframe).rows_with(UNUSABLE)
        if len(unusable):
            first = open_times[unusable[0]].astype("datetime64[ns]").astype("datetime64[s]")
            raise DataError(f"{series}: {len(unusable)} impossible bars, the first at {first}; see: helios data check --repair")
        super().__init__(_instrument(series.symbol, values), open_times, values)


def open_archive_replay(directory: Path, symbols: Sequence[str] | None = None) -> dict[str, ArchiveReplay]:
    """Open the minutes of an archive, all symbols where none are asked for.

    Raises
    ------
    ConfigError
        If a symbol is asked for that is not there.
    DataError
        If it holds no minutes, or those of one symbol from two venues: which were meant?
    """
    archive = CandleArchive(directory)
    known: dict[str, CandleSeries] = {}
    for series in archive.series():
        if series.timeframe is not Timeframe.M1:
            continue
        other = known.setdefault(series.symbol, series)
        if other.venue != series.venue:
            raise DataError(
                f"{directory} has minutes of {series.symbol} from {other.venue} and from {series.venue}; replay needs one"
            )
    if not known:
        raise DataError(f"the archive {directory} has no minutes to replay")
    return {symbol: ArchiveReplay(archive, known[symbol]) for symbol in choose(known, symbols)}


def _instrument(symbol: str, values: np.ndarray) -> Instrument:
    # The archive holds no contract either: as for recorded files.
    kind = MarketKind.PERP if ":" in symbol else MarketKind.SPOT
    base, slash, quote = symbol.partition(":")[0].partition("/")
    if not (base and slash and quote):
        raise DataError(f"{symbol} is no symbol such as BTC/USDT or BTC/USDT:USDT")
    usual = recorded_instrument("BTCUSDT", kind, infer_tick(values[:, :4]))
    return replace(usual, symbol=symbol, base=base, quote=quote, venue_symbol=base + quote)

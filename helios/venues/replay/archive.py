"""Replay of minutes from the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from helios.domain.enums import MarketKind, Timeframe
from helios.domain.market import Bar, Instrument
from helios.errors import DataError
from helios.market.quality import Flag, check_candles
from helios.store.archive import CandleArchive, CandleSeries
from helios.venues.replay.contracts import infer_tick, recorded_instrument

MINUTE_NS = Timeframe.M1.ns
UNUSABLE = Flag.NOT_FINITE | Flag.BAD_BAR | Flag.MISALIGNED


class ArchiveReplay:
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
        self._open_times, self._values = archive.bars(series, start_ns, end_ns)
        if len(self._open_times) == 0:
            raise DataError(f"the archive {archive.root} has no {series} in that range")
        unusable = check_candles(self._open_times, self._values, series.timeframe).rows_with(UNUSABLE)
        if len(unusable):
            first = self._open_times[unusable[0]].astype("datetime64[ns]").astype("datetime64[s]")
            raise DataError(f"{series}: {len(unusable)} impossible bars, the first at {first}; see: helios data check --repair")
        self._instrument = _instrument(series.symbol, self._values)
        self._cursor = 0

    @property
    def instrument(self) -> Instrument:
        return self._instrument

    @property
    def start_ns(self) -> int:
        """Open time of the first minute."""
        return int(self._open_times[0])

    @property
    def end_ns(self) -> int:
        """Close time of the last minute."""
        return int(self._open_times[-1]) + MINUTE_NS

    def read_until(self, until_ns: int) -> Sequence[Bar]:
        """Return the bars that have closed by `until_ns` and were not returned before."""
        first = self._cursor
        last = max(first, int(np.searchsorted(self._open_times, until_ns - MINUTE_NS, side="right")))
        self._cursor = last
        rows = zip(self._open_times[first:last].tolist(), self._values[first:last].tolist())
        return [Bar(self._instrument.symbol, Timeframe.M1, open_time, *row) for open_time, row in rows]


def _instrument(symbol: str, values: np.ndarray) -> Instrument:
    # The archive holds no contract either: as for recorded files.
    kind = MarketKind.PERP if ":" in symbol else MarketKind.SPOT
    base, slash, quote = symbol.partition(":")[0].partition("/")
    if not (base and slash and quote):
        raise DataError(f"{symbol} is no symbol such as BTC/USDT or BTC/USDT:USDT")
    usual = recorded_instrument("BTCUSDT", kind, infer_tick(values[:, :4]))
    return replace(usual, symbol=symbol, base=base, quote=quote, venue_symbol=base + quote)

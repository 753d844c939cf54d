"""History for training: recorded candle files, or the venue's own candles."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from helios.cli.desk_budget import desk_budget
from helios.cli.rundir import RunDir
from helios.config import HeliosConfig
from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, VenueCandle
from helios.errors import ConfigError, DataError
from helios.features.batch import fill_minutes
from helios.venues.factory import make_venue
from helios.venues.replay.candles import open_candle_replay

History = dict[str, tuple[np.ndarray, FloatArray]]
"""Open times (ns UTC) and 1m bars of shape (n, 13) in BAR_VALUES order, per symbol."""


def training_history(source: str, data: Path | None, days: float, config: HeliosConfig) -> History | None:
    """Return the bars of the sources that are not synthetic; None for the sandbox, which makes its own.

    Raises
    ------
    ConfigError, DataError
        If `--data` is missing or cannot be read.
    """
    if source == "archive":
        if data is None:
            raise ConfigError("--source archive needs --data DIRECTORY")
        return archive_history(data)
    if source == "venue":
        return asyncio.run(venue_history(config, int(days * 1440)))
    return None


def archive_history(directory: Path) -> History:
    """Return every `<SYMBOL>_1m.parquet` of a directory, missing minutes filled flat."""
    history: History = {}
    for symbol, source in open_candle_replay(directory).items():
        bars = source.read_until(source.end_ns)
        opens = np.array([b.open_time for b in bars], dtype=np.int64)
        values = np.array([[getattr(b, name) for name in BAR_VALUES] for b in bars])
        history[symbol] = fill_minutes(opens, values)
    if not history:
        raise DataError(f"no candle files in {directory}")
    return history


async def venue_history(config: HeliosConfig, minutes: int) -> History:
    """Fetch the last `minutes` closed minutes of every configured symbol."""
    async with desk_budget(config.venue, RunDir(Path(config.store.state_dir))) as budget:
        venue = make_venue(config.venue, budget)
        try:
            offered = [i.symbol for i in await venue.instruments()]
            wanted = [s for s in config.desk.symbols or offered[:6] if s in offered]
            end = (await venue.clock()).now_ns() // Timeframe.M1.ns * Timeframe.M1.ns
            start = end - minutes * Timeframe.M1.ns
            return {s: as_bars(await venue.candles(s, Timeframe.M1, start, end)) for s in wanted}
        finally:
            await venue.aclose()


def as_bars(candles: list[VenueCandle]) -> tuple[np.ndarray, FloatArray]:
    """Return open times and bars; what a venue does not report is NaN."""
    values = np.full((len(candles), len(BAR_VALUES)), np.nan)
    for row, candle in enumerate(candles):
        values[row, :6] = (candle.open, candle.high, candle.low, candle.close, candle.volume_base, candle.volume_quote)
    return np.array([c.open_time for c in candles], dtype=np.int64), values

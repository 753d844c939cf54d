"""An exchange on recorded files, whatever kind they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helios.errors import ConfigError, DataError
from helios.venues.sandbox.captured import capture_exchange
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.recorded import candle_exchange


def recorded_exchange(directory: Path, symbols: Sequence[str] | None, seed: int, start_ns: int | None) -> Exchange:
    """Return an exchange on the minute candles or the raw captures in `directory`.

    Parameters
    ----------
    directory : Path
    symbols : sequence of str, optional
        As BASE/QUOTE; all by default.
    seed : int
        Of the trades made up for candles.
    start_ns : int, optional
        First minute to trade of candles; captures start where they do.

    Raises
    ------
    ConfigError
        If the directory or a symbol is not there.
    DataError
        If it holds neither kind, or a file is broken.
    """
    if not directory.is_dir():
        raise ConfigError(f"recorded: {directory} is not a directory")
    if any(directory.glob("*_1m.parquet")):
        return candle_exchange(directory, symbols, seed, start_ns)
    if any(directory.glob("*.raw.gz")) or any((directory / "usdm").glob("*.raw.gz")):
        return capture_exchange(directory, symbols)
    raise DataError(f"{directory}: neither minute candles (<PAIR>_1m.parquet) nor raw captures (<PAIR>_<date>.raw.gz)")

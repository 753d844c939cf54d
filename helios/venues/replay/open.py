"""Open recorded data by what lies in the directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helios.errors import ConfigError
from helios.venues.base import ReplaySource
from helios.venues.replay.session import detect_replay


def open_replay(path: str, symbols: Sequence[str] | None = None) -> dict[str, ReplaySource]:
    """Return one source per symbol, all of them where `symbols` is None.

    Raises
    ------
    DataError
        If nothing readable lies there.
    ConfigError
        If a symbol asked for is not there.
    """
    sources = detect_replay(Path(path))
    if symbols is None:
        return sources
    unknown = [s for s in symbols if s not in sources]
    if unknown:
        raise ConfigError(f"unknown symbol {unknown[0]}: recorded are {', '.join(sorted(sources))}")
    return {s: sources[s] for s in symbols}

from __future__ import annotations
from pathlib import Path
from collections.abc import Sequence
from helios.venues.sandbox.exchange import Exchange


def recorded_exchange(directory: Path, symbols: Sequence[str], seed: int, start_ns: int | None) -> Exchange:
    raise NotImplementedError

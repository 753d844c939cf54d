"""What a benchmark is: sizes, works, and where to find them. Light: every command imports this, the works themselves only `bench`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each work is done; the defaults are what published figures refer to.

    Attributes
    ----------
    stream_candles, batch_candles : int
    returns : int
        Five-minute returns of a volatility fit.
    filter_bars : int
        Bars that a fitted volatility model is moved forward.
    assets : tuple of int
        Sizes of the portfolio problems.
    diffs, frames : int
        Order book updates; socket frames.
    history_symbols, history_days : int
        Minutes that are imported, checked and turned into features.
    windows : tuple of int
        Windows of one inference: one symbol, and a universe.
    """

    stream_candles: int = 5_000
    batch_candles: int = 500_000
    returns: int = 8_640
    filter_bars: int = 2_000
    assets: tuple[int, ...] = (10, 50, 200, 500)
    diffs: int = 20_000
    frames: int = 20_000
    history_symbols: int = 8
    history_days: int = 90
    windows: tuple[int, ...] = (1, 200)


@dataclass(frozen=True, slots=True)
class Contest:
    """One work, done by Helios and, where there is one, by a peer.

    Attributes
    ----------
    unit : str
        `s`, `ms` or `us` for the time of one item, `per s` for items a second.
    n_items : int
        Items in one run of `ours` and of `theirs`.
    peer : str
        Name of the other library; empty if the work has no counterpart.
    theirs : callable or None
        None where the peer is not installed or there is none.
    note : str
        In what the two differ.
    """

    work: str
    unit: str
    n_items: int
    ours: Work
    peer: str = ""
    theirs: Work | None = None
    note: str = ""


Prepare = Callable[[Sizes], list[Contest]]


def _later(module: str, name: str) -> Prepare:
    def prepare(sizes: Sizes) -> list[Contest]:
        contests: list[Contest] = getattr(importlib.import_module(f"helios.cli.{module}"), name)(sizes)
        return contests

    return prepare


BENCHMARKS: dict[str, Prepare] = {
    **{name: _later("contests", name) for name in ("features_stream", "features_batch", "book", "decode")},
    "allocate": _later("contests_allocate", "allocate"),
    "garch": _later("contests_garch", "garch"),
    "feed": _later("contests_feed", "feed"),
    "history": _later("contests_history", "history"),
    "storage": _later("contests_storage", "storage"),
    "risk": _later("contests_limits", "risk"),
    "inference": _later("contests_inference", "inference"),
}
"""Works that are timed turn by turn with their peers, by name; imported when they are prepared."""

"""Synthetic bars for training and tests."""

from __future__ import annotations

from collections.abc import Sequence

from helios.venues.sandbox.macro import MINUTE_NS, FloatArray, IntArray, MacroMarket
from helios.venues.sandbox.specs import MarketConfig

DEFAULT_END_NS = 1_767_225_600 * 1_000_000_000
"""2026-01-01T00:00:00Z: a fixed end, so that equal arguments give equal arrays."""


def synthetic_history(
    symbols: Sequence[str], n_minutes: int, seed: int, flow_strength: float = 1.0, end_ns: int | None = None
) -> dict[str, tuple[IntArray, FloatArray]]:
    """Return minute bars per symbol of the market that the sandbox exchange goes on from.

    Parameters
    ----------
    symbols : sequence of str
        Any BASE/QUOTE, see `helios.venues.sandbox.specs.spec_of`.
    n_minutes : int
        Rows per symbol.
    seed : int
        Equal arguments give equal numbers.
    flow_strength : float, default=1.0
        Strength of the predictable part; 0 makes returns unpredictable.
    end_ns : int, optional
        Close time of the last bar, ns UTC; 2026-01-01 by default.

    Returns
    -------
    bars : dict of str to (open_times, values)
        `open_times` int64 (n,), ns UTC; `values` float64 (n, 13) in BAR_VALUES order, all finite.

    Raises
    ------
    ConfigError
        If a symbol is not BASE/QUOTE.
    """
    config = MarketConfig(symbols=tuple(symbols), flow_strength=flow_strength)
    end = DEFAULT_END_NS if end_ns is None else end_ns // MINUTE_NS * MINUTE_NS
    history = MacroMarket(config, seed).history(n_minutes, end)
    return {symbol: (history.open_times, bars) for symbol, bars in history.bars.items()}

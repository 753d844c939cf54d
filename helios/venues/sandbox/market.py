"""The synthetic market: a minute generator for histories and a second generator that goes on from them."""

from __future__ import annotations

from helios.venues.sandbox.macro import MacroMarket, MacroState, SyntheticHistory
from helios.venues.sandbox.specs import SPECS, MarketConfig, SymbolSpec
from helios.venues.sandbox.ticks import MarketEvent, TickMarket, TickTrade

__all__ = [
    "SPECS", "MacroMarket", "MacroState", "MarketConfig", "MarketEvent", "SymbolSpec", "SyntheticHistory", "TickMarket",
    "TickTrade",
]  # fmt: skip

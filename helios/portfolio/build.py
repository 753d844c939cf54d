"""Tier 5 as every driver builds it."""

from __future__ import annotations

from collections.abc import Mapping

from helios.config import HeliosConfig
from helios.domain.market import Instrument
from helios.portfolio.tier import PortfolioDesk
from helios.risk.sectors import sector_of


def make_portfolio_desk(config: HeliosConfig, instruments: Mapping[str, Instrument]) -> PortfolioDesk:
    """Return the portfolio desk with the default sectors."""
    sectors = {symbol: sector_of(i.base) for symbol, i in instruments.items()}
    return PortfolioDesk(config.portfolio, config.risk, instruments, sectors.__getitem__, config.limits.max_correlation)

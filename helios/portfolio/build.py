"""Tier 5 as every driver builds it."""

from __future__ import annotations

from collections.abc import Mapping

from helios.config import HeliosConfig
from helios.domain.market import Instrument
from helios.portfolio.tier import PortfolioDesk
from helios.risk.sectors import sector_of


def make_portfolio_desk(config: HeliosConfig, instruments: Mapping[str, Instrument]) -> PortfolioDesk:
    """Return the portfolio desk with the default sectors. It sees what is added to `instruments` later."""

    def sector(symbol: str) -> str:
        known = instruments.get(symbol)
        return sector_of(known.base if known is not None else symbol.partition("/")[0])

    return PortfolioDesk(config.portfolio, config.risk, instruments, sector, config.limits.max_correlation)

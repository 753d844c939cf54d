"""Tier 3 as every driver builds it."""

from __future__ import annotations

from collections.abc import Mapping

from helios.config import HeliosConfig
from helios.domain.enums import Timeframe
from helios.domain.market import Instrument
from helios.risk.tier import RiskDesk


def make_risk_desk(config: HeliosConfig, instruments: Mapping[str, Instrument]) -> RiskDesk:
    """Return the risk desk of a configuration as `load_config` returns it: the profile's preset is in it, and not asked again."""
    bars_per_day = 86_400 // Timeframe(config.desk.decision_timeframe).seconds
    return RiskDesk(config.risk, config.limits, instruments, bars_per_day)

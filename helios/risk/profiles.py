"""Presets of the limits, from cautious to bold.

A preset replaces only the values named here; the rest stays as the configuration has it. "moderate" is the configuration
itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from helios.config import LimitConfig, RiskConfig
from helios.errors import ConfigError

PROFILE_LIMITS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "conservative": {"max_drawdown": 0.10, "max_daily_loss": 0.02, "max_position": 0.05, "max_open_positions": 5},
    "moderate": {},
    "aggressive": {"max_drawdown": 0.15, "max_daily_loss": 0.05, "max_position": 0.25, "max_entries_per_day": 40},
    "swing": {"max_drawdown": 0.15, "max_daily_loss": 0.04, "max_entries_per_day": 5},
    "live-starter": {
        "max_open_positions": 2, "max_consecutive_losses": 3, "max_daily_loss": 0.05,
        "max_notional_quote": Decimal(100), "max_entries_per_day": 10, "max_portfolio_leverage": 1.0,
    },
})  # fmt: skip

PROFILE_RISK: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "conservative": {"min_confidence": 0.75, "stop_daily_volatilities": 3.0},
    "moderate": {},
    "aggressive": {"kelly_multiplier": 0.5},
    "swing": {"min_confidence": 0.65, "kelly_multiplier": 0.5, "stop_daily_volatilities": 2.5},
    "live-starter": {"max_leverage": 1.0},
})  # fmt: skip

LIVE_RAMP = (0.0, 0.10, 0.25, 0.50, 0.75, 1.0)
"""Share of the intended capital at each step after going live; the first only watches."""


def profile_limits(profile: str, base: LimitConfig) -> LimitConfig:
    """Return the limits of a profile.

    Raises
    ------
    ConfigError
        If there is no such profile.
    """
    return base.model_copy(update=dict(_preset(PROFILE_LIMITS, profile)))


def profile_risk(base: RiskConfig) -> RiskConfig:
    """Return tier 3's settings under `base.profile`."""
    return base.model_copy(update=dict(_preset(PROFILE_RISK, base.profile)))


def _preset(table: Mapping[str, Mapping[str, Any]], profile: str) -> Mapping[str, Any]:
    if profile not in table:
        raise ConfigError(f"unknown risk profile {profile}; one of {', '.join(sorted(table))}")
    return table[profile]

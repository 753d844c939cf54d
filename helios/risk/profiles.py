"""Presets from cautious to bold: what a profile sets where nobody else has set it.

`helios.config.load_config` applies them, once: a preset fills only the keys that neither file, environment nor command line gave.
What it leaves out stays as the configuration has it; "moderate" is the configuration itself. Nothing else reads this table, so
that what `helios config show` prints is what every tier works with. Sources: docs/risk.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

Preset = Mapping[str, Mapping[str, Any]]

PRESETS: Mapping[str, Preset] = MappingProxyType({
    "conservative": {
        "risk": {"size_method": "fixed_fractional", "risk_per_trade": 0.01, "min_confidence": 0.75, "stop_daily_volatilities": 3.0},
        "limits": {"max_drawdown": 0.10, "max_daily_loss": 0.02, "max_position": 0.05, "max_open_positions": 5},
        "portfolio": {"max_position": 0.05},
    },
    "moderate": {},
    "aggressive": {
        "risk": {"kelly_multiplier": 0.5, "risk_per_trade": 0.05, "regime_caps": (0.25, 0.15, 0.10, 0.05)},
        "limits": {"max_drawdown": 0.15, "max_daily_loss": 0.05, "max_position": 0.25, "max_entries_per_day": 40},
        "portfolio": {"max_position": 0.25},
    },
    "swing": {
        "risk": {"min_confidence": 0.65, "kelly_multiplier": 0.5, "stop_daily_volatilities": 2.5},
        "limits": {"max_drawdown": 0.15, "max_daily_loss": 0.04, "max_entries_per_day": 5},
    },
    "scalper": {
        "risk": {
            "size_method": "volatility_adjusted", "base_fraction": 0.03, "min_confidence": 0.60,
            "stop_daily_volatilities": 1.5, "reward_to_risk": 1.5,
        },
        "limits": {"max_daily_loss": 0.05},
    },
    "paper-starter": {
        "risk": {"size_method": "fixed_fractional", "max_leverage": 1.0, "risk_per_trade": 0.005},
        "limits": {
            "max_open_positions": 3, "max_notional_quote": Decimal(500), "max_entries_per_day": 20, "max_portfolio_leverage": 1.0,
        },
    },
    "live-starter": {
        "risk": {"size_method": "fixed_fractional", "max_leverage": 1.0, "risk_per_trade": 0.005, "ramp_step": 0},
        "limits": {
            "max_open_positions": 2, "max_consecutive_losses": 3, "max_daily_loss": 0.05,
            "max_notional_quote": Decimal(100), "max_entries_per_day": 10, "max_portfolio_leverage": 1.0,
            "max_daily_loss_quote": Decimal(500), "min_balance_quote": Decimal(200),
        },
        "portfolio": {"min_trade_quote": Decimal(10)},
    },
})  # fmt: skip

SHARED_KEYS = ("max_position", "max_sector")
"""Keys that `limits` and `portfolio` both have: one figure, which the optimiser aims within and the gate enforces."""


def fill_preset(tree: dict[str, Any]) -> None:
    """Add to a configuration tree what its profile sets and nobody gave.

    Where only one of `limits` and `portfolio` was given a key they share, the other follows it before the preset is asked. An
    unknown profile or a section that is none is left for validation to refuse.
    """
    explicit: dict[str, dict[str, Any]] = {name: tree.setdefault(name, {}) for name in ("risk", "limits", "portfolio")}
    if not all(isinstance(section, dict) for section in explicit.values()):
        return
    for key in SHARED_KEYS:
        for one, other in (("limits", "portfolio"), ("portfolio", "limits")):
            if key in explicit[one]:
                explicit[other].setdefault(key, explicit[one][key])
    profile = explicit["risk"].get("profile", "moderate")
    preset = PRESETS.get(profile, {}) if isinstance(profile, str) else {}
    for name, values in preset.items():
        for key, value in values.items():
            explicit[name].setdefault(key, value)

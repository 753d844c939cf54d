"""Regime words at and around their thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helios.features.regimes import correlation_regime, correlations, liquidity_regime, trend_regime

RISING = [float(x) for x in range(1, 61)]


def test_trend_needs_fifty_known_days() -> None:
    assert trend_regime(RISING[:49]) == "UNKNOWN"
    assert trend_regime(RISING[:50]) == "BULLISH"
    assert trend_regime([*RISING[:-1], math.nan]) == "UNKNOWN"


def test_trend_names_both_directions_and_neither() -> None:
    assert trend_regime(RISING[::-1]) == "BEARISH"
    assert trend_regime([1.0] * 60) == "SIDEWAYS"
    assert trend_regime([*RISING[:-1], 1.0]) == "SIDEWAYS"  # close below a rising average


@pytest.mark.parametrize(("volume", "regime"), [(100_001, "DEEP"), (100_000, "NORMAL"), (50_000, "THIN"), (math.nan, "UNKNOWN")])
def test_liquidity_thresholds(volume: float, regime: str) -> None:
    assert liquidity_regime(volume) == regime


@pytest.mark.parametrize(
    ("values", "regime"),
    [({}, "UNKNOWN"), ({"A": 0.9, "B": 0.8}, "CRISIS"), ({"A": 0.9, "B": 0.7}, "COUPLED"), ({"A": 0.5}, "DECOUPLED")],
)
def test_correlation_thresholds(values: dict[str, float], regime: str) -> None:
    assert correlation_regime(values) == regime


def test_correlations_use_common_days_and_leave_out_what_has_too_few() -> None:
    x = np.arange(12.0)
    some, few, flat = -x.copy(), x.copy(), np.ones(12)
    some[0] = np.nan
    few[:3] = np.nan
    assert correlations(x, {"SOME": some, "FEW": few, "FLAT": flat}) == {"SOME": pytest.approx(-1.0)}

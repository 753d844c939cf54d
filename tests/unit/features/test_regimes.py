"""Regime words at and around their thresholds."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from helios.domain.enums import VolatilityRegime
from helios.errors import ConfigError, DataError
from helios.features.regimes import (
    CombinedRegime,
    DetectorSettings,
    MarketRegime,
    MarketRegimeDetector,
    RegimeReading,
    RegimeResult,
    RegimeResults,
    classify_market,
    combined_regime,
    correlation_regime,
    correlations,
    liquidity_regime,
    trend_regime,
)

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


@pytest.mark.parametrize(
    ("trend", "volatility", "strength", "wanted"),
    [
        ("BULLISH", VolatilityRegime.EXTREME, 0.8, CombinedRegime("BULL", "HIGH", "TRENDING")),
        ("BEARISH", VolatilityRegime.MEDIUM, -0.8, CombinedRegime("BEAR", "LOW", "TRENDING")),
        ("SIDEWAYS", VolatilityRegime.LOW, 0.7, CombinedRegime("NEUTRAL", "LOW", "RANGE")),
        ("UNKNOWN", None, math.nan, CombinedRegime("UNKNOWN", "UNKNOWN", "UNKNOWN")),
    ],
)
def test_the_three_views_combine(trend: str, volatility: VolatilityRegime | None, strength: float, wanted: CombinedRegime) -> None:
    assert combined_regime(trend, volatility, strength) == wanted


@pytest.mark.parametrize(
    ("volatility", "strength", "volume_trend", "regime"),
    [
        (0.031, 0.9, -0.9, "VOLATILE"), (0.03, 0.71, 0.0, "TRENDING"), (0.005, -0.71, -0.9, "TRENDING"),
        (0.009, 0.1, -0.51, "DORMANT"),
        (0.01, 0.1, -0.9, "RANGING"), (0.009, 0.1, -0.5, "RANGING"), (0.009, 0.1, math.nan, "RANGING"),
        (math.nan, 0.1, 0.0, "UNKNOWN"), (0.01, math.nan, 0.0, "UNKNOWN"),
    ],
)  # fmt: skip
def test_market_regimes_at_their_thresholds(volatility: float, strength: float, volume_trend: float, regime: str) -> None:
    assert classify_market(volatility, strength, volume_trend, DetectorSettings(288.0)) == regime


def ranging(n: int, seed: int = 0, scale: float = 5e-4) -> list[float]:
    noise = np.random.default_rng(seed).normal(0.0, scale, n)
    return (100.0 * np.exp(noise)).tolist()


def told(detector: MarketRegimeDetector, prices: list[float], volume: float = 5.0) -> list[RegimeReading]:
    return [detector.update(price, volume) for price in prices]


def test_nothing_is_said_before_the_history_is_full_and_enough_votes_agree() -> None:
    readings = told(MarketRegimeDetector(DetectorSettings(288.0)), ranging(110))
    assert {r.regime for r in readings[:102]} == {MarketRegime.UNKNOWN}
    assert {r.confidence for r in readings[:102]} == {0.0}
    assert readings[102].regime is MarketRegime.RANGING  # the fourth of five votes: 0.8 passes 0.7
    assert readings[102].confidence == pytest.approx(0.8)
    assert readings[103].confidence == 1.0


def test_a_rise_without_noise_is_a_trend_after_four_of_five_votes() -> None:
    detector = MarketRegimeDetector(DetectorSettings(288.0))
    told(detector, ranging(120))
    readings = told(detector, [100.0 * 1.0003**i for i in range(1, 60)])
    turn = next(i for i, r in enumerate(readings) if r.regime is MarketRegime.TRENDING)
    assert turn >= 4
    assert all(abs(r.trend_strength) > 0.7 for r in readings[turn - 2 : turn + 1])
    assert readings[turn].confidence >= 0.8
    assert readings[-1] == RegimeReading(
        MarketRegime.TRENDING, 1.0, readings[-1].daily_volatility, pytest.approx(1.0), pytest.approx(0.0)
    )


def test_a_single_odd_bar_does_not_change_the_regime_but_lowers_the_confidence() -> None:
    detector = MarketRegimeDetector(DetectorSettings(288.0, history_bars=30, trend_bars=10, volatile_above=0.05))
    told(detector, ranging(60))
    odd = detector.update(110.0, 5.0)
    assert odd.regime is MarketRegime.RANGING
    assert odd.confidence == pytest.approx(0.8)
    assert told(detector, ranging(3))[-1].regime is MarketRegime.VOLATILE  # the jump stays in the history


def test_fading_volume_in_a_dead_market_is_dormant() -> None:
    detector = MarketRegimeDetector(DetectorSettings(288.0))
    told(detector, ranging(100, scale=1e-5))
    readings = told(detector, ranging(40, seed=1, scale=1e-5), volume=1.0)
    assert readings[-1].regime is MarketRegime.DORMANT
    assert readings[-1].volume_trend < -0.5


def test_unknown_volume_is_never_dormant_and_a_broken_price_is_refused() -> None:
    detector = MarketRegimeDetector(DetectorSettings(288.0))
    readings = told(detector, ranging(120, scale=1e-5), volume=math.nan)
    assert readings[-1].regime is MarketRegime.RANGING
    for price in (math.nan, 0.0, -1.0, math.inf):
        with pytest.raises(DataError):
            detector.update(price, 1.0)
    assert detector.update(100.0, 1.0).confidence == 1.0


def test_a_market_without_any_movement_is_ranging_with_strength_zero() -> None:
    reading = told(MarketRegimeDetector(DetectorSettings(288.0)), [100.0] * 110)[-1]
    assert reading == RegimeReading(MarketRegime.RANGING, 1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("wrong", [{"change_threshold": 0.5}, {"trend_bars": 100}, {"smoothing_bars": 0}, {"bars_per_day": 0.0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        DetectorSettings(**({"bars_per_day": 288.0} | wrong))


def test_results_fold_per_regime_in_exact_money() -> None:
    results = RegimeResults()
    for regime, pnl in (("RANGING", "0.10"), ("RANGING", "-0.30"), ("VOLATILE", "0.20"), (VolatilityRegime.HIGH, "0")):
        results = results.with_trade(regime, Decimal(pnl))
    assert results.of("RANGING") == RegimeResult(2, 1, Decimal("-0.20"))
    assert results.of("RANGING").win_rate == 0.5
    assert results.of("HIGH").n_wins == 0
    assert results.of("NEVER").n_trades == 0
    assert math.isnan(results.of("NEVER").win_rate)
    assert results.total == RegimeResult(4, 2, Decimal("0.00"))
    with pytest.raises(DataError):
        results.with_trade("RANGING", Decimal("NaN"))

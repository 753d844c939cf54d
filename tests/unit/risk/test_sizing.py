from __future__ import annotations

import math
from decimal import Decimal

import pytest

from helios.config import RiskConfig
from helios.domain.enums import Side, VolatilityRegime
from helios.errors import RejectedError
from helios.risk.exits import exit_levels, exit_prices, exit_rule
from helios.risk.sizing import SizeDecision, SizeRefusal, kelly_full, payoff_ratio, size_position, volatility_factor

CONFIG = RiskConfig()
MEDIUM = VolatilityRegime.MEDIUM


def size(
    confidence: float = 0.72,
    b: float = 2.0,
    volatility: float = 0.03,
    regime: VolatilityRegime = MEDIUM,
    drawdown: float = 0.0,
    held: str = "0",
    equity: str = "100000",
    leverage: float = 1.0,
) -> SizeDecision | SizeRefusal:
    return size_position(confidence, b, volatility, regime, drawdown, Decimal(held), Decimal(equity), CONFIG, leverage=leverage)


def decided(**changes: object) -> SizeDecision:
    result = size(**changes)  # type: ignore[arg-type]
    assert isinstance(result, SizeDecision)
    return result


def refused(**changes: object) -> str:
    result = size(**changes)  # type: ignore[arg-type]
    assert isinstance(result, SizeRefusal)
    return result.code


def test_worked_example_holds_to_the_cent() -> None:
    result = decided()
    assert result.kelly_full == pytest.approx(0.58)
    assert result.kelly_scaled == pytest.approx(0.145)
    assert result.volatility_scaled == pytest.approx(0.058)
    assert result.notional_quote == Decimal(5800)
    assert (result.stop_pct, result.target_pct) == (0.06, 0.12)
    assert result.loss_at_stop_quote == Decimal(348)
    assert result.gain_at_target_quote == Decimal(696)


@pytest.mark.parametrize(("p", "b", "expected"), [(0.65, 2.0, 0.475), (0.5, 2.0, 0.25), (1 / 3, 2.0, 0.0), (0.40, 2.0, 0.10)])
def test_kelly_of_known_bets(p: float, b: float, expected: float) -> None:
    assert kelly_full(p, b) == pytest.approx(expected, abs=1e-12)


def test_kelly_at_forty_percent_is_negative_only_below_a_payoff_of_one_and_a_half() -> None:
    assert kelly_full(0.40, 1.49) < 0 < kelly_full(0.40, 1.51)


@pytest.mark.parametrize(("p", "b"), [(-0.1, 2.0), (1.1, 2.0), (0.6, 0.0), (math.nan, 2.0), (0.6, math.nan)])
def test_kelly_refuses_what_is_no_bet(p: float, b: float) -> None:
    with pytest.raises(RejectedError):
        kelly_full(p, b)


def test_costs_lower_the_payoff_ratio() -> None:
    assert payoff_ratio(0.06, 0.12) == pytest.approx(2.0)
    assert payoff_ratio(0.06, 0.12, 0.003) == pytest.approx(0.117 / 0.063)
    assert payoff_ratio(0.001, 0.002, 0.003) < 0


def test_both_volatility_rules() -> None:
    assert 0.20 * volatility_factor(0.10, 0.02) == pytest.approx(0.20 / 6)
    assert 0.20 * volatility_factor(0.10, 0.02, "inverse") == pytest.approx(0.04)
    assert volatility_factor(0.01, 0.02, "inverse") == 1.0


def test_drawdown_halves_only_above_ten_percent() -> None:
    assert decided(drawdown=0.10).notional_quote == Decimal(5800)
    assert decided(drawdown=0.11).notional_quote == Decimal(2900)


@pytest.mark.parametrize(("regime", "cap"), zip(VolatilityRegime, (0.20, 0.15, 0.10, 0.05)))
def test_regime_caps_the_holding(regime: VolatilityRegime, cap: float) -> None:
    result = decided(confidence=1.0, volatility=0.001, regime=regime)
    assert result.fraction == pytest.approx(cap)
    assert any("cap" in note for note in result.notes)


def test_higher_volatility_gives_a_smaller_size() -> None:
    assert decided(volatility=0.08).fraction < decided(volatility=0.02).fraction


def test_high_volatility_is_an_alert_in_the_notes() -> None:
    assert not any("ALERT" in note for note in decided(volatility=0.02, regime=VolatilityRegime.LOW).notes)
    assert any("ALERT" in note for note in decided(volatility=0.08, regime=VolatilityRegime.EXTREME).notes)


def test_what_is_held_counts() -> None:
    assert decided(held="4000").notional_quote == Decimal(1800)
    assert refused(held="5800") == "ALREADY_HELD"


def test_leverage_scales_exposure_but_not_past_the_cap() -> None:
    assert decided(leverage=1.5).notional_quote == Decimal(8700)
    assert decided(leverage=1.5).loss_at_stop_quote == Decimal(522)
    assert decided(leverage=3.0).fraction == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"confidence": 0.5499}, "LOW_CONFIDENCE"),
        ({"confidence": math.nan}, "LOW_CONFIDENCE"),
        ({"confidence": 0.60, "b": 0.5}, "NO_EDGE"),
        ({"b": -0.2}, "NO_EDGE"),
        ({"b": math.nan}, "NO_EDGE"),
        ({"volatility": 0.0}, "NO_VOLATILITY"),
        ({"volatility": math.nan}, "NO_VOLATILITY"),
        ({"volatility": math.inf}, "NO_VOLATILITY"),
        ({"volatility": 1e-12}, "NO_VOLATILITY"),
        ({"confidence": 1.01}, "INVALID_CONFIDENCE"),
        ({"equity": "0.00000001"}, "MIN_NOTIONAL"),
        ({"volatility": 0.5}, "STOP_TOO_WIDE"),
        ({"equity": "0"}, "NO_EQUITY"),
    ],
)
def test_refusals_name_their_reason(changes: dict[str, object], code: str) -> None:
    assert refused(**changes) == code


def test_exits_are_two_volatilities_and_twice_that() -> None:
    assert exit_levels(0.03, CONFIG) == (0.06, 0.12)
    rule = exit_rule(0.03, CONFIG)
    assert rule.timeout_ns == 86_400 * 10**9
    assert (rule.trailing_activate_pct, rule.trailing_pct) == (0.02, 0.01)
    with pytest.raises(RejectedError):
        exit_levels(math.nan, CONFIG)


def test_exit_prices_are_mirrored_for_a_short() -> None:
    assert exit_prices(Side.BUY, Decimal(100), 0.06, 0.12) == (Decimal(94), Decimal(112))
    assert exit_prices(Side.SELL, Decimal(100), 0.06, 0.12) == (Decimal(106), Decimal(88))

from __future__ import annotations

import math

import numpy as np
import pytest

from helios.config import LimitConfig
from helios.risk.measures import (
    RISK_WEIGHTS,
    CorrelationRegime,
    RiskComponents,
    beta,
    calmar_ratio,
    conditional_value_at_risk,
    correlation_regime,
    drawdowns,
    max_drawdown,
    mean_correlation,
    omega_ratio,
    profit_factor,
    risk_score,
    sharpe_ratio,
    sortino_ratio,
    tail_ratio,
    ulcer_index,
    value_at_risk,
    volatility,
    win_rate,
)

LADDER = np.arange(-10, 11) / 100.0


def test_var_and_cvar_of_a_ladder() -> None:
    assert value_at_risk(LADDER, 0.95) == pytest.approx(0.099)  # rank 1.1 of 21
    assert value_at_risk(LADDER, 0.99) == pytest.approx(0.10)  # nothing is known beyond the worst
    assert conditional_value_at_risk(LADDER, 0.95) == pytest.approx((0.10 + 0.05 * 0.09) / 1.05)  # 5 % of 21 are 1.05 of them


def test_ratios_by_hand() -> None:
    returns = np.array([0.01, -0.02, 0.03, 0.0])
    assert sharpe_ratio(returns) == pytest.approx(0.005 / np.std(returns, ddof=1) * math.sqrt(365))
    assert sortino_ratio(returns) == pytest.approx(0.005 / 0.01 * math.sqrt(365))


def test_drawdown_and_calmar() -> None:
    equity = np.array([100.0, 120.0, 90.0, 130.0])
    assert max_drawdown(equity) == pytest.approx(0.25)
    assert calmar_ratio(equity, 3) == pytest.approx(0.30 / 0.25)


def test_nan_is_left_out() -> None:
    assert max_drawdown(np.array([100.0, math.nan, 50.0])) == pytest.approx(0.5)
    assert value_at_risk(np.append(LADDER, math.nan)) == value_at_risk(LADDER)


@pytest.mark.parametrize(
    "measure",
    [
        value_at_risk,
        conditional_value_at_risk,
        sharpe_ratio,
        sortino_ratio,
        max_drawdown,
        calmar_ratio,
        ulcer_index,
        omega_ratio,
        tail_ratio,
        volatility,
    ],
)
def test_too_little_gives_nan(measure: object) -> None:
    assert math.isnan(measure(np.array([1.0, math.nan])))  # type: ignore[operator]


def test_a_zero_denominator_gives_nan() -> None:
    assert math.isnan(sharpe_ratio(np.array([0.01, 0.01])))
    assert math.isnan(sortino_ratio(np.array([0.01, 0.02])))
    assert math.isnan(calmar_ratio(np.array([1.0, 2.0])))


def test_equal_returns_have_no_sharpe_whatever_their_rounding() -> None:
    assert math.isnan(sharpe_ratio(np.full(7, 0.1)))  # their mean is not 0.1, their deviation not 0


def test_shape_ratios_by_hand() -> None:
    returns = np.array([0.03, -0.01, 0.01, -0.01])
    assert omega_ratio(returns) == pytest.approx(0.04 / 0.02)
    assert omega_ratio(returns, 0.01) == pytest.approx(0.02 / 0.04)
    assert tail_ratio(np.append(LADDER, 0.3)) > tail_ratio(LADDER) == pytest.approx(1.0)
    assert math.isnan(omega_ratio(np.array([0.01, 0.02])))


def test_ulcer_and_drawdowns_by_hand() -> None:
    equity = np.array([100.0, 80.0, math.nan, 110.0, 99.0])
    assert drawdowns(equity).tolist() == pytest.approx([0.0, 0.2, 0.0, 0.1])
    assert ulcer_index(equity) == pytest.approx(math.sqrt(0.05 / 4))
    assert drawdowns(np.array([0.0, 1.0])).size == 0


def test_trades_by_hand() -> None:
    profits = np.array([10.0, -5.0, 0.0, 20.0])
    assert (win_rate(profits), profit_factor(profits)) == (0.5, 6.0)
    assert (win_rate(np.array([3.0])), math.isnan(profit_factor(np.array([3.0]))), math.isnan(win_rate(np.array([])))) == (
        1.0,
        True,
        True,
    )


def test_beta_uses_the_days_both_know() -> None:
    market = np.array([0.01, -0.02, 0.03, math.nan, 0.5])
    own = np.array([0.02, -0.04, 0.06, 9.0, math.nan])
    assert beta(own, market) == pytest.approx(2.0)
    assert math.isnan(beta(own, np.full(5, 0.01)))


def test_mean_correlation_leaves_out_what_it_cannot_judge() -> None:
    base = np.sin(np.arange(40.0))
    flat, short = np.zeros(40), np.where(np.arange(40) < 9, base, math.nan)
    assert mean_correlation(np.column_stack([base, -base, flat, short])) == pytest.approx(-1.0)
    assert math.isnan(mean_correlation(base[:, None]))


@pytest.mark.parametrize(
    ("value", "regime"), [(0.81, "CRISIS"), (0.8, "COUPLED"), (0.5, "DECOUPLED"), (-1.0, "DECOUPLED"), (math.nan, "UNKNOWN")]
)
def test_correlation_regimes(value: float, regime: str) -> None:
    assert correlation_regime(value, LimitConfig()) is CorrelationRegime(regime)


def test_risk_score_runs_from_nothing_to_everything_and_needs_half_of_the_weight() -> None:
    names = RiskComponents.__slots__
    assert sum(getattr(RISK_WEIGHTS, n) for n in names) == pytest.approx(1.0)
    assert risk_score(RiskComponents(*[0.0] * 6)) == 0.0
    assert risk_score(RiskComponents(*[math.inf] * 6)) == pytest.approx(100.0)
    assert risk_score(RiskComponents(drawdown=0.5, var_95=0.5)) == pytest.approx(50.0)
    assert math.isnan(risk_score(RiskComponents(volatility=1.0, leverage=1.0, position=1.0, correlation=1.0)))


def test_a_century_of_growth_in_a_day_has_no_calmar() -> None:
    assert math.isnan(calmar_ratio(np.array([1.0, 0.9, 1e6])))

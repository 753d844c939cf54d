from __future__ import annotations

import math

import numpy as np
import pytest

from helios.risk.measures import (
    calmar_ratio,
    conditional_value_at_risk,
    max_drawdown,
    sharpe_ratio,
    sortino_ratio,
    value_at_risk,
)

LADDER = np.arange(-10, 11) / 100.0


def test_var_and_cvar_of_a_ladder() -> None:
    assert value_at_risk(LADDER, 0.95) == pytest.approx(0.09)
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
    "measure", [value_at_risk, conditional_value_at_risk, sharpe_ratio, sortino_ratio, max_drawdown, calmar_ratio]
)
def test_too_little_gives_nan(measure: object) -> None:
    assert math.isnan(measure(np.array([1.0, math.nan])))  # type: ignore[operator]


def test_a_zero_denominator_gives_nan() -> None:
    assert math.isnan(sharpe_ratio(np.array([0.01, 0.01])))
    assert math.isnan(sortino_ratio(np.array([0.01, 0.02])))
    assert math.isnan(calmar_ratio(np.array([1.0, 2.0])))

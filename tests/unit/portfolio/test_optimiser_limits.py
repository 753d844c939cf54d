"""What the limits reduce to, and which assets a correlation pins."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from helios.errors import SolverError
from helios.portfolio.constraints import Constraints, correlation_of, pin_correlated, region

LOWER, UPPER = np.full(3, -1.0), np.full(3, 1.0)
ALIKE = np.array([[1.0, 0.95, 0.0], [0.95, 1.0, -0.95], [0.0, -0.95, 1.0]])


def test_one_asset_sectors_become_bounds_and_idle_rows_are_left_out() -> None:
    limits = replace(Constraints.long_only(3), upper=np.full(3, 5.0), gross_cap=20.0)
    within = region(limits, np.zeros(3))
    np.testing.assert_array_equal(within.upper, 1.0)
    assert len(within.gross_caps) == 0
    assert within.turnover == math.inf


def test_trade_limits_narrow_the_bounds_and_an_idle_turnover_is_none() -> None:
    w0 = np.array([0.1, 0.5, 0.0])
    within = region(replace(Constraints.long_only(3), max_trade=np.full(3, 0.2), turnover=0.7), w0)
    np.testing.assert_allclose(within.lower, [0.0, 0.3, 0.0])
    np.testing.assert_allclose(within.upper, [0.3, 0.7, 0.2])
    assert within.turnover == math.inf
    assert region(replace(Constraints.long_only(3), turnover=0.7), w0).turnover == 0.7


def test_the_worst_violation_is_told() -> None:
    limits = Constraints.long_only(3, 0.5)
    within = region(replace(limits, sector_matrix=np.array([[1.0, 1.0, 0.0]]), sector_cap=np.array([0.6])), np.zeros(3))
    assert within.violation(np.array([0.3, 0.3, 0.2])) <= 0
    assert within.violation(np.array([0.4, 0.3, 0.0])) == pytest.approx(0.1)
    assert within.violation(np.array([0.0, -0.2, 0.0])) == pytest.approx(0.2)


def test_limits_that_leave_no_weight_are_refused() -> None:
    with pytest.raises(SolverError):
        region(replace(Constraints.long_only(2), lower=np.full(2, 0.5), max_trade=np.full(2, 0.1)), np.zeros(2))


def test_a_purchase_like_a_larger_holding_is_closed_and_a_sale_stays_open() -> None:
    lower, upper = pin_correlated(LOWER, UPPER, np.array([0.5, 0.1, 0.0]), ALIKE, 0.9)
    np.testing.assert_array_equal(upper, [1.0, 0.1, 1.0])
    assert lower[1] == -1.0
    assert lower[2] == 0.0  # a sale of the third is a purchase of the second, which is held


def test_the_larger_holding_itself_may_grow_and_a_short_counts_by_its_side() -> None:
    lower, upper = pin_correlated(LOWER, UPPER, np.array([-0.5, 0.1, 0.0]), ALIKE, 0.9)
    assert (lower[0], upper[0]) == (-1.0, 1.0)
    assert (lower[1], upper[1]) == (0.0, 1.0)  # long against a short of the same is a hedge; short would add up


def test_a_smaller_short_may_be_bought_back() -> None:
    _, upper = pin_correlated(LOWER, UPPER, np.array([0.5, -0.1, 0.0]), ALIKE, 0.9)
    assert upper[1] == 0.0


def test_nothing_held_pins_nothing_and_an_unknown_correlation_pins() -> None:
    free = pin_correlated(LOWER, UPPER, np.zeros(3), ALIKE, 0.9)
    np.testing.assert_array_equal(free, [LOWER, UPPER])
    _, upper = pin_correlated(LOWER, UPPER, np.array([0.5, 0.1, 0.0]), np.full((3, 3), np.nan), 0.9)
    np.testing.assert_array_equal(upper, [1.0, 0.1, 0.0])


def test_an_asset_that_does_not_move_correlates_with_nothing() -> None:
    correlation = correlation_of(np.array([[0.04, 0.01, 0.0], [0.01, 0.01, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(correlation, [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]])

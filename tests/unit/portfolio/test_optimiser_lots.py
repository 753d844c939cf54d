"""Whole lots: towards no trade, never outside the limits."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from helios.errors import SolverError
from helios.portfolio.optimiser import Constraints
from helios.portfolio.rounding import round_to_lots

EQUITY, NONE = Decimal(1_000), Decimal(0)
TWO = replace(Constraints.long_only(2), sector_matrix=np.zeros((0, 2)), sector_cap=np.zeros(0))


def trade(w: list[float], w0: list[float], lots: str = "1", smallest: Decimal = NONE, limits: Constraints = TWO) -> list[Decimal]:
    prices = [Decimal(10)] * 2
    return list(round_to_lots(np.array(w), np.array(w0), prices, [Decimal(lots)] * 2, smallest, EQUITY, limits))


def test_trades_are_rounded_towards_none() -> None:
    assert trade([0.259, 0.0], [0.0, 0.259]) == [Decimal(25), Decimal(-25)]


def test_a_trade_below_the_smallest_is_dropped() -> None:
    assert trade([0.04, 0.2], [0.0, 0.0], smallest=Decimal(50)) == [Decimal(0), Decimal(20)]


def test_a_purchase_is_cut_where_the_sale_that_pays_for_it_was_dropped() -> None:
    assert trade([0.54, 0.46], [0.5, 0.5], smallest=Decimal(41)) == [Decimal(0), Decimal(0)]
    assert trade([0.20, 0.75], [0.0, 0.795], smallest=Decimal(46)) == [Decimal(20), Decimal(0)]
    assert trade([0.25, 0.75], [0.0, 0.795], smallest=Decimal(46)) == [Decimal(20), Decimal(0)]


def test_a_sector_is_kept_when_only_one_side_of_a_switch_is_worth_its_cost() -> None:
    one = replace(TWO, sector_matrix=np.ones((1, 2)), sector_cap=np.array([0.5]))
    assert trade([0.46, 0.04], [0.3, 0.1], smallest=Decimal(61), limits=one) == [Decimal(10), Decimal(0)]


def test_a_limit_already_broken_is_not_broken_further() -> None:
    tight = replace(TWO, budget=0.5)
    assert trade([0.4, 0.4], [0.45, 0.45], limits=tight) == [Decimal(-5), Decimal(-5)]
    assert trade([0.5, 0.4], [0.45, 0.45], smallest=Decimal(51), limits=tight) == [Decimal(0), Decimal(0)]


def test_a_short_counts_in_full_and_needs_no_budget() -> None:
    short = replace(TWO, lower=np.full(2, -1.0), funded=np.zeros(2), gross_cap=0.5)
    assert trade([-0.3, 0.2], [0.0, 0.0], limits=short) == [Decimal(-30), Decimal(20)]
    assert trade([-0.3, 0.25], [0.0, 0.0], limits=short) == [Decimal(-25), Decimal(25)]


@pytest.mark.parametrize("bad", ["0", "-1", "NaN"])
def test_a_lot_that_is_no_step_is_refused(bad: str) -> None:
    with pytest.raises(SolverError):
        trade([0.1, 0.1], [0.0, 0.0], lots=bad)


def test_a_weight_that_is_no_number_is_refused() -> None:
    with pytest.raises(SolverError):
        trade([float("nan"), 0.1], [0.0, 0.0])

from __future__ import annotations

import math

import numpy as np
import pytest

from helios.risk.garch import VarianceParameters, ewma, filter_variance
from helios.risk.var import (
    TailMethod,
    cornish_fisher_tail_loss,
    degrees_of_freedom,
    exceedances,
    filtered_tail_loss,
    kupiec,
    portfolio_returns,
    student_t_tail_loss,
    tail_loss,
)
from tests.unit.risk.builders import garch_returns

RNG = np.random.default_rng(11)
NORMAL = RNG.standard_normal(4_000) * 0.02 + 0.001


@pytest.mark.parametrize("method", list(TailMethod))
def test_every_method_finds_the_tail_of_normal_returns(method: TailMethod) -> None:
    loss = tail_loss(NORMAL, 0.95, method)
    assert loss.var == pytest.approx(1.645 * 0.02 - 0.001, rel=0.06)
    assert loss.cvar == pytest.approx(2.063 * 0.02 - 0.001, rel=0.06)


@pytest.mark.parametrize("method", list(TailMethod))
@pytest.mark.parametrize("returns", [np.array([]), np.array([0.01]), np.full(50, math.nan)])
def test_too_little_is_not_known(method: TailMethod, returns: np.ndarray) -> None:
    assert all(math.isnan(value) for value in tail_loss(returns, 0.95, method))


@pytest.mark.parametrize("method", list(TailMethod))
def test_what_is_not_finite_is_left_out(method: TailMethod) -> None:
    spoilt = np.concatenate([[math.nan, math.inf], NORMAL[:600], [-math.inf, math.nan]])
    clean = tail_loss(NORMAL[:600], 0.95, method)
    assert tail_loss(spoilt, 0.95, method) == pytest.approx(clean, rel=0.02)  # the filter keeps the place of a gap


@pytest.mark.parametrize("method", list(TailMethod))
def test_prices_that_do_not_move_lose_nothing(method: TailMethod) -> None:
    loss = tail_loss(np.zeros(100), 0.95, method)
    assert loss == (0.0, 0.0) or all(math.isnan(value) for value in loss)


@pytest.mark.parametrize("level", [0.5, 1.0, math.nan, 95.0])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        tail_loss(NORMAL, level)


def test_a_student_t_needs_a_variance_and_becomes_normal() -> None:
    assert all(math.isnan(value) for value in student_t_tail_loss(0.0, 0.02, 2.0))
    assert student_t_tail_loss(0.0, 0.02, 1e5) == pytest.approx(student_t_tail_loss(0.0, 0.02, math.inf), rel=1e-4)
    assert (degrees_of_freedom(2.0), degrees_of_freedom(-0.1)) == (7.0, math.inf)


def test_cornish_fisher_is_silent_outside_its_domain() -> None:
    assert math.isfinite(cornish_fisher_tail_loss(0.0, 0.02, -0.4, 1.5).cvar)
    assert all(math.isnan(value) for value in cornish_fisher_tail_loss(0.0, 0.02, -2.5, 1.0))


def test_the_filtered_tail_follows_the_present_volatility() -> None:
    returns = garch_returns(2_000, seed=4, bar_volatility=0.02)
    parameters = VarianceParameters(0.02 * 4.0, 0.08, 0.90, 6.0, 4.0)  # of returns in percent
    calm, storm = (filtered_tail_loss(np.append(returns, [last] * 5), 0.95, parameters).var for last in (0.001, 0.08))
    assert storm > 1.5 * calm
    now = math.sqrt(filter_variance(returns * 100, parameters)[-1]) / 100
    expected = -np.quantile(returns * 100 / np.sqrt(filter_variance(returns * 100, parameters)[:-1]), 0.05, method="weibull") * now
    assert filtered_tail_loss(returns, 0.95, parameters).var == pytest.approx(expected, rel=1e-12)


def test_short_histories_are_filtered_by_the_ewma() -> None:
    returns = garch_returns(200, seed=5, bar_volatility=0.03)
    by_hand = filtered_tail_loss(returns, 0.99, ewma(returns * 100, 0.94))
    assert tail_loss(returns, 0.99, TailMethod.FILTERED) == by_hand


def test_a_portfolio_earns_by_its_weights_and_a_gap_matters_only_where_something_is_held() -> None:
    returns = np.array([[0.01, 0.02, math.nan], [math.nan, -0.01, 0.0]])
    earned = portfolio_returns(np.array([0.5, -0.25, 0.0]), returns)
    assert earned[0] == pytest.approx(0.0)
    assert math.isnan(earned[1])
    assert portfolio_returns(np.zeros(3), returns).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_the_next_return_exceeds_the_historical_tail_as_often_as_promised(level: float) -> None:
    draws = np.random.default_rng(17).standard_t(4, (6_000, 101))
    exceeded = sum(-row[-1] > tail_loss(row[:-1], level).var for row in draws)
    assert kupiec(exceeded, len(draws), level) > 0.05


def test_kupiec_by_hand_and_its_edges() -> None:
    # 10 of 250 against 1 %: the ratio is 12.955 (Kupiec's own example of a model that is refused)
    assert kupiec(10, 250, 0.99) == pytest.approx(3.19e-4, rel=0.01)
    assert kupiec(5, 100, 0.95) == pytest.approx(1.0)
    assert 0.0 < kupiec(0, 100, 0.95) < 0.01
    assert kupiec(100, 100, 0.95) == pytest.approx(0.0, abs=1e-12)
    for wrong in ((1, 0), (5, 4), (-1, 9)):
        with pytest.raises(ValueError, match="no count"):
            kupiec(*wrong)


def test_a_backtest_accepts_the_filtered_tail_and_refuses_the_unconditional_one() -> None:
    # variance regimes: the promise of 5 % holds for the year as a whole or day by day, and only the filter keeps it in the storm
    rng = np.random.default_rng(3)
    scale = np.repeat([0.01, 0.04], [600, 400])
    returns = rng.standard_normal(1_000) * scale
    parameters = VarianceParameters(0.0, 0.06, 0.94, math.nan, 1.0)
    days = range(620, 1_000)
    exceeded = {"filtered": 0, "historical": 0}
    for day in days:
        window = returns[day - 400 : day]
        exceeded["filtered"] += -returns[day] > filtered_tail_loss(window, 0.95, parameters).var
        exceeded["historical"] += -returns[day] > tail_loss(window, 0.95).var
    assert kupiec(exceeded["filtered"], len(days), 0.95) > 0.05
    assert kupiec(exceeded["historical"], len(days), 0.95) < 0.001


def test_a_var_that_is_right_is_exceeded_as_promised_and_a_wrong_one_is_found_out() -> None:
    draws = np.random.default_rng(12).standard_normal(1_500) * 0.02
    right = exceedances(draws, 0.95, TailMethod.NORMAL, n_least=250, n_last=1_250)
    assert right.n_periods == 1_250
    assert 42 <= right.n_exceeded <= 83  # binomial(1250, 0.05): 99 %
    assert right.p_value > 0.01
    storm = np.where(np.arange(1_500) >= 1_250, 4 * draws, draws)
    assert exceedances(storm, 0.95, TailMethod.NORMAL, n_least=250, n_last=250).p_value < 1e-6


def test_days_that_are_not_known_judge_nothing() -> None:
    draws = np.random.default_rng(13).standard_normal(60) * 0.02
    holes = draws.copy()
    holes[[40, 41]] = np.nan
    assert exceedances(holes).n_periods == 28
    assert exceedances(draws[:30]).n_periods == 0
    assert math.isnan(exceedances(draws[:30]).p_value)
    assert exceedances(np.full(60, np.nan)).n_periods == 0

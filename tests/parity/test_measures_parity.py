"""Risk measures against libraries of the field, with their conventions where they differ from ours."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import integrate, stats

from helios.risk.measures import (
    beta,
    conditional_value_at_risk,
    drawdowns,
    max_drawdown,
    mean_correlation,
    omega_ratio,
    ulcer_index,
    value_at_risk,
)
from helios.risk.var import (
    TailMethod,
    cornish_fisher_tail_loss,
    degrees_of_freedom,
    kupiec,
    normal_tail_loss,
    student_t_tail_loss,
    tail_loss,
)

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))
HEAVY = np.random.default_rng(21).standard_t(5, 1_001) * 0.02 - 0.0005
PATH = np.concatenate([[1.0], np.cumprod(1.0 + HEAVY)])
LEVELS = (0.95, 0.975, 0.99)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [20, 99, 250, 1_001])
def test_cvar_is_skfolios_to_the_last_digit(level: float, n: int) -> None:
    skfolio = pytest.importorskip("skfolio.measures")
    assert conditional_value_at_risk(HEAVY[:n], level) == pytest.approx(float(skfolio.cvar(HEAVY[:n], beta=level)), rel=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_var_lies_between_skfolios_loss_and_the_next_one(level: float) -> None:
    # skfolio takes an observed loss; ours lies between two, so it is at most one observation away
    skfolio = pytest.importorskip("skfolio.measures")
    ranked = np.sort(-HEAVY[:250])[::-1]
    at = int(np.argmin(np.abs(ranked - float(skfolio.value_at_risk(HEAVY[:250], beta=level)))))
    assert ranked[at + 1] <= value_at_risk(HEAVY[:250], level) <= ranked[max(at - 1, 0)]
    assert value_at_risk(HEAVY[:250], level) == pytest.approx(
        -float(stats.mstats.mquantiles(HEAVY[:250], 1 - level, 0, 0)[0]), rel=1e-12
    )


def test_drawdown_measures_are_skfolios() -> None:
    skfolio = pytest.importorskip("skfolio.measures")
    theirs = skfolio.get_drawdowns(HEAVY, compounded=True)  # their path starts at 1, before the first return; theirs are negative
    np.testing.assert_allclose(drawdowns(PATH)[1:], -theirs, rtol=1e-10, atol=1e-14)
    assert max_drawdown(PATH) == pytest.approx(float(skfolio.max_drawdown(theirs)), rel=1e-12)
    # our path has one point more, the start at a drawdown of 0
    expected = float(skfolio.ulcer_index(theirs)) * math.sqrt(len(HEAVY) / len(PATH))
    assert ulcer_index(PATH) == pytest.approx(expected, rel=1e-12)


def test_omega_is_one_plus_the_mean_over_the_first_lower_partial_moment() -> None:
    # an identity of the ratio (Kazemi, Schneeweis and Gupta 2004), by skfolio's partial moment
    skfolio = pytest.importorskip("skfolio.measures")
    shortfall = float(skfolio.first_lower_partial_moment(HEAVY, min_acceptable_return=0.0))
    assert omega_ratio(HEAVY) == pytest.approx(1.0 + HEAVY.mean() / shortfall, rel=1e-10)


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_cvar_of_a_portfolio_is_the_optimum_of_pyportfolioopts_programme(level: float) -> None:
    pypfopt = pytest.importorskip("pypfopt")
    returns = np.random.default_rng(5).standard_t(5, (120, 3)) * 0.02
    weights = np.array([0.5, 0.3, 0.2])
    frontier = pypfopt.EfficientCVaR(returns.mean(axis=0), returns, beta=level, weight_bounds=[(w, w) for w in weights])
    frontier.min_cvar()
    assert conditional_value_at_risk(returns @ weights, level) == pytest.approx(frontier.portfolio_performance()[-1], rel=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_parametric_tails_are_scipys_distributions(level: float) -> None:
    mean, deviation, nu = 0.001, 0.02, 4.7
    normal = stats.norm(mean, deviation)
    student = stats.t(nu, mean, deviation * math.sqrt((nu - 2) / nu))
    for ours, theirs in (
        (normal_tail_loss(mean, deviation, level), normal),
        (student_t_tail_loss(mean, deviation, nu, level), student),
    ):
        assert ours.var == pytest.approx(-theirs.ppf(1 - level), rel=1e-10)
        tail = theirs.expect(lambda x: x, lb=-np.inf, ub=theirs.ppf(1 - level)) / (1 - level)
        assert ours.cvar == pytest.approx(-tail, rel=1e-6)


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_cornish_fisher_cvar_is_the_integral_of_its_quantiles(level: float) -> None:
    def quantile(u: float) -> float:
        z, s, k = float(stats.norm.ppf(u)), -0.4, 1.8
        return z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36

    ours = cornish_fisher_tail_loss(0.001, 0.02, -0.4, 1.8, level)
    integral, _ = integrate.quad(quantile, 0.0, 1 - level)
    assert ours.var == pytest.approx(-(0.001 + 0.02 * quantile(1 - level)), rel=1e-12)
    assert ours.cvar == pytest.approx(-(0.001 + 0.02 * integral / (1 - level)), rel=1e-6)


def test_moments_behind_the_tails_are_scipys() -> None:
    skewness, kurtosis = float(stats.skew(HEAVY)), float(stats.kurtosis(HEAVY))
    mean, deviation = float(HEAVY.mean()), float(HEAVY.std(ddof=1))
    student = student_t_tail_loss(mean, deviation, degrees_of_freedom(kurtosis), 0.99)
    assert tail_loss(HEAVY, 0.99, TailMethod.STUDENT_T) == pytest.approx(student, rel=1e-12)
    bent = cornish_fisher_tail_loss(mean, deviation, skewness, kurtosis, 0.99)
    assert tail_loss(HEAVY, 0.99, TailMethod.CORNISH_FISHER) == pytest.approx(bent, rel=1e-10, nan_ok=True)
    assert stats.t(degrees_of_freedom(1.5)).stats("k") == pytest.approx(1.5)


def test_beta_and_mean_correlation_are_scipys_and_numpys() -> None:
    market, own, other = np.random.default_rng(6).standard_normal((3, 200))
    own += 0.7 * market
    assert beta(own, market) == pytest.approx(stats.linregress(market, own).slope, rel=1e-12)
    matrix = np.column_stack([market, own, other])
    assert mean_correlation(matrix) == pytest.approx(np.corrcoef(matrix.T)[np.triu_indices(3, 1)].mean(), rel=1e-12)


@pytest.mark.parametrize(("n_exceeded", "n"), [(3, 250), (8, 250), (40, 500)])
def test_kupiec_is_the_likelihood_ratio_of_two_binomials(n_exceeded: int, n: int) -> None:
    ratio = 2 * (stats.binom.logpmf(n_exceeded, n, n_exceeded / n) - stats.binom.logpmf(n_exceeded, n, 0.05))
    assert kupiec(n_exceeded, n, 0.95) == pytest.approx(stats.chi2.sf(ratio, 1), rel=1e-9)


def test_kupiec_refuses_a_true_model_about_as_often_as_it_says() -> None:
    exceeded = np.random.default_rng(7).binomial(500, 0.05, 2_000)
    refused = np.mean([kupiec(int(x), 500, 0.95) < 0.05 for x in exceeded])
    assert 0.03 < refused < 0.08
    assert kupiec(45, 500, 0.95) < 0.001  # 9 % for a promised 5 %


def prices(name: str) -> np.ndarray:
    path = RECORDED / "binance-perp-15m-2022" / f"{name}_15m.parquet"
    if not path.exists():
        pytest.skip(f"recorded prices are not at {path.parent}")
    return pl.read_parquet(path, columns=["close"])["close"].to_numpy()


@pytest.mark.realdata
@pytest.mark.parametrize("level", [0.95, 0.99])
@pytest.mark.parametrize("name", ["BTCUSDT", "ETHUSDT", "SOLUSDT"])
def test_on_recorded_prices_the_filtered_tail_is_exceeded_as_often_as_promised(name: str, level: float) -> None:
    closes = prices(name)[::16]  # four hours
    returns = np.diff(closes) / closes[:-1]
    periods = range(250, len(returns), 4)
    exceeded = sum(-returns[i] > tail_loss(returns[i - 250 : i], level, TailMethod.FILTERED).var for i in periods)
    assert kupiec(exceeded, len(periods), level) > 0.05

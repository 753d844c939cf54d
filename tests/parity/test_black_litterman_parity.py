"""Black-Litterman and maximum Sharpe against PyPortfolioOpt, utility against SciPy's SLSQP, on random problems."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from helios.domain.decisions import FloatArray
from helios.portfolio.black_litterman import posterior
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser

pypfopt = pytest.importorskip("pypfopt")
SEEDS = range(8)


def problem(seed: int, n: int = 5) -> tuple[np.random.Generator, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    sigma = np.cov(rng.normal(0, 0.03, (200, n)) @ rng.normal(size=(n, n)), rowvar=False)
    return rng, sigma, rng.dirichlet(np.ones(n))


@pytest.mark.parametrize("seed", SEEDS)
def test_posterior_equals_pypfopts_with_idzorek(seed: int) -> None:
    rng, sigma, w = problem(seed)
    P, Q, c = rng.normal(size=(3, 5)), rng.normal(0, 0.01, 3), rng.uniform(0.05, 1.0, 3)
    ours = posterior(sigma, w, P, Q, c, delta=2.5, tau=0.025)
    theirs = pypfopt.BlackLittermanModel(
        sigma, pi=2.5 * sigma @ w, P=P, Q=Q, tau=0.025, risk_aversion=2.5, omega="idzorek", view_confidences=c
    )
    np.testing.assert_allclose(ours.mu, theirs.bl_returns().to_numpy(), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(ours.sigma_plus, theirs.bl_cov().to_numpy(), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("seed", SEEDS)
def test_posterior_equals_pypfopts_with_the_same_omega(seed: int) -> None:
    rng, sigma, w = problem(seed)
    P, Q, c = np.eye(5)[:2], rng.normal(0, 0.01, 2), rng.uniform(0.1, 0.9, 2)
    omega = np.diag(np.diag(P @ (0.05 * sigma) @ P.T) * (1 - c) / c)
    theirs = pypfopt.BlackLittermanModel(sigma, pi=3.0 * sigma @ w, P=P, Q=Q, tau=0.05, omega=omega)
    ours = posterior(sigma, w, P, Q, c, delta=3.0, tau=0.05)
    np.testing.assert_allclose(ours.mu, theirs.bl_returns().to_numpy(), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("seed", SEEDS)
def test_max_sharpe_equals_pypfopts(seed: int) -> None:
    rng, sigma, _ = problem(seed)
    mu = rng.normal(0.002, 0.002, 5)
    mu[0] = abs(mu[0]) + 0.001
    limits = Constraints.long_only(5, 0.4)
    ours = MeanVarianceOptimiser(5).max_sharpe(mu, sigma, limits)
    frontier = pypfopt.EfficientFrontier(mu, sigma, weight_bounds=(0, 0.4))
    frontier.max_sharpe(risk_free_rate=0.0)
    theirs = np.array(list(frontier.weights))

    def sharpe(w: FloatArray) -> float:
        return float(mu @ w / np.sqrt(w @ sigma @ w))

    assert ours.sum() == pytest.approx(1.0, abs=1e-7)
    assert sharpe(ours) == pytest.approx(sharpe(theirs), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_utility_is_slsqps_within_a_millionth(seed: int) -> None:
    rng, sigma, _ = problem(seed)
    mu, w0, cost = rng.normal(0.001, 0.003, 5), rng.dirichlet(np.ones(5)) * 0.5, np.full(5, 0.0015)
    limits = Constraints.long_only(5, 0.6)
    ours = MeanVarianceOptimiser(5).solve(mu, sigma, w0, cost, 2.5, limits)

    def loss(x: FloatArray) -> float:  # x = bought, sold: the smooth form of |w - w0|
        w = w0 + x[:5] - x[5:]
        return float(-(mu @ w) + 1.25 * w @ sigma @ w + cost @ (x[:5] + x[5:])) * 1e3

    bounds = [(0, 0.6 - h) for h in w0] + [(0, h) for h in w0]
    budget = {"type": "ineq", "fun": lambda x: 1 - (w0 + x[:5] - x[5:]).sum()}
    theirs = minimize(loss, np.zeros(10), bounds=bounds, constraints=[budget], method="SLSQP", options={"ftol": 1e-12})
    change = ours - w0
    mine = loss(np.concatenate([np.maximum(change, 0), np.maximum(-change, 0)]))
    assert theirs.success
    assert mine <= theirs.fun + 1e-6  # scaled by 1000: a billionth of a daily return

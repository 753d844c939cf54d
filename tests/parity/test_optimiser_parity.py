"""Posterior, largest Sharpe ratio, least variance and utility with costs against PyPortfolioOpt and skfolio on random problems."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from helios.domain.decisions import FloatArray
from helios.portfolio.black_litterman import Posterior, posterior
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser

TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
DELTA, TAU, CAP = 2.5, 0.05, 0.4
PER_GROUP = 20


@dataclass(frozen=True)
class Case:
    returns: FloatArray
    sigma: FloatArray
    weights: FloatArray
    Q: FloatArray
    confidences: FloatArray

    @property
    def n(self) -> int:
        return len(self.weights)

    @property
    def picks(self) -> FloatArray:
        return np.eye(self.n)[: len(self.Q)]

    def after(self) -> Posterior:
        return posterior(self.sigma, self.weights, self.picks, self.Q, self.confidences, DELTA, TAU)


def case(seed: int, size: int | None = None) -> Case:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 13)) if size is None else size
    n_days = max(80, 3 * n)
    returns = 0.02 * (rng.standard_normal((n_days, n)) @ rng.normal(size=(n, n)) / np.sqrt(n) + rng.standard_normal((n_days, 1)))
    n_views = int(rng.integers(1, n + 1))
    return Case(
        returns, np.cov(returns.T), rng.dirichlet(np.ones(n)), rng.normal(0.001, 0.001, n_views), rng.uniform(0.05, 1.0, n_views)
    )


def cases(group: int, size: int = PER_GROUP) -> list[Case]:
    return [case(1_000 + group * size + i) for i in range(size)]


def sharpe(w: FloatArray, after: Posterior) -> float:
    return float(after.mu @ w / np.sqrt(w @ after.sigma_plus @ w))


def is_long_only_within_cap(w: FloatArray) -> bool:
    return abs(w.sum() - 1.0) <= 1e-8 and bool((w >= -1e-8).all()) and bool((w <= CAP + 1e-8).all())


@pytest.mark.parametrize("group", range(10))
def test_views_to_weights_equal_pypfopts(group: int) -> None:
    pypfopt = pytest.importorskip("pypfopt")
    for c in cases(group):
        after = c.after()
        theirs = pypfopt.BlackLittermanModel(
            c.sigma, pi=DELTA * c.sigma @ c.weights, P=c.picks, Q=c.Q, tau=TAU, risk_aversion=DELTA, omega="idzorek",
            view_confidences=c.confidences,
        )  # fmt: skip
        np.testing.assert_allclose(after.mu, theirs.bl_returns().to_numpy(), rtol=1e-8, atol=1e-13)
        np.testing.assert_allclose(after.sigma_plus, theirs.bl_cov().to_numpy(), rtol=1e-8, atol=1e-13)
        frontier = pypfopt.EfficientFrontier(
            after.mu * 365, after.sigma_plus * 365, weight_bounds=(0, CAP), solver="CLARABEL", solver_options=TIGHT
        )
        frontier.max_sharpe(risk_free_rate=0.0)
        compare(MeanVarianceOptimiser(c.n).max_sharpe(after.mu, after.sigma_plus, Constraints.long_only(c.n, CAP)), frontier, after)


def compare(ours: FloatArray, frontier: object, after: Posterior) -> None:
    theirs = np.asarray(frontier.weights)  # type: ignore[attr-defined]
    assert is_long_only_within_cap(ours)
    assert sharpe(ours, after) == pytest.approx(sharpe(theirs, after), rel=1e-6)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)  # the ratio is flat: a millionth of it is a thousandth of a weight


@pytest.mark.parametrize(("size", "cap"), [(50, CAP), (50, 0.03), (150, CAP), (150, 0.01)])
def test_many_assets_have_the_ratio_of_pypfopts_or_a_better_one(size: int, cap: float) -> None:
    pypfopt = pytest.importorskip("pypfopt")
    after = case(7, size).after()
    # Their variance is scaled to near 1: at a daily scale the solver's absolute tolerance would already accept a poor answer.
    frontier = pypfopt.EfficientFrontier(
        after.mu * 1e4, after.sigma_plus * 1e4, weight_bounds=(0, cap), solver="CLARABEL", solver_options=TIGHT
    )
    frontier.max_sharpe(risk_free_rate=0.0)
    ours, theirs = (
        MeanVarianceOptimiser(size).max_sharpe(after.mu, after.sigma_plus, Constraints.long_only(size, cap)),
        frontier.weights,
    )
    assert abs(ours.sum() - 1.0) <= 1e-8 and (ours >= -1e-8).all() and (ours <= cap + 1e-8).all()
    assert sharpe(ours, after) == pytest.approx(sharpe(np.asarray(theirs), after), rel=1e-6)


@pytest.mark.parametrize("group", range(10))
def test_views_to_weights_equal_skfolios(group: int) -> None:
    pytest.importorskip("skfolio")
    from skfolio.moments import EquilibriumMu
    from skfolio.optimization import MeanRisk, ObjectiveFunction
    from skfolio.prior import BlackLitterman, EmpiricalPrior

    for c in cases(group):
        after = c.after()
        prior = BlackLitterman(
            views=[f"{i} == {q!r}" for i, q in enumerate(c.Q.tolist())],
            groups=[[str(i) for i in range(c.n)]],
            prior_estimator=EmpiricalPrior(mu_estimator=EquilibriumMu(risk_aversion=DELTA, weights=c.weights)),
            tau=TAU,
            view_confidences=c.confidences.copy(),
        )
        theirs = MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_RATIO, max_weights=CAP, prior_estimator=prior, solver_params=TIGHT
        ).fit(c.returns)
        believed = theirs.prior_estimator_.return_distribution_
        np.testing.assert_allclose(after.mu, believed.mu, rtol=1e-8, atol=1e-13)
        np.testing.assert_allclose(after.sigma_plus, believed.covariance, rtol=1e-8, atol=1e-13)
        ours = MeanVarianceOptimiser(c.n).max_sharpe(after.mu, after.sigma_plus, Constraints.long_only(c.n, CAP))
        assert is_long_only_within_cap(ours)
        assert sharpe(ours, after) == pytest.approx(sharpe(theirs.weights_, after), rel=1e-6)


@pytest.mark.parametrize("group", range(2))
def test_least_variance_equals_pypfopts(group: int) -> None:
    pypfopt = pytest.importorskip("pypfopt")
    for c in cases(group):
        ours = MeanVarianceOptimiser(c.n).min_variance(c.sigma, Constraints.long_only(c.n, CAP))
        # Their loss is the variance itself: at a daily scale a solver's absolute tolerance would already accept a poor answer.
        frontier = pypfopt.EfficientFrontier(None, c.sigma * 1e4, weight_bounds=(0, CAP), solver="CLARABEL", solver_options=TIGHT)
        frontier.min_volatility()
        theirs = np.asarray(frontier.weights)
        assert is_long_only_within_cap(ours)
        assert ours @ c.sigma @ ours == pytest.approx(theirs @ c.sigma @ theirs, rel=1e-6)


@pytest.mark.parametrize("group", range(2))
def test_utility_with_costs_and_trade_limits_equals_skfolios(group: int) -> None:
    pytest.importorskip("skfolio")
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    for seed, c in enumerate(cases(group)):
        rng = np.random.default_rng(seed)
        mu, w0 = c.returns.mean(axis=0), rng.dirichlet(np.ones(c.n)) * 0.3
        cost, trade = rng.uniform(0, 0.002, c.n), 0.15
        limits = replace(Constraints.long_only(c.n, CAP), max_trade=np.full(c.n, trade), budget=0.6)
        ours = MeanVarianceOptimiser(c.n).solve(mu, c.sigma, w0, cost, 5.0, limits)
        theirs = MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_UTILITY, risk_aversion=2.5, max_weights=CAP, budget=None, max_budget=0.6,
            transaction_costs=cost, previous_weights=w0, max_turnover=trade, solver_params=TIGHT, scale_objective=1e3,
        ).fit(c.returns)  # fmt: skip

        def utility(w: FloatArray, c: Case = c, mu: FloatArray = mu, w0: FloatArray = w0, cost: FloatArray = cost) -> float:
            return float(mu @ w - 2.5 * w @ c.sigma @ w - cost @ np.abs(w - w0))

        assert ours.sum() <= 0.6 + 1e-8
        assert (np.abs(ours - w0) <= trade + 1e-8).all() and (ours >= 0).all() and (ours <= CAP).all()
        assert utility(ours) == pytest.approx(utility(theirs.weights_), rel=1e-6, abs=1e-10)

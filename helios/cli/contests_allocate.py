"""The work `allocate` of `helios bench`: from views to weights, against PyPortfolioOpt and skfolio."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from helios.cli.contest import Contest, Sizes
from helios.cli.contests import SEED, with_peer
from helios.domain.decisions import FloatArray
from helios.portfolio.black_litterman import posterior
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser

CAP, AVERSION, TAU = 0.4, 2.5, 0.05
_N_DAYS = 400


@dataclass(frozen=True, slots=True)
class _Case:
    """Daily returns, their covariance, and views on the first assets, all a day."""

    returns: FloatArray
    sigma: FloatArray
    P: FloatArray
    Q: FloatArray
    confidences: FloatArray
    weights: FloatArray


def allocate(sizes: Sizes) -> list[Contest]:
    """From views to weights: the posterior, then the largest Sharpe ratio, long only, at most 40 % each."""
    return [contest for n in sizes.assets for contest in _contests(n)]


def _contests(n_assets: int) -> list[Contest]:
    case, optimiser, limits = _case(n_assets), MeanVarianceOptimiser(n_assets), Constraints.long_only(n_assets, CAP)

    def ours(sigma: FloatArray) -> FloatArray:
        after = posterior(sigma, case.weights, case.P, case.Q, case.confidences, delta=AVERSION, tau=TAU)
        return optimiser.max_sharpe(after.mu, after.sigma_plus, limits)

    def from_returns() -> FloatArray:
        return ours(np.cov(case.returns.T))

    def pypfopt(module: ModuleType) -> FloatArray:
        return _pypfopt(module, case)

    def skfolio(module: ModuleType) -> FloatArray:
        return _skfolio(module, case)

    work = f"{n_assets} assets"
    given, estimated = "same problem, from the same covariance", "same problem; both estimate the covariance from returns"
    return [
        Contest(work, "ms", 1, lambda: ours(case.sigma), "PyPortfolioOpt", with_peer("pypfopt", pypfopt), given),
        Contest(work, "ms", 1, from_returns, "skfolio", with_peer("skfolio", skfolio), estimated),
    ]


def _case(n_assets: int) -> _Case:
    rng = np.random.default_rng(SEED)
    returns = rng.standard_normal((_N_DAYS, n_assets)) * 0.02 + rng.standard_normal((_N_DAYS, 1)) * 0.02
    n_views = min(n_assets, 20)
    views, confidences = rng.normal(0.3, 0.1, n_views) / 365, rng.uniform(0.3, 0.9, n_views)
    P, weights = np.eye(n_assets)[:n_views], np.full(n_assets, 1.0 / n_assets)
    return _Case(returns, np.cov(returns.T), P, views, confidences, weights)


def _pypfopt(pypfopt: ModuleType, case: _Case) -> FloatArray:
    model = pypfopt.BlackLittermanModel(
        case.sigma,
        pi=AVERSION * case.sigma @ case.weights,
        P=case.P,
        Q=case.Q,
        tau=TAU,
        risk_aversion=AVERSION,
        omega="idzorek",
        view_confidences=case.confidences,
    )
    frontier = pypfopt.EfficientFrontier(model.bl_returns(), model.bl_cov(), weight_bounds=(0, CAP))
    frontier.max_sharpe(risk_free_rate=0.0)
    weights: FloatArray = np.asarray(frontier.weights)
    return weights


def _skfolio(skfolio: ModuleType, case: _Case) -> FloatArray:
    prior, optimization = importlib.import_module("skfolio.prior"), importlib.import_module("skfolio.optimization")
    moments = importlib.import_module("skfolio.moments")
    believed = prior.BlackLitterman(
        views=[f"{i} == {view!r}" for i, view in enumerate(case.Q.tolist())],
        groups=[[str(i) for i in range(len(case.weights))]],
        prior_estimator=prior.EmpiricalPrior(mu_estimator=moments.EquilibriumMu(risk_aversion=AVERSION, weights=case.weights)),
        tau=TAU,
        view_confidences=case.confidences,
    )
    best = optimization.MeanRisk(
        objective_function=optimization.ObjectiveFunction.MAXIMIZE_RATIO, max_weights=CAP, prior_estimator=believed
    )
    weights: FloatArray = np.asarray(best.fit(case.returns).weights_)
    return weights

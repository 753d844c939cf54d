"""Metamorphic properties of the optimiser and the reviewer: what must hold between two answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.decisions import FloatArray
from helios.domain.enums import VerdictKind
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser
from helios.review.rules import RuleReviewer
from helios.review.schema import clip
from tests.support.review_values import make_account, make_plan, make_request

N = 4
SOLVER = MeanVarianceOptimiser(N)
GAMMA = 2.5
SMALL = 1e-6
seeds = st.integers(0, 10_000)


def problem(seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    sigma = np.cov(rng.normal(0, 0.03, (60, N)), rowvar=False)
    return rng.normal(0.001, 0.004, N), sigma, rng.dirichlet(np.ones(N)) * rng.uniform(0, 0.9)


def limits(cap: float = 0.6) -> Constraints:
    sectors = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    return replace(Constraints.long_only(N, 1.0), upper=np.full(N, cap), sector_matrix=sectors, sector_cap=np.full(2, 0.8))


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0, 0.005), st.floats(0, 0.005))
def test_a_higher_cost_never_raises_turnover(seed: int, cost: float, more: float) -> None:
    mu, sigma, w0 = problem(seed)
    cheap = SOLVER.solve(mu, sigma, w0, np.full(N, cost), GAMMA, limits(1.0))
    dear = SOLVER.solve(mu, sigma, w0, np.full(N, cost + more), GAMMA, limits(1.0))
    assert np.abs(dear - w0).sum() <= np.abs(cheap - w0).sum() + SMALL


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.05, 0.6), st.floats(0.1, 1.0))
def test_a_tighter_cap_never_gives_more_exposure_to_an_asset_at_its_cap(seed: int, cap: float, share: float) -> None:
    mu, sigma, _ = problem(seed)
    zero = np.zeros(N)
    loose = SOLVER.solve(mu, sigma, zero, zero, GAMMA, limits(cap))
    tight = SOLVER.solve(mu, sigma, zero, zero, GAMMA, limits(cap * share))
    assert tight.max() <= max(loose.max(), 0) + SMALL
    assert tight.max() <= cap * share + SMALL


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.1, 1.0))
def test_a_tighter_budget_never_gives_more_total_exposure(seed: int, budget: float) -> None:
    mu, sigma, _ = problem(seed)
    zero = np.zeros(N)
    loose = SOLVER.solve(mu, sigma, zero, zero, GAMMA, limits())
    tight = SOLVER.solve(mu, sigma, zero, zero, GAMMA, replace(limits(), budget=budget))
    assert tight.sum() <= min(loose.sum(), budget) + SMALL


@settings(max_examples=20, deadline=None)
@given(seeds, st.permutations(range(N)))
def test_permuted_assets_permute_the_answer(seed: int, order: list[int]) -> None:
    mu, sigma, w0 = problem(seed)
    cost, base = np.full(N, 0.001), limits()
    straight = SOLVER.solve(mu, sigma, w0, cost, GAMMA, base)
    turned = replace(base, sector_matrix=base.sector_matrix[:, order])
    permuted = SOLVER.solve(mu[order], sigma[np.ix_(order, order)], w0[order], cost, GAMMA, turned)
    np.testing.assert_allclose(permuted, straight[order], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.05, 0.6))
def test_every_answer_keeps_every_limit_and_is_no_worse_than_doing_nothing(seed: int, cap: float) -> None:
    mu, sigma, w0 = problem(seed)
    w0 = np.minimum(w0, cap)
    w = SOLVER.solve(mu, sigma, w0, np.full(N, 0.001), GAMMA, limits(cap))
    assert (w >= -SMALL).all()
    assert (w <= cap + SMALL).all()
    assert (limits().sector_matrix @ w <= np.maximum(0.8, limits().sector_matrix @ w0) + SMALL).all()
    assert w.sum() <= 1 + SMALL

    def utility(x: FloatArray) -> float:
        return float(mu @ x - GAMMA / 2 * x @ sigma @ x - 0.001 * np.abs(x - w0).sum())

    if (limits().sector_matrix @ w0 <= 0.8).all():
        assert utility(w) >= utility(w0) - 1e-9


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["APPROVE", "EXECUTE", "MODIFY", "APPROVE_REDUCED", "REJECT"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(min_size=1),
    st.lists(st.text()),
)
def test_no_answer_of_a_model_enlarges_a_plan(decision: str, multiplier: float, words: str, flags: list[str]) -> None:
    raw = {"decision": decision, "size_multiplier": multiplier, "reasoning": words, "risk_flags": flags, "leverage": 9}
    verdict = clip(raw, make_plan(), "m")
    assert 0.0 <= verdict.multiplier <= 1.0
    assert (verdict.kind is VerdictKind.REJECT) == (verdict.multiplier == 0.0)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 1), st.floats(0, 0.3), st.floats(0, 0.5), st.integers(0, 100_000), st.floats(0, 0.1))
def test_more_volatility_or_drawdown_never_raises_the_rules_multiplier(
    confidence: float, volatility: float, drawdown: float, invested: int, worse: float
) -> None:
    def multiplier(vol: float, down: float) -> float:
        plan = make_plan(confidence=confidence, daily_volatility=vol)
        return RuleReviewer().review(make_request(plan, account=make_account(down, invested)))[0].multiplier

    assert multiplier(volatility + worse, drawdown + worse) <= multiplier(volatility, drawdown)

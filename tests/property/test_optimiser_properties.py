"""Metamorphic properties of the optimiser and the reviewer: what must hold between two answers."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from decimal import Decimal
from typing import Any

import cvxpy
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.decisions import FloatArray
from helios.domain.enums import VerdictKind
from helios.errors import SolverError
from helios.portfolio.active_set import ActiveSet
from helios.portfolio.constraints import region
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser
from helios.portfolio.problems import UtilityProblem
from helios.portfolio.rounding import round_to_lots
from helios.review.rules import RuleReviewer
from helios.review.schema import clip
from tests.support.review_values import make_account, make_plan, make_request

cp: Any = cvxpy
N = 4
SOLVER = MeanVarianceOptimiser(N)
SIZED = {n: MeanVarianceOptimiser(n) for n in range(1, 5)}
GAMMA = 2.5
SMALL = 1e-8
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
    np.testing.assert_allclose(permuted, straight[order], atol=1e-8)


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


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.0, 0.5), st.floats(0.0, 1.0))
def test_a_tighter_turnover_never_trades_more(seed: int, turnover: float, share: float) -> None:
    mu, sigma, w0 = problem(seed)
    cost = np.full(N, 0.0005)
    loose = SOLVER.solve(mu, sigma, w0, cost, GAMMA, replace(limits(1.0), sector_cap=np.ones(2), turnover=turnover))
    tight = SOLVER.solve(mu, sigma, w0, cost, GAMMA, replace(limits(1.0), sector_cap=np.ones(2), turnover=turnover * share))
    assert np.abs(loose - w0).sum() <= turnover + 1e-8
    assert np.abs(tight - w0).sum() <= min(np.abs(loose - w0).sum(), turnover * share) + 1e-8


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.05, 1.5), st.floats(0.1, 1.0))
def test_a_tighter_leverage_never_gives_more_gross_exposure(seed: int, gross: float, share: float) -> None:
    mu, sigma, _ = problem(seed)
    both, zero = replace(limits(), lower=np.full(N, -0.6), funded=np.zeros(N), sector_cap=np.full(2, 1.2)), np.zeros(N)
    loose = SOLVER.solve(mu, sigma, zero, zero, GAMMA, replace(both, gross_cap=gross))
    tight = SOLVER.solve(mu, sigma, zero, zero, GAMMA, replace(both, gross_cap=gross * share))
    assert np.abs(tight).sum() <= min(np.abs(loose).sum(), gross * share) + 1e-8


@settings(max_examples=20, deadline=None)
@given(seeds, st.permutations(range(N)))
def test_permuted_assets_permute_ratio_and_variance(seed: int, order: list[int]) -> None:
    mu, sigma, _ = problem(seed)
    mu[0] = 2 * np.abs(mu).sum() + 0.001  # at 40 % of it whatever else is bought, the whole still earns something
    base = Constraints.long_only(N, 0.4)
    turned = sigma[np.ix_(order, order)]
    np.testing.assert_allclose(SOLVER.max_sharpe(mu[order], turned, base), SOLVER.max_sharpe(mu, sigma, base)[order], atol=1e-7)
    np.testing.assert_allclose(SOLVER.min_variance(turned, base), SOLVER.min_variance(sigma, base)[order], atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.01, 100.0))
def test_the_ratio_does_not_depend_on_the_unit_of_time(seed: int, days: float) -> None:
    mu, sigma, _ = problem(seed)
    mu[0] = 2 * np.abs(mu).sum() + 0.001  # at 40 % of it whatever else is bought, the whole still earns something
    base = Constraints.long_only(N, 0.4)
    np.testing.assert_allclose(SOLVER.max_sharpe(mu * days, sigma * days, base), SOLVER.max_sharpe(mu, sigma, base), atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 9), st.booleans(), st.booleans())
def test_the_answer_is_what_cvxpy_says(seed: int, n: int, is_limited: bool, has_shorts: bool) -> None:
    mu, sigma, w0, cost, rule = any_problem(seed, n, is_limited, has_shorts)
    ours = MeanVarianceOptimiser(n).solve(mu, sigma, w0, cost, GAMMA, rule)
    theirs = plainly(mu, sigma, w0, cost, rule)
    assert theirs is not None

    def utility(x: FloatArray) -> float:
        return float(mu @ x - GAMMA / 2 * x @ sigma @ x - cost @ np.abs(x - w0))

    assert region(rule, w0).violation(ours) <= 1e-8
    assert abs(utility(ours) - utility(theirs)) <= 1e-6 * abs(utility(theirs)) + 1e-10
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


SINGULAR = {
    "no risk": lambda n, rng: np.zeros((n, n)),
    "some without risk": lambda n, rng: np.diag(rng.choice([0.0, 1e-3], n)),
    "copies": lambda n, rng: np.full((n, n), 1e-3),
    "one factor": lambda n, rng: np.outer(*[rng.normal(0, 0.03, n)] * 2),
}


@settings(max_examples=80, deadline=None)
@given(
    seeds, st.integers(1, 7), st.sampled_from(sorted(SINGULAR)), st.sampled_from([0.2, 0.25, 1.0]), st.sampled_from([0.0, 0.2, 9.0])
)
def test_ties_copies_and_caps_that_leave_little_have_the_value_that_cvxpy_says(
    seed: int, n: int, kind: str, cap: float, turnover: float
) -> None:
    rng = np.random.default_rng(seed)
    sigma, mu, cost = SINGULAR[kind](n, rng), rng.choice([0.0, 0.001, 0.002, -0.001], n), rng.choice([0.0, 0.001], n)
    w0 = rng.choice([0.0, 0.1, 0.2], n)
    w0 /= max(w0.sum(), 1.0)
    sectors = (np.arange(n) % 2 == np.arange(2)[:, None]).astype(float)
    rule = replace(
        Constraints.long_only(n, cap), sector_matrix=sectors, sector_cap=rng.choice([0.4, 0.6, 1.0], 2), turnover=turnover,
        max_trade=np.full(n, 1.0), budget=float(rng.choice([0.5, 1.0])),
    )  # fmt: skip
    try:
        ours = MeanVarianceOptimiser(n).solve(mu, sigma, w0, cost, GAMMA, rule)
    except SolverError:
        assert plainly(mu, sigma, w0, cost, rule) is None
        return
    theirs = plainly(mu, sigma, w0, cost, rule)

    def utility(x: FloatArray) -> float:
        return float(mu @ x - GAMMA / 2 * x @ sigma @ x - cost @ np.abs(x - w0))

    assert region(rule, w0).violation(ours) <= 1e-8
    if theirs is not None:
        assert abs(utility(ours) - utility(theirs)) <= 1e-6 * abs(utility(theirs)) + 1e-9


def any_problem(
    seed: int, n: int, is_limited: bool, has_shorts: bool
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, Constraints]:
    """Sectors, budget, leverage and caps around weights that keep them; turnover and trade limits where `is_limited`."""
    rng = np.random.default_rng(seed)
    sigma = np.cov((rng.normal(0, 0.02, (3 * n + 5, n)) + rng.normal(0, 0.02, (3 * n + 5, 1))).T).reshape(n, n)
    lower = np.where(rng.random(n) < 0.4, -0.4, 0.0) if has_shorts else np.zeros(n)
    w0 = rng.dirichlet(np.ones(n)) * 0.7 * np.where(lower < 0, rng.choice([-1.0, 1.0], n), 1.0)
    k = max(n // 3, 1)
    sectors = (np.arange(n) % k == np.arange(k)[:, None]).astype(float)
    rule = Constraints(
        np.minimum(lower, w0), np.full(n, max(0.35, np.abs(w0).max())), sectors, np.maximum(0.4, sectors @ np.abs(w0)),
        (lower == 0).astype(float), budget=0.8, gross_cap=1.0,
    )  # fmt: skip
    if is_limited:
        rule = replace(rule, turnover=0.3, max_trade=rng.uniform(0.05, 0.3, n))
    return rng.normal(0.001, 0.004, n), sigma, w0, rng.uniform(0.0, 0.003, n), rule


def plainly(mu: FloatArray, sigma: FloatArray, w0: FloatArray, cost: FloatArray, rule: Constraints) -> FloatArray | None:
    """State the problem anew, without anything of ours; None where it has no answer."""
    w = cp.Variable(len(mu))
    gain = 1e3 * mu @ w - 1e3 * GAMMA / 2 * cp.quad_form(w, cp.psd_wrap(sigma)) - 1e3 * cost @ cp.abs(w - w0)
    kept = [w >= rule.lower, w <= rule.upper, rule.sector_matrix @ cp.abs(w) <= rule.sector_cap, rule.funded @ w <= rule.budget]
    kept += [cp.norm1(w) <= rule.gross_cap]
    if rule.max_trade is not None:
        kept += [cp.abs(w - w0) <= rule.max_trade, cp.norm1(w - w0) <= rule.turnover]
    problem = cp.Problem(cp.Maximize(gain), kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of accuracy that is near enough for a comparison
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return np.asarray(w.value) if problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE) else None


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 8), st.booleans())
def test_every_way_to_the_answer_gives_the_same(seed: int, n: int, has_shorts: bool) -> None:
    mu, sigma, w0, cost, rule = any_problem(seed, n, True, has_shorts)
    within = region(rule, w0)
    ours = MeanVarianceOptimiser(n).solve(mu, sigma, w0, cost, GAMMA, rule)
    scale = float(np.abs(mu).max())
    exact = ActiveSet(sigma * GAMMA / scale, mu / scale, cost / scale, within)
    walked, leapt = exact.walk(np.clip(w0, within.lower, within.upper)), exact.leap(exact.nearest(ours, 1e-7))
    compiled = UtilityProblem(n, len(within.gross_caps))
    compiled.cost.value = cost / scale
    compiled.bind(mu / scale, within)
    inside = compiled.solved(sigma * GAMMA / scale)
    for other in (w for w in (walked, leapt) if w is not None):
        np.testing.assert_allclose(other, ours, atol=1e-9)
    np.testing.assert_allclose(inside, ours, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.floats(-24, 12),
    st.floats(-15, 12),
    st.sampled_from([0.0, 1e-9, 2.5, 1e9]),
    st.sampled_from([0.0, 1e-9, 0.3, math.inf]),
    st.sampled_from([0.0, 1e-7, 1.0, 50.0]),
)
def test_hostile_numbers_give_allowed_weights_or_the_error_that_keeps_the_present_ones(
    n: int, risk: float, gain: float, gamma: float, turnover: float, budget: float
) -> None:
    rng = np.random.default_rng(n)
    sigma, mu = np.cov(rng.normal(size=(10, n)).T).reshape(n, n) * 10.0**risk, rng.normal(size=n) * 10.0**gain
    rule, w0 = replace(Constraints.long_only(n, 0.6), turnover=turnover, budget=budget), np.full(n, 0.1)
    works = [
        (rule, lambda: SIZED[n].solve(mu, sigma, w0, np.full(n, 0.001), gamma, rule)),
        (replace(rule, turnover=math.inf), lambda: SIZED[n].max_sharpe(mu, sigma, replace(rule, turnover=math.inf))),
        (replace(rule, turnover=math.inf), lambda: SIZED[n].min_variance(sigma, replace(rule, turnover=math.inf))),
    ]
    for kept, work in works:
        try:
            w = work()
        except SolverError:
            continue
        assert region(kept, w0).violation(w) <= 1e-8


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 8), st.booleans(), st.sampled_from(["0.001", "1", "7"]), st.integers(0, 80))
def test_whole_lots_stay_within_every_limit(seed: int, n: int, has_shorts: bool, lot: str, smallest: int) -> None:
    mu, sigma, w0, cost, rule = any_problem(seed, n, False, has_shorts)
    w = MeanVarianceOptimiser(n).solve(mu, sigma, w0, cost, GAMMA, rule)
    prices = [Decimal(int(p)) for p in np.random.default_rng(seed).integers(1, 20, n)]
    lots, equity = [Decimal(lot)] * n, Decimal(1_000)
    q = round_to_lots(w, w0, prices, lots, Decimal(smallest), equity, rule)
    after = w0 + np.array([float(x * p / equity) for x, p in zip(q, prices, strict=True)])
    within = region(rule, w0)
    assert within.violation(after) <= max(within.violation(w0), 0.0) + 1e-12
    assert (np.abs(after - w0) <= np.abs(w - w0) + 1e-12).all()
    assert all(x % step == 0 and (x == 0 or abs(x) * p >= smallest) for x, p, step in zip(q, prices, lots, strict=True))


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

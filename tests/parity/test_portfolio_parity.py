"""Covariances, posterior, minimum variance, risk parity and the frontier against PyPortfolioOpt, skfolio and scikit-learn."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helios.cli.app import main
from helios.domain.decisions import FloatArray
from helios.portfolio.black_litterman import posterior
from helios.portfolio.covariance import estimate
from helios.portfolio.frontier import efficient_frontier, maximum_diversification, minimum_variance, risk_parity
from helios.portfolio.views import View, view_matrix

pypfopt = pytest.importorskip("pypfopt")
skfolio = pytest.importorskip("skfolio")
pd = pytest.importorskip("pandas")

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded")) / "binance-spot-5m-2025"
N_PROBLEMS = 200


def correlated_returns(seed: int, n_assets: int = 8, n_rows: int = 90) -> FloatArray:
    rng = np.random.default_rng(seed)
    returns: FloatArray = rng.normal(0, 0.03, (n_rows, n_assets)) @ (np.eye(n_assets) + 0.4 * rng.random((n_assets, n_assets)))
    return returns


def relative_error(ours: FloatArray, theirs: FloatArray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def theirs(name: str, returns: FloatArray) -> FloatArray:
    from pypfopt.risk_models import CovarianceShrinkage
    from skfolio.moments import EmpiricalCovariance, EWCovariance

    shrinkage = CovarianceShrinkage(pd.DataFrame(returns), returns_data=True, frequency=1)
    made = {
        "sample": lambda: EmpiricalCovariance().fit(returns).covariance_,
        "ledoit_wolf": lambda: shrinkage.ledoit_wolf().to_numpy(),
        "oas": lambda: shrinkage.oracle_approximating().to_numpy(),
        "constant_correlation": lambda: shrinkage.ledoit_wolf("constant_correlation").to_numpy(),
        "ewma": lambda: EWCovariance(half_life=30).fit(returns).covariance_,
    }
    covariance: FloatArray = made[name]()
    return covariance


@pytest.mark.parametrize("name", ["sample", "ledoit_wolf", "oas", "constant_correlation", "ewma"])
@pytest.mark.parametrize("shape", [(90, 8), (40, 30), (35, 1), (60, 2)], ids=str)
def test_covariances_equal_the_libraries(name: str, shape: tuple[int, int]) -> None:
    if name == "constant_correlation" and shape[1] == 1:
        return  # PyPortfolioOpt divides by zero for one asset; ours is in the unit tests
    for seed in range(3):
        returns = correlated_returns(seed, shape[1], shape[0])
        assert relative_error(estimate(returns, name), theirs(name, returns)) < 1e-12


def random_views(rng: np.random.Generator, names: list[str]) -> tuple[list[View], list[str]]:
    """Views, and the same as skfolio's equations; each asset is the first of at most one, so that none repeats another."""
    views, equations = [], []
    order = rng.permutation(len(names))
    for first, second in pairwise(order):
        a, b, q, c = names[first], names[second], float(rng.normal(0, 0.01)), float(rng.uniform(0.02, 1))
        is_relative = rng.random() < 0.5
        views.append(View.relative(a, b, q, c) if is_relative else View.absolute(a, q, c))
        equations.append(f"{a} - {b} = {q!r}" if is_relative else f"{a} = {q!r}")
    kept = int(rng.integers(1, len(views) + 1))
    return views[:kept], equations[:kept]


def test_two_hundred_posteriors_equal_pypfopts_and_skfolios() -> None:
    from skfolio.moments import EmpiricalCovariance, EquilibriumMu
    from skfolio.prior import BlackLitterman, EmpiricalPrior

    worst = 0.0
    for seed in range(N_PROBLEMS):
        rng = np.random.default_rng(seed)
        names = [f"A{i}" for i in range(int(rng.integers(3, 9)))]
        returns = correlated_returns(seed, len(names), 60)
        sigma, w = np.cov(returns, rowvar=False), rng.dirichlet(np.ones(len(names)))
        delta, tau = float(rng.uniform(1, 5)), float(rng.choice([0.01, 0.025, 0.05, 1 / 60]))
        views, equations = random_views(rng, names)
        m = view_matrix(views, names)
        ours = posterior(sigma, w, m.P, m.Q, m.confidences, delta, tau)
        first = pypfopt.BlackLittermanModel(
            sigma, pi=delta * sigma @ w, P=m.P, Q=m.Q, tau=tau, omega="idzorek", view_confidences=m.confidences
        )
        second = BlackLitterman(
            views=equations,
            tau=tau,
            view_confidences=m.confidences.copy(),
            prior_estimator=EmpiricalPrior(
                mu_estimator=EquilibriumMu(risk_aversion=delta, weights=w), covariance_estimator=EmpiricalCovariance()
            ),
        )
        second = second.fit(pd.DataFrame(returns, columns=names)).return_distribution_
        for mu, covariance in ((first.bl_returns().to_numpy(), first.bl_cov().to_numpy()), (second.mu, second.covariance)):
            worst = max(worst, relative_error(ours.mu, mu), relative_error(ours.sigma_plus, covariance))
    assert worst < 1e-12


@pytest.mark.parametrize("cap", [1.0, 0.25])
def test_minimum_variance_equals_pypfopts(cap: float) -> None:
    for seed in range(5):
        sigma = np.cov(correlated_returns(seed), rowvar=False)
        frontier = pypfopt.EfficientFrontier(None, sigma, weight_bounds=(0, cap))
        frontier.min_volatility()
        ours, reference = minimum_variance(sigma, cap), np.asarray(frontier.weights)
        np.testing.assert_allclose(ours, reference, atol=2e-4)
        assert ours @ sigma @ ours <= reference @ sigma @ reference * (1 + 1e-7)  # no worse, so the rest is their tolerance


def test_risk_parity_with_budgets_equals_skfolios() -> None:
    from skfolio.optimization import RiskBudgeting

    for seed in range(3):
        returns, budgets = correlated_returns(seed), np.random.default_rng(seed).uniform(0.2, 2, 8)
        reference = RiskBudgeting(risk_budget=budgets, solver="CLARABEL").fit(returns).weights_
        np.testing.assert_allclose(risk_parity(np.cov(returns, rowvar=False), budgets), reference, atol=1e-4)


def test_maximum_diversification_equals_skfolios() -> None:
    from skfolio.optimization import MaximumDiversification

    for seed in range(3):
        returns = correlated_returns(seed)
        reference = MaximumDiversification(solver="CLARABEL").fit(returns).weights_
        np.testing.assert_allclose(maximum_diversification(np.cov(returns, rowvar=False)), reference, atol=2e-4)


def test_points_of_the_frontier_are_pypfopts_portfolios_of_that_return() -> None:
    sigma, mu = np.cov(correlated_returns(1), rowvar=False), np.random.default_rng(1).normal(0.001, 0.002, 8)
    for w in efficient_frontier(mu, sigma, 6, 0.4)[1:-1]:
        reference = pypfopt.EfficientFrontier(mu, sigma, weight_bounds=(0, 0.4))
        reference.efficient_return(float(mu @ w))
        best = np.asarray(reference.weights)
        assert w @ sigma @ w == pytest.approx(best @ sigma @ best, rel=1e-5)


def allocated(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["helios", "allocate", "--candles", str(RECORDED), "--json", *options])
    assert main() == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def recorded_daily() -> Any:
    """Daily closes by pandas alone."""
    frames = {}
    for file in sorted(RECORDED.glob("*_5m.parquet")):
        series = pd.read_parquet(file).set_index("ts")["close"]
        frames[file.name.removesuffix("USDT_5m.parquet") + "/USDT"] = series.resample("1D").last()
    return pd.DataFrame(frames)


@pytest.mark.realdata
@pytest.mark.skipif(not RECORDED.exists(), reason="recorded candles are not here")
def test_weights_on_recorded_candles_are_pypfopts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [
        {"asset": "SOL/USDT", "return": 0.9, "confidence": 0.6},
        {"long": "ETH/USDT", "short": "BTC/USDT", "return": 0.03, "horizon_days": 30, "confidence": 0.4},
    ]
    (tmp_path / "views.json").write_text(json.dumps(views))
    monkeypatch.chdir(tmp_path)
    options = ("--views", str(tmp_path / "views.json"), "--max-position", "0.4", "--max-sector", "1")
    answer = allocated(capsys, monkeypatch, *options)
    returns = recorded_daily().pct_change().iloc[-90:]
    sigma = pypfopt.risk_models.CovarianceShrinkage(returns, returns_data=True, frequency=1).ledoit_wolf()
    prior = pd.Series({a["symbol"]: a["prior_weight"] for a in answer["assets"]})
    P = pd.DataFrame(0.0, index=range(2), columns=sigma.columns)
    P.loc[0, "SOL/USDT"], P.loc[1, ["ETH/USDT", "BTC/USDT"]] = 1.0, [1.0, -1.0]
    model = pypfopt.BlackLittermanModel(
        sigma, pi=2.5 * sigma @ prior, P=P.to_numpy(), Q=np.array([0.9 / 365, 0.03 / 30]), tau=0.025, omega="idzorek",
        view_confidences=np.array([0.6, 0.4]),
    )  # fmt: skip
    frontier = pypfopt.EfficientFrontier(365 * model.bl_returns(), 365 * model.bl_cov(), weight_bounds=(0, 0.4))
    frontier.max_sharpe(risk_free_rate=0.0)
    earned, volatility, sharpe = frontier.portfolio_performance(risk_free_rate=0.0)
    np.testing.assert_allclose([a["posterior_return"] for a in answer["assets"]], 365 * model.bl_returns(), rtol=1e-9)
    np.testing.assert_allclose([a["weight"] for a in answer["assets"]], frontier.weights, atol=2e-3)
    assert answer["portfolio"]["sharpe"] == pytest.approx(sharpe, rel=1e-5)
    assert answer["portfolio"]["volatility"] == pytest.approx(volatility, rel=2e-3)
    assert answer["portfolio"]["expected_return"] == pytest.approx(earned, rel=2e-3)


@pytest.mark.realdata
@pytest.mark.skipif(not RECORDED.exists(), reason="recorded candles are not here")
def test_without_views_and_caps_the_best_sharpe_is_the_prior(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = allocated(capsys, monkeypatch, "--max-position", "1", "--max-sector", "1")
    for asset in answer["assets"]:
        assert asset["weight"] == pytest.approx(asset["prior_weight"], abs=1e-5)
        assert asset["posterior_return"] == pytest.approx(asset["prior_return"])

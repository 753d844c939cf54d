"""Tier 3's volatility against `arch` itself, and risk measures against their plain definitions elsewhere."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from arch import arch_model
from arch.univariate import GARCH, StudentsT, ZeroMean

from helios.config import RiskConfig
from helios.domain.decisions import FloatArray
from helios.numerics import one_thread
from helios.risk.garch import filter_variance, fit_garch, sum_of_variances, variance_path
from helios.risk.regimes import ForecastHistory
from helios.risk.volatility import VolatilityModel
from helios.risk.walk_forward import walk_forward

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded"))


def simulated(n: int, seed: int, omega: float = 0.0008, alpha: float = 0.06, beta: float = 0.92) -> FloatArray:
    model = ZeroMean(None, volatility=GARCH(1, 0, 1), distribution=StudentsT(seed=seed), rescale=False)
    values: FloatArray = model.simulate([omega, alpha, beta, 6.0], n)["data"].to_numpy()
    return values


def reference(returns_pct: FloatArray, **options: float):  # type: ignore[no-untyped-def]
    model = arch_model(returns_pct, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    with one_thread():  # sums in another order end the optimiser's path at another last digit
        return model, model.fit(disp="off", show_warning=False, options=options)


def unit_rms(returns_pct: FloatArray) -> tuple[FloatArray, float]:
    scale = math.sqrt(float(np.mean(returns_pct**2)))
    return returns_pct / scale, scale


@pytest.mark.parametrize("seed", [1, 4])
def test_parameters_variances_and_forecasts_equal_archs_own_fit(seed: int) -> None:
    returns = simulated(4000, seed)
    scaled, scale = unit_rms(returns)
    model, result = reference(scaled)
    ours, theirs = fit_garch(returns), result.params.to_numpy()
    np.testing.assert_allclose([ours.omega / scale**2, ours.alpha, ours.beta, ours.nu], theirs, rtol=1e-8)
    variances = filter_variance(returns, ours)
    np.testing.assert_allclose(variances[:-1], (result.conditional_volatility * scale) ** 2, rtol=1e-8)
    steps = result.forecast(horizon=288, reindex=False).variance.to_numpy()[0] * scale**2
    np.testing.assert_allclose(variance_path(float(variances[-1]), ours, 288), steps, rtol=1e-8)
    np.testing.assert_allclose(sum_of_variances(variances[-1:], ours, 288), [steps.sum()], rtol=1e-8)
    assert model.volatility.name == "GARCH"


@pytest.mark.parametrize("seed", [1, 4])
def test_the_maximum_is_no_lower_than_archs_with_a_tight_tolerance(seed: int) -> None:
    returns = simulated(4000, seed)
    ours = fit_garch(returns)
    model, result = reference(returns, ftol=1e-12)
    attained = model.fit(disp="off", show_warning=False, starting_values=[ours.omega, ours.alpha, ours.beta, ours.nu])
    assert attained.loglikelihood >= result.loglikelihood - 1e-3


@pytest.mark.parametrize(("factor", "rtol"), [(0.001, 1e-4), (0.37, 1e-4), (2.0, 0.0), (1024.0, 0.0)])
def test_returns_times_k_give_k_times_the_volatility(factor: float, rtol: float) -> None:
    # Exactly so for powers of two; otherwise the optimiser magnifies the last digit of the scaled returns, within its tolerance.
    returns = simulated(1500, 3)
    daily = []
    for each in (returns, factor * returns):
        parameters = fit_garch(each)
        daily.append(math.sqrt(sum_of_variances(float(filter_variance(each, parameters)[-1]), parameters, 288)))
    assert daily[1] == pytest.approx(factor * daily[0], rel=rtol or 1e-15)


def simulated_side_by_side(n_series: int, n: int, omega: float, alpha: float, beta: float, nu: float) -> FloatArray:
    # A recursion over all series at once: arch's own simulator takes longer than the fits.
    draws = np.random.default_rng(8).standard_t(nu, (n + 500, n_series)) * math.sqrt((nu - 2) / nu)
    returns, variance = np.empty_like(draws), np.full(n_series, omega / (1 - alpha - beta))
    for i, draw in enumerate(draws):
        returns[i] = np.sqrt(variance) * draw
        variance = omega + alpha * returns[i] ** 2 + beta * variance
    return returns[500:].T.copy()


@pytest.mark.slow
def test_true_parameters_lie_in_the_95_percent_interval_as_often_as_they_should() -> None:
    # 200 series of 1,200 bars; intervals from arch's classic standard errors (inverse Hessian) at our estimates, the right ones
    # where the errors are what the model says. Per parameter the count is binomial(200, 0.95): between 180 and 198 with
    # probability 0.997. A maximum likelihood interval is only asymptotically 95 %, hence the wider lower bound of 176.
    truth = np.array([0.06, 0.12, 0.82, 6.0])
    hits = np.zeros(4)
    for returns in simulated_side_by_side(200, 1200, *truth):
        scaled, scale = unit_rms(returns)
        ours = fit_garch(returns)
        at_ours = np.array([ours.omega / scale**2, ours.alpha, ours.beta, ours.nu])
        model = arch_model(scaled, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
        model._adjust_sample(None, None)  # what its fit would do first
        errors = np.sqrt(np.diag(model.compute_param_cov(at_ours, backcast=ours.backcast / scale**2, robust=False)))
        hits += np.abs(at_ours - truth / [scale**2, 1, 1, 1]) <= 1.96 * errors
    assert np.all(hits >= 176), hits
    assert np.all(hits <= 198), hits


def test_filter_and_daily_forecast_equal_archs_at_the_same_parameters() -> None:
    returns = simulated(2000, 2)
    ours = fit_garch(returns)
    model, _ = reference(returns)
    fixed = model.fix([ours.omega, ours.alpha, ours.beta, ours.nu])
    variances = filter_variance(returns, ours)
    np.testing.assert_allclose(variances[:-1], fixed.conditional_volatility**2, rtol=1e-10)
    steps = fixed.forecast(horizon=288, reindex=False).variance.to_numpy()[0]
    np.testing.assert_allclose(variance_path(float(variances[-1]), ours, 288), steps, rtol=1e-10)
    np.testing.assert_allclose(sum_of_variances(variances[-1:], ours, 288), [steps.sum()], rtol=1e-10)


def test_model_forecast_equals_arch_end_to_end() -> None:
    returns = simulated(3000, 5)
    model = VolatilityModel(RiskConfig(ewma_weight=0.0))
    model.seed(np.exp(np.concatenate([[0.0], np.cumsum(returns / 100)])), 0)
    scaled, scale = unit_rms(returns)
    _, result = reference(scaled)
    steps = result.forecast(horizon=288, reindex=False).variance.to_numpy()[0] * scale**2
    # The model sees returns of closes, equal to these to some 1e-14; the optimiser makes a little more of that.
    assert model.forecast().daily_volatility == pytest.approx(math.sqrt(steps.sum()) / 100, rel=1e-6)


def test_simulated_parameters_are_recovered() -> None:
    ours = fit_garch(simulated(43_200, 11))  # thirty days of minutes
    assert ours.alpha == pytest.approx(0.06, abs=0.015)
    assert ours.beta == pytest.approx(0.92, abs=0.02)
    assert ours.nu == pytest.approx(6.0, abs=0.8)
    assert ours.omega / (1 - ours.persistence) == pytest.approx(0.04, rel=0.15)


def test_quantiles_equal_numpys() -> None:
    values = np.random.default_rng(0).lognormal(size=333)
    history = ForecastHistory(200)
    for value in values:
        history.append(float(value))
    for q in (0.25, 0.75, 0.95):
        assert history.quantile(q) == pytest.approx(np.quantile(values[-200:], q), rel=1e-12)
    assert history.mean() == pytest.approx(values[-200:].mean(), rel=1e-12)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "end"), [("ETHUSDT", 9000), ("SOLUSDT", 9000), ("BNBUSDT", 50_000)])
def test_on_recorded_prices_the_likelihood_is_no_worse_than_archs(name: str, end: int) -> None:
    path = RECORDED / "binance-spot-5m-2025" / f"{name}_5m.parquet"
    if not path.exists():
        pytest.skip(f"recorded prices are not at {path.parent}")
    closes = pl.read_parquet(path, columns=["close"])["close"].to_numpy()[end - 8641 : end]
    returns = 100 * np.diff(np.log(closes))
    ours = fit_garch(returns)
    model, result = reference(returns)
    at_ours = model.fit(disp="off", show_warning=False, starting_values=[ours.omega, ours.alpha, ours.beta, ours.nu])
    assert at_ours.loglikelihood >= result.loglikelihood - 1e-2


@pytest.mark.realdata
@pytest.mark.slow
def test_the_skill_report_says_of_recorded_prices_what_the_losses_say() -> None:
    # Not that the model wins: that what is reported is what an independent computation from the closes finds.
    path = RECORDED / "binance-spot-5m-2025" / "BTCUSDT_5m.parquet"
    if not path.exists():
        pytest.skip(f"recorded prices are not at {path.parent}")
    closes = pl.read_parquet(path, columns=["close"])["close"].to_numpy()[:20_000]
    end = 1_735_603_200_000_000_000 + closes.size * 300_000_000_000
    report = walk_forward(closes, end, RiskConfig(garch_max_returns=4_000, garch_refit_h=48.0), 288, "BTC/USDT")
    squares = np.diff(np.log(closes)) ** 2
    total, decay = np.concatenate([[0.0], np.cumsum(squares)]), 0.5 ** (1 / 288)
    ewma = squares[:30].mean() + np.zeros(squares.size)
    for i in range(30, squares.size):
        ewma[i] = decay * ewma[i - 1] + (1 - decay) * squares[i]
    times = end - (closes.size - 1 - np.arange(closes.size)) * 300_000_000_000
    origins = [i for i in range(4_001, closes.size - 288) if times[i] % 3_600_000_000_000 == 0]
    ratios = np.array([(total[i + 288] - total[i]) / f for i in origins for f in (288 * ewma[i - 1], 288 * total[i] / i)])
    losses = (ratios - np.log(ratios) - 1).reshape(-1, 2)
    np.testing.assert_allclose(report.days[:, [1, 3]], losses, rtol=1e-6)
    assert report.n_days == len(origins)
    for column, rival in ((1, "ewma"), (3, "constant")):
        d = report.days[:, 0] - losses[:, (column - 1) // 2]
        hac = sm.OLS(d, np.ones(d.size)).fit(cov_type="HAC", cov_kwds={"maxlags": 48, "use_correction": False})
        wanted = "no difference" if hac.pvalues[0] >= 0.05 else "better" if d.mean() < 0 else "worse"
        assert report.verdict(rival) == wanted
        assert report.rivals[rival].p_value == pytest.approx(hac.pvalues[0], rel=1e-5)

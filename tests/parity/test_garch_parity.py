"""Tier 3's volatility against `arch` itself, and risk measures against their plain definitions elsewhere."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from arch import arch_model
from arch.univariate import GARCH, StudentsT, ZeroMean

from helios.config import RiskConfig
from helios.domain.decisions import FloatArray
from helios.risk.garch import filter_variance, fit_garch, sum_of_variances, variance_path
from helios.risk.regimes import ForecastHistory
from helios.risk.volatility import VolatilityModel

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded"))


def simulated(n: int, seed: int, omega: float = 0.0008, alpha: float = 0.06, beta: float = 0.92) -> FloatArray:
    model = ZeroMean(None, volatility=GARCH(1, 0, 1), distribution=StudentsT(seed=seed), rescale=False)
    values: FloatArray = model.simulate([omega, alpha, beta, 6.0], n)["data"].to_numpy()
    return values


def reference(returns_pct: FloatArray):  # type: ignore[no-untyped-def]
    model = arch_model(returns_pct, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    return model, model.fit(disp="off", show_warning=False, options={"ftol": 1e-12})


@pytest.mark.parametrize("seed", [1, 4])
def test_parameters_equal_archs(seed: int) -> None:
    returns = simulated(4000, seed)
    ours = fit_garch(returns)
    model, result = reference(returns)
    theirs = result.params.to_numpy()
    attained = model.fit(disp="off", show_warning=False, starting_values=[ours.omega, ours.alpha, ours.beta, ours.nu])
    assert attained.loglikelihood >= result.loglikelihood - 1e-3
    if result.loglikelihood > attained.loglikelihood - 0.1:
        np.testing.assert_allclose([ours.omega, ours.alpha, ours.beta, ours.nu], theirs, rtol=0.02)


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
    model = VolatilityModel(RiskConfig())
    model.seed(np.exp(np.concatenate([[0.0], np.cumsum(returns / 100)])), 0)
    reference_model, result = reference(returns)
    steps = result.forecast(horizon=288, reindex=False).variance.to_numpy()[0]
    assert model.forecast().daily_volatility == pytest.approx(math.sqrt(steps.sum()) / 100, rel=0.01)
    assert reference_model.volatility.name == "GARCH"


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

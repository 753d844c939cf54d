from __future__ import annotations

import math

import numpy as np
import pytest

from helios.config import RiskConfig
from helios.domain.enums import VolatilityRegime
from helios.errors import InsufficientHistoryError, SolverError
from helios.risk.garch import filter_variance, fit_garch, sum_of_variances, variance_path
from helios.risk.regimes import FIXED_THRESHOLDS, ForecastHistory, classify
from helios.risk.volatility import VolatilityModel
from tests.unit.risk.builders import BAR_NS, T0, garch_returns, prices

QUICK = RiskConfig(garch_max_returns=600, garch_refit_h=4.0, ewma_lambda=0.94)
CLOSES = prices(1200)


def seeded(n: int = 700, config: RiskConfig = QUICK, symbol: str = "BTC/USDT") -> VolatilityModel:
    model = VolatilityModel(config, symbol=symbol)
    model.seed(CLOSES[:n], T0)
    return model


def feed(model: VolatilityModel, start: int, stop: int) -> None:
    for i in range(start, stop):
        model.update(float(CLOSES[i]), T0 + (i - start + 1) * BAR_NS)


def test_forecast_is_a_daily_fraction_near_the_true_one() -> None:
    forecast = seeded().forecast()
    assert forecast.method == "GARCH"
    assert 0.6 < forecast.daily_volatility / (0.002 * math.sqrt(288)) < 1.6
    assert forecast.annualized_volatility == pytest.approx(forecast.daily_volatility * math.sqrt(365))
    assert forecast.omega > 0
    assert 0 < forecast.alpha + forecast.beta < 1


def test_daily_variance_is_the_sum_of_its_288_steps() -> None:
    model = seeded()
    path = model.forecast_path(288)
    assert model.forecast().daily_volatility == pytest.approx(math.sqrt(path.sum()), rel=1e-12)


def test_path_has_sixty_positive_steps_that_tend_to_the_long_run() -> None:
    model = seeded()
    path, forecast = model.forecast_path(), model.forecast()
    long_run = forecast.omega / (1 - forecast.alpha - forecast.beta) / 1e4
    assert path.shape == (60,)
    assert np.all(path > 0)
    assert np.all(np.diff(np.abs(path - long_run)) <= 0)


def test_between_fits_a_shock_raises_the_forecast_by_alpha() -> None:
    calm, shocked = seeded(), seeded()
    last = float(CLOSES[699])
    calm.update(last, T0 + BAR_NS)
    shocked.update(last * math.exp(0.02), T0 + BAR_NS)
    assert calm.fits == shocked.fits == 1
    rise = shocked.forecast_path(1)[0] - calm.forecast_path(1)[0]
    assert rise == pytest.approx(calm.forecast().alpha * 0.02**2, rel=1e-9)


def test_scaling_log_returns_scales_volatility() -> None:
    returns = garch_returns(700)
    volatilities = []
    for scale in (1.0, 10.0):
        model = VolatilityModel(QUICK)
        model.seed(np.exp(np.cumsum(returns * scale)), T0)
        volatilities.append(model.forecast().daily_volatility)
    assert volatilities[1] == pytest.approx(10 * volatilities[0], rel=1e-4)


def test_same_bar_twice_changes_nothing() -> None:
    model = seeded()
    first = model.update(float(CLOSES[700]), T0 + BAR_NS)
    assert model.update(1.0, T0 + BAR_NS) is first
    assert model.update(1.0, T0) is first


def test_refits_every_four_hours_of_market_time() -> None:
    model = seeded()
    feed(model, 700, 700 + 96)
    assert model.fits == 1 + 2


def test_symbols_do_not_all_refit_at_the_same_bar() -> None:
    refits = set()
    for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT", "ADA/USDT"):
        model = seeded(symbol=symbol)
        for i in range(700, 748):
            model.update(float(CLOSES[i]), T0 + (i - 699) * BAR_NS)
            if model.fits == 2:
                refits.add(i)
                break
    assert len(refits) >= 4


def test_a_jump_refits_before_its_time_and_once_an_hour() -> None:
    model = seeded(config=RiskConfig(garch_max_returns=600, garch_refit_h=10_000.0))
    feed(model, 700, 720)
    assert model.fits == 1
    for i in range(720, 731):
        model.update(float(CLOSES[i]) * 1.08, T0 + (i - 699) * BAR_NS)
    assert model.fits == 2


def test_a_restarted_model_agrees_from_the_next_fit_on() -> None:
    lived = seeded(700)
    feed(lived, 700, 800)
    restarted = VolatilityModel(QUICK, symbol="BTC/USDT")
    restarted.seed(CLOSES[:790], T0 + 90 * BAR_NS)
    for i in range(790, 850):
        at = T0 + (i - 699) * BAR_NS
        lived.update(float(CLOSES[i]), at)
        restarted.update(float(CLOSES[i]), at)
    ours, theirs = restarted.forecast(), lived.forecast()
    assert (ours.daily_volatility, ours.omega, ours.nu) == (theirs.daily_volatility, theirs.omega, theirs.nu)


def test_a_short_history_waits_then_forecasts_by_ewma_then_by_garch() -> None:
    model = VolatilityModel(QUICK, symbol="NEW/USDT")
    model.seed(CLOSES[:30], T0)
    with pytest.raises(InsufficientHistoryError):
        model.forecast()
    feed(model, 30, 31)
    assert (model.forecast().method, model.forecast().regime) == (
        "EWMA",
        classify(model.forecast().daily_volatility, FIXED_THRESHOLDS),
    )
    for i in range(31, 501):
        model.update(float(CLOSES[i]), T0 + (i - 29) * BAR_NS)
    assert model.forecast().method == "GARCH"
    assert model.fallbacks == 0


def test_an_unseeded_model_refuses_but_remembers() -> None:
    model = VolatilityModel(QUICK)
    for i in range(30):
        with pytest.raises(InsufficientHistoryError):
            model.update(float(CLOSES[i]), T0 + i * BAR_NS)
    assert model.update(float(CLOSES[30]), T0 + 30 * BAR_NS).method == "EWMA"


def test_ewma_is_the_recursion_by_hand() -> None:
    model = VolatilityModel(QUICK)
    model.seed(CLOSES[:60], T0)
    returns = np.diff(np.log(CLOSES[:60]))
    variance = np.mean(returns[:30] ** 2)
    for value in returns:
        variance = 0.94 * variance + 0.06 * value**2
    assert model.forecast().daily_volatility == pytest.approx(math.sqrt(288 * variance), rel=1e-12)


def test_constant_prices_have_no_volatility_and_count_as_fallback() -> None:
    model = VolatilityModel(QUICK)
    model.seed(np.full(700, 5.0), T0)
    assert (model.forecast().daily_volatility, model.forecast().method, model.fallbacks) == (0.0, "EWMA", 1)
    assert math.isnan(model.volatility_ratio())


def test_explosive_variance_falls_back() -> None:
    # Whether the optimiser stops at the border or beyond it, or gives up there, depends on the machine's last digits.
    draws, variance = np.random.default_rng(4).standard_normal(1500), 1.0
    for i, draw in enumerate(draws):
        draws[i] = math.sqrt(variance) * draw
        variance = 0.01 + 0.4 * draws[i] ** 2 + 0.7 * variance
    with pytest.raises(SolverError, match=r"not stationary|did not converge"):
        fit_garch(draws)


@pytest.mark.parametrize("bad", [math.nan, 0.0, -1.0, math.inf])
def test_a_missing_close_decays_and_its_span_is_one_scaled_return(bad: float) -> None:
    model = seeded()
    p, v = model.forecast(), model.forecast_path(3) * 1e4
    model.update(bad, T0 + BAR_NS)
    assert model.forecast_path(1)[0] * 1e4 == pytest.approx(v[1], rel=1e-12)
    model.update(float(CLOSES[699]) * math.exp(0.01), T0 + 2 * BAR_NS)
    expected = p.omega + p.alpha * 1.0**2 / 2 + p.beta * v[1]
    assert model.forecast_path(1)[0] * 1e4 == pytest.approx(expected, rel=1e-12)


def test_a_bar_that_never_came_is_the_same_as_a_missing_close() -> None:
    skipped, told = seeded(), seeded()
    told.update(math.nan, T0 + BAR_NS)
    for model in (skipped, told):
        model.update(float(CLOSES[701]), T0 + 2 * BAR_NS)
    assert skipped.forecast() == told.forecast()


def test_seed_with_holes_equals_living_through_them() -> None:
    closes = CLOSES[:60].copy()
    closes[[0, 20, 21, 40, 59]] = np.nan
    seeded_model, lived = VolatilityModel(QUICK), VolatilityModel(QUICK)
    seeded_model.seed(closes, T0)
    lived.seed(closes[:45], T0 - 15 * BAR_NS)
    for i in range(45, 60):
        lived.update(float(closes[i]), T0 - (59 - i) * BAR_NS)
    assert seeded_model.forecast().daily_volatility == pytest.approx(lived.forecast().daily_volatility, rel=1e-12)


def test_regime_follows_the_symbols_own_percentiles() -> None:
    history = ForecastHistory(1000)
    history.reset(np.linspace(0.10, 0.20, 101).tolist())
    found = [history.regime(v) for v in (0.12, 0.15, 0.18, 0.199)]
    assert found == list(VolatilityRegime)
    few = ForecastHistory(1000)
    few.reset([0.10] * 99)
    assert [few.regime(v) for v in (0.01, 0.03, 0.05, 0.07)] == list(VolatilityRegime)


def test_seed_fills_the_percentile_reference() -> None:
    model = seeded()
    assert model.forecast().regime in VolatilityRegime
    assert len(model._history) == 600
    assert 0.3 < model.volatility_ratio() < 3.0


def test_a_violent_day_trips_the_breaker_and_the_extreme_regime() -> None:
    model = seeded()
    for i in range(24):
        shock = math.exp(0.03 * (-1) ** i)
        model.update(float(CLOSES[700 + i]) * shock, T0 + (i + 1) * BAR_NS)
    assert model.volatility_ratio() > 3.0
    assert model.forecast().regime is VolatilityRegime.EXTREME


def test_closed_form_equals_the_path_even_next_to_a_unit_root() -> None:
    parameters = fit_garch(100 * garch_returns(700))
    total = sum_of_variances(np.array([0.3]), parameters, 288)[0]
    assert total == pytest.approx(variance_path(0.3, parameters, 288).sum(), rel=1e-12)
    assert filter_variance(np.array([1.0]), parameters).shape == (2,)

from __future__ import annotations

import math
import pickle
from collections import Counter, deque
from itertools import pairwise

import numpy as np
import pytest

from helios.config import RiskConfig
from helios.domain.enums import VolatilityRegime
from helios.errors import InsufficientHistoryError, SolverError, StaleDataError
from helios.risk.fitting import FitRequest, FitResult, fit
from helios.risk.garch import VarianceParameters, filter_variance, fit_garch, sum_of_variances, variance_path
from helios.risk.regimes import FIXED_THRESHOLDS, ForecastHistory, classify
from helios.risk.returns import ReturnWindow
from helios.risk.volatility import NS_PER_H, VolatilityModel, _schedule_shift
from tests.unit.risk.builders import BAR_NS, T0, garch_returns, prices

QUICK = RiskConfig(garch_max_returns=600, garch_refit_h=4.0)
GARCH_ALONE = QUICK.model_copy(update={"ewma_weight": 0.0})
CLOSES = prices(1200)


def seeded(n: int = 700, config: RiskConfig = QUICK, symbol: str = "BTC/USDT") -> VolatilityModel:
    model = VolatilityModel(config, symbol=symbol)
    model.seed(CLOSES[:n], T0)
    return model


def feed(model: VolatilityModel, start: int, stop: int) -> list[tuple[int, str]]:
    """Return the bars at which a fit was due, and why."""
    reasons = []
    for i in range(start, stop):
        bar_time = T0 + (i - start + 1) * BAR_NS
        if model.take(float(CLOSES[i]), bar_time):
            reasons.append((i, model.due_reason))
        model.update(float(CLOSES[i]), bar_time)
    return reasons


def test_forecast_is_a_daily_fraction_near_the_true_one() -> None:
    forecast = seeded().forecast()
    assert forecast.method == "GARCH+EWMA"
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
    calm, shocked = seeded(config=GARCH_ALONE), seeded(config=GARCH_ALONE)
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
    scheduled = [bar for bar, reason in feed(seeded(), 700, 700 + 96) if reason == "SCHEDULE"]
    assert len(scheduled) == 2
    assert scheduled[1] - scheduled[0] == 48


def test_two_hundred_symbols_spread_their_fits_over_the_slots_of_the_schedule() -> None:
    slots = Counter(_schedule_shift(f"COIN{i}/USDT", 4 * NS_PER_H, BAR_NS) // BAR_NS for i in range(200))
    assert set(slots) <= set(range(48))
    assert len(slots) >= 44
    assert max(slots.values()) <= 12
    # Pearson's test against even slots: 99.9 % of random draws lie below this bound.
    assert sum((slots[slot] - 200 / 48) ** 2 / (200 / 48) for slot in range(48)) < 82.7


def test_a_jump_refits_before_its_time_and_once_an_hour() -> None:
    model = seeded(config=RiskConfig(garch_max_returns=600, garch_refit_h=10_000.0))
    bar, reasons = T0 + 20 * BAR_NS, []
    feed(model, 700, 720)
    for i in range(720, 731):
        bar += BAR_NS
        if model.take(float(CLOSES[i]) * 1.08, bar):
            reasons.append(model.due_reason)
        model.update(0.0, bar)
    assert reasons == ["SHOCK"]


def test_leaving_the_regime_of_the_last_fit_refits_at_most_once_an_hour() -> None:
    model = seeded(config=RiskConfig(garch_max_returns=600, garch_refit_h=10_000.0))
    close, bar, fits = float(CLOSES[699]), T0, []
    for i in range(60):
        close, bar = close * math.exp(0.008 * (-1) ** i), bar + BAR_NS
        if model.take(close, bar):
            fits.append((bar, model.due_reason))
        model.update(close, bar)
    assert fits
    assert {reason for _, reason in fits} == {"REGIME"}
    assert fits[0][0] - T0 >= NS_PER_H
    assert all(later - earlier >= NS_PER_H for (earlier, _), (later, _) in pairwise(fits))


def test_a_regime_left_by_a_hair_does_not_refit() -> None:
    model = seeded(config=RiskConfig(garch_max_returns=600, garch_refit_h=10_000.0))
    daily = model.forecast().daily_volatility
    model._fit_limits = (daily * 0.5, daily * 0.999, daily * 2.0)  # the fit's own forecast stands just above a limit
    model._fit_regime = VolatilityRegime.MEDIUM
    reasons = []
    for i in range(1, 20):
        model.take(math.nan, T0 + i * BAR_NS)
        reasons.append(model.due_reason)
    assert set(reasons) == {""}


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
    assert model.forecast().method == "GARCH+EWMA"
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
    variance, decay = np.mean(returns[:30] ** 2), 0.5 ** (1 / 288)
    for value in returns:
        variance = decay * variance + (1 - decay) * value**2
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
    model = seeded(config=GARCH_ALONE)
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


def test_a_few_hours_of_forecasts_are_no_reference_for_a_regime() -> None:
    # a calm market whose forecast rises a little: within eight hours it is at its highest, and calm all the same
    model = VolatilityModel(QUICK, symbol="BTC/USDT")
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(3).standard_normal(200) * np.linspace(2e-4, 9e-4, 200)))
    model.seed(closes, T0)
    forecast = model.forecast()
    assert len(model._history) > 100
    assert forecast.daily_volatility > model._history.quantile(0.95)
    assert forecast.regime is VolatilityRegime.LOW  # by the fixed table: below 2 % a day


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


@pytest.mark.parametrize("minutes_per_bar", [1, 5, 15])
def test_the_minute_path_has_sixty_positive_steps_whatever_the_bar(minutes_per_bar: int) -> None:
    model = VolatilityModel(QUICK, 1440 // minutes_per_bar)
    model.seed(CLOSES[:700], T0)
    path = model.minute_path()
    assert path.shape == (60,)
    assert np.all(path > 0)
    bars = model.forecast_path(60 // minutes_per_bar)
    np.testing.assert_allclose(path.reshape(-1, minutes_per_bar).sum(axis=1), bars, rtol=1e-12)
    assert model.minute_path(7).shape == (7,)
    assert model.forecast().daily_volatility ** 2 == pytest.approx(model.minute_path(1440).sum(), rel=1e-12)


def test_a_forecast_lasts_four_hours_without_a_price() -> None:
    model = seeded()
    for i in range(1, 48):
        model.update(math.nan, T0 + i * BAR_NS)
    assert model.forecast().ts_event == T0 + 47 * BAR_NS
    with pytest.raises(StaleDataError, match=r"no price for 4\.0 h"):
        model.update(math.nan, T0 + 48 * BAR_NS)
    assert model.update(float(CLOSES[700]), T0 + 49 * BAR_NS).daily_volatility > 0


def test_a_forecast_asked_for_later_than_its_last_bar_is_refused() -> None:
    model = seeded()
    assert model.forecast(T0 + 4 * NS_PER_H - 1) is model.forecast()
    with pytest.raises(StaleDataError):
        model.forecast(T0 + 4 * NS_PER_H)


def test_a_fit_computed_elsewhere_gives_the_same_model() -> None:
    here, elsewhere = seeded(), seeded()
    for i in range(700, 800):
        bar_time = T0 + (i - 699) * BAR_NS
        wanted = here.update(float(CLOSES[i]), bar_time)
        if elsewhere.take(float(CLOSES[i]), bar_time):
            assert elsewhere.apply(pickle.loads(pickle.dumps(fit(pickle.loads(pickle.dumps(elsewhere.request()))))))
        assert elsewhere.forecast() == wanted
    assert elsewhere.fits == here.fits > 2


def test_a_fit_of_another_bar_or_that_nobody_waits_for_is_ignored() -> None:
    model = seeded(config=RiskConfig(garch_max_returns=600, garch_refit_h=BAR_NS / NS_PER_H))
    before = model.parameters
    assert not model.apply(fit(model.request()))
    assert model.take(float(CLOSES[700]), T0 + BAR_NS)
    late = fit(model.request())
    assert model.take(float(CLOSES[701]), T0 + 2 * BAR_NS)
    assert not model.apply(late)
    assert not model.apply(FitResult("X", T0 + 2 * BAR_NS, before, "GARCH", is_garch_tried=True))
    assert (model.parameters, model.due) == (before, True)
    # until the fit that is waited for comes, the earlier parameters move on with the bars
    assert model.forecast().ts_event == T0 + 2 * BAR_NS
    assert model.apply(fit(model.request()))
    assert model.parameters != before


def test_the_reason_of_a_fallback_is_known_and_forgotten_with_the_next_good_fit() -> None:
    model = VolatilityModel(QUICK)
    model.seed(np.full(700, 5.0), T0)
    assert model.fallback_reason == "zero variance: nothing to fit"
    model.seed(CLOSES[:700], T0)
    assert (model.fallback_reason, model.forecast().method) == ("", "GARCH+EWMA")


def test_the_window_keeps_the_newest_and_counts_what_is_known() -> None:
    window, kept = ReturnWindow(7), deque(maxlen=7)
    for i in range(40):
        value = math.nan if i % 5 == 0 else float(i)
        window.append(value)
        kept.append(value)
        np.testing.assert_array_equal(window.values(), np.array(kept))
        assert (len(window), window.n_known) == (len(kept), sum(not math.isnan(v) for v in kept))
    window.values()[:] = 0.0
    np.testing.assert_array_equal(window.values(), np.array(kept))


@pytest.mark.parametrize("missing", [[], [0], [499], [3, 4, 5], list(range(0, 500, 7)), list(range(500))])
def test_the_vectorised_filter_equals_the_step_by_step_one(missing: list[int]) -> None:
    returns = 100 * garch_returns(500)
    returns[missing] = np.nan
    parameters = VarianceParameters(0.001, 0.08, 0.9, 6.0, 0.04)
    variances = [parameters.omega + parameters.persistence * parameters.backcast]
    for value in returns.tolist():
        variances.append(parameters.step(variances[-1], value))
    np.testing.assert_allclose(filter_variance(returns, parameters), variances, rtol=1e-13)


def _window(kind: str) -> np.ndarray:
    rng, n = np.random.default_rng(0), 600
    windows = {
        "one spike": np.where(np.arange(n) == 300, 50.0, 0.0),
        "hardly traded": np.where(rng.random(n) < 0.01, rng.normal(size=n), 0.0),
        "two prices": np.tile([1.0, -1.0], n // 2),
        "always up": np.full(n, 0.3),
        "stablecoin": rng.normal(size=n) * 1e-9,
        "glitches": np.where(rng.random(n) < 0.02, 1e4, rng.normal(size=n) * 1e-3),
        "no variance": rng.standard_cauchy(n),
        "another market": np.concatenate([rng.normal(size=300) * 0.01, rng.normal(size=300) * 10]),
    }
    return windows[kind]


@pytest.mark.parametrize(
    "kind",
    ["one spike", "hardly traded", "two prices", "always up", "stablecoin", "glitches", "no variance", "another market"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_odd_windows_give_a_finite_forecast_or_a_counted_fallback(kind: str) -> None:
    returns = _window(kind)
    request = FitRequest("X", T0, returns, 500, 0.5 ** (1 / 288))
    result = fit(request)
    assert (result.method == "EWMA") == bool(result.reason)
    p = result.parameters
    daily = sum_of_variances(filter_variance(returns, p), p, 288)
    assert np.all(np.isfinite(daily))
    assert np.all(daily >= 0)
    if result.method == "GARCH":
        long_run = p.omega / (1 - p.persistence) / np.mean(returns**2)
        assert 0.25 <= long_run <= 4.0

"""The desk's forecast: the geometric mean of a GARCH's and a slow EWMA's variance, bar by bar as over a whole window."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios.config import RiskConfig
from helios.risk.blend import EwmaBlend
from helios.risk.fitting import FitResult
from helios.risk.garch import VarianceParameters, filter_variance, sum_of_variances
from helios.risk.volatility import VolatilityModel
from tests.unit.risk.builders import BAR_NS, T0, garch_returns, prices

DECAY = 0.5 ** (1 / 288)
RETURNS = garch_returns(400) * 100


def test_the_ewma_is_pandas_own_of_squares() -> None:
    blend = EwmaBlend(1.0, DECAY, 288)
    start = float(np.mean(RETURNS[:30] ** 2))
    expected = pd.Series([start, *(RETURNS**2)]).ewm(alpha=1 - DECAY, adjust=False).mean().to_numpy()[1:] * 288
    np.testing.assert_allclose(blend.begin(RETURNS, np.full(400, 5.0)), expected, rtol=1e-10)  # weight 1: nothing of the GARCH
    assert blend.daily_variance == pytest.approx(expected[-1])
    blend.push(math.nan)
    assert blend.daily_variance == pytest.approx(expected[-1])
    blend.push(2.0)
    assert blend.daily_variance == pytest.approx(DECAY * expected[-1] + (1 - DECAY) * 4.0 * 288)


@given(st.floats(0.0, 1.0), st.floats(0.01, 100.0))
def test_the_mixed_variance_lies_between_the_two_and_weighs_their_logarithms(weight: float, garch: float) -> None:
    blend = EwmaBlend(weight, DECAY, 288)
    before = blend.mixed(garch)
    mixed = blend.begin(RETURNS, np.full(400, garch))
    assert before == garch  # nothing has begun
    if weight == 0.0:
        assert mixed.tolist() == [garch] * 400
        assert blend.mixed(garch) == garch
        return
    slow = blend.daily_variance
    assert min(garch, slow) * (1 - 1e-12) <= mixed[-1] <= max(garch, slow) * (1 + 1e-12)
    assert math.log(mixed[-1]) == pytest.approx((1 - weight) * math.log(garch) + weight * math.log(slow), abs=1e-9)
    assert blend.mixed(garch) == pytest.approx(mixed[-1], rel=1e-12)
    blend.stop()
    assert blend.mixed(garch) == garch


def test_the_forecast_is_the_blend_of_its_garch_and_of_nothing_where_the_ewma_stands_in() -> None:
    closes = prices(700)
    alone, desk = (VolatilityModel(RiskConfig(garch_max_returns=600, ewma_weight=w), symbol="X") for w in (0.0, 0.5))
    for model in (alone, desk):
        model.seed(closes, T0)
    returns = 100 * np.diff(np.log(closes))[-600:]
    slow = EwmaBlend(1.0, DECAY, 288)
    slow.begin(returns, returns)
    expected = math.sqrt(alone.forecast().daily_volatility * math.sqrt(slow.daily_variance) / 100)
    assert desk.forecast().daily_volatility == pytest.approx(expected, rel=1e-9)
    assert desk.forecast().omega == alone.forecast().omega
    assert desk.forecast_path(288).sum() == pytest.approx(desk.forecast().daily_volatility ** 2, rel=1e-9)
    short = [VolatilityModel(RiskConfig(ewma_weight=w), symbol="X") for w in (0.0, 0.5)]  # too little for a GARCH
    for model in short:
        model.seed(closes[:100], T0)
    assert short[0].forecast().daily_volatility == short[1].forecast().daily_volatility


def test_living_bar_by_bar_ends_where_a_window_filtered_anew_ends() -> None:
    closes = prices(700)
    lived, seeded = (VolatilityModel(RiskConfig(garch_max_returns=699, garch_refit_h=1000.0), symbol="X") for _ in range(2))
    lived.seed(closes[:650], T0 - 50 * BAR_NS)
    for i in range(650, 700):
        lived.update(float(closes[i]), T0 - (699 - i) * BAR_NS)
    seeded.begin(closes, T0)
    request = seeded.request()
    seeded.apply(FitResult("X", request.bar_time, lived.parameters, "GARCH", is_garch_tried=True))
    assert lived.fits == 1
    assert seeded.forecast().daily_volatility == pytest.approx(lived.forecast().daily_volatility, rel=1e-9)


def test_a_fit_of_an_ewma_ends_the_blend() -> None:
    model = VolatilityModel(RiskConfig(garch_max_returns=600), symbol="X")
    model.seed(prices(700), T0)
    model.due_reason = "SCHEDULE"
    own = VarianceParameters(0.0, 1 - DECAY, DECAY, math.nan, 1.0)
    request = model.request()
    model.apply(FitResult("X", request.bar_time, own, "EWMA", is_garch_tried=True, reason="not stationary"))
    variances = filter_variance(request.returns_pct, own)
    expected = math.sqrt(sum_of_variances(float(variances[-1]), own, 288)) / 100
    assert model.forecast().daily_volatility == pytest.approx(expected, rel=1e-12)

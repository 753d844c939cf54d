"""Laws of tier 3 that hold for every input."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.config import LimitConfig, RiskConfig
from helios.domain.enums import Side, VolatilityRegime
from helios.risk.leverage import leverage_for
from helios.risk.limits import check_limits
from helios.risk.measures import conditional_value_at_risk, max_drawdown, value_at_risk
from helios.risk.regimes import ForecastHistory
from helios.risk.sizing import SizeDecision, SizeRefusal, kelly_full, size_position
from tests.unit.risk.builders import account, order, position

CONFIG = RiskConfig()
confidences = st.floats(0.0, 1.0)
volatilities = st.floats(0.001, 0.3)
regimes = st.sampled_from(list(VolatilityRegime))
drawdowns = st.floats(0.0, 0.5)


def fraction(confidence: float, b: float, volatility: float, regime: VolatilityRegime, drawdown: float, held: int = 0) -> float:
    result = size_position(confidence, b, volatility, regime, drawdown, Decimal(held), Decimal(100_000), CONFIG)
    return result.fraction if isinstance(result, SizeDecision) else 0.0


@settings(max_examples=100, deadline=None)
@given(confidences, st.floats(0.01, 10.0), volatilities, regimes, drawdowns, st.integers(0, 30_000))
def test_holding_never_passes_its_caps(
    p: float, b: float, volatility: float, regime: VolatilityRegime, drawdown: float, held: int
) -> None:
    added = fraction(p, b, volatility, regime, drawdown, held)
    cap = CONFIG.regime_caps[list(VolatilityRegime).index(regime)]
    assert added >= 0.0
    assert added == 0.0 or added + held / 100_000 <= cap + 1e-12


@settings(max_examples=100, deadline=None)
@given(confidences, st.floats(0.01, 10.0), volatilities, regimes, drawdowns, st.floats(1.0, 3.0))
def test_more_volatility_drawdown_or_doubt_never_gives_more(
    p: float, b: float, volatility: float, regime: VolatilityRegime, drawdown: float, factor: float
) -> None:
    base = fraction(p, b, volatility, regime, drawdown)
    assert fraction(p, b, volatility * factor, regime, drawdown) <= base + 1e-12
    assert fraction(p, b, volatility, regime, drawdown * factor) <= base + 1e-12
    assert fraction(p / factor, b, volatility, regime, drawdown) <= base + 1e-12


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.05, 20.0))
def test_kelly_maximises_log_growth(p: float, b: float) -> None:
    f = kelly_full(p, b)
    if not 0.01 < f < 0.99:
        return

    def growth(x: float) -> float:
        return p * math.log1p(b * x) + (1 - p) * math.log1p(-x)

    assert growth(f) >= max(growth(f * 0.95), growth(min(f * 1.05, 0.999)))


@settings(max_examples=100, deadline=None)
@given(confidences, regimes, drawdowns, st.decimals("0.1", "20", places=1))
def test_leverage_stays_between_one_and_the_venues(p: float, regime: VolatilityRegime, drawdown: float, venue: Decimal) -> None:
    value = leverage_for(p, regime, drawdown, venue, CONFIG)
    assert 1.0 <= value <= max(1.0, min(3.0, float(venue)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60_000), st.integers(0, 40_000), st.sampled_from(list(Side)), st.floats(0.01, 0.5))
def test_a_tighter_limit_never_lets_more_through(notional: int, held: int, side: Side, tighter: float) -> None:
    holder = account("100000", *([position("BTC/USDT", str(held), "1")] if held else []))
    request = order(str(notional), account=holder, side=side)
    loose = {v.code for v in check_limits(request, LimitConfig(max_position=0.5), {})}
    tight = {v.code for v in check_limits(request, LimitConfig(max_position=tighter), {})}
    assert loose <= tight


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=60), st.integers(1, 20))
def test_history_keeps_exactly_the_newest(values: list[float], capacity: int) -> None:
    history = ForecastHistory(capacity)
    for value in values:
        history.append(value)
    newest = values[-capacity:]
    assert len(history) == len(newest)
    assert math.isclose(history.quantile(0.5), float(np.quantile(newest, 0.5)), rel_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60))
def test_cvar_is_no_better_than_var_and_drawdown_is_a_fraction(returns: list[float]) -> None:
    array = np.array(returns)
    assert conditional_value_at_risk(array) >= value_at_risk(array) - 1e-12
    assert 0.0 <= max_drawdown(np.cumprod(1.0 + array)) <= 1.0


def test_refusal_carries_words() -> None:
    refusal = size_position(0.5, 2.0, 0.03, VolatilityRegime.LOW, 0.0, Decimal(0), Decimal(1), CONFIG)
    assert refusal == SizeRefusal("LOW_CONFIDENCE", "confidence 0.500 is below 0.550")

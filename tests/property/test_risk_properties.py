"""Laws of tier 3 that hold for every input."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.config import LimitConfig, RiskConfig
from helios.domain.enums import Side, VolatilityRegime
from helios.risk.codes import SENTENCES
from helios.risk.explain_size import size_sentences
from helios.risk.leverage import leverage_for
from helios.risk.limits import check_limits
from helios.risk.measures import conditional_value_at_risk, max_drawdown, value_at_risk
from helios.risk.methods import kelly_full
from helios.risk.ramp import next_ramp_step
from helios.risk.regimes import ForecastHistory
from helios.risk.sizing import SizeBounds, SizeDecision, SizeRefusal, SizeRequest, size_position
from tests.unit.risk.builders import account, order, position

CONFIG = RiskConfig()
confidences = st.floats(0.0, 1.0)
volatilities = st.floats(0.001, 0.3)
regimes = st.sampled_from(list(VolatilityRegime))
drawdowns = st.floats(0.0, 0.5)


bets = st.builds(
    SizeRequest,
    confidence=st.floats(0.5, 1.0),
    daily_volatility=volatilities,
    regime=regimes,
    equity=st.decimals("500", "1000000", places=2),
    drawdown=drawdowns,
    held_notional=st.one_of(st.just(Decimal(0)), st.decimals("0", "20000", places=2)),
    leverage=st.floats(1.0, 3.0),
    volatility_ratio=st.one_of(st.just(math.nan), st.floats(0.1, 5.0)),
    payoff_ratio=st.floats(0.3, 10.0),
)
configs = st.builds(
    RiskConfig,
    size_method=st.sampled_from(["kelly", "half_kelly", "fixed_fractional", "volatility_adjusted"]),
    volatility_rule=st.sampled_from(["damped", "inverse"]),
    stop_method=st.sampled_from(["volatility", "fixed"]),
    kelly_multiplier=st.floats(0.05, 1.0),
    risk_per_trade=st.floats(0.001, 0.10),
    base_fraction=st.floats(0.01, 1.0),
    win_rate=st.floats(0.0, 1.0),
    average_win_pct=st.floats(0.0, 0.1),
    average_loss_pct=st.floats(0.0, 0.1),
    reserve=st.floats(0.0, 0.9),
    ramp_step=st.sampled_from([None, 0, 1, 2, 3, 4, 5]),
)
BOUNDS = SizeBounds(0.20, Decimal(10), Decimal(30_000))


def added(request: SizeRequest, config: RiskConfig = CONFIG) -> Decimal:
    result = size_position(request, config, BOUNDS)
    return result.notional_quote if isinstance(result, SizeDecision) else Decimal(0)


@settings(max_examples=200, deadline=None)
@given(bets, configs)
def test_no_method_passes_a_cap_and_the_loss_is_size_times_stop(request: SizeRequest, config: RiskConfig) -> None:
    result = size_position(request, config, BOUNDS)
    if isinstance(result, SizeRefusal):
        assert result.code in SENTENCES
        return
    cap = min(BOUNDS.max_position, config.regime_caps[list(VolatilityRegime).index(request.regime)])
    assert 0 < result.capital_quote <= request.equity
    assert config.ramp_step != 0
    assert BOUNDS.min_notional_quote <= result.notional_quote <= BOUNDS.max_notional_quote
    assert result.notional_quote + request.held_notional <= Decimal(str(cap)) * result.capital_quote + Decimal("0.0001")
    assert float(result.loss_at_stop_quote) == pytest.approx(float(result.notional_quote) * result.stop_pct, abs=1e-4)
    assert math.isclose(float(result.notional_quote), result.fraction * float(result.capital_quote), rel_tol=1e-9)


@settings(max_examples=200, deadline=None)
@given(bets, configs, st.floats(1.0, 3.0))
def test_more_volatility_drawdown_holding_or_doubt_and_a_worse_regime_never_give_more(
    request: SizeRequest, config: RiskConfig, factor: float
) -> None:
    # at a given payoff ratio: with one made from the exits, more volatility also makes costs matter less
    base = added(request, config) + Decimal("0.000001")
    worse = [replace(request, regime=regime) for regime in list(VolatilityRegime)[list(VolatilityRegime).index(request.regime) :]]
    for harder in (
        replace(request, daily_volatility=request.daily_volatility * factor, volatility_ratio=request.volatility_ratio * factor),
        replace(request, drawdown=request.drawdown * factor),
        replace(request, drawdown=math.nan),
        replace(request, held_notional=request.held_notional * Decimal(str(factor))),
        replace(request, confidence=request.confidence / factor),
        replace(request, payoff_ratio=request.payoff_ratio / factor),
        replace(request, leverage=1.0),
        *worse,
    ):
        assert added(harder, config) <= base


@settings(max_examples=100, deadline=None)
@given(bets, configs.filter(lambda c: c.ramp_step), st.floats(0.0, 0.9))
def test_a_lower_ramp_step_or_a_larger_reserve_never_gives_more(request: SizeRequest, config: RiskConfig, reserve: float) -> None:
    base = added(request, config) + Decimal("0.000001")
    assert config.ramp_step is not None
    assert added(request, config.model_copy(update={"ramp_step": config.ramp_step - 1})) <= base
    assert added(request, config.model_copy(update={"reserve": max(reserve, config.reserve)})) <= base


@settings(max_examples=100, deadline=None)
@given(bets, configs)
def test_every_size_can_be_told(request: SizeRequest, config: RiskConfig) -> None:
    result = size_position(request, config, BOUNDS)
    if isinstance(result, SizeDecision):
        told = " ".join(size_sentences(dict(result.values()), "ZAR"))
        assert "nan" not in told
        assert f"{result.notional_quote:,.2f} ZAR" in told


@settings(max_examples=100, deadline=None)
@given(confidences, regimes, drawdowns, st.floats(1.0, 3.0))
def test_leverage_never_passes_one_point_six_and_falls_with_doubt(
    p: float, regime: VolatilityRegime, drawdown: float, factor: float
) -> None:
    base = leverage_for(p, regime, drawdown, Decimal(100), CONFIG)
    assert 1.0 <= base <= 1.6
    assert leverage_for(p / factor, regime, drawdown, Decimal(100), CONFIG) <= base
    assert leverage_for(p, regime, drawdown * factor, Decimal(100), CONFIG) <= base
    assert leverage_for(p, VolatilityRegime.EXTREME, drawdown, Decimal(100), CONFIG) <= base


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 5), st.floats(allow_nan=True), st.integers(-5, 100), st.floats(allow_nan=True), st.floats(0.01, 0.5),
    st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_the_ramp_moves_one_step_at_a_time_and_never_up_on_trouble(
    step: int, days: float, trades: int, drawdown: float, limit: float, broken: int, halted: bool
) -> None:
    advice = next_ramp_step(step, days, trades, drawdown, limit, broken, halted)
    assert abs(advice.step - step) <= 1
    assert 0 <= advice.step <= 5
    assert advice.reason
    if halted:
        assert advice.step == max(step - 1, 0)
    elif advice.step > step:
        assert days >= 7
        assert drawdown < limit / 2
        assert broken == 0
        assert trades >= (5 if step else 0)


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
    refusal = size_position(SizeRequest(0.5, 0.03, VolatilityRegime.LOW, Decimal(1)), CONFIG)
    assert refusal == SizeRefusal("LOW_CONFIDENCE", "confidence 0.500 is below 0.550")

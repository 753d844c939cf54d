from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from helios.config import LimitConfig, RiskConfig
from helios.domain.decisions import NoTrade, TradePlan, decision_id
from helios.domain.enums import Action, MarketKind, Side, TradingMode, VolatilityRegime
from helios.domain.orders import AccountSnapshot
from helios.risk.tier import RiskDesk
from tests.unit.risk.builders import BAR_NS, T0, account, instrument, position, prediction, prices, request

CONFIG = RiskConfig(garch_max_returns=600)
SPOT = instrument()
PERP = instrument("ETH/USDT:USDT", MarketKind.PERP, max_leverage=Decimal(5))
CLOSES = prices(601)
NEXT = T0 + BAR_NS


def desk(config: RiskConfig = CONFIG, limits: LimitConfig | None = None, **options: object) -> RiskDesk:
    risk = RiskDesk(config, limits or LimitConfig(), {i.symbol: i for i in (SPOT, PERP)}, **options)  # type: ignore[arg-type]
    for symbol in (SPOT.symbol, PERP.symbol):
        risk.seed(symbol, CLOSES, T0)
    return risk


def answer(
    action: Action = Action.BUY, confidence: float = 0.72, symbol: str = SPOT.symbol,
    holder: AccountSnapshot | None = None, risk: RiskDesk | None = None,
) -> TradePlan | NoTrade:  # fmt: skip
    asked = request(prediction(action, confidence, symbol, NEXT), close=float(CLOSES[-1]), at=NEXT, holder=holder)
    return (risk or desk()).plan(asked).plans[0]


def planned(**arguments: object) -> TradePlan:
    plan = answer(**arguments)  # type: ignore[arg-type]
    assert isinstance(plan, TradePlan), plan
    return plan


def refused(**arguments: object) -> str:
    no = answer(**arguments)  # type: ignore[arg-type]
    assert isinstance(no, NoTrade), no
    assert no.tier == "risk"
    assert no.detail
    return no.code


def test_an_entry_carries_the_numbers_of_its_forecast() -> None:
    plan = planned()
    sigma = plan.daily_volatility
    b = (4 * sigma - 0.003) / (2 * sigma + 0.003)
    assert plan.payoff_ratio == pytest.approx(b)
    assert plan.kelly_full == pytest.approx(0.72 - 0.28 / b)
    fraction = 0.25 * plan.kelly_full / (1 + sigma / 0.02)
    assert float(plan.notional_quote) == pytest.approx(100_000 * fraction, rel=1e-6)
    assert plan.stop_loss_pct == pytest.approx(2 * sigma)
    assert float(plan.loss_at_stop_quote) == pytest.approx(float(plan.notional_quote) * 2 * sigma)
    assert (plan.decision_id, plan.side, plan.leverage) == (decision_id(SPOT.symbol, NEXT), Side.BUY, 1.0)
    assert plan.reference_price == Decimal(str(round(float(CLOSES[-1]), 6)))
    assert plan.horizon_ns == 24 * 3600 * 10**9


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"action": Action.HOLD}, "HOLD"),
        ({"confidence": 0.54}, "LOW_CONFIDENCE"),
        ({"confidence": math.nan}, "LOW_CONFIDENCE"),
        ({"action": Action.SELL}, "SHORT_NOT_ALLOWED"),
        ({"symbol": "SOL/USDT"}, "UNKNOWN_SYMBOL"),
        ({"holder": account(drawdown=0.15)}, "TRADING_HALTED"),
        ({"holder": account(daily_loss=0.05)}, "REDUCING"),
        ({"holder": account(entries_today=20)}, "MAX_ENTRIES_PER_DAY"),
        ({"holder": account(consecutive_losses=5)}, "REDUCING"),
        ({"holder": account("0")}, "TRADING_HALTED"),
        ({"holder": account("100")}, "MIN_NOTIONAL"),
        ({"holder": account("100000", position(SPOT.symbol, "15000"))}, "ALREADY_HELD"),
    ],
)
def test_each_refusal(arguments: dict[str, object], code: str) -> None:
    assert refused(**arguments) == code


def test_costs_above_the_target_leave_no_edge() -> None:
    assert refused(risk=desk(RiskConfig(garch_max_returns=600, round_trip_cost_pct=0.5))) == "NO_EDGE"


def test_an_unseeded_symbol_has_too_little_history() -> None:
    assert refused(risk=RiskDesk(CONFIG, LimitConfig(), {SPOT.symbol: SPOT})) == "INSUFFICIENT_HISTORY"


def test_a_price_that_never_moved_gives_no_stop() -> None:
    risk = RiskDesk(CONFIG, LimitConfig(), {SPOT.symbol: SPOT})
    risk.seed(SPOT.symbol, np.full(200, CLOSES[-1]), T0)
    assert refused(risk=risk) == "NO_VOLATILITY"


def test_a_perpetual_may_be_sold_with_leverage() -> None:
    plan = planned(action=Action.SELL, confidence=0.95, symbol=PERP.symbol)
    assert plan.side is Side.SELL
    assert plan.leverage == {VolatilityRegime.LOW: 1.5, VolatilityRegime.MEDIUM: 1.2}.get(plan.regime, 1.0)


@pytest.mark.parametrize("trouble", [{}, {"drawdown": 0.4}, {"consecutive_losses": 9}])
def test_an_opposite_signal_closes_all_of_it_even_when_halted(trouble: dict[str, object]) -> None:
    holder = account("100000", position(SPOT.symbol, "12.5", "100"), **trouble)
    plan = planned(action=Action.SELL, holder=holder)
    assert (plan.side, plan.reduce_only) == (Side.SELL, True)
    assert plan.notional_quote / plan.reference_price == Decimal("12.5")
    assert "SIGNAL" in plan.notes[0]


def test_dust_is_not_closed_by_a_signal_and_takes_no_place_of_a_position() -> None:
    dust = replace(position(SPOT.symbol, "0.00001", "100"), is_dust=True)
    assert refused(action=Action.SELL, holder=account("100000", dust)) == "SHORT_NOT_ALLOWED"
    one = desk(limits=LimitConfig(max_open_positions=1))
    assert planned(holder=account("100000", dust), risk=one).side is Side.BUY
    assert planned(holder=account("100000", replace(dust, symbol="X/USDT")), risk=one).side is Side.BUY
    held = position("X/USDT", "1", "100")
    assert refused(holder=account("100000", dust, held), risk=one) == "MAX_OPEN_POSITIONS"


def test_a_doubtful_opposite_signal_closes_nothing() -> None:
    holder = account("100000", position(SPOT.symbol, "12.5", "100"))
    assert refused(action=Action.SELL, confidence=0.54, holder=holder) == "LOW_CONFIDENCE"


def test_a_short_is_closed_by_a_buy_without_any_forecast() -> None:
    risk = RiskDesk(CONFIG, LimitConfig(), {PERP.symbol: PERP})
    plan = planned(symbol=PERP.symbol, holder=account("100000", position(PERP.symbol, "-3", "100")), risk=risk)
    assert (plan.side, plan.reduce_only, plan.regime) == (Side.BUY, True, VolatilityRegime.EXTREME)
    assert math.isnan(plan.daily_volatility)


def test_a_short_is_not_sized_for_a_target_below_zero() -> None:
    config = RiskConfig(garch_min_returns=500, stop_method="fixed", fixed_target_pct=1.2)
    assert refused(action=Action.SELL, symbol=PERP.symbol, risk=desk(config)) == "TARGET_TOO_WIDE"
    assert isinstance(answer(symbol=PERP.symbol, risk=desk(config)), TradePlan)


def test_what_is_held_leaves_less_room() -> None:
    free = planned()
    holder = account("100000", position(SPOT.symbol, "1000"))
    assert planned(holder=holder).notional_quote == free.notional_quote - 1000


def test_an_order_limit_shrinks_the_plan_and_its_loss() -> None:
    free, held = planned(), planned(risk=desk(limits=LimitConfig(max_notional_quote=Decimal(500))))
    assert held.notional_quote == 500
    assert float(held.loss_at_stop_quote) == pytest.approx(500 * free.stop_loss_pct)
    assert any("order limit" in note for note in held.notes)


def test_a_plan_carries_every_number_of_its_size_and_the_volatility_ratio() -> None:
    risk = desk()
    plan = planned(risk=risk)
    values = dict(plan.sizing)
    assert plan.volatility_ratio == risk.volatility_ratio(SPOT.symbol) > 0
    assert values["volatility_ratio"] == plan.volatility_ratio
    assert (Decimal(str(values["notional_quote"])), values["kelly_full"]) == (plan.notional_quote, plan.kelly_full)
    assert values["round_trip_cost_pct"] == CONFIG.round_trip_cost_pct


def test_a_closing_plan_carries_the_volatility_ratio_and_no_size() -> None:
    risk = desk()
    holder = account("100000", position(SPOT.symbol, "12.5", "100"))
    plan = planned(action=Action.SELL, holder=holder, risk=risk)
    assert (plan.volatility_ratio, plan.sizing) == (risk.volatility_ratio(SPOT.symbol), ())


def ramped(step: int) -> RiskDesk:
    return desk(CONFIG.model_copy(update={"ramp_step": step}))


def test_the_ramp_watches_first_and_tells_what_it_would_have_done() -> None:
    no = answer(risk=ramped(0))
    assert isinstance(no, NoTrade)
    assert no.code == "RAMP_WATCH_ONLY"
    assert f"{planned().notional_quote:.2f}" in no.detail


def test_the_ramp_trades_with_a_share_and_never_stands_in_the_way_of_closing() -> None:
    assert planned(risk=ramped(2)).notional_quote == pytest.approx(planned().notional_quote / 4, abs=Decimal("1e-6"))
    assert planned(risk=ramped(2)).kelly_fraction == pytest.approx(planned().kelly_fraction / 4)  # of equity, not of the share
    holder = account("100000", position(SPOT.symbol, "12.5", "100"))
    assert planned(action=Action.SELL, holder=holder, risk=ramped(0)).reduce_only


@pytest.mark.parametrize("method", ["kelly", "half_kelly", "fixed_fractional", "volatility_adjusted"])
def test_each_method_of_the_configuration_gives_a_plan(method: str) -> None:
    record = {"win_rate": 0.6, "average_win_pct": 0.02, "average_loss_pct": 0.01}
    plan = planned(risk=desk(CONFIG.model_copy(update={"size_method": method, **record})))
    assert dict(plan.sizing)["method"] == method
    assert 0 < plan.notional_quote <= 20_000


def test_same_bar_twice_gives_the_same_answer() -> None:
    risk = desk()
    asked = request(prediction(at=NEXT), close=float(CLOSES[-1]) * 1.01, at=NEXT)
    assert risk.plan(asked) == risk.plan(asked)


def test_two_desks_answer_alike_and_every_context_gets_a_forecast() -> None:
    asked = request(prediction(at=NEXT), close=float(CLOSES[-1]), at=NEXT, also=(PERP.symbol, "NEW/USDT"))
    first, second = desk().plan(asked), desk().plan(asked)
    assert first == second
    assert set(first.forecasts) == {SPOT.symbol, PERP.symbol}
    assert {f.ts_event for f in first.forecasts.values()} == {NEXT}


def test_a_volatility_breaker_stops_entries_and_tells_the_ratio() -> None:
    risk = desk()
    for i in range(24):
        close = float(CLOSES[-1]) * math.exp(0.03 * (-1) ** i)
        response = risk.plan(request(prediction(at=T0 + (i + 1) * BAR_NS), close=close, at=T0 + (i + 1) * BAR_NS))
    assert risk.volatility_ratio(SPOT.symbol) > 3
    assert getattr(response.plans[0], "code", "") == "VOLATILITY_BREAKER"
    assert response.volatility_ratios == {SPOT.symbol: risk.volatility_ratio(SPOT.symbol)}  # for the breaker that remembers
    assert math.isnan(risk.volatility_ratio("NEW/USDT"))


def test_live_tolerates_fewer_losses_in_a_row() -> None:
    holder = account(consecutive_losses=3)
    assert isinstance(answer(holder=holder), TradePlan)
    risk = desk()
    risk.set_mode(TradingMode.LIVE)
    assert refused(holder=holder, risk=risk) == "REDUCING"


def test_fallbacks_are_reported_by_symbol() -> None:
    risk = desk()
    risk.seed(SPOT.symbol, np.full(601, 7.0), T0)
    assert risk.fallbacks == {SPOT.symbol: 1, PERP.symbol: 0}


def test_nothing_is_planned_in_a_symbol_that_is_to_be_left_but_its_closing() -> None:
    holder = replace(account(), reduce_only=(SPOT.symbol,))
    assert refused(holder=holder) == "SYMBOL_REDUCE_ONLY"
    assert planned(holder=replace(holder, reduce_only=(PERP.symbol,))).reduce_only is False
    held = replace(holder, positions=(position(SPOT.symbol, "1"),))
    assert planned(action=Action.SELL, holder=held).reduce_only is True

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import pytest

from helios.config import RiskConfig
from helios.domain.enums import Side, VolatilityRegime
from helios.errors import RejectedError
from helios.risk.exits import exit_levels, exit_rule
from helios.risk.methods import fixed_fractional, half_kelly, kelly_full, volatility_adjusted, volatility_factor
from helios.risk.sizing import SizeBounds, SizeDecision, SizeRefusal, SizeRequest, payoff_ratio, size_position

CONFIG = RiskConfig()
MEDIUM = VolatilityRegime.MEDIUM


def size(
    config: RiskConfig = CONFIG,
    bounds: SizeBounds | None = None,
    confidence: float = 0.72,
    b: float = 2.0,
    volatility: float = 0.03,
    regime: VolatilityRegime = MEDIUM,
    drawdown: float = 0.0,
    held: str = "0",
    equity: str = "100000",
    leverage: float = 1.0,
    ratio: float = math.nan,
) -> SizeDecision | SizeRefusal:
    request = SizeRequest(confidence, volatility, regime, Decimal(equity), drawdown, Decimal(held), leverage, ratio, b)
    return size_position(request, config, bounds)


def decided(**changes: object) -> SizeDecision:
    result = size(**changes)  # type: ignore[arg-type]
    assert isinstance(result, SizeDecision)
    return result


def refused(**changes: object) -> str:
    result = size(**changes)  # type: ignore[arg-type]
    assert isinstance(result, SizeRefusal)
    return result.code


def test_worked_example_holds_to_the_cent() -> None:
    result = decided()
    assert result.kelly_full == pytest.approx(0.58)
    assert result.base_fraction == pytest.approx(0.145)
    assert result.volatility_scaled == pytest.approx(0.058)
    assert result.notional_quote == Decimal(5800)
    assert (result.stop_pct, result.target_pct) == (0.06, 0.12)
    assert result.loss_at_stop_quote == Decimal(348)
    assert result.gain_at_target_quote == Decimal(696)


@pytest.mark.parametrize(("p", "b", "expected"), [(0.65, 2.0, 0.475), (0.5, 2.0, 0.25), (1 / 3, 2.0, 0.0), (0.40, 2.0, 0.10)])
def test_kelly_of_known_bets(p: float, b: float, expected: float) -> None:
    assert kelly_full(p, b) == pytest.approx(expected, abs=1e-12)


def test_kelly_at_forty_percent_is_negative_only_below_a_payoff_of_one_and_a_half() -> None:
    assert kelly_full(0.40, 1.49) < 0 < kelly_full(0.40, 1.51)


@pytest.mark.parametrize(("p", "b"), [(-0.1, 2.0), (1.1, 2.0), (0.6, 0.0), (math.nan, 2.0), (0.6, math.nan)])
def test_kelly_refuses_what_is_no_bet(p: float, b: float) -> None:
    with pytest.raises(RejectedError):
        kelly_full(p, b)


def test_costs_lower_the_payoff_ratio() -> None:
    assert payoff_ratio(0.06, 0.12) == pytest.approx(2.0)
    assert payoff_ratio(0.06, 0.12, 0.003) == pytest.approx(0.117 / 0.063)
    assert payoff_ratio(0.001, 0.002, 0.003) < 0


def test_both_volatility_rules() -> None:
    assert 0.20 * volatility_factor(0.10, 0.02) == pytest.approx(0.20 / 6)
    assert 0.20 * volatility_factor(0.10, 0.02, "inverse") == pytest.approx(0.04)
    assert volatility_factor(0.01, 0.02, "inverse") == 1.0


def test_drawdown_halves_only_above_ten_percent() -> None:
    assert decided(drawdown=0.10).notional_quote == Decimal(5800)
    assert decided(drawdown=0.11).notional_quote == Decimal(2900)
    assert decided(drawdown=math.nan).notional_quote == Decimal(2900)


@pytest.mark.parametrize(("regime", "cap"), zip(VolatilityRegime, (0.20, 0.15, 0.10, 0.05)))
def test_regime_caps_the_holding(regime: VolatilityRegime, cap: float) -> None:
    result = decided(confidence=1.0, volatility=0.001, regime=regime)
    assert result.fraction == pytest.approx(cap)
    assert any("cap" in note for note in result.notes)


def test_higher_volatility_gives_a_smaller_size() -> None:
    assert decided(volatility=0.08).fraction < decided(volatility=0.02).fraction


def test_high_volatility_is_an_alert_in_the_notes() -> None:
    assert not any("ALERT" in note for note in decided(volatility=0.02, regime=VolatilityRegime.LOW).notes)
    assert any("ALERT" in note for note in decided(volatility=0.08, regime=VolatilityRegime.EXTREME).notes)


def test_what_is_held_counts() -> None:
    assert decided(held="4000").notional_quote == Decimal(1800)
    assert decided(held="4800").notional_quote == Decimal(1000)  # one per cent of equity is worth an order
    assert refused(held="5800") == "ALREADY_HELD"


def test_leverage_scales_exposure_but_not_past_the_cap() -> None:
    assert decided(leverage=1.5).notional_quote == Decimal(8700)
    assert decided(leverage=1.5).loss_at_stop_quote == Decimal(522)
    assert decided(leverage=3.0).fraction == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"confidence": 0.5499}, "LOW_CONFIDENCE"),
        ({"confidence": math.nan}, "LOW_CONFIDENCE"),
        ({"confidence": 0.60, "b": 0.5}, "NO_EDGE"),
        ({"b": -0.2}, "NO_EDGE"),
        ({"b": math.inf, "confidence": 0.2}, "LOW_CONFIDENCE"),
        ({"b": 0.0}, "NO_EDGE"),
        ({"volatility": 0.0}, "NO_VOLATILITY"),
        ({"volatility": math.nan}, "NO_VOLATILITY"),
        ({"volatility": math.inf}, "NO_VOLATILITY"),
        ({"volatility": 1e-12}, "NO_VOLATILITY"),
        ({"confidence": 1.01}, "INVALID_CONFIDENCE"),
        ({"equity": "0.00000001"}, "MIN_NOTIONAL"),
        ({"volatility": 0.5}, "STOP_TOO_WIDE"),
        ({"equity": "0"}, "NO_EQUITY"),
        ({"equity": "-5"}, "NO_EQUITY"),
        ({"config": RiskConfig(size_method="half_kelly")}, "NO_EDGE"),
        ({"config": RiskConfig(ramp_step=0)}, "RAMP_WATCH_ONLY"),
        ({"bounds": SizeBounds(min_notional_quote=Decimal(5801))}, "MIN_NOTIONAL"),
        ({"held": "5000"}, "ALREADY_HELD"),
    ],
)
def test_refusals_name_their_reason(changes: dict[str, object], code: str) -> None:
    assert refused(**changes) == code


def test_exits_are_two_volatilities_and_twice_that() -> None:
    assert exit_levels(0.03, CONFIG) == (0.06, 0.12)
    rule = exit_rule(0.03, CONFIG)
    assert rule.timeout_ns == 86_400 * 10**9
    assert (rule.trailing_activate_pct, rule.trailing_pct) == (0.02, 0.01)
    with pytest.raises(RejectedError):
        exit_levels(math.nan, CONFIG)


def test_a_short_whose_target_no_price_can_reach_is_refused() -> None:
    short = SizeRequest(0.72, 0.25, VolatilityRegime.EXTREME, Decimal(100_000), side=Side.SELL)  # target 100 % below
    assert getattr(size_position(short, CONFIG), "code", "") == "TARGET_TOO_WIDE"
    assert isinstance(size_position(replace(short, side=Side.BUY), CONFIG), SizeDecision)
    assert isinstance(size_position(replace(short, daily_volatility=0.2499), CONFIG), SizeDecision)


def test_fixed_stop_and_target_hold_whatever_the_volatility() -> None:
    fixed = RiskConfig(stop_method="fixed")
    assert exit_levels(0.01, fixed) == exit_levels(0.10, fixed) == (0.02, 0.05)
    with pytest.raises(RejectedError):
        exit_levels(0.0, fixed)


def test_payoff_comes_from_exits_and_costs_where_none_is_given() -> None:
    assert decided(b=math.nan).payoff_ratio == pytest.approx(0.117 / 0.063)


@pytest.mark.parametrize(("win_rate", "win", "loss", "expected"), [
    (0.60, 0.02, 0.01, 0.20),  # half of 0.6 - 0.4 / 2
    (0.60, 0.02, 0.00, 0.0),  # no loss on record says nothing about b
    (0.60, 0.00, 0.01, 0.0),
    (0.30, 0.02, 0.01, 0.0),  # no edge is no short
    (0.95, 0.05, 0.01, 0.25),  # the cap
])  # fmt: skip
def test_half_kelly_of_a_record(win_rate: float, win: float, loss: float, expected: float) -> None:
    assert half_kelly(win_rate, win, loss) == pytest.approx(expected)


@pytest.mark.parametrize("record", [(math.nan, 1, 1), (1.1, 1, 1), (0.5, -1, 1), (0.5, 1, math.inf), (0.5, math.nan, 1)])
def test_half_kelly_refuses_what_is_no_record(record: tuple[float, float, float]) -> None:
    with pytest.raises(RejectedError):
        half_kelly(*record)


def test_half_kelly_as_the_method_of_the_desk() -> None:
    config = RiskConfig(size_method="half_kelly", win_rate=0.6, average_win_pct=0.02, average_loss_pct=0.01)
    assert decided(config=config, bounds=SizeBounds(1.0)).leveraged == pytest.approx(0.20 / 2.5)


def test_fixed_fractional_loses_what_it_says_at_the_stop() -> None:
    assert fixed_fractional(0.005, 0.06) == pytest.approx(0.005 / 0.06)
    result = decided(config=RiskConfig(size_method="fixed_fractional", risk_per_trade=0.005))
    assert float(result.loss_at_stop_quote) == pytest.approx(500, abs=0.01)
    assert float(result.notional_quote) == pytest.approx(500 / 0.06, abs=0.01)
    with pytest.raises(RejectedError):
        fixed_fractional(0.01, 0.0)


def test_fixed_fractional_leaves_leverage_to_the_margin() -> None:
    config = RiskConfig(size_method="fixed_fractional", risk_per_trade=0.005)
    assert decided(config=config, leverage=1.5).notional_quote == decided(config=config).notional_quote


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1.0, 0.03), (2.0, 0.015), (0.8, 0.0375), (0.5, 0.06), (0.1, 0.06), (math.nan, 0.02)]
)
def test_volatility_adjusted_follows_mean_over_present_and_at_most_doubles(ratio: float, expected: float) -> None:
    assert volatility_adjusted(0.03, ratio, 0.03, 0.02) == pytest.approx(expected)
    result = decided(config=RiskConfig(size_method="volatility_adjusted"), ratio=ratio)
    assert float(result.notional_quote) == pytest.approx(100_000 * expected)


def test_an_endless_ratio_leaves_nothing() -> None:
    assert refused(config=RiskConfig(size_method="volatility_adjusted"), ratio=math.inf) == "NO_EDGE"


def test_the_inverse_rule_is_a_choice() -> None:
    assert float(decided(config=RiskConfig(volatility_rule="inverse")).notional_quote) == pytest.approx(14_500 * 2 / 3)


@pytest.mark.parametrize(("step", "capital"), [(1, 10_000), (2, 25_000), (3, 50_000), (4, 75_000), (5, 100_000), (None, 100_000)])
def test_the_ramp_shows_sizing_a_share_of_equity(step: int | None, capital: int) -> None:
    result = decided(config=RiskConfig(ramp_step=step))
    assert (result.capital_quote, result.equity_quote) == (capital, 100_000)
    assert result.notional_quote == Decimal("0.058") * capital


def test_the_ramp_scales_the_largest_order_down_to_what_a_venue_takes() -> None:
    bounds = SizeBounds(0.2, Decimal(10), Decimal(100))
    caps = [decided(config=RiskConfig(ramp_step=step), bounds=bounds).notional_quote for step in (1, 2, 3, 4, 5)]
    assert caps == [30, 30, 50, 75, 100]
    tiny = SizeBounds(0.2, Decimal(10), Decimal(15))
    assert decided(config=RiskConfig(ramp_step=1), bounds=tiny).notional_quote == 15


def test_watching_tells_what_it_would_have_done() -> None:
    result = size(config=RiskConfig(ramp_step=0))
    assert isinstance(result, SizeRefusal)
    assert "5800.00" in result.detail
    assert refused(config=RiskConfig(ramp_step=0), confidence=0.2) == "LOW_CONFIDENCE"


def test_what_is_held_counts_against_the_ramped_capital() -> None:
    ramped = RiskConfig(ramp_step=1)
    assert refused(config=ramped, held="580") == "ALREADY_HELD"
    assert decided(config=ramped, held="400").notional_quote == 180


def test_the_reserve_is_not_sized_with() -> None:
    result = decided(config=RiskConfig(reserve=0.2))
    assert (result.capital_quote, result.notional_quote) == (80_000, 4_640)
    both = decided(config=RiskConfig(reserve=0.2, ramp_step=3))
    assert both.capital_quote == 40_000


def test_an_order_bound_shrinks_size_and_loss_together() -> None:
    result = decided(bounds=SizeBounds(max_notional_quote=Decimal(1000)))
    assert (result.notional_quote, result.loss_at_stop_quote, result.fraction) == (1000, 60, 0.01)
    assert any("order limit" in note for note in result.notes)


def test_every_number_is_told_by_name_and_unknown_ones_are_left_out() -> None:
    values = dict(decided().values())
    assert values["regime"] == "MEDIUM"
    assert (values["notional_quote"], values["kelly_full"]) == ("5800.00000000", pytest.approx(0.58))
    assert "volatility_ratio" not in values
    assert dict(decided(ratio=1.5).values())["volatility_ratio"] == 1.5


@pytest.mark.parametrize(("p", "b", "volatility", "printed"), [
    (0.65, 2.0, 0.025, 0.18),  # BDD-21: 0.475 is full Kelly; 0.18 is (2p - 1) x return / volatility, which is not Kelly
    (0.65, 0.015 / 0.025, 0.025, 0.18),
])  # fmt: skip
def test_the_legacy_figure_of_eighteen_per_cent_is_not_kelly(p: float, b: float, volatility: float, printed: float) -> None:
    assert kelly_full(p, b) != pytest.approx(printed, abs=0.02)
    assert (2 * p - 1) * 0.015 / volatility == pytest.approx(printed)

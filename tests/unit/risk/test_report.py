from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from helios.config import LimitConfig
from helios.risk.breakers import BreakerBoard
from helios.risk.measures import CorrelationRegime, beta, max_drawdown, sharpe_ratio
from helios.risk.report import DAY_NS, RiskInputs, daily_equity, risk_report, wealth
from helios.risk.var import TailMethod, kupiec, tail_loss
from tests.unit.risk.builders import account, position

LIMITS = LimitConfig()
DAY0 = 19_700
NOW = (DAY0 + 90) * DAY_NS + DAY_NS // 3
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
RNG = np.random.default_rng(8)
MARKET = RNG.standard_normal(90) * 0.03
RETURNS = np.column_stack([MARKET, 0.8 * MARKET + RNG.standard_normal(90) * 0.02, RNG.standard_normal(90) * 0.05])
CURVE = 100_000 * np.cumprod(1 + RNG.standard_normal(90) * 0.01 + 0.001)
TIMES = (DAY0 + np.arange(90)) * DAY_NS + DAY_NS - 1


def inputs(**changes: Any) -> RiskInputs:
    equity = str(round(CURVE[-1], 2))
    held = account(
        equity, position("BTC/USDT", "0.3", equity), position("SOL/USDT", "-0.1", equity), ts_event=NOW,
        peak_equity_quote=Decimal(str(round(CURVE.max(), 2))), closed_trades=8, winning_trades=5,
    )  # fmt: skip
    given = RiskInputs(NOW, held, LIMITS, TIMES, CURVE, SYMBOLS, RETURNS, "BTC/USDT", profits=np.array([5.0, -2.0, 3.0]))
    return replace(given, **changes)


def test_figures_of_a_known_account() -> None:
    report = risk_report(inputs())
    earned = RETURNS @ [0.3, 0.0, -0.1]
    daily = CURVE[1:] / CURVE[:-1] - 1
    assert report.sharpe_30d == pytest.approx(sharpe_ratio(daily[-30:]))
    assert report.beta_market == pytest.approx(beta(earned, MARKET))
    assert report.beta_universe == pytest.approx(np.polyfit(RETURNS.mean(axis=1), earned, 1)[0])
    assert report.max_drawdown == pytest.approx(max_drawdown(CURVE))
    assert (report.gross_exposure, report.net_exposure) == (pytest.approx(0.4), pytest.approx(0.2))
    assert report.sectors == {"store-of-value": pytest.approx(0.3), "smart-contract": pytest.approx(0.1)}
    assert (report.win_rate, report.profit_factor, report.mean_profit_quote) == (0.625, 4.0, 2.0)
    assert (report.n_days, report.n_tail_days) == (89, 90)


def test_tails_are_of_what_is_held_now() -> None:
    report = risk_report(inputs())
    earned = RETURNS @ [0.3, 0.0, -0.1]
    rows = {(row.method, row.level): row for row in report.tails}
    assert len(rows) == 6
    for (method, level), row in rows.items():
        expected = tail_loss(earned, level, TailMethod(method))
        assert (row.var, row.cvar) == pytest.approx(expected)
        assert row.var_quote == pytest.approx(expected.var * report.equity_quote)
        assert row.cvar >= row.var


def test_it_is_plain_json_with_none_for_what_is_not_known() -> None:
    bare = RiskInputs(NOW, account(ts_event=NOW), LIMITS)
    plain = risk_report(bare).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    for name in ("sharpe_30d", "sortino_30d", "calmar", "ulcer", "beta_market", "mean_correlation", "win_rate", "profit_factor"):
        assert plain[name] is None, name
    assert {row["var"] for row in plain["tails"]} == {None}
    assert (plain["correlation_regime"], plain["trading_state"], plain["risk_score"]) == ("UNKNOWN", "ACTIVE", 0.0)


def test_a_holding_without_history_makes_the_tail_unknown_rather_than_small() -> None:
    stranger = account("100000", position("NEW/USDT", "50000"))
    report = risk_report(inputs(account=stranger))
    assert all(math.isnan(row.var) for row in report.tails)
    assert math.isnan(report.beta_market)


def test_the_var_is_judged_by_the_days_that_followed() -> None:
    report = risk_report(inputs())
    earned = RETURNS @ [0.3, 0.0, -0.1]
    worse = [-earned[t] > tail_loss(earned[:t], 0.95, TailMethod.FILTERED).var for t in range(30, 90)]
    assert (report.var_95_exceeded, report.var_95_days) == (sum(worse), 60)
    assert report.var_95_p_value == kupiec(sum(worse), 60, 0.95)
    young = risk_report(inputs(returns=RETURNS[-30:]))
    assert (young.var_95_exceeded, young.var_95_days, young.to_json()["var_95_p_value"]) == (0, 0, None)


def test_cash_has_no_tail() -> None:
    report = risk_report(inputs(account=account("100000")))
    assert {(row.var, row.cvar) for row in report.tails if row.method == "HISTORICAL"} == {(0.0, 0.0)}


def test_too_few_days_give_no_ratio() -> None:
    few = risk_report(inputs(equity_times=TIMES[-20:], equity=CURVE[-20:], returns=RETURNS[-29:]))
    assert math.isnan(few.sharpe_30d)
    assert all(math.isnan(row.var) for row in few.tails)
    enough = risk_report(inputs(equity_times=TIMES[-21:], equity=CURVE[-21:], returns=RETURNS[-30:]))
    assert math.isfinite(enough.sharpe_30d)
    assert all(math.isfinite(row.var) for row in enough.tails)


def test_days_are_the_last_point_of_each_full_day_in_any_order() -> None:
    times = np.array([2.5, 0.1, 0.9, 3.2, 2.1]) * DAY_NS
    closes = daily_equity(times.astype(np.int64), np.array([5.0, 1.0, 2.0, 9.0, 4.0]), 3 * DAY_NS + DAY_NS // 2)
    assert closes[[0, 2]].tolist() == [2.0, 5.0]  # today is not over
    assert math.isnan(closes[1])  # nobody looked
    assert daily_equity(times.astype(np.int64), np.full(5, math.nan), 9 * DAY_NS).size == 0


def test_money_that_comes_and_goes_is_no_return() -> None:
    # the same desk with most of its money taken out on day 40 and ten times as much paid in on day 70
    paid = np.zeros(90)
    moved = CURVE.copy()
    for day, share in ((40, -0.9), (70, 10.0)):
        amount = share * moved[day - 1]
        paid[day:] += amount
        moved[day:] *= (moved[day - 1] + amount) / moved[day - 1]
    base, report = risk_report(inputs()), risk_report(inputs(equity=moved, transfers=paid))
    for name in ("sharpe_30d", "sortino_30d", "volatility_30d", "calmar", "ulcer", "omega", "tail_ratio", "max_drawdown"):
        assert getattr(report, name) == pytest.approx(getattr(base, name), rel=1e-9), name
    assert risk_report(inputs(equity=moved)).volatility_30d > 10 * base.volatility_30d  # had nobody said so


def test_nothing_grows_out_of_nothing() -> None:
    times = np.arange(4) * DAY_NS
    _, curve = wealth(times, np.array([100.0, 0.0, 50.0, 55.0]), np.array([0.0, -100.0, -50.0, -50.0]))
    assert curve.tolist() == pytest.approx([100.0, 100.0, 100.0, 110.0])


def test_doubled_and_missing_points_change_nothing_they_should_not() -> None:
    base = risk_report(inputs())
    doubled = risk_report(inputs(equity_times=np.append(TIMES, TIMES[::-1]), equity=np.append(CURVE, CURVE[::-1])))
    spoilt = risk_report(inputs(equity_times=np.append(TIMES, TIMES[40]), equity=np.append(CURVE, math.nan)))
    assert doubled.to_json() == base.to_json()
    assert spoilt.to_json() == base.to_json()


def test_the_board_speaks_before_the_account() -> None:
    board = BreakerBoard(LIMITS)
    board.observe(account("80000", peak_equity_quote=Decimal(100_000), ts_event=NOW), NOW)
    report = risk_report(inputs(trips=board.trips, state=board.state.value)).to_json()
    assert report["trading_state"] == "HALTED"
    assert [trip["code"] for trip in report["trips"]] == ["MAX_DRAWDOWN"]


def test_regime_by_configured_thresholds() -> None:
    together = np.column_stack([MARKET, MARKET * 2, MARKET + np.sin(np.arange(90.0)) * 1e-4])
    assert risk_report(inputs(returns=together)).correlation_regime is CorrelationRegime.CRISIS
    patient = LimitConfig(crisis_correlation=1.0)
    assert risk_report(inputs(returns=together, limits=patient)).correlation_regime is CorrelationRegime.COUPLED
    assert risk_report(inputs(returns=RETURNS[-9:])).correlation_regime is CorrelationRegime.UNKNOWN


def test_an_account_without_equity_is_reported_too() -> None:
    broke = account("0", position("BTC/USDT", "1"), ts_event=NOW)
    plain = risk_report(inputs(account=broke)).to_json()
    assert (plain["trading_state"], plain["positions"]) == ("HALTED", {"BTC/USDT": None})


def test_more_risk_scores_higher() -> None:
    calm = risk_report(inputs()).risk_score
    equity = str(round(CURVE[-1], 2))
    heavy = account(equity, position("BTC/USDT", "2", equity), peak_equity_quote=Decimal(equity) * 2)
    assert 0.0 < calm < risk_report(inputs(account=heavy)).risk_score <= 100.0

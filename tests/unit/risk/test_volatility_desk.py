"""All symbols' volatility together: fits computed elsewhere, alerts, refusals, reports, and what tier 3 makes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from helios.config import LimitConfig, RiskConfig
from helios.domain.decisions import NoTrade, TradePlan, VolatilityForecast
from helios.domain.enums import VolatilityRegime
from helios.domain.market import MarketSnapshot
from helios.errors import InsufficientHistoryError, StaleDataError
from helios.pipeline.ports import SymbolContext
from helios.risk.alerts import RiseWatch
from helios.risk.fitting import FitRequest, FitResult, fit, fit_all
from helios.risk.tier import RiskDesk
from helios.risk.volatility_desk import VolatilityDesk
from tests.unit.risk.builders import BAR_NS, T0, instrument, prediction, prices, request

CONFIG = RiskConfig(garch_max_returns=600)
CLOSES = prices(900)
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


def contexts(close: float, bar: int, symbols: Sequence[str] = SYMBOLS) -> dict[str, SymbolContext]:
    at = T0 + bar * BAR_NS
    return {s: SymbolContext(s, at, close, 1e6, MarketSnapshot(s, Decimal(1), at)) for s in symbols}


def begun(symbols: Sequence[str] = SYMBOLS, config: RiskConfig = CONFIG, **options: object) -> VolatilityDesk:
    desk = VolatilityDesk(config, **options)  # type: ignore[arg-type]
    for symbol in symbols:
        desk.begin(symbol, CLOSES[:700], T0)
    return desk


def forecast(daily: float, bar: int, regime: VolatilityRegime = VolatilityRegime.MEDIUM) -> VolatilityForecast:
    return VolatilityForecast("BTC/USDT", T0 + bar * BAR_NS, daily, daily * 365**0.5, regime, "GARCH", 0.1, 0.1, 0.8, 6.0)


def test_fits_computed_elsewhere_in_any_order_change_no_number() -> None:
    here, elsewhere = begun(), begun()
    for bar in range(1, 61):
        each = contexts(float(CLOSES[699 + bar]), bar)
        elsewhere.take(each)
        elsewhere.apply(reversed(fit_all(elsewhere.due())))
        assert not elsewhere.due()
        assert elsewhere.forecasts(each) == here.forecasts(each)
    assert elsewhere.report() == here.report()


def test_what_did_not_come_back_is_fitted_here() -> None:
    whole, partly = begun(), begun()
    whole.fit_here()
    each = contexts(float(CLOSES[700]), 1)
    partly.apply(fit_all(partly.due()[:1]))
    assert [r.symbol for r in partly.due()] == ["ETH/USDT", "SOL/USDT"]
    partly.fit_here()
    assert partly.forecasts(each) == whole.forecasts(each)


def test_the_hook_gets_every_fit_of_a_bar_at_once() -> None:
    asked: list[list[str]] = []

    def hook(requests: Sequence[FitRequest]) -> list[FitResult]:
        asked.append([r.symbol for r in requests])
        return fit_all(requests)

    desk = begun(fits=hook)
    assert len(desk.forecasts(contexts(float(CLOSES[700]), 1))) == 3
    assert asked == [sorted(SYMBOLS)]


def test_a_shock_to_the_whole_market_makes_all_symbols_due_and_is_answered_at_its_bar() -> None:
    symbols = [f"COIN{i}/USDT" for i in range(200)]
    asked: list[int] = []

    def light(requests: Sequence[FitRequest]) -> list[FitResult]:
        # An EWMA in place of the optimiser: the subject is that all are asked for and answered together.
        asked.append(len(requests))
        return [replace(fit(replace(r, min_returns=10**9)), is_garch_tried=True) for r in requests]

    config = RiskConfig(garch_max_returns=200, garch_min_returns=100, garch_refit_h=10_000.0)
    desk = VolatilityDesk(config, fits=light)
    for symbol in symbols:
        desk.begin(symbol, CLOSES[:200], T0)
    desk.fit_here()
    for bar in range(1, 13):
        desk.take(contexts(float(CLOSES[199]), bar, symbols))
    shocked = contexts(float(CLOSES[199]) * 0.9, 13, symbols)
    found = desk.forecasts(shocked)
    assert asked[0] == asked[-1] == 200
    assert not desk.due()
    assert len(found) == 200
    assert all(f.ts_event == T0 + 13 * BAR_NS for f in found.values())
    assert len({f.daily_volatility for f in found.values()}) == 1
    assert desk.forecasts(shocked) == found
    assert asked[-1] == 200


def test_a_rise_from_two_to_eight_percent_is_alerted_once_while_it_lasts() -> None:
    watch = RiseWatch(2.0, 288)
    daily = [0.02] * 10 + [0.08] * 60 + [0.02] * 60 + [0.05]
    alerts = [watch.update(forecast(value, bar)) for bar, value in enumerate(daily)]
    raised = [(bar, a.before, a.after) for bar, a in enumerate(alerts) if a is not None]
    assert raised == [(10, 0.02, 0.08), (130, 0.02, 0.05)]
    assert watch.update(forecast(0.5, 130)) is None  # the same bar again


def test_a_slow_rise_is_no_alert() -> None:
    watch = RiseWatch(2.0, 288)
    assert not any(watch.update(forecast(0.02 * 1.01**bar, bar)) for bar in range(140))


def test_volatility_of_eight_instead_of_two_percent_gives_an_alert_and_a_smaller_size() -> None:
    # An EWMA of one day's half-life: moves of 2.7 % a bar over one hour lift 2 % a day to 8 %.
    config = RiskConfig(garch_max_returns=600, garch_min_returns=10_000, ewma_daily_decay=0.5)
    risk = RiskDesk(config, LimitConfig(max_volatility_ratio=100.0), {"BTC/USDT": instrument()})
    step = 0.02 / 288**0.5
    close, bar = 100.0, 0
    risk.seed("BTC/USDT", close * np.exp(step * (np.arange(601) % 2)), T0)
    plans: list[TradePlan | NoTrade] = []
    for size in [step] * 3 + [0.0269] * 12:
        bar, close = bar + 1, close * math.exp(size * (-1) ** bar)
        asked = request(prediction(at=T0 + bar * BAR_NS, confidence=0.8), close=close, at=T0 + bar * BAR_NS)
        plans.append(risk.plan(asked).plans[0])
    calm, wild = plans[2], plans[-1]
    assert isinstance(calm, TradePlan)
    assert isinstance(wild, TradePlan)
    assert calm.daily_volatility == pytest.approx(0.02, rel=0.01)
    assert wild.daily_volatility == pytest.approx(0.08, rel=0.15)
    assert wild.notional_quote < calm.notional_quote / 2
    assert not any("HIGH_VOLATILITY" in note for note in calm.notes)
    assert any("HIGH_VOLATILITY BTC/USDT" in note for note in wild.notes)
    assert [a.symbol for a in risk.volatility.new_alerts()] == ["BTC/USDT"]
    assert risk.volatility.new_alerts() == []


def test_a_symbol_without_prices_for_four_hours_is_not_sized_by_an_old_forecast() -> None:
    risk = RiskDesk(CONFIG, LimitConfig(), {"BTC/USDT": instrument()})
    risk.seed("BTC/USDT", CLOSES[:700], T0)
    for bar in range(1, 49):
        at = T0 + bar * BAR_NS
        blind = {"BTC/USDT": SymbolContext("BTC/USDT", at, math.nan, 0.0, MarketSnapshot("BTC/USDT", Decimal(1), at))}
        asked = request(prediction(at=at), at=at)
        answer = risk.plan(type(asked)(at, asked.predictions, blind, asked.account))
        assert bool(answer.forecasts) == (bar < 48)
    refusal = answer.plans[0]
    assert isinstance(refusal, NoTrade)
    assert refusal.code == "STALE_FORECAST"
    assert "no price for 4.0 h" in refusal.detail


def test_why_a_symbol_has_no_forecast_is_kept_for_the_bar() -> None:
    desk = begun(("BTC/USDT",))
    found = desk.forecasts(contexts(float(CLOSES[700]), 1, ("BTC/USDT", "NEW/USDT")))
    assert list(found) == ["BTC/USDT"]
    assert isinstance(desk.refusals["NEW/USDT"], InsufficientHistoryError)
    assert not desk.forecasts(contexts(math.nan, 60, ("BTC/USDT",)))
    assert isinstance(desk.refusals["BTC/USDT"], StaleDataError)
    assert "NEW/USDT" not in desk.refusals


def test_the_report_is_plain_json_with_forecast_method_and_skill() -> None:
    desk = begun(("BTC/USDT",))
    desk.begin("FLAT/USDT", np.full(700, 5.0), T0)
    for bar in range(1, 190):
        desk.forecasts(contexts(float(CLOSES[699 + bar]), bar, ("BTC/USDT",)))
    desk.forecasts(contexts(5.0, 1, ("FLAT/USDT", "NEW/USDT")))
    rows = {row["symbol"]: row for row in json.loads(json.dumps(desk.report(), allow_nan=False))}
    btc, flat, new = (rows[f"{name}/USDT"] for name in ("BTC", "FLAT", "NEW"))
    assert btc["annualized_volatility"] == pytest.approx(btc["daily_volatility"] * 365**0.5)
    assert (btc["regime"] in list(VolatilityRegime), btc["refusal"], btc["fallbacks"]) == (True, "", 0)
    assert btc["fits"] >= 4
    assert set(btc["qlike"]) == {"model", "ewma", "ewma_daily", "constant", "n"}
    assert (flat["method"], flat["fallbacks"], flat["fallback_reason"]) == ("EWMA", 1, "zero variance: nothing to fit")
    assert (flat["ratio"], new["daily_volatility"], new["method"]) == (None, None, None)
    assert "30 needed" in new["refusal"]


def test_skill_is_counted_once_a_day_is_over() -> None:
    config = RiskConfig(garch_max_returns=600, garch_min_returns=10_000)
    desk = VolatilityDesk(config)
    closes = prices(900, seed=9)
    desk.begin("BTC/USDT", closes[:500], T0)
    for bar in range(1, 400):
        desk.forecasts(contexts(float(closes[499 + bar]), bar, ("BTC/USDT",)))
        desk.forecasts(contexts(float(closes[499 + bar]), bar, ("BTC/USDT",)))  # the same bar again counts nothing twice
    score = desk.report()[0]["qlike"]
    hours = sum((T0 + bar * BAR_NS) % 3_600_000_000_000 == 0 for bar in range(1, 400 - 288))
    assert score["n"] == hours
    assert score["model"] == pytest.approx(score["ewma"], rel=0.2)  # without a fit the model is that EWMA from another start
    assert 0 < score["model"] < 1

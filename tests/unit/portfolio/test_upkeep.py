"""Holdings between signals: trims that are due, worth their cost, and never more than is held."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from helios.config import HeliosConfig
from helios.domain.enums import Side
from helios.domain.market import MarketSnapshot
from helios.domain.orders import AccountSnapshot
from helios.errors import DataError, SolverError
from helios.pipeline.ports import RebalanceRequest, RebalanceResponse, SymbolContext
from helios.portfolio.history import DAY_NS, HOUR_NS
from helios.portfolio.optimiser import MeanVarianceOptimiser
from helios.portfolio.tier import PortfolioDesk
from helios.portfolio.upkeep import risk_event_of
from tests.unit.portfolio.test_portfolio_desk import (
    NOW,
    PRICE,
    account,
    desk,
    holding,
    instrument,
    plan,
    request,
)

A, B, PERP = PRICE


def ask(
    of: PortfolioDesk, held: AccountSnapshot, is_event: bool = False, at: int = NOW, fresh: tuple[str, ...] = (A, B)
) -> RebalanceResponse:
    return of.rebalance(
        RebalanceRequest(
            at, {s: SymbolContext(s, at, PRICE[s], 1e4, MarketSnapshot(s, Decimal(str(PRICE[s])), at)) for s in fresh}, held, is_event
        )
    )


def holding_of(share: float, symbol: str = A) -> AccountSnapshot:
    quantity = Decimal(str(share)) * 100_000 / Decimal(str(PRICE[symbol]))
    return account(positions=(holding(symbol, str(quantity)),))


def test_a_holding_that_outgrew_its_cap_is_cut_to_it_at_once() -> None:
    response = ask(desk(), holding_of(0.30), is_event=True)
    [sale] = response.intents
    assert (response.reason, sale.side, sale.reduce_only, sale.leg) == ("RISK_EVENT", Side.SELL, True, "rebalance")
    assert sale.quantity_base * sale.reference_price >= Decimal("9999")
    assert response.targets[A] <= 0.20 + 1e-9


def test_a_small_drift_is_left_alone() -> None:
    made = desk()
    target = ask(made, holding_of(0.30), is_event=True).targets[A]
    assert ask(made, holding_of(round(target + 0.02, 4))).intents == ()


def test_a_trim_is_one_order_however_often_it_is_asked_for() -> None:
    first, second = (ask(desk(), holding_of(0.30), is_event=True).intents[0] for _ in range(2))
    assert first.client_order_id == second.client_order_id
    assert first == second


def test_nothing_is_ever_bought_here() -> None:
    made = desk()
    bought = plan(A, confidence=0.95, take_profit_pct=0.4)
    made.allocate(request(bought))
    response = ask(made, holding_of(0.01), at=NOW + HOUR_NS)
    assert all(i.side is Side.SELL for i in response.intents)


def test_after_a_week_a_drift_is_trimmed_and_a_restart_waits_for_its_week() -> None:
    # the target of a holding above its cap is the cap, 20 %: off by more than one drift of 5 % and less than two
    rested, fresh = desk(), desk()
    rested.upkeep.resume(NOW - 8 * DAY_NS)
    fresh.upkeep.resume(NOW - DAY_NS)
    assert ask(rested, holding_of(0.29)).reason == "DRIFT"
    assert ask(fresh, holding_of(0.29)).intents == ()
    assert ask(fresh, holding_of(0.50), at=NOW + DAY_NS).reason == "LARGE_DRIFT"


def test_a_target_above_the_holding_does_not_put_off_the_trim_of_another() -> None:
    made = desk(max_sector=1.0)
    made.allocate(request(plan(A, confidence=0.95, take_profit_pct=0.4, horizon_ns=10 * DAY_NS)))
    small = account(positions=(holding(A, "50"), holding(B, "1800")))  # A is wanted at 20 % and held at 5 %
    assert ask(made, small, at=NOW + HOUR_NS).intents == ()
    assert made.upkeep.targets[A] > 0.15
    grown = account(positions=(holding(A, "50"), holding(B, "2800")))  # B has outgrown its cap of 20 % by more than one drift
    later = ask(made, grown, at=NOW + HOUR_NS + DAY_NS)
    assert (later.reason, [i.symbol for i in later.intents]) == ("DRIFT", [B])


def test_a_trim_that_the_venue_would_not_take_does_not_put_off_the_next() -> None:
    made = desk(instruments={s: instrument(s, min_notional_quote=Decimal(25_000)) for s in PRICE})
    assert ask(made, holding_of(0.27)).intents == ()
    assert ask(made, holding_of(0.27), at=NOW + DAY_NS).intents == ()
    assert made.upkeep.to_json()["times"]["last_rebalance_ns"] is None


def test_a_symbol_without_fresh_data_is_not_sold_blindly() -> None:
    assert ask(desk(), holding_of(0.30), is_event=True, fresh=(B,)).intents == ()


def test_what_would_leave_dust_is_sold_whole() -> None:
    steps = {s: instrument(s, min_notional_quote=Decimal(25_000)) for s in PRICE}
    held = holding_of(0.45)
    [sale] = ask(desk(instruments=steps), held, is_event=True).intents
    assert sale.quantity_base == held.positions[0].quantity_base


def test_the_crumb_that_a_base_fee_leaves_does_not_take_an_order_off_the_lot_grid() -> None:
    steps = {s: instrument(s, min_notional_quote=Decimal(21_000)) for s in PRICE}
    held = account(positions=(holding(A, "449.5505"),))
    [sale] = ask(desk(instruments=steps), held, is_event=True).intents
    assert sale.quantity_base == Decimal("449.550")


def test_a_trim_is_no_larger_than_one_order_may_be() -> None:
    steps = {s: instrument(s, max_quantity_base=Decimal("30.0005")) for s in PRICE}
    [sale] = ask(desk(instruments=steps), holding_of(0.30), is_event=True).intents
    assert sale.quantity_base == Decimal("30.000")


def test_the_cash_that_must_stay_is_brought_back_by_trims() -> None:
    held = account(cash="10000", positions=(holding(A, "180"), holding(B, "1800")))
    free, kept = (ask(desk(min_cash=cash, max_position=0.4), held).targets for cash in (0.0, 0.8))
    assert sum(kept.values()) <= 0.2 + 1e-9 < sum(free.values())


def test_a_rebalance_trades_no_more_than_the_turnover_but_a_risk_event_does() -> None:
    made = desk(max_turnover=0.1)
    [slow] = ask(made, holding_of(0.5)).intents
    assert slow.quantity_base * slow.reference_price == Decimal(10_000)
    [quick] = ask(made, holding_of(0.5), is_event=True).intents
    assert quick.quantity_base * quick.reference_price >= Decimal(29_999)


def test_a_failing_solver_keeps_holdings_but_not_a_broken_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise SolverError("no")

    monkeypatch.setattr(MeanVarianceOptimiser, "solve", fails)
    with pytest.raises(SolverError):
        ask(desk(), holding_of(0.30))
    response = ask(desk(), holding_of(0.30), is_event=True)
    [sale] = response.intents
    assert abs(sale.quantity_base * sale.reference_price - 10_000) < 1
    assert response.failure == "no"


@pytest.mark.parametrize(("share", "is_event"), [(0.15, False), (0.205, False), (0.215, True)])
def test_a_cap_touched_is_no_event_a_cap_broken_is(share: float, is_event: bool) -> None:
    assert risk_event_of(HeliosConfig())(holding_of(share)) is is_event
    assert not risk_event_of(HeliosConfig())(account())


def test_a_restart_changes_no_target_and_no_time() -> None:
    lived = desk(rebalance_calendar="daily")
    lived.allocate(request(plan(A, confidence=0.9, take_profit_pct=0.3), plan(B, side=Side.SELL, confidence=0.8)))
    ask(lived, holding_of(0.19))
    again = desk(rebalance_calendar="daily")
    again.upkeep.restore(json.loads(json.dumps(lived.upkeep.to_json())))
    later = NOW + 5 * HOUR_NS
    assert again.upkeep.to_json() == lived.upkeep.to_json()
    assert ask(again, holding_of(0.15), at=later) == ask(lived, holding_of(0.15), at=later)
    assert again.upkeep.targets[A] > 0.15  # the view still stands: without it the holding would be its own ceiling
    midnight = NOW + 25 * HOUR_NS
    assert ask(again, holding_of(0.19), at=midnight) == ask(lived, holding_of(0.19), at=midnight)


def test_what_is_shown_follows_the_last_look_at_the_holdings() -> None:
    made = desk()
    made.allocate(request(plan(B), held=holding_of(0.30)))
    assert (made.allocation["status"], made.allocation["targets"], made.allocation["drift"]) == ("OPTIMAL", {}, {})
    ask(made, holding_of(0.30), at=NOW + HOUR_NS, is_event=True)
    shown = made.allocation
    assert (shown["bar_time"], shown["held"], shown["status"]) == (NOW + HOUR_NS, {A: 0.3}, "OPTIMAL")
    assert shown["drift"][A] == pytest.approx(shown["targets"][A] - 0.3)
    assert shown["last_rebalance"] == "RISK_EVENT"


def test_a_view_that_is_no_number_is_not_kept() -> None:
    made = desk()
    made.allocate(request(plan(take_profit_pct=float("nan"))))
    assert made.upkeep.to_json()["views"] == []


VIEW = {"symbol": A, "daily_return": 0.01, "confidence": 0.7, "made_ns": NOW, "horizon_ns": DAY_NS}


@pytest.mark.parametrize("saved", [
    {}, {"times": {}}, {"times": {}, "views": [{}]}, {"times": {}, "views": [VIEW | {"other": 1}]}, {"times": 3, "views": []},
    {"times": {"last_check_ns": "now"}, "views": []}, {"times": {}, "views": [VIEW | {"made_ns": "now"}]},
    {"times": {}, "views": [VIEW | {"daily_return": None}]}, {"times": {}, "views": None},
])  # fmt: skip
def test_what_another_version_saved_is_refused_whole(saved: dict[str, object]) -> None:
    made = desk()
    before = made.upkeep.to_json()
    with pytest.raises(DataError):
        made.upkeep.restore(saved)
    assert made.upkeep.to_json() == before

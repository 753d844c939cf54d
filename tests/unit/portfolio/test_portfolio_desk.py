"""The portfolio tier: sizes, refusals, cash, exits, fallbacks, determinism."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from helios.config import PortfolioConfig, RiskConfig
from helios.domain.decisions import NoTrade, TradePlan, Verdict, decision_id
from helios.domain.enums import MarketKind, Side, VerdictKind, VolatilityRegime
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, OrderIntent, PositionView, client_order_id
from helios.errors import InvariantError, SolverError
from helios.pipeline.ports import AllocationRequest, AllocationResponse, SymbolContext
from helios.portfolio.history import DAY_NS, HOUR_NS
from helios.portfolio.optimiser import MeanVarianceOptimiser
from helios.portfolio.tier import PortfolioDesk

NOW = 20_000 * DAY_NS
PRICE = {"AAA/ZAR": 100.0, "BBB/ZAR": 10.0, "CCC/ZAR:ZAR": 5.0}


def instrument(symbol: str, **changes: object) -> Instrument:
    kind = MarketKind.PERP if ":" in symbol else MarketKind.SPOT
    made = Instrument(symbol, symbol[:3], "ZAR", "test", symbol, kind=kind, lot_size_base=Decimal("0.001"))
    return replace(made, **changes)  # type: ignore[arg-type]


INSTRUMENTS = {s: instrument(s) for s in PRICE}


def desk(n_hours: int = 200, seed: int = 1, instruments: dict[str, Instrument] = INSTRUMENTS, **config: object) -> PortfolioDesk:
    made = PortfolioDesk(PortfolioConfig(**config), RiskConfig(), instruments)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    for symbol, price in PRICE.items():
        closes = price * np.exp(np.cumsum(rng.normal(0, 0.005, n_hours + 1)))
        times = NOW - HOUR_NS * np.arange(n_hours, -1, -1)
        made.seed(symbol, times, closes, 1e6)
    return made


def plan(symbol: str = "AAA/ZAR", **changes: object) -> TradePlan:
    made = TradePlan(
        decision_id=decision_id(symbol, NOW), symbol=symbol, bar_time=NOW, side=Side.BUY, confidence=0.7,
        notional_quote=Decimal(5_000), leverage=1.0, reference_price=Decimal(str(PRICE[symbol])), stop_loss_pct=0.05,
        take_profit_pct=0.10, loss_at_stop_quote=Decimal(250), horizon_ns=DAY_NS, kelly_full=0.5, kelly_fraction=0.1,
        payoff_ratio=2.0, daily_volatility=0.025, regime=VolatilityRegime.MEDIUM,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def holding(symbol: str, quantity: str) -> PositionView:
    price = Decimal(str(PRICE[symbol]))
    return PositionView(symbol, Decimal(quantity), price, price, Decimal(0), Decimal(0), 0, 1.0, "d", 0.0, 0.0, 0)


def account(cash: str = "100000", equity: str = "100000", positions: tuple[PositionView, ...] = ()) -> AccountSnapshot:
    e, z = Decimal(equity), Decimal(0)
    return AccountSnapshot(NOW, e, Decimal(cash), e, e, z, z, z, 0.0, 0.0, positions, 0, 0, (), 0, 0)


def request(*plans: TradePlan, multiplier: float = 1.0, held: AccountSnapshot | None = None) -> AllocationRequest:
    contexts = {s: SymbolContext(s, NOW, p, 1e4, MarketSnapshot(s, Decimal(str(p)), NOW)) for s, p in PRICE.items()}
    kind = VerdictKind.APPROVE if multiplier == 1.0 else VerdictKind.MODIFY
    verdicts = tuple(Verdict(p.decision_id, p.symbol, kind, multiplier, "", (), "test") for p in plans)
    return AllocationRequest(NOW, plans, verdicts, contexts, held or account())


def only(response: AllocationResponse) -> OrderIntent | NoTrade:
    (result,) = response.intents
    return result


def bought(response: AllocationResponse) -> Decimal:
    return sum((i.quantity_base * i.reference_price for i in response.intents if isinstance(i, OrderIntent)), Decimal(0))


def code(response: AllocationResponse) -> str:
    result = only(response)
    assert isinstance(result, NoTrade)
    assert result.tier == "portfolio"
    return result.code


def test_a_good_plan_gets_its_whole_size_and_carries_its_exits() -> None:
    intent = only(desk().allocate(request(plan(leverage=2.0))))
    assert isinstance(intent, OrderIntent)
    assert intent.quantity_base == Decimal("50.000")  # 5000 / 100: leverage does not multiply the quantity
    assert intent.client_order_id == client_order_id(intent.decision_id, "entry")
    assert intent.exit_rule is not None
    assert (intent.exit_rule.stop_loss_pct, intent.exit_rule.take_profit_pct) == (0.05, 0.10)
    assert intent.exit_rule.timeout_ns == DAY_NS


def test_the_reviewers_multiplier_shrinks_the_order() -> None:
    assert bought(desk().allocate(request(plan(), multiplier=0.5))) == Decimal(2_500)


def test_the_position_cap_counts_what_is_held() -> None:
    held = account(cash="82000", positions=(holding("AAA/ZAR", "180"),))  # 18 % of equity
    assert bought(desk().allocate(request(plan(), held=held))) == pytest.approx(Decimal(2_000), abs=Decimal("0.2"))


def test_a_view_below_its_cost_is_not_worth_trading() -> None:
    poor = plan(confidence=0.55, stop_loss_pct=0.05, take_profit_pct=0.01)
    assert code(desk().allocate(request(poor))) == "OPTIMISER_ZERO"


def test_quantity_lies_on_the_lot_grid_below_the_notional() -> None:
    coarse = {**INSTRUMENTS, "AAA/ZAR": instrument("AAA/ZAR", lot_size_base=Decimal("0.7"))}
    intent = only(desk(instruments=coarse).allocate(request(plan())))
    assert isinstance(intent, OrderIntent)
    assert intent.quantity_base == Decimal("49.7")


def test_an_order_below_the_minimum_is_refused() -> None:
    assert code(desk().allocate(request(plan(notional_quote=Decimal(49))))) == "BELOW_MINIMUM"
    strict = {**INSTRUMENTS, "AAA/ZAR": instrument("AAA/ZAR", min_notional_quote=Decimal(6_000))}
    assert code(desk(instruments=strict).allocate(request(plan()))) == "BELOW_MINIMUM"


@pytest.mark.parametrize(("side", "symbol", "least"), [(Side.BUY, "AAA/ZAR", "105.27"), (Side.SELL, "CCC/ZAR:ZAR", "111.12")])
def test_a_position_can_still_be_closed_at_its_stop(side: Side, symbol: str, least: str) -> None:
    made = desk(instruments={s: instrument(s, min_notional_quote=Decimal(100), lot_size_base=Decimal("0.0001")) for s in PRICE})
    wish = plan(symbol, side=side, notional_quote=Decimal(least))  # 5 % to the stop of a long, 10 % to the target of a short
    assert isinstance(only(made.allocate(request(wish))), OrderIntent)
    assert code(made.allocate(request(replace(wish, notional_quote=Decimal(least) - Decimal("0.02"))))) == "BELOW_MINIMUM"


def test_cash_goes_to_the_most_confident_first() -> None:
    plans = (plan("AAA/ZAR", confidence=0.7), plan("BBB/ZAR", confidence=0.8))
    response = desk().allocate(request(*plans, held=account(cash="8000")))
    first, second = response.intents
    assert isinstance(first, OrderIntent)
    assert isinstance(second, OrderIntent)
    assert second.quantity_base * second.reference_price == Decimal(5_000)
    assert first.quantity_base * first.reference_price == Decimal(2_600)  # 8000 x 0.95 - 5000
    assert bought(response) <= Decimal(8_000) * Decimal("0.95")


def test_no_cash_says_so() -> None:
    assert code(desk().allocate(request(plan(), held=account(cash="10")))) == "INSUFFICIENT_CASH"


def test_spot_cannot_go_short_but_a_perpetual_can() -> None:
    assert code(desk().allocate(request(plan(side=Side.SELL)))) == "OPTIMISER_ZERO"
    response = desk().allocate(request(plan("CCC/ZAR:ZAR", side=Side.SELL, leverage=2.0)))
    assert bought(response) == Decimal(5_000)
    assert response.weights["CCC/ZAR:ZAR"] < 0


def test_an_exit_closes_the_whole_holding_past_the_optimiser() -> None:
    held = account(cash="0", positions=(holding("AAA/ZAR", "12.3456"),))
    intent = only(desk(0).allocate(request(plan(side=Side.SELL, reduce_only=True), held=held)))
    assert isinstance(intent, OrderIntent)
    assert (intent.quantity_base, intent.leg, intent.reduce_only) == (Decimal("12.345"), "exit-signal", True)
    assert intent.exit_rule is None


def test_no_order_is_larger_than_the_venue_takes_and_all_are_whole_lots() -> None:
    steps = {**INSTRUMENTS, "AAA/ZAR": instrument("AAA/ZAR", max_quantity_base=Decimal("30.0005"))}
    for made in (plan(), plan(side=Side.SELL, reduce_only=True)):
        held = account(positions=(holding("AAA/ZAR", "50"),)) if made.reduce_only else account()
        intent = only(desk(instruments=steps).allocate(request(made, held=held)))
        assert isinstance(intent, OrderIntent)
        assert intent.quantity_base == Decimal("30.000")


def test_an_exit_without_a_holding_is_refused() -> None:
    assert code(desk().allocate(request(plan(side=Side.SELL, reduce_only=True)))) == "NOTHING_HELD"


def test_too_little_history_falls_back_to_the_volatility_forecast() -> None:
    response = desk(5).allocate(request(plan()))
    assert response.solver_status == "DIAGONAL"
    assert bought(response) == Decimal(5_000)


def test_a_symbol_without_history_takes_nothing_from_those_that_have_one() -> None:
    made = PortfolioDesk(PortfolioConfig(risk_aversion=20, max_position=1.0, max_sector=1.0), RiskConfig(), INSTRUMENTS)
    times, rng = NOW - HOUR_NS * np.arange(100, -1, -1), np.random.default_rng(3)
    for symbol in ("AAA/ZAR", "BBB/ZAR"):
        made.seed(symbol, times, PRICE[symbol] * np.exp(np.cumsum(rng.normal(0, 0.01, 101))), 1e6)
    old = plan(confidence=0.6, stop_loss_pct=0.05, take_profit_pct=0.06)
    young = plan("CCC/ZAR:ZAR", confidence=0.6, stop_loss_pct=0.05, take_profit_pct=0.06)
    alone, both = made.allocate(request(old)), made.allocate(request(old, young))
    assert (alone.solver_status, both.solver_status) == ("OPTIMAL", "MIXED")
    assert 0 < alone.weights["AAA/ZAR"] < 1
    assert both.weights["AAA/ZAR"] == pytest.approx(alone.weights["AAA/ZAR"], abs=1e-9)
    nobody = PortfolioDesk(PortfolioConfig(risk_aversion=20, max_position=1.0, max_sector=1.0), RiskConfig(), INSTRUMENTS)
    by_itself = nobody.allocate(request(young)).weights["CCC/ZAR:ZAR"]
    assert both.weights["CCC/ZAR:ZAR"] == pytest.approx(by_itself, rel=0.02)  # but for the uncertainty of its own mean


def test_a_failed_solver_keeps_the_present_weights_but_not_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SolverError("no luck")

    monkeypatch.setattr(MeanVarianceOptimiser, "solve", fail)
    held = account(cash="90000", positions=(holding("BBB/ZAR", "1000"),))
    exit_plan = plan("BBB/ZAR", side=Side.SELL, reduce_only=True)
    response = desk().allocate(request(plan(), exit_plan, held=held))
    refused, closed = response.intents
    assert isinstance(refused, NoTrade)
    assert refused.code == response.solver_status == "SOLVER_FAILED"
    assert isinstance(closed, OrderIntent)
    assert response.weights == {"BBB/ZAR": 0.1}


def test_a_plan_that_is_not_a_number_fails_the_solver_not_the_desk() -> None:
    assert code(desk().allocate(request(plan(take_profit_pct=float("nan"))))) == "SOLVER_FAILED"


def test_symbols_without_a_plan_keep_their_weight() -> None:
    held = account(cash="70000", positions=(holding("BBB/ZAR", "3000"),))  # 30 %, above the 20 % cap
    response = desk().allocate(request(plan(), held=held))
    assert response.weights["BBB/ZAR"] == 0.3
    assert bought(response) == Decimal(5_000)


def test_the_sector_cap_counts_what_is_held_elsewhere_in_the_sector() -> None:
    one_sector = PortfolioDesk(PortfolioConfig(max_sector=0.32), RiskConfig(), INSTRUMENTS, lambda _: "crypto")
    held = account(cash="70000", positions=(holding("BBB/ZAR", "3000"),))
    assert bought(one_sector.allocate(request(plan(), held=held))) == pytest.approx(Decimal(2_000), abs=Decimal("0.2"))


def test_a_held_correlated_asset_lowers_the_planned_weight() -> None:
    made = PortfolioDesk(PortfolioConfig(risk_aversion=20, max_position=1.0, max_sector=1.0), RiskConfig(), INSTRUMENTS)
    steps = np.random.default_rng(3).normal(0, 0.01, 101)
    times = NOW - HOUR_NS * np.arange(100, -1, -1)
    for symbol in ("AAA/ZAR", "BBB/ZAR"):
        made.seed(symbol, times, PRICE[symbol] * np.exp(np.cumsum(steps)), 1e6)
    modest = plan(confidence=0.6, stop_loss_pct=0.05, take_profit_pct=0.06, notional_quote=Decimal(90_000))
    alone = made.allocate(request(modest)).weights["AAA/ZAR"]
    held = account(cash="70000", positions=(holding("BBB/ZAR", "3000"),))
    both = made.allocate(request(modest, held=held)).weights["AAA/ZAR"]
    assert both < alone - 0.05
    asked = request(modest, held=held)
    late = replace(asked, contexts={s: c for s, c in asked.contexts.items() if s != "BBB/ZAR"})
    assert made.allocate(late).weights["AAA/ZAR"] == pytest.approx(both)  # a holding whose data did not come is held all the same


def test_dust_is_nothing_that_a_plan_could_be_like_or_add_to() -> None:
    made = PortfolioDesk(PortfolioConfig(), RiskConfig(min_addition=0.9), INSTRUMENTS, max_correlation=0.9)
    steps = np.random.default_rng(3).normal(0, 0.01, 101)
    times = NOW - HOUR_NS * np.arange(100, -1, -1)
    for symbol in ("AAA/ZAR", "BBB/ZAR"):
        made.seed(symbol, times, PRICE[symbol] * np.exp(np.cumsum(steps)), 1e6)
    rests = [holding(symbol, "0.0004") for symbol in ("AAA/ZAR", "BBB/ZAR")]
    assert code(made.allocate(request(plan(), held=account(positions=(rests[1],))))) == "MAX_CORRELATION"
    assert code(made.allocate(request(plan(), held=account(positions=(rests[0],))))) == "BELOW_MINIMUM"
    dust = tuple(replace(rest, is_dust=True) for rest in rests)
    assert isinstance(only(made.allocate(request(plan(), held=account(positions=dust)))), OrderIntent)


def test_equal_inputs_give_equal_answers_whatever_was_solved_before() -> None:
    used = desk()
    used.allocate(request(plan("BBB/ZAR", confidence=0.9)))
    asked = request(plan("AAA/ZAR"), plan("BBB/ZAR"))
    assert used.allocate(asked) == desk().allocate(asked)


def test_verdicts_of_other_plans_or_a_rejected_plan_stop_the_tier() -> None:
    good = request(plan())
    with pytest.raises(InvariantError):
        desk().allocate(replace(good, verdicts=()))
    rejected = replace(good.verdicts[0], kind=VerdictKind.REJECT, multiplier=0.0)
    with pytest.raises(InvariantError):
        desk().allocate(replace(good, verdicts=(rejected,)))
    with pytest.raises(InvariantError):
        desk().allocate(replace(good, verdicts=(replace(good.verdicts[0], multiplier=3.0),)))


def test_a_plan_without_a_price_stops_the_tier() -> None:
    with pytest.raises(InvariantError):
        desk().allocate(request(plan(reference_price=Decimal(0))))


def test_numpy_numbers_in_a_plan_are_numbers() -> None:
    odd = plan("CCC/ZAR:ZAR", leverage=np.float64(2.0), confidence=np.float64(0.7))
    assert bought(desk().allocate(request(odd, multiplier=np.float64(0.5)))) == Decimal(2_500)


def test_a_perpetual_ties_up_margin_not_its_whole_value() -> None:
    held = account(cash="2000")
    assert bought(desk().allocate(request(plan("CCC/ZAR:ZAR", leverage=2.0), held=held))) == Decimal(3_800)
    assert bought(desk().allocate(request(plan("BBB/ZAR", leverage=2.0), held=held))) == Decimal(1_900)


def test_an_unknown_instrument_is_refused_alone() -> None:
    known = {"AAA/ZAR": INSTRUMENTS["AAA/ZAR"]}
    response = desk(instruments=known).allocate(request(plan("BBB/ZAR"), plan("AAA/ZAR")))
    assert isinstance(response.intents[0], NoTrade)
    assert response.intents[0].code == "UNKNOWN_INSTRUMENT"
    assert isinstance(response.intents[1], OrderIntent)


def test_views_move_weights() -> None:
    # Uncertainty in units of variance: a view that is twice as good must matter, not vanish beside the prior.
    modest, good = plan(take_profit_pct=0.03, stop_loss_pct=0.05), plan(take_profit_pct=0.04, stop_loss_pct=0.05)
    careful = desk(risk_aversion=25.0, max_position=1.0, max_sector=1.0)
    weights = [careful.allocate(request(p)).weights["AAA/ZAR"] for p in (modest, good)]
    assert weights[1] > weights[0] + 0.05


def test_a_less_certain_view_gets_less_weight() -> None:
    careful = desk(risk_aversion=25.0, max_position=1.0, max_sector=1.0)
    sure, unsure = (plan(confidence=c, take_profit_pct=0.03) for c in (0.75, 0.65))
    assert careful.allocate(request(sure)).weights["AAA/ZAR"] > careful.allocate(request(unsure)).weights["AAA/ZAR"] + 0.05


def test_the_proceeds_of_a_short_are_not_spent() -> None:
    # 15,000 sold short at leverage 1: of the cash of 35,000 it keeps 30,000, and 5 % of the rest stay as the cushion
    short = account(cash="35000", equity="20000", positions=(holding("CCC/ZAR:ZAR", "-3000"),))
    assert bought(desk(max_position=1.0).allocate(request(plan(), held=short))) == 4_750


def test_what_moves_like_a_holding_is_not_ordered_and_its_cash_goes_to_the_next() -> None:
    made = PortfolioDesk(PortfolioConfig(), RiskConfig(), INSTRUMENTS, max_correlation=0.9)
    rng = np.random.default_rng(4)
    moves = np.cumsum(rng.normal(0, 0.005, (201, 2)), axis=0)
    times = NOW - HOUR_NS * np.arange(200, -1, -1)
    for symbol, column in (("AAA/ZAR", 0), ("CCC/ZAR:ZAR", 0), ("BBB/ZAR", 1)):
        made.seed(symbol, times, PRICE[symbol] * np.exp(moves[:, column]), 1e6)
    held = account(cash="10000", equity="20000", positions=(holding("CCC/ZAR:ZAR", "2000"),))
    alike, other = plan("AAA/ZAR", confidence=0.9, notional_quote=Decimal(9_400)), plan("BBB/ZAR", confidence=0.6)
    first, second = made.allocate(request(alike, other, held=held)).intents
    assert isinstance(first, NoTrade)
    assert (first.code, first.detail) == ("MAX_CORRELATION", "moves like the holding in CCC/ZAR:ZAR: 1 against 0.9")
    assert isinstance(second, OrderIntent)
    hedged = account(
        cash="30000", equity="20000", positions=(holding("CCC/ZAR:ZAR", "-2000"),)
    )  # long against a short: no concentration
    assert isinstance(only(made.allocate(request(plan("AAA/ZAR"), held=hedged))), OrderIntent)

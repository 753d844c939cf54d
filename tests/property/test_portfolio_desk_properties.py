"""Whatever is planned, reviewed and held: the orders of a bar keep every limit of the configuration, in whole lots."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.config import PortfolioConfig, RiskConfig
from helios.domain.decisions import TradePlan
from helios.domain.enums import Side
from helios.domain.orders import AccountSnapshot, OrderIntent
from helios.pipeline.ports import RebalanceRequest
from helios.portfolio.tier import CASH_CUSHION, PortfolioDesk
from tests.unit.portfolio.test_portfolio_desk import HOUR_NS, INSTRUMENTS, NOW, PRICE, account, holding, instrument, plan, request

EQUITY = 100_000
SECTOR = {"AAA/ZAR": "one", "BBB/ZAR": "one", "CCC/ZAR:ZAR": "two"}
LOTS = {"AAA/ZAR": Decimal("0.7"), "BBB/ZAR": Decimal(3), "CCC/ZAR:ZAR": Decimal("0.001")}
STEPS = {s: instrument(s, lot_size_base=LOTS[s], max_quantity_base=Decimal(5_001)) for s in INSTRUMENTS}
fractions = st.floats(0.01, 1.0)


@st.composite
def configurations(draw: st.DrawFn) -> PortfolioConfig:
    return PortfolioConfig(
        max_position=draw(st.floats(0.02, 0.5)),
        max_sector=draw(st.floats(0.05, 1.0)),
        min_cash=draw(st.floats(0.0, 0.9)),
        max_turnover=draw(st.one_of(st.none(), st.floats(0.01, 0.5))),
        cost_pct=draw(st.sampled_from([0.0, 0.0015])),
        min_trade_quote=Decimal(draw(st.integers(1, 5_000))),
    )


@st.composite
def bars(draw: st.DrawFn) -> tuple[list[TradePlan], AccountSnapshot]:
    weights = {s: draw(st.sampled_from([0.0, 0.1, 0.25])) for s in PRICE}
    weights["CCC/ZAR:ZAR"] *= draw(st.sampled_from([1, -1]))
    held = [holding(s, str(Decimal(str(w)) * EQUITY / Decimal(str(PRICE[s])))) for s, w in weights.items() if w]
    cash = EQUITY - sum(w for s, w in weights.items() if ":" not in s) * EQUITY
    plans = []
    for symbol in draw(st.lists(st.sampled_from(sorted(PRICE)), min_size=1, unique=True)):
        side = (
            draw(st.sampled_from(Side)) if ":" in symbol and not weights[symbol] else Side.BUY if weights[symbol] >= 0 else Side.SELL
        )
        made = plan(symbol, side=side, confidence=draw(st.floats(0.55, 0.99)), take_profit_pct=draw(st.floats(0.02, 0.5)))
        plans.append(replace(made, notional_quote=Decimal(draw(st.integers(100, 60_000)))))
    return plans, account(cash=str(cash), positions=tuple(held))


def desk_of(config: PortfolioConfig) -> PortfolioDesk:
    return PortfolioDesk(config, RiskConfig(), STEPS, SECTOR.__getitem__)


@settings(max_examples=100, deadline=None)
@given(configurations(), bars(), fractions)
def test_orders_of_a_bar_keep_every_limit(
    config: PortfolioConfig, bar: tuple[list[TradePlan], AccountSnapshot], share: float
) -> None:
    plans, held = bar
    response = desk_of(config).allocate(request(*plans, multiplier=share, held=held))
    before = {p.symbol: float(p.quantity_base) * PRICE[p.symbol] / EQUITY for p in held.positions}
    after, turnover = dict(before), 0.0
    for order, of in zip(response.intents, plans, strict=True):
        if not isinstance(order, OrderIntent):
            continue
        value = order.quantity_base * order.reference_price
        assert order.quantity_base % LOTS[order.symbol] == 0
        assert config.min_trade_quote <= value <= of.notional_quote * Decimal(repr(share))
        assert order.quantity_base <= STEPS[order.symbol].max_quantity_base
        after[order.symbol] = after.get(order.symbol, 0.0) + float(order.side * value) / EQUITY
        turnover += float(value) / EQUITY
    for symbol, weight in after.items():
        assert abs(weight) <= max(config.max_position, abs(before.get(symbol, 0.0))) + 1e-8
    for sector in set(SECTOR.values()):
        was, now = (sum(abs(w) for s, w in ws.items() if SECTOR[s] == sector) for ws in (before, after))
        assert now <= max(config.max_sector, was) + 1e-8
    was, now = (sum(w for s, w in ws.items() if ":" not in s) for ws in (before, after))
    assert now <= max(1 - config.min_cash, was) + 1e-8
    assert sum(map(abs, after.values())) <= RiskConfig().max_leverage + 1e-8
    assert config.max_turnover is None or turnover <= config.max_turnover + 1e-8
    assert (now - was) * EQUITY <= float(held.cash_quote * (1 - CASH_CUSHION)) + 1e-3


@settings(max_examples=60, deadline=None)
@given(configurations(), bars(), st.booleans())
def test_trims_only_reduce_in_whole_lots_and_no_more_than_the_turnover(
    config: PortfolioConfig, bar: tuple[list[TradePlan], AccountSnapshot], is_event: bool
) -> None:
    plans, held = bar
    desk, asked = desk_of(config), request(*plans, held=held)
    desk.allocate(asked)
    response = desk.rebalance(RebalanceRequest(NOW + HOUR_NS, asked.contexts, held, is_event))
    turnover = 0.0
    for order in response.intents:
        position = held.position(order.symbol)
        assert position is not None
        assert order.reduce_only
        assert order.side * position.quantity_base < 0
        assert order.quantity_base <= abs(position.quantity_base)
        assert order.quantity_base % LOTS[order.symbol] == 0
        assert order.quantity_base * order.reference_price >= config.min_trade_quote
        turnover += float(order.quantity_base * order.reference_price) / EQUITY
    assert is_event or config.max_turnover is None or turnover <= config.max_turnover + 1e-8

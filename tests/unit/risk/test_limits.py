from __future__ import annotations

import math
from decimal import Decimal

import pytest

from helios.config import LimitConfig
from helios.domain.enums import MarketKind, Side, TradingMode
from helios.domain.market import MarketSnapshot
from helios.errors import RejectedError
from helios.risk.limits import LimitRequest, TradingState, check_limits, trading_state
from helios.risk.sectors import DEFAULT_SECTORS, sector_of
from tests.unit.risk.builders import T0, account, instrument, order, position

CONFIG = LimitConfig()
PERP = instrument("BTC/USDT:USDT", MarketKind.PERP, max_leverage=Decimal(5))


def codes(request: LimitRequest, config: LimitConfig = CONFIG) -> list[str]:
    return [violation.code for violation in check_limits(request, config, DEFAULT_SECTORS)]


def test_a_modest_order_passes() -> None:
    assert codes(order()) == []


def test_holding_of_15_percent_plus_10_is_refused() -> None:
    held = account("100000", position("BTC/USDT", "150", "100"), cash_quote=Decimal(85000))
    (violation,) = check_limits(order("10000", account=held), CONFIG, DEFAULT_SECTORS)
    assert (violation.code, violation.value, violation.limit) == ("MAX_POSITION", "0.25", "0.2")
    assert "exceeds max_position_size" in violation.detail


def test_position_at_its_limit_passes_and_a_sale_of_it_too() -> None:
    assert codes(order("20000")) == []
    held = account("100000", position("BTC/USDT", "300", "100"))
    assert codes(order("20000", account=held, side=Side.SELL)) == []


def test_drawdown_of_fifteen_and_a_half_percent_is_refused_whatever_was_reported() -> None:
    fallen = account("84500", peak_equity_quote=Decimal(100000), drawdown=0.0)
    (violation,) = check_limits(order(account=fallen), CONFIG, DEFAULT_SECTORS)
    assert (violation.code, violation.value) == ("MAX_DRAWDOWN", "0.155")
    assert "max drawdown exceeded" in violation.detail


def test_approval_sample_passes() -> None:
    sample = account("95000", peak_equity_quote=Decimal(100000), day_start_equity_quote=Decimal(96154))
    perp = order("11400", account=sample, instrument=PERP, leverage=1.3)
    assert codes(perp) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"account": account("94999", day_start_equity_quote=Decimal(100000))}, "MAX_DAILY_LOSS"),
        ({"account": account(daily_loss=0.05)}, "MAX_DAILY_LOSS"),
        ({"account": account("100000", *(position(f"X{i}/USDT", "1") for i in range(10)))}, "MAX_OPEN_POSITIONS"),
        ({"account": account("100000", position("BCH/USDT", "55000"))}, "MAX_SECTOR"),
        ({"leverage": 1.5}, "MAX_LEVERAGE"),
        ({"leverage": math.nan}, "MAX_LEVERAGE"),
        ({"account": account("100000", position("ETH/USDT", "291000"))}, "MAX_LEVERAGE"),
        ({"account": account(entries_today=20)}, "MAX_ENTRIES_PER_DAY"),
        ({"account": account(last_entry_at=(("BTC/USDT", T0 - 299 * 10**9),))}, "ENTRY_INTERVAL"),
        ({"account": account(consecutive_losses=5)}, "MAX_CONSECUTIVE_LOSSES"),
        ({"account": account(consecutive_losses=3), "mode": TradingMode.LIVE}, "MAX_CONSECUTIVE_LOSSES"),
        ({"volatility_ratio": 3.01}, "VOLATILITY_BREAKER"),
        ({"market": MarketSnapshot("BTC/USDT", Decimal(95), T0)}, "PRICE_DEVIATION"),
        ({"market": MarketSnapshot("BTC/USDT", Decimal("NaN"), T0)}, "PRICE_DEVIATION"),
        ({"limit_price": Decimal("105.01")}, "PRICE_DEVIATION"),
        ({"limit_price": Decimal("100.005")}, "TICK_SIZE"),
        ({"quantity_base": Decimal("0.0999")}, "MIN_NOTIONAL"),
        ({"instrument": instrument(max_notional_quote=Decimal(9999))}, "MAX_NOTIONAL"),
        ({"account": account(cash_quote=Decimal("10499.99"))}, "INSUFFICIENT_BALANCE"),
        ({"instrument": instrument(lot_size_base=Decimal("0.3"))}, "LOT_SIZE"),
        ({"instrument": instrument(min_quantity_base=Decimal(101))}, "MIN_QUANTITY"),
        ({"instrument": instrument(max_quantity_base=Decimal(99))}, "MAX_QUANTITY"),
        ({"data_age_s": 5.01}, "STALE_DATA"),
        ({"data_age_s": math.nan}, "STALE_DATA"),
        ({"side": Side.SELL}, "SHORT_NOT_ALLOWED"),
        ({"reduce_only": True}, "REDUCE_ONLY_WOULD_INCREASE"),
    ],
)
def test_each_limit_alone(changes: dict[str, object], code: str) -> None:
    assert codes(order(**changes)) == [code]


@pytest.mark.parametrize(
    "changes",
    [
        {"account": account(last_entry_at=(("BTC/USDT", T0 - 300 * 10**9), ("ETH/USDT", T0)))},
        {"account": account(consecutive_losses=4)},
        {"market": MarketSnapshot("BTC/USDT", Decimal("95.3"), T0)},
        {"account": account(cash_quote=Decimal(10500))},
        {"side": Side.SELL, "instrument": PERP, "account": account(cash_quote=Decimal(3500)), "leverage": 3.0},
        {"volatility_ratio": math.nan},
    ],
)
def test_just_inside_each_limit(changes: dict[str, object]) -> None:
    assert codes(order(**changes)) == []


def test_correlation_is_signed_by_side() -> None:
    holder = account("100000", position("ETH/USDT", "1000"))
    known = {"ETH/USDT": 0.95}
    assert codes(order(account=holder, correlations=known)) == ["MAX_CORRELATION"]
    assert codes(order(account=holder, correlations=known, side=Side.SELL, instrument=PERP)) == []
    assert codes(order(account=holder, correlations={"ETH/USDT": -0.95}, side=Side.SELL, instrument=PERP)) == ["MAX_CORRELATION"]
    assert codes(order(account=holder, correlations={"ETH/USDT": math.nan})) == []


def test_all_violations_are_reported_together() -> None:
    ruined = account("80000", peak_equity_quote=Decimal(100000), consecutive_losses=9, entries_today=30)
    found = codes(order("30000", account=ruined, data_age_s=60.0))
    assert found == ["MAX_DRAWDOWN", "MAX_CONSECUTIVE_LOSSES", "MAX_POSITION", "MAX_ENTRIES_PER_DAY", "STALE_DATA"]


def test_a_reduction_passes_in_the_worst_of_accounts() -> None:
    ruined = account("10", position("BTC/USDT", "100", "100"), peak_equity_quote=Decimal(100000), entries_today=99)
    sale = order(account=ruined, side=Side.SELL, reduce_only=True, data_age_s=900.0, volatility_ratio=50.0)
    assert codes(sale) == []
    assert codes(order("10001", account=ruined, side=Side.SELL, reduce_only=True)) == ["REDUCE_ONLY_WOULD_INCREASE"]


def test_nothing_may_be_bought_without_equity() -> None:
    assert "MAX_POSITION" in codes(order(account=account("0", cash_quote=Decimal(10**6))))


@pytest.mark.parametrize("quantity", ["0", "-1", "NaN", "Infinity"])
def test_a_quantity_that_is_none_is_refused_at_once(quantity: str) -> None:
    with pytest.raises(RejectedError):
        order(quantity_base=Decimal(quantity))


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, TradingState.ACTIVE),
        ({"drawdown": 0.15}, TradingState.HALTED),
        ({"drawdown": math.nan}, TradingState.HALTED),
        ({"peak_equity_quote": Decimal(120000)}, TradingState.HALTED),
        ({"daily_loss": 0.05}, TradingState.REDUCING),
        ({"consecutive_losses": 5}, TradingState.REDUCING),
        ({"drawdown": 0.149, "daily_loss": 0.049, "consecutive_losses": 4}, TradingState.ACTIVE),
    ],
)
def test_trading_state(changes: dict[str, object], state: TradingState) -> None:
    assert trading_state(account(**changes), CONFIG) is state


def test_live_stops_after_three_losses() -> None:
    assert trading_state(account(consecutive_losses=3), CONFIG, TradingMode.LIVE) is TradingState.REDUCING


def test_sectors_default_to_other_and_can_be_replaced() -> None:
    assert (sector_of("btc"), sector_of("NEWCOIN"), sector_of("BTC", {"BTC": "mine"})) == ("store-of-value", "other", "mine")

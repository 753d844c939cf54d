from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import pytest

from helios.config import LimitConfig
from helios.domain.enums import MarketKind, Side, TradingMode, TradingState
from helios.domain.market import MarketSnapshot
from helios.errors import RejectedError
from helios.risk.account_limits import free_cash, limit_utilisation, trading_state
from helios.risk.limits import LimitRequest, PastOrder, Severity, check_limits, limit_warnings
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


def test_approval_sample_passes_and_shows_its_utilisation() -> None:
    # position 12/20 %, leverage 1.3/2.0, drawdown 5/15 %, daily loss 1.2/5 %
    limits = LimitConfig(max_portfolio_leverage=2.0, max_open_positions=20)
    others = [position(f"X{i}/USDT", "11210") for i in range(10)]  # 118 % of the equity, and the order's 12 %
    before = {"peak_equity_quote": Decimal(100_000), "day_start_equity_quote": Decimal("96153.8")}
    spread = {f"X{i}": f"s{i}" for i in range(10)}
    asked = order("11400", account=account("95000", *others, cash_quote=Decimal(20_000), **before), instrument=PERP, leverage=1.3)
    assert check_limits(asked, limits, spread) == ()
    filled = account("95000", *others, position("BTC/USDT:USDT", "11400"), **before)
    used = {row["name"]: row for row in limit_utilisation(filled, limits, sectors=spread)}
    assert (used["position"]["of"], used["position"]["value"], used["position"]["limit"]) == ("BTC/USDT:USDT", 0.12, 0.2)
    assert (used["leverage"]["value"], used["leverage"]["limit"]) == (pytest.approx(1.3), 2.0)
    assert (used["drawdown"]["value"], used["drawdown"]["share"]) == (0.05, pytest.approx(1 / 3))
    assert (used["daily_loss"]["value"], used["daily_loss"]["share"]) == (
        pytest.approx(0.012, abs=1e-6),
        pytest.approx(0.24, abs=1e-4),
    )


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
        ({"market": None}, "STALE_DATA"),
        ({"account": account(cash_quote=Decimal("NaN"))}, "INSUFFICIENT_BALANCE"),
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


def test_the_proceeds_of_a_short_pay_for_nothing() -> None:
    # 100,000 of equity, 90,000 sold short at leverage 1: the cash says 190,000, of which 180,000 are needed to buy it back
    holder = account("100000", position("ETH/USDT:USDT", "-90000"), cash_quote=Decimal(190_000))
    assert codes(order("9523", account=holder)) == []
    assert codes(order("9524", account=holder)) == ["INSUFFICIENT_BALANCE"]
    assert "INSUFFICIENT_BALANCE" in codes(order("9524", account=holder, side=Side.SELL, instrument=PERP))


def test_a_leveraged_holding_ties_up_its_margin_and_no_more() -> None:
    # 60,000 bought at leverage 3 took 60,000 from the cash, and ties up 20,000 of the 100,000
    holder = account("100000", position("ETH/USDT:USDT", "60000", leverage=3.0), cash_quote=Decimal(40_000))
    assert free_cash(holder) == 80_000
    lost = account("70000", position("ETH/USDT:USDT", "60000", "0.5", leverage=3.0), cash_quote=Decimal(40_000))
    assert free_cash(lost) == 60_000  # equity of 70,000 less a margin of 10,000
    assert free_cash(account("100000", position("ETH/USDT:USDT", "-1", "NaN"))) == Decimal("-Infinity")


def test_correlation_is_signed_by_side() -> None:
    holder = account("100000", position("ETH/USDT", "1000"))
    known = {"ETH/USDT": 0.95}
    assert codes(order(account=holder, correlations=known)) == ["MAX_CORRELATION"]
    assert codes(order(account=holder, correlations=known, side=Side.SELL, instrument=PERP)) == []
    assert codes(order(account=holder, correlations={"ETH/USDT": -0.95}, side=Side.SELL, instrument=PERP)) == ["MAX_CORRELATION"]
    assert codes(order(account=holder, correlations={"ETH/USDT": math.nan})) == []


def test_dust_is_no_open_position_and_nothing_that_an_order_could_be_like() -> None:
    dust = [replace(position(f"X{i}/USDT", "1"), is_dust=True) for i in range(10)]
    known = {"X0/USDT": 0.99}
    assert codes(order(account=account("100000", *dust), correlations=known)) == []
    full = [position(f"X{i}/USDT", "1") for i in range(10)]
    here = replace(position("BTC/USDT", "0.001", "100"), is_dust=True)
    assert codes(order(account=account("100000", *full[:9], here))) == []
    assert codes(order(account=account("100000", *full, here))) == ["MAX_OPEN_POSITIONS"]  # to buy there is to open one
    assert codes(order(account=account("100000", *full[:9], replace(here, is_dust=False)))) == []


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


def warnings(request: LimitRequest, config: LimitConfig = CONFIG) -> list[str]:
    found = limit_warnings(request, config, DEFAULT_SECTORS)
    assert all(w.severity is Severity.WARN for w in found)
    return [w.code for w in found]


def test_what_is_near_a_limit_is_warned_of_and_not_refused() -> None:
    assert warnings(order("15999")) == []
    near = order("16000")
    (warning,) = limit_warnings(near, CONFIG, DEFAULT_SECTORS)
    assert (warning.code, warning.value, warning.limit, warning.severity) == ("MAX_POSITION", "0.16", "0.2", Severity.WARN)
    assert "near its limit" in warning.detail
    assert codes(near) == []
    assert warnings(order(account=account(entries_today=16))) == ["MAX_ENTRIES_PER_DAY"]
    assert warnings(order(account=account(drawdown=0.12))) == ["MAX_DRAWDOWN"]
    assert "MAX_POSITION" not in warnings(order("21000"))  # broken: a refusal is no warning


def test_correlation_is_warned_of_from_070_and_where_it_is_not_known() -> None:
    holder = account("100000", position("ETH/USDT", "1000"))
    assert warnings(order(account=holder, correlations={"ETH/USDT": 0.70})) == []
    assert warnings(order(account=holder, correlations={"ETH/USDT": 0.71})) == ["MAX_CORRELATION"]
    (unknown,) = limit_warnings(order(account=holder), CONFIG, DEFAULT_SECTORS)
    assert "ETH/USDT is not known" in unknown.detail


def test_a_reduction_is_warned_of_nothing() -> None:
    ruined = account("10", position("BTC/USDT", "100", "100"), peak_equity_quote=Decimal(100000), entries_today=99)
    assert warnings(order(account=ruined, side=Side.SELL, reduce_only=True)) == []


def test_the_same_order_again_within_a_minute_is_a_duplicate() -> None:
    same = PastOrder("BTC/USDT", Side.BUY, Decimal(100), T0 - 59 * 10**9)
    assert codes(order(recent=(same,))) == ["DUPLICATE_ORDER"]
    others = (
        same._replace(ts_event=T0 - 60 * 10**9), same._replace(symbol="ETH/USDT"),
        same._replace(quantity_base=Decimal(99)), same._replace(side=Side.SELL),
    )  # fmt: skip
    assert codes(order(recent=others)) == []
    held = account("100000", position("BTC/USDT", "-200", "100"))
    assert codes(order(account=held, recent=(same,), reduce_only=True)) == []


@pytest.mark.parametrize(
    ("hours", "hour", "is_open"),
    [((9, 16), 9, True), ((9, 16), 15, True), ((9, 16), 16, False), ((22, 4), 3, True), ((22, 4), 4, False), ((0, 24), 0, True)],
)
def test_trading_hours_where_they_are_set(hours: tuple[int, int], hour: int, is_open: bool) -> None:
    now = T0 // (24 * 3600 * 10**9) * (24 * 3600 * 10**9) + hour * 3600 * 10**9
    assert codes(order(now_ns=now), LimitConfig(trading_hours_utc=hours)) == ([] if is_open else ["OUTSIDE_TRADING_HOURS"])


@pytest.mark.parametrize("hours", [[9], [9, 9], [-1, 5], [9, 25], [1, 2, 3]])
def test_trading_hours_that_are_none_are_refused(hours: list[int]) -> None:
    with pytest.raises(ValueError, match="trading hours"):
        LimitConfig(trading_hours_utc=hours)


def test_sums_of_money_where_they_are_set() -> None:
    hard = LimitConfig(max_daily_loss_quote=Decimal(500), min_balance_quote=Decimal(200))
    lost = account("99500", day_start_equity_quote=Decimal(100_000))
    assert codes(order(account=lost), hard) == ["MAX_DAILY_LOSS_QUOTE"]
    assert trading_state(lost, hard) is TradingState.REDUCING
    assert codes(order(account=lost)) == []
    assert "MIN_BALANCE" in codes(order("20", account=account("199")), hard)
    assert "MIN_BALANCE" not in codes(order("20", account=account("200")), hard)


@pytest.mark.parametrize("equity", ["NaN", "Infinity", "0", "-1"])
def test_an_unknown_equity_fails_closed(equity: str) -> None:
    assert {"MAX_POSITION", "MAX_SECTOR", "MAX_LEVERAGE"} <= set(codes(order(account=account(equity, cash_quote=Decimal(10**6)))))
    assert trading_state(account(equity), CONFIG) is TradingState.HALTED


def test_utilisation_is_json_and_says_none_where_it_does_not_know() -> None:
    rows = limit_utilisation(account("NaN", position("BTC/USDT", "5")), CONFIG)
    assert {row["name"]: row["share"] for row in rows}["position"] is None
    assert {row["name"] for row in limit_utilisation(account(), LimitConfig(max_daily_loss_quote=Decimal(1)))} >= {"daily_loss_quote"}
    assert next(r for r in limit_utilisation(account(), CONFIG, TradingMode.LIVE) if r["name"] == "consecutive_losses")["limit"] == 3

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from helios.config import LimitConfig
from helios.domain.enums import TradingMode
from helios.domain.market import Instrument
from helios.pipeline.checks import make_check
from helios.pipeline.trace import number
from helios.risk.limits import Severity
from tests.support.pipeline_values import T0, account, intent, plan, snapshot
from tests.unit.risk.builders import position

BTC = Instrument("BTC/USDT", "BTC", "USDT", "test", "BTCUSDT")
CHECK = make_check(LimitConfig(), {BTC.symbol: BTC})
ORDER = intent(plan(BTC.symbol, T0))
S = 1_000_000_000


def test_an_order_within_all_limits_may_go_out() -> None:
    assert CHECK(ORDER, account(), snapshot(), T0 + S) == ()


def test_without_a_market_only_exits_go_out() -> None:
    assert CHECK(ORDER, account(), None, T0) == ("STALE_DATA",)
    late = replace(account(), entries_today=20)
    assert CHECK(ORDER, late, None, T0) == ("MAX_ENTRIES_PER_DAY", "STALE_DATA")
    assert CHECK(replace(ORDER, reduce_only=True), account(), None, T0) == ()


def test_the_age_of_the_market_is_measured_at_the_moment_of_the_order() -> None:
    assert CHECK(ORDER, account(), snapshot(ts=T0), T0 + 4 * S) == ()
    assert CHECK(ORDER, account(), snapshot(ts=T0), T0 + 6 * S) != ()
    assert CHECK(ORDER, account(), snapshot(ts=T0 + 3 * S), T0) == ()


def test_too_large_a_position_is_refused_by_name() -> None:
    codes = CHECK(replace(ORDER, quantity_base=Decimal(500)), account(), snapshot(), T0)
    assert any("POSITION" in code for code in codes), codes


def test_all_codes_come_back_each_once_with_what_only_the_intent_knows() -> None:
    held = replace(account(), positions=(position("ETH/USDT", "1000"),), consecutive_losses=9)
    wild = replace(ORDER, quantity_base=Decimal(5_000), leverage=2.0, volatility_ratio=3.5, correlations=(("ETH/USDT", 0.95),))
    assert CHECK(wild, held, snapshot(), T0) == (
        "MAX_CONSECUTIVE_LOSSES", "MAX_POSITION", "MAX_SECTOR", "MAX_LEVERAGE", "MAX_CORRELATION", "VOLATILITY_BREAKER",
        "MAX_NOTIONAL", "INSUFFICIENT_BALANCE",
    )  # fmt: skip


def test_sectors_go_by_the_base_asset() -> None:
    full = replace(account(), positions=(position("DOGE/USDT", "55000"),))
    assert CHECK(ORDER, full, snapshot(), T0) == ()  # another sector
    assert CHECK(ORDER, replace(full, positions=(position("BCH/USDT", "59000"),)), snapshot(), T0) == ("MAX_SECTOR",)


def test_a_second_decision_for_the_same_order_is_a_duplicate_and_a_repeated_question_is_not() -> None:
    check = make_check(LimitConfig(), {BTC.symbol: BTC})
    again = replace(ORDER, client_order_id="hx-another")
    assert [check(ORDER, account(), snapshot(), T0) for _ in range(2)] == [(), ()]
    assert check(again, account(), snapshot(), T0 + S) == ("DUPLICATE_ORDER",)
    assert check(again, account(), snapshot(ts=T0 + 60 * S), T0 + 60 * S) == ()


def test_a_refused_order_is_no_duplicate_of_the_next() -> None:
    check = make_check(LimitConfig(), {BTC.symbol: BTC})
    assert check(ORDER, replace(account(), entries_today=20), snapshot(), T0) == ("MAX_ENTRIES_PER_DAY",)
    assert check(replace(ORDER, client_order_id="hx-another"), account(), snapshot(), T0) == ()


def test_live_tolerates_fewer_losses() -> None:
    check = make_check(LimitConfig(), {BTC.symbol: BTC})
    losing = replace(account(), consecutive_losses=3)
    assert check(ORDER, losing, snapshot(), T0) == ()
    check.set_mode(TradingMode.LIVE)
    assert check(ORDER, losing, snapshot(), T0) == ("MAX_CONSECUTIVE_LOSSES",)


def test_what_cannot_be_checked_is_refused_by_name() -> None:
    assert CHECK(replace(ORDER, symbol="NEW/USDT"), account(), snapshot(), T0) == ("UNKNOWN_INSTRUMENT",)
    assert CHECK(replace(ORDER, quantity_base=Decimal("NaN")), account(), snapshot(), T0) == ("BAD_QUANTITY",)
    assert CHECK(replace(ORDER, reference_price=Decimal(0)), account(), snapshot(), T0) == ("BAD_PRICE",)


def test_findings_are_told_with_their_severity() -> None:
    check = make_check(LimitConfig(), {BTC.symbol: BTC})

    def found(quantity: int) -> list[tuple[str, Severity, str]]:
        check(replace(ORDER, quantity_base=Decimal(quantity)), account(), snapshot(), T0)
        return [(v.code, v.severity, v.value) for v in check.findings(ORDER.client_order_id)]

    assert found(100) == []
    assert found(170) == [("MAX_POSITION", Severity.WARN, "0.17")]
    assert found(210) == [("MAX_POSITION", Severity.REFUSE, "0.21")]
    assert check.findings("another") == ()
    check(replace(ORDER, symbol="NEW/USDT"), account(), snapshot(), T0)
    assert check.findings(ORDER.client_order_id) == ()


def test_numbers_in_traces_are_finite_or_none() -> None:
    assert [number(v) for v in (float("nan"), float("inf"), -float("inf"), 0.1 + 0.2, 123456789.123456)] == [
        None, None, None, 0.3, 123456789.1,
    ]  # fmt: skip

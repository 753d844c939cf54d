from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from helios.config import LimitConfig
from helios.domain.market import Instrument
from helios.pipeline.checks import make_check
from helios.pipeline.trace import number
from tests.support.pipeline_values import T0, account, intent, plan, snapshot

BTC = Instrument("BTC/USDT", "BTC", "USDT", "test", "BTCUSDT")
CHECK = make_check(LimitConfig(), {BTC.symbol: BTC})
ORDER = intent(plan(BTC.symbol, T0))
S = 1_000_000_000


def test_an_order_within_all_limits_may_go_out() -> None:
    assert CHECK(ORDER, account(), snapshot(), T0 + S) == ()


def test_without_a_market_only_exits_go_out() -> None:
    assert CHECK(ORDER, account(), None, T0) == ("STALE_DATA",)
    assert CHECK(replace(ORDER, reduce_only=True), account(), None, T0) == ()


def test_the_age_of_the_market_is_measured_at_the_moment_of_the_order() -> None:
    assert CHECK(ORDER, account(), snapshot(ts=T0), T0 + 4 * S) == ()
    assert CHECK(ORDER, account(), snapshot(ts=T0), T0 + 6 * S) != ()
    assert CHECK(ORDER, account(), snapshot(ts=T0 + 3 * S), T0) == ()


def test_too_large_a_position_is_refused_by_name() -> None:
    codes = CHECK(replace(ORDER, quantity_base=Decimal(500)), account(), snapshot(), T0)
    assert any("POSITION" in code for code in codes), codes


def test_numbers_in_traces_are_finite_or_none() -> None:
    assert [number(v) for v in (float("nan"), float("inf"), -float("inf"), 0.1 + 0.2, 123456789.123456)] == [
        None, None, None, 0.3, 123456789.1,
    ]  # fmt: skip

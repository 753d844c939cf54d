"""Stops, trailing stops, targets and time-outs on prices, bars and time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from helios.domain.enums import ExitReason, Side, Timeframe
from helios.domain.market import Bar
from helios.domain.orders import ExitPlan, ExitTriggered
from helios.execution.exits import ExitMonitor
from tests.support.execution_fakes import DAY, T0, D, market

LONG = ExitPlan("p1", "BTC/ZAR", Side.BUY, 100.0, 96.0, 108.0, 0.02, 0.01, T0 + DAY)
SHORT = replace(LONG, side=Side.SELL, stop_price=104.0, target_price=92.0)


def monitor(*plans: ExitPlan) -> ExitMonitor:
    watching = ExitMonitor()
    watching.arm(plans or (LONG,))
    return watching


def on_prices(plan: ExitPlan, *prices: float) -> list[tuple[ExitReason, float]]:
    watching = monitor(plan)
    hits = [hit for n, price in enumerate(prices) for hit in watching.on_price(price, T0 + n, market)]
    return [(hit.reason, hit.trigger_price) for hit in hits]


def bar(open_: float, high: float, low: float, close: float, open_time: int = T0) -> Bar:
    return Bar("BTC/ZAR", Timeframe.M1, open_time, open_, high, low, close, 1.0)


def on_bar(plan: ExitPlan, candle: Bar) -> list[ExitTriggered]:
    return monitor(plan).on_bar(candle, market)


@pytest.mark.parametrize(
    ("plan", "prices", "expected"),
    [
        (LONG, (99.0, 96.0), [(ExitReason.STOP, 96.0)]),
        (LONG, (95.0,), [(ExitReason.STOP, 95.0)]),
        (LONG, (101.9, 100.9), []),  # +1.9 %: trailing is not active yet
        (LONG, (103.0, 102.0, 101.97), [(ExitReason.TRAILING_STOP, 101.97)]),
        (LONG, (103.0, 102.0, 104.0, 102.96), [(ExitReason.TRAILING_STOP, 102.96)]),
        (LONG, (108.0,), [(ExitReason.TARGET, 108.0)]),
        (SHORT, (104.0,), [(ExitReason.STOP, 104.0)]),
        (SHORT, (97.0, 97.5, 97.97), [(ExitReason.TRAILING_STOP, 97.97)]),
        (SHORT, (91.0,), [(ExitReason.TARGET, 91.0)]),
        (LONG, (0.0, -5.0, math.nan, math.inf), []),
    ],
)
def test_prices(plan: ExitPlan, prices: tuple[float, ...], expected: list[tuple[ExitReason, float]]) -> None:
    assert on_prices(plan, *prices) == expected


def test_plan_fires_once_until_it_is_rearmed() -> None:
    watching = monitor()
    assert len(watching.on_price(90.0, T0, market)) == 1
    watching.arm([LONG])
    assert watching.on_price(89.0, T0, market) == []
    watching.rearm("p1")
    assert len(watching.on_price(88.0, T0, market)) == 1


def test_arming_again_keeps_the_high_water_mark() -> None:
    watching = monitor()
    watching.on_price(105.0, T0, market)
    watching.arm([LONG, replace(LONG, position_id="p2")])
    assert [hit.position_id for hit in watching.on_price(103.0, T0, market)] == ["p1"]


def test_switched_off_rules_never_fire() -> None:
    off = replace(LONG, stop_price=math.nan, target_price=math.nan, trailing_pct=0.0, expires_at=0)
    assert on_prices(off, 1.0, 1000.0, 1.0) == []
    assert monitor(off).on_time(T0 + 9 * DAY, 100.0, market) == []


def test_time_out_fires_on_price_and_on_time_but_not_without_a_price() -> None:
    assert monitor().on_time(T0 + DAY, math.nan, market) == []
    assert [hit.reason for hit in monitor().on_time(T0 + DAY, 100.0, market)] == [ExitReason.TIMEOUT]
    assert [hit.reason for hit in monitor().on_price(100.0, T0 + DAY, market)] == [ExitReason.TIMEOUT]
    assert monitor().on_time(T0 + DAY - 1, 100.0, market) == []


@pytest.mark.parametrize(
    ("plan", "candle", "expected"),
    [
        (LONG, bar(100, 109, 95, 100), (ExitReason.STOP, 96.0)),  # both touched: the stop counts first
        (LONG, bar(94, 97, 93, 95), (ExitReason.STOP, 94.0)),  # gapped through
        (LONG, bar(109, 110, 95, 100), (ExitReason.TARGET, 109.0)),  # the open is before the low
        (LONG, bar(100, 108.5, 97, 100), (ExitReason.TARGET, 108.0)),
        (LONG, bar(100, 105, 99, 103), (ExitReason.TRAILING_STOP, 103.95)),  # from the high to the close it went through
        (SHORT, bar(100, 105, 90, 100), (ExitReason.STOP, 104.0)),
        (SHORT, bar(106, 107, 90, 100), (ExitReason.STOP, 106.0)),
        (LONG, bar(100, 101, 99, 100.5, T0 + DAY - 60_000_000_000), (ExitReason.TIMEOUT, 100.5)),
    ],
)
def test_bars(plan: ExitPlan, candle: Bar, expected: tuple[ExitReason, float]) -> None:
    [hit] = on_bar(plan, candle)
    assert (hit.reason, hit.trigger_price) == (expected[0], pytest.approx(expected[1]))


def test_bar_exit_carries_a_snapshot_of_the_trigger_not_of_the_close() -> None:
    [hit] = monitor().on_bar(bar(100, 109, 95, 100), lambda: market("100", bids=[("99", "1")]))
    assert (hit.market.last, hit.market.bids, hit.market.ts_event) == (D("96.0"), (), T0 + 60_000_000_000)


def test_quiet_bar_raises_the_water_for_the_next_one() -> None:
    watching = monitor()
    assert watching.on_bar(bar(100, 105, 99, 104.5), market) == []
    [hit] = watching.on_bar(bar(104.5, 104.6, 103, 104), market)
    assert (hit.reason, hit.trigger_price) == (ExitReason.TRAILING_STOP, pytest.approx(103.95))


def test_bar_with_a_missing_price_fires_nothing() -> None:
    assert on_bar(LONG, bar(100, 109, math.nan, 100)) == []


def test_market_is_asked_only_when_something_fires() -> None:
    def unwanted() -> None:
        raise AssertionError("asked for nothing")

    assert monitor().on_price(100.0, T0, unwanted) == []  # type: ignore[arg-type]

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


@pytest.mark.parametrize(
    "broken",
    [
        bar(100, 109, math.nan, 100),
        bar(math.nan, 109, 95, 100),
        bar(100, math.inf, 95, 100),
        bar(100, 109, 95, math.nan),
        bar(100, 109, 0, 100),
        bar(94, 99, 95, 96),  # opened below its low
        bar(100, 101, 95, 102),
    ],
)
def test_bar_with_prices_that_are_unknown_or_contradict_each_other_fires_nothing(broken: Bar) -> None:
    assert on_bar(LONG, broken) == []


BREAKEVEN = replace(LONG, trailing_pct=0.0, breakeven_activate_pct=0.02, breakeven_price=100.3)
SCALING = replace(LONG, trailing_pct=0.0, scale_out_fraction=0.5, scale_out_price=104.0)
BOTH = replace(BREAKEVEN, scale_out_fraction=0.5, scale_out_price=104.0)
SHORT_BOTH = replace(
    SHORT, trailing_pct=0.0, breakeven_activate_pct=0.02, breakeven_price=99.7, scale_out_fraction=0.5, scale_out_price=96.0
)


@pytest.mark.parametrize(
    ("plan", "prices", "expected"),
    [
        (BREAKEVEN, (101.9, 100.0, 96.1), []),  # +1.9 %: the stop is still the fixed one
        (BREAKEVEN, (102.0, 100.31, 100.3), [(ExitReason.BREAKEVEN, 100.3)]),
        (BREAKEVEN, (102.0, 95.0), [(ExitReason.BREAKEVEN, 95.0)]),  # gapped through: at the market, not at the stop
        (replace(BREAKEVEN, trailing_pct=0.01), (102.0, 101.2, 100.9), [(ExitReason.TRAILING_STOP, 100.9)]),  # 100.98 is nearer
        (replace(BREAKEVEN, trailing_pct=0.03), (102.0, 100.3), [(ExitReason.BREAKEVEN, 100.3)]),  # 98.94 is farther
        (SCALING, (103.9, 104.5, 104.0, 105.0), [(ExitReason.SCALE_OUT, 104.5)]),
        (SCALING, (104.0, 96.0), [(ExitReason.SCALE_OUT, 104.0), (ExitReason.STOP, 96.0)]),
        (SCALING, (109.0,), [(ExitReason.TARGET, 109.0)]),  # beyond both: all of it
        (BOTH, (104.0, 103.0, 100.2), [(ExitReason.SCALE_OUT, 104.0), (ExitReason.BREAKEVEN, 100.2)]),
        (SHORT_BOTH, (96.0, 99.6, 99.8), [(ExitReason.SCALE_OUT, 96.0), (ExitReason.BREAKEVEN, 99.8)]),
        (SHORT_BOTH, (96.0, 92.0), [(ExitReason.SCALE_OUT, 96.0), (ExitReason.TARGET, 92.0)]),
    ],
)
def test_break_even_and_scale_out(plan: ExitPlan, prices: tuple[float, ...], expected: list[tuple[ExitReason, float]]) -> None:
    assert on_prices(plan, *prices) == expected


@pytest.mark.parametrize(
    ("plan", "candle", "expected"),
    [
        (SCALING, bar(100, 105, 99, 104), [(ExitReason.SCALE_OUT, 104.0)]),
        (SCALING, bar(105, 106, 99, 104), [(ExitReason.SCALE_OUT, 105.0)]),  # the open was beyond it
        (SCALING, bar(100, 109, 99, 104), [(ExitReason.SCALE_OUT, 104.0), (ExitReason.TARGET, 108.0)]),  # met on the way
        (SCALING, bar(100, 109, 95, 104), [(ExitReason.STOP, 96.0)]),  # the stop counts before both
        (SCALING, bar(109, 110, 99, 104), [(ExitReason.TARGET, 109.0)]),
        (BREAKEVEN, bar(100, 103, 99, 100.2), [(ExitReason.BREAKEVEN, 100.3)]),  # from the high to the close
        (BOTH, bar(100, 105, 99, 100), [(ExitReason.SCALE_OUT, 104.0), (ExitReason.BREAKEVEN, 100.3)]),
        (SHORT_BOTH, bar(100, 101, 95, 100), [(ExitReason.SCALE_OUT, 96.0), (ExitReason.BREAKEVEN, 99.7)]),
    ],
)
def test_break_even_and_scale_out_in_bars(plan: ExitPlan, candle: Bar, expected: list[tuple[ExitReason, float]]) -> None:
    assert [(hit.reason, hit.trigger_price) for hit in on_bar(plan, candle)] == expected


def test_only_the_scale_out_asks_for_a_part_and_it_asks_once() -> None:
    watching = monitor(SCALING)
    hits = [hit for n, price in enumerate((104.0, 105.0, 103.0)) for hit in watching.on_price(price, T0 + n, market)]
    watching.arm([SCALING])
    hits += watching.on_price(105.0, T0 + 9, market) + watching.on_price(95.0, T0 + 10, market)
    assert [(hit.reason, hit.fraction) for hit in hits] == [(ExitReason.SCALE_OUT, 0.5), (ExitReason.STOP, 1.0)]


def test_an_exit_that_failed_fires_again_after_a_pause_that_doubles() -> None:
    watching, fired = monitor(), []
    for half_seconds in range(60):
        hits = watching.on_price(95.0, T0 + half_seconds * 500_000_000, market)
        fired += [half_seconds / 2] * len(hits)
        watching.arm([replace(LONG, attempts=len(fired))])
    assert fired == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0]


def test_an_exit_that_failed_is_judged_anew() -> None:
    watching = monitor()
    assert len(watching.on_price(95.0, T0, market)) == 1
    watching.arm([replace(LONG, attempts=1)])
    assert watching.on_price(99.0, T0 + DAY // 2, market) == []  # the price came back: nothing to protect from
    assert [hit.reason for hit in watching.on_price(99.0, T0 + DAY, market)] == [ExitReason.TIMEOUT]


def test_a_bar_fires_again_in_the_next_bar_and_not_above_its_open() -> None:
    watching = monitor()
    assert len(watching.on_bar(bar(100, 101, 95, 95), market)) == 1
    watching.arm([replace(LONG, attempts=1)])
    [hit] = watching.on_bar(bar(94, 95, 93, 94, T0 + Timeframe.M1.ns), market)
    assert (hit.reason, hit.trigger_price) == (ExitReason.STOP, 94.0)


def test_high_water_counts_while_an_exit_is_under_way() -> None:
    watching = monitor()
    watching.on_price(108.0, T0, market)
    watching.on_price(112.0, T0 + 1, market)
    watching.arm([replace(LONG, target_price=math.nan, attempts=1)])
    [hit] = watching.on_price(110.0, T0 + 2_000_000_000, market)
    assert hit.reason is ExitReason.TRAILING_STOP


MINUTE = Timeframe.M1.ns
OPENED = replace(LONG, opened_at=T0)


@pytest.mark.parametrize(
    ("plan", "past", "expected"),
    [
        (OPENED, [], []),
        (OPENED, [bar(100, 105, 99, 104)], [ExitReason.TRAILING_STOP]),
        (OPENED, [bar(100, 105, 99, 104, T0 - MINUTE)], []),  # it may have been there before we were
        (replace(OPENED, opened_at=T0 + 1), [bar(100, 105, 99, 104)], []),
        (OPENED, [bar(100, 101.9, 99, 101)], []),
        (OPENED, [bar(100, math.nan, 99, 101), bar(100, math.inf, 99, 101, T0 + MINUTE)], []),
        (OPENED, [bar(100, 105, 99, 104), bar(100, 101, 99, 100)], []),  # the venue corrected that minute
        (replace(OPENED, best_price=105.0), [], [ExitReason.TRAILING_STOP]),
        (replace(OPENED, best_price=101.0), [bar(100, 105, 99, 104)], [ExitReason.TRAILING_STOP]),
        (replace(SHORT, opened_at=T0), [bar(100, 101, 95, 99)], [ExitReason.TRAILING_STOP]),
        (replace(OPENED, opened_at=0), [bar(100, 105, 99, 104)], []),  # a plan that does not say when it began
    ],
)
def test_a_new_owner_takes_the_high_water_from_bars_and_from_execution(
    plan: ExitPlan, past: list[Bar], expected: list[ExitReason]
) -> None:
    watching = ExitMonitor()
    for candle in past:
        watching.learn(candle)
    watching.arm([plan])
    price = 101.5 if plan.side is Side.BUY else 98.5
    assert [hit.reason for hit in watching.on_price(price, T0 + 5 * MINUTE, market)] == expected


def test_high_water_never_falls_though_a_bar_is_corrected_or_execution_knows_less() -> None:
    watching = monitor(OPENED)
    watching.learn(bar(100, 105, 99, 104))
    watching.learn(bar(100, 101, 99, 100))
    watching.arm([replace(OPENED, best_price=101.0)])
    assert [hit.reason for hit in watching.on_price(103.9, T0 + MINUTE, market)] == [ExitReason.TRAILING_STOP]


@pytest.mark.parametrize("opened_at", [0, T0 + 1])
def test_the_minute_of_the_opening_tells_nothing_when_it_closes(opened_at: int) -> None:
    watching = monitor(replace(LONG, opened_at=opened_at))
    watching.learn(bar(100, 105, 99, 104))
    assert watching.on_price(101.5, T0 + MINUTE, market) == []


def test_five_minute_bars_tell_of_what_is_older_than_the_minutes_kept() -> None:
    watching = ExitMonitor()
    for n in range(200):
        high = 105.0 if n == 1 else 100.5
        watching.learn(replace(bar(100, high, 99, 100, T0 + n * Timeframe.M5.ns), timeframe=Timeframe.M5))
    for n in range(1_000):
        watching.learn(bar(100, 100.5, 99, 100, T0 + n * MINUTE))
    watching.arm([replace(OPENED, expires_at=0)])
    assert [hit.reason for hit in watching.on_price(103.0, T0 + DAY, market)] == [ExitReason.TRAILING_STOP]


def test_market_is_asked_only_when_something_fires() -> None:
    def unwanted() -> None:
        raise AssertionError("asked for nothing")

    assert monitor().on_price(100.0, T0, unwanted) == []  # type: ignore[arg-type]

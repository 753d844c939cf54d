"""A bar fires what its worst path of prices fires, protection mirrors between long and short, and a stop never moves back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar
from helios.domain.orders import ExitPlan
from helios.execution.exit_rules import protective_stop
from helios.execution.exits import ExitMonitor
from helios.execution.water import Extremes
from tests.support.execution_fakes import T0, market

LONG = ExitPlan("p", "BTC/ZAR", Side.BUY, 100.0, 96.0, 108.0, 0.02, 0.01, 0)
SHORT = replace(LONG, side=Side.SELL, stop_price=104.0, target_price=92.0)
PRICES = st.integers(8_500, 11_500).map(lambda cents: cents / 100)
BARS = st.lists(st.tuples(PRICES, PRICES, PRICES, PRICES), min_size=1, max_size=6)


BREAKEVEN = [
    replace(LONG, breakeven_activate_pct=0.015, breakeven_price=100.3),
    replace(SHORT, breakeven_activate_pct=0.015, breakeven_price=99.7),
]
ALL_RULES = [
    replace(BREAKEVEN[0], scale_out_fraction=0.5, scale_out_price=104.0),
    replace(BREAKEVEN[1], scale_out_fraction=0.5, scale_out_price=96.0),
]


def armed(plan: ExitPlan) -> ExitMonitor:
    monitor = ExitMonitor()
    monitor.arm([plan])
    return monitor


@settings(max_examples=150, deadline=None)
@given(BARS, st.sampled_from([LONG, SHORT, *BREAKEVEN]))
def test_bar_fires_with_the_reason_of_its_worst_price_path(rows: list[tuple[float, ...]], plan: ExitPlan) -> None:
    by_bar, by_price = armed(plan), armed(plan)
    for n, (open_, a, b, close) in enumerate(rows):
        low, high = min(open_, a, b, close), max(open_, a, b, close)
        bar = Bar("BTC/ZAR", Timeframe.M1, T0 + n * Timeframe.M1.ns, open_, high, low, close, 1.0)
        path = (open_, low, high, close) if plan.side is Side.BUY else (open_, high, low, close)
        expected = [hit.reason for price in path for hit in by_price.on_price(price, bar.open_time, market)]
        assert [hit.reason for hit in by_bar.on_bar(bar, market)] == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(PRICES, max_size=20))
def test_nothing_is_left_armed_beyond_its_stop_or_target(prices: list[float]) -> None:
    monitor = armed(LONG)
    hits = [hit for n, price in enumerate(prices) for hit in monitor.on_price(price, T0 + n, market)]
    assert len(hits) <= 1
    assert bool(hits) or all(LONG.stop_price < price < LONG.target_price for price in prices)


@settings(max_examples=150, deadline=None)
@given(PRICES, PRICES, st.sampled_from(ALL_RULES), st.floats(100.0, 103.5))
def test_bar_and_prices_agree_where_the_way_through_the_bar_is_straight(
    open_: float, close: float, plan: ExitPlan, water: float
) -> None:
    plan = replace(plan, best_price=water if plan.side is Side.BUY else 200.0 - water)
    by_bar, by_price = armed(plan), armed(plan)
    bar = Bar("BTC/ZAR", Timeframe.M1, T0, open_, max(open_, close), min(open_, close), close, 1.0)
    straight = np.linspace(open_, close, 2_001)
    single = [hit for price in straight.tolist() for hit in by_price.on_price(price, T0, market)]
    whole = by_bar.on_bar(bar, market)
    assert [(hit.reason, hit.fraction) for hit in whole] == [(hit.reason, hit.fraction) for hit in single]
    step = abs(close - open_) / 2_000
    assert all(abs(a.trigger_price - b.trigger_price) <= step + 1e-9 for a, b in zip(whole, single, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.lists(PRICES, max_size=20), st.sampled_from([LONG, SHORT, *ALL_RULES]))
def test_a_part_is_asked_for_at_most_once_and_never_after_the_whole(prices: list[float], plan: ExitPlan) -> None:
    monitor = armed(plan)
    fractions = [hit.fraction for n, price in enumerate(prices) for hit in monitor.on_price(price, T0 + n, market)]
    assert fractions in ([], [1.0], [0.5], [0.5, 1.0])


@settings(max_examples=150, deadline=None)
@given(st.lists(PRICES, min_size=2, max_size=20), st.sampled_from([LONG, SHORT, *ALL_RULES]))
def test_a_stop_never_moves_back_and_is_never_past_the_best_price(prices: list[float], plan: ExitPlan) -> None:
    water = plan.entry_price
    before = protective_stop(plan, water)[0]
    for price in prices:
        water = plan.side * max(plan.side * water, plan.side * price)
        stop = protective_stop(plan, water)[0]
        assert plan.side * stop >= plan.side * before
        assert plan.side * stop < plan.side * water
        before = stop


@settings(max_examples=100, deadline=None)
@given(BARS, st.sampled_from([LONG, SHORT, *ALL_RULES]), st.integers(0, 6))
def test_an_owner_that_dies_between_two_bars_goes_on_as_if_it_had_not(
    rows: list[tuple[float, ...]], plan: ExitPlan, death: int
) -> None:
    plan = replace(plan, opened_at=T0)
    lived = died = armed(plan)
    past: list[Bar] = []
    for n, (open_, a, b, close) in enumerate(rows):
        if n == death and lived.armed:
            died = ExitMonitor()
            for bar in past:
                died.learn(bar)
            done = n > 0 and lived._watches["p"].is_scaled
            died.arm([replace(plan, scale_out_price=float("nan")) if done else plan])
        low, high = min(open_, a, b, close), max(open_, a, b, close)
        bar = Bar("BTC/ZAR", Timeframe.M1, T0 + n * Timeframe.M1.ns, open_, high, low, close, 1.0)
        expected = lived.on_bar(bar, market)
        if died is not lived:
            assert died.on_bar(bar, market) == expected
        past.append(bar)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 700), PRICES, PRICES), max_size=30), st.integers(0, 700), st.sampled_from(list(Side)))
def test_extremes_are_those_of_the_newest_form_of_each_bar(rows: list[tuple[int, float, float]], since: int, side: Side) -> None:
    extremes, newest = Extremes(), {}
    for minute, a, b in rows:
        bar = Bar("BTC/ZAR", Timeframe.M1, minute * Timeframe.M1.ns, a, max(a, b), min(a, b), b, 1.0)
        extremes.add(bar)
        newest[minute] = bar
    seen = [bar.high if side > 0 else bar.low for minute, bar in newest.items() if minute >= since]
    found = extremes.best_since(since * Timeframe.M1.ns, side)
    assert found == (max(seen) if side > 0 else min(seen)) if seen else found != found

"""A bar fires what its worst path of prices fires, and protection mirrors between long and short."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Side, Timeframe
from helios.domain.market import Bar
from helios.domain.orders import ExitPlan
from helios.execution.exits import ExitMonitor
from tests.support.execution_fakes import T0, market

LONG = ExitPlan("p", "BTC/ZAR", Side.BUY, 100.0, 96.0, 108.0, 0.02, 0.01, 0)
SHORT = replace(LONG, side=Side.SELL, stop_price=104.0, target_price=92.0)
PRICES = st.integers(8_500, 11_500).map(lambda cents: cents / 100)
BARS = st.lists(st.tuples(PRICES, PRICES, PRICES, PRICES), min_size=1, max_size=6)


def armed(plan: ExitPlan) -> ExitMonitor:
    monitor = ExitMonitor()
    monitor.arm([plan])
    return monitor


@settings(max_examples=150, deadline=None)
@given(BARS, st.sampled_from([LONG, SHORT]))
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

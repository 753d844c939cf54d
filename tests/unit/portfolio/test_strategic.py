"""Targets of holdings between signals: views fade, caps are restored, nothing grows without a live view."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.config import PortfolioConfig
from helios.errors import SolverError
from helios.portfolio.history import DAY_NS, HOUR_NS
from helios.portfolio.optimiser import MeanVarianceOptimiser
from helios.portfolio.strategic import Market, StandingView, live_views, strategic_targets

NOW = 100 * DAY_NS
SYMBOLS = ("A", "B", "C", "D")
SIGMA = 0.03**2 * (0.4 * np.eye(4) + 0.6)
MARKET = Market(SYMBOLS, SIGMA, np.full(4, 0.25))
CONFIG = PortfolioConfig()
SOLVERS = {n: MeanVarianceOptimiser(n) for n in (1, 2, 3, 4)}


def targets(held: dict[str, float], *views: StandingView, sectors: str = "ABCD", **more: float) -> dict[str, float]:
    sector = dict(zip(SYMBOLS, sectors, strict=True))
    n = sum(1 for s in SYMBOLS if held.get(s, 0.0) != 0)
    return strategic_targets(held, views, MARKET, NOW, CONFIG, lambda s: sector.get(s, s), optimiser=SOLVERS.get(n), **more)


def view(symbol: str, daily: float, confidence: float = 0.8, age_h: float = 1.0) -> StandingView:
    return StandingView(symbol, daily, confidence, NOW - int(age_h * HOUR_NS), DAY_NS)


@pytest.mark.parametrize(("age_h", "left"), [(0, 0.8), (6, 0.6), (12, 0.4), (24, 0), (30, 0), (-1, 0)])
def test_confidence_fades_in_proportion_to_time(age_h: float, left: float) -> None:
    assert view("A", 0.01, age_h=age_h).confidence_at(NOW) == pytest.approx(left)


def test_the_newest_view_of_a_symbol_counts_and_ones_that_cannot_be_used_do_not() -> None:
    views = [view("A", 0.01, age_h=1), view("A", 0.02, age_h=5), view("B", float("nan")), view("X", 0.1), view("C", 0.1, 1.5)]
    alive = live_views([*views, view("D", 0.1, age_h=-2), view("D", 0.03, age_h=3)], SYMBOLS, NOW)
    assert [(v.label, v.daily_return) for v in alive] == [("A", 0.01), ("D", 0.03)]


def test_without_a_live_view_a_holding_never_grows() -> None:
    made = targets({"A": 0.05, "B": 0.15}, view("A", 0.5, age_h=25))
    assert made["A"] <= 0.05
    assert made["B"] <= 0.15


def test_a_live_view_lets_a_holding_grow_up_to_the_cap() -> None:
    assert targets({"A": 0.05}, view("A", 0.05))["A"] == pytest.approx(0.2, abs=1e-6)


def test_a_view_to_sell_trims_more_the_fresher_it_is() -> None:
    held = {"A": 0.2, "B": 0.1}
    fresh, old, none = (targets(held, *v)["A"] for v in ((view("A", -0.01, age_h=1),), (view("A", -0.01, age_h=20),), ()))
    assert fresh == pytest.approx(0, abs=1e-6)
    assert fresh <= old <= none <= 0.2


def test_a_view_on_another_asset_does_not_let_this_one_grow() -> None:
    assert targets({"A": 0.05}, view("B", 0.05))["A"] <= 0.05


def test_caps_that_the_market_broke_are_restored() -> None:
    made = targets({"A": 0.35, "B": 0.2, "C": 0.2, "D": 0.15}, sectors="XXXY")
    assert max(made.values()) <= 0.2 + 1e-9
    assert made["A"] + made["B"] + made["C"] <= 0.6 + 1e-9


def test_holdings_without_estimate_stay_but_use_up_their_sector() -> None:
    made = targets({"A": 0.2, "B": 0.2, "Z": 0.2, "Y": 0.3}, view("A", 0.05), view("B", 0.05))
    assert (made["Z"], made["Y"]) == (0.2, 0.2)
    full = strategic_targets({"A": 0.2, "Z": 0.2}, [], MARKET, NOW, PortfolioConfig(max_sector=0.25), lambda s: "one")
    assert full["A"] <= 0.05 + 1e-9


def test_shorts_are_reduced_and_grow_only_under_a_view_to_sell() -> None:
    assert -0.1 <= targets({"A": -0.1})["A"] <= 0
    assert targets({"A": -0.1}, view("A", -0.05))["A"] == pytest.approx(-0.2, abs=1e-6)
    assert targets({"A": -0.1}, view("A", 0.05))["A"] == pytest.approx(0, abs=1e-6)


def test_nothing_held_has_no_targets_and_what_is_no_number_raises() -> None:
    assert targets({}) == {}
    assert targets({"A": 0.0}) == {}
    broken = Market(SYMBOLS, SIGMA * np.nan, np.full(4, 0.25))
    with pytest.raises(SolverError):
        strategic_targets({"A": 0.1}, [], broken, NOW, CONFIG, str)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 0.4, allow_subnormal=False), min_size=4, max_size=4),
    st.lists(st.tuples(st.sampled_from(SYMBOLS), st.floats(-0.05, 0.05), st.floats(0, 1), st.floats(-1, 30)), max_size=5),
)
def test_targets_keep_every_limit_from_any_holdings(weights: list[float], stood: list[tuple[str, float, float, float]]) -> None:
    held = {s: w for s, w in zip(SYMBOLS, weights, strict=True) if w > 1e-6}
    views = [view(*v) for v in stood]
    made = targets(held, *views, sectors="XXYY")
    wanted = {v.label for v in live_views(views, SYMBOLS, NOW) if v.daily_return > 0}
    assert set(made) == set(held)
    assert all(0 <= w <= 0.2 + 1e-9 for w in made.values())
    assert all(w <= max(held[s], 0.2 if s in wanted else 0.0) + 1e-9 for s, w in made.items())
    assert made.get("A", 0.0) + made.get("B", 0.0) <= 0.6 + 1e-9
    assert sum(made.values()) <= 1 + 1e-9

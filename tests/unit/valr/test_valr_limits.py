"""VALR's limits as routes of a budget."""

from __future__ import annotations

import pytest

from helios.venues.gcra import NS_PER_S, Gcra
from helios.venues.valr.limits import BUCKETS, CONNECT, PUBLIC, relaxed_rates, valr_rates


@pytest.mark.parametrize(("route", "limit", "window_s"), [(PUBLIC, 30, 60), (BUCKETS, 20, 1), (CONNECT, 60, 60)])
def test_the_documented_limits_hold_in_any_window(route: str, limit: int, window_s: int) -> None:
    state, now_ns, made = Gcra(valr_rates()[route]), 0, []
    for _ in range(5 * limit):
        now_ns += state.reserve(now_ns) or 0
        made.append(now_ns)
    assert max(sum(start <= at <= start + window_s * NS_PER_S for at in made) for start in made) <= limit
    assert len(made) / (made[-1] / NS_PER_S) > 0.5 * limit / window_s


def test_less_than_one_request_a_second_is_possible() -> None:
    rate = valr_rates(0.25)[BUCKETS]
    assert (rate.limit, rate.window_s) == (1, 4.0)


def test_more_than_the_venue_allows_cannot_be_asked_for() -> None:
    assert valr_rates(500.0) == valr_rates()


@pytest.mark.parametrize("requests_per_s", [0.3, 1.0, 20.0, 1000.0])
def test_a_venue_of_our_own_gets_what_is_configured(requests_per_s: float) -> None:
    rate = relaxed_rates(requests_per_s)[PUBLIC]
    assert NS_PER_S / rate.interval_ns == pytest.approx(requests_per_s / 1.05, rel=1e-3)

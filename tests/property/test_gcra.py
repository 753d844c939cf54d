"""Whatever is asked when, a limit holds in every window and nobody waits in vain."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.venues.gcra import NS_PER_S, Gcra, Rate

RATES = st.builds(Rate, st.integers(1, 60), st.sampled_from([0.5, 1.0, 60.0]), st.just(0)) | st.integers(2, 40).flatmap(
    lambda limit: st.builds(Rate, st.just(limit), st.sampled_from([1.0, 60.0]), st.integers(0, limit - 1))
)
GAPS_S = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.05, 0.7, 3.0, 90.0]), min_size=1, max_size=120)


def slots_of(state: Gcra, gaps_s: list[float]) -> list[int]:
    now_ns, slots = 1_000 * NS_PER_S, []
    for gap_s in gaps_s:
        now_ns += int(gap_s * NS_PER_S)
        wait_ns = state.reserve(now_ns)
        assert wait_ns is not None
        slots.append(now_ns + wait_ns)
    return slots


def most_in_window(slots: list[int], window_ns: int) -> int:
    slots = sorted(slots)
    return max(sum(start <= slot <= start + window_ns for slot in slots) for start in slots)


@settings(max_examples=150, deadline=None)
@given(RATES, GAPS_S)
def test_no_window_holds_more_than_the_limit(rate: Rate, gaps_s: list[float]) -> None:
    slots = slots_of(Gcra(rate), gaps_s)
    assert most_in_window(slots, int(rate.window_s * NS_PER_S)) <= rate.limit
    assert slots == sorted(slots)


@settings(max_examples=80, deadline=None)
@given(RATES, GAPS_S)
def test_slots_come_as_fast_as_promised(rate: Rate, gaps_s: list[float]) -> None:
    slots = slots_of(Gcra(rate), [0.0] * len(gaps_s))
    assert slots[min(rate.at_once, len(slots)) - 1] == slots[0]
    assert slots[-1] - slots[0] <= max(0, len(slots) - rate.at_once) * rate.interval_ns


@settings(max_examples=80, deadline=None)
@given(RATES, GAPS_S, st.floats(0.001, 100.0), GAPS_S)
def test_a_pause_admits_nobody_and_then_no_burst(rate: Rate, before: list[float], pause_s: float, after: list[float]) -> None:
    state = Gcra(rate)
    now_ns = slots_of(state, before)[-1]
    state.pause(now_ns, int(pause_s * NS_PER_S))
    until_ns = now_ns + int(pause_s * NS_PER_S)
    slots = [now_ns + wait_ns for _ in after if (wait_ns := state.reserve(now_ns)) is not None]
    assert slots[0] >= until_ns
    assert all(later - earlier >= rate.interval_ns for earlier, later in pairwise(slots))
    assert state.paused_ns(until_ns) == 0


@settings(max_examples=80, deadline=None)
@given(RATES, st.integers(1, 200), st.integers(1, 60))
def test_shares_together_stay_within_the_limit(rate: Rate, n_processes: int, n_requests: int) -> None:
    share = rate.share(n_processes)
    slots = slots_of(Gcra(share), [0.0] * n_requests)
    assert most_in_window(slots, int(share.window_s * NS_PER_S)) <= share.limit
    assert n_processes * share.limit / share.window_s <= rate.limit / rate.window_s * (1 + 1e-9)


@given(RATES, st.integers(0, 10 * NS_PER_S))
def test_a_slot_too_far_away_is_not_taken(rate: Rate, max_wait_ns: int) -> None:
    state, now_ns = Gcra(rate), 5 * NS_PER_S
    state.pause(now_ns, max_wait_ns + 1)
    assert state.reserve(now_ns, max_wait_ns) is None
    assert state.reserve(now_ns, max_wait_ns) is None
    assert state.reserve(now_ns, max_wait_ns + 1) == max_wait_ns + 1


@given(RATES, st.integers(1, 30))
def test_charged_requests_delay_the_next_as_admitted_ones_do(rate: Rate, n_requests: int) -> None:
    charged, asked = Gcra(rate), Gcra(rate)
    charged.charge(NS_PER_S, n_requests)
    for _ in range(n_requests):
        asked.reserve(NS_PER_S)
    assert charged.reserve(NS_PER_S) == asked.reserve(NS_PER_S)

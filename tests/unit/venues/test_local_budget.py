"""The budget of one process on a clock that only sleeping moves."""

from __future__ import annotations

import pytest

from helios.errors import ConfigError, TransportError
from helios.venues.gcra import Rate
from helios.venues.local_budget import LocalBudget
from tests.support.clocks import FakeTime


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime(1_000.0)


@pytest.fixture
def budget(clock: FakeTime) -> LocalBudget:
    rates = {"fast": Rate(20, 1.0), "slow": Rate(2, 60.0)}
    return LocalBudget(rates, max_wait_s=90.0, monotonic_ns=lambda: round(clock.now_s * 1e9), sleep=clock.sleep)


async def test_a_burst_is_free_and_then_requests_are_spaced(budget: LocalBudget, clock: FakeTime) -> None:
    for _ in range(7):
        await budget.admit("fast")
    assert clock.slept == pytest.approx([1.05 / 16] * 3)
    assert budget.admitted == 7


async def test_routes_do_not_share(budget: LocalBudget, clock: FakeTime) -> None:
    await budget.admit("slow")
    await budget.admit("fast")
    assert clock.slept == []


async def test_a_pause_holds_its_route(budget: LocalBudget, clock: FakeTime) -> None:
    await budget.pause("fast", 30.0)
    await budget.admit("slow")
    assert clock.slept == []
    await budget.admit("fast")
    assert clock.slept == [pytest.approx(30.0)]


async def test_waking_a_moment_too_early_costs_no_second_slot(budget: LocalBudget, clock: FakeTime) -> None:
    async def early_sleep(seconds: float) -> None:
        await clock.sleep(seconds - 2e-6)

    budget._sleep = early_sleep
    await budget.pause("fast", 30.0)
    await budget.admit("fast")
    assert clock.slept == [pytest.approx(30.0)]


async def test_a_pause_while_waiting_makes_the_slot_void(budget: LocalBudget, clock: FakeTime) -> None:
    for _ in range(4):
        await budget.admit("fast")
    sleep = clock.sleep

    async def pausing_sleep(seconds: float) -> None:
        if not clock.slept:
            await budget.pause("fast", 10.0)
        await sleep(seconds)

    budget._sleep = pausing_sleep
    started_s = clock.now_s
    await budget.admit("fast")
    assert clock.now_s - started_s >= 10.0


async def test_a_wait_beyond_the_limit_is_refused_and_takes_nothing(budget: LocalBudget, clock: FakeTime) -> None:
    for _ in range(2):
        await budget.admit("slow")  # the second after 63 s
    for _ in range(3):
        await budget.pause("slow", 91.0)
        with pytest.raises(TransportError, match="90 s"):
            await budget.admit("slow")
    clock.now_s += 92.0
    await budget.admit("slow")


async def test_an_unknown_route_is_a_configuration_error(budget: LocalBudget) -> None:
    with pytest.raises(ConfigError, match="'other': fast, slow"):
        await budget.admit("other")


@pytest.mark.parametrize(("limit", "window_s", "burst"), [(0, 1.0, 0), (1, 0.0, 0), (5, 1.0, 6), (5, 1.0, -1)])
def test_an_impossible_rate_is_refused(limit: int, window_s: float, burst: int) -> None:
    with pytest.raises(ConfigError):
        Rate(limit, window_s, burst)

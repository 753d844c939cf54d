from __future__ import annotations

from helios.clock import ManualClock, VenueClock


def test_market_time_runs_at_its_speed_from_the_anchor() -> None:
    now = 100.0
    clock = VenueClock(5_000_000_000, 100.0, 60.0, lambda: now)
    assert (clock.now_ns(), clock.speed) == (5_000_000_000, 60.0)
    now = 100.5
    assert clock.now_ns() == 35_000_000_000


def test_a_manual_clock_never_goes_back() -> None:
    clock = ManualClock(10)
    clock.set(20)
    clock.set(15)
    assert (clock.now_ns(), clock.speed) == (20, 1.0)

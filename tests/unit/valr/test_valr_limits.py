"""The token bucket on a clock that is only a number."""

from __future__ import annotations

import pytest

from helios.venues.valr.limits import TokenBucket


def test_the_burst_is_free_and_then_calls_are_spaced() -> None:
    bucket = TokenBucket(rate_per_s=2.0, burst=3.0)
    assert [bucket.reserve(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]


def test_idling_saves_up_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate_per_s=2.0, burst=3.0)
    bucket.reserve(0.0)
    assert [bucket.reserve(3600.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_tokens_come_back_with_time() -> None:
    bucket = TokenBucket(rate_per_s=2.0, burst=1.0)
    assert bucket.reserve(0.0) == 0.0
    assert bucket.reserve(0.25) == pytest.approx(0.25)
    assert bucket.reserve(1.25) == 0.0


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    bucket = TokenBucket(rate_per_s=1.0, burst=1.0)
    bucket.reserve(10.0)
    assert bucket.reserve(5.0) == 1.0

"""How far two clocks are apart, from questions and answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helios.venues.valr.skew import ClockSkew, TimeSample, clock_skew

S = 1_000_000_000
WAYS = st.lists(st.tuples(st.integers(0, 3 * S), st.integers(0, 3 * S)), min_size=1, max_size=5)


@given(WAYS, st.integers(-10 * S, 10 * S))
def test_the_true_offset_lies_within_the_uncertainty(ways: list[tuple[int, int]], offset_ns: int) -> None:
    now_ns, samples = 1_000 * S, []
    for there_ns, back_ns in ways:
        samples.append(TimeSample(now_ns, now_ns + there_ns + back_ns, now_ns + there_ns + offset_ns))
        now_ns += there_ns + back_ns + S
    skew = clock_skew(samples)
    assert abs(skew.offset_ns - offset_ns) <= skew.uncertainty_ns
    assert skew.uncertainty_ns <= min(there + back for there, back in ways) // 2 + 1


def test_only_what_is_certain_is_alarming() -> None:
    assert ClockSkew(-2 * S, S // 10, 0).is_alarming()
    assert not ClockSkew(2 * S, S, 0).is_alarming()
    assert not ClockSkew(S, 0, 0).is_alarming()
    assert ClockSkew(2 * S, S, 0).is_alarming(limit_s=0.5)

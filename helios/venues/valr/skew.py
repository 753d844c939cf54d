"""How far our wall clock stands from the venue's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NS_PER_S: Final = 1_000_000_000
ALARM_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class TimeSample:
    """One question for the time: our wall clock before and after, and the venue's answer, all ns UTC."""

    asked_ns: int
    answered_ns: int
    venue_ns: int


@dataclass(frozen=True, slots=True)
class ClockSkew:
    """The venue's time minus ours.

    Attributes
    ----------
    offset_ns, uncertainty_ns : int
        The truth lies within offset +- uncertainty, whatever the ways there and back took.
    measured_ns : int
        Our wall clock at the measurement, ns UTC.
    """

    offset_ns: int
    uncertainty_ns: int
    measured_ns: int

    def is_alarming(self, limit_s: float = ALARM_S) -> bool:
        """Return whether the clocks are certainly further apart than `limit_s`."""
        return abs(self.offset_ns) - self.uncertainty_ns > limit_s * NS_PER_S


def clock_skew(samples: Sequence[TimeSample]) -> ClockSkew:
    """Return the skew by the quickest of `samples`: half its round trip bounds the error (Cristian's algorithm).

    References
    ----------
    .. [1] F. Cristian, "Probabilistic clock synchronization", Distributed Computing 3 (1989), 146-158.
    """
    best = min(samples, key=lambda sample: sample.answered_ns - sample.asked_ns)
    middle_ns = (best.asked_ns + best.answered_ns) // 2
    half_ns = (best.answered_ns - best.asked_ns + 1) // 2
    return ClockSkew(best.venue_ns - middle_ns, half_ns, best.answered_ns)

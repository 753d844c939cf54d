"""A token bucket without a clock."""

from __future__ import annotations


class TokenBucket:
    """Allow `burst` calls at once and `rate_per_s` in the long run; at most burst + rate x t in any t seconds.

    Parameters
    ----------
    rate_per_s : float
        Tokens that come back in a second.
    burst : float
        Size of the bucket; it starts full.
    """

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._at_s: float | None = None

    def reserve(self, now_s: float) -> float:
        """Take one token, on credit if need be, and return the seconds to wait before using it."""
        elapsed_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._tokens = min(self._burst, self._tokens + elapsed_s * self._rate_per_s) - 1.0
        return max(0.0, -self._tokens / self._rate_per_s)

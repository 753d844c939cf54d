"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff_delays(rng: random.Random, base_s: float = 0.5, cap_s: float = 10.0) -> Iterator[float]:
    """Yield delays in seconds: exponential with full jitter, uniform in [0, min(cap, base x 2^n)].

    References
    ----------
    .. [1] M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    limit_s = base_s
    while True:
        yield rng.uniform(0.0, min(cap_s, limit_s))
        limit_s = min(cap_s, limit_s * 2.0)

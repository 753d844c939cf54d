"""VALR's own limits as routes of a request budget.

References
----------
.. [1] VALR API documentation, "Rate limiting", docs.valr.com, read 2026-11: public routes 30 a minute; buckets, time and status
   20 a second; new sockets 60 a minute; all per address.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from helios.venues.gcra import Rate

PUBLIC: Final = "public"
BUCKETS: Final = "buckets"  # and the time and the status, which count likewise
CONNECT: Final = "connect"
REST_ROUTES: Final = (PUBLIC, BUCKETS)
BUCKETS_PER_S: Final = 20.0


def valr_rates(buckets_per_s: float = BUCKETS_PER_S) -> Mapping[str, Rate]:
    """Return what VALR allows one address.

    Parameters
    ----------
    buckets_per_s : float, default=20.0
        Requests for buckets, time and status a second; less than VALR's limit leaves room for other programs, more than that
        counts as the limit.
    """
    buckets_per_s = min(buckets_per_s, BUCKETS_PER_S)
    limit = max(1, math.floor(buckets_per_s))
    buckets = Rate(limit, limit / buckets_per_s)
    # Half of what a minute allows may go at once: after an outage all symbols come back together.
    return {PUBLIC: Rate(30, 60.0, 15), BUCKETS: buckets, CONNECT: Rate(60, 60.0, 30)}


def relaxed_rates(requests_per_s: float) -> Mapping[str, Rate]:
    """Return rates for a venue of our own, which limits nobody: `requests_per_s` on each route, a second's worth at once."""
    limit = max(2, math.floor(2 * requests_per_s))
    rate = Rate(limit, limit / (2 * requests_per_s), limit // 2)
    return {PUBLIC: rate, BUCKETS: rate, CONNECT: Rate(60, 60.0, 30)}

"""What the venues behind ccxt allow one address, as routes of a request budget.

ccxt paces the requests of one exchange object; the processes of a desk have one each, so they need a limit in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from helios.venues.ccxt.support import Access
from helios.venues.gcra import Rate

PUBLIC: Final = "public"
CONNECT: Final = "connect"
WINDOW_S: Final = 10.0
CONNECTS_A_MINUTE: Final = 60  # the strictest of these venues: Binance, 300 connections in five minutes


def ccxt_rates(access: Access) -> Mapping[str, Rate]:
    """Return the rates of a way in; a request takes as many units of `public` as ccxt says it weighs, at least one."""
    limit = max(1, int(WINDOW_S * 1000.0 / access.spacing_ms))
    return {PUBLIC: Rate(limit, WINDOW_S), CONNECT: Rate(CONNECTS_A_MINUTE, 60.0, CONNECTS_A_MINUTE // 2)}

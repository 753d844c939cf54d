"""A channel of trades that died alone, while its socket lives on and brings books and candles. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from helios.domain.enums import Timeframe
from helios.domain.market import VenueCandle

MUTE_MINUTES: Final = 2  # the first may lie before we came


class MuteWatch:
    """Compares the venue's own minutes with the trades heard: minutes with volume and without a trade give a dead channel away.

    Attributes
    ----------
    traded : set of str
        Symbols with a trade since their last minute; add to it with each trade.
    """

    def __init__(self) -> None:
        self.traded: set[str] = set()
        self._mute_minutes: Counter[str] = Counter()

    def is_mute(self, minute: VenueCandle) -> bool:
        """Take a closed candle of the venue; whether its symbol's trades must be subscribed anew."""
        symbol = minute.symbol
        if minute.timeframe is not Timeframe.M1:
            return False
        if symbol in self.traded:
            self.traded.discard(symbol)
            self._mute_minutes[symbol] = 0
        elif minute.volume_base > 0.0:
            self._mute_minutes[symbol] += 1
        if self._mute_minutes[symbol] < MUTE_MINUTES:
            return False
        self._mute_minutes[symbol] = 0
        return True

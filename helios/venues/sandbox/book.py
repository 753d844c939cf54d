"""A synthetic order book in integer ticks and lots that reports what changed, with VALR's checksum."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from itertools import chain

from helios.domain.enums import Side
from helios.domain.market import Level

MIN_LEVELS = 20
MAX_LEVELS = 25  # the checksum covers 25 a side, so the whole book is always in it
LOT_DECIMALS = 8

Quantity = Callable[[int, int], int]
"""Lots for a new level, from its price in ticks and its rank (0 is the touch)."""


def decimal_text(units: int, decimals: int) -> str:
    """Return `units` of 10**-decimals as a plain decimal string without trailing zeros."""
    if decimals == 0:
        return str(units)
    whole, part = divmod(units, 10**decimals)
    return f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".") if part else str(whole)


class BookSide:
    """One side, best first.

    Parameters
    ----------
    side : Side
        BUY for bids.
    decimals : int
        Decimals of the tick size.
    gap_ticks : callable
        Gives the distance from the last level to a new one behind it, in ticks, at least 1.
    quantity : callable
        Gives the lots of a new level.
    """

    def __init__(self, side: Side, decimals: int, gap_ticks: Callable[[], int], quantity: Quantity) -> None:
        self._away = -1 if side is Side.BUY else 1  # direction in which prices get worse
        self._decimals = decimals
        self._gap_ticks = gap_ticks
        self._quantity = quantity
        self.ticks: list[int] = []
        self.lots: list[int] = []
        self._levels: list[Level] = []
        self._changed: dict[str, str] = {}

    @property
    def levels(self) -> tuple[Level, ...]:
        """Price and quantity strings."""
        return tuple(self._levels)

    def restore(self, ticks: list[int], lots: list[int]) -> None:
        """Put back saved levels; nothing counts as changed."""
        self.ticks, self.lots, self._changed = list(ticks), list(lots), {}
        self._levels = [
            (decimal_text(price, self._decimals), decimal_text(size, LOT_DECIMALS)) for price, size in zip(ticks, lots, strict=True)
        ]

    def move_to(self, best: int) -> None:
        """Make `best` the touch: levels nearer than it go, the far end is filled up."""
        while self.ticks and (self.ticks[0] - best) * self._away < 0:
            self._remove(0)
        if not self.ticks or self.ticks[0] != best:
            self._insert(0, best)
        while len(self.ticks) < MIN_LEVELS:
            self._insert(len(self.ticks), self.ticks[-1] + self._away * self._gap_ticks())
        while len(self.ticks) > MAX_LEVELS:
            self._remove(len(self.ticks) - 1)

    def set_lots(self, rank: int, lots: int) -> None:
        """Change the quantity of a level."""
        price = self._levels[rank][0]
        level = (price, decimal_text(lots, LOT_DECIMALS))
        self.lots[rank] = lots
        self._levels[rank] = level
        self._changed[price] = level[1]

    def take_changes(self) -> tuple[Level, ...]:
        """Return the levels changed since the last call, "0" for those that went."""
        if not self._changed:
            return ()
        changes = tuple(self._changed.items())
        self._changed = {}
        return changes

    def _insert(self, rank: int, ticks: int) -> None:
        lots = self._quantity(ticks, rank)
        self.ticks.insert(rank, ticks)
        self.lots.insert(rank, lots)
        self._levels.insert(rank, (decimal_text(ticks, self._decimals), ""))
        self.set_lots(rank, lots)

    def _remove(self, rank: int) -> None:
        price = self._levels.pop(rank)[0]
        del self.ticks[rank], self.lots[rank]
        self._changed[price] = "0"


def checksum(bids: tuple[Level, ...] | list[Level], asks: tuple[Level, ...] | list[Level]) -> int:
    """Return VALR's CRC32 over the best 25 levels a side, bid and ask in turn."""
    shared = min(len(bids), len(asks), MAX_LEVELS)
    pairs = chain.from_iterable(zip(bids[:shared], asks[:shared]))
    rest = bids[shared:MAX_LEVELS] or asks[shared:MAX_LEVELS]
    return zlib.crc32(":".join(chain.from_iterable(chain(pairs, rest))).encode())

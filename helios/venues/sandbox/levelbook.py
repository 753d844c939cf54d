"""A full-depth book kept from a recording's changes, with VALR's sequence and checksum put on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from helios.domain.market import BookUpdate, Level
from helios.venues.sandbox.book import checksum


class _Side:
    # Levels by price, best first: keys are negated for bids so that the best is the smallest.
    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._keys: list[float] = []
        self._levels: dict[float, Level] = {}

    def levels(self, count: int | None = None) -> tuple[Level, ...]:
        return tuple(self._levels[key] for key in self._keys[:count])

    def apply(self, changes: Iterable[Level]) -> list[Level]:
        # Returns what really changed: the venue repeats levels and removes ones that nobody has.
        changed: list[Level] = []
        for price, quantity in changes:
            key = self._sign * float(price)
            level = (plain(price), plain(quantity))
            if level[1] == "0":
                if self._levels.pop(key, None) is None:
                    continue
                del self._keys[bisect_left(self._keys, key)]
            elif self._levels.get(key) == level:
                continue
            else:
                if key not in self._levels:
                    self._keys.insert(bisect_left(self._keys, key), key)
                self._levels[key] = level
            changed.append(level)
        return changed

    def replace(self, levels: Iterable[Level]) -> list[Level]:
        # Changes that lead from the old side to the new one.
        new = {self._sign * float(price): (price, quantity) for price, quantity in levels}
        gone = [(self._levels[key][0], "0") for key in self._keys if key not in new]
        return self.apply([*gone, *new.values()])


class LevelBook:
    """One pair's whole book.

    Parameters
    ----------
    symbol : str
    sequence : int
        Number of the first state.
    """

    def __init__(self, symbol: str, sequence: int) -> None:
        self.sequence = sequence
        self._symbol = symbol
        self._bids, self._asks = _Side(-1.0), _Side(1.0)
        self._changed_ns = 0

    def apply(self, update: BookUpdate) -> BookUpdate | None:
        """Take a recorded snapshot or change; return the change as VALR would send it, None if nothing changed."""
        if update.is_snapshot:
            bids, asks = self._bids.replace(update.bids), self._asks.replace(update.asks)
        else:
            bids, asks = self._bids.apply(update.bids), self._asks.apply(update.asks)
        if not bids and not asks:
            return None
        self.sequence += 1
        self._changed_ns = update.ts_event
        return BookUpdate(
            self._symbol, False, tuple(bids), tuple(asks), self.sequence, self._checksum(), update.ts_event
        )  # fmt: skip

    def snapshot(self, ts_ns: int) -> BookUpdate:
        """Return the whole book."""
        bids, asks = self._bids.levels(), self._asks.levels()
        return BookUpdate(self._symbol, True, bids, asks, self.sequence, self._checksum(), self._changed_ns or ts_ns)

    def _checksum(self) -> int:
        return checksum(self._bids.levels(25), self._asks.levels(25))


def plain(text: str) -> str:
    """Return a decimal string without padding, as VALR writes them."""
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text

"""The order book of one symbol, kept from the venue's snapshots and diffs and checked after every one of them.

Levels keep the venue's own decimal strings, because the venue's checksum runs over them and because a paper fill needs exact
prices. A book that cannot be trusted is emptied at once: features of an unsynced book are NaN, never yesterday's truth.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from decimal import Decimal
from typing import Final
from zlib import crc32

from helios.domain.market import NAN, BookUpdate, Level, MarketSnapshot
from helios.errors import InvariantError, StaleDataError

CHECKSUM_LEVELS: Final = 25
SNAPSHOT_LEVELS: Final = 10
_EXACT_DIGITS: Final = 15  # decimal strings with up to 15 significant digits map one to one to doubles (IEEE 754-2019, 5.12.2)
_BPS: Final = 1e4

_Key = float | Decimal
_Row = tuple[str, str, str, float, float]  # "price:quantity" for the checksum, price, quantity, both as floats


class BookDesyncError(StaleDataError):
    """The book no longer follows the venue's; it is empty until the next snapshot.

    Parameters
    ----------
    symbol : str
        Whose book.
    reason : str
        `no_snapshot`, `sequence_gap`, `checksum_mismatch`, `crossed` or `malformed_level`.
    detail : str
        The numbers behind it.
    """

    def __init__(self, symbol: str, reason: str, detail: str = "") -> None:
        super().__init__(symbol, reason, detail)  # all of them, so that it survives pickling between processes
        self.symbol = symbol
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"book of {self.symbol} lost sync: {self.reason} {self.detail}".rstrip()


def _price_key(price: str) -> _Key:
    """Return a number that orders prices exactly: a double where that is one to one, else a Decimal."""
    if len(price) <= _EXACT_DIGITS:
        return float(price)
    exact = Decimal(price).normalize()
    return float(exact) if len(exact.as_tuple().digits) <= _EXACT_DIGITS else exact


class _Side:
    """One side, best first: sorted keys (negated for bids) beside the rows they belong to."""

    __slots__ = ("_keys", "_sign", "rows")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: list[_Key] = []
        self.rows: list[_Row] = []

    def clear(self) -> None:
        self._keys.clear()
        self.rows.clear()

    def apply(self, levels: tuple[Level, ...]) -> None:
        keys, rows, sign = self._keys, self.rows, self._sign
        for price, quantity in levels:
            value, size = _price_key(price), float(quantity)
            if not (0.0 < value < math.inf and 0.0 <= size < math.inf):
                raise ValueError(f"{price}:{quantity}")
            key = value * sign
            at = bisect_left(keys, key)  # float and Decimal compare exactly with each other
            is_known = at < len(keys) and keys[at] == key
            if size == 0.0:
                if is_known:
                    del keys[at], rows[at]
                continue
            row = (f"{price}:{quantity}", price, quantity, float(value), size)
            if is_known:
                rows[at] = row
            else:
                keys.insert(at, key)
                rows.insert(at, row)


class OrderBook:
    """A symbol's book that is either in step with the venue or empty.

    Parameters
    ----------
    symbol : str
        Unified symbol; updates of another symbol are refused.

    Notes
    -----
    A diff costs a bisect per level and one CRC over at most 50 short strings. After `BookDesyncError` the owner must ask the
    venue for a snapshot; every diff until then raises again with reason `no_snapshot`.
    """

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.is_synced = False
        self._sequence: int | None = None
        self._bids = _Side(-1)
        self._asks = _Side(1)

    def apply(self, update: BookUpdate) -> None:
        """Take a snapshot or a diff and verify the result.

        Parameters
        ----------
        update : BookUpdate
            `sequence` None skips the sequence check, `checksum` None the checksum.

        Raises
        ------
        BookDesyncError
            If the book cannot be trusted any more; it is then empty and `is_synced` is False.
        InvariantError
            If the update belongs to another symbol: routing is broken.
        """
        if update.symbol != self.symbol:
            raise InvariantError(f"update of {update.symbol} given to the book of {self.symbol}")
        if update.is_snapshot:
            self.clear()
        else:
            self._check_continuity(update.sequence)
        try:
            self._bids.apply(update.bids)
            self._asks.apply(update.asks)
        except (ValueError, ArithmeticError) as error:
            raise self._desync("malformed_level", str(error)) from error
        self._verify(update.checksum)
        self._sequence = update.sequence
        self.is_synced = True

    def clear(self) -> None:
        """Forget everything, as on a lost connection; the book is unsynced until the next snapshot."""
        self.is_synced = False
        self._sequence = None
        self._bids.clear()
        self._asks.clear()

    def _check_continuity(self, sequence: int | None) -> None:
        if not self.is_synced:
            raise self._desync("no_snapshot")
        previous = self._sequence
        if sequence is not None and previous is not None and sequence != previous + 1:
            raise self._desync("sequence_gap", f"{previous} -> {sequence}")

    def _verify(self, expected: int | None) -> None:
        bids, asks = self._bids.rows, self._asks.rows
        if bids and asks and bids[0][3] >= asks[0][3]:
            raise self._desync("crossed", f"{bids[0][1]} >= {asks[0][1]}")
        if expected is not None and (actual := self.checksum()) != expected:
            raise self._desync("checksum_mismatch", f"{actual} != {expected}")

    def _desync(self, reason: str, detail: str = "") -> BookDesyncError:
        self.clear()
        return BookDesyncError(self.symbol, reason, detail)

    def checksum(self) -> int:
        """Return the unsigned CRC32 of the best 25 levels a side, `bidPrice:bidQty:askPrice:askQty:...`.

        A shorter side's turns are skipped; an empty book gives 0. Strings as received (VALR, OB_L1_DIFF, field `cs`).
        """
        bids, asks = self._bids.rows[:CHECKSUM_LEVELS], self._asks.rows[:CHECKSUM_LEVELS]
        both = min(len(bids), len(asks))
        parts = [""] * (2 * both)
        parts[::2] = [row[0] for row in bids[:both]]
        parts[1::2] = [row[0] for row in asks[:both]]
        parts += [row[0] for row in bids[both:] or asks[both:]]
        return crc32(":".join(parts).encode())

    @property
    def best_bid(self) -> float | None:
        """Highest bid price, None without bids."""
        return self._bids.rows[0][3] if self._bids.rows else None

    @property
    def best_ask(self) -> float | None:
        """Lowest ask price, None without asks."""
        return self._asks.rows[0][3] if self._asks.rows else None

    @property
    def mid(self) -> float | None:
        """Mean of best bid and best ask, None unless both sides have levels."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else (bid + ask) / 2.0

    def spread_bps(self) -> float:
        """Return (best ask - best bid) / mid in basis points, NaN unless both sides have levels."""
        bid, ask = self.best_bid, self.best_ask
        return NAN if bid is None or ask is None else (ask - bid) / ((ask + bid) / 2.0) * _BPS

    def imbalance(self, n_levels: int = 10) -> float:
        """Return (bid - ask quantity) / total over the best `n_levels` a side, in -1..1; NaN for an empty book."""
        bid = sum([row[4] for row in self._bids.rows[:n_levels]])
        ask = sum([row[4] for row in self._asks.rows[:n_levels]])
        return (bid - ask) / (bid + ask) if bid + ask > 0.0 else NAN

    def depth_log(self, n_levels: int = 10) -> float:
        """Return the natural log of the quote value in the best `n_levels` of both sides; NaN for an empty book."""
        rows = self._bids.rows[:n_levels] + self._asks.rows[:n_levels]
        value = sum([row[3] * row[4] for row in rows])
        return math.log(value) if value > 0.0 else NAN

    def microprice_bps(self) -> float:
        """Return (microprice - mid) / mid in bps; the microprice weighs each best price with the other side's quantity."""
        if not self._bids.rows or not self._asks.rows:
            return NAN
        _, _, _, bid, bid_size = self._bids.rows[0]
        _, _, _, ask, ask_size = self._asks.rows[0]
        mid = (bid + ask) / 2.0
        # microprice - mid = (spread / 2) x imbalance of the best level: no cancellation of two large prices.
        return (ask - bid) / 2.0 * (bid_size - ask_size) / (bid_size + ask_size) / mid * _BPS

    def levels(self, n_levels: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Return the best `n_levels` bids and asks as the venue's (price, quantity) strings, best first."""
        bids, asks = self._bids.rows[:n_levels], self._asks.rows[:n_levels]
        return tuple((row[1], row[2]) for row in bids), tuple((row[1], row[2]) for row in asks)

    def snapshot(self, last: Decimal, ts: int) -> MarketSnapshot:
        """Return what a paper fill needs at `ts` (ns): ten exact levels a side, last traded price and spread."""
        bids, asks = self.levels(SNAPSHOT_LEVELS)
        return MarketSnapshot(
            symbol=self.symbol,
            last=last,
            ts_event=ts,
            bids=tuple((Decimal(price), Decimal(quantity)) for price, quantity in bids),
            asks=tuple((Decimal(price), Decimal(quantity)) for price, quantity in asks),
            spread_bps=self.spread_bps(),
        )

"""The order book of one symbol, kept from the venue's snapshots and diffs and checked after every one of them.

Levels keep the venue's own decimal strings, because the venue's checksum runs over them and because a paper fill needs exact
prices. A book that cannot be trusted is emptied at once: features of an unsynced book are NaN, never yesterday's truth.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from decimal import Decimal
from operator import mul
from typing import Final
from zlib import crc32

from helios.domain.market import NAN, BookUpdate, Level, MarketSnapshot
from helios.errors import InvariantError, StaleDataError

CHECKSUM_LEVELS: Final = 25
SNAPSHOT_LEVELS: Final = 10
TOP_LEVELS: Final = 10  # what the book features look at
_EXACT_DIGITS: Final = 15  # decimal strings with up to 15 significant digits map one to one to doubles (IEEE 754-2019, 5.12.2)
_BPS: Final = 1e4
KNOWN_PRICES: Final = 20_000

_Key = float | Decimal


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
    """One side, best first, as parallel lists: what the hot path needs of a level is then a slice away.

    `texts` has "price:quantity" for the checksum. `touched` is the best rank that changed since it was last set back.
    """

    __slots__ = ("_keys", "_known", "_sign", "levels", "prices", "sizes", "texts", "touched")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: list[_Key] = []  # negated for bids
        self._known: dict[str, _Key] = {}  # keys of price texts seen lately: parsing one costs more than looking it up
        self.prices: list[float] = []
        self.sizes: list[float] = []
        self.texts: list[str] = []
        self.levels: list[Level] = []
        self.touched = 0

    def clear(self) -> None:
        for column in (self._keys, self.prices, self.sizes, self.texts, self.levels):
            column.clear()
        self.touched = 0

    def apply(self, levels: tuple[Level, ...]) -> None:
        keys, known = self._keys, self._known
        for level in levels:
            price, quantity = level
            key = known.get(price)
            if key is None:
                key = self._learn(price)
            size = float(quantity)
            if not 0.0 <= size < math.inf:
                raise ValueError(f"{price}:{quantity}")
            at = bisect_left(keys, key)  # float and Decimal compare exactly with each other
            is_known = at < len(keys) and keys[at] == key
            if size == 0.0 and not is_known:
                continue
            if at < self.touched:
                self.touched = at
            if size == 0.0:
                del keys[at], self.prices[at], self.sizes[at], self.texts[at], self.levels[at]
            elif is_known:
                self.sizes[at], self.texts[at], self.levels[at] = size, f"{price}:{quantity}", level
            else:
                keys.insert(at, key)
                self.prices.insert(at, abs(float(key)))
                self.sizes.insert(at, size)
                self.texts.insert(at, f"{price}:{quantity}")
                self.levels.insert(at, level)

    def _learn(self, price: str) -> _Key:
        value = _price_key(price)
        if not 0.0 < value < math.inf:
            raise ValueError(price)
        if len(self._known) >= KNOWN_PRICES:
            self._known.clear()
        key = self._known[price] = value * self._sign
        return key


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

    def take_top_change(self) -> bool:
        """Return whether the best ten levels of a side may have changed since the last call."""
        has_changed = self._bids.touched < TOP_LEVELS or self._asks.touched < TOP_LEVELS
        self._bids.touched = self._asks.touched = TOP_LEVELS
        return has_changed

    def _check_continuity(self, sequence: int | None) -> None:
        if not self.is_synced:
            raise self._desync("no_snapshot")
        previous = self._sequence
        if sequence is not None and previous is not None and sequence != previous + 1:
            raise self._desync("sequence_gap", f"{previous} -> {sequence}")

    def _verify(self, expected: int | None) -> None:
        bids, asks = self._bids.prices, self._asks.prices
        if bids and asks and bids[0] >= asks[0]:
            raise self._desync("crossed", f"{bids[0]} >= {asks[0]}")
        if expected is not None and (actual := self.checksum()) != expected:
            raise self._desync("checksum_mismatch", f"{actual} != {expected}")

    def _desync(self, reason: str, detail: str = "") -> BookDesyncError:
        self.clear()
        return BookDesyncError(self.symbol, reason, detail)

    def checksum(self) -> int:
        """Return the unsigned CRC32 of the best 25 levels a side, `bidPrice:bidQty:askPrice:askQty:...`.

        A shorter side's turns are skipped; an empty book gives 0. Strings as received (VALR, OB_L1_DIFF, field `cs`).
        """
        bids, asks = self._bids.texts[:CHECKSUM_LEVELS], self._asks.texts[:CHECKSUM_LEVELS]
        both = min(len(bids), len(asks))
        parts = [""] * (2 * both)
        parts[::2] = bids[:both]
        parts[1::2] = asks[:both]
        parts += bids[both:] or asks[both:]
        return crc32(":".join(parts).encode())

    @property
    def best_bid(self) -> float | None:
        """Highest bid price, None without bids."""
        return self._bids.prices[0] if self._bids.prices else None

    @property
    def best_ask(self) -> float | None:
        """Lowest ask price, None without asks."""
        return self._asks.prices[0] if self._asks.prices else None

    @property
    def mid(self) -> float | None:
        """Mean of best bid and best ask, None unless both sides have levels."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else (bid + ask) / 2.0

    def spread_bps(self) -> float:
        """Return (best ask - best bid) / mid in basis points, NaN unless both sides have levels."""
        bid, ask = self.best_bid, self.best_ask
        return NAN if bid is None or ask is None else (ask - bid) / ((ask + bid) / 2.0) * _BPS

    def imbalance(self, n_levels: int = TOP_LEVELS) -> float:
        """Return (bid - ask quantity) / total over the best `n_levels` a side, in -1..1; NaN for an empty book."""
        bid, ask = sum(self._bids.sizes[:n_levels]), sum(self._asks.sizes[:n_levels])
        return (bid - ask) / (bid + ask) if bid + ask > 0.0 else NAN

    def depth_log(self, n_levels: int = TOP_LEVELS) -> float:
        """Return the natural log of the quote value in the best `n_levels` of both sides; NaN for an empty book."""
        bids, asks = self._bids, self._asks
        value = sum(map(mul, bids.prices[:n_levels], bids.sizes[:n_levels]))
        value += sum(map(mul, asks.prices[:n_levels], asks.sizes[:n_levels]))
        return math.log(value) if value > 0.0 else NAN

    def microprice_bps(self) -> float:
        """Return (microprice - mid) / mid in bps; the microprice weighs each best price with the other side's quantity."""
        if not self._bids.prices or not self._asks.prices:
            return NAN
        bid, bid_size = self._bids.prices[0], self._bids.sizes[0]
        ask, ask_size = self._asks.prices[0], self._asks.sizes[0]
        mid = (bid + ask) / 2.0
        # microprice - mid = (spread / 2) x imbalance of the best level: no cancellation of two large prices.
        return (ask - bid) / 2.0 * (bid_size - ask_size) / (bid_size + ask_size) / mid * _BPS

    def top(self) -> tuple[float, float, float, float]:
        """Return spread (bps), imbalance, depth (log) and microprice (bps) at once; as the methods of these names, in one pass."""
        bids, asks = self._bids, self._asks
        bid_sizes, ask_sizes = bids.sizes[:TOP_LEVELS], asks.sizes[:TOP_LEVELS]
        bid, ask = sum(bid_sizes), sum(ask_sizes)
        if not bid + ask > 0.0:
            return NAN, NAN, NAN, NAN
        value = sum(map(mul, bids.prices[:TOP_LEVELS], bid_sizes))
        value += sum(map(mul, asks.prices[:TOP_LEVELS], ask_sizes))
        depth = math.log(value) if value > 0.0 else NAN
        if not bid_sizes or not ask_sizes:
            return NAN, (bid - ask) / (bid + ask), depth, NAN
        low, high, size, other = bids.prices[0], asks.prices[0], bid_sizes[0], ask_sizes[0]
        mid = (low + high) / 2.0
        micro = (high - low) / 2.0 * (size - other) / (size + other) / mid * _BPS
        return (high - low) / mid * _BPS, (bid - ask) / (bid + ask), depth, micro

    def levels(self, n_levels: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Return the best `n_levels` bids and asks as the venue's (price, quantity) strings, best first."""
        return tuple(self._bids.levels[:n_levels]), tuple(self._asks.levels[:n_levels])

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

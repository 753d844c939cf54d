"""Market data values: instruments, trades, books, bars, snapshots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from helios.domain.enums import MarketKind, Side, Timeframe
from helios.errors import ConfigError

NAN = math.nan
Level = tuple[str, str]
"""Price and quantity of a book level as the venue's own decimal strings (checksums run over them)."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """What may be traded and in which steps. Amounts are in quote currency unless the name says base."""

    symbol: str
    base: str
    quote: str
    venue: str
    venue_symbol: str
    kind: MarketKind = MarketKind.SPOT
    tick_size: Decimal = Decimal("0.01")
    lot_size_base: Decimal = Decimal("0.00000001")
    min_quantity_base: Decimal = Decimal(0)
    max_quantity_base: Decimal = Decimal("1e9")
    min_notional_quote: Decimal = Decimal(0)
    max_notional_quote: Decimal = Decimal("1e12")
    maker_fee: Decimal = Decimal("0.001")
    taker_fee: Decimal = Decimal("0.001")
    max_leverage: Decimal = Decimal(1)

    @property
    def can_short(self) -> bool:
        """Whether a position below zero is possible."""
        return self.kind is MarketKind.PERP


@dataclass(frozen=True, slots=True)
class Trade:
    """A public print. `ts_event` is the venue's time, `ts_init` ours, both ns UTC."""

    symbol: str
    trade_id: str
    price: float
    quantity: float
    taker_side: Side
    ts_event: int
    ts_init: int = 0


@dataclass(frozen=True, slots=True)
class BookUpdate:
    """A whole book (`is_snapshot`) or changed levels, quantity "0" removing one.

    `sequence` must be the previous one plus 1 for a diff (None: the venue gives none); `checksum` is the venue's CRC32 after
    the update (None: the venue gives none).
    """

    symbol: str
    is_snapshot: bool
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    sequence: int | None
    checksum: int | None
    ts_event: int
    ts_init: int = 0


@dataclass(frozen=True, slots=True)
class VenueCandle:
    """A closed bucket as the venue reports it (REST or push)."""

    symbol: str
    timeframe: Timeframe
    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume_base: float
    volume_quote: float = NAN


@dataclass(frozen=True, slots=True)
class Bar:
    """A closed candle with what trades and book said during it. Unknown parts are NaN, never made up.

    Attributes
    ----------
    open_time : int
        ns UTC; the bar is known only at `close_time`.
    volume, buy_volume : float
        Base units; `buy_volume` is the part where the taker bought.
    quote_volume : float
        Traded value in quote units.
    spread_bps, book_imbalance, depth_log : float
        Time-weighted spread; mean over the bar of (bid - ask quantity)/total and of log quote value, both over ten levels.
    trade_momentum, microprice_bps : float
        Signed over total quantity of the last ten trades, and (microprice - mid)/mid, both at the close.
    """

    symbol: str
    timeframe: Timeframe
    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float = NAN
    trade_count: float = NAN
    buy_volume: float = NAN
    spread_bps: float = NAN
    book_imbalance: float = NAN
    depth_log: float = NAN
    trade_momentum: float = NAN
    microprice_bps: float = NAN

    @property
    def close_time(self) -> int:
        """First instant at which the bar is known, ns UTC."""
        return self.open_time + self.timeframe.ns


BAR_VALUES: tuple[str, ...] = (
    "open", "high", "low", "close", "volume", "quote_volume", "trade_count", "buy_volume",
    "spread_bps", "book_imbalance", "depth_log", "trade_momentum", "microprice_bps",
)  # fmt: skip
"""Order of a bar's numbers wherever bars are columns of an array (batch features, storage)."""


@dataclass(frozen=True, slots=True)
class MarketSnapshot:
    """What a paper fill needs: last price and up to ten levels a side, best first, exact. Levels are empty without a book."""

    symbol: str
    last: Decimal
    ts_event: int
    bids: tuple[tuple[Decimal, Decimal], ...] = ()
    asks: tuple[tuple[Decimal, Decimal], ...] = ()
    spread_bps: float = NAN


def quote_currency(instruments: Mapping[str, Instrument]) -> str:
    """Return the one currency that all instruments are quoted in; empty without any.

    Raises
    ------
    ConfigError
        If there are several: an account adds prices up, and rand and dollars do not add.
    """
    quotes = sorted({i.quote for i in instruments.values()})
    if len(quotes) > 1:
        named = ", ".join(f"{quote} ({next(s for s, i in instruments.items() if i.quote == quote)})" for quote in quotes)
        raise ConfigError(f"one desk needs one quote currency, these symbols have several: {named}")
    return quotes[0] if quotes else ""

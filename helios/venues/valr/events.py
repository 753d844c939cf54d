"""What a frame of VALR's trade socket can mean, beside the domain's own Trade, BookUpdate and VenueCandle."""

from __future__ import annotations

from dataclasses import dataclass

from helios.domain.market import BookUpdate, Trade, VenueCandle

OrderEntry = tuple[str, str, str]
"""Price, quantity ("0" removes the order) and id of one resting order, as the venue's own strings."""


@dataclass(frozen=True, slots=True)
class MarketSummary:
    """Prices and 24-hour statistics. A price the venue gives as "0" (no such quote or trade) is NaN, so is what it leaves out.

    `change_pct_24h` is the venue's own: the last price against that of a day before.
    """

    symbol: str
    bid: float
    ask: float
    last: float
    mark: float
    previous_close: float
    high_24h: float
    low_24h: float
    volume_base_24h: float
    volume_quote_24h: float
    change_pct_24h: float
    ts_event: int
    ts_init: int = 0


@dataclass(frozen=True, slots=True)
class MarkPrice:
    """The venue's mark price; the frame carries no time of its own."""

    symbol: str
    price: float
    ts_init: int = 0


@dataclass(frozen=True, slots=True)
class OrdersUpdate:
    """A whole order-level book (`is_snapshot`) or changed orders, in the venue's order (price, then queue).

    `sequence` must be the previous one plus the number of entries of a diff, removals counted; `checksum` is the CRC32 over
    the first 25 orders of each side after it.
    """

    symbol: str
    is_snapshot: bool
    bids: tuple[OrderEntry, ...]
    asks: tuple[OrderEntry, ...]
    sequence: int
    checksum: int
    ts_event: int
    ts_init: int = 0


@dataclass(frozen=True, slots=True)
class AllowedOrderTypes:
    """The order types a pair takes from now on, such as "LIMIT" and "MARKET"."""

    symbol: str
    order_types: tuple[str, ...]
    ts_init: int = 0


@dataclass(frozen=True, slots=True)
class PnlRunCompleted:
    """Profits and losses of a perpetual were settled at `price` (quote units)."""

    symbol: str
    price: float
    ts_init: int = 0


@dataclass(frozen=True, slots=True)
class FundingRunCompleted:
    """Funding of a perpetual was exchanged; the frame says no more."""

    symbol: str
    ts_init: int = 0


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The venue accepted one event for one of its pairs."""

    event: str
    pair: str


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The venue ended one event for one of its pairs."""

    event: str
    pair: str


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to a PING; the message is "NO_SUBSCRIPTIONS" on a socket that listens to nothing."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The venue accepted the key of this socket."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """The venue refused a message; the socket stays open."""

    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The venue did not accept our key (UNAUTHORIZED) or our message (UNSUPPORTED)."""

    type: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A well-formed frame that means nothing to us: an unknown type, pair or candle length."""

    type: str


Control = Subscribed | Unsubscribed | Pong | Authenticated | ServerError | Refused | Ignored
Market = BookUpdate | Trade | VenueCandle | MarketSummary | MarkPrice | OrdersUpdate
ValrEvent = Market | AllowedOrderTypes | PnlRunCompleted | FundingRunCompleted | Control

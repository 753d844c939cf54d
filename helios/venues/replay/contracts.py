"""Contracts of recorded files, whose names are all that says what they hold."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt

from helios.domain.enums import MarketKind
from helios.domain.market import Instrument
from helios.errors import DataError

QUOTES = ("FDUSD", "USDT", "USDC", "USD", "EUR", "GBP", "ZAR", "BTC", "ETH", "BNB")  # longer names first: BTCUSDT is not in USD
LARGEST_TICK_EXPONENT = 3
SMALLEST_TICK_EXPONENT = -8
PERP_LOT = Decimal("0.001")
SPOT_LOT = Decimal("0.00001")


def split_pair(pair: str) -> tuple[str, str]:
    """Return base and quote of a name such as BTCUSDT; raises DataError if it ends in no known quote."""
    for quote in QUOTES:
        if pair.endswith(quote) and len(pair) > len(quote):
            return pair[: -len(quote)], quote
    raise DataError(f"{pair}: quote currency not known; known are {', '.join(QUOTES)}")


def symbol_of(pair: str, kind: MarketKind) -> str:
    """Return the ccxt symbol: BTC/USDT, or BTC/USDT:USDT for a perpetual."""
    base, quote = split_pair(pair)
    return f"{base}/{quote}:{quote}" if kind is MarketKind.PERP else f"{base}/{quote}"


def infer_tick(prices: npt.NDArray[np.float64]) -> Decimal:
    """Return the largest power of ten of which all prices are multiples, at least 1e-8.

    A float that came from a decimal equals that decimal rounded again, so the comparison is exact.
    """
    for exponent in range(LARGEST_TICK_EXPONENT, SMALLEST_TICK_EXPONENT, -1):
        if np.array_equal(np.round(prices, -exponent), prices):
            return Decimal(1).scaleb(exponent)
    return Decimal(1).scaleb(SMALLEST_TICK_EXPONENT)


def recorded_instrument(pair: str, kind: MarketKind, tick_size: Decimal) -> Instrument:
    """Return the contract of a recording; lots, limits and fees are Binance's usual ones, the files do not hold them."""
    base, quote = split_pair(pair)
    is_perp = kind is MarketKind.PERP
    lot = PERP_LOT if is_perp else SPOT_LOT
    return Instrument(
        symbol=symbol_of(pair, kind), base=base, quote=quote, venue="replay", venue_symbol=pair, kind=kind,
        tick_size=tick_size, lot_size_base=lot, min_quantity_base=lot, max_quantity_base=Decimal(10_000_000),
        min_notional_quote=Decimal(5), max_notional_quote=Decimal(5_000_000),
        maker_fee=Decimal("0.0002") if is_perp else Decimal("0.001"),
        taker_fee=Decimal("0.0005") if is_perp else Decimal("0.001"),
        max_leverage=Decimal(3) if is_perp else Decimal(1),
    )  # fmt: skip

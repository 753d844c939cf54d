"""What a recording holds beside a venue's frames, as JSON: contracts, candles, the clock, the state of the connection.

Numbers survive exactly: prices of contracts are decimal strings, candles are doubles in their shortest form, NaN is null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any

from helios.domain.enums import MarketKind, Timeframe
from helios.domain.market import NAN, Bar, Instrument, VenueCandle
from helios.errors import DataError

STATUS = "status"
CLOCK = "clock"
CANDLES = "candles"
VALR_PROTOCOL = "valr-trade-1"

Json = dict[str, Any]
_DECIMALS = tuple(field.name for field in fields(Instrument) if field.type == "Decimal")
_CANDLE_VALUES = ("open", "high", "low", "close", "volume_base", "volume_quote")


@dataclass(frozen=True, slots=True)
class MarketClock:
    """How the local clock reads as market time: `market_ns` at `local_ns`, `speed` market seconds per local second."""

    market_ns: int
    local_ns: int
    speed: float

    def market(self, local_ns: int) -> int:
        """Return market time at a local time, both ns UTC."""
        return self.market_ns + int((local_ns - self.local_ns) * self.speed)


@dataclass(frozen=True, slots=True)
class CandleAnswer:
    """What the venue answered to a request for start_ns <= open_time < end_ns."""

    symbol: str
    timeframe: Timeframe
    start_ns: int
    end_ns: int
    bars: tuple[Bar, ...]

    def candles(self) -> list[VenueCandle]:
        """Return the answer as the venue's candles."""
        return [
            VenueCandle(b.symbol, b.timeframe, b.open_time, b.open, b.high, b.low, b.close, b.volume, b.quote_volume)
            for b in self.bars
        ]


def instrument_json(instrument: Instrument) -> Json:
    """Return a contract as plain JSON."""
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in asdict(instrument).items()}


def read_instrument(value: Json) -> Instrument:
    """Return the contract that `instrument_json` wrote; raises DataError if it is none."""
    try:
        exact = {name: Decimal(value[name]) for name in _DECIMALS}
        return Instrument(**{**value, **exact, "kind": MarketKind(value["kind"])})
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise DataError(f"recording: contract cannot be read: {error!r}") from error


def clock_json(clock: MarketClock) -> Json:
    """Return a clock as plain JSON."""
    return asdict(clock)


def read_clock(value: Json) -> MarketClock:
    """Return the clock that `clock_json` wrote; raises DataError if it is none."""
    try:
        return MarketClock(int(value["market_ns"]), int(value["local_ns"]), float(value["speed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"recording: clock cannot be read: {error!r}") from error


def candles_json(symbol: str, timeframe: Timeframe, start_ns: int, end_ns: int, candles: Sequence[VenueCandle]) -> Json:
    """Return a venue's answer as plain JSON."""
    rows = [[c.open_time, *(_plain(getattr(c, name)) for name in _CANDLE_VALUES)] for c in candles]
    return {"symbol": symbol, "timeframe": timeframe.value, "start_ns": start_ns, "end_ns": end_ns, "rows": rows}


def read_candles(value: Json) -> CandleAnswer:
    """Return the answer that `candles_json` wrote; raises DataError if it is none."""
    try:
        symbol, timeframe = str(value["symbol"]), Timeframe(value["timeframe"])
        bars = tuple(
            Bar(symbol, timeframe, int(row[0]), *(NAN if number is None else float(number) for number in row[1:]))
            for row in value["rows"]
        )
        return CandleAnswer(symbol, timeframe, int(value["start_ns"]), int(value["end_ns"]), bars)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"recording: candles cannot be read: {error!r}") from error


def _plain(number: float) -> float | None:
    return None if math.isnan(number) else number

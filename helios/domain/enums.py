"""Closed vocabularies of the domain."""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum


class Side(IntEnum):
    """Direction of an order, trade or position."""

    BUY = 1
    SELL = -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side(-self.value)


class Action(IntEnum):
    """Classes of the predictor; the numbers are the label codes."""

    BUY = 0
    SELL = 1
    HOLD = 2


class Timeframe(Enum):
    """Candle lengths; the value is ccxt's name."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    D1 = "1d"

    @property
    def seconds(self) -> int:
        """Length in seconds."""
        return _SECONDS[self.value]

    @property
    def ns(self) -> int:
        """Length in nanoseconds."""
        return _SECONDS[self.value] * 1_000_000_000


_SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86400}

FEATURE_TIMEFRAMES: tuple[Timeframe, Timeframe, Timeframe] = (Timeframe.M1, Timeframe.M5, Timeframe.M15)


class MarketKind(StrEnum):
    """What can be held at a venue. Only perpetuals can be sold short."""

    SPOT = "spot"
    PERP = "perp"


class VolatilityRegime(StrEnum):
    """Where today's forecast lies among the symbol's own past forecasts."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    EXTREME = "EXTREME"


class VerdictKind(StrEnum):
    """What a reviewer may say."""

    APPROVE = "APPROVE"
    MODIFY = "MODIFY"
    REJECT = "REJECT"


class OrderStatus(StrEnum):
    """Life of an order; see helios.execution.lifecycle for the transitions."""

    PENDING = "PENDING"  # committed to the ledger, not yet sent
    SUBMITTED = "SUBMITTED"  # handed to the broker, no answer yet
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class ExitReason(StrEnum):
    """Why a position, or with SCALE_OUT a part of it, was closed."""

    STOP = "STOP"
    BREAKEVEN = "BREAKEVEN"
    TRAILING_STOP = "TRAILING_STOP"
    SCALE_OUT = "SCALE_OUT"
    TARGET = "TARGET"
    TIMEOUT = "TIMEOUT"
    SIGNAL = "SIGNAL"
    MANUAL = "MANUAL"
    EMERGENCY = "EMERGENCY"


class MovementKind(StrEnum):
    """Why money moved without a trade."""

    TRANSFER = "TRANSFER"  # deposit or withdrawal: no profit, no loss
    FUNDING = "FUNDING"  # of a perpetual; positive where it was received


class EngineState(StrEnum):
    """States of the engine; see helios.pipeline.engine_state for the transitions."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    REDUCING = "REDUCING"
    EMERGENCY_STOP = "EMERGENCY_STOP"
    ERROR = "ERROR"


class TradingMode(StrEnum):
    """Where orders go."""

    PAPER = "PAPER"
    LIVE = "LIVE"


class TradingState(StrEnum):
    """What the account's losses still permit: anything, exits only, or nothing but the closing of everything."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"

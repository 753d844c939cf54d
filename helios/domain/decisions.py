"""What each tier says about one symbol at one bar, and the trace that keeps it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helios.domain.enums import Action, Side, VerdictKind, VolatilityRegime
from helios.domain.market import MarketSnapshot

PIPELINE_VERSION = "1"
N_FEATURES = 30
WINDOW_STEPS = 60
FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]


def decision_id(symbol: str, bar_time: int, pipeline_version: str = PIPELINE_VERSION) -> str:
    """Return the identity of one decision: 24 hex digits from symbol, bar close time (ns) and pipeline version."""
    return hashlib.sha256(f"{symbol}|{bar_time}|{pipeline_version}".encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class FeatureWindow:
    """Model input of one symbol at the close of a decision bar.

    Attributes
    ----------
    bar_time : int
        Close time of the decision bar, ns UTC: the moment of the decision.
    values : float32 array of shape (3, WINDOW_STEPS, N_FEATURES)
        Timeframes 1m, 5m, 15m; oldest step first; NaN where unknown (the mask is isnan).
    returns : float64 array of shape (3, WINDOW_STEPS + 59)
        One-bar log returns per timeframe, newest last; the signal stage computes btc_correlation_60 from them.
    is_warm : bool
        Whether all candle features have their full history. Only warm windows are decided upon.
    close : float
        Close of the decision bar.
    volume_quote : float
        Quote turnover of the decision bar (typical price x volume where trades are unknown).
    """

    symbol: str
    bar_time: int
    values: Float32Array
    returns: FloatArray
    is_warm: bool
    close: float
    volume_quote: float
    market: MarketSnapshot
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Payoff:
    """What a model's trades of one side really gave, out of sample: most end by time, between stop and target.

    Attributes
    ----------
    win_stops, loss_stops : float
        Mean gain of those that won and mean loss of the others, after costs, in stop distances.
    n_trades : int
    stop_daily_volatilities, reward_to_risk, timeout_h : float
        The exits they had; for others it says nothing.
    """

    win_stops: float
    loss_stops: float
    n_trades: int
    stop_daily_volatilities: float
    reward_to_risk: float
    timeout_h: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Tier 2. `probabilities` are calibrated (BUY, SELL, HOLD); confidence is the predicted class's, `payoff` its trades'."""

    symbol: str
    bar_time: int
    action: Action
    confidence: float
    probabilities: tuple[float, float, float]
    attention: tuple[float, float, float]
    model_version: str
    payoff: Payoff | None = None


@dataclass(frozen=True, slots=True)
class VolatilityForecast:
    """Tier 3 forecast. Volatilities are fractions (0.03 = 3 %), a day and a year (365 days); method GARCH+EWMA, GARCH or EWMA."""

    symbol: str
    ts_event: int
    daily_volatility: float
    annualized_volatility: float
    regime: VolatilityRegime
    method: str
    omega: float
    alpha: float
    beta: float
    nu: float


@dataclass(frozen=True, slots=True)
class NoTrade:
    """A tier's reason to do nothing, machine readable (`code`) and in words (`detail`)."""

    decision_id: str
    symbol: str
    tier: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class TradePlan:
    """Tier 3: what may be risked. Fractions are of equity or price; money is in quote currency.

    A `reduce_only` plan closes (part of) what is held and has no exits of its own. `volatility_ratio` is the forecast over its
    30-day mean, for the breaker; NaN where unknown. `sizing` names every number the size comes from
    (helios.risk.sizing.SizeDecision), for the explanation. `mean_win_pct` and `mean_loss_pct` are what such trades gave when they
    won and cost when they lost, on average and after costs, as fractions of the price; NaN where nobody has measured it.
    """

    decision_id: str
    symbol: str
    bar_time: int
    side: Side
    confidence: float
    notional_quote: Decimal
    leverage: float
    reference_price: Decimal
    stop_loss_pct: float
    take_profit_pct: float
    loss_at_stop_quote: Decimal
    horizon_ns: int
    kelly_full: float
    kelly_fraction: float
    payoff_ratio: float
    daily_volatility: float
    regime: VolatilityRegime
    reduce_only: bool = False
    notes: tuple[str, ...] = ()
    volatility_ratio: float = math.nan
    sizing: tuple[tuple[str, float | str], ...] = ()
    mean_win_pct: float = math.nan
    mean_loss_pct: float = math.nan


@dataclass(frozen=True, slots=True)
class Verdict:
    """Tier 4: approve, shrink (`multiplier` 0..1) or veto; never enlarge."""

    decision_id: str
    symbol: str
    kind: VerdictKind
    multiplier: float
    reasoning: str
    risk_flags: tuple[str, ...]
    reviewer: str


@dataclass(slots=True)
class DecisionTrace:
    """What every tier said about one symbol at one bar, and how it ended.

    `outcome` is a code: ORDERED, or the NoTrade/deny code that ended it. `tier` names where it ended. `steps` holds plain JSON
    values per tier, deterministic for equal inputs (no wall-clock times), so that traces of a replay can be compared.
    """

    decision_id: str
    symbol: str
    bar_time: int
    outcome: str = "OPEN"
    tier: str = "data"
    detail: str = ""
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    client_order_id: str | None = None

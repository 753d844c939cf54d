"""Words for the state of a market: trend, liquidity, correlation, the three together, and the grid bot's four regimes.

The volatility regime is the risk tier's (`helios.risk.regimes`); here it is only combined with the others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.enums import VolatilityRegime
from helios.errors import ConfigError, DataError
from helios.features.rolling import rolling_trend

UNKNOWN = "UNKNOWN"
SHORT_DAYS, LONG_DAYS = 20, 50
MIN_CORRELATION_RETURNS = 10
DEEP_VOLUME, NORMAL_VOLUME = 100_000.0, 50_000.0
CRISIS_CORRELATION, COUPLED_CORRELATION = 0.8, 0.5


def trend_regime(daily_closes: Sequence[float]) -> str:
    """Name the trend: BULLISH where close > SMA 20 > SMA 50, BEARISH where reversed, else SIDEWAYS.

    Parameters
    ----------
    daily_closes : sequence of float
        Newest last. Below 50 closes, or with a NaN among the newest 50, the regime is UNKNOWN.
    """
    newest = np.asarray(daily_closes[-LONG_DAYS:], dtype=np.float64)
    if len(newest) < LONG_DAYS or not np.isfinite(newest).all():
        return UNKNOWN
    close, short, long = newest[-1], newest[-SHORT_DAYS:].mean(), newest.mean()
    if close > short > long:
        return "BULLISH"
    return "BEARISH" if close < short < long else "SIDEWAYS"


def liquidity_regime(mean_volume: float, deep: float = DEEP_VOLUME, normal: float = NORMAL_VOLUME) -> str:
    """Name the liquidity by the 7-day mean of 5-minute volume: DEEP above `deep`, NORMAL above `normal`, else THIN.

    The defaults are the requirement's and need calibration per pair; `mean_volume` must be in their unit.
    """
    if not math.isfinite(mean_volume):
        return UNKNOWN
    if mean_volume > deep:
        return "DEEP"
    return "NORMAL" if mean_volume > normal else "THIN"


def correlations(returns: FloatArray, others: Mapping[str, FloatArray]) -> dict[str, float]:
    """Correlate daily returns with those of other symbols, over the rows both have; fewer than 10 leave a symbol out.

    Parameters
    ----------
    returns : ndarray of shape (n_days,)
        NaN where unknown.
    others : mapping of str to ndarray of shape (n_days,)
        On the same days.
    """
    found = {}
    for symbol, theirs in others.items():
        both = np.isfinite(returns) & np.isfinite(theirs)
        x, y = returns[both], theirs[both]
        if len(x) >= MIN_CORRELATION_RETURNS and x.std() > 0 and y.std() > 0:
            found[symbol] = float(np.corrcoef(x, y)[0, 1])
    return found


def correlation_regime(values: Mapping[str, float]) -> str:
    """Name the mean correlation: CRISIS above 0.8, COUPLED above 0.5, else DECOUPLED; UNKNOWN without any."""
    if not values:
        return UNKNOWN
    mean = sum(values.values()) / len(values)
    if mean > CRISIS_CORRELATION:
        return "CRISIS"
    return "COUPLED" if mean > COUPLED_CORRELATION else "DECOUPLED"


@dataclass(frozen=True, slots=True)
class CombinedRegime:
    """Bull or bear, high or low volatility, trending or range, each UNKNOWN where its input is."""

    direction: str
    volatility: str
    character: str


def combined_regime(
    trend: str, volatility: VolatilityRegime | None, trend_strength: float, trending_above: float = 0.7
) -> CombinedRegime:
    """Return the three views in one.

    Parameters
    ----------
    trend : str
        What `trend_regime` said: BULLISH is BULL, BEARISH is BEAR, SIDEWAYS is NEUTRAL.
    volatility : VolatilityRegime or None
        From the risk tier; HIGH and EXTREME are HIGH, the others LOW.
    trend_strength : float
        Sign of slope times R-squared, -1..1 (the catalog's `trend_strength_20`); NaN where unknown.
    trending_above : float, default=0.7
        Absolute strength from which the market counts as trending.
    """
    direction = {"BULLISH": "BULL", "BEARISH": "BEAR", "SIDEWAYS": "NEUTRAL"}.get(trend, UNKNOWN)
    level = UNKNOWN
    if volatility is not None:
        level = "HIGH" if volatility in (VolatilityRegime.HIGH, VolatilityRegime.EXTREME) else "LOW"
    if math.isnan(trend_strength):
        return CombinedRegime(direction, level, UNKNOWN)
    return CombinedRegime(direction, level, "TRENDING" if abs(trend_strength) > trending_above else "RANGE")


class MarketRegime(StrEnum):
    """What a grid bot can do in a market."""

    VOLATILE = "VOLATILE"
    TRENDING = "TRENDING"
    DORMANT = "DORMANT"
    RANGING = "RANGING"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """How the market regime is told.

    Attributes
    ----------
    bars_per_day : float
        1440 for minutes, 288 for five minutes; volatility is compared per day.
    history_bars : int
        Bars looked at; nothing is said before there are as many.
    trend_bars : int
        Newest bars of the history for trend and volume trend.
    smoothing_bars : int
        Newest single judgements that vote.
    change_threshold : float
        Share of the votes that a new regime needs, above 0.5.
    volatile_above, dormant_below : float
        Daily volatility, fraction.
    trending_above : float
        Absolute trend strength.
    fading_below : float
        Volume trend: newest mean volume over the mean before, less 1.
    """

    bars_per_day: float
    history_bars: int = 100
    trend_bars: int = 20
    smoothing_bars: int = 5
    change_threshold: float = 0.7
    volatile_above: float = 0.03
    trending_above: float = 0.7
    dormant_below: float = 0.01
    fading_below: float = -0.5

    def __post_init__(self) -> None:
        if not 2 <= self.trend_bars < self.history_bars or self.smoothing_bars < 1 or self.bars_per_day <= 0.0:
            raise ConfigError("regime detector: history must be longer than the trend, smoothing at least 1, days not empty")
        if not 0.5 < self.change_threshold <= 1.0:
            raise ConfigError(f"regime detector: change threshold {self.change_threshold} is not in (0.5, 1]")


@dataclass(frozen=True, slots=True)
class RegimeReading:
    """The regime in force, the share of recent judgements that agree with it, and what the newest one was made from."""

    regime: MarketRegime
    confidence: float
    daily_volatility: float = math.nan
    trend_strength: float = math.nan
    volume_trend: float = math.nan


def classify_market(volatility: float, strength: float, volume_trend: float, settings: DetectorSettings) -> MarketRegime:
    """Judge one moment: VOLATILE, else TRENDING, else DORMANT, else RANGING; UNKNOWN where volatility or strength is NaN."""
    if math.isnan(volatility) or math.isnan(strength):
        return MarketRegime.UNKNOWN
    if volatility > settings.volatile_above:
        return MarketRegime.VOLATILE
    if abs(strength) > settings.trending_above:
        return MarketRegime.TRENDING
    is_dormant = volume_trend < settings.fading_below and volatility < settings.dormant_below
    return MarketRegime.DORMANT if is_dormant else MarketRegime.RANGING


class MarketRegimeDetector:
    """Tells the regime bar by bar; it changes only when enough of the last judgements agree.

    Parameters
    ----------
    settings : DetectorSettings
        Thresholds and lengths.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings
        self._bars: deque[tuple[float, float]] = deque(maxlen=settings.history_bars)
        self._votes: deque[MarketRegime] = deque(maxlen=settings.smoothing_bars)
        self._regime = MarketRegime.UNKNOWN

    def update(self, close: float, volume: float) -> RegimeReading:
        """Take a closed bar and return the regime in force.

        Parameters
        ----------
        close : float
            Price, positive.
        volume : float
            Base units; NaN where unknown, and then a market is never called DORMANT.

        Raises
        ------
        DataError
            If the price is not a positive number; nothing changes.
        """
        if not (math.isfinite(close) and close > 0.0):
            raise DataError(f"close {close} is no price")
        self._bars.append((close, volume))
        if len(self._bars) < self._settings.history_bars:
            return RegimeReading(MarketRegime.UNKNOWN, 0.0)
        volatility, strength, volume_trend = self._measured()
        self._votes.append(classify_market(volatility, strength, volume_trend, self._settings))
        for candidate in MarketRegime:
            if self._share(candidate) >= self._settings.change_threshold:
                self._regime = candidate
        confidence = 0.0 if self._regime is MarketRegime.UNKNOWN else self._share(self._regime)
        return RegimeReading(self._regime, confidence, volatility, strength, volume_trend)

    def _share(self, regime: MarketRegime) -> float:
        return self._votes.count(regime) / self._settings.smoothing_bars

    def _measured(self) -> tuple[float, float, float]:
        bars = np.array(self._bars)
        logs, volumes, n_trend = np.log(bars[:, 0]), bars[:, 1], self._settings.trend_bars
        volatility = float(np.diff(logs).std(ddof=1)) * math.sqrt(self._settings.bars_per_day)
        trend = rolling_trend(logs[-n_trend:], n_trend)
        slope = float(trend.slope[-1])
        strength = 0.0 if slope == 0.0 else math.copysign(float(trend.r_squared[-1]), slope)
        before = float(volumes[:-n_trend].mean())
        volume_trend = float(volumes[-n_trend:].mean()) / before - 1.0 if before > 0.0 else math.nan
        return volatility, strength, volume_trend


@dataclass(frozen=True, slots=True)
class RegimeResult:
    """Closed trades of one regime. `pnl_quote` is after costs."""

    n_trades: int = 0
    n_wins: int = 0
    pnl_quote: Decimal = Decimal(0)

    @property
    def win_rate(self) -> float:
        """Share of trades with a profit; NaN without trades."""
        return self.n_wins / self.n_trades if self.n_trades else math.nan


@dataclass(frozen=True, slots=True)
class RegimeResults:
    """Results by the regime in which each trade was opened; a fold over closed trades."""

    by_regime: Mapping[str, RegimeResult] = field(default_factory=lambda: MappingProxyType({}))

    def with_trade(self, regime: str, pnl_quote: Decimal) -> RegimeResults:
        """Return the results with one more closed trade.

        Parameters
        ----------
        regime : str
            Any of the words of this module, or a `VolatilityRegime`.
        pnl_quote : Decimal
            After fees and funding, quote units.

        Raises
        ------
        DataError
            If the amount is not finite.
        """
        if not pnl_quote.is_finite():
            raise DataError(f"profit {pnl_quote} of a trade in {regime} is no amount")
        before = self.of(regime)
        after = replace(
            before, n_trades=before.n_trades + 1, n_wins=before.n_wins + (pnl_quote > 0), pnl_quote=before.pnl_quote + pnl_quote
        )
        return RegimeResults(MappingProxyType({**self.by_regime, str(regime): after}))

    def of(self, regime: str) -> RegimeResult:
        """Return the results of one regime; zeros if none."""
        return self.by_regime.get(str(regime), RegimeResult())

    @property
    def total(self) -> RegimeResult:
        """All regimes together."""
        results = self.by_regime.values()
        pnl = sum((r.pnl_quote for r in results), Decimal(0))
        return RegimeResult(sum(r.n_trades for r in results), sum(r.n_wins for r in results), pnl)

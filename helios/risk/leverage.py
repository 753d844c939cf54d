"""How much exposure a unit of margin may carry."""

from __future__ import annotations

from decimal import Decimal

from helios.config import RiskConfig
from helios.domain.enums import MarketKind, VolatilityRegime
from helios.domain.market import Instrument

REGIME_PENALTY = {
    VolatilityRegime.LOW: 0.0,
    VolatilityRegime.MEDIUM: 0.3,
    VolatilityRegime.HIGH: 0.5,
    VolatilityRegime.EXTREME: 1.0,
}
BASE_CONFIDENCE = 0.70
DRAWDOWN_STEPS = (0.10, 0.20)


def leverage_for(confidence: float, regime: VolatilityRegime, drawdown: float, venue_max: Decimal, config: RiskConfig) -> float:
    """Return leverage in [1, min(`max_leverage`, venue's maximum)], to one decimal.

    1 + 2 x max(0, confidence - 0.70), less 0 / 0.3 / 0.5 / 1.0 by regime, less 0.5 above 10 % drawdown and 0.5 more above
    20 %. By this rule it never passes 1.6; the limits of 3 and of the venue are guards. The second drawdown step is reached
    only where the drawdown limit has been raised above 20 %. NaN confidence gives 1.
    """
    raw = 1.0 + 2.0 * max(0.0, confidence - BASE_CONFIDENCE) - REGIME_PENALTY[regime]
    raw -= 0.5 * sum(not drawdown <= step for step in DRAWDOWN_STEPS)  # an unknown (NaN) drawdown counts as deep
    ceiling = max(1.0, min(config.max_leverage, float(venue_max)))
    return min(max(1.0, round(raw, 1)), ceiling)


def instrument_leverage(
    confidence: float, regime: VolatilityRegime, drawdown: float, instrument: Instrument, config: RiskConfig
) -> float:
    """Return `leverage_for` the instrument; a spot market has 1 whatever its venue says."""
    if instrument.kind is MarketKind.SPOT:
        return 1.0
    return leverage_for(confidence, regime, drawdown, instrument.max_leverage, config)

from __future__ import annotations

from decimal import Decimal

import pytest

from helios.config import RiskConfig
from helios.domain.enums import MarketKind, VolatilityRegime
from helios.risk.leverage import instrument_leverage, leverage_for
from tests.unit.risk.builders import instrument

LOW, MEDIUM, HIGH, EXTREME = VolatilityRegime


@pytest.mark.parametrize(
    ("confidence", "regime", "drawdown", "expected"),
    [
        (0.72, MEDIUM, 0.0, 1.0),
        (0.95, LOW, 0.0, 1.5),
        (1.0, LOW, 0.0, 1.6),
        (1.0, MEDIUM, 0.0, 1.3),
        (1.0, HIGH, 0.0, 1.1),
        (1.0, EXTREME, 0.0, 1.0),
        (1.0, LOW, 0.10, 1.6),
        (1.0, LOW, 0.11, 1.1),
        (1.0, LOW, 0.21, 1.0),
        (0.55, LOW, 0.0, 1.0),
    ],
)
def test_rule_at_its_corners(confidence: float, regime: VolatilityRegime, drawdown: float, expected: float) -> None:
    assert leverage_for(confidence, regime, drawdown, Decimal(10), RiskConfig()) == pytest.approx(expected)


def test_venue_and_configuration_bound_it() -> None:
    assert leverage_for(1.0, LOW, 0.0, Decimal("1.2"), RiskConfig()) == 1.2
    assert leverage_for(1.0, LOW, 0.0, Decimal(10), RiskConfig(max_leverage=1.4)) == 1.4
    assert leverage_for(1.0, LOW, 0.0, Decimal("0.5"), RiskConfig()) == 1.0


def test_spot_has_none_whatever_the_venue_says() -> None:
    spot = instrument(max_leverage=Decimal(5))
    perp = instrument("BTC/USDT:USDT", MarketKind.PERP, max_leverage=Decimal(5))
    assert instrument_leverage(1.0, LOW, 0.0, spot, RiskConfig()) == 1.0
    assert instrument_leverage(1.0, LOW, 0.0, perp, RiskConfig()) == 1.6

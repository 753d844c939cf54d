"""Plans, accounts and requests for tests of the review tier."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from helios.domain.decisions import Prediction, TradePlan, decision_id
from helios.domain.enums import Action, Side, VolatilityRegime
from helios.domain.orders import AccountSnapshot, PositionView
from helios.pipeline.ports import ReviewRequest

NOW = 1_700_000_100_000_000_000
ZERO = Decimal(0)


def make_plan(symbol: str = "BTC/ZAR", **changes: object) -> TradePlan:
    """A plain long: confidence 85 %, volatility 2 % a day."""
    made = TradePlan(
        decision_id=decision_id(symbol, NOW), symbol=symbol, bar_time=NOW, side=Side.BUY, confidence=0.85,
        notional_quote=Decimal(5_000), leverage=1.0, reference_price=Decimal(1_000_000), stop_loss_pct=0.04,
        take_profit_pct=0.08, loss_at_stop_quote=Decimal(200), horizon_ns=86_400_000_000_000, kelly_full=0.5,
        kelly_fraction=0.1, payoff_ratio=2.0, daily_volatility=0.02, regime=VolatilityRegime.MEDIUM,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def make_account(drawdown: float = 0.0, invested: int = 0) -> AccountSnapshot:
    """Equity of 100,000, `invested` of it in one position."""
    position = PositionView("ETH/ZAR", Decimal(invested), Decimal(1), Decimal(1), ZERO, ZERO, 0, 1.0, "d", 0.0, 0.0, 0)
    equity = Decimal(100_000)
    return AccountSnapshot(
        NOW, equity, equity - invested, equity, equity, ZERO, ZERO, ZERO, drawdown, 0.0,
        (position,) if invested else (), 0, 0, (), 4, 3,
    )  # fmt: skip


def make_prediction(plan: TradePlan, attention: tuple[float, float, float] = (0.3, 0.4, 0.3)) -> Prediction:
    """The prediction behind a plan."""
    rest = (1 - plan.confidence) / 2
    return Prediction(plan.symbol, NOW, Action.BUY, plan.confidence, (plan.confidence, rest, rest), attention, "starter")


def make_request(*plans: TradePlan, account: AccountSnapshot | None = None, **prediction: object) -> ReviewRequest:
    """A request whose predictions fit its plans."""
    predictions = {p.symbol: make_prediction(p, **prediction) for p in plans}  # type: ignore[arg-type]
    return ReviewRequest(NOW, plans, predictions, account or make_account())

"""Plain JSON views of what the tiers said, for the decision trace. Deterministic: no wall-clock times, stable rounding."""

from __future__ import annotations

import math
from typing import Any

from helios.domain.decisions import NoTrade, Prediction, TradePlan, Verdict, VolatilityForecast
from helios.domain.orders import OrderIntent, OrderOutcome
from helios.pipeline.ports import RebalanceResponse, SymbolContext

Step = dict[str, Any]
NS_PER_H = 3_600_000_000_000


def number(value: float) -> float | None:
    """Round to ten significant digits; NaN and infinities become None."""
    return float(f"{value:.10g}") if math.isfinite(value) else None


def data_step(context: SymbolContext) -> Step:
    market = context.market
    return {
        "close": number(context.close),
        "last": str(market.last),
        "spread_bps": number(market.spread_bps),
        "best_bid": str(market.bids[0][0]) if market.bids else None,
        "best_ask": str(market.asks[0][0]) if market.asks else None,
        "volume_quote": number(context.volume_quote),
    }


def prediction_step(prediction: Prediction) -> Step:
    return {
        "action": prediction.action.name,
        "confidence": number(prediction.confidence),
        "probabilities": [number(p) for p in prediction.probabilities],
        "attention": [number(a) for a in prediction.attention],
        "model_version": prediction.model_version,
    }


def volatility_step(forecast: VolatilityForecast) -> Step:
    return {
        "daily_volatility": number(forecast.daily_volatility),
        "annualized_volatility": number(forecast.annualized_volatility),
        "regime": forecast.regime.value,
        "method": forecast.method,
        "omega": number(forecast.omega),
        "alpha": number(forecast.alpha),
        "beta": number(forecast.beta),
        "nu": number(forecast.nu),
    }


def plan_step(plan: TradePlan) -> Step:
    return {
        "side": plan.side.name,
        "confidence": number(plan.confidence),
        "notional_quote": str(plan.notional_quote),
        "leverage": number(plan.leverage),
        "reference_price": str(plan.reference_price),
        "stop_loss_pct": number(plan.stop_loss_pct),
        "take_profit_pct": number(plan.take_profit_pct),
        "loss_at_stop_quote": str(plan.loss_at_stop_quote),
        "kelly_full": number(plan.kelly_full),
        "kelly_fraction": number(plan.kelly_fraction),
        "payoff_ratio": number(plan.payoff_ratio),
        "mean_win_pct": number(plan.mean_win_pct),
        "mean_loss_pct": number(plan.mean_loss_pct),
        "daily_volatility": number(plan.daily_volatility),
        "regime": plan.regime.value,
        "reduce_only": plan.reduce_only,
        "notes": list(plan.notes),
        "volatility_ratio": number(plan.volatility_ratio),
        "horizon_h": number(plan.horizon_ns / NS_PER_H),
        "sizing": {name: value if isinstance(value, str) else number(value) for name, value in plan.sizing},
    }


def refusal_step(refusal: NoTrade) -> Step:
    return {"no_trade": refusal.code, "detail": refusal.detail}


def review_step(verdict: Verdict) -> Step:
    return {
        "verdict": verdict.kind.value,
        "multiplier": number(verdict.multiplier),
        "reasoning": verdict.reasoning,
        "risk_flags": list(verdict.risk_flags),
        "reviewer": verdict.reviewer,
    }


def allocation_step(intent: OrderIntent, weight: float | None, solver_status: str) -> Step:
    return {
        "side": intent.side.name,
        "quantity_base": str(intent.quantity_base),
        "leg": intent.leg,
        "target_weight": None if weight is None else number(weight),
        "solver_status": solver_status,
        "client_order_id": intent.client_order_id,
    }


def execution_step(outcome: OrderOutcome) -> Step:
    record = outcome.record
    return {
        "client_order_id": record.client_order_id,
        "status": record.status.value,
        "filled_base": str(record.filled_base),
        "average_price": str(record.average_price),
        "fee_quote": str(record.fee_quote),
        "deny_codes": list(record.deny_codes),
        "reason": record.reason,
        "warnings": list(outcome.warnings),
    }


def rebalance_step(outcome: OrderOutcome, response: RebalanceResponse) -> Step:
    target = response.targets.get(outcome.record.symbol)
    step = {"why": response.reason, "side": outcome.record.side.name, "target_weight": None if target is None else number(target)}
    return step | execution_step(outcome)

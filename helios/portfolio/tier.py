"""Tier 5: approved plans become order intents that fit the whole portfolio."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from helios.config import PortfolioConfig, RiskConfig
from helios.domain.decisions import FloatArray, NoTrade, TradePlan, Verdict
from helios.domain.enums import ExitReason, Side, VerdictKind
from helios.domain.market import Instrument
from helios.domain.orders import AccountSnapshot, ExitRule, OrderIntent, client_order_id
from helios.errors import InvariantError, SolverError
from helios.numerics import one_thread
from helios.pipeline.ports import (
    SOLVER_FAILED,
    AllocationRequest,
    AllocationResponse,
    RebalanceRequest,
    RebalanceResponse,
    SymbolContext,
)
from helios.portfolio.history import PriceHistory
from helios.portfolio.targets import TargetPlanner
from helios.portfolio.upkeep import Upkeep
from helios.risk.account_limits import free_cash
from helios.risk.exits import rule_of

TIER = "portfolio"
CASH_CUSHION = Decimal("0.05")
SMALLEST_CHANGE = 1e-6
"""A weight change below this share of equity is the solver's noise, not a wish to trade."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What one plan may take: its size after review, cut to the optimiser's room, in quote currency."""

    plan: TradePlan
    instrument: Instrument
    notional: Decimal
    change: float


class PortfolioDesk:
    """Allocate the plans of one bar. Holds price history and compiled problems, nothing about money.

    Parameters
    ----------
    config : PortfolioConfig
    risk : RiskConfig
        Trailing stop, time-out, costs and leverage limit.
    instruments : mapping
        By symbol: steps, minimums and whether it can be sold short.
    sectors : callable or None
        Sector of a symbol; None puts every base asset in a sector of its own.
    max_correlation : float, default=1.0
        A plan whose symbol moves more like a holding than this gets nothing.
    """

    def __init__(
        self,
        config: PortfolioConfig,
        risk: RiskConfig,
        instruments: Mapping[str, Instrument],
        sectors: Callable[[str], str] | None = None,
        max_correlation: float = 1.0,
    ) -> None:
        self._config = config
        self._risk = risk
        self._instruments = instruments
        self.allocation: dict[str, Any] = {"status": "NOTHING_TO_DO", "wanted": {}}
        """What is shown, plain JSON: when, how the last allocation ended and what it wanted, weights held, their targets, how far off
        they are, and why the last trim was made."""
        self._history = PriceHistory(config.covariance_days, config.covariance, config.covariance_half_life_days)
        self._planner = TargetPlanner(config, risk, instruments, sectors or self._base, max_correlation)
        self._max_correlation = max_correlation
        # what is paid for in full cannot be held for more than there is
        max_gross = risk.max_leverage if any(i.can_short for i in instruments.values()) else 1.0
        self.upkeep = Upkeep(config, max_gross, instruments, sectors or self._base, self._history, self._planner.view)

    def seed(self, symbol: str, close_times: Sequence[int], closes: FloatArray, turnover_30d: float) -> None:
        """Take over past hourly or daily closes (close times in ns UTC) and the 30-day turnover in quote currency."""
        self._history.seed(symbol, close_times, [float(c) for c in closes], turnover_30d)

    def observe(self, contexts: Mapping[str, SymbolContext]) -> None:
        """Remember the closes on the hour and the turnover of one bar; repeating a bar changes nothing."""
        self._history.observe(contexts.values())

    def allocate(self, request: AllocationRequest) -> AllocationResponse:
        """Return one intent or refusal per plan, in order.

        Entries get min(plan size x multiplier, the optimiser's weight change x equity), then the cash left after a 5 % cushion,
        the most confident first. Reduce-only plans bypass all this and close the whole holding, as far as one order may.

        Raises
        ------
        InvariantError
            If verdicts and plans do not belong together, a plan was rejected, or a price is not positive.
        """
        self.observe(request.contexts)
        self._check(request)
        entries = sorted((p for p in request.plans if not p.reduce_only), key=lambda p: p.symbol)
        multiplier = {v.decision_id: v.multiplier for v in request.verdicts}
        results: dict[str, OrderIntent | NoTrade] = {p.decision_id: self._exit(p, request) for p in request.plans if p.reduce_only}
        weights: Mapping[str, float] = _held_weights(request)
        status = "NOTHING_TO_DO"
        if entries:
            with one_thread():
                weights, status = self._enter(entries, multiplier, request, results)
        self.upkeep.remember(request.plans)
        rounded = _rounded(weights)
        self._note(request, {"status": status, "wanted": rounded})
        return AllocationResponse(tuple(results[p.decision_id] for p in request.plans), rounded, status)

    @property
    def history(self) -> PriceHistory:
        """What the desk remembers of prices; for reports, not to be changed."""
        return self._history

    def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        """Return the trims of holdings that are due; see `Upkeep.rebalance`."""
        response = self.upkeep.rebalance(request)
        self._note(request, {})
        return response

    def _note(self, request: AllocationRequest | RebalanceRequest, news: dict[str, Any]) -> None:
        held, targets = _held_weights(request), self.upkeep.targets
        self.allocation = {**self.allocation, **news} | {
            "bar_time": request.bar_time,
            "held": _rounded(held),
            "targets": dict(targets),
            "drift": _rounded({s: targets[s] - w for s, w in held.items() if s in targets}),
            "last_rebalance": self.upkeep.last_reason,
        }

    def _check(self, request: AllocationRequest) -> None:
        pairs = list(zip(request.plans, request.verdicts, strict=False))
        same = len(request.plans) == len(request.verdicts) and all(p.decision_id == v.decision_id for p, v in pairs)
        if not same or len({p.symbol for p in request.plans}) != len(request.plans):
            raise InvariantError("plans and verdicts do not belong together, or a symbol has two plans")
        if any(p.reference_price <= 0 for p in request.plans):
            raise InvariantError("a plan without a positive price reached the portfolio tier")
        if any(not _is_permitted(v) for v in request.verdicts):
            raise InvariantError("a rejected plan, or a multiplier outside 0..1, reached the portfolio tier")

    def _enter(
        self,
        entries: list[TradePlan],
        multiplier: Mapping[str, float],
        request: AllocationRequest,
        results: dict[str, OrderIntent | NoTrade],
    ) -> tuple[Mapping[str, float], str]:
        held = _held_weights(request)
        tradable = [p for p in entries if p.symbol in self._instruments]
        for plan in entries:
            if plan.symbol not in self._instruments:
                results[plan.decision_id] = _refuse(plan, "UNKNOWN_INSTRUMENT", f"no instrument {plan.symbol}")
        if not tradable:
            return held, "NOTHING_TO_DO"
        if request.account.equity_quote <= 0:
            results.update({p.decision_id: _refuse(p, "NO_EQUITY", "equity is not positive") for p in tradable})
            return held, "NO_EQUITY"
        # what is held counts whether or not its data came: its risk does not wait
        symbols = sorted({*request.contexts, *held})
        try:
            targets = self._planner.targets(tradable, held, symbols, self._history)
        except SolverError as error:
            results.update({p.decision_id: _refuse(p, SOLVER_FAILED, f"keeps the present weights: {error}") for p in tradable})
            return held, SOLVER_FAILED
        wishes = [self._wish(p, multiplier[p.decision_id], targets.weights[p.symbol], held, request) for p in tradable]
        results.update(self._fund(wishes, request))
        return {**held, **targets.weights}, targets.method

    def _wish(
        self, plan: TradePlan, multiplier: float, target: float, held: Mapping[str, float], request: AllocationRequest
    ) -> _Wish:
        change = max(plan.side * (target - held.get(plan.symbol, 0.0)), 0.0)
        room = _decimal(round(change, 10)) * request.account.equity_quote
        instrument = self._instruments[plan.symbol]
        notional = min(plan.notional_quote * _decimal(multiplier), room, instrument.max_notional_quote)
        return _Wish(plan, instrument, notional, change)

    def _fund(self, wishes: list[_Wish], request: AllocationRequest) -> dict[str, OrderIntent | NoTrade]:
        # Spot is paid in full, a perpetual ties up margin; what one plan takes is gone for the next.
        free = max(free_cash(request.account) * (1 - CASH_CUSHION), Decimal(0))
        results: dict[str, OrderIntent | NoTrade] = {}
        for wish in sorted(wishes, key=lambda w: (-w.plan.confidence, w.plan.symbol)):
            backing = _decimal(max(wish.plan.leverage, 1.0)) if wish.instrument.can_short else Decimal(1)
            notional = min(wish.notional, free * backing)
            result = self._entry(wish, notional, request)
            if isinstance(result, OrderIntent):
                free -= result.quantity_base * result.reference_price / backing
            results[wish.plan.decision_id] = result
        return results

    def _entry(self, wish: _Wish, notional: Decimal, request: AllocationRequest) -> OrderIntent | NoTrade:
        plan, instrument = wish.plan, wish.instrument
        # those planned beside it too: by the time this order is checked they may be held
        others = {p.symbol for p in request.account.open_positions} | {p.symbol for p in request.plans}
        known = self._history.correlations(plan.symbol, others - {plan.symbol}, request.bar_time)
        alike = _too_alike(plan, known, request.account, self._max_correlation)
        if alike:
            # the limits would refuse the order by the same figure: here its cash is still there for the next plan
            return _refuse(plan, "MAX_CORRELATION", alike)
        if wish.change < SMALLEST_CHANGE:
            return _refuse(plan, "OPTIMISER_ZERO", f"the optimiser leaves {plan.symbol} at its present weight")
        quantity = _floor(min(notional / plan.reference_price, instrument.max_quantity_base), instrument.lot_size_base)
        smallest = max(self._config.min_trade_quote, _closable(plan, instrument))
        if request.account.open_position(plan.symbol) is not None:
            # after the review too: halves of halves would spend the day's entries and fees on crumbs
            smallest = max(smallest, request.account.equity_quote * _decimal(self._risk.min_addition))
        if quantity * plan.reference_price < smallest or quantity < instrument.min_quantity_base or quantity <= 0:
            code = "INSUFFICIENT_CASH" if notional < wish.notional else "BELOW_MINIMUM"
            return _refuse(plan, code, f"{notional:.2f} {instrument.quote} left for {plan.symbol}, the minimum is {smallest}")
        rule = rule_of(plan.stop_loss_pct, plan.take_profit_pct, self._risk)
        intent = _intent(plan, quantity, "entry", request.bar_time, rule)
        return replace(intent, correlations=tuple(sorted(known.items())), volatility_ratio=plan.volatility_ratio)

    def _exit(self, plan: TradePlan, request: AllocationRequest) -> OrderIntent | NoTrade:
        position = request.account.position(plan.symbol)
        if position is None or position.quantity_base * plan.side >= 0:
            return _refuse(plan, "NOTHING_HELD", f"no holding in {plan.symbol} that a {plan.side.name} would reduce")
        instrument = self._instruments.get(plan.symbol)
        quantity = abs(position.quantity_base)
        if instrument is not None:
            quantity = _floor(min(quantity, instrument.max_quantity_base), instrument.lot_size_base)
            if quantity <= 0 or quantity < instrument.min_quantity_base:
                return _refuse(plan, "BELOW_MINIMUM", f"{abs(position.quantity_base)} {instrument.base} is too little to sell")
        return _intent(plan, quantity, "exit-signal", request.bar_time, None)

    def _base(self, symbol: str) -> str:
        instrument = self._instruments.get(symbol)
        return instrument.base if instrument is not None else symbol.split("/")[0]


def _intent(plan: TradePlan, quantity: Decimal, leg: str, ts_event: int, rule: ExitRule | None) -> OrderIntent:
    return OrderIntent(
        client_order_id=client_order_id(plan.decision_id, leg),
        decision_id=plan.decision_id,
        symbol=plan.symbol,
        side=plan.side,
        quantity_base=quantity,
        reference_price=plan.reference_price,
        reduce_only=plan.reduce_only,
        leg=leg,
        leverage=plan.leverage,
        ts_event=ts_event,
        exit_rule=rule,
        reason=ExitReason.SIGNAL.value if plan.reduce_only else "",
    )


def _closable(plan: TradePlan, instrument: Instrument) -> Decimal:
    # Worth the smallest order at the plan's worst end too, or it would be dust before its stop (a short before its target).
    falls = plan.stop_loss_pct if plan.side is Side.BUY else plan.take_profit_pct
    return instrument.min_notional_quote * _decimal(round(1.0 / (1.0 - min(max(falls, 0.0), 0.9)), 6))


def _refuse(plan: TradePlan, code: str, detail: str) -> NoTrade:
    return NoTrade(plan.decision_id, plan.symbol, TIER, code, detail)


def _too_alike(plan: TradePlan, known: Mapping[str, float], account: AccountSnapshot, most: float) -> str:
    # signed by side, as the limit before the order: a hedge is no concentration; empty where nothing held is too alike
    for position in account.open_positions:
        sign = plan.side if position.quantity_base > 0 else -plan.side
        if known.get(position.symbol, math.nan) * sign > most + 1e-12:
            return f"moves like the holding in {position.symbol}: {known[position.symbol] * sign:.4g} against {most:g}"
    return ""


def _is_permitted(verdict: Verdict) -> bool:
    return verdict.kind is not VerdictKind.REJECT and 0.0 <= verdict.multiplier <= 1.0


def _decimal(value: float) -> Decimal:
    # By way of float: a NumPy scalar prints with its type's name.
    return Decimal(repr(float(value)))


def _floor(quantity: Decimal, step: Decimal) -> Decimal:
    return (quantity / step).to_integral_value(ROUND_FLOOR) * step if step > 0 else quantity


def _rounded(weights: Mapping[str, float]) -> dict[str, float]:
    return {s: round(w, 10) for s, w in sorted(weights.items())}


def _held_weights(request: AllocationRequest | RebalanceRequest) -> dict[str, float]:
    account: AccountSnapshot = request.account
    if account.equity_quote <= 0:
        return {}
    return {p.symbol: float(p.quantity_base * p.mark_price / account.equity_quote) for p in account.positions}

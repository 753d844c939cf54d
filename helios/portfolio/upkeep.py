"""What tier 5 does with holdings between signals: trims that bring them back to their targets.

The desk only trims here. A target above the holding is left to the next signal, which brings its own stop: an order that enlarges
a position which has just been stopped out would open one without protection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import numpy as np

from helios.config import HeliosConfig, PortfolioConfig
from helios.domain.decisions import TradePlan, decision_id
from helios.domain.enums import Side
from helios.domain.market import Instrument
from helios.domain.orders import AccountSnapshot, OrderIntent, PositionView, client_order_id
from helios.errors import DataError, InsufficientHistoryError, SolverError
from helios.numerics import one_thread
from helios.pipeline.ports import RebalanceRequest, RebalanceResponse
from helios.portfolio.history import PriceHistory
from helios.portfolio.rebalance import RebalanceAdvice, RebalancePlanner, RebalanceRule, RebalanceTimes
from helios.portfolio.strategic import Market, StandingView, strategic_targets
from helios.risk.sectors import sector_of

LEG = "rebalance"
EVENT_TOLERANCE = 0.01
"""How far above a cap, as a share of equity, a holding may drift before it is an event: a cap touched is not a cap broken."""
_NO_MARKET = Market((), np.empty((0, 0)), np.empty(0))


def risk_event_of(config: HeliosConfig) -> Callable[[AccountSnapshot], bool]:
    """Return the test whether holdings have outgrown the position, sector or leverage limit."""
    limits = config.limits

    def is_event(account: AccountSnapshot) -> bool:
        if not account.positions or account.equity_quote <= 0:
            return False
        shares = {p.symbol: float(p.notional_quote / account.equity_quote) for p in account.positions}
        by_sector: dict[str, float] = {}
        for symbol, share in shares.items():
            name = sector_of(symbol.split("/")[0])
            by_sector[name] = by_sector.get(name, 0.0) + share
        return (
            max(shares.values()) > limits.max_position + EVENT_TOLERANCE
            or max(by_sector.values()) > limits.max_sector + EVENT_TOLERANCE
            or sum(shares.values()) > limits.max_portfolio_leverage + EVENT_TOLERANCE
        )

    return is_event


class Upkeep:
    """Trims of what is held.

    Parameters
    ----------
    config : PortfolioConfig
    max_gross : float
        Largest sum of absolute weights.
    instruments : mapping
        By symbol: steps and minimums.
    sectors : callable
        Sector of a symbol.
    history : PriceHistory
        Shared with the desk that allocates.
    view : callable
        Expected simple return a day of a plan's symbol, signed.
    """

    def __init__(
        self,
        config: PortfolioConfig,
        max_gross: float,
        instruments: Mapping[str, Instrument],
        sectors: Callable[[str], str],
        history: PriceHistory,
        view: Callable[[TradePlan], float],
    ) -> None:
        self._config = config
        self._max_gross = max_gross
        self._instruments = instruments
        self._sectors = sectors
        self._history = history
        self._view = view
        self._views: dict[str, StandingView] = {}
        self._planner = RebalancePlanner(RebalanceRule.of(config, max_gross))
        self.last_reason = ""
        self.targets: Mapping[str, float] = {}

    def resume(self, last_rebalance_ns: int) -> None:
        """Take over when the ledger last saw a trim (ns UTC), where nothing else was kept: a restart is no reason for another."""
        times = RebalanceTimes(None, last_rebalance_ns or None, None)
        self._planner = RebalancePlanner(RebalanceRule.of(self._config, self._max_gross), times)

    def to_json(self) -> dict[str, Any]:
        """Return the standing views and the rebalancing times as JSON types: with them a restart changes no target."""
        views = [asdict(view) for _, view in sorted(self._views.items()) if math.isfinite(view.daily_return)]
        return {"times": self._planner.to_json(), "views": views}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what `to_json` gave.

        Raises
        ------
        DataError
            If it is not what this version writes; nothing is taken over then.
        """
        try:
            views = {view["symbol"]: StandingView(**view) for view in saved["views"]}
            times = dict(saved["times"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the saved upkeep is not what this version writes: {error!r}") from None
        if not all(_is_whole(view) for view in views.values()):
            raise DataError("the saved upkeep has a view that is none")
        self._planner = RebalancePlanner.from_json(RebalanceRule.of(self._config, self._max_gross), times)
        self._views = views

    def remember(self, plans: Sequence[TradePlan]) -> None:
        """Keep what approved plans expect until their horizon is over; a closing plan ends its symbol's view."""
        for plan in plans:
            if plan.reduce_only:
                self._views.pop(plan.symbol, None)
            else:
                self._views[plan.symbol] = StandingView(
                    plan.symbol, self._view(plan), plan.confidence, plan.bar_time, plan.horizon_ns
                )

    def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        """Return the trims that are due and worth their cost; none without equity or holdings.

        Raises
        ------
        SolverError
            If the targets cannot be had and no limit is broken: holdings stay as they are.
        """
        account = request.account
        if not account.positions or account.equity_quote <= 0:
            return RebalanceResponse()
        weights = {p.symbol: float(p.quantity_base * p.mark_price / account.equity_quote) for p in account.positions}
        with one_thread():
            self.targets, failure = self._targets(weights, request)
        smallest = float(self._config.min_trade_quote / account.equity_quote)
        fresh = [s for s, c in request.contexts.items() if c.market.last > 0]
        last_rebalance_ns = self._planner.times.last_rebalance_ns
        wanted = {s: _no_more(self.targets.get(s, 0.0), w) for s, w in weights.items()}
        advice = self._planner.advise(weights, wanted, request.bar_time, request.is_risk_event, fresh, smallest)
        intents = tuple(i for p in account.positions if (i := self._trim(p, advice, request)) is not None)
        if intents:
            self.last_reason = advice.reason
        else:  # what came to nothing must not put off the next week's
            self._planner.times = replace(self._planner.times, last_rebalance_ns=last_rebalance_ns)
        return RebalanceResponse(intents, advice.reason if intents else "", self.targets, failure)

    def _targets(self, weights: Mapping[str, float], request: RebalanceRequest) -> tuple[Mapping[str, float], str]:
        market = self._market({*request.contexts, *weights})

        def targets(views: Sequence[StandingView], market: Market) -> Mapping[str, float]:
            return strategic_targets(
                weights, views, market, request.bar_time, self._config, self._sectors, self._max_gross, is_paid=self._is_paid
            )

        try:
            return targets(list(self._views.values()), market), ""
        except SolverError as error:
            if not request.is_risk_event:
                raise
            return targets((), _NO_MARKET), str(error)  # without an optimum a broken cap is still a broken cap

    def _is_paid(self, symbol: str) -> bool:
        instrument = self._instruments.get(symbol)
        return instrument is None or not instrument.can_short

    def _market(self, symbols: set[str]) -> Market:
        universe = self._history.universe(symbols)
        try:
            return Market(universe, self._history.covariance(universe), self._history.prior_weights(universe))
        except InsufficientHistoryError:
            return _NO_MARKET

    def _trim(self, position: PositionView, advice: RebalanceAdvice, request: RebalanceRequest) -> OrderIntent | None:
        change = advice.trades.get(position.symbol, 0.0)
        side = Side.SELL if position.quantity_base > 0 else Side.BUY
        if change * side <= 0 or not math.isfinite(change):
            return None
        price = request.contexts[position.symbol].market.last
        quantity = self._quantity(position, abs(change), price, request.account)
        if quantity <= 0:
            return None
        name = decision_id(position.symbol, request.bar_time)
        return OrderIntent(
            client_order_id=client_order_id(name, LEG),
            decision_id=name,
            symbol=position.symbol,
            side=side,
            quantity_base=quantity,
            reference_price=price,
            reduce_only=True,
            leg=LEG,
            leverage=position.leverage,
            ts_event=request.bar_time,
            reason=advice.reason,
        )

    def _quantity(self, position: PositionView, share: float, price: Decimal, account: AccountSnapshot) -> Decimal:
        # Rounded down to lots; where less would be left than the venue takes, all that is whole lots goes. A fee taken in the
        # base asset leaves a crumb beside them, and an order off the lot grid is refused, however urgent it is.
        instrument, held = self._instruments.get(position.symbol), abs(position.quantity_base)
        wanted = min(Decimal(repr(round(share, 10))) * account.equity_quote / price, held)
        if instrument is None:
            return wanted
        lots, most = _whole(wanted, instrument), _whole(min(held, instrument.max_quantity_base), instrument)
        smallest = max(instrument.min_notional_quote, self._config.min_trade_quote)
        if lots < instrument.min_quantity_base or lots * price < smallest:
            return Decimal(0)
        left = held - lots
        is_crumb = left < instrument.min_quantity_base or left * price < instrument.min_notional_quote
        return most if is_crumb else min(lots, most)


def _no_more(target: float, weight: float) -> float:
    # A target above the holding is no drift here: nothing is bought, and it must not count as a rebalance.
    return math.copysign(min(abs(target), abs(weight)), weight) if target * weight > 0 else 0.0


def _is_whole(view: StandingView) -> bool:
    are_numbers = all(type(x) in (int, float) and math.isfinite(x) for x in (view.daily_return, view.confidence))
    return are_numbers and isinstance(view.symbol, str) and type(view.made_ns) is type(view.horizon_ns) is int


def _whole(quantity: Decimal, instrument: Instrument) -> Decimal:
    step = instrument.lot_size_base
    return (quantity / step).to_integral_value(ROUND_FLOOR) * step if step > 0 else quantity

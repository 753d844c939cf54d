"""Tier 3: one plan or one refusal for every prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from helios.config import LimitConfig, RiskConfig
from helios.domain.decisions import (
    FloatArray,
    NoTrade,
    Payoff,
    Prediction,
    TradePlan,
    VolatilityForecast,
    decision_id,
)
from helios.domain.enums import Action, Side, TradingMode, TradingState, VolatilityRegime
from helios.domain.market import Instrument
from helios.domain.orders import AccountSnapshot, PositionView
from helios.errors import StaleDataError
from helios.pipeline.ports import RiskRequest, RiskResponse, SymbolContext
from helios.risk.account_limits import drawdown_of, trading_state, worst_state
from helios.risk.exits import horizon_ns
from helios.risk.fitting import FitRequest, FitResult, fit_all
from helios.risk.leverage import instrument_leverage
from helios.risk.payoffs import measured_payoff, payoff_of
from helios.risk.sizing import SizeDecision, SizeRefusal, SizeRequest, size_bounds, size_position
from helios.risk.volatility_desk import VolatilityDesk

_SIDES = {Action.BUY: Side.BUY, Action.SELL: Side.SELL}
_STATE_CODES = {TradingState.HALTED: "TRADING_HALTED", TradingState.REDUCING: "REDUCING"}


class RiskDesk:
    """Volatility of every symbol, and what may be risked on each prediction.

    Deterministic: the answer depends on the seeds, the bars given since, the request and the configuration.

    Parameters
    ----------
    config, limits
        Tier 3's settings and the limits (position cap, notional bounds, loss limits, volatility breaker).
    instruments : mapping
        By symbol.
    bars_per_day : int, default=288
        Of the decision timeframe.
    mode : TradingMode
        LIVE tolerates fewer losses in a row.
    fits : callable, default=fit_all
        Computes the volatility fits that are due at a bar.

    Attributes
    ----------
    volatility : VolatilityDesk
        For who computes the fits of a bar elsewhere before `plan`, and for reports.
    """

    def __init__(
        self,
        config: RiskConfig,
        limits: LimitConfig,
        instruments: Mapping[str, Instrument],
        bars_per_day: int = 288,
        mode: TradingMode = TradingMode.PAPER,
        fits: Callable[[Sequence[FitRequest]], Iterable[FitResult]] = fit_all,
    ) -> None:
        self._config = config
        self._limits = limits
        self._instruments = instruments
        self._mode = mode
        self.volatility = VolatilityDesk(config, bars_per_day, fits)

    @property
    def fallbacks(self) -> dict[str, int]:
        """Per symbol, how many fits ended in an EWMA although there was history enough. To be alerted on."""
        return self.volatility.fallbacks

    def seed(self, symbol: str, closes_5m: FloatArray, end_time: int) -> None:
        """Start a symbol's volatility from history; see `VolatilityModel.seed`."""
        self.volatility.begin(symbol, closes_5m, end_time)
        self.volatility.fit_here()

    def set_mode(self, mode: TradingMode) -> None:
        """Follow the engine's trading mode."""
        self._mode = mode

    def volatility_ratio(self, symbol: str) -> float:
        """Return present volatility over its 30-day mean, for the breaker; NaN where unknown."""
        return self.volatility.volatility_ratio(symbol)

    def plan(self, request: RiskRequest) -> RiskResponse:
        """Take in the bar of every symbol, then answer every prediction in order.

        Calling it again with the same bar filters nothing twice and gives the same answer for the same account.
        """
        forecasts = self.volatility.forecasts(request.contexts)
        plans = tuple(self._noted(self._decide(prediction, request, forecasts)) for prediction in request.predictions)
        return RiskResponse(plans, forecasts, {s: self.volatility_ratio(s) for s in sorted(request.contexts)})

    def _noted(self, answer: TradePlan | NoTrade) -> TradePlan | NoTrade:
        alert = self.volatility.alert(answer.symbol)
        if alert is None or isinstance(answer, NoTrade):
            return answer
        return replace(answer, notes=(*answer.notes, alert.words()))

    def _without_forecast(self, prediction: Prediction) -> NoTrade:
        refusal = self.volatility.refusals.get(prediction.symbol)
        code = "STALE_FORECAST" if isinstance(refusal, StaleDataError) else "INSUFFICIENT_HISTORY"
        return _no_trade(prediction, code, str(refusal))

    def _decide(
        self, prediction: Prediction, request: RiskRequest, forecasts: Mapping[str, VolatilityForecast]
    ) -> TradePlan | NoTrade:
        symbol, confidence, floor = prediction.symbol, prediction.confidence, self._config.min_confidence
        side = _SIDES.get(prediction.action)
        if side is None:
            return _no_trade(prediction, "HOLD", f"the model says HOLD with confidence {confidence:.3f}")
        if not confidence >= floor:
            return _no_trade(prediction, "LOW_CONFIDENCE", f"confidence {confidence:.3f} is below {floor:.3f}")
        context, instrument = request.contexts.get(symbol), self._instruments.get(symbol)
        if context is None or instrument is None:
            missing = "no market data" if context is None else "no instrument"
            return _no_trade(prediction, "UNKNOWN_SYMBOL", f"there is {missing} for {symbol} at this bar")
        position = request.account.open_position(symbol)
        if position is not None and position.quantity_base * side.value < 0:
            ratio = self.volatility_ratio(symbol)
            return _closing_plan(prediction, side, position, context, forecasts.get(symbol), ratio, self._config)
        refusal = self._barred(prediction, side, instrument, position, request.account, forecasts.get(symbol))
        if refusal is not None:
            return refusal
        return self._entry(prediction, side, instrument, context, request.account, forecasts[symbol])

    def _barred(
        self,
        prediction: Prediction,
        side: Side,
        instrument: Instrument,
        position: PositionView | None,
        account: AccountSnapshot,
        forecast: VolatilityForecast | None,
    ) -> NoTrade | None:
        # what forbids an entry before its size is of any interest
        if prediction.symbol in account.reduce_only:
            return _no_trade(prediction, "SYMBOL_REDUCE_ONLY", f"{prediction.symbol} is to be left: nothing new is opened in it")
        # The breakers remember; the figures of the moment are the second witness where an account comes without them.
        state = worst_state(account.trading_state, trading_state(account, self._limits, self._mode))
        if state is not TradingState.ACTIVE:
            detail = (
                f"no entries ({', '.join(account.trips) or 'limits of the moment'}): "
                f"drawdown {float(drawdown_of(account)):.2%}, daily loss {account.daily_loss:.2%}, "
                f"{account.consecutive_losses} losses in a row"
            )
            return _no_trade(prediction, _STATE_CODES[state], detail)
        # The gate before the order checks these again; told here, a day's hundredth refusal is no row in the order ledger.
        most = self._limits.max_entries_per_day
        if account.entries_today >= most:
            return _no_trade(prediction, "MAX_ENTRIES_PER_DAY", f"{account.entries_today} entries today, at most {most}")
        n_open = len(account.open_positions)
        if position is None and n_open >= self._limits.max_open_positions:
            return _no_trade(prediction, "MAX_OPEN_POSITIONS", f"{n_open} positions are open already")
        if side is Side.SELL and not instrument.can_short:
            return _no_trade(prediction, "SHORT_NOT_ALLOWED", f"{instrument.symbol} is spot and nothing is held to sell")
        if forecast is None:
            return self._without_forecast(prediction)
        ratio = self.volatility_ratio(instrument.symbol)
        if ratio > self._limits.max_volatility_ratio:
            bound = self._limits.max_volatility_ratio
            return _no_trade(prediction, "VOLATILITY_BREAKER", f"volatility is {ratio:.2f} times its mean, above {bound:g}")
        return None

    def _entry(
        self,
        prediction: Prediction,
        side: Side,
        instrument: Instrument,
        context: SymbolContext,
        account: AccountSnapshot,
        forecast: VolatilityForecast,
    ) -> TradePlan | NoTrade:
        position = account.position(prediction.symbol)
        held = position.notional_quote if position is not None else Decimal(0)
        measured = measured_payoff(prediction.payoff, self._config)
        size = self._size(prediction.confidence, measured, side, instrument, account, forecast, held)
        if isinstance(size, SizeRefusal):
            return _no_trade(prediction, size.code, size.detail)
        return _entry_plan(prediction, measured, side, size, context, self._config)

    def _size(
        self,
        confidence: float,
        measured: Payoff | None,
        side: Side,
        instrument: Instrument,
        account: AccountSnapshot,
        forecast: VolatilityForecast,
        held: Decimal,
    ) -> SizeDecision | SizeRefusal:
        drawdown = float(drawdown_of(account))
        request = SizeRequest(
            confidence=confidence,
            daily_volatility=forecast.daily_volatility,
            regime=forecast.regime,
            equity=account.equity_quote,
            drawdown=drawdown,
            held_notional=held,
            leverage=instrument_leverage(confidence, forecast.regime, drawdown, instrument, self._config),
            payoff_ratio=payoff_of(measured, forecast.daily_volatility, self._config),
            volatility_ratio=self.volatility_ratio(instrument.symbol),
            side=side,
        )
        return size_position(request, self._config, size_bounds(self._limits, instrument))


def _no_trade(prediction: Prediction, code: str, detail: str) -> NoTrade:
    return NoTrade(decision_id(prediction.symbol, prediction.bar_time), prediction.symbol, "risk", code, detail)


def _reference_price(context: SymbolContext) -> Decimal:
    last = context.market.last
    return last if last.is_finite() and last > 0 else Decimal(str(context.close))


def _entry_plan(
    prediction: Prediction, measured: Payoff | None, side: Side, size: SizeDecision, context: SymbolContext, config: RiskConfig
) -> TradePlan:
    win, loss = math.nan, math.nan
    told: tuple[tuple[str, float], ...] = ()
    if measured is not None:
        win, loss = measured.win_stops * size.stop_pct, measured.loss_stops * size.stop_pct
        told = (("mean_win_stops", measured.win_stops), ("mean_loss_stops", measured.loss_stops))
    return TradePlan(
        decision_id=decision_id(prediction.symbol, prediction.bar_time),
        symbol=prediction.symbol,
        bar_time=prediction.bar_time,
        side=side,
        confidence=prediction.confidence,
        notional_quote=size.notional_quote,
        leverage=size.leverage,
        reference_price=_reference_price(context),
        stop_loss_pct=size.stop_pct,
        take_profit_pct=size.target_pct,
        loss_at_stop_quote=size.loss_at_stop_quote,
        horizon_ns=horizon_ns(config),
        kelly_full=size.kelly_full,
        kelly_fraction=float(size.notional_quote / size.equity_quote),
        payoff_ratio=size.payoff_ratio,
        daily_volatility=size.daily_volatility,
        regime=size.regime,
        notes=size.notes,
        volatility_ratio=size.volatility_ratio,
        sizing=(*size.values(), *told),
        mean_win_pct=win,
        mean_loss_pct=loss,
    )


def _closing_plan(
    prediction: Prediction,
    side: Side,
    position: PositionView,
    context: SymbolContext,
    forecast: VolatilityForecast | None,
    volatility_ratio: float,
    config: RiskConfig,
) -> TradePlan:
    # a closing needs no forecast: without one the volatility is NaN and the regime the most cautious
    price = _reference_price(context)
    word = "long" if side is Side.SELL else "short"
    return TradePlan(
        decision_id=decision_id(prediction.symbol, prediction.bar_time),
        symbol=prediction.symbol,
        bar_time=prediction.bar_time,
        side=side,
        confidence=prediction.confidence,
        notional_quote=abs(position.quantity_base) * price,
        leverage=position.leverage,
        reference_price=price,
        stop_loss_pct=0.0,
        take_profit_pct=0.0,
        loss_at_stop_quote=Decimal(0),
        horizon_ns=horizon_ns(config),
        kelly_full=0.0,
        kelly_fraction=0.0,
        payoff_ratio=0.0,
        daily_volatility=forecast.daily_volatility if forecast is not None else math.nan,
        regime=forecast.regime if forecast is not None else VolatilityRegime.EXTREME,
        reduce_only=True,
        notes=(f"SIGNAL against the {word} of {abs(position.quantity_base)}: close all of it",),
        volatility_ratio=volatility_ratio,
    )

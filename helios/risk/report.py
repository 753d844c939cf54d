"""The risk report: everything a risk manager looks at, from one account at one moment.

Pure: the same inputs give the same report. A figure that cannot be known (too few days, a holding without a price history) is
None, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helios.config import LimitConfig
from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe, TradingMode
from helios.domain.orders import AccountSnapshot
from helios.risk import measures
from helios.risk.account_limits import drawdown_of, free_cash, has_equity, limit_utilisation, trading_state
from helios.risk.measures import CorrelationRegime, RiskComponents
from helios.risk.sectors import DEFAULT_SECTORS, sector_of
from helios.risk.trips import Trip
from helios.risk.var import TailMethod, exceedances, portfolio_returns, tail_loss

DAY_NS = Timeframe.D1.ns
MIN_EQUITY_DAYS = 20
"""Fewer daily equity returns say nothing about a ratio."""
MIN_TAIL_DAYS = 30
"""Fewer daily returns of the holdings say nothing about a tail."""
RATIO_DAYS = 30
FULL_SCALE_VOLATILITY = 1.0
"""The annual volatility of equity that counts in full in the risk score: 100 %."""
TAIL_METHODS = (TailMethod.HISTORICAL, TailMethod.STUDENT_T, TailMethod.FILTERED)
TAIL_LEVELS = (0.95, 0.99)


def _no_returns() -> FloatArray:
    return np.empty((0, 0))


def _no_times() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class RiskInputs:
    """What the report is made of.

    Attributes
    ----------
    now_ns : int
        Market time, ns UTC; the day it lies in is not over and no part of daily returns.
    equity_times : int array of shape (n_points,)
        ns UTC, in any order.
    equity : float array of shape (n_points,)
        Marked to market, in quote currency; points that are not finite are left out.
    transfers : float array of shape (n_points,)
        All deposits less withdrawals until each point; empty: there were none.
    symbols : tuple of str
        Columns of `returns`.
    returns : float array of shape (n_days, n_symbols)
        Daily simple returns, oldest first; NaN where unknown.
    market_symbol : str
        The BTC pair for beta; empty or unknown: no beta to it.
    trips : tuple of Trip
        What is open on the breaker board.
    state : str
        The board's; empty: the account's own.
    profits : float array of shape (n_trades,)
        Of closed trades, after fees, in quote currency.
    """

    now_ns: int
    account: AccountSnapshot
    limits: LimitConfig
    equity_times: NDArray[np.int64] = field(default_factory=_no_times)
    equity: FloatArray = field(default_factory=lambda: np.empty(0))
    symbols: tuple[str, ...] = ()
    returns: FloatArray = field(default_factory=_no_returns)
    market_symbol: str = ""
    trips: tuple[Trip, ...] = ()
    state: str = ""
    profits: FloatArray = field(default_factory=lambda: np.empty(0))
    mode: TradingMode = TradingMode.PAPER
    sectors: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SECTORS)
    transfers: FloatArray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class TailRow:
    """VaR and CVaR of what is held now over one day: positive fractions of equity, and money."""

    method: str
    level: float
    var: float
    cvar: float
    var_quote: float
    cvar_quote: float


@dataclass(frozen=True, slots=True)
class RiskReport:
    """One report. Fractions are of equity, ratios annualised with 365 days, money in quote currency; NaN: not known.

    Attributes
    ----------
    max_drawdown, current_drawdown : float
        The largest of the whole equity curve, within days too; the present one as the limits see it.
    calmar, ulcer, omega, tail_ratio : float
        Of all full days of the equity curve.
    var_95_exceeded, var_95_days : int
        On how many of the last 90 days, at most, what is held now would have lost more than the filtered VaR of the days before.
    var_95_p_value : float
        Of Kupiec's test that this happens on 5 % of the days: small where the VaR is not to be believed.
    beta_market, beta_universe : float
        Of what is held now, to the BTC pair and to all symbols weighted equally.
    positions : dict
        Signed share of equity by symbol.
    mean_correlation : float
        Of all pairs over the last 30 days.
    risk_score : float
        0 to 100, lower is better; see `risk_score`.
    n_days, n_tail_days : int
        Daily returns of equity and of the holdings that were there to go by.
    """

    ts_event: int
    trading_state: str
    trips: tuple[Trip, ...]
    limit_utilisation: list[dict[str, Any]]
    equity_quote: float
    available_quote: float
    tails: tuple[TailRow, ...]
    var_95_exceeded: int
    var_95_days: int
    var_95_p_value: float
    beta_market: float
    beta_universe: float
    sharpe_30d: float
    sortino_30d: float
    volatility_30d: float
    calmar: float
    ulcer: float
    omega: float
    tail_ratio: float
    max_drawdown: float
    current_drawdown: float
    gross_exposure: float
    net_exposure: float
    portfolio_leverage: float
    positions: dict[str, float]
    sectors: dict[str, float]
    mean_correlation: float
    correlation_regime: CorrelationRegime
    closed_trades: int
    win_rate: float
    profit_factor: float
    mean_profit_quote: float
    risk_score: float
    n_days: int
    n_tail_days: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values; what is not known becomes None."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def risk_report(inputs: RiskInputs) -> RiskReport:
    """Return the report of one account at one moment.

    Needs 20 full days of equity for a ratio and 30 days of returns, of everything that is held, for a tail.
    """
    account, limits = inputs.account, inputs.limits
    weights = _weights(account)
    gross = math.fsum(abs(w) for w in weights.values())
    earned = _held_returns(inputs, weights)
    tails = _tails(earned, float(account.equity_quote))
    judged = exceedances(earned, TAIL_LEVELS[0], n_least=MIN_TAIL_DAYS)
    curve = _ratios(inputs)
    drawdown = float(drawdown_of(account))
    correlation = measures.mean_correlation(inputs.returns[-RATIO_DAYS:]) if inputs.returns.size else math.nan
    return RiskReport(
        ts_event=inputs.now_ns,
        trading_state=inputs.state or trading_state(account, limits, inputs.mode).value,
        trips=inputs.trips,
        limit_utilisation=limit_utilisation(account, limits, inputs.mode, inputs.sectors),
        equity_quote=float(account.equity_quote),
        available_quote=max(0.0, float(free_cash(account)) / (1.0 + limits.balance_cushion)),
        tails=tails,
        var_95_exceeded=judged.n_exceeded,
        var_95_days=judged.n_periods,
        var_95_p_value=judged.p_value,
        beta_market=_beta(inputs, earned, _column(inputs, inputs.market_symbol)),
        beta_universe=_beta(inputs, earned, _universe(inputs.returns)),
        **curve,
        current_drawdown=drawdown,
        gross_exposure=gross,
        net_exposure=math.fsum(weights.values()),
        portfolio_leverage=gross,  # leverage is in the quantities already: a second factor would count it twice
        positions=weights,
        sectors=_by_sector(weights, inputs.sectors),
        mean_correlation=correlation,
        correlation_regime=measures.correlation_regime(correlation, limits),
        closed_trades=account.closed_trades,
        win_rate=account.winning_trades / account.closed_trades if account.closed_trades else math.nan,
        profit_factor=measures.profit_factor(inputs.profits),
        mean_profit_quote=float(np.mean(inputs.profits)) if inputs.profits.size else math.nan,
        risk_score=_score(inputs, tails, drawdown, curve["volatility_30d"], weights, correlation),
        n_tail_days=int(np.isfinite(earned).sum()),
    )


def wealth(times_ns: NDArray[np.int64], equity: FloatArray, transfers: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the known points in time order, as what the first equity would have become without any transfer.

    Between two points it grows by equity / (equity before + what was paid in between), the convention of the daily figures; where
    that leaves nothing to grow it stays.
    """
    is_known = np.isfinite(equity)
    order = np.argsort(times_ns[is_known], kind="stable")
    times, values = times_ns[is_known][order], np.asarray(equity, dtype=np.float64)[is_known][order]
    if not transfers.any() or values.size == 0:
        return times, values
    start = values[:-1] + np.diff(transfers[is_known][order])
    growth = np.divide(values[1:], start, out=np.ones(start.size), where=start > 0.0)
    return times, values[0] * np.concatenate(([1.0], np.cumprod(growth)))


def daily_equity(times_ns: NDArray[np.int64], equity: FloatArray, now_ns: int) -> FloatArray:
    """Return the last known equity of every full UTC day from the first to yesterday.

    A day without a point is NaN: what the account was worth then is not known, and neither are the returns beside it.
    """
    days = np.asarray(times_ns, dtype=np.int64) // DAY_NS
    is_used = np.isfinite(equity) & (days < now_ns // DAY_NS)
    if not is_used.any():
        return np.empty(0)
    order = np.argsort(times_ns[is_used], kind="stable")
    days, values = days[is_used][order], np.asarray(equity, dtype=np.float64)[is_used][order]
    closes = np.full(int(days[-1] - days[0]) + 1, np.nan)
    closes[days - days[0]] = values  # of several points of a day the last one stays
    return closes


def _ratios(inputs: RiskInputs) -> dict[str, Any]:
    times, curve = wealth(inputs.equity_times, inputs.equity, inputs.transfers)
    closes = daily_equity(times, curve, inputs.now_ns)
    before, after = closes[:-1], closes[1:]
    is_known = np.isfinite(before) & np.isfinite(after) & (before > 0.0) if closes.size else np.empty(0, dtype=bool)
    returns = np.divide(after, before, out=np.full(before.size, np.nan), where=is_known) - 1.0
    recent = returns[-RATIO_DAYS:]
    n_days, n_recent = int(np.isfinite(returns).sum()), int(np.isfinite(recent).sum())
    present = float(drawdown_of(inputs.account))
    of_curve = measures.max_drawdown(curve)
    worst = present if math.isnan(of_curve) else max(of_curve, present)
    is_enough, is_recent = n_days >= MIN_EQUITY_DAYS, n_recent >= MIN_EQUITY_DAYS
    return {
        "sharpe_30d": measures.sharpe_ratio(recent) if is_recent else math.nan,
        "sortino_30d": measures.sortino_ratio(recent) if is_recent else math.nan,
        "volatility_30d": measures.volatility(recent) if is_recent else math.nan,
        "calmar": _calmar(closes) if is_enough else math.nan,
        "ulcer": measures.ulcer_index(closes) if is_enough else math.nan,
        "omega": measures.omega_ratio(returns) if is_enough else math.nan,
        "tail_ratio": measures.tail_ratio(returns) if is_enough else math.nan,
        "max_drawdown": worst,
        "n_days": n_days,
    }


def _calmar(closes: FloatArray) -> float:
    # by the days that passed rather than by the days that are known
    n_known = int(np.isfinite(closes).sum())
    return measures.calmar_ratio(closes, measures.DAYS_PER_YEAR * (n_known - 1) / (closes.size - 1)) if closes.size > 1 else math.nan


def _weights(account: AccountSnapshot) -> dict[str, float]:
    if not has_equity(account):
        return {p.symbol: math.nan for p in account.positions}
    return {p.symbol: float(p.quantity_base * p.mark_price / account.equity_quote) for p in account.positions}


def _by_sector(weights: Mapping[str, float], sectors: Mapping[str, str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for symbol, weight in weights.items():
        name = sector_of(symbol.split("/")[0], sectors)
        shares[name] = shares.get(name, 0.0) + abs(weight)
    return shares


def _held_returns(inputs: RiskInputs, weights: Mapping[str, float]) -> FloatArray:
    # what today's holdings would have earned on each past day; all NaN where one of them has no history
    if not weights.keys() <= set(inputs.symbols):
        return np.full(len(inputs.returns), np.nan)
    return portfolio_returns(np.array([weights.get(s, 0.0) for s in inputs.symbols]), inputs.returns)


def _tails(earned: FloatArray, equity: float) -> tuple[TailRow, ...]:
    is_enough = np.isfinite(earned).sum() >= MIN_TAIL_DAYS
    rows = []
    for method in TAIL_METHODS:
        for level in TAIL_LEVELS:
            loss = tail_loss(earned, level, method) if is_enough else (math.nan, math.nan)
            rows.append(TailRow(method.value, level, loss[0], loss[1], loss[0] * equity, loss[1] * equity))
    return tuple(rows)


def _column(inputs: RiskInputs, symbol: str) -> FloatArray:
    return inputs.returns[:, inputs.symbols.index(symbol)] if symbol in inputs.symbols else np.empty(0)


def _universe(returns: FloatArray) -> FloatArray:
    # the mean of what is known of a day: a symbol that was not listed yet is no part of it
    is_known = np.isfinite(returns)
    n_known = is_known.sum(axis=1)
    total = np.where(is_known, returns, 0.0).sum(axis=1)
    mean: FloatArray = np.divide(total, n_known, out=np.full(len(returns), np.nan), where=n_known > 0)
    return mean


def _beta(inputs: RiskInputs, earned: FloatArray, market: FloatArray) -> float:
    if market.size != earned.size or (np.isfinite(earned) & np.isfinite(market)).sum() < MIN_TAIL_DAYS:
        return math.nan
    return measures.beta(earned, market)


def _score(
    inputs: RiskInputs,
    tails: tuple[TailRow, ...],
    drawdown: float,
    volatility: float,
    weights: Mapping[str, float],
    correlation: float,
) -> float:
    limits = inputs.limits
    shares = [abs(w) for w in weights.values()]
    return measures.risk_score(
        RiskComponents(
            drawdown=_of(drawdown, limits.max_drawdown),
            var_95=_of(tails[0].var, limits.max_daily_loss),
            volatility=volatility / FULL_SCALE_VOLATILITY,
            leverage=_of(math.fsum(shares), limits.max_portfolio_leverage),
            position=_of(max(shares, default=0.0), limits.max_position),
            correlation=correlation,
        )
    )


def _of(value: float, limit: float) -> float:
    # a limit of 0 is used up by anything
    return value / limit if limit > 0.0 else math.copysign(math.inf, value) if value else 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, Trip | TailRow):
        return value.to_json() if isinstance(value, Trip) else {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value

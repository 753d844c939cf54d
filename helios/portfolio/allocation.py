"""From returns and views to weights, their yearly figures, and the trades that lead there: what `helios allocate` computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, get_args

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import ConfigError, InsufficientHistoryError
from helios.portfolio.black_litterman import Posterior, posterior
from helios.portfolio.constraints import correlation_of, pin_correlated
from helios.portfolio.covariance import MIN_ROWS, estimate
from helios.portfolio.frontier import (
    DAYS_PER_YEAR,
    YearlyFigures,
    efficient_frontier,
    fitted,
    maximum_diversification,
    risk_contributions,
    risk_parity,
    yearly_figures,
)
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser
from helios.portfolio.rounding import round_to_lots
from helios.portfolio.views import View, view_matrix

Objective = Literal["sharpe", "utility", "min_variance", "risk_parity", "max_diversification"]
SCALED = {"risk_parity", "max_diversification"}
"""What gives shares alone: caps scale them down in common."""
SMALLEST_CHANGE = 1e-6
"""A weight change below this share of equity is the solver's noise, not a trade."""
ANY_LOT = Decimal("1e-12")
OBJECTIVES: tuple[str, ...] = get_args(Objective)


@dataclass(frozen=True, slots=True)
class AllocationSettings:
    """How weights are chosen.

    Attributes
    ----------
    objective : {"sharpe", "utility", "min_variance", "risk_parity", "max_diversification"}
    covariance : str
        Name in `covariance.ESTIMATORS`.
    half_life_days : float
        Of the exponentially weighted covariance.
    risk_free : float
        A year, simple.
    risk_aversion, tau : float
        delta (and gamma) and tau of Black-Litterman.
    max_position, max_sector : float
        Caps, fractions of equity.
    min_cash : float
        Least share of equity kept in cash.
    max_turnover : float
        Largest sum of |w - w0|; infinite: not limited.
    max_correlation : float
        An asset that moves more like a larger holding than this is not bought; 1: not limited.
    cost_pct : float
        One-way cost of a trade, fraction of its value.
    hold_days : float
        Days over which the utility objective spreads the cost of a trade.
    """

    objective: str = "sharpe"
    covariance: str = "ledoit_wolf"
    half_life_days: float = 30.0
    risk_free: float = 0.0
    risk_aversion: float = 2.5
    tau: float = 0.025
    max_position: float = 0.2
    max_sector: float = 0.6
    min_cash: float = 0.0
    max_turnover: float = math.inf
    max_correlation: float = 1.0
    cost_pct: float = 0.0015
    hold_days: float = 30.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """Weights and what they rest on; arrays are in the order of `symbols` and, but for weights, daily.

    Attributes
    ----------
    symbols : tuple of str
    n_rows : int
        Daily returns that all symbols share.
    estimate : Posterior
        Prior and posterior returns, covariance.
    weights : ndarray of shape (n_assets,)
        Fractions of equity; the rest, `cash`, earns nothing.
    risk_shares : ndarray of shape (n_assets,)
        Of the variance; NaN without any.
    figures : YearlyFigures
    limits : Constraints
    """

    symbols: tuple[str, ...]
    n_rows: int
    estimate: Posterior
    weights: FloatArray
    risk_shares: FloatArray
    figures: YearlyFigures
    limits: Constraints

    @property
    def cash(self) -> float:
        """What the weights leave, as a fraction of equity."""
        left = 1.0 - float(self.weights.sum())
        return left if abs(left) > SMALLEST_CHANGE else 0.0


@dataclass(frozen=True, slots=True)
class ProposedTrade:
    """One weight change in whole lots and what it costs; where `is_made` is False, what was wished and is too small to be made."""

    symbol: str
    change: float
    value_quote: float
    quantity_base: float
    cost_quote: float
    is_made: bool


def propose(
    symbols: Sequence[str],
    returns: FloatArray,
    prior: FloatArray,
    views: Sequence[View],
    sector_of: Callable[[str], str],
    settings: AllocationSettings,
    w0: FloatArray | None = None,
) -> Proposal:
    """Return the weights that the settings ask for.

    Parameters
    ----------
    symbols : sequence of str
    returns : ndarray of shape (n_days, n_assets)
        Daily simple returns, NaN unknown; rows that not all symbols have are left out.
    prior : ndarray of shape (n_assets,)
        Weights of equilibrium, sum 1.
    views : sequence of View
    sector_of : callable
    settings : AllocationSettings
    w0 : ndarray of shape (n_assets,) or None
        Present weights, from which the utility objective counts its costs; None: all cash.

    Raises
    ------
    InsufficientHistoryError
        If fewer than 20 days are common to all symbols; names the symbol with the fewest.
    ConfigError
        If a view or a setting is wrong, or the objective does not know a limit.
    SolverError
        If there is no such portfolio, e.g. no asset is expected to earn more than the risk-free rate.
    """
    _check_objective(settings)
    n_rows = _check_rows(symbols, returns)
    sigma = estimate(returns, settings.covariance, settings.half_life_days)
    matrix = view_matrix(views, symbols)
    after = posterior(sigma, prior, matrix.P, matrix.Q, matrix.confidences, settings.risk_aversion, settings.tau)
    held = np.zeros(len(symbols)) if w0 is None else w0
    limits = _limits(symbols, sector_of, sigma, held, settings)
    w = _weights(after, limits, settings, held)
    figures = yearly_figures(w, after.mu, after.sigma_plus, settings.risk_free)
    return Proposal(tuple(symbols), n_rows, after, w, risk_contributions(w, after.sigma_plus), figures, limits)


def frontier_of(proposal: Proposal, n_points: int, risk_free: float) -> list[tuple[FloatArray, YearlyFigures]]:
    """Return the efficient frontier under the proposal's estimate and limits: weights and yearly figures, from least risk on."""
    known = proposal.estimate
    points = efficient_frontier(known.mu, known.sigma_plus, n_points, limits=proposal.limits)
    return [(w, yearly_figures(w, known.mu, known.sigma_plus, risk_free)) for w in points]


def trades_to(
    proposal: Proposal,
    w0: FloatArray,
    prices: FloatArray,
    equity: float,
    cost_pct: float,
    smallest_quote: float,
    lots: Sequence[Decimal] | None = None,
) -> list[ProposedTrade]:
    """Return what to buy (above 0) and sell to get from weights `w0` to the proposal's, none where nothing changes.

    Quantities are whole lots (None: any fraction), none is worth less than `smallest_quote`, and no limit is passed by what was cut:
    where a sale is too small to be made, so is the purchase it was to pay for.

    Weights are of equity before costs: where no cash is left, costs come out of the purchases.
    """
    wished = np.where(np.abs(proposal.weights - w0) > SMALLEST_CHANGE, proposal.weights, w0)
    exact_prices = [_decimal(p) for p in prices.tolist()]
    steps = [ANY_LOT] * len(w0) if lots is None else list(lots)
    quantities = round_to_lots(wished, w0, exact_prices, steps, _decimal(smallest_quote), _decimal(equity), proposal.limits)
    changes = zip(proposal.symbols, (wished - w0).tolist(), prices.tolist(), quantities, strict=True)
    return [_trade(s, change * equity / price, price, float(q), equity, cost_pct) for s, change, price, q in changes if change]


def _trade(symbol: str, wished: float, price: float, quantity: float, equity: float, cost_pct: float) -> ProposedTrade:
    shown = quantity or wished
    value = abs(shown) * price
    return ProposedTrade(symbol, shown * price / equity, value, shown, value * cost_pct if quantity else 0.0, bool(quantity))


def _decimal(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def long_only_limits(
    symbols: Sequence[str], sector_of: Callable[[str], str], max_position: float, max_sector: float, min_cash: float = 0.0
) -> Constraints:
    """Return limits of a spot account: each weight within 0 and `max_position`, each sector within `max_sector`, no borrowing."""
    ones = np.ones(len(symbols))
    sectors = sorted({sector_of(s) for s in symbols})
    matrix = np.array([[float(sector_of(s) == sector) for s in symbols] for sector in sectors])
    caps = np.full(len(sectors), max_sector)
    return Constraints(np.zeros(len(symbols)), max_position * ones, matrix, caps, ones.copy(), budget=1.0 - min_cash)


def _limits(
    symbols: Sequence[str], sector_of: Callable[[str], str], sigma: FloatArray, w0: FloatArray, settings: AllocationSettings
) -> Constraints:
    limits = long_only_limits(symbols, sector_of, settings.max_position, settings.max_sector, settings.min_cash)
    most = settings.max_correlation
    lower, upper = limits.lower, limits.upper
    if most < 1:
        lower, upper = pin_correlated(lower, upper, w0, correlation_of(sigma), most)
    return replace(limits, lower=lower, upper=upper, turnover=settings.max_turnover)


def _check_objective(settings: AllocationSettings) -> None:
    if settings.objective not in OBJECTIVES:
        raise ConfigError(f"unknown objective {settings.objective!r}: {', '.join(OBJECTIVES)}")
    if settings.objective in SCALED and (math.isfinite(settings.max_turnover) or settings.max_correlation < 1):
        raise ConfigError(
            f"{settings.objective} keeps caps and cash alone: limits of turnover and correlation need another objective"
        )


def _check_rows(symbols: Sequence[str], returns: FloatArray) -> int:
    known = np.isfinite(returns)
    n_rows = int(known.all(axis=1).sum())
    if n_rows < MIN_ROWS:
        counts = known.sum(axis=0)
        fewest = int(np.argmin(counts)) if len(counts) else 0
        name = f"; {symbols[fewest]} has {int(counts[fewest])}, the fewest" if len(symbols) else ""
        raise InsufficientHistoryError(f"{n_rows} daily returns that all {len(symbols)} symbols share, {MIN_ROWS} needed{name}")
    return n_rows


def _weights(after: Posterior, limits: Constraints, settings: AllocationSettings, w0: FloatArray) -> FloatArray:
    if settings.objective == "risk_parity":
        return fitted(risk_parity(after.sigma_plus), limits)
    if settings.objective == "max_diversification":
        return fitted(maximum_diversification(after.sigma_plus), limits)
    optimiser = MeanVarianceOptimiser(len(w0))
    if settings.objective == "min_variance":
        return optimiser.min_variance(after.sigma_plus, limits, w0)
    if settings.objective == "sharpe":
        return optimiser.max_sharpe(after.mu, after.sigma_plus, limits, settings.risk_free / DAYS_PER_YEAR, w0)
    # Holdings beyond a cap are sold down to it: with lower bounds of 0 the problem is feasible wherever it starts.
    cost = np.full(len(w0), settings.cost_pct / settings.hold_days)
    return optimiser.solve(after.mu, after.sigma_plus, w0, cost, settings.risk_aversion, limits)

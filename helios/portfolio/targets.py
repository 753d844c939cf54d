"""From approved plans to target weights: views, posterior, and the optimiser over the planned symbols."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from helios.config import PortfolioConfig, RiskConfig
from helios.domain.decisions import FloatArray, TradePlan
from helios.domain.enums import Side
from helios.domain.market import Instrument
from helios.errors import InsufficientHistoryError
from helios.portfolio.black_litterman import posterior
from helios.portfolio.constraints import correlation_of, pin_correlated
from helios.portfolio.history import DAY_NS, PriceHistory
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser

BLACK_LITTERMAN = "OPTIMAL"
DIAGONAL = "DIAGONAL"
MIXED = "MIXED"


@dataclass(frozen=True, slots=True)
class Targets:
    """Optimised weights of the planned symbols (signed fractions of equity) and the estimate they rest on."""

    weights: Mapping[str, float]
    method: str


@dataclass(frozen=True, slots=True)
class _Estimate:
    symbols: list[str]
    mu: FloatArray
    sigma: FloatArray
    method: str


class TargetPlanner:
    """Turn plans into target weights; only symbols with a plan may change, and only in the plan's direction.

    Parameters
    ----------
    config, risk : PortfolioConfig, RiskConfig
        Limits and aversion; the round-trip cost and the leverage limit.
    instruments : mapping
        By symbol; says what can be sold short.
    sector_of : callable
        Sector of a symbol.
    max_correlation : float
        A symbol whose correlation with a larger holding, signed by side, exceeds this may not be increased.
    """

    def __init__(
        self,
        config: PortfolioConfig,
        risk: RiskConfig,
        instruments: Mapping[str, Instrument],
        sector_of: Callable[[str], str],
        max_correlation: float = 1.0,
    ) -> None:
        self._config = config
        self._risk = risk
        self._instruments = instruments
        self._sector_of = sector_of
        self._max_correlation = max_correlation
        self._solvers: dict[int, MeanVarianceOptimiser] = {}

    def targets(
        self, plans: Sequence[TradePlan], held: Mapping[str, float], symbols: Sequence[str], history: PriceHistory
    ) -> Targets:
        """Optimise the weights of `plans` (one per symbol, sorted by symbol) around the `held` weights.

        Symbols without a plan stay at their weight: they are eliminated from the problem exactly (their covariance with the
        planned ones lowers or raises the planned ones' expected return by gamma Sigma w).

        Raises
        ------
        SolverError
            If an input is not finite or the solver fails: keep the present weights.
        """
        estimate = self._estimate(plans, symbols, history)
        at = [estimate.symbols.index(p.symbol) for p in plans]
        rest = [i for i in range(len(estimate.symbols)) if i not in at]
        w_rest = np.array([held.get(estimate.symbols[i], 0.0) for i in rest])
        gamma = self._config.risk_aversion
        mu = estimate.mu[at] - gamma * estimate.sigma[np.ix_(at, rest)] @ w_rest
        w0 = np.array([held.get(p.symbol, 0.0) for p in plans])
        cost = np.array([self._config.cost_pct * _per_day(p) for p in plans])
        limits = self._pinned(self._limits(plans, w0, held), estimate, at, held)
        w = self._solver(len(plans)).solve(mu, estimate.sigma[np.ix_(at, at)], w0, cost, gamma, limits)
        return Targets({p.symbol: round(float(x), 10) for p, x in zip(plans, w, strict=True)}, estimate.method)

    def view(self, plan: TradePlan) -> float:
        """Return the plan's expected simple return a day, signed by side.

        Over the horizon the position earns with probability p what such trades earned when they won, and loses otherwise what
        they lost: mu_h = p win - (1 - p) loss. Where nobody has measured that, it is taken to earn the target or lose the stop, less
        the cost of leaving: mu_h = p target - (1 - p) stop - (round trip - one way), which is more than trades give that mostly end
        by time. The cost of entering is the optimiser's own cost term, so that each cost counts once. Scaled by one day / horizon.
        """
        p = plan.confidence
        if math.isfinite(plan.mean_win_pct) and math.isfinite(plan.mean_loss_pct):
            entering = min(self._config.cost_pct, self._risk.round_trip_cost_pct)
            return plan.side * (p * plan.mean_win_pct - (1 - p) * plan.mean_loss_pct + entering) * _per_day(plan)
        leaving = max(self._risk.round_trip_cost_pct - self._config.cost_pct, 0.0)
        earned = p * plan.take_profit_pct - (1 - p) * plan.stop_loss_pct - leaving
        return plan.side * earned * _per_day(plan)

    def _solver(self, n_assets: int) -> MeanVarianceOptimiser:
        if n_assets not in self._solvers:
            self._solvers[n_assets] = MeanVarianceOptimiser(n_assets)
        return self._solvers[n_assets]

    def _estimate(self, plans: Sequence[TradePlan], symbols: Sequence[str], history: PriceHistory) -> _Estimate:
        universe = history.universe({*symbols, *(p.symbol for p in plans)})
        try:
            sigma = history.covariance(universe)
        except InsufficientHistoryError:
            return self._diagonal(plans)
        # A symbol too young for an estimate stands beside the others by its own volatility forecast and takes nothing from them:
        # uncorrelated and without a share of equilibrium, its view is shrunk towards zero by its confidence.
        young = [p for p in plans if p.symbol not in universe]
        names, n = [*universe, *(p.symbol for p in young)], len(universe)
        whole = np.diag(np.array([0.0] * n + [p.daily_volatility**2 for p in young]))
        whole[:n, :n] = sigma
        result = posterior(
            whole,
            np.append(history.prior_weights(universe), np.zeros(len(young))),
            np.array([[float(s == p.symbol) for s in names] for p in plans]),
            np.array([self.view(p) for p in plans]),
            np.array([p.confidence for p in plans]),
            self._config.risk_aversion,
            self._config.tau,
        )
        return _Estimate(names, result.mu, result.sigma_plus, MIXED if young else BLACK_LITTERMAN)

    def _diagonal(self, plans: Sequence[TradePlan]) -> _Estimate:
        # Without any history there is no equilibrium either, and the only risk known is each plan's own volatility forecast.
        mu = np.array([p.confidence * self.view(p) for p in plans])
        return _Estimate([p.symbol for p in plans], mu, np.diag([p.daily_volatility**2 for p in plans]), DIAGONAL)

    def _limits(self, plans: Sequence[TradePlan], w0: FloatArray, held: Mapping[str, float]) -> Constraints:
        # Every cap leaves room for what is already held: a market move past a cap must not make "do nothing" infeasible.
        planned = {p.symbol for p in plans}
        fixed = {s: w for s, w in held.items() if s not in planned}
        sectors = sorted({self._sector_of(p.symbol) for p in plans})
        matrix = np.array([[float(self._sector_of(p.symbol) == k) for p in plans] for k in sectors])
        in_sector = np.array([sum(abs(w) for s, w in fixed.items() if self._sector_of(s) == k) for k in sectors])
        funded = np.array([float(not self._can_short(p.symbol)) for p in plans])
        paid = sum(w for s, w in fixed.items() if not self._can_short(s))
        gross = sum(abs(w) for w in fixed.values())
        return Constraints(
            lower=np.array([self._lower(p, w) for p, w in zip(plans, w0, strict=True)]),
            upper=np.array([max(w, self._config.max_position) if p.side is Side.BUY else w for p, w in zip(plans, w0, strict=True)]),
            sector_matrix=matrix,
            sector_cap=np.maximum(self._config.max_sector - in_sector, matrix @ np.abs(w0)),
            funded=funded,
            budget=max(1.0 - self._config.min_cash - paid, float(funded @ w0)),
            gross_cap=max(self._risk.max_leverage - gross, float(np.abs(w0).sum())),
            turnover=math.inf if self._config.max_turnover is None else self._config.max_turnover,
        )

    def _pinned(self, limits: Constraints, estimate: _Estimate, at: list[int], held: Mapping[str, float]) -> Constraints:
        # Judged over all holdings, planned or not. Without history the correlations are unknown, and stated as 0.
        w0 = np.array([held.get(s, 0.0) for s in estimate.symbols])
        lower, upper = w0.copy(), w0.copy()
        lower[at], upper[at] = limits.lower, limits.upper
        lower, upper = pin_correlated(lower, upper, w0, correlation_of(estimate.sigma), self._max_correlation + 1e-12)
        return replace(limits, lower=lower[at], upper=upper[at])

    def _lower(self, plan: TradePlan, w0: float) -> float:
        if plan.side is Side.BUY:
            return w0
        return min(w0, -self._config.max_position if self._can_short(plan.symbol) else 0.0)

    def _can_short(self, symbol: str) -> bool:
        instrument = self._instruments.get(symbol)
        return instrument is not None and instrument.can_short


def _per_day(plan: TradePlan) -> float:
    return DAY_NS / plan.horizon_ns if plan.horizon_ns > 0 else float("nan")

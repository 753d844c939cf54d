"""What the portfolio desk remembers of each symbol: closes on the hour and 30-day quote turnover."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from helios.domain.decisions import FloatArray
from helios.pipeline.ports import SymbolContext
from helios.portfolio.covariance import HALF_LIFE_ROWS, MIN_ROWS, aligned_returns, closes_grid, estimate
from helios.portfolio.gaps import mixed_covariance, pairwise_correlation

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
MIN_DAILY_ROWS = 60
TURNOVER_NS = 30 * DAY_NS
CORRELATION_DAYS = 30
MIN_COMMON_RETURNS = 10
MAX_GRIDS = 64
"""Sets of symbols whose returns are kept at once; asked for more, the memory starts anew."""


@dataclass(frozen=True, slots=True)
class ReturnsMatrix:
    """Simple returns joined on time.

    Attributes
    ----------
    times : ndarray of int64, shape (n_observations,)
        End of each return, ns UTC.
    symbols : tuple of str
    returns : ndarray of shape (n_observations, n_assets)
        NaN where a close at either end is not known.
    step_ns : int
        Time that one return spans.
    """

    times: np.ndarray
    symbols: tuple[str, ...]
    returns: FloatArray
    step_ns: int


class PriceHistory:
    """Closes on the hour of the last `keep_days` days and a running 30-day turnover, per symbol.

    Turnover is kept with exponential forgetting, T <- T exp(-dt / 30 d) + v: for steady trading it settles at the 30-day sum,
    and it needs no memory of single bars.

    Parameters
    ----------
    keep_days : int
    covariance : str
        Name of the estimator, `covariance.ESTIMATORS`.
    half_life_days : float
        Of the exponentially weighted estimator.
    """

    def __init__(self, keep_days: int, covariance: str = "ledoit_wolf", half_life_days: float = HALF_LIFE_ROWS) -> None:
        self._keep_ns = keep_days * DAY_NS
        self._estimator = covariance
        self._half_life_days = half_life_days
        self._closes: dict[str, dict[int, float]] = {}
        self._turnover: dict[str, float] = {}
        self._seen: dict[str, int] = {}
        self._enough: dict[tuple[str, int], bool] = {}
        self._estimates: dict[tuple[str, ...], FloatArray] = {}
        self._grids: dict[tuple[tuple[str, ...], int, int], FloatArray] = {}

    def seed(self, symbol: str, close_times: Sequence[int], closes: Sequence[float], turnover_30d: float) -> None:
        """Take over past closes (ns UTC; those off the hour or not positive are left out) and the 30-day quote turnover."""
        known = self._closes.setdefault(symbol, {})
        self._forget_estimates(symbol)
        known.update({int(t): float(c) for t, c in zip(close_times, closes, strict=True) if _is_kept(int(t), float(c))})
        self._turnover[symbol] = turnover_30d if math.isfinite(turnover_30d) and turnover_30d > 0 else 0.0
        if len(close_times):
            self._seen[symbol] = max(self._seen.get(symbol, 0), *(int(t) for t in close_times))
            self._prune(symbol)

    def observe(self, contexts: Iterable[SymbolContext]) -> None:
        """Add one closed bar per symbol; a bar already seen, or older, changes nothing."""
        for context in contexts:
            seen = self._seen.get(context.symbol)
            if seen is not None and context.bar_time <= seen:
                continue
            self._add_turnover(context, 0 if seen is None else context.bar_time - seen)
            self._seen[context.symbol] = context.bar_time
            if _is_kept(context.bar_time, context.close):
                self._closes.setdefault(context.symbol, {})[context.bar_time] = context.close
                self._forget_estimates(context.symbol)
                self._prune(context.symbol)

    def universe(self, symbols: Iterable[str]) -> list[str]:
        """Those of `symbols`, sorted, that have enough hourly or daily returns for a covariance."""
        return [s for s in sorted(symbols) if any(self._has_returns(s, step) for step in (HOUR_NS, DAY_NS))]

    def covariance(self, symbols: Sequence[str]) -> FloatArray:
        """Estimate the daily covariance of `symbols`.

        From daily returns if all share 60; while every symbol is younger, from hourly ones times 24; from 20 daily ones that all
        share; else, where gaps and newcomers leave too few moments in common, pair by pair (`gaps.mixed_covariance`). The estimate is
        kept until a close on the hour comes in: within the hour nothing it rests on can change.

        Raises
        ------
        InsufficientHistoryError
            If a symbol has fewer than 20 returns of either length.
        """
        key = tuple(symbols)
        if key not in self._estimates:
            self._estimates[key] = self._estimate(key)
        return self._estimates[key]

    def returns_matrix(self, symbols: Sequence[str], step_ns: int = DAY_NS) -> ReturnsMatrix:
        """Return the simple returns of `symbols` over the days kept: daily, or hourly with `step_ns=HOUR_NS`."""
        times, grid = closes_grid(self._closes, symbols, step_ns)
        return ReturnsMatrix(times[1:], tuple(symbols), grid[1:] / grid[:-1] - 1.0, step_ns)

    def correlations(self, symbol: str, others: Iterable[str], now_ns: int) -> dict[str, float]:
        """Return the correlation of `symbol` with each of `others` over the last 30 days.

        Of daily returns where both have 30, else of hourly ones, else of the daily ones there are; NaN below 10 common returns, for
        a symbol not known or whose closes are older than 30 days, and for a price that did not move. The sign is that of prices:
        whoever holds one of the two short turns it round.

        Parameters
        ----------
        now_ns : int
            Market time, ns UTC. Later closes are left out.
        """
        names = sorted(set(others))
        matrix = self.correlation_matrix((symbol, *names), now_ns)
        return {name: 1.0 if name == symbol else float(matrix[0, i]) for i, name in enumerate(names, 1)}

    def correlation_matrix(self, symbols: Sequence[str], now_ns: int) -> FloatArray:
        """Return the correlations of `symbols` by the rule of `correlations`, pair by pair; 1 on the diagonal."""
        daily, n_daily = pairwise_correlation(self._window(symbols, DAY_NS, now_ns), MIN_COMMON_RETURNS)
        if (n_daily >= CORRELATION_DAYS).all():
            return daily
        hourly, _ = pairwise_correlation(self._window(symbols, HOUR_NS, now_ns), MIN_COMMON_RETURNS)
        preferred = np.where((n_daily < CORRELATION_DAYS) & np.isfinite(hourly), hourly, daily)
        np.fill_diagonal(preferred, 1.0)
        return preferred

    def mean_correlation(self, symbols: Sequence[str], now_ns: int) -> float:
        """Return the mean of all known pairwise correlations, what the correlation regime rests on; NaN without any pair."""
        matrix = self.correlation_matrix(symbols, now_ns)
        pairs = matrix[np.triu_indices(len(symbols), 1)]
        known = pairs[np.isfinite(pairs)]
        return float(known.mean()) if known.size else math.nan

    def _window(self, symbols: Sequence[str], step_ns: int, now_ns: int) -> FloatArray:
        # Returns that end within the 30 days up to the last full hour; kept until another hour or another close.
        end = now_ns // HOUR_NS * HOUR_NS
        key = (tuple(symbols), step_ns, end)
        if key not in self._grids:
            first = end // step_ns * step_ns - CORRELATION_DAYS * DAY_NS
            times, grid = closes_grid(self._closes, symbols, step_ns, first)
            grid = grid[times <= end]
            if len(self._grids) >= MAX_GRIDS:
                self._grids.clear()
            self._grids[key] = grid[1:] / grid[:-1] - 1.0
        return self._grids[key]

    def _estimate(self, symbols: Sequence[str]) -> FloatArray:
        daily = aligned_returns(self._closes, symbols, DAY_NS)
        known = np.isfinite(daily)
        if known.all(axis=1).sum() >= MIN_DAILY_ROWS:
            return estimate(daily, self._estimator, self._half_life_days)
        hourly = aligned_returns(self._closes, symbols, HOUR_NS)
        is_young = not (known.sum(axis=0) >= MIN_DAILY_ROWS).any()
        if is_young and np.isfinite(hourly).all(axis=1).sum() >= MIN_ROWS:
            return 24.0 * estimate(hourly, self._estimator, 24.0 * self._half_life_days)
        if known.all(axis=1).sum() >= MIN_ROWS:
            return estimate(daily, self._estimator, self._half_life_days)
        return mixed_covariance(daily, hourly, 24.0)

    def prior_weights(self, symbols: Sequence[str]) -> FloatArray:
        """Weights by 30-day turnover in quote currency; equal where no turnover is known."""
        turnover = np.array([self._turnover.get(s, 0.0) for s in symbols])
        total = float(turnover.sum())
        return turnover / total if total > 0 else np.full(len(symbols), 1.0 / len(symbols))

    def _add_turnover(self, context: SymbolContext, elapsed_ns: int) -> None:
        traded = context.volume_quote if math.isfinite(context.volume_quote) else 0.0
        kept = self._turnover.get(context.symbol, 0.0) * math.exp(-elapsed_ns / TURNOVER_NS)
        self._turnover[context.symbol] = kept + max(traded, 0.0)

    def _has_returns(self, symbol: str, step_ns: int) -> bool:
        key = (symbol, step_ns)
        if key not in self._enough:
            closes = self._closes.get(symbol, {})
            pairs = (t for t in closes if t % step_ns == 0 and t - step_ns in closes)
            self._enough[key] = sum(1 for _ in islice(pairs, MIN_ROWS)) == MIN_ROWS  # counted no further than needed
        return self._enough[key]

    def _forget_estimates(self, symbol: str) -> None:
        self._estimates.clear()
        self._grids.clear()
        for step_ns in (HOUR_NS, DAY_NS):
            self._enough.pop((symbol, step_ns), None)

    def _prune(self, symbol: str) -> None:
        closes = self._closes[symbol]
        oldest = max(closes, default=0) - self._keep_ns
        for t in [t for t in closes if t < oldest]:
            del closes[t]


def _is_kept(close_time: int, close: float) -> bool:
    return close_time % HOUR_NS == 0 and math.isfinite(close) and close > 0

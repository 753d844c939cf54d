"""What the portfolio desk remembers of each symbol: closes on the hour and 30-day quote turnover."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import InsufficientHistoryError
from helios.pipeline.ports import SymbolContext
from helios.portfolio.covariance import MIN_ROWS, aligned_returns, shrunk_covariance

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
MIN_DAILY_ROWS = 60
TURNOVER_NS = 30 * DAY_NS


class PriceHistory:
    """Closes on the hour of the last `keep_days` days and a running 30-day turnover, per symbol.

    Turnover is kept with exponential forgetting, T <- T exp(-dt / 30 d) + v: for steady trading it settles at the 30-day sum,
    and it needs no memory of single bars.
    """

    def __init__(self, keep_days: int) -> None:
        self._keep_ns = keep_days * DAY_NS
        self._closes: dict[str, dict[int, float]] = {}
        self._turnover: dict[str, float] = {}
        self._seen: dict[str, int] = {}
        self._counts: dict[tuple[str, int], int] = {}
        self._estimates: dict[tuple[str, ...], FloatArray] = {}

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
        return [s for s in sorted(symbols) if any(self._n_returns(s, step) >= MIN_ROWS for step in (HOUR_NS, DAY_NS))]

    def covariance(self, symbols: Sequence[str]) -> FloatArray:
        """Estimate the daily covariance of `symbols`: daily returns from 60 common ones on, else hourly ones times 24.

        The estimate is kept until a close on the hour comes in: within the hour nothing it rests on can change.

        Raises
        ------
        InsufficientHistoryError
            If neither grid has enough rows that all symbols share.
        """
        key = tuple(symbols)
        if key not in self._estimates:
            self._estimates[key] = self._estimate(key)
        return self._estimates[key]

    def _estimate(self, symbols: Sequence[str]) -> FloatArray:
        daily = aligned_returns(self._closes, symbols, DAY_NS)
        if np.isfinite(daily).all(axis=1).sum() >= MIN_DAILY_ROWS:
            return shrunk_covariance(daily)
        try:
            return 24.0 * shrunk_covariance(aligned_returns(self._closes, symbols, HOUR_NS))
        except InsufficientHistoryError:
            return shrunk_covariance(daily)

    def prior_weights(self, symbols: Sequence[str]) -> FloatArray:
        """Weights by 30-day turnover in quote currency; equal where no turnover is known."""
        turnover = np.array([self._turnover.get(s, 0.0) for s in symbols])
        total = float(turnover.sum())
        return turnover / total if total > 0 else np.full(len(symbols), 1.0 / len(symbols))

    def _add_turnover(self, context: SymbolContext, elapsed_ns: int) -> None:
        traded = context.volume_quote if math.isfinite(context.volume_quote) else 0.0
        kept = self._turnover.get(context.symbol, 0.0) * math.exp(-elapsed_ns / TURNOVER_NS)
        self._turnover[context.symbol] = kept + max(traded, 0.0)

    def _n_returns(self, symbol: str, step_ns: int) -> int:
        key = (symbol, step_ns)
        if key not in self._counts:
            closes = self._closes.get(symbol, {})
            self._counts[key] = sum(1 for t in closes if t % step_ns == 0 and t - step_ns in closes)
        return self._counts[key]

    def _forget_estimates(self, symbol: str) -> None:
        self._estimates.clear()
        for step_ns in (HOUR_NS, DAY_NS):
            self._counts.pop((symbol, step_ns), None)

    def _prune(self, symbol: str) -> None:
        closes = self._closes[symbol]
        oldest = max(closes, default=0) - self._keep_ns
        for t in [t for t in closes if t < oldest]:
            del closes[t]


def _is_kept(close_time: int, close: float) -> bool:
    return close_time % HOUR_NS == 0 and math.isfinite(close) and close > 0

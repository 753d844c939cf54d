"""The skill of the volatility model over a whole history: fitted on the past alone, judged on what came after."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from helios.config import RiskConfig
from helios.domain.decisions import FloatArray
from helios.errors import InsufficientHistoryError, StaleDataError
from helios.risk.skill import NS_PER_DAY, Comparison, Losses, SkillTracker, diebold_mariano
from helios.risk.volatility import VolatilityModel

_LAGS = 48
"""Twice the 24 days that share an hour: Bartlett's weights would count only half of an overlap that ends at lag 23."""
LEVEL = 0.05
"""p-value below which one forecaster is said to be better than another."""


@dataclass(frozen=True, slots=True)
class SkillReport:
    """Mean QLIKE losses on the same days and what they say.

    Attributes
    ----------
    losses : Losses
        Means by forecaster; NaN without any day.
    rivals : dict of str to Comparison
        The model against each rival.
    n_days : int
        Days judged, one per hour.
    n_skipped, n_fits, n_fallbacks : int
    fit_reasons : dict of str to int
        Fits by what made them due.
    days : ndarray of shape (n_days, 4)
        The losses, oldest first, in the order of `Losses`.
    """

    symbol: str
    losses: Losses
    rivals: dict[str, Comparison]
    n_days: int
    n_skipped: int
    n_fits: int
    n_fallbacks: int
    fit_reasons: dict[str, int]
    days: FloatArray = field(repr=False, compare=False)

    def verdict(self, rival: str) -> str:
        """Return `better`, `worse` or `no difference`: of the model against a rival, at the 5 % level."""
        found = self.rivals[rival]
        if not found.p_value < LEVEL:
            return "no difference"
        return "better" if found.difference < 0.0 else "worse"


def walk_forward(
    closes: FloatArray,
    end_time: int,
    config: RiskConfig,
    bars_per_day: int = 288,
    symbol: str = "",
    on_bar: Callable[[int], None] | None = None,
) -> SkillReport:
    """Run the desk's own model over a history, bar by bar, and judge every forecast after the seed.

    The first `garch_max_returns` bars, at most half of the history, are the seed. From then on the model fits when it would
    fit live, on what it would know.

    Parameters
    ----------
    closes : ndarray of shape (n_bars,)
        Of consecutive bars, oldest first; NaN where missing.
    end_time : int
        Close time of the last one, ns UTC.
    on_bar : callable or None
        Told the number of bars done.
    """
    bar_ns = NS_PER_DAY // bars_per_day
    n_seed = min(config.garch_max_returns + 1, len(closes) // 2)
    first = end_time - (len(closes) - 1) * bar_ns
    model, tracker = VolatilityModel(config, bars_per_day, symbol), SkillTracker(bars_per_day, config.ewma_daily_decay)
    model.seed(closes[:n_seed], first + (n_seed - 1) * bar_ns)
    tracker.seed(closes[:n_seed], first + (n_seed - 1) * bar_ns)
    reasons: dict[str, int] = {"FIRST": model.fits}
    found: list[Losses] = []
    for i, close in enumerate(closes[n_seed:].tolist(), start=n_seed):
        bar_time = first + i * bar_ns
        if model.take(close, bar_time):
            reasons[model.due_reason] = reasons.get(model.due_reason, 0) + 1
        losses = tracker.update(close, bar_time, daily_variance(model, close, bar_time))
        if losses is not None:
            found.append(losses)
        if on_bar is not None and i % bars_per_day == 0:
            on_bar(i)
    return _report(symbol, found, tracker, model, reasons)


def daily_variance(model: VolatilityModel, close: float, bar_time: int) -> float:
    """Return the model's forecast at a bar as the variance of the coming day; NaN where it has none."""
    try:
        return model.update(close, bar_time).daily_volatility ** 2
    except (InsufficientHistoryError, StaleDataError):
        return math.nan


def _report(symbol: str, found: list[Losses], tracker: SkillTracker, model: VolatilityModel, reasons: dict[str, int]) -> SkillReport:
    table = np.array(found, dtype=np.float64).reshape(-1, len(Losses._fields))
    means = Losses(*(table.mean(axis=0).tolist() if len(table) else [math.nan] * table.shape[1]))
    rivals = {name: diebold_mariano(table[:, 0], table[:, column], _LAGS) for column, name in enumerate(Losses._fields) if column > 0}
    return SkillReport(symbol, means, rivals, tracker.n, tracker.n_skipped, model.fits, model.fallbacks, reasons, table)

"""Words for the state of a market: trend, liquidity and correlation regimes of the reviewer's context."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from helios.domain.decisions import FloatArray

UNKNOWN = "UNKNOWN"
SHORT_DAYS, LONG_DAYS = 20, 50
MIN_CORRELATION_RETURNS = 10
DEEP_VOLUME, NORMAL_VOLUME = 100_000.0, 50_000.0
CRISIS_CORRELATION, COUPLED_CORRELATION = 0.8, 0.5


def trend_regime(daily_closes: Sequence[float]) -> str:
    """Name the trend: BULLISH where close > SMA 20 > SMA 50, BEARISH where reversed, else SIDEWAYS.

    Parameters
    ----------
    daily_closes : sequence of float
        Newest last. Below 50 closes, or with a NaN among the newest 50, the regime is UNKNOWN.
    """
    newest = np.asarray(daily_closes[-LONG_DAYS:], dtype=np.float64)
    if len(newest) < LONG_DAYS or not np.isfinite(newest).all():
        return UNKNOWN
    close, short, long = newest[-1], newest[-SHORT_DAYS:].mean(), newest.mean()
    if close > short > long:
        return "BULLISH"
    return "BEARISH" if close < short < long else "SIDEWAYS"


def liquidity_regime(mean_volume: float, deep: float = DEEP_VOLUME, normal: float = NORMAL_VOLUME) -> str:
    """Name the liquidity by the 7-day mean of 5-minute volume: DEEP above `deep`, NORMAL above `normal`, else THIN.

    The defaults are the requirement's and need calibration per pair; `mean_volume` must be in their unit.
    """
    if not math.isfinite(mean_volume):
        return UNKNOWN
    if mean_volume > deep:
        return "DEEP"
    return "NORMAL" if mean_volume > normal else "THIN"


def correlations(returns: FloatArray, others: Mapping[str, FloatArray]) -> dict[str, float]:
    """Correlate daily returns with those of other symbols, over the rows both have; fewer than 10 leave a symbol out.

    Parameters
    ----------
    returns : ndarray of shape (n_days,)
        NaN where unknown.
    others : mapping of str to ndarray of shape (n_days,)
        On the same days.
    """
    found = {}
    for symbol, theirs in others.items():
        both = np.isfinite(returns) & np.isfinite(theirs)
        x, y = returns[both], theirs[both]
        if len(x) >= MIN_CORRELATION_RETURNS and x.std() > 0 and y.std() > 0:
            found[symbol] = float(np.corrcoef(x, y)[0, 1])
    return found


def correlation_regime(values: Mapping[str, float]) -> str:
    """Name the mean correlation: CRISIS above 0.8, COUPLED above 0.5, else DECOUPLED; UNKNOWN without any."""
    if not values:
        return UNKNOWN
    mean = sum(values.values()) / len(values)
    if mean > CRISIS_CORRELATION:
        return "CRISIS"
    return "COUPLED" if mean > COUPLED_CORRELATION else "DECOUPLED"

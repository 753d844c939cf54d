"""A volatility that rises steeply is said, once per rise."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from helios.domain.decisions import VolatilityForecast

RISE_WINDOW_BARS_PER_DAY = 6
"""The day over this is how far back the lowest forecast is looked for: four hours, as long as a forecast may last."""


@dataclass(frozen=True, slots=True)
class VolatilityAlert:
    """The forecast of a day has risen to a multiple of what it was within the last four hours.

    Attributes
    ----------
    ts_event : int
        Close of the bar at which the rise was noticed, ns UTC.
    before, after : float
        Lowest forecast of those hours and the present one, fractions a day.
    """

    symbol: str
    ts_event: int
    before: float
    after: float

    def words(self) -> str:
        """Return it as one line for people."""
        return f"HIGH_VOLATILITY {self.symbol}: {self.before:.2%} a day became {self.after:.2%} within four hours"


class RiseWatch:
    """Raises an alert when a symbol's forecast reaches `rise` times its lowest value of the last four hours.

    Parameters
    ----------
    rise : float
        Multiple, above 1.
    bars_per_day : int

    Attributes
    ----------
    active : VolatilityAlert or None
        The alert while the rise lasts; it ends when the forecast is no longer so far above the lowest of the window.
    """

    def __init__(self, rise: float, bars_per_day: int) -> None:
        self._rise = rise
        self._recent: deque[float] = deque(maxlen=max(1, bars_per_day // RISE_WINDOW_BARS_PER_DAY))
        self._seen = 0
        self.active: VolatilityAlert | None = None

    def update(self, forecast: VolatilityForecast) -> VolatilityAlert | None:
        """Take in the forecast of a bar, and return an alert if a rise begins with it. The same bar again does nothing."""
        if forecast.ts_event <= self._seen:
            return None
        self._seen = forecast.ts_event
        now, lowest = forecast.daily_volatility, min(self._recent, default=0.0)
        self._recent.append(now)
        if not (lowest > 0.0 and now >= self._rise * lowest):
            self.active = None
            return None
        if self.active is not None:
            return None
        self.active = VolatilityAlert(forecast.symbol, forecast.ts_event, lowest, now)
        return self.active

"""The volatility of all symbols: bars in, fits that may be computed elsewhere, forecasts, alerts and skill out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from helios.config import RiskConfig
from helios.domain.decisions import FloatArray, VolatilityForecast
from helios.errors import InsufficientHistoryError, SkipError, StaleDataError
from helios.pipeline.ports import SymbolContext
from helios.risk.alerts import RiseWatch, VolatilityAlert
from helios.risk.fitting import FitRequest, FitResult, fit_all
from helios.risk.skill import SkillTracker
from helios.risk.volatility import VolatilityModel


class VolatilityDesk:
    """One `VolatilityModel` per symbol, made at first mention.

    `forecasts` does all of a bar. Who wants the fits of a bar computed in parallel calls `take`, computes what `due` returns and
    gives it to `apply` before; what is then still due is fitted by `fit_all`. The forecasts are the same either way.

    Parameters
    ----------
    config : RiskConfig
    bars_per_day : int, default=288
    fits : callable, default=fit_all
        Computes the fits that are due; the default in this process, one after the other.
    """

    def __init__(
        self,
        config: RiskConfig,
        bars_per_day: int = 288,
        fits: Callable[[Sequence[FitRequest]], Iterable[FitResult]] = fit_all,
    ) -> None:
        self._config = config
        self._bars_per_day = bars_per_day
        self._fit_all = fits
        self._models: dict[str, VolatilityModel] = {}
        self._skill: dict[str, SkillTracker] = {}
        self._rises: dict[str, RiseWatch] = {}
        self._new_alerts: list[VolatilityAlert] = []
        self.refusals: dict[str, SkipError] = {}

    @property
    def fallbacks(self) -> dict[str, int]:
        """Per symbol, how many fits ended in an EWMA although there was history enough. To be alerted on."""
        return {symbol: model.fallbacks for symbol, model in sorted(self._models.items())}

    @property
    def alerts(self) -> dict[str, VolatilityAlert]:
        """Rises that last, by symbol."""
        return {symbol: rise.active for symbol, rise in sorted(self._rises.items()) if rise.active is not None}

    def alert(self, symbol: str) -> VolatilityAlert | None:
        """Return the rise of a symbol's volatility while it lasts."""
        rise = self._rises.get(symbol)
        return rise.active if rise is not None else None

    def new_alerts(self) -> list[VolatilityAlert]:
        """Return the rises that began since the last call, once."""
        alerts, self._new_alerts = self._new_alerts, []
        return alerts

    def begin(self, symbol: str, closes: FloatArray, end_time: int) -> None:
        """Start a symbol from history up to its fit, which is then due; see `VolatilityModel.seed`."""
        self._model(symbol).begin(closes, end_time)
        self._skill[symbol] = SkillTracker(self._bars_per_day, self._config.ewma_daily_decay)
        self._skill[symbol].seed(closes, end_time)
        self._rises[symbol] = RiseWatch(self._config.alert_rise, self._bars_per_day)

    def take(self, contexts: Mapping[str, SymbolContext]) -> None:
        """Move every symbol's variance to its bar; a bar that was taken in before changes nothing."""
        for symbol, context in contexts.items():
            self._model(symbol).take(context.close, context.bar_time)

    def due(self) -> list[FitRequest]:
        """Return the fits waited for, by symbol."""
        return [model.request() for _, model in sorted(self._models.items()) if model.due]

    def apply(self, results: Iterable[FitResult]) -> None:
        """Go on with the parameters of fits, in any order; those of other bars or unknown symbols are ignored."""
        for result in results:
            if result.symbol in self._models:
                self._models[result.symbol].apply(result)

    def fit_here(self) -> None:
        """Compute what is due and go on with it."""
        requests = self.due()
        if requests:
            self.apply(self._fit_all(requests))

    def forecasts(self, contexts: Mapping[str, SymbolContext]) -> dict[str, VolatilityForecast]:
        """Return the forecast of every symbol of a bar that has one; why another has none is in `refusals`."""
        self.take(contexts)
        self.fit_here()
        found, self.refusals = {}, {}
        for symbol, context in contexts.items():
            try:
                found[symbol] = self._models[symbol].forecast(context.bar_time)
            except (InsufficientHistoryError, StaleDataError) as error:
                self.refusals[symbol] = error
            self._follow(symbol, context, found.get(symbol))
        return found

    def volatility_ratio(self, symbol: str) -> float:
        """Return present volatility over its 30-day mean, for the breaker; NaN where unknown."""
        model = self._models.get(symbol)
        return model.volatility_ratio() if model is not None else math.nan

    def fallback_reason(self, symbol: str) -> str:
        """Return why a symbol's forecast rests on an EWMA although a GARCH was tried; empty where it does not."""
        model = self._models.get(symbol)
        return model.fallback_reason if model is not None else ""

    def report(self) -> list[dict[str, Any]]:
        """Return plain JSON per symbol with a forecast: the forecast, how it came about, and how good the earlier ones were."""
        return [self._row(symbol, model) for symbol, model in sorted(self._models.items())]

    def _model(self, symbol: str) -> VolatilityModel:
        if symbol not in self._models:
            self._models[symbol] = VolatilityModel(self._config, self._bars_per_day, symbol)
            self._skill[symbol] = SkillTracker(self._bars_per_day, self._config.ewma_daily_decay)
            self._rises[symbol] = RiseWatch(self._config.alert_rise, self._bars_per_day)
        return self._models[symbol]

    def _follow(self, symbol: str, context: SymbolContext, forecast: VolatilityForecast | None) -> None:
        variance = math.nan if forecast is None else forecast.daily_volatility**2
        self._skill[symbol].update(context.close, context.bar_time, variance)
        alert = None if forecast is None else self._rises[symbol].update(forecast)
        if alert is not None:
            self._new_alerts.append(alert)

    def _row(self, symbol: str, model: VolatilityModel) -> dict[str, Any]:
        row: dict[str, Any] = {"symbol": symbol, "fits": model.fits, "fallbacks": model.fallbacks}
        row |= {"fallback_reason": model.fallback_reason, "ratio": _plain(model.volatility_ratio())}
        row |= {"n_returns": model.n_returns, "alert": self._rises[symbol].active is not None, "qlike": self._skill[symbol].scores()}
        try:
            forecast = model.forecast()
        except (InsufficientHistoryError, StaleDataError) as error:
            return row | dict.fromkeys(_FORECAST_FIELDS) | {"refusal": str(error)}
        values = (
            forecast.ts_event,
            forecast.daily_volatility,
            forecast.annualized_volatility,
            forecast.regime.value,
            forecast.method,
        )
        return row | dict(zip(_FORECAST_FIELDS, values, strict=True)) | {"refusal": ""}


_FORECAST_FIELDS = ("ts_event", "daily_volatility", "annualized_volatility", "regime", "method")


def _plain(value: float) -> float | None:
    # JSON has no NaN
    return value if math.isfinite(value) else None

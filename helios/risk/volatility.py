"""Volatility of one symbol: fitted now and then, filtered forward at every bar."""

from __future__ import annotations

import hashlib
import math
from collections import deque

import numpy as np

from helios.config import RiskConfig
from helios.domain.decisions import FloatArray, VolatilityForecast
from helios.domain.enums import VolatilityRegime
from helios.errors import InsufficientHistoryError, StaleDataError
from helios.risk.blend import EwmaBlend
from helios.risk.fitting import FitRequest, FitResult, fit
from helios.risk.garch import MIN_RETURNS, VarianceParameters, filter_variance, sum_of_variances, variance_path
from helios.risk.regimes import FIXED_THRESHOLDS, MIN_REFERENCE, REGIME_QUANTILES, ForecastHistory, classify
from helios.risk.returns import ReturnWindow, returns_of_closes, spanning_return_pct

NS_PER_DAY = 86_400_000_000_000
NS_PER_H = 3_600_000_000_000
DAYS_PER_YEAR = 365
MINUTES_PER_DAY = 1_440
REFERENCE_DAYS = 30
SHOCK_MOVE = 0.05
"""A move within one hour from which the parameters are fitted anew before their time."""
REGIME_MARGIN = 1.1
"""How far the forecast must be from that of the last fit before a new regime counts: at a percentile it would else fit every hour."""


class VolatilityModel:
    """GARCH(1,1) with Student t errors on log returns and an EWMA beside it, or the EWMA alone where no GARCH can be had.

    The forecast is the weighted geometric mean of the two variances of the coming day (`helios.risk.blend`); with
    `ewma_weight = 0` it is the GARCH's.

    Parameters are fitted on the last `garch_max_returns` bars every `garch_refit_h` of market time and, at most once an hour,
    after a move above 5 % within an hour or when the forecast has left the regime it had at the last fit. Between fits each
    bar moves the variance forward in constant time. The schedule sits on a grid of market time, shifted per symbol, so that
    symbols do not all fit at the same bar, and a restarted model whose seed covers the window has the same parameters and
    variance again from the next grid point on. For that, the regime that forces a fit is told by the percentiles of the
    window as the last fit filtered it; the regime of a forecast by those of the forecasts of thirty days.

    `update` does all of a bar at once. `take`, `request` and `apply` are its parts, for who lets the fits of many symbols be
    computed elsewhere: the numbers are the same.

    A missing close (NaN, zero, negative, or a bar that never came) is a missing return, whose square is taken at its
    expected value; the return that spans k bars enters as r / sqrt(k), its one-bar equivalent.

    Parameters
    ----------
    config : RiskConfig
        Schedule, window, EWMA decay and how long a forecast lasts without prices.
    bars_per_day : int, default=288
        Length of the bars: 288 for 5m, 1440 for 1m, 96 for 15m.
    symbol : str
        Whose it is: names the forecasts and shifts the schedule.

    Attributes
    ----------
    due_reason : str
        Why a fit is waited for: FIRST, SCHEDULE, SHOCK or REGIME; empty while none is. Until it is applied the forecast rests on
        the earlier parameters, if there are any.
    fallbacks : int
        Fits that gave no usable GARCH although there was enough history. To be alerted on.
    fallback_reason : str
        Why the present parameters are an EWMA's although a GARCH was tried; empty otherwise.
    fits : int
        Estimations tried so far.
    """

    def __init__(self, config: RiskConfig, bars_per_day: int = 288, symbol: str = "") -> None:
        self._config = config
        self._symbol = symbol
        self._bars_per_day = bars_per_day
        self._bar_ns = NS_PER_DAY // bars_per_day
        self._refit_ns = int(config.garch_refit_h * NS_PER_H)
        self._ttl_ns = int(config.forecast_ttl_h * NS_PER_H)
        self._shift_ns = _schedule_shift(symbol, self._refit_ns, self._bar_ns)
        self._min_reference = max(MIN_REFERENCE, bars_per_day)
        self._decay = config.ewma_daily_decay ** (1.0 / bars_per_day)
        self._blend = EwmaBlend(config.ewma_weight, self._decay, bars_per_day)
        self._history = ForecastHistory(REFERENCE_DAYS * bars_per_day, self._min_reference)
        self.fallbacks = 0
        self.fits = 0
        self._reset(math.nan, 0)

    @property
    def due(self) -> bool:
        """Whether a fit is waited for."""
        return bool(self.due_reason)

    @property
    def parameters(self) -> VarianceParameters:
        """The present coefficients, percent squared per bar; all zero before the first fit."""
        return self._parameters

    @property
    def n_returns(self) -> int:
        """Known returns in the window."""
        return self._returns.n_known

    @property
    def bar_time(self) -> int:
        """Close time of the newest bar taken in, ns UTC; 0 before any."""
        return self._bar_time

    def seed(self, closes: FloatArray, end_time: int) -> None:
        """Start from history: fit, filter, and fill the percentile reference.

        The reference consists of forecasts filtered over the seed with the parameters just fitted to it. They are in-sample
        as to the parameters (not as to the variance path) and serve only to place later forecasts in a regime; no decision is
        taken on them. Calling it again replaces everything. With fewer than 30 returns the model waits for more bars.

        Parameters
        ----------
        closes : ndarray of shape (n_bars,)
            Closes of consecutive bars, oldest first; NaN where a bar is missing.
        end_time : int
            Close time of the last one, ns UTC.
        """
        self.begin(closes, end_time)
        self._fit_if_due()

    def begin(self, closes: FloatArray, end_time: int) -> None:
        """Do `seed`'s part before the fit; afterwards `due` says whether there is history enough for one."""
        window = np.asarray(closes, dtype=np.float64)[-(self._config.garch_max_returns + 1) :]
        known: list[int] = np.flatnonzero(np.isfinite(window) & (window > 0.0)).tolist()
        self._reset(float(window[known[-1]]) if known else math.nan, end_time)
        if known:
            self._close_time = end_time - (window.size - 1 - known[-1]) * self._bar_ns
        for value in returns_of_closes(window, known):
            self._returns.append(value)
        self._hour.extend(window[-self._hour_bars - 1 :].tolist())
        self._is_seeding = self.n_returns >= MIN_RETURNS
        self.due_reason = "FIRST" if self._is_seeding else ""

    def update(self, close: float, bar_time: int) -> VolatilityForecast:
        """Take in the bar that closed at `bar_time` and return the forecast for the day after it.

        A bar time that is not newer than the last one changes nothing and returns the present forecast.

        Raises
        ------
        InsufficientHistoryError
            Below 30 returns; the bar is kept all the same.
        StaleDataError
            If there was no price for `forecast_ttl_h` of market time.
        """
        self.take(close, bar_time)
        self._fit_if_due()
        return self.forecast()

    def take(self, close: float, bar_time: int) -> bool:
        """Do `update`'s part before the fit and return whether one is due."""
        if bar_time > self._bar_time:
            self._take(close if 0.0 < close < math.inf else math.nan, bar_time)
        return self.due

    def request(self) -> FitRequest:
        """Return what the fit that is due needs."""
        return FitRequest(self._symbol, self._bar_time, self._returns.values(), self._config.garch_min_returns, self._decay)

    def apply(self, result: FitResult) -> bool:
        """Go on with the parameters of a fit; one for another bar than the present, or that nobody waits for, is ignored."""
        if not self.due or result.bar_time != self._bar_time or result.symbol != self._symbol:
            return False
        volatilities = self._adopt(result)
        if self._is_seeding:
            self._history.reset(volatilities[:-1].tolist())
        elif self._forecast is not None and self._forecast.ts_event == self._bar_time:
            self._history.discard_newest()
        self.due_reason, self._is_seeding = "", False
        self._remember()
        return True

    def forecast(self, now: int = 0) -> VolatilityForecast:
        """Return the present forecast; omega is in percent squared per bar, volatilities are fractions.

        Parameters
        ----------
        now : int, default=0
            Market time of the question, ns UTC, where it is later than the newest bar.

        Raises
        ------
        InsufficientHistoryError
            Below 30 returns.
        StaleDataError
            If the newest price is `forecast_ttl_h` old or older: what was known then must not size a position now.
        """
        if self._forecast is None:
            raise InsufficientHistoryError(f"{self._symbol}: {self.n_returns} returns, {MIN_RETURNS} needed")
        age_ns = max(now, self._bar_time) - self._close_time
        if age_ns >= self._ttl_ns:
            lasts_h = self._ttl_ns / NS_PER_H
            raise StaleDataError(f"{self._symbol}: no price for {age_ns / NS_PER_H:.1f} h, a forecast lasts {lasts_h:g} h")
        return self._forecast

    def forecast_path(self, steps: int = 60) -> FloatArray:
        """Return the expected variance of each of the next `steps` bars as squared fractions, soonest first.

        Raises
        ------
        InsufficientHistoryError, StaleDataError
            As `forecast`.
        """
        self.forecast()
        own = sum_of_variances(self._variance, self._parameters, self._bars_per_day)
        share = self._blend.mixed(own) / own if own > 0.0 else 1.0  # the day's variance keeps its distribution over the bars
        return variance_path(self._variance, self._parameters, steps) * share / 1e4

    def minute_path(self, minutes: int = 60) -> FloatArray:
        """Return the expected variance of each of the next minutes as squared fractions, whatever the length of a bar.

        The bar that a minute lies in shares its variance equally among its minutes, so that whole bars keep their sums.

        Raises
        ------
        InsufficientHistoryError, StaleDataError
            As `forecast`.
        """
        per_bar = MINUTES_PER_DAY // self._bars_per_day
        bars = self.forecast_path(-(-minutes // per_bar))
        return np.repeat(bars / per_bar, per_bar)[:minutes]

    def volatility_ratio(self) -> float:
        """Present forecast over the mean of the last 30 days' forecasts; NaN while either is missing or the mean is zero."""
        mean = self._history.mean()
        return self._forecast.daily_volatility / mean if self._forecast is not None and mean > 0.0 else math.nan

    def _reset(self, close: float, bar_time: int) -> None:
        self._returns = ReturnWindow(self._config.garch_max_returns)
        self._hour_bars = max(1, self._bars_per_day // 24)
        self._hour: deque[float] = deque(maxlen=self._hour_bars + 1)
        self._close, self._close_time, self._bar_time = close, bar_time, bar_time
        self._parameters = VarianceParameters(0.0, 0.0, 0.0, math.nan, math.nan)
        self._variance = math.nan
        self._blend.stop()
        self._method = ""
        self._has_tried_garch = False
        self._fitted_at = 0
        self._fit_limits = FIXED_THRESHOLDS
        self._fit_regime = VolatilityRegime.LOW
        self._fit_volatility = math.nan
        self._forecast: VolatilityForecast | None = None
        self._history.reset(())
        self._is_seeding = False
        self.due_reason = self.fallback_reason = ""

    def _take(self, close: float, bar_time: int) -> None:
        for _ in range(self._missed_bars(bar_time)):
            self._push(math.nan, math.nan)
        self._push(self._spanning_return(close, bar_time), close)
        if not math.isnan(close):
            self._close, self._close_time = close, bar_time
        earlier, self._bar_time = self._bar_time, bar_time
        if self.n_returns < MIN_RETURNS:
            self._forecast, self.due_reason = None, ""
            return
        if self._method:
            self._remember()
        self.due_reason = self.due_reason or self._reason_to_fit(earlier)

    def _missed_bars(self, bar_time: int) -> int:
        if self._bar_time == 0:
            return 0
        missed = (bar_time - self._bar_time) // self._bar_ns - 1
        return max(0, min(missed, self._config.garch_max_returns))

    def _spanning_return(self, close: float, bar_time: int) -> float:
        if math.isnan(close) or math.isnan(self._close):
            return math.nan
        bars = max(1, (bar_time - self._close_time) // self._bar_ns)
        return spanning_return_pct(self._close, close, bars)

    def _push(self, return_pct: float, close: float) -> None:
        self._returns.append(return_pct)
        self._hour.append(close)
        if self._method:
            self._variance = self._parameters.step(self._variance, return_pct)
            self._blend.push(return_pct)

    def _reason_to_fit(self, earlier: int) -> str:
        if not self._method or (not self._has_tried_garch and self.n_returns >= self._config.garch_min_returns):
            return "FIRST"
        if self._grid(earlier) != self._grid(self._bar_time):
            return "SCHEDULE"
        # once per hour: while a jump stays inside the hour's window, every bar would see it again
        if self._bar_time - self._fitted_at < NS_PER_H:
            return ""
        return "SHOCK" if self._has_shock() else "REGIME" if self._has_new_regime() else ""

    def _grid(self, bar_time: int) -> int:
        return (bar_time + self._shift_ns) // self._refit_ns

    def _has_new_regime(self) -> bool:
        assert self._forecast is not None
        now, then = self._forecast.daily_volatility, self._fit_volatility
        if max(now, then) < REGIME_MARGIN * min(now, then):
            return False
        return classify(now, self._fit_limits) is not self._fit_regime

    def _has_shock(self) -> bool:
        # |now / then - 1| > 5 %, turned round to two comparisons: this runs at every bar; a missing close (NaN) satisfies none
        low, high = self._close / (1.0 + SHOCK_MOVE), self._close / (1.0 - SHOCK_MOVE)
        return any(0.0 < close < low or close > high for close in self._hour)

    def _fit_if_due(self) -> None:
        if self.due:
            self.apply(fit(self.request()))

    def _adopt(self, result: FitResult) -> FloatArray:
        # filter the window from its start, so that the state depends on the window alone
        self._parameters, self._method, self.fallback_reason = result.parameters, result.method, result.reason
        self._has_tried_garch = self._has_tried_garch or result.is_garch_tried
        self.fits += result.is_garch_tried
        self.fallbacks += bool(result.reason)
        returns = self._returns.values()
        variances = filter_variance(returns, self._parameters)
        self._variance = float(variances[-1])
        self._fitted_at = self._bar_time
        daily = sum_of_variances(variances[1:], self._parameters, self._bars_per_day)
        self._blend.stop()
        if result.method == "GARCH":
            daily = self._blend.begin(returns, daily)
        volatilities = np.sqrt(daily) / 100.0
        if volatilities.size >= self._min_reference:
            low, medium, high = np.quantile(volatilities, REGIME_QUANTILES).tolist()
            self._fit_limits = (low, medium, high)
        self._fit_volatility = float(volatilities[-1])
        self._fit_regime = classify(self._fit_volatility, self._fit_limits)
        return volatilities

    def _remember(self) -> None:
        daily = math.sqrt(self._blend.mixed(sum_of_variances(self._variance, self._parameters, self._bars_per_day))) / 100.0
        p = self._parameters
        self._forecast = VolatilityForecast(
            symbol=self._symbol,
            ts_event=self._bar_time,
            daily_volatility=daily,
            annualized_volatility=daily * math.sqrt(DAYS_PER_YEAR),
            regime=self._history.regime(daily),
            method="GARCH+EWMA" if self._blend.is_running else self._method,
            omega=p.omega,
            alpha=p.alpha,
            beta=p.beta,
            nu=p.nu,
        )
        self._history.append(daily)


def _schedule_shift(symbol: str, refit_ns: int, bar_ns: int) -> int:
    # hashlib, not hash(): the same shift in every process and run
    slots = max(1, refit_ns // bar_ns)
    return int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8]) % slots * bar_ns

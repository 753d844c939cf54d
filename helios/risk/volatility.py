"""Volatility of one symbol: fitted now and then, filtered forward at every bar."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from itertools import pairwise

import numpy as np

from helios.config import RiskConfig
from helios.domain.decisions import FloatArray, VolatilityForecast
from helios.errors import InsufficientHistoryError, SolverError
from helios.risk.garch import (
    MIN_RETURNS,
    VarianceParameters,
    ewma,
    filter_variance,
    fit_garch,
    sum_of_variances,
    variance_path,
)
from helios.risk.regimes import ForecastHistory

NS_PER_DAY = 86_400_000_000_000
NS_PER_H = 3_600_000_000_000
DAYS_PER_YEAR = 365
REFERENCE_DAYS = 30
SHOCK_MOVE = 0.05
"""A move within one hour from which the parameters are fitted anew before their time."""


class VolatilityModel:
    """GARCH(1,1) with Student t errors on log returns, or an EWMA where that cannot be had.

    Parameters are fitted on the last `garch_max_returns` bars every `garch_refit_h` of market time and after a move above
    5 % within an hour (at most once an hour). Between fits each bar moves the variance forward in constant time. The
    schedule sits on a grid of market time, shifted per symbol, so that symbols do not all fit at the same bar, and a
    restarted model whose seed covers the window has the same parameters and variance again from the next grid point on.

    A missing close (NaN, zero, negative, or a bar that never came) is a missing return, whose square is taken at its
    expected value; the return that spans k bars enters as r / sqrt(k), its one-bar equivalent.

    Parameters
    ----------
    config : RiskConfig
        Schedule, window and EWMA decay.
    bars_per_day : int, default=288
        Length of the bars: 288 for 5m, 1440 for 1m, 96 for 15m.
    symbol : str
        Whose it is: names the forecasts and shifts the schedule.

    Attributes
    ----------
    fallbacks : int
        Fits that gave no usable GARCH although there was enough history. To be alerted on.
    fits : int
        Estimations tried so far.
    """

    def __init__(self, config: RiskConfig, bars_per_day: int = 288, symbol: str = "") -> None:
        self._config = config
        self._symbol = symbol
        self._bars_per_day = bars_per_day
        self._bar_ns = NS_PER_DAY // bars_per_day
        self._refit_ns = int(config.garch_refit_h * NS_PER_H)
        self._shift_ns = _schedule_shift(symbol, self._refit_ns, self._bar_ns)
        self._history = ForecastHistory(REFERENCE_DAYS * bars_per_day)
        self.fallbacks = 0
        self.fits = 0
        self._reset(math.nan, 0)

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
        window = np.asarray(closes, dtype=np.float64)[-(self._config.garch_max_returns + 1) :]
        known: list[int] = np.flatnonzero(np.isfinite(window) & (window > 0.0)).tolist()
        self._reset(float(window[known[-1]]) if known else math.nan, end_time)
        if known:
            self._close_time = end_time - (window.size - 1 - known[-1]) * self._bar_ns
        self._returns.extend(_returns_pct(window, known))
        self._n_returns = max(len(known) - 1, 0)
        self._hour.extend(window[-self._hour_bars - 1 :].tolist())
        if self._n_returns >= MIN_RETURNS:
            volatilities = self._daily(self._estimate())
            self._history.reset(volatilities[:-1].tolist())
            self._remember()

    def update(self, close: float, bar_time: int) -> VolatilityForecast:
        """Take in the bar that closed at `bar_time` and return the forecast for the day after it.

        A bar time that is not newer than the last one changes nothing and returns the present forecast.

        Raises
        ------
        InsufficientHistoryError
            Below 30 returns; the bar is kept all the same.
        """
        if bar_time > self._bar_time:
            self._take(close if 0.0 < close < math.inf else math.nan, bar_time)
        return self.forecast()

    def forecast(self) -> VolatilityForecast:
        """Return the present forecast; omega is in percent squared per bar, volatilities are fractions.

        Raises
        ------
        InsufficientHistoryError
            Below 30 returns.
        """
        if self._forecast is None:
            raise InsufficientHistoryError(f"{self._symbol}: {self._n_returns} returns, {MIN_RETURNS} needed")
        return self._forecast

    def forecast_path(self, steps: int = 60) -> FloatArray:
        """Return the expected variance of each of the next `steps` bars as squared fractions, soonest first.

        Raises
        ------
        InsufficientHistoryError
            Below 30 returns.
        """
        self.forecast()
        return variance_path(self._variance, self._parameters, steps) / 1e4

    def volatility_ratio(self) -> float:
        """Present forecast over the mean of the last 30 days' forecasts; NaN while either is missing or the mean is zero."""
        mean = self._history.mean()
        return self._forecast.daily_volatility / mean if self._forecast is not None and mean > 0.0 else math.nan

    def _reset(self, close: float, bar_time: int) -> None:
        self._returns: deque[float] = deque(maxlen=self._config.garch_max_returns)
        self._hour_bars = max(1, self._bars_per_day // 24)
        self._hour: deque[float] = deque(maxlen=self._hour_bars + 1)
        self._n_returns = 0
        self._close, self._close_time, self._bar_time = close, bar_time, bar_time
        self._parameters = VarianceParameters(0.0, 0.0, 0.0, math.nan, math.nan)
        self._variance = math.nan
        self._method = ""
        self._has_tried_garch = False
        self._fitted_at = 0
        self._forecast: VolatilityForecast | None = None
        self._history.reset(())

    def _take(self, close: float, bar_time: int) -> None:
        for _ in range(self._missed_bars(bar_time)):
            self._push(math.nan, math.nan)
        self._push(self._spanning_return(close, bar_time), close)
        if not math.isnan(close):
            self._close, self._close_time = close, bar_time
        earlier, self._bar_time = self._bar_time, bar_time
        if self._n_returns < MIN_RETURNS:
            self._forecast = None
            return
        if self._is_fit_due(earlier):
            self._estimate()
        self._remember()

    def _missed_bars(self, bar_time: int) -> int:
        if self._bar_time == 0:
            return 0
        missed = (bar_time - self._bar_time) // self._bar_ns - 1
        return max(0, min(missed, self._config.garch_max_returns))

    def _spanning_return(self, close: float, bar_time: int) -> float:
        if math.isnan(close) or math.isnan(self._close):
            return math.nan
        bars = max(1, (bar_time - self._close_time) // self._bar_ns)
        return _spanning_return_pct(self._close, close, bars)

    def _push(self, return_pct: float, close: float) -> None:
        if len(self._returns) == self._returns.maxlen and not math.isnan(self._returns[0]):
            self._n_returns -= 1
        self._returns.append(return_pct)
        self._n_returns += not math.isnan(return_pct)
        self._hour.append(close)
        if self._method:
            self._variance = self._parameters.step(self._variance, return_pct)

    def _is_fit_due(self, earlier: int) -> bool:
        if not self._method:
            return True
        if not self._has_tried_garch and self._n_returns >= self._config.garch_min_returns:
            return True
        return self._grid(earlier) != self._grid(self._bar_time) or self._has_shock()

    def _grid(self, bar_time: int) -> int:
        return (bar_time + self._shift_ns) // self._refit_ns

    def _has_shock(self) -> bool:
        # once per hour: while a jump stays inside the hour's window, every bar would see it again
        if self._bar_time - self._fitted_at < NS_PER_H:
            return False
        return any(abs(self._close / close - 1.0) > SHOCK_MOVE for close in self._hour if close > 0.0)

    def _estimate(self) -> FloatArray:
        # fit the window and filter it from its start, so that the state depends on the window alone
        returns = np.array(self._returns)
        self._parameters, self._method = self._fit(returns[np.isfinite(returns)])
        variances = filter_variance(returns, self._parameters)
        self._variance = float(variances[-1])
        self._fitted_at = self._bar_time
        return variances[1:]

    def _fit(self, returns_pct: FloatArray) -> tuple[VarianceParameters, str]:
        if returns_pct.size >= self._config.garch_min_returns:
            self._has_tried_garch = True
            self.fits += 1
            try:
                return fit_garch(returns_pct), "GARCH"
            except SolverError:
                self.fallbacks += 1
        return ewma(returns_pct, self._config.ewma_lambda), "EWMA"

    def _daily(self, variances: FloatArray) -> FloatArray:
        return np.sqrt(sum_of_variances(variances, self._parameters, self._bars_per_day)) / 100.0

    def _remember(self) -> None:
        daily = float(self._daily(np.array([self._variance]))[0])
        p = self._parameters
        self._forecast = VolatilityForecast(
            symbol=self._symbol,
            ts_event=self._bar_time,
            daily_volatility=daily,
            annualized_volatility=daily * math.sqrt(DAYS_PER_YEAR),
            regime=self._history.regime(daily),
            method=self._method,
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


def _spanning_return_pct(start: float, end: float, n_bars: int) -> float:
    # math.log in both ways in, seed and update: numpy's may differ in the last bit, and the optimiser would magnify that
    return 100.0 * math.log(end / start) / math.sqrt(n_bars)


def _returns_pct(closes: FloatArray, known: list[int]) -> list[float]:
    # one per bar after the first: NaN where a close is missing, r / sqrt(k) where the return spans k bars
    returns = [math.nan] * max(closes.size - 1, 0)
    values = closes.tolist()
    for before, now in pairwise(known):
        returns[now - 1] = _spanning_return_pct(values[before], values[now], now - before)
    return returns

"""The synthetic market by the minute: volatility regimes, order flow that leads returns, correlated noise.

Minute t of a symbol: r_t = s_t (kappa f_{t-1} + e_t), with s_t the minute's volatility, f the latent order flow and e_t noise
of unit variance that is partly common to all symbols. f is the sum of a slow and a fast AR(1). What a bar shows of minute t
(taker side, book imbalance) follows f_t, so a closed bar tells a little about the next ones and nothing about its own return.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from helios.venues.sandbox.specs import MarketConfig, SymbolSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MINUTE_NS = 60_000_000_000
MINUTES_PER_DAY = 1440
SHARED_FACTORS = np.array([0.8, 1.0, 1.3])
SHARED_STAY_MIN = (720.0, 1440.0, 480.0)
TRADES_PER_MINUTE = 20.0
SIZE_SIGMA = 1.0  # of the log of a trade's size
MINUTE_SIZE_SIGMA = 0.3  # of the log of the mean size in a minute
ACTIVITY_SIGMA = 0.25
SUB_STEPS = 12


@dataclass(frozen=True, slots=True)
class MacroState:
    """Everything the next minute depends on, after a closed minute.

    `slow` and `fast` are the own parts of the flow per symbol, `common` the two shared parts, all of unit variance.
    """

    config: MarketConfig
    time_ns: int
    mids: FloatArray
    regimes: IntArray
    shared_regime: int
    slow: FloatArray
    fast: FloatArray
    common: FloatArray


@dataclass(frozen=True, slots=True)
class SyntheticHistory:
    """Closed minutes per symbol, `bars` in BAR_VALUES order, and the state they end in.

    `slow_flow` (n_minutes, n_symbols) is the latent slow flow and `log_mids` (n_minutes + 1, n_symbols) the log of the latent mid
    price, a minute's row before it and the last one after all; only tests and measurements look at them.
    """

    open_times: IntArray
    bars: dict[str, FloatArray]
    slow_flow: FloatArray
    state: MacroState
    log_mids: FloatArray


def decay(half_life_min: float) -> float:
    """Return the AR(1) coefficient per minute of a half-life."""
    return float(0.5 ** (1.0 / half_life_min))


def flow_of(config: MarketConfig, slow: FloatArray, fast: FloatArray, common: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the slow flow and the whole flow, each of unit variance; `common` has the shared slow and fast part last."""
    own, shared = math.sqrt(1.0 - config.common_flow), math.sqrt(config.common_flow)
    slow_flow = own * slow + shared * common[..., 0:1]
    fast_flow = own * fast + shared * common[..., 1:2]
    weight = config.slow_weight
    return slow_flow, weight * slow_flow + math.sqrt(1.0 - weight * weight) * fast_flow


def leaving_probabilities(stays: tuple[float, float, float]) -> FloatArray:
    """Return the 3 x 3 transition matrix per minute: the outer states go to the middle, the middle to either."""
    out = 1.0 / np.asarray(stays)
    return np.array([[1 - out[0], out[0], 0], [0.55 * out[1], 1 - out[1], 0.45 * out[1]], [0, out[2], 1 - out[2]]])


def next_regime(matrix: FloatArray, regime: int, uniform: float) -> int:
    """Return the state after one minute."""
    row = matrix[regime]
    return 0 if uniform < row[0] else 1 if uniform < row[0] + row[1] else 2


def minute_volatility(config: MarketConfig) -> FloatArray:
    """Return the noise volatility of a minute per regime, such that a day including the flow has the configured volatility."""
    return np.asarray(config.daily_volatility) / math.sqrt(MINUTES_PER_DAY * (1.0 + _flow_variance_ratio(config)))


def _flow_variance_ratio(config: MarketConfig) -> float:
    # Variance that the flow's drift adds to a day's return over that of the noise: sum of an AR(1)'s autocovariances.
    n, weight = MINUTES_PER_DAY, config.slow_weight
    total = 0.0
    parts = ((weight**2, config.slow_half_life_min), (1 - weight**2, config.fast_half_life_min))
    for share, half_life in parts:
        phi = decay(half_life)
        total += share * (n * (1 + phi) / (1 - phi) - 2 * phi * (1 - phi**n) / (1 - phi) ** 2)
    return (config.kappa * config.flow_strength) ** 2 * total / n


def activity_of_day(minute_of_day: FloatArray) -> FloatArray:
    """Return the daily rhythm of trading, mean one, busiest at 14:00 UTC."""
    return 1.0 + 0.3 * np.cos(2.0 * np.pi * (minute_of_day / MINUTES_PER_DAY - 14.0 / 24.0))


def buy_probability(flow: FloatArray) -> FloatArray:
    """Return the chance that a taker buys."""
    return 0.5 + 0.35 * np.tanh(flow / 1.5)


def mean_imbalance(flow: FloatArray) -> FloatArray:
    """Return the mean of (bid - ask quantity)/total in the book."""
    return 0.25 * np.tanh(flow / 1.5)


class MacroMarket:
    """Generates histories; equal arguments give equal numbers.

    Parameters
    ----------
    config : MarketConfig
    seed : int
    """

    def __init__(self, config: MarketConfig, seed: int) -> None:
        self.config = config
        self._seed = seed
        self._rng = np.random.default_rng([seed, 1])

    def history(self, n_minutes: int, end_ns: int) -> SyntheticHistory:
        """Return `n_minutes` closed minutes, the last of which closes at `end_ns` (ns UTC, cut to the minute)."""
        self._rng = np.random.default_rng([self._seed, 1])  # so that a second call gives the same
        config, rng = self.config, self._rng
        n_symbols = len(config.symbols)
        end = end_ns // MINUTE_NS * MINUTE_NS
        open_times = end - MINUTE_NS * np.arange(n_minutes, 0, -1, dtype=np.int64)
        regimes, shared = self._regimes(n_minutes, n_symbols)
        slow = _autoregression(rng, decay(config.slow_half_life_min), n_minutes, n_symbols)
        fast = _autoregression(rng, decay(config.fast_half_life_min), n_minutes, n_symbols)
        common = np.concatenate([
            _autoregression(rng, decay(config.slow_half_life_min), n_minutes, 1),
            _autoregression(rng, decay(config.fast_half_life_min), n_minutes, 1),
        ], axis=1)  # fmt: skip
        slow_flow, flow = flow_of(config, slow, fast, common)
        sigma = minute_volatility(config)[regimes] * SHARED_FACTORS[shared][:, None]
        returns = self._returns(sigma, flow)
        ends = np.array([spec.level for spec in config.specs]) * np.exp(0.02 * rng.standard_normal(n_symbols))
        mids = np.exp(np.log(ends) - np.cumsum(returns[::-1], axis=0)[::-1])  # mid before each minute
        bars = {
            spec.symbol: self._bars(
                spec, open_times, np.append(mids[:, i], ends[i]), sigma[:, i], flow[:, i]
            )
            for i, spec in enumerate(config.specs)
        }  # fmt: skip
        state = MacroState(
            config, end, ends, regimes[-1].copy(), int(shared[-1]), slow[-1].copy(), fast[-1].copy(), common[-1].copy()
        )
        return SyntheticHistory(open_times, bars, slow_flow, state, np.log(np.vstack([mids, ends])))

    def _regimes(self, n: int, n_symbols: int) -> tuple[IntArray, IntArray]:
        matrix = leaving_probabilities(self.config.stay_minutes)
        columns = [_regime_path(self._rng, matrix, n) for _ in range(n_symbols)]
        return np.stack(columns, axis=1), _regime_path(self._rng, leaving_probabilities(SHARED_STAY_MIN), n)

    def _returns(self, sigma: FloatArray, flow: FloatArray) -> FloatArray:
        n, n_symbols = sigma.shape
        noise = unit_noise(self._rng, self.config, n)
        before = np.vstack([np.zeros((1, n_symbols)), flow[:-1]])
        return sigma * (self.config.kappa * self.config.flow_strength * before + noise)

    def _bars(self, spec: SymbolSpec, open_times: IntArray, mids: FloatArray, sigma: FloatArray, flow: FloatArray) -> FloatArray:
        rng, n = self._rng, len(sigma)
        relative = sigma / minute_volatility(self.config)[1]
        spread = spread_of(spec, relative, mids[:-1]) * np.exp(0.1 * rng.standard_normal(n))
        open_, high, low, close = self._prices(spec, mids, sigma, flow, spread)
        trades, buy, sell, imbalance = self._activity(spec, open_times, relative, flow, mids[:-1])
        total = buy + sell
        depth = np.log(20.0 * spec.level_quote) - 0.15 * (relative - 1.0) + 0.12 * rng.standard_normal(n)
        touch = np.clip(mean_imbalance(flow) + 0.3 * rng.standard_normal(n), -0.95, 0.95)
        bars = np.stack([
            open_, high, low, close, np.round(total, 8), total * (high + low + open_ + close) / 4.0, trades,
            np.round(buy, 8), spread, imbalance, depth, self._momentum(flow), 0.5 * spread * touch,
        ], axis=1)  # fmt: skip
        return np.ascontiguousarray(bars)

    def _prices(
        self, spec: SymbolSpec, mids: FloatArray, sigma: FloatArray, flow: FloatArray, spread: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        rng, n = self._rng, len(sigma)
        walk = np.cumsum(rng.standard_normal((n, SUB_STEPS)), axis=1) / math.sqrt(SUB_STEPS)
        line = np.arange(1, SUB_STEPS + 1) / SUB_STEPS
        bridge = sigma[:, None] * (walk - walk[:, -1:] * line)
        log_mids = np.log(mids)
        path = log_mids[:-1, None] + np.diff(log_mids)[:, None] * line + bridge
        half, buys = 0.5e-4 * spread, buy_probability(flow)
        bounce = np.where(rng.random((2, n)) < buys, half, -half)
        tick = float(spec.tick_size)
        open_ = _on_grid(mids[:-1] * (1 + bounce[0]), tick)
        close = _on_grid(mids[1:] * (1 + bounce[1]), tick)
        high = np.maximum.reduce([_on_grid(np.exp(path.max(axis=1)) * (1 + 0.6 * half), tick), open_, close])
        low = np.minimum.reduce([_on_grid(np.exp(path.min(axis=1)) * (1 - 0.6 * half), tick), open_, close])
        return open_, high, low, close

    def _activity(
        self, spec: SymbolSpec, open_times: IntArray, relative: FloatArray, flow: FloatArray, mids: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        rng, n = self._rng, len(flow)
        minute = (open_times // MINUTE_NS % MINUTES_PER_DAY).astype(np.float64)
        rate = trade_rate(relative, activity_of_day(minute)) * np.exp(ACTIVITY_SIGMA * rng.standard_normal(n))
        trades = np.maximum(rng.poisson(rate), 1).astype(np.float64)
        # A sum of k lognormal sizes is close to a gamma variate of k / exp(SIZE_SIGMA^2) degrees.
        effective = trades / math.exp(SIZE_SIGMA**2)
        mean_size = spec.trade_quote / mids * np.exp(MINUTE_SIZE_SIGMA * rng.standard_normal(n))
        p = buy_probability(flow)
        scale = mean_size * math.exp(SIZE_SIGMA**2)
        buy, sell = rng.gamma(p * effective) * scale, rng.gamma((1 - p) * effective) * scale
        imbalance = np.clip(mean_imbalance(flow) + 0.08 * rng.standard_normal(n), -0.95, 0.95)
        return trades, buy, np.maximum(sell, 1e-8), imbalance

    def _momentum(self, flow: FloatArray) -> FloatArray:
        p, effective = buy_probability(flow), 10.0 / math.exp(SIZE_SIGMA**2)
        share: FloatArray = self._rng.beta(p * effective, (1 - p) * effective)
        return 2.0 * share - 1.0


def trade_rate(relative: FloatArray, of_day: FloatArray) -> FloatArray:
    """Return trades per minute: more when volatility is high and by the daily rhythm."""
    rate: FloatArray = TRADES_PER_MINUTE * of_day * np.clip(np.sqrt(relative), 0.6, 1.6)
    return rate


def spread_of(spec: SymbolSpec, relative: FloatArray, mid: FloatArray) -> FloatArray:
    """Return the mean spread in basis points, at least a tick; `relative` is volatility over that of the usual regime."""
    wide = spec.spread_bps * np.clip(0.6 + 0.4 * relative, 0.6, 1.8)
    return np.asarray(np.maximum(wide, 1e4 * float(spec.tick_size) / mid), dtype=np.float64)


def unit_noise(rng: np.random.Generator, config: MarketConfig, n: int) -> FloatArray:
    """Return noise of unit variance (n, n_symbols): common factor, own part, and rare jumps of the own part."""
    loadings = np.array([spec.loading for spec in config.specs])
    own = rng.standard_normal((n, len(loadings)))
    jumps = (rng.random(own.shape) < config.jump_probability) * rng.standard_normal(own.shape) * config.jump_size
    noise = loadings * rng.standard_normal((n, 1)) + np.sqrt(1 - loadings**2) * own + jumps
    return np.asarray(noise / math.sqrt(1 + config.jump_probability * config.jump_size**2), dtype=np.float64)


def _autoregression(rng: np.random.Generator, phi: float, n: int, columns: int) -> FloatArray:
    # Stationary from the first row on: the filter's state starts at a draw of the unconditional law.
    shocks = math.sqrt(1 - phi * phi) * rng.standard_normal((n, columns))
    start = phi * rng.standard_normal((1, columns))
    return np.asarray(lfilter([1.0], [1.0, -phi], shocks, axis=0, zi=start)[0], dtype=np.float64)


def _regime_path(rng: np.random.Generator, matrix: FloatArray, n: int) -> IntArray:
    # Draws whole stays (geometric) and the state after each, so the loop runs over the changes only.
    path = np.empty(n, dtype=np.int64)
    regime, at = int(rng.choice(3, p=[0.4, 0.4, 0.2])), 0
    while at < n:
        leave = 1.0 - matrix[regime, regime]
        stay = int(rng.geometric(leave))
        path[at : at + stay] = regime
        at += stay
        onward = matrix[regime].copy()
        onward[regime] = 0.0
        if at < n:
            regime = int(rng.choice(3, p=onward / onward.sum()))
    return path


def _on_grid(prices: FloatArray, tick: float) -> FloatArray:
    # Multiplying an integer by 0.1 leaves noise in the last bits; rounding gives the float nearest the decimal.
    return np.asarray(np.round(np.maximum(np.rint(prices / tick), 1.0) * tick, 8), dtype=np.float64)

"""Measures the synthetic market, so that its documentation can be repeated: `python -m helios.venues.sandbox.measure`."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace

import numpy as np

from helios.domain.market import BAR_VALUES, VenueCandle
from helios.venues.sandbox.history import DEFAULT_END_NS
from helios.venues.sandbox.macro import (
    MINUTES_PER_DAY,
    SHARED_FACTORS,
    SHARED_STAY_MIN,
    FloatArray,
    MacroMarket,
    SyntheticHistory,
    decay,
    leaving_probabilities,
)
from helios.venues.sandbox.specs import MarketConfig
from helios.venues.sandbox.ticks import STEPS, TickMarket

HORIZONS_MIN = (1, 5, 15, 60, 240, 480)
LAGS_MIN = (1, 10, 60, 1440)
WARM_UP = 2_000


@dataclass(frozen=True, slots=True)
class Prediction:
    """How well a minute's flow predicts the mid's return over the horizon after it.

    `r2` is the squared correlation, `expected` what the equations give, `noise` the mean r2 of an unrelated predictor
    (one over the number of windows that do not overlap).
    """

    horizon_min: int
    r2: float
    expected: float
    noise: float


def predictions(history: SyntheticHistory, horizons: tuple[int, ...] = HORIZONS_MIN) -> list[Prediction]:
    """Return the predictive power of the latent slow flow, over all symbols."""
    config = history.state.config
    found = []
    for ahead in horizons:
        flow, returns = windows(history, ahead)
        r2 = float(np.corrcoef(flow.ravel(), returns.ravel())[0, 1] ** 2)
        found.append(Prediction(ahead, r2, expected_r2(config, ahead), ahead / flow.size))
    return found


def windows(history: SyntheticHistory, ahead: int) -> tuple[FloatArray, FloatArray]:
    """Return the slow flow of each minute and the return of the mid over the `ahead` minutes after it in units of its own scale."""
    # The return of minute t is driven by the flow of minute t - 1; log_mids[t + 1] is the mid after minute t.
    after = history.log_mids[1:]
    returns = after[ahead:] - after[:-ahead]
    return history.slow_flow[:-ahead], returns / returns.std(axis=0)


def expected_r2(config: MarketConfig, ahead: int) -> float:
    """Return the r2 of the slow flow over horizons that are short against a stay in a regime.

    With r = s (k f + e), f = w S + sqrt(1 - w^2) F and autoregressions of coefficients a (S) and b (F) it is
    g (k w sum_{i<h} a^i)^2 / (h + k^2 V), V the variance of the sum of f over h minutes and g = (E s)^2 / E s^2 the price of a
    volatility that changes.
    """
    strength, weight = config.kappa * config.flow_strength, config.slow_weight
    slow, fast = decay(config.slow_half_life_min), decay(config.fast_half_life_min)
    lead = strength * weight * (1 - slow**ahead) / (1 - slow)
    spread = weight**2 * _sum_variance(slow, ahead) + (1 - weight**2) * _sum_variance(fast, ahead)
    steadiness = _steadiness(config.daily_volatility, config.stay_minutes) * _steadiness(tuple(SHARED_FACTORS), SHARED_STAY_MIN)
    return steadiness * lead**2 / (ahead + strength**2 * spread)


def _steadiness(values: tuple[float, ...], stays: tuple[float, float, float]) -> float:
    # (E s)^2 / E s^2 under the stationary law of the three states.
    matrix = leaving_probabilities(stays)
    equations = np.vstack([matrix.T - np.eye(3), np.ones(3)])
    shares = np.linalg.lstsq(equations, np.array([0.0, 0.0, 0.0, 1.0]), rcond=None)[0]
    scale = np.asarray(values)
    return float((shares @ scale) ** 2 / (shares @ scale**2))


def _sum_variance(phi: float, n: int) -> float:
    return n * (1 + phi) / (1 - phi) - 2 * phi * (1 - phi**n) / (1 - phi) ** 2


def kurtosis(returns: FloatArray) -> float:
    """Return the mean over symbols of the fourth standardised moment less 3."""
    centred = returns - returns.mean(axis=0)
    return float(np.mean((centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2) - 3.0)


def memory_of_size(returns: FloatArray, lag: int) -> float:
    """Return the mean over symbols of the autocorrelation of absolute returns."""
    size = np.abs(returns)
    return float(np.mean([np.corrcoef(size[lag:, i], size[:-lag, i])[0, 1] for i in range(size.shape[1])]))


def minute_returns(history: SyntheticHistory) -> FloatArray:
    """Return log returns of the mid by the minute, (n, n_symbols)."""
    return np.asarray(np.diff(history.log_mids, axis=0), dtype=np.float64)


def aggregated(returns: FloatArray, minutes: int) -> FloatArray:
    """Return sums over blocks that do not overlap."""
    n = len(returns) // minutes * minutes
    return np.asarray(returns[:n].reshape(-1, minutes, returns.shape[1]).sum(axis=1), dtype=np.float64)


def volatility_of_regimes(config: MarketConfig, n_minutes: int, seed: int) -> list[float]:
    """Return a day's measured volatility in each regime, found by giving all three the volatility of one."""
    found = []
    for daily in config.daily_volatility:
        alone = replace(config, daily_volatility=(daily, daily, daily))
        returns = minute_returns(MacroMarket(alone, seed).history(n_minutes, DEFAULT_END_NS))
        found.append(float(aggregated(returns, MINUTES_PER_DAY).std()))
    return found


def live_closes(config: MarketConfig, seed: int, minutes: int) -> FloatArray:
    """Return closes (minutes, n_symbols) of the market that goes on by the second."""
    market = TickMarket(MacroMarket(config, seed).history(WARM_UP, DEFAULT_END_NS).state, seed)
    events = (event for _ in range(minutes * STEPS) for event in market.step())
    closes = [event.close for event in events if isinstance(event, VenueCandle)]
    return np.array(closes).reshape(minutes, len(config.symbols))


def report(n_minutes: int, seed: int, live_minutes: int) -> str:
    """Return the table of docs/sandbox.md."""
    config = MarketConfig()
    history = MacroMarket(config, seed).history(n_minutes, DEFAULT_END_NS)
    returns = minute_returns(history)
    lines = [f"{n_minutes:,} minutes of {len(config.symbols)} symbols, seed {seed}", ""]
    volatilities = zip(config.daily_volatility, volatility_of_regimes(config, n_minutes, seed), strict=True)
    lines += [f"daily volatility, regime of {want:.1%}: {got:.2%}" for want, got in volatilities]
    for name, minutes in (("minute", 1), ("5 minutes", 5), ("hour", 60), ("day", MINUTES_PER_DAY)):
        lines.append(f"excess kurtosis, {name}: {kurtosis(aggregated(returns, minutes)):.1f}")
    lines += [f"autocorrelation of |minute return|, lag {lag}: {memory_of_size(returns, lag):.3f}" for lag in LAGS_MIN]
    pairs = np.asarray(np.corrcoef(aggregated(returns, 60).T))[np.triu_indices(len(config.symbols), 1)]
    lines.append(f"correlation of hourly returns: least {pairs.min():.2f}, mean {pairs.mean():.2f}, most {pairs.max():.2f}")
    close = np.stack([bars[:, BAR_VALUES.index("close")] for bars in history.bars.values()], axis=1)
    bounce = np.diff(np.log(close), axis=0)
    lines.append(f"autocorrelation of minute returns of the last price (bid-ask bounce), lag 1: {_autocorrelation(bounce):.3f}")
    lines.append(f"autocorrelation of minute returns of the mid, lag 1: {_autocorrelation(returns):.4f}")
    for strength in (0.0, 1.0, 2.0):
        other = MacroMarket(replace(config, flow_strength=strength), seed).history(n_minutes, DEFAULT_END_NS)
        lines += ["", f"flow_strength {strength:g}: r2 of the slow flow (expected; of chance)"]
        lines += [f"  {p.horizon_min:4d} min: {p.r2:.5f} ({p.expected:.5f}; {p.noise:.5f})" for p in predictions(other)]
    if live_minutes:
        live = np.diff(np.log(live_closes(config, seed, live_minutes)), axis=0)
        lines += ["", f"live market, {live_minutes:,} minutes: excess kurtosis of a minute {kurtosis(live):.1f}"]
        lines.append(f"  a day's volatility from minutes: {math.sqrt(MINUTES_PER_DAY) * float(live.std()):.2%}")
    return "\n".join(lines)


def _autocorrelation(returns: FloatArray) -> float:
    return float(np.mean([np.corrcoef(returns[1:, i], returns[:-1, i])[0, 1] for i in range(returns.shape[1])]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--live-minutes", type=int, default=1_440)
    arguments = parser.parse_args()
    print(report(arguments.minutes, arguments.seed, arguments.live_minutes))

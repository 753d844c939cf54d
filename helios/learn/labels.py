"""What would have happened to a trade: labels from the exits a position really has."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helios.domain.decisions import FloatArray
from helios.domain.enums import Action
from helios.errors import InsufficientHistoryError

UNLABELLED = -1
TIME, STOP, TARGET = 0, 1, 2
BARS_PER_DAY_5M = 288


@dataclass(frozen=True, slots=True)
class BarrierSpec:
    """The exits of a position, as the desk sets them.

    Attributes
    ----------
    horizon_bars : int
        Time-out in decision bars (288 bars of 5m = 24 h).
    stop_multiple : float
        Stop distance in daily volatilities.
    reward_to_risk : float
        Target distance over stop distance.
    cost_pct : float
        Fees and spread of entry and exit together, fraction of the entry value.
    bars_per_day : int
        Decision bars in a day, to turn bar volatility into daily volatility.
    volatility_half_life_bars : int
        Half-life of the causal volatility estimate.
    """

    horizon_bars: int = BARS_PER_DAY_5M
    stop_multiple: float = 2.0
    reward_to_risk: float = 2.0
    cost_pct: float = 0.003
    bars_per_day: int = BARS_PER_DAY_5M
    volatility_half_life_bars: int = BARS_PER_DAY_5M

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers, for the model card."""
        return asdict(self)


class BarrierOutcome(NamedTuple):
    """Labels and what they rest on; one row per bar.

    Attributes
    ----------
    labels : int8 array of shape (n,)
        0 BUY, 1 SELL, 2 HOLD, -1 unlabelled.
    exit_returns : float64 array of shape (n, 2)
        Return after costs of a long and of a short entered at the close; NaN where unlabelled.
    exit_kinds : int8 array of shape (n, 2)
        0 time, 1 stop, 2 target; -1 where unlabelled.
    stop_pcts : float64 array of shape (n,)
        Distance of the stop as a fraction of the price.
    """

    labels: NDArray[np.int8]
    exit_returns: FloatArray
    exit_kinds: NDArray[np.int8]
    stop_pcts: FloatArray


@dataclass(frozen=True, slots=True)
class PayoffStats:
    """Realised outcomes of one side: the p and b that Kelly should have used (fractions after costs)."""

    n_trades: int
    win_rate: float
    mean_win: float
    mean_loss: float
    payoff_ratio: float
    stop_share: float
    target_share: float
    time_share: float


def ewma_daily_volatility(close: FloatArray, half_life_bars: int, bars_per_day: int) -> FloatArray:
    """Return the causal daily volatility at each bar close.

    Exponentially weighted mean of squared one-bar log returns up to and including the bar, times bars per day, square root.
    NaN until one half-life of returns is known.
    """
    returns = np.diff(np.log(close), prepend=np.nan)
    weight = 0.5 ** (1.0 / half_life_bars)
    out = np.full(len(close), np.nan)
    total = mass = 0.0
    for i, squared in enumerate((returns**2).tolist()):
        if squared == squared:  # NaN (first bar, gap) changes nothing
            total = weight * total + squared
            mass = weight * mass + 1.0
        if i >= half_life_bars and mass > 0.0:
            out[i] = total / mass
    return np.asarray(np.sqrt(out * bars_per_day))


def triple_barrier(
    close: FloatArray,
    high: FloatArray,
    low: FloatArray,
    volatility: FloatArray,
    horizon_bars: int,
    stop_multiple: float,
    reward_to_risk: float,
    cost_pct: float,
) -> BarrierOutcome:
    """Label each bar by the trade that its close would have opened.

    A position is entered at `close[i]`, and left at the stop (`stop_multiple` x `volatility[i]`), at the target
    (`reward_to_risk` x the stop) or at the close of bar `i + horizon_bars`, whichever comes first. BUY where the long ends
    above its costs and above the short, SELL mirrored, HOLD otherwise.

    Parameters
    ----------
    close, high, low : float64 arrays of shape (n,)
        Consecutive decision bars.
    volatility : float64 array of shape (n,)
        Daily volatility as a fraction, known at the close of the bar.
    horizon_bars, stop_multiple, reward_to_risk, cost_pct
        See `BarrierSpec`.

    Raises
    ------
    InsufficientHistoryError
        If there are not more rows than the horizon.

    Notes
    -----
    If one bar touches both barriers the stop counts: the order inside a bar is unknown and the cautious reading holds. The
    last `horizon_bars` rows, and rows without a volatility or with an unknown exit, have label -1.
    """
    if len(close) <= horizon_bars:
        raise InsufficientHistoryError(f"{len(close)} bars, more than {horizon_bars} are needed for a label")
    stop = stop_multiple * volatility
    n_labelled = len(close) - horizon_bars
    sides = [_follow(side, close, high, low, stop, reward_to_risk, horizon_bars) for side in (1.0, -1.0)]
    returns = np.full((len(close), 2), np.nan)
    kinds = np.full((len(close), 2), UNLABELLED, dtype=np.int8)
    for column, (gross, kind) in enumerate(sides):
        returns[:n_labelled, column] = gross - cost_pct
        kinds[:n_labelled, column] = kind
    unknown = ~np.isfinite(returns).all(axis=1) | ~(stop > 0)
    returns[unknown], kinds[unknown] = np.nan, UNLABELLED
    return BarrierOutcome(_choose(returns, unknown), returns, kinds, stop)


def label_bars(close: FloatArray, high: FloatArray, low: FloatArray, spec: BarrierSpec) -> BarrierOutcome:
    """Label bars with the exits of `spec` and the causal volatility it names."""
    volatility = ewma_daily_volatility(close, spec.volatility_half_life_bars, spec.bars_per_day)
    return triple_barrier(close, high, low, volatility, spec.horizon_bars, spec.stop_multiple, spec.reward_to_risk, spec.cost_pct)


def fixed_horizon(close: FloatArray, horizon_bars: int = 12, threshold: float = 0.02) -> NDArray[np.int8]:
    """Label by the simple return `horizon_bars` ahead: above the threshold BUY, below its negative SELL, else HOLD.

    The last `horizon_bars` rows have label -1.
    """
    labels = np.full(len(close), UNLABELLED, dtype=np.int8)
    ahead = close[horizon_bars:] / close[:-horizon_bars] - 1.0
    chosen = np.where(ahead > threshold, Action.BUY, np.where(ahead < -threshold, Action.SELL, Action.HOLD))
    labels[: len(ahead)] = np.where(np.isfinite(ahead), chosen, UNLABELLED)
    return labels


def forward_returns(close: FloatArray, horizons_bars: tuple[int, ...]) -> FloatArray:
    """Return the simple return to each horizon: shape (n, n_horizons), NaN where it is not known yet.

    Targets of the short-horizon (grid) research: their signs are the classes, above a threshold the winners.
    """
    out = np.full((len(close), len(horizons_bars)), np.nan)
    for column, horizon in enumerate(horizons_bars):
        out[: max(len(close) - horizon, 0), column] = close[horizon:] / close[: max(len(close) - horizon, 0)] - 1.0
    return out


def class_counts(labels: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return how many rows each class has, absent classes included."""
    return np.bincount(labels[labels >= 0], minlength=len(Action)).astype(np.int64)


def payoff_stats(outcome: BarrierOutcome, action: Action, rows: NDArray[np.bool_] | None = None) -> PayoffStats:
    """Return what trades of one side really gave.

    Parameters
    ----------
    outcome : BarrierOutcome
        From `triple_barrier`.
    action : Action
        BUY for longs, SELL for shorts.
    rows : bool array of shape (n,) or None
        Which bars were traded; None takes every labelled bar.

    Raises
    ------
    InsufficientHistoryError
        If no chosen row is labelled.
    """
    chosen = (outcome.labels >= 0) & (True if rows is None else rows)
    returns, kinds = outcome.exit_returns[chosen, int(action)], outcome.exit_kinds[chosen, int(action)]
    if not len(returns):
        raise InsufficientHistoryError("no labelled row to take payoffs from")
    wins, losses = returns[returns > 0], returns[returns <= 0]
    mean_win = float(wins.mean()) if len(wins) else 0.0
    mean_loss = float(-losses.mean()) if len(losses) else 0.0
    ratio = mean_win / mean_loss if mean_loss > 0 else float("nan")
    shares = [float((kinds == kind).mean()) for kind in (STOP, TARGET, TIME)]
    return PayoffStats(len(returns), len(wins) / len(returns), mean_win, mean_loss, ratio, *shares)


def _follow(
    side: float, close: FloatArray, high: FloatArray, low: FloatArray, stop: FloatArray, reward: float, horizon: int
) -> tuple[FloatArray, NDArray[np.int8]]:
    """Gross exit return and exit kind of one side, for the first n - horizon rows; all entries at once, bar after bar."""
    n_rows = len(close) - horizon
    entry, risk = close[:n_rows], stop[:n_rows]
    stop_price, target_price = entry * (1.0 - side * risk), entry * (1.0 + side * reward * risk)
    worst, best = (low, high) if side > 0 else (high, low)
    kind = np.zeros(n_rows, dtype=np.int8)
    open_ = np.ones(n_rows, dtype=np.bool_)
    for ahead in range(1, horizon + 1):
        window = slice(ahead, ahead + n_rows)
        stopped = open_ & (side * (worst[window] - stop_price) <= 0)
        hit = open_ & ~stopped & (side * (best[window] - target_price) >= 0)
        kind[stopped], kind[hit] = STOP, TARGET
        open_ &= ~(stopped | hit)
    timed = side * (close[horizon:] / entry - 1.0)
    return np.where(kind == STOP, -risk, np.where(kind == TARGET, reward * risk, timed)), kind


def _choose(returns: FloatArray, unknown: NDArray[np.bool_]) -> NDArray[np.int8]:
    long, short = returns[:, 0], returns[:, 1]
    labels = np.full(len(returns), Action.HOLD, dtype=np.int8)
    labels[(long > 0) & (long > short)] = Action.BUY
    labels[(short > 0) & (short > long)] = Action.SELL
    labels[unknown] = UNLABELLED
    return labels

"""Where a signal-driven desk wants its holdings to be between signals: the targets that rebalancing compares with.

A plan says what to do at its own bar. Afterwards its view fades: Idzorek's confidence falls in proportion to the time left of the
horizon, and with it the estimate returns to equilibrium. The target of a holding is the optimum under what is then still expected.
It may lie above the holding only while a live view wants it larger; without one a holding can be trimmed, never enlarged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helios.config import PortfolioConfig
from helios.domain.decisions import FloatArray
from helios.portfolio.black_litterman import posterior
from helios.portfolio.optimiser import Constraints, MeanVarianceOptimiser
from helios.portfolio.views import View, view_matrix

SMALLEST_CONFIDENCE = 1e-6


@dataclass(frozen=True, slots=True)
class StandingView:
    """What a plan expects of its symbol, from when it was made until its horizon is over.

    Attributes
    ----------
    daily_return : float
        Expected simple return of the asset a day, below 0 for a plan to sell (`TargetPlanner.view`).
    confidence : float
        When it was made.
    made_ns, horizon_ns : int
        Market time in ns UTC; duration in ns.
    """

    symbol: str
    daily_return: float
    confidence: float
    made_ns: int
    horizon_ns: int

    def confidence_at(self, now_ns: int) -> float:
        """Return what is left of the confidence: falling in proportion to time, 0 from the horizon on and before it was made."""
        age = now_ns - self.made_ns
        return self.confidence * (1.0 - age / self.horizon_ns) if 0 <= age < self.horizon_ns else 0.0


@dataclass(frozen=True, slots=True)
class Market:
    """What the optimiser knows of the assets.

    Attributes
    ----------
    symbols : sequence of str
    sigma : ndarray of shape (n_assets, n_assets)
        Daily covariance.
    prior : ndarray of shape (n_assets,)
        Weights of equilibrium, sum 1.
    """

    symbols: Sequence[str]
    sigma: FloatArray
    prior: FloatArray


def live_views(views: Sequence[StandingView], symbols: Sequence[str], now_ns: int) -> list[View]:
    """Return the views still alive at `now_ns`, confidence faded, the newest of each symbol; on symbols without estimate none."""
    newest: dict[str, StandingView] = {}
    for view in views:
        is_usable = view.made_ns <= now_ns and math.isfinite(view.daily_return) and 0.0 <= view.confidence <= 1.0
        if is_usable and (view.symbol not in newest or view.made_ns >= newest[view.symbol].made_ns):
            newest[view.symbol] = view
    known = set(symbols)
    faded = [(v, v.confidence_at(now_ns)) for s, v in sorted(newest.items()) if s in known]
    return [View.absolute(v.symbol, v.daily_return, left) for v, left in faded if left > SMALLEST_CONFIDENCE]


def strategic_targets(
    held: Mapping[str, float],
    views: Sequence[StandingView],
    market: Market,
    now_ns: int,
    config: PortfolioConfig,
    sector_of: Callable[[str], str],
    max_gross: float = 1.0,
    optimiser: MeanVarianceOptimiser | None = None,
    is_paid: Callable[[str], bool] = lambda _: True,
) -> dict[str, float]:
    """Return the target weight of every held symbol.

    The posterior under the live views, then the largest mu'w - (gamma / 2) w'Sigma w over the holdings, each between 0 and its
    present weight (and no more than `max_position`); up to `max_position` where a live view points the way the position is held.
    Costs play no part: the band of `rebalance.advise` weighs them. Closing everything is always allowed, so that the problem is
    never infeasible: caps that a market move broke are restored, not excused.

    Parameters
    ----------
    held : mapping of str to float
        Signed fractions of equity; below 0 a short perpetual.
    views : sequence of StandingView
        Of the last plans, in any order; a later one of the same symbol replaces the earlier.
    market : Market
        Holdings that are not in it have no estimate and keep their weight, within `max_position`.
    now_ns : int
        Market time, ns UTC.
    sector_of : callable
    max_gross : float
        Largest sum of absolute weights.
    optimiser : MeanVarianceOptimiser or None
        Compiled for the number of held symbols that are in `market`; None compiles one.
    is_paid : callable
        Whether a symbol must be paid for in full (spot): those share what `min_cash` leaves.

    Raises
    ------
    SolverError
        If an input is not finite or the solver fails: keep the present weights.
    """
    cap = config.max_position
    targets = {s: math.copysign(min(abs(w), cap), w) for s, w in held.items() if s not in market.symbols and w != 0}
    symbols = [s for s in market.symbols if held.get(s, 0.0) != 0]
    if not symbols:
        return dict(sorted(targets.items()))
    alive = live_views(views, market.symbols, now_ns)
    matrix = view_matrix(alive, market.symbols)
    after = posterior(market.sigma, market.prior, matrix.P, matrix.Q, matrix.confidences, config.risk_aversion, config.tau)
    at = [list(market.symbols).index(s) for s in symbols]
    w0 = np.array([held[s] for s in symbols])
    limits = _limits(symbols, w0, _supported(symbols, w0, alive), targets, config, sector_of, max_gross, is_paid)
    # Free of cost, and from no holding: where nothing costs, the answer does not depend on where it starts.
    zeros, sigma = np.zeros(len(symbols)), after.sigma_plus[np.ix_(at, at)]
    w = (optimiser or MeanVarianceOptimiser(len(symbols))).solve(after.mu[at], sigma, zeros, zeros, config.risk_aversion, limits)
    return dict(sorted({**targets, **{s: round(float(x), 10) for s, x in zip(symbols, w, strict=True)}}.items()))


def _supported(symbols: Sequence[str], w0: FloatArray, alive: Sequence[View]) -> np.ndarray:
    wanted = {view.weights[0][0]: view.daily_return for view in alive}
    return np.array([wanted.get(s, 0.0) * w > 0 for s, w in zip(symbols, w0, strict=True)])


def _limits(
    symbols: Sequence[str],
    w0: FloatArray,
    supported: np.ndarray,
    fixed: Mapping[str, float],
    config: PortfolioConfig,
    sector_of: Callable[[str], str],
    max_gross: float,
    is_paid: Callable[[str], bool],
) -> Constraints:
    furthest = np.where(supported, config.max_position, np.minimum(np.abs(w0), config.max_position))
    sectors = sorted({sector_of(s) for s in symbols})
    taken = np.array([sum(abs(w) for s, w in fixed.items() if sector_of(s) == k) for k in sectors])
    gross = sum(abs(w) for w in fixed.values())
    paid = sum(w for s, w in fixed.items() if is_paid(s))
    return Constraints(
        lower=np.where(w0 < 0, -furthest, 0.0),
        upper=np.where(w0 > 0, furthest, 0.0),
        sector_matrix=np.array([[float(sector_of(s) == k) for s in symbols] for k in sectors]),
        sector_cap=np.maximum(config.max_sector - taken, 0.0),
        funded=np.array([float(w > 0 and is_paid(s)) for s, w in zip(symbols, w0, strict=True)]),
        budget=max(1.0 - config.min_cash - paid, 0.0),
        gross_cap=max(max_gross - gross, 0.0),
    )

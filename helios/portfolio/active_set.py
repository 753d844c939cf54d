"""Exact solver: guess which limits bind, solve the equations that remain, repair the guess until nothing is violated.

Minimise w'Hw / 2 - t mu'w + cost'|w - w0| within a `Region`. Between its breakpoints (bounds; the present weight, where a cost
or the turnover has its kink; 0, where |w| has) the loss of an asset is quadratic, so an asset is either at a breakpoint or free in
an interval between two. Given that, and the rows that bind, the weights follow from one linear system. Its answer is accepted
only when every condition of optimality holds: the guess decides how long it takes, never what comes out.

The guess is repaired in two ways. `leap` changes everything that is wrong at once: a handful of rounds for any size, but it may
run in circles where several rows bind. `walk` goes from allowed weights to better ones and stops at every limit in its way:
about one round per limit, and no circles but in degenerate corners. Nothing is remembered between two calls.

References
----------
.. [1] Hintermueller, Ito and Kunisch, "The primal-dual active set strategy as a semismooth Newton method", SIAM J. Optim. 2002.
.. [2] Nocedal and Wright, "Numerical Optimization", 2nd ed., 16.2 (range-space method) and 16.5 (active-set methods).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg.lapack import dgetrf, dgetrs

from helios.domain.decisions import FloatArray
from helios.portfolio.constraints import Region

MAX_LEAPS = 25
PATIENCE = 2
_KEPT = 1e-11
_ALLOWED = 1e-10
_STATIONARY = 1e-10
_HUGE = 1e30  # numbers are near 1: no answer, only a system without one
_GROSS, _LINEAR, _TRADE, _TOTAL = range(4)


@dataclass(frozen=True, slots=True)
class Guess:
    """Where each asset is: 2 k at breakpoint k, 2 k + 1 between k and k + 1; and which rows bind."""

    place: Any
    binding: Any


@dataclass(frozen=True, slots=True)
class _Point:
    w: FloatArray
    prices: FloatArray
    t: float
    residual: float


class ActiveSet:
    """One problem, in numbers near 1.

    Parameters
    ----------
    H : ndarray of shape (n_assets, n_assets)
        Symmetric positive semi-definite.
    mu, cost : ndarray of shape (n_assets,)
    within : Region
    is_ratio : bool
        Maximise mu'w / sqrt(w'Hw) instead; needs `within.total`, and no cost. On a face of the region the best weights for a
        risk tolerance t are a + t b with a'Hb = 0 and mu'b = b'Hb, so the ratio is largest at t = a'Ha / mu'a.
    """

    def __init__(self, H: FloatArray, mu: FloatArray, cost: FloatArray, within: Region, is_ratio: bool = False) -> None:
        self._H, self._mu, self._cost, self._within, self._is_ratio = H, mu, cost, within, is_ratio
        n = len(mu)
        kinks = [within.w0] if cost.any() or np.isfinite(within.turnover) else []
        if (within.lower < 0).any():
            kinks.append(np.zeros(n))
        self._points, self._top = _breakpoints(within, kinks)
        middles = (self._points[:, :-1] + self._points[:, 1:]) / 2
        self._side, self._trade = np.sign(middles), np.sign(middles - within.w0[:, None])
        self._assets = np.arange(n)
        self._rows, self._caps, self._kind = _rows(within)
        self._scale = max(float(np.diag(H).mean()), 1e-12)

    def nearest(self, w: FloatArray, within: float = 0.0) -> Guess:
        """Guess from weights: at a breakpoint where one is at most `within` away, free otherwise; rows that are full bind."""
        distance = np.abs(self._points - w[:, None])
        closest = np.minimum(distance.argmin(axis=1), self._top)
        below = (self._points <= w[:, None]).sum(axis=1) - 1
        free = 2 * np.clip(below, 0, np.maximum(self._top - 1, 0)) + 1
        is_at = (distance.min(axis=1) <= within) | (self._top == 0)
        binding = (self._kind == _TOTAL) | (self._values(w) >= self._caps - within) & (within > 0)
        return Guess(np.where(is_at, 2 * closest, free), binding)

    def filled(self, order: Any) -> Guess:
        """Guess weights of the wanted total: from the smallest allowed upwards, one asset after the other in `order`."""
        low = np.clip(np.zeros(len(order)), self._within.lower, self._within.upper)
        left = (self._within.total or 0.0) - low.sum()
        w = low.copy()
        for i in order:
            w[i] = min(self._within.upper[i], low[i] + left)
            left -= w[i] - low[i]
            if left <= 0:
                break
        guess = self.nearest(w, 1e-12)
        if not (guess.place % 2).any():  # a total needs somebody to settle it
            guess.place[i] = max(guess.place[i] - 1, 1) if self._top[i] else 0
        return Guess(guess.place, self._kind == _TOTAL)

    def leap(self, guess: Guess) -> FloatArray | None:
        """Return the optimum, or None if the guess could not be repaired within a few rounds without progress."""
        place, binding, t = guess.place.copy(), guess.binding.copy(), 1.0
        fewest, patience = len(place) * 4, PATIENCE
        for _ in range(MAX_LEAPS):
            point = self._point(place, binding, t)
            if point is None:
                return None
            t = point.t
            moves, turns = self._wrong(place, binding, point)
            n_wrong = int(np.abs(moves).sum() + turns.sum())
            if n_wrong == 0:
                return point.w if point.residual <= _STATIONARY and self._is_best_ratio(point) else None
            patience = PATIENCE if n_wrong < fewest else patience - 1
            fewest = min(fewest, n_wrong)
            if patience < 0:
                return None
            place, binding = place + moves, binding ^ turns
        return None

    def walk(self, start: FloatArray) -> FloatArray | None:
        """Return the optimum from weights that keep every limit, or None if a degenerate corner holds the walk up."""
        w, guess = start.copy(), self.nearest(start)
        place, binding = guess.place, guess.binding
        returned = np.zeros(len(w), dtype=bool)  # released, and stopped again before it moved
        for _ in range(10 * len(w) + 50):
            point = self._point(place, binding, 1.0)
            if point is None:
                return None
            share, stopped, filled = self._reach(w, point.w, place, binding)
            if share > 0 and (np.abs(point.w - w) > _KEPT).any():
                returned[:] = False
            if share < 1:
                w = np.where(place % 2 == 1, w + share * (point.w - w), w)
                w, place = np.where(stopped != 0, self._points[self._assets, (place + stopped) // 2], w), place + stopped
                binding, returned = binding | filled, returned | (stopped != 0)
                continue
            w = point.w
            moves, turns = self._wrong(place, binding, point)
            moves, turns = np.where(place % 2 == 1, 0, moves), turns & binding
            if not moves.any() and not turns.any():
                return w if point.residual <= _STATIONARY and self._within.violation(w) <= _ALLOWED else None
            fresh = np.where(returned, 0, moves)
            if not fresh.any() and not turns.any():
                fresh[np.flatnonzero(moves)[0]] = moves[np.flatnonzero(moves)[0]]
            place, binding = place + fresh, binding & ~turns
        return None

    def _reach(self, w: FloatArray, target: FloatArray, place: Any, binding: Any) -> tuple[float, Any, Any]:
        """Return the share of the way to `target` that is allowed, the assets stopped there (with their step), the row filled."""
        k, step = place // 2, np.where(place % 2 == 1, target - w, 0.0)
        ahead = np.where(step > 0, self._points[self._assets, np.minimum(k + 1, self._top)], self._points[self._assets, k])
        shares = np.full(len(w), np.inf)
        np.divide(ahead - w, step, out=shares, where=step != 0)
        rate = self._tilted(np.minimum(k, self._side.shape[1] - 1)) @ step
        fills = np.full(len(rate), np.inf)
        np.divide(self._caps - self._values(w), rate, out=fills, where=~binding & (rate > 1e-13))
        share = max(min(float(shares.min()), float(fills.min(initial=np.inf)), 1.0), 0.0)
        nothing = np.zeros(len(rate), dtype=bool)
        if share > 1 - 1e-12:
            return 1.0, np.zeros(len(w), dtype=int), nothing
        stopped = np.where(shares <= share, np.sign(step), 0).astype(int)
        if not stopped.any():
            nothing[fills.argmin()] = True
        return share, stopped, nothing

    def _point(self, place: Any, binding: Any, t: float) -> _Point | None:
        # H_FF w_F + G'prices = t mu_F - slopes_F - (H p)_F and G w_F = what the fixed weights p leave of the caps.
        free = place % 2 == 1
        k, F = place // 2, np.flatnonzero(free)
        p = np.where(free, 0.0, self._points[self._assets, k])
        j = np.minimum(k, self._side.shape[1] - 1)
        slopes = self._cost * self._trade[self._assets, j]
        tilted = self._tilted(j)[binding]
        G = tilted[:, F]
        is_trade = (self._kind[binding] == _TRADE)[:, None]
        used = np.where(free, -tilted * is_trade * self._within.w0, self._rows[binding] * self._phi(p)[self._kind[binding]])
        right = np.zeros((len(F) + len(G), 2))
        Hp = self._H @ p
        right[: len(F), 0], right[: len(F), 1] = -Hp[F] - slopes[F], self._mu[F]
        right[len(F) :, 0] = self._caps[binding] - used.sum(axis=1)
        found = _equations(self._H[np.ix_(F, F)], G, right, self._scale)
        if found is None:
            return None
        (a, b), residual = found[0].T, found[1]
        t = self._tolerance(p, F, a, t) if self._is_ratio else t
        w, prices = p.copy(), np.zeros(len(self._caps))
        w[F] = a[: len(F)] + t * b[: len(F)]
        prices[binding] = a[len(F) :] + t * b[len(F) :]
        return _Point(w, prices, t, residual * max(1.0, t))

    def _tolerance(self, p: FloatArray, F: Any, a: FloatArray, t: float) -> float:
        least = p.copy()
        least[F] = a[: len(F)]
        earned = float(self._mu @ least)
        return float(least @ self._H @ least) / earned if earned > 0 else t

    def _is_best_ratio(self, point: _Point) -> bool:
        # Where the least variance of a face earns nothing, its t is a left-over of the face before.
        risk = float(point.w @ self._H @ point.w)
        return not self._is_ratio or abs(point.t * float(self._mu @ point.w) - risk) <= 1e-9 * risk

    def _wrong(self, place: Any, binding: Any, point: _Point) -> tuple[Any, Any]:
        """Return the step each asset's place must take (-1, 0, 1) and the rows that must change."""
        w, k, free = point.w, place // 2, place % 2 == 1
        is_total = self._kind == _TOTAL
        prices = np.where(is_total, point.prices, np.maximum(point.prices, 0.0))
        gradient = self._H @ w - point.t * self._mu
        slack = _STATIONARY * max(float(np.abs(gradient).max()), float(self._cost.max()), 1e-300)
        by_kind = [self._rows[self._kind == kind].T @ prices[self._kind == kind] for kind in range(4)]
        gradient = gradient + by_kind[_LINEAR] + by_kind[_TOTAL]
        slopes = self._side * by_kind[_GROSS][:, None] + self._trade * (self._cost + by_kind[_TRADE])[:, None]
        last = slopes.shape[1] - 1
        up = (k < self._top) & (gradient + slopes[self._assets, np.minimum(k, last)] < -slack)
        down = (k > 0) & (gradient + slopes[self._assets, np.maximum(k - 1, 0)] > slack)
        above = w > self._points[self._assets, np.minimum(k + 1, self._top)] + _KEPT
        below = w < self._points[self._assets, k] - _KEPT
        moves = np.where(free, above.astype(int) - below, up.astype(int) - down)
        overfull = ~binding & (self._values(w) > self._caps + _KEPT)
        return moves, overfull | binding & ~is_total & (point.prices < 0)

    def _phi(self, w: FloatArray) -> FloatArray:
        return np.array([np.abs(w), w, np.abs(w - self._within.w0), w])

    def _values(self, w: FloatArray) -> FloatArray:
        values: FloatArray = (self._rows * self._phi(w)[self._kind]).sum(axis=1)
        return values

    def _tilted(self, j: Any) -> FloatArray:
        ones = np.ones(len(j))
        signs = np.array([self._side[self._assets, j], ones, self._trade[self._assets, j], ones])
        tilted: FloatArray = self._rows * signs[self._kind]
        return tilted


def _breakpoints(within: Region, kinks: list[FloatArray]) -> tuple[FloatArray, Any]:
    # Each once and sorted, padded with the upper bound; and the index of the last.
    inside = [np.clip(kink, within.lower, within.upper) for kink in kinks]
    points = np.sort(np.column_stack([within.lower, within.upper, *inside]), axis=1)
    points[:, 1:][points[:, 1:] == points[:, :-1]] = np.inf
    points.sort(axis=1)
    top = np.isfinite(points).sum(axis=1) - 1
    return np.where(np.isfinite(points), points, within.upper[:, None]), top


def _rows(within: Region) -> tuple[FloatArray, FloatArray, Any]:
    n = len(within.lower)
    rows, caps, kinds = [within.gross_rows], [*within.gross_caps], [_GROSS] * len(within.gross_caps)
    if float(np.maximum(within.funded * within.lower, within.funded * within.upper).sum()) > within.budget:
        rows, caps, kinds = [*rows, within.funded[None]], [*caps, within.budget], [*kinds, _LINEAR]
    if np.isfinite(within.turnover):
        rows, caps, kinds = [*rows, np.ones((1, n))], [*caps, within.turnover], [*kinds, _TRADE]
    if within.total is not None:
        rows, caps, kinds = [*rows, np.ones((1, n))], [*caps, within.total], [*kinds, _TOTAL]
    return np.vstack(rows), np.array(caps), np.array(kinds, dtype=int)


def _equations(H: FloatArray, G: FloatArray, right: FloatArray, scale: float) -> tuple[FloatArray, float] | None:
    """Solve [[H, G'], [G, 0]] x = right; return x and the largest residual.

    A trace of the identity is added and refined away again, so that rows that say the same twice, or a row whose assets are
    all fixed, still give an answer (in the second case a large price, which frees some of them).
    """
    f, size = len(H), len(right)
    system = np.zeros((size, size))
    system[:f, :f], system[:f, f:], system[f:, :f] = H, G.T, G
    steadied = system.copy()
    diagonal = steadied.ravel()[:: size + 1]
    diagonal[:f] += 1e-13 * scale
    diagonal[f:] -= 1e-10 / scale
    if not size:
        return right, 0.0
    factor, pivots, failed = dgetrf(steadied, overwrite_a=True)
    if failed:
        return None
    x, rest = np.zeros_like(right), right
    worst = np.inf
    for _ in range(4):
        x = x + dgetrs(factor, pivots, rest)[0]
        if not float(np.abs(x).max()) < _HUGE:
            return None
        rest = right - system @ x
        worst = float(np.abs(rest).max())
        if worst <= 1e-14:
            break
    return x, worst

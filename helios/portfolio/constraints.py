"""What weights are allowed, and the one form in which the solvers read it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import SolverError

FEASIBLE = 1e-8
"""How far, as a fraction of equity, an answer may lie outside a limit."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """What weights are allowed, all as fractions of equity.

    Attributes
    ----------
    lower, upper : ndarray of shape (n_assets,)
        Bounds of each weight; `lower` is 0 or more where nothing can be sold short.
    sector_matrix : ndarray of shape (n_sectors, n_assets)
        1 where the asset belongs to the sector.
    sector_cap : ndarray of shape (n_sectors,)
        Largest gross weight of each sector.
    funded : ndarray of shape (n_assets,)
        1 where the asset must be paid for in full (spot), 0 where it only needs margin (perpetuals).
    budget : float
        Largest sum of funded weights; what is left is cash, which earns 0.
    gross_cap : float
        Largest sum of absolute weights (leverage).
    cash : float
        Least share of equity kept in cash: where it is not 0, the funded weights sum to at most 1 - `cash`, whatever the budget.
    turnover : float
        Largest sum of |w - w0|; infinite where trading is not limited.
    max_trade : ndarray of shape (n_assets,) or None
        Largest |w - w0| of each asset; None where it is not limited.
    """

    lower: FloatArray
    upper: FloatArray
    sector_matrix: FloatArray
    sector_cap: FloatArray
    funded: FloatArray
    budget: float = 1.0
    gross_cap: float = 1.0
    cash: float = 0.0
    turnover: float = math.inf
    max_trade: FloatArray | None = None

    @property
    def spendable(self) -> float:
        """Largest sum of funded weights: the budget, less the cash that must stay."""
        return min(self.budget, 1.0 - self.cash) if self.cash > 0 else self.budget

    @classmethod
    def long_only(cls, n_assets: int, max_position: float = 1.0) -> Constraints:
        """Spot assets with one cap, every asset in its own sector."""
        ones = np.ones(n_assets)
        return cls(np.zeros(n_assets), max_position * ones, np.eye(n_assets), ones.copy(), ones.copy())


@dataclass(frozen=True, slots=True)
class Region:
    """`Constraints` around given present weights, reduced to what can bind.

    Attributes
    ----------
    lower, upper, w0 : ndarray of shape (n_assets,)
    gross_rows, gross_caps : ndarray of shape (n_rows, n_assets), (n_rows,)
        Sectors and leverage: rows @ |w| <= caps.
    funded, budget : ndarray of shape (n_assets,), float
    turnover : float
        Infinite where it cannot bind.
    total : float or None
        What the weights must sum to.
    """

    lower: FloatArray
    upper: FloatArray
    w0: FloatArray
    gross_rows: FloatArray
    gross_caps: FloatArray
    funded: FloatArray
    budget: float
    turnover: float
    total: float | None = None

    def violation(self, w: FloatArray) -> float:
        """Return by how much `w` lies outside the worst limit; 0 or less if it keeps them all."""
        worst = [float((self.lower - w).max()), float((w - self.upper).max()), float(self.funded @ w) - self.budget]
        worst.append(float(np.abs(w - self.w0).sum()) - self.turnover)
        if len(self.gross_caps):
            worst.append(float((self.gross_rows @ np.abs(w) - self.gross_caps).max()))
        if self.total is not None:
            worst.append(abs(float(w.sum()) - self.total))
        return max(worst)


def region(limits: Constraints, w0: FloatArray, is_invested: bool = False) -> Region:
    """Reduce `limits` around `w0`: one-asset sectors and trade limits become bounds, rows that cannot bind are left out.

    Parameters
    ----------
    is_invested : bool
        Whether the weights must sum to as much of 1 - `cash` as bounds, sectors, budget and leverage leave room for.

    Raises
    ------
    SolverError
        If no weight is left to an asset.
    """
    lower, upper = _bounds(limits, w0)
    rows = np.vstack([limits.sector_matrix.reshape(-1, len(w0)), np.ones(len(w0))])
    caps = np.append(limits.sector_cap, limits.gross_cap)
    single = (rows > 0).sum(axis=1) == 1
    assets = rows[single].argmax(axis=1)
    most = caps[single] / rows[single, assets]
    np.minimum.at(upper, assets, most)
    np.maximum.at(lower, assets, -most)
    if (lower > upper + FEASIBLE).any():
        raise SolverError("the limits leave no weight to an asset")
    lower = np.minimum(lower, upper)
    can_bind = ~single & (rows @ np.maximum(np.abs(lower), np.abs(upper)) > caps)
    total = _reachable(limits, upper, rows[:-1][can_bind[:-1]], caps[:-1][can_bind[:-1]]) if is_invested else None
    if total is not None and (lower >= 0).all() and total <= limits.gross_cap:
        can_bind[-1] = False  # the sum says the same
    reach = float(np.maximum(np.abs(lower - w0), np.abs(upper - w0)).sum())
    turnover = limits.turnover if limits.turnover < reach else math.inf
    return Region(lower, upper, w0, rows[can_bind], caps[can_bind], limits.funded, limits.spendable, turnover, total)


def _bounds(limits: Constraints, w0: FloatArray) -> tuple[FloatArray, FloatArray]:
    lower, upper = limits.lower.astype(np.float64), limits.upper.astype(np.float64)
    if limits.max_trade is not None:
        lower, upper = np.maximum(lower, w0 - limits.max_trade), np.minimum(upper, w0 + limits.max_trade)
    return lower.copy(), upper.copy()


def _reachable(limits: Constraints, upper: FloatArray, rows: FloatArray, caps: FloatArray) -> float:
    # Exact where no asset is in two sectors; where one is, the sum may be out of reach, and the solver will say so.
    room, apart = np.maximum(upper, 0.0), ~(rows > 0).any(axis=0)
    sectors = sum(min(float(cap), float(row @ room)) for row, cap in zip(rows, caps, strict=True))
    most = float(sectors + room[apart].sum() + np.minimum(upper, 0.0).sum())
    is_all_paid = bool((limits.funded >= 1).all())
    return min(1.0 - limits.cash, most, limits.gross_cap, limits.spendable if is_all_paid else most)


def check_limits(limits: Constraints, n_assets: int) -> None:
    """Refuse limits that are not numbers or do not fit `n_assets`.

    Raises
    ------
    SolverError
        Naming what is wrong.
    """
    trade = np.zeros(n_assets) if limits.max_trade is None else limits.max_trade
    per_asset = (limits.lower, limits.upper, limits.funded, trade)
    arrays = (*per_asset, limits.sector_matrix, limits.sector_cap, np.array([limits.budget, limits.gross_cap, limits.cash]))
    if not all(np.isfinite(a).all() for a in arrays) or math.isnan(limits.turnover):
        raise SolverError("an input of the optimiser is not finite")
    if any(a.shape != (n_assets,) for a in per_asset) or limits.sector_matrix.shape != (len(limits.sector_cap), n_assets):
        raise SolverError(f"the limits do not fit {n_assets} assets")
    if (limits.lower > limits.upper).any():
        raise SolverError("a lower bound lies above its upper bound")
    if (limits.sector_matrix < 0).any() or (trade < 0).any() or limits.turnover < 0:
        raise SolverError("a sector's share, a trade limit or the turnover is negative")


def pin_correlated(
    lower: FloatArray, upper: FloatArray, w0: FloatArray, correlation: FloatArray, most: float
) -> tuple[FloatArray, FloatArray]:
    """Forbid to increase an asset that moves too much like a larger holding.

    The correlation is signed by side: long BTC and short ETH offset each other, two longs add up. So a purchase is closed by a
    long holding that moves along or a short one that moves against, a sale by the opposite; buying back a short stays possible.

    Parameters
    ----------
    lower, upper, w0 : ndarray of shape (n_assets,)
        Bounds and present weights. Only a holding larger than the asset's own pins it (of two equals, the earlier).
    correlation : ndarray of shape (n_assets, n_assets)
    most : float
        Largest signed correlation at which an asset may still be increased. NaN counts as above it: what cannot be judged is
        not added to.

    Returns
    -------
    lower, upper : ndarray of shape (n_assets,)
        Closed at what is held, or at 0 on the other side of it: "do nothing" stays feasible.
    """
    lower, upper, size = lower.copy(), upper.copy(), np.abs(w0)
    for i in range(len(w0)):
        larger = [j for j in np.flatnonzero(size).tolist() if j != i and (size[j], -j) > (size[i], -i)]
        alike = [float(correlation[i, j] * np.sign(w0[j])) for j in larger]
        if not all(x <= most for x in alike):
            upper[i] = max(min(upper[i], max(w0[i], 0.0)), lower[i])
        if not all(-x <= most for x in alike):
            lower[i] = min(max(lower[i], min(w0[i], 0.0)), upper[i])
    return lower, upper


def correlation_of(sigma: FloatArray) -> FloatArray:
    """Return the correlations of a covariance; 0 with an asset that does not move."""
    volatility = np.sqrt(np.maximum(np.diag(sigma), 0.0))
    outer = np.outer(volatility, volatility)
    result: FloatArray = np.divide(sigma, outer, out=np.zeros_like(sigma), where=outer > 0)
    return result

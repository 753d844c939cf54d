"""Covariance where prices have gaps: pair by pair, so that one young or patchy symbol takes nothing from the others."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from helios.domain.decisions import FloatArray
from helios.errors import InsufficientHistoryError
from helios.portfolio.covariance import MIN_ROWS, correlation, repair_psd

SMALLEST_VARIANCE = 1e-20
"""Of returns; below it a price did not move but by rounding."""


def pairwise_correlation(returns: FloatArray, min_rows: int = MIN_ROWS) -> tuple[FloatArray, np.ndarray]:
    """Correlate every pair of columns over the rows that both have.

    Parameters
    ----------
    returns : ndarray of shape (n_observations, n_assets)
        NaN where unknown.

    Returns
    -------
    correlation : ndarray of shape (n_assets, n_assets)
        1 on the diagonal; NaN for a pair with fewer than `min_rows` common rows or a column that did not move in them. Not
        necessarily positive semi-definite: the pairs rest on different rows.
    n_rows : ndarray of int, shape (n_assets, n_assets)
        Common rows of each pair.
    """
    known = np.isfinite(returns)
    n_rows = known.T.astype(np.float64) @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(known, returns, 0.0).sum(axis=0) / known.sum(axis=0)
        x = np.where(known, returns - centre, 0.0)  # any shift leaves correlations alone; this one keeps digits
        mean = x.T @ known / n_rows  # [i, j]: mean of i over the rows that i and j share
        variance = (x**2).T @ known / n_rows - mean**2
        covariance = x.T @ x / n_rows - mean * mean.T
        moved = variance > SMALLEST_VARIANCE
        result = covariance / np.sqrt(variance * variance.T)
    is_known = (n_rows >= min_rows) & moved & moved.T
    result = np.where(is_known, np.clip(result, -1.0, 1.0), np.nan)
    np.fill_diagonal(result, 1.0)
    return result, n_rows.astype(np.int64)


def mixed_covariance(coarse: FloatArray, fine: FloatArray, n_fine: float) -> FloatArray:
    """Estimate a covariance from two grids of returns, each pair from what it has.

    Variances come from a symbol's own coarse returns, or its fine ones times `n_fine` where it has fewer than 20; correlations
    from the coarse returns that a pair shares, else from the fine ones, else they are the mean of all known ones. The
    correlations are then shrunk towards none as Ledoit and Wolf would shrink them, and repaired to positive semi-definite.

    Parameters
    ----------
    coarse, fine : ndarray of shape (n_observations, n_assets)
        Simple returns of the same symbols, NaN where unknown.
    n_fine : float
        Fine steps in a coarse one.

    Returns
    -------
    Sigma : ndarray of shape (n_assets, n_assets)
        In the squared units of a coarse return.

    Raises
    ------
    InsufficientHistoryError
        If a symbol has fewer than 20 returns on both grids.
    """
    variance = _variances(coarse)
    variance = np.where(np.isfinite(variance), variance, n_fine * _variances(fine))
    if not variance.size or not np.isfinite(variance).all():
        raise InsufficientHistoryError(f"a symbol has fewer than {MIN_ROWS} returns on either grid")
    C = pairwise_correlation(coarse)[0]
    C = np.where(np.isfinite(C), C, pairwise_correlation(fine)[0])
    C = _filled(C, variance > SMALLEST_VARIANCE)
    delta = _shrinkage(coarse if np.isfinite(coarse).sum() >= MIN_ROWS * coarse.shape[1] else fine)
    C = correlation(repair_psd((1.0 - delta) * C + delta * np.eye(len(C))))
    deviation = np.sqrt(variance)
    return repair_psd(C * np.outer(deviation, deviation))


def _variances(returns: FloatArray) -> FloatArray:
    known = np.isfinite(returns)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, returns, 0.0).sum(axis=0) / n
        variance = (np.where(known, returns - mean, 0.0) ** 2).sum(axis=0) / (n - 1)
    result: FloatArray = np.where(n >= MIN_ROWS, variance, np.nan)
    return result


def _filled(C: FloatArray, moved: np.ndarray) -> FloatArray:
    known = np.isfinite(C) & ~np.eye(len(C), dtype=bool)
    typical = float(C[known].mean()) if known.any() else 0.0
    result: FloatArray = np.where(np.isfinite(C), C, np.where(np.outer(moved, moved), typical, 0.0))
    return result


def _shrinkage(returns: FloatArray) -> float:
    # On standardised returns with gaps as zeros, which weighs every symbol alike and adds no comovement of its own.
    deviation = np.sqrt(_variances(returns))
    with np.errstate(invalid="ignore", divide="ignore"):
        standard = returns / deviation
    return float(ledoit_wolf_shrinkage(np.where(np.isfinite(standard), standard, 0.0)))

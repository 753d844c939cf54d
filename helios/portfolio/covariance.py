"""Covariance of simple returns: joined on time, shrunk, positive semi-definite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.covariance import ledoit_wolf

from helios.domain.decisions import FloatArray
from helios.errors import InsufficientHistoryError

MIN_ROWS = 20


def shrunk_covariance(returns: FloatArray) -> FloatArray:
    """Estimate the covariance by Ledoit-Wolf shrinkage towards a scaled identity.

    Parameters
    ----------
    returns : ndarray of shape (n_observations, n_assets)
        Simple returns. Rows with a NaN in any column are left out, so every entry rests on the same moments in time.

    Returns
    -------
    Sigma : ndarray of shape (n_assets, n_assets)
        In the squared units of one row; symmetric, positive semi-definite.

    Raises
    ------
    InsufficientHistoryError
        If fewer than 20 complete rows remain.

    References
    ----------
    .. [1] Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", JMVA 2004.
    """
    complete = returns[np.isfinite(returns).all(axis=1)]
    if len(complete) < MIN_ROWS or returns.shape[1] == 0:
        raise InsufficientHistoryError(f"{len(complete)} complete rows of returns, {MIN_ROWS} needed")
    Sigma, _ = ledoit_wolf(complete)
    return repair_psd(np.asarray(Sigma, dtype=np.float64))


def repair_psd(matrix: FloatArray) -> FloatArray:
    """Return the nearest (Frobenius) positive semi-definite matrix: symmetric part, negative eigenvalues set to 0."""
    symmetric = (matrix + matrix.T) / 2
    values, vectors = np.linalg.eigh(symmetric)
    if values[0] >= 0:
        return symmetric
    repaired: FloatArray = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return (repaired + repaired.T) / 2


def aligned_returns(closes: Mapping[str, Mapping[int, float]], symbols: Sequence[str], step_ns: int) -> FloatArray:
    """Join the closes of `symbols` on one time grid and return simple returns over one step.

    Parameters
    ----------
    closes : mapping
        Per symbol, close by close time (ns UTC).
    symbols : sequence of str
        Column order.
    step_ns : int
        Only closes at multiples of the step are used; a return needs both its ends, so gaps give NaN and never a return
        over a longer time.

    Returns
    -------
    returns : ndarray of shape (n_steps, n_symbols)
        NaN where either close is missing.
    """
    times = [t for s in symbols for t in closes.get(s, {}) if t % step_ns == 0]
    if not times:
        return np.empty((0, len(symbols)))
    first = min(times)
    grid = np.full(((max(times) - first) // step_ns + 1, len(symbols)), np.nan)
    for column, symbol in enumerate(symbols):
        for t, close in closes.get(symbol, {}).items():
            if t % step_ns == 0:
                grid[(t - first) // step_ns, column] = close
    returns: FloatArray = grid[1:] / grid[:-1] - 1.0
    return returns

"""Covariance of simple returns: joined on time, estimated by name, positive semi-definite.

| name | estimate | equals |
|---|---|---|
| `sample` | unbiased sample covariance | skfolio EmpiricalCovariance |
| `ledoit_wolf` | shrunk towards a scaled identity | scikit-learn, PyPortfolioOpt `ledoit_wolf()` |
| `oas` | oracle approximating shrinkage towards a scaled identity | scikit-learn, PyPortfolioOpt `oracle_approximating()` |
| `constant_correlation` | shrunk towards equal correlations, variances kept | PyPortfolioOpt `ledoit_wolf("constant_correlation")` |
| `ewma` | exponentially weighted, mean taken as zero | skfolio EWCovariance |
| `denoised` | eigenvalues within Marchenko and Pastur's noise averaged, variances kept | |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.covariance import ledoit_wolf, oas

from helios.domain.decisions import FloatArray
from helios.errors import ConfigError, InsufficientHistoryError, SolverError

MIN_ROWS = 20
HALF_LIFE_ROWS = 30.0


def estimate(returns: FloatArray, name: str = "ledoit_wolf", half_life_rows: float = HALF_LIFE_ROWS) -> FloatArray:
    """Estimate the covariance of returns by the named estimator.

    Parameters
    ----------
    returns : ndarray of shape (n_observations, n_assets)
        Simple returns, oldest first. Rows with a NaN in any column are left out, so every entry rests on the same moments in time.
    name : str
        One of `ESTIMATORS`.
    half_life_rows : float
        Rows after which a return counts half; of `ewma` alone.

    Returns
    -------
    Sigma : ndarray of shape (n_assets, n_assets)
        In the squared units of one row; symmetric, positive semi-definite (singular where an asset did not move, and for
        `sample` and `ewma` where there are fewer rows than assets).

    Raises
    ------
    InsufficientHistoryError
        If fewer than 20 complete rows remain.
    ConfigError
        If there is no estimator of that name.
    """
    if name not in ESTIMATORS:
        raise ConfigError(f"unknown covariance {name!r}: {', '.join(ESTIMATORS)}")
    if not half_life_rows > 0:
        raise ConfigError(f"a half-life of {half_life_rows} rows is not above 0")
    complete = returns[np.isfinite(returns).all(axis=1)]
    if len(complete) < MIN_ROWS or returns.shape[1] == 0:
        raise InsufficientHistoryError(f"{len(complete)} complete rows of returns, {MIN_ROWS} needed")
    return repair_psd(ESTIMATORS[name](complete, half_life_rows))


def correlation(sigma: FloatArray) -> FloatArray:
    """Return the correlations of a covariance; an asset without variance has correlation 0 with the others and 1 with itself."""
    deviation = np.sqrt(np.maximum(np.diag(sigma), 0.0))
    scale = np.zeros_like(deviation)
    np.divide(1.0, deviation, out=scale, where=deviation > 0)
    result: FloatArray = np.clip(sigma * np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(result, 1.0)
    return result


def repair_psd(matrix: FloatArray) -> FloatArray:
    """Return the nearest (Frobenius) positive semi-definite matrix: symmetric part, negative eigenvalues set to 0.

    Raises
    ------
    SolverError
        If an entry is not finite.
    """
    if not np.isfinite(matrix).all():
        raise SolverError("a covariance is not finite")
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
    grid = closes_grid(closes, symbols, step_ns)[1]
    returns: FloatArray = grid[1:] / grid[:-1] - 1.0
    return returns


def closes_grid(
    closes: Mapping[str, Mapping[int, float]], symbols: Sequence[str], step_ns: int, first_ns: int | None = None
) -> tuple[np.ndarray, FloatArray]:
    """Return the times (int64 ns) from the first to the last known close on the step, and closes by time and symbol, NaN unknown.

    With `first_ns`, a multiple of the step, closes before it are left out.
    """
    columns = [_on_step(closes.get(symbol, {}), step_ns, first_ns) for symbol in symbols]
    bounds = [(times.min(), times.max()) for times, _ in columns if len(times)]
    if not bounds:
        return np.empty(0, dtype=np.int64), np.empty((0, len(symbols)))
    first, last = int(min(b[0] for b in bounds)), int(max(b[1] for b in bounds))
    grid = np.full(((last - first) // step_ns + 1, len(symbols)), np.nan)
    for column, (times, values) in enumerate(columns):
        grid[(times - first) // step_ns, column] = values
    # Not arange with a stop and a step: it counts in doubles, which are too coarse for nanoseconds.
    return first + step_ns * np.arange(len(grid), dtype=np.int64), grid


def _on_step(closes: Mapping[int, float], step_ns: int, first_ns: int | None) -> tuple[np.ndarray, FloatArray]:
    times = np.fromiter(closes.keys(), dtype=np.int64, count=len(closes))
    values = np.fromiter(closes.values(), dtype=np.float64, count=len(closes))
    kept = times % step_ns == 0
    if first_ns is not None:
        kept &= times >= first_ns
    return times[kept], values[kept]


def _sample(returns: FloatArray, _: float) -> FloatArray:
    return np.atleast_2d(np.cov(returns, rowvar=False))


def _ledoit_wolf(returns: FloatArray, _: float) -> FloatArray:
    return np.asarray(ledoit_wolf(returns)[0], dtype=np.float64)


def _oas(returns: FloatArray, _: float) -> FloatArray:
    return np.asarray(oas(returns)[0], dtype=np.float64)


def _ewma(returns: FloatArray, half_life_rows: float) -> FloatArray:
    # The mean of daily returns is far smaller than its own error: RiskMetrics (1996, section 5.3.1) takes it as zero.
    weights = 0.5 ** (np.arange(len(returns))[::-1] / half_life_rows)
    result: FloatArray = (returns * (weights / weights.sum())[:, None]).T @ returns
    return result


def _constant_correlation(returns: FloatArray, _: float) -> FloatArray:
    # Ledoit and Wolf, "Honey, I Shrunk the Sample Covariance Matrix", J. Portfolio Management 2004, appendices A and B.
    t, n = returns.shape
    S = _sample(returns, _)
    deviation = np.sqrt(np.diag(S))
    if n == 1 or (deviation <= 0).any():
        return S  # one asset has no correlation, and one that did not move has none either
    outer = np.outer(deviation, deviation)
    r_bar = ((S / outer).sum() - n) / (n * (n - 1))
    F = r_bar * outer
    np.fill_diagonal(F, np.diag(S))
    gamma = float(((S - F) ** 2).sum())
    if gamma <= 0:
        return S  # two assets: the sample is its own target
    kappa = _pi_minus_rho(returns - returns.mean(axis=0), S, r_bar) / gamma
    delta = min(max(kappa / t, 0.0), 1.0)
    shrunk: FloatArray = delta * F + (1.0 - delta) * S
    return shrunk


def _pi_minus_rho(X: FloatArray, S: FloatArray, r_bar: float) -> float:
    # pi: sum of the asymptotic variances of the entries of S; rho: of their covariances with the target's.
    t = len(X)
    second, variance, deviation = X.T @ X / t, np.diag(S), np.sqrt(np.diag(S))
    pi = (X**2).T @ (X**2) / t - 2 * second * S + S**2
    theta = (X**3).T @ X / t - np.diag(second)[:, None] * S - second * variance[:, None] + variance[:, None] * S
    np.fill_diagonal(theta, 0.0)
    rho = np.trace(pi) + r_bar * float((np.outer(1 / deviation, deviation) * theta).sum())
    return float(pi.sum() - rho)


def _denoised(returns: FloatArray, _: float) -> FloatArray:
    # Laloux, Cizeau, Bouchaud and Potters, "Noise Dressing of Financial Correlation Matrices", PRL 83, 1999: eigenvalues of the
    # correlations below the edge of pure noise are replaced by their mean; the edge follows the variance left to noise.
    S = _sample(returns, _)
    values, vectors = np.linalg.eigh(correlation(S))
    width = (1.0 + np.sqrt(S.shape[0] / len(returns))) ** 2
    n_noise, previous = len(values), -1
    while n_noise != previous:
        previous, n_noise = n_noise, int((values <= values[:n_noise].mean() * width).sum())
    values[:n_noise] = values[:n_noise].mean()
    deviation = np.sqrt(np.diag(S))
    result: FloatArray = correlation((vectors * values) @ vectors.T) * np.outer(deviation, deviation)
    return result


ESTIMATORS: Mapping[str, Callable[[FloatArray, float], FloatArray]] = {
    "sample": _sample,
    "ledoit_wolf": _ledoit_wolf,
    "oas": _oas,
    "constant_correlation": _constant_correlation,
    "ewma": _ewma,
    "denoised": _denoised,
}

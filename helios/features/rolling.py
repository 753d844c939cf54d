"""Sums, extremes and moments of trailing windows, each from the window alone.

Running sums (add the new, subtract the old) carry the rounding of everything they ever saw: after one extreme bar they are
wrong for good, and a history that starts later gives other digits. Here a window of length L is put together from blocks of
1, 2, 4, ... values (the bits of L), so that a value depends on its L inputs and on nothing else, at a cost of log2 L passes.
NaN stays as long as it is inside the window and leaves with it.

References
----------
.. [1] Pebay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical moments",
   Sandia report SAND2008-6212, 2008: merging the moments of two blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helios.domain.decisions import FloatArray
from helios.domain.market import NAN

_Block = tuple[FloatArray, ...]
_Merge = Callable[[_Block, int, _Block, int], _Block]


def shift(x: FloatArray, n_bars: int) -> FloatArray:
    """Return x as it was `n_bars` before, shape (n,), NaN for the first `n_bars`."""
    out = np.full(len(x), NAN)
    if n_bars < len(x):
        out[n_bars:] = x[: len(x) - n_bars]
    return out


def change(x: FloatArray, n_bars: int = 1) -> FloatArray:
    """Return x minus x `n_bars` before, shape (n,)."""
    return x - shift(x, n_bars)


def ratio(numerator: FloatArray, denominator: FloatArray, otherwise: float = NAN) -> FloatArray:
    """Return numerator / denominator; `otherwise` where the denominator is 0 (unless the numerator is NaN)."""
    filled = np.where(np.isnan(denominator) | np.isnan(numerator), NAN, otherwise)
    return np.divide(numerator, denominator, out=filled, where=denominator != 0.0)


def rolling_sum(x: FloatArray, length: int) -> FloatArray:
    """Return the sum of the last `length` values at each row, shape (n,), NaN before there are as many."""
    return _fold((x,), length, lambda a, _na, b, _nb: (a[0] + b[0],))[0]


def rolling_mean(x: FloatArray, length: int) -> FloatArray:
    """Return the mean of the last `length` values at each row, shape (n,)."""
    return rolling_sum(x, length) / length


def rolling_max(x: FloatArray, length: int) -> FloatArray:
    """Return the largest of the last `length` values, shape (n,)."""
    return _fold((x,), length, lambda a, _na, b, _nb: (np.maximum(a[0], b[0]),))[0]


def rolling_min(x: FloatArray, length: int) -> FloatArray:
    """Return the smallest of the last `length` values, shape (n,)."""
    return _fold((x,), length, lambda a, _na, b, _nb: (np.minimum(a[0], b[0]),))[0]


def rolling_std(x: FloatArray, length: int, ddof: int = 1) -> FloatArray:
    """Return the deviation of the last `length` values; exactly 0 where they are all the same."""
    return np.sqrt(_moments(x, length, 2)[1] / (length - ddof))


def rolling_skew(x: FloatArray, length: int) -> FloatArray:
    """Return the (population) skewness of the last `length` values; NaN where they are all the same."""
    _, m2, m3 = _moments(x, length, 3)
    return math.sqrt(length) * ratio(m3, m2**1.5)


def rolling_kurtosis(x: FloatArray, length: int) -> FloatArray:
    """Return the (population) excess kurtosis of the last `length` values; NaN where they are all the same."""
    _, m2, _, m4 = _moments(x, length, 4)
    return length * ratio(m4, m2 * m2) - 3.0


def rolling_rank(x: FloatArray, length: int) -> FloatArray:
    """Return the share of the last `length` values that are at most the newest, shape (n,), in (0, 1]."""
    n_below = np.ones(len(x))
    for lag in range(1, length):
        n_below += shift(x, lag) <= x
    return np.where(np.isnan(rolling_sum(x, length)), NAN, n_below / length)


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through the last values, by least squares. Arrays of shape (n,).

    Attributes
    ----------
    mean, slope : ndarray
        Centre of the line and its rise per bar.
    r_squared : ndarray
        Explained part of the variance, 0..1; NaN where the values are all the same.
    """

    mean: FloatArray
    slope: FloatArray
    r_squared: FloatArray


def rolling_trend(x: FloatArray, length: int) -> Trend:
    """Fit a line through the last `length` values at each row."""
    mean, m2, product = _fold((x, np.zeros(len(x)), np.zeros(len(x))), length, _merged_trend)
    spread = length * (length * length - 1) / 12.0  # sum of squared distances of 0..length-1 from their mean
    r_squared = np.minimum(ratio(product * product, spread * m2), 1.0)
    return Trend(mean, product / spread, r_squared)


def rolling_covariance(x: FloatArray, y: FloatArray, length: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the summed squares and products of deviations of the last `length` pairs: (of x, of y, of both), shapes (n,)."""
    zero = np.zeros(len(x))
    _, _, xx, yy, xy = _fold((x, y, zero, zero, zero), length, _merged_covariance)
    return xx, yy, xy


def _fold(block: _Block, length: int, merge: _Merge) -> _Block:
    # `block` describes the newest `size` values of each row, `whole` the newest `covered`; both grow by older neighbours.
    whole, covered, size = block, 0, 1
    while size <= length:
        if length & size:
            older = _shifted(block, covered)
            whole = merge(older, size, whole, covered) if covered else older
            covered += size
        if size * 2 <= length:
            block = merge(_shifted(block, size), size, block, size)
        size *= 2
    return whole


def _shifted(block: _Block, n_bars: int) -> _Block:
    return tuple(shift(x, n_bars) for x in block) if n_bars else block


def _moments(x: FloatArray, length: int, order: int) -> _Block:
    # Mean, then the sums of the 2nd, 3rd and 4th powers of the deviations from it, up to `order`.
    return _fold((x, *(np.zeros(len(x)) for _ in range(order - 1))), length, _merged_moments)


def _merged_moments(a: _Block, na: int, b: _Block, nb: int) -> _Block:
    n = na + nb
    delta = b[0] - a[0]
    step = delta / n
    merged = [a[0] + step * nb, a[1] + b[1] + delta * step * (na * nb)]
    if len(a) > 2:
        merged.append(a[2] + b[2] + delta * step**2 * (na * nb * (na - nb)) + 3.0 * step * (na * b[1] - nb * a[1]))
    if len(a) > 3:
        fourth = delta * step**3 * (na * nb * (na * na - na * nb + nb * nb))
        second = 6.0 * step**2 * (na * na * b[1] + nb * nb * a[1])
        merged.append(a[3] + b[3] + fourth + second + 4.0 * step * (na * b[2] - nb * a[2]))
    return tuple(merged)


def _merged_trend(a: _Block, na: int, b: _Block, nb: int) -> _Block:
    # The distance of the two blocks' centres in time is known, so no index (and none of its rounding) enters.
    n = na + nb
    delta = b[0] - a[0]
    weight = na * nb / n
    return a[0] + delta * nb / n, a[1] + b[1] + delta * delta * weight, a[2] + b[2] + delta * (weight * n / 2.0)


def _merged_covariance(a: _Block, na: int, b: _Block, nb: int) -> _Block:
    n = na + nb
    dx, dy, weight = b[0] - a[0], b[1] - a[1], na * nb / n
    means = (a[0] + dx * nb / n, a[1] + dy * nb / n)
    return (*means, a[2] + b[2] + dx * dx * weight, a[3] + b[3] + dy * dy * weight, a[4] + b[4] + dx * dy * weight)

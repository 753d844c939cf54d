from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helios.domain.decisions import FloatArray
from helios.features.rolling import (
    ratio,
    rolling_covariance,
    rolling_kurtosis,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_rank,
    rolling_skew,
    rolling_std,
    rolling_sum,
    rolling_trend,
    shift,
)

LENGTHS = (2, 3, 5, 7, 8, 20, 33, 50, 64, 127, 200)
ROLLING: dict[str, Callable[[FloatArray, int], FloatArray]] = {
    "sum": rolling_sum, "mean": rolling_mean, "max": rolling_max, "min": rolling_min, "std": rolling_std,
    "skew": rolling_skew, "kurtosis": rolling_kurtosis, "rank": rolling_rank,
    "slope": lambda x, n: rolling_trend(x, n).slope, "r_squared": lambda x, n: rolling_trend(x, n).r_squared,
}  # fmt: skip


def series(n: int = 600, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_t(4, n) * 0.01 + 0.5


@pytest.mark.parametrize("length", LENGTHS)
def test_windows_equal_pandas(length: int) -> None:
    x = series()
    window = pd.Series(x).rolling(length)
    np.testing.assert_allclose(rolling_sum(x, length), window.sum(), rtol=1e-12)
    np.testing.assert_allclose(rolling_mean(x, length), window.mean(), rtol=1e-12)
    np.testing.assert_array_equal(rolling_max(x, length), window.max())
    np.testing.assert_array_equal(rolling_min(x, length), window.min())
    np.testing.assert_allclose(rolling_std(x, length), window.std(), rtol=1e-8)
    np.testing.assert_allclose(rolling_rank(x, length), window.rank(pct=True, method="max"), rtol=1e-12)


@pytest.mark.parametrize("length", [n for n in LENGTHS if n > 3])
def test_moments_and_lines_equal_scipys_row_by_row(length: int) -> None:
    x = series()
    windows = np.lib.stride_tricks.sliding_window_view(x, length)
    np.testing.assert_allclose(rolling_skew(x, length)[length - 1 :], stats.skew(windows, axis=1), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(rolling_kurtosis(x, length)[length - 1 :], stats.kurtosis(windows, axis=1), rtol=1e-9, atol=1e-11)
    trend = rolling_trend(x, length)
    for end in (length - 1, 250, 599):
        line = stats.linregress(np.arange(length), x[end - length + 1 : end + 1])
        assert trend.slope[end] == pytest.approx(line.slope, rel=1e-9)
        assert trend.r_squared[end] == pytest.approx(line.rvalue**2, rel=1e-7)
        assert trend.mean[end] == pytest.approx(x[end - length + 1 : end + 1].mean(), rel=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_covariance_equals_numpys(length: int) -> None:
    x, y = series(seed=1), series(seed=2)
    xx, yy, xy = rolling_covariance(x, y, length)
    expected = np.cov(x[400 - length : 400], y[400 - length : 400]) * (length - 1)
    np.testing.assert_allclose([[xx[399], xy[399]], [xy[399], yy[399]]], expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ROLLING)
@pytest.mark.parametrize("length", [5, 20, 50])
def test_a_window_has_the_same_bits_wherever_the_history_begins(name: str, length: int) -> None:
    x = series()
    whole = ROLLING[name](x, length)
    for start in (1, 2, 3, 17, 100):
        np.testing.assert_array_equal(ROLLING[name](x[start:], length)[length - 1 :], whole[start + length - 1 :])


@pytest.mark.parametrize("name", ROLLING)
@pytest.mark.parametrize("bad", [np.nan, 1e200])
def test_a_bad_value_leaves_with_its_window(name: str, bad: float) -> None:
    x = series()
    spoilt = x.copy()
    spoilt[100] = bad
    with np.errstate(all="ignore"):
        clean, out = ROLLING[name](x, 20), ROLLING[name](spoilt, 20)
    np.testing.assert_array_equal(out[:100], clean[:100])
    np.testing.assert_array_equal(out[120:], clean[120:])
    if np.isnan(bad):
        assert np.isnan(out[100:120]).all()


@pytest.mark.parametrize("length", LENGTHS)
def test_equal_values_have_no_deviation_at_all(length: int) -> None:
    x = np.full(300, 0.1)
    assert (rolling_std(x, length)[length - 1 :] == 0.0).all()
    assert (rolling_trend(x, length).slope[length - 1 :] == 0.0).all()
    assert np.isnan(rolling_skew(x, length)).all()


@pytest.mark.parametrize("name", ROLLING)
def test_short_histories_are_unknown(name: str) -> None:
    assert np.isnan(ROLLING[name](series(19), 20)).all()
    assert ROLLING[name](series(0), 20).shape == (0,)


def test_shift_and_ratio() -> None:
    np.testing.assert_array_equal(shift(np.arange(4.0), 2), [np.nan, np.nan, 0.0, 1.0])
    np.testing.assert_array_equal(shift(np.arange(2.0), 5), [np.nan, np.nan])
    x, y = np.array([1.0, 0.0, np.nan, 4.0]), np.array([0.0, 0.0, 0.0, 2.0])
    np.testing.assert_array_equal(ratio(x, y), [np.nan, np.nan, np.nan, 2.0])
    np.testing.assert_array_equal(ratio(x, y, 0.0), [0.0, 0.0, np.nan, 2.0])

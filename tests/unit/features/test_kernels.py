"""The compiled kernel gives the readable twin's numbers, whatever the market and wherever its blocks end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helios.domain.decisions import N_FEATURES, FloatArray
from helios.domain.market import BAR_VALUES
from helios.errors import DataError
from helios.features import batch, definitions, kernels, recursions
from helios.features.batch import features_of, features_with_reference
from helios.features.definitions import CORRELATION_COLUMN, FEATURE_NAMES
from tests.support.features_numpy import numpy_features
from tests.unit.features.bars import assert_same_features, random_bars

BLOCK = kernels.BLOCK
N_BARS = 2 * BLOCK + 100
ROOT = Path(__file__).resolve().parents[3]


def still(rows: FloatArray) -> FloatArray:
    """The price does not move from row 100 to 400, and the first hundred of these minutes have no trades."""
    rows[100:400, :4] = rows[99, 3]
    rows[100:200, 4:8] = 0.0
    return rows


def jumping(rows: FloatArray) -> FloatArray:
    rows[300:, [0, 1, 2, 3, 5]] *= 1e3
    rows[BLOCK + 10 :, [0, 1, 2, 3, 5]] /= 1e5
    rows[500:600, 4:8] *= 1e6
    return rows


def partly_unknown(rows: FloatArray) -> FloatArray:
    is_unknown = np.random.default_rng(1).random(rows[:, 5:].shape) < 0.01
    rows[:, 5:][is_unknown] = np.nan
    return rows


def candles_alone(rows: FloatArray) -> FloatArray:
    rows[:, 5:] = np.nan
    return rows


def growing_evenly(rows: FloatArray) -> FloatArray:
    # Returns of 0.1 % that differ only by rounding.
    rows[:, :4] = (100.0 * 1.001 ** np.arange(len(rows)))[:, None]
    return rows


MARKETS = (still, jumping, partly_unknown, candles_alone, growing_evenly)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("volatility", [1e-6, 2e-3, 0.1])
def test_kernel_equals_its_twin(market, volatility: float) -> None:  # type: ignore[no-untyped-def]
    rows, reference = market(random_bars(N_BARS, seed=1, volatility=volatility)), random_bars(N_BARS, seed=2)
    assert_same_features(features_with_reference(rows, reference), numpy_features(rows, reference))
    assert_same_features(features_with_reference(reference, rows), numpy_features(reference, rows))


@pytest.mark.parametrize("n_bars", [0, 1, 2, 15, 33, 34, 35, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_any_length_is_the_start_of_a_longer_history(n_bars: int) -> None:
    rows, reference = random_bars(N_BARS, seed=3), random_bars(N_BARS, seed=4)
    whole = features_with_reference(rows, reference)
    part = features_with_reference(rows[:n_bars], reference[:n_bars])
    np.testing.assert_array_equal(part, whole[:n_bars])


@pytest.mark.parametrize("at", [1, 40, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 63, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 50])
def test_the_future_changes_no_bit_of_the_past(at: int) -> None:
    rows, reference = random_bars(N_BARS, seed=5), random_bars(N_BARS, seed=6)
    before = features_with_reference(rows, reference)
    rows[at:], reference[at:] = random_bars(N_BARS - at, seed=7) * 7.0, random_bars(N_BARS - at, seed=8) * 3.0
    after = features_with_reference(rows, reference)
    np.testing.assert_array_equal(after[:at], before[:at])
    assert (after[at] != before[at]).any()


def test_a_window_knows_nothing_from_before_it() -> None:
    # Only the recursive averages remember; they fade. All other columns are those of a history that begins 61 rows earlier.
    rows, reference = random_bars(N_BARS, seed=9), random_bars(N_BARS, seed=10)
    recursive = [FEATURE_NAMES.index(name) for name in ("rsi_14", "rsi_7", "macd", "macd_signal", "ema_12_rel", "ema_26_rel")]
    windowed = [column for column in range(N_FEATURES) if column not in recursive]
    whole = features_with_reference(rows, reference)
    for start in (1, 100, BLOCK - 61, BLOCK - 30, BLOCK):
        later = features_with_reference(rows[start:], reference[start:])
        np.testing.assert_array_equal(later[61:, windowed], whole[start + 61 :, windowed])


@pytest.mark.parametrize("factor", [2.0**20, 2.0**-30])
def test_no_feature_depends_on_the_level_of_prices_or_volumes(factor: float) -> None:
    # Powers of two lose no digit, so not a bit may change: the same bounds hold for a pair at 0.0001 and one at 850,000.
    rows, reference = random_bars(N_BARS, seed=13), random_bars(N_BARS, seed=14)
    before = features_with_reference(rows, reference)
    rows[:, :4] *= factor
    rows[:, [BAR_VALUES.index("volume"), BAR_VALUES.index("buy_volume")]] *= 8.0
    rows[:, BAR_VALUES.index("quote_volume")] *= 8.0 * factor
    reference[:, :4] /= factor
    np.testing.assert_array_equal(features_with_reference(rows, reference), before)


def test_bars_may_be_read_only_strided_or_in_column_order() -> None:
    rows = random_bars(200, seed=11)
    expected = features_of(rows)
    frozen = rows.copy()
    frozen.setflags(write=False)
    for given in (frozen, np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2], np.ascontiguousarray(rows[::-1])[::-1]):
        before = given.copy()
        np.testing.assert_array_equal(features_of(given), expected)
        np.testing.assert_array_equal(given, before)
    assert features_of(rows).flags.c_contiguous
    assert features_of(rows).flags.writeable


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, N_BARS - 1])
def test_the_first_unusable_bar_is_named(at: int) -> None:
    rows = random_bars(N_BARS)
    rows[at, BAR_VALUES.index("low")] = np.nan
    rows[-1, BAR_VALUES.index("volume")] = np.inf
    with pytest.raises(DataError, match=f"bar {at} has unusable prices"):
        features_of(rows)


def test_reference_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match="30 bars against 20"):
        features_with_reference(random_bars(30), random_bars(20))
    with pytest.raises(DataError, match="shape"):
        features_with_reference(random_bars(30), random_bars(30)[:, :5])


def test_correlation_of_returns_that_barely_differ_from_their_mean() -> None:
    # Here sums of squares about 0 would have lost every digit.
    rng = np.random.default_rng(12)
    rows, reference = random_bars(300), random_bars(300)
    drift = np.cumsum(np.full(300, 1e-3))
    rows[:, :4] = np.exp(drift + rng.normal(0.0, 1e-7, 300))[:, None]
    reference[:, :4] = np.exp(drift + rng.normal(0.0, 1e-7, 300))[:, None]
    got, expected = features_with_reference(rows, reference), numpy_features(rows, reference)
    np.testing.assert_allclose(got[:, CORRELATION_COLUMN], expected[:, CORRELATION_COLUMN], rtol=0.0, atol=1e-9)


def test_literal_constants_of_the_kernel_are_those_of_the_definitions() -> None:
    positions = [getattr(kernels, f"_{name}") for name in ("OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "QUOTE", "COUNT", "BUY")]
    positions += [getattr(kernels, f"_{name}") for name in ("SPREAD", "IMBALANCE", "DEPTH", "MOMENTUM", "MICROPRICE")]
    assert positions == list(range(len(BAR_VALUES)))
    assert recursions.RSI_ZERO == kernels.RSI_ZERO
    assert batch._CONSTANT == kernels.CONSTANT
    assert (definitions.CORRELATION_BARS, N_FEATURES, CORRELATION_COLUMN) == (60, 30, 28)
    assert kernels.BACK > definitions.CORRELATION_BARS


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=True
    )
    return done.stdout


@pytest.mark.parametrize("module", ["stream", "window", "batch", "multi"])
def test_the_compiler_is_not_loaded_before_the_first_history(module: str) -> None:
    assert run(f"import sys, helios.features.{module}; print(sorted({{'numba', 'scipy'}} & set(sys.modules)))") == "[]\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_machine_code_is_kept_where_the_environment_says(tmp_path: Path) -> None:
    run("from helios.features.batch import warm_up; warm_up()", NUMBA_CACHE_DIR=str(tmp_path))
    kept = sorted(path.suffix for path in tmp_path.rglob("*features_kernel*"))
    assert kept == [".nbc", ".nbi"]
    hits = "from helios.features import kernels; print(sum(kernels.features_kernel.stats.cache_hits.values()))"
    assert run(hits, NUMBA_CACHE_DIR=str(tmp_path)) == "1\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_features_are_computed_where_no_directory_can_be_written(tmp_path: Path) -> None:
    # Every place that numba tries is taken by a file: not even root can make a directory of it.
    (tmp_path / "file").write_text("")
    code = f"""
import numba.core.caching as caching
blocked = {str(tmp_path / "file" / "below")!r}
for name in ("UserProvidedCacheLocator", "InTreeCacheLocator", "UserWideCacheLocator"):
    getattr(caching, name).get_cache_path = lambda self: blocked
import numpy as np
from helios.features import kernels
from helios.features.batch import features_of
print(features_of(np.ones((60, 13))).shape, sum(kernels.features_kernel.stats.cache_hits.values()))
"""
    assert run(code, NUMBA_CACHE_DIR="") == "(60, 30) 0\n"

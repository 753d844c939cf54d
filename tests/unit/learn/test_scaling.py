from __future__ import annotations

import json

import numpy as np
import pytest

from helios.errors import DataError, InsufficientHistoryError
from helios.learn.scaling import FeatureScaler


@pytest.fixture
def rows() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(5 + i, 2, (500, 30)) for i in range(3)]


def test_training_rows_become_standard(rows: list[np.ndarray]) -> None:
    out = FeatureScaler.fit(rows).transform(np.stack(rows)[None].astype(np.float32))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean(axis=2), 0, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=2), 1, atol=1e-3)


def test_unknown_becomes_the_mean_and_is_not_counted(rows: list[np.ndarray]) -> None:
    holed = [part.copy() for part in rows]
    holed[1][::2, 4] = np.nan
    scaler = FeatureScaler.fit(holed)
    assert scaler.mean[1, 4] == pytest.approx(rows[1][1::2, 4].mean())
    assert (scaler.transform(np.full((1, 3, 2, 30), np.nan, dtype=np.float32)) == 0).all()


def test_feature_never_seen_and_constant_feature_stay_finite(rows: list[np.ndarray]) -> None:
    rows[0][:, 3] = np.nan
    rows[2][:, 7] = 0.1
    scaler = FeatureScaler.fit(rows)
    assert scaler.std[0, 3] == scaler.std[2, 7] == 1.0
    assert np.isfinite(scaler.transform(np.full((1, 3, 2, 30), 0.1, dtype=np.float32))).all()


def test_outliers_are_clipped(rows: list[np.ndarray]) -> None:
    windows = np.array([1e9, -1e9, np.inf], dtype=np.float32)[:, None, None, None] * np.ones((3, 3, 2, 30), dtype=np.float32)
    assert np.unique(FeatureScaler.fit(rows).transform(windows)).tolist() == [-8.0, 0.0, 8.0]


def test_round_trip_through_json(rows: list[np.ndarray]) -> None:
    scaler = FeatureScaler.fit(rows)
    again = FeatureScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    np.testing.assert_array_equal(again.mean, scaler.mean)
    np.testing.assert_array_equal(again.std, scaler.std)


@pytest.mark.parametrize("data", [{}, {"mean": [[0.0]], "std": [[0.0]]}, {"mean": [["x"]], "std": [[1.0]]}])
def test_unusable_scaler_is_refused(data: dict) -> None:
    with pytest.raises(DataError):
        FeatureScaler.from_dict(data)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(InsufficientHistoryError):
        FeatureScaler.fit([np.empty((0, 30))] * 3)

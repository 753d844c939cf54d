from __future__ import annotations

import numpy as np
import pytest

from helios.errors import InsufficientHistoryError
from helios.learn.calibration import (
    Calibration,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability_table,
    softmax,
)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """True logits and labels drawn from them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (20_000, 3))
    labels = (softmax(logits).cumsum(1) < rng.random((20_000, 1))).sum(1).astype(np.int8)
    return logits, labels


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_temperature_undoes_over_and_under_confidence(drawn, factor: float) -> None:
    logits, labels = drawn
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.05)


def test_calibrated_confidence_is_the_hit_rate(drawn) -> None:
    logits, labels = drawn
    raw = expected_calibration_error(softmax(logits * 3), labels)
    calibrated = Calibration(fit_temperature(logits * 3, labels)).probabilities(logits * 3)
    assert raw > 0.1
    assert expected_calibration_error(calibrated, labels) < 0.015


def test_offset_takes_class_weights_out_again(drawn) -> None:
    logits, labels = drawn
    weights = np.array([0.5, 1.0, 3.0])
    weighted = logits + np.log(weights)  # what a loss with these weights makes a network say
    offset = tuple(np.log(weights))
    temperature = fit_temperature(weighted, labels, offset)
    assert temperature == pytest.approx(1.0, rel=0.05)
    found = Calibration(temperature, offset=offset)
    np.testing.assert_allclose(found.probabilities(weighted).mean(0), np.bincount(labels) / len(labels), atol=0.01)


def test_temperature_keeps_the_order_of_classes(drawn) -> None:
    logits, _ = drawn
    assert (Calibration(4.0).probabilities(logits).argmax(1) == logits.argmax(1)).all()


def test_each_kind_of_row_has_its_own_temperature(drawn) -> None:
    logits = drawn[0][:2]
    both = Calibration(2.0, 5.0).probabilities(logits, np.array([False, True]))
    np.testing.assert_array_equal(both[0], Calibration(2.0).probabilities(logits)[0])
    np.testing.assert_array_equal(both[1], Calibration(5.0).probabilities(logits)[1])


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1]] * 4)
    assert expected_calibration_error(probabilities, np.array([0, 0, 1, 1], dtype=np.int8)) == pytest.approx(0.3)


def test_reliability_bins_hold_every_row_once(drawn) -> None:
    logits, labels = drawn
    table = reliability_table(softmax(logits), labels)
    assert sum(b.n_rows for b in table) == len(labels)
    assert all(b.low < b.confidence <= b.high for b in table)


def test_sure_and_wrong_costs_much_but_stays_finite() -> None:
    assert log_loss(np.array([[1.0, 0.0, 0.0]]), np.array([1], dtype=np.int8)) == pytest.approx(34.5, abs=0.1)


def test_empty_slice_is_an_error() -> None:
    with pytest.raises(InsufficientHistoryError):
        fit_temperature(np.empty((0, 3)), np.empty(0, dtype=np.int8))

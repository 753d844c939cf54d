from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
import torch

from helios.domain.decisions import FeatureWindow
from helios.domain.enums import Action
from helios.domain.market import MarketSnapshot
from helios.errors import ConfigError, DataError
from helios.features.definitions import FLOW_BOOK_COLUMNS
from helios.learn.artifact import LoadedModel, ModelCard
from helios.learn.network import TimeframeAttentionNet, example_shape, preset
from helios.learn.predictor import BatchPredictor
from helios.learn.scaling import FeatureScaler


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.manual_seed(1)
    scaler = FeatureScaler(np.zeros((3, 30)), np.ones((3, 30)))
    card = ModelCard(version="t", preset="starter", temperature=1.5, candles_temperature=2.5, logit_offset=(0.1, 0.0, -0.2))
    return LoadedModel(TimeframeAttentionNet(preset("starter")), scaler, card)  # still in training mode


@pytest.fixture(scope="module")
def predictor(model: LoadedModel) -> BatchPredictor:
    return BatchPredictor(model)


def windows(n: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, 2, example_shape(n)).astype(np.float32)
    values[0, :, :, 9] = np.nan
    values[1:2, :, :, list(FLOW_BOOK_COLUMNS)] = np.nan
    return values


def test_probabilities_are_calibrated_and_sum_to_one(predictor: BatchPredictor, model: LoadedModel) -> None:
    values = windows(4)
    probabilities, attention = predictor.predict(values)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=2e-6)
    np.testing.assert_allclose(attention.sum(1), 1, atol=2e-4)
    with torch.inference_mode():
        logits = model.net.eval()(torch.from_numpy(model.scaler.transform(values)))[0].double().numpy()
    np.testing.assert_allclose(probabilities, model.card.calibration.probabilities(logits, [False, True, False, False]), atol=1e-5)


def test_answers_repeat_exactly(model: LoadedModel, predictor: BatchPredictor) -> None:
    again = BatchPredictor(model)
    for a, b in zip(predictor.predict(windows(7)), again.predict(windows(7)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_row_does_not_depend_on_its_neighbours(predictor: BatchPredictor) -> None:
    values = windows(33)
    together, attention = predictor.predict(values)
    for rows in ([0], [32], [5, 1], list(range(32, -1, -1))):
        alone, alone_attention = predictor.predict(values[rows])
        np.testing.assert_allclose(alone, together[rows], atol=1e-6)
        np.testing.assert_allclose(alone_attention, attention[rows], atol=1e-4)


def test_probabilities_have_six_digits(predictor: BatchPredictor) -> None:
    probabilities, attention = predictor.predict(windows(3))
    np.testing.assert_array_equal(probabilities, np.round(probabilities, 6))
    np.testing.assert_array_equal(attention, np.round(attention, 4))


def test_window_without_any_known_value_still_has_an_answer(predictor: BatchPredictor) -> None:
    probabilities, _ = predictor.predict(np.full(example_shape(1), np.nan, dtype=np.float32))
    assert np.isfinite(probabilities).all()


def test_empty_batch_and_wrong_shape(predictor: BatchPredictor) -> None:
    assert predictor.predict(np.empty(example_shape(0), dtype=np.float32))[0].shape == (0, 3)
    with pytest.raises(DataError, match="shape"):
        predictor.predict(np.zeros((2, 3, 59, 30), dtype=np.float32))


def test_predictions_carry_symbol_time_version_and_the_best_class(predictor: BatchPredictor) -> None:
    values = windows(3)
    market = MarketSnapshot("X", Decimal(1), 0)
    asked = [FeatureWindow(f"S{i}", 100 + i, values[i], np.zeros((3, 119)), True, 1.0, 1.0, market) for i in range(3)]
    answers = predictor.predict_windows(asked)
    assert [(a.symbol, a.bar_time, a.model_version) for a in answers] == [(f"S{i}", 100 + i, "t") for i in range(3)]
    for answer in answers:
        assert answer.confidence == max(answer.probabilities)
        assert answer.action == Action(answer.probabilities.index(answer.confidence))
        assert all(type(p) is float for p in (*answer.probabilities, *answer.attention, answer.confidence))
    assert predictor.predict_windows([]) == []


def test_absent_gpu_is_a_configuration_error(model: LoadedModel) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match="cuda"):
        BatchPredictor(model, device="cuda")

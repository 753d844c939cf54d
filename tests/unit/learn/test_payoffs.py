"""What trades gave, per side, from probabilities and exits; and that it travels with each prediction."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from actors.remote_prediction import _prediction
from helios.domain.decisions import FeatureWindow, Payoff
from helios.domain.enums import Action
from helios.domain.market import MarketSnapshot
from helios.learn.artifact import LoadedModel, ModelCard
from helios.learn.labels import BarrierSpec, triple_barrier
from helios.learn.metrics import MIN_TRADES, payoffs_at
from helios.learn.network import TimeframeAttentionNet, example_shape, preset
from helios.learn.predictor import BatchPredictor
from helios.learn.scaling import FeatureScaler

BUY, SELL, HOLD = [0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]


def test_gains_and_losses_are_means_in_stops_of_the_trades_above_the_threshold() -> None:
    n = MIN_TRADES
    probabilities = np.array([BUY] * n + [SELL] * (n - 1) + [HOLD] * 7 + [[0.5, 0.3, 0.2]] * 9)
    stops = np.linspace(0.02, 0.06, len(probabilities))
    returns = np.full((len(probabilities), 2), 9.0)  # of the side that was not taken, and of what was not traded
    won = np.arange(n) % 5 < 3
    returns[:n, 0] = np.where(won, 0.5, -0.4) * stops[:n]
    found = payoffs_at(probabilities, returns, stops, 0.55)
    assert found == {"BUY": {"n_trades": float(n), "win_rate": 0.6, "win_stops": 0.5, "loss_stops": 0.4}}  # too few SELLs
    returns[:n, 0] = 0.01
    assert payoffs_at(probabilities, returns, stops, 0.55) == {}  # nothing lost: no ratio


def test_stops_of_labels_are_those_of_the_barriers() -> None:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.002, 60)))
    volatility = np.full(60, 0.03)
    volatility[3] = np.nan
    outcome = triple_barrier(close, close, close, volatility, 5, 2.0, 2.0, 0.003)
    np.testing.assert_allclose(outcome.stop_pcts[4:], 0.06)
    assert np.isnan(outcome.stop_pcts[3])
    assert outcome.labels[3] == -1


MEASURED = {"BUY": {"n_trades": 120.0, "win_rate": 0.6, "win_stops": 0.5, "loss_stops": 0.4}}
EXPECTED = (Payoff(0.5, 0.4, 120, 2.0, 2.0, 24.0), None, None)


@pytest.fixture(scope="module")
def predictor() -> BatchPredictor:
    torch.manual_seed(1)
    card = ModelCard(version="t", preset="starter", payoffs=MEASURED, barriers=BarrierSpec().to_dict())
    scaler = FeatureScaler(np.zeros((3, 30)), np.ones((3, 30)))
    return BatchPredictor(LoadedModel(TimeframeAttentionNet(preset("starter")), scaler, card))


def test_each_prediction_carries_the_payoff_of_its_side_here_and_over_serve(predictor: BatchPredictor) -> None:
    values = np.random.default_rng(3).normal(0, 2, example_shape(12)).astype(np.float32)
    market = MarketSnapshot("BTC/ZAR", Decimal(1), 1)
    windows = [FeatureWindow("BTC/ZAR", 1, row, True, False, 1.0, 1.0, market) for row in values]
    predictions = predictor.predict_windows(windows)
    assert predictor.payoffs == EXPECTED
    assert {p.payoff for p in predictions if p.action is not Action.BUY} <= {None}
    assert {p.payoff for p in predictions if p.action is Action.BUY} <= {EXPECTED[0]}
    probabilities, attention = predictor.predict(values)
    answer = SimpleNamespace(probabilities=probabilities, attention=attention, model_version="t", payoffs=predictor.payoffs)
    assert [_prediction(w, vars(answer), i) for i, w in enumerate(windows)] == predictions
    probabilities[:] = BUY
    assert _prediction(windows[0], vars(answer), 0).payoff == EXPECTED[0]

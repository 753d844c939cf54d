"""What a network has to beat: the class shares, a logistic regression, and LightGBM where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from helios.domain.decisions import FloatArray
from helios.domain.enums import Action
from helios.learn.dataset import Dataset, IntArray
from helios.learn.metrics import evaluate
from helios.learn.scaling import FeatureScaler

NOT_INSTALLED = "not installed"
REGULARISATION = 0.01  # inverse strength; overlapping labels hold far less information than their number suggests


def baseline_metrics(dataset: Dataset, scaler: FeatureScaler, train: IntArray, test: IntArray) -> dict[str, Any]:
    """Fit the baselines on the training rows and return `evaluate` of each on the test rows.

    All see the newest feature row of the three timeframes (90 numbers), standardised as for the network. They are fitted
    without class weights: they have to be as good in log loss as they can be.
    """
    labels = dataset.labels
    inputs = {name: last_row_inputs(dataset, scaler, rows) for name, rows in (("train", train), ("test", test))}
    answers: dict[str, FloatArray | None] = {
        "majority": class_share_probabilities(labels[train], len(test)),
        "logistic": _logistic(inputs["train"], labels[train], inputs["test"]),
        "lightgbm": _lightgbm(inputs["train"], labels[train], inputs["test"]),
    }
    return {
        name: NOT_INSTALLED if p is None else evaluate(p, labels[test], dataset.exit_returns[test]) for name, p in answers.items()
    }


def last_row_inputs(dataset: Dataset, scaler: FeatureScaler, rows: IntArray) -> NDArray[np.float32]:
    """Return the standardised newest rows: float32 of shape (len(rows), 90)."""
    return scaler.transform(dataset.last_rows(rows)[:, :, None, :]).reshape(len(rows), -1)


def class_share_probabilities(train_labels: NDArray[np.int8], n_rows: int) -> FloatArray:
    """Return the training shares of the classes for every row: predicts the majority class, with the log loss of the prior."""
    counts = np.bincount(train_labels, minlength=len(Action)) + 1.0  # no class is impossible because it was not seen
    return np.tile(counts / counts.sum(), (n_rows, 1))


def _logistic(x: NDArray[np.float32], y: NDArray[np.int8], x_test: NDArray[np.float32]) -> FloatArray:
    model = LogisticRegression(C=REGULARISATION, max_iter=300).fit(x, y)
    return _all_classes(model.predict_proba(x_test), model.classes_)


def _lightgbm(x: NDArray[np.float32], y: NDArray[np.int8], x_test: NDArray[np.float32]) -> FloatArray | None:
    if importlib.util.find_spec("lightgbm") is None:
        return None
    module = importlib.import_module("lightgbm")
    model = module.LGBMClassifier(n_estimators=100, learning_rate=0.03, num_leaves=15, min_child_samples=200, verbose=-1)
    model.fit(x, y)
    return _all_classes(model.predict_proba(x_test), model.classes_)


def _all_classes(probabilities: FloatArray, classes: NDArray[Any]) -> FloatArray:
    """Columns for all three classes, also where the training rows lacked one."""
    out = np.full((len(probabilities), len(Action)), 1e-9)
    out[:, classes.astype(int)] = probabilities
    return np.asarray(out / out.sum(axis=1, keepdims=True))

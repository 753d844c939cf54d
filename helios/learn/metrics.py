"""How good probabilities are: against the labels, as confidences, and as trades after costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

from helios.domain.decisions import FloatArray
from helios.domain.enums import Action
from helios.learn.calibration import expected_calibration_error, log_loss, reliability_table

CLASSES = [int(action) for action in Action]
TRADE_CONFIDENCE = 0.55
MIN_TRADES = 100
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def evaluate(probabilities: FloatArray, labels: NDArray[np.int8], exit_returns: FloatArray) -> dict[str, Any]:
    """Return accuracy, MCC, log loss, calibration error, per-class scores and the trades that the confidences would have made.

    Parameters
    ----------
    probabilities : float64 array of shape (n, 3)
    labels : int8 array of shape (n,)
    exit_returns : float64 array of shape (n, 2)
        Return after costs of the long and of the short.
    """
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=CLASSES, zero_division=0.0)
    return {
        "n_rows": len(labels),
        "accuracy": _round(float((predicted == labels).mean())),
        "mcc": _round(float(matthews_corrcoef(labels, predicted))),
        "log_loss": _round(log_loss(probabilities, labels)),
        "ece": _round(expected_calibration_error(probabilities, labels)),
        "mean_confidence": _round(float(probabilities.max(axis=1).mean())),
        "confusion": confusion_matrix(labels, predicted, labels=CLASSES).tolist(),
        "per_class": {
            action.name: {
                "precision": _round(precision[action]),
                "recall": _round(recall[action]),
                "f1": _round(f1[action]),
                "rows": int(support[action]),
            }
            for action in Action
        },
        "trades": trades_at(probabilities, exit_returns, TRADE_CONFIDENCE),
    }


def trades_at(probabilities: FloatArray, exit_returns: FloatArray, threshold: float) -> dict[str, float]:
    """Return what the BUY and SELL answers with at least `threshold` confidence gave: number, win rate, mean after costs."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    taken = np.flatnonzero((predicted != Action.HOLD) & (confidence >= threshold))
    returns = exit_returns[taken, predicted[taken]]
    if not len(taken):
        return {"threshold": threshold, "n_trades": 0, "win_rate": 0.0, "mean_return": 0.0, "share": 0.0}
    return {
        "threshold": threshold,
        "n_trades": len(taken),
        "win_rate": _round(float((returns > 0).mean())),
        "mean_return": _round(float(returns.mean()), 6),
        "share": _round(len(taken) / len(predicted)),
    }


def payoffs_at(
    probabilities: FloatArray, exit_returns: FloatArray, stop_pcts: FloatArray, threshold: float
) -> dict[str, dict[str, float]]:
    """Return per side what the answers with at least `threshold` confidence really gave: what Kelly's p and b should be.

    Parameters
    ----------
    probabilities : float64 array of shape (n, 3)
    exit_returns : float64 array of shape (n, 2)
        Return after costs of the long and of the short.
    stop_pcts : float64 array of shape (n,)
        Distance of the stop, as a fraction of the price.

    Returns
    -------
    payoffs : dict
        Of BUY and SELL, each left out with fewer than 100 trades or without a win and a loss among them: `n_trades`, `win_rate`,
        and `win_stops` and `loss_stops`, the mean gain of the winners and the mean loss of the others after costs, in stops.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    found = {}
    for side in (Action.BUY, Action.SELL):
        taken = np.flatnonzero((predicted == side) & (confidence >= threshold))
        stops = exit_returns[taken, side] / stop_pcts[taken]
        wins, losses = stops[stops > 0], -stops[stops <= 0]
        if len(taken) >= MIN_TRADES and len(wins) and losses.sum() > 0:
            found[side.name] = {
                "n_trades": float(len(taken)),
                "win_rate": _round(len(wins) / len(taken)),
                "win_stops": _round(float(wins.mean())),
                "loss_stops": _round(float(losses.mean())),
            }
    return found


def confidence_report(probabilities: FloatArray, labels: NDArray[np.int8]) -> dict[str, Any]:
    """Return per predicted class rows, quantiles of the confidence and shares at 0.55 and 0.60; then the reliability table."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    report: dict[str, Any] = {}
    for action in Action:
        chosen = confidence[predicted == action]
        report[action.name] = {
            "rows": len(chosen),
            "quantiles": {str(q): _round(float(np.quantile(chosen, q))) for q in QUANTILES} if len(chosen) else {},
            "max": _round(float(chosen.max())) if len(chosen) else 0.0,
            "share_at_0.55": _round(float((chosen >= 0.55).sum()) / len(predicted)),
            "share_at_0.60": _round(float((chosen >= 0.60).sum()) / len(predicted)),
        }
    report["reliability"] = [
        {"confidence": _round(b.confidence), "accuracy": _round(b.accuracy), "rows": b.n_rows}
        for b in reliability_table(probabilities, labels)
    ]
    return report


def _round(value: float, digits: int = 4) -> float:
    return round(float(value), digits)

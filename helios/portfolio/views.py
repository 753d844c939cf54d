"""Views on expected returns: absolute, on a basket, relative; checked, then turned into the matrices of Black-Litterman."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import ConfigError

HORIZON_DAYS = 365.0
MAX = sys.float_info.max
_KEYS = {"asset", "assets", "long", "short", "return", "confidence", "horizon_days"}
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class View:
    """What a portfolio of assets is expected to return, and how sure that is.

    Attributes
    ----------
    weights : tuple of (symbol, weight)
        Sum to 1 and are positive (absolute), or positive ones sum to 1 and negative ones to -1 (relative: the first beat the
        second).
    daily_return : float
        Expected simple return of that portfolio a day, fraction.
    confidence : float
        0 leaves the prior as it is, 1 makes the view certain.
    """

    weights: tuple[tuple[str, float], ...]
    daily_return: float
    confidence: float

    @classmethod
    def absolute(cls, symbol: str, daily_return: float, confidence: float) -> View:
        """One asset earns `daily_return`."""
        return cls(((symbol, 1.0),), daily_return, confidence)

    @classmethod
    def relative(cls, better: str, worse: str, daily_return: float, confidence: float) -> View:
        """`better` earns `daily_return` more than `worse`."""
        return cls(((better, 1.0), (worse, -1.0)), daily_return, confidence)

    @property
    def label(self) -> str:
        """How the view reads in a message, e.g. `0.5 A/USDT + 0.5 B/USDT - C/USDT`."""
        terms = [f"{'-' if w < 0 else '+'} {'' if abs(w) == 1 else f'{abs(w):g} '}{s}" for s, w in self.weights]
        return " ".join(terms).removeprefix("+ ")


@dataclass(frozen=True, slots=True)
class ViewMatrix:
    """Views in the form of `black_litterman.posterior`: shapes (n_views, n_assets), (n_views,), (n_views,)."""

    P: FloatArray
    Q: FloatArray
    confidences: FloatArray


def view_matrix(views: Sequence[View], symbols: Sequence[str]) -> ViewMatrix:
    """Check the views and return their matrices, columns in the order of `symbols`.

    Raises
    ------
    ConfigError
        With one line that names the first wrong view: an asset that is not among `symbols` or comes twice, weights that are
        neither absolute nor relative, a number that is none, a confidence outside 0..1, a view given twice, two views on the same
        portfolio, or certain views that cannot all be true.
    """
    column = {symbol: i for i, symbol in enumerate(symbols)}
    P = np.zeros((len(views), len(symbols)))
    for row, view in enumerate(views):
        _check(view, column, f"view {row + 1} ({view.label})")
        for symbol, weight in view.weights:
            P[row, column[symbol]] = weight
    made = ViewMatrix(P, np.array([v.daily_return for v in views], dtype=float), np.array([v.confidence for v in views], dtype=float))
    _check_pairs(views)
    _check_certain(made)
    return made


def parse_views(text: str, source: str = "views") -> list[View]:
    """Read views from JSON.

    A list, or `{"views": [...]}`, of objects with `return` and `confidence` and one of: `asset` (a symbol), `assets` (symbol to
    weight, summing to 1), or `long` and `short` (each a symbol or symbol to weight). `return` is over `horizon_days`, by default
    365, and is scaled to a day in proportion.

    Raises
    ------
    ConfigError
        With one line: not JSON, an unknown or missing key, or a value of the wrong kind.
    """
    try:
        tree = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{source} is not JSON: {error}") from None
    entries = tree.get("views") if isinstance(tree, dict) else tree
    if not isinstance(entries, list):
        raise ConfigError(f"{source} is neither a list of views nor an object with a list 'views'")
    return [_view(entry, f"{source}: view {number}") for number, entry in enumerate(entries, 1)]


def _view(entry: Any, where: str) -> View:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is not an object")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise ConfigError(f"{where} has an unknown key {unknown[0]!r}")
    horizon = _number(entry, "horizon_days", where, HORIZON_DAYS)
    if horizon <= 0:
        raise ConfigError(f"{where}: horizon_days must be above 0")
    return View(_weights(entry, where), _number(entry, "return", where) / horizon, _number(entry, "confidence", where))


def _weights(entry: Mapping[str, Any], where: str) -> tuple[tuple[str, float], ...]:
    kinds = [kind for kind in (("asset",), ("assets",), ("long", "short")) if any(key in entry for key in kind)]
    if len(kinds) != 1 or any(key not in entry for key in kinds[0]):
        raise ConfigError(f"{where} needs one of 'asset', 'assets', or 'long' and 'short'")
    signs = {"short": -1.0}
    return tuple((s, signs.get(key, 1.0) * w) for key in kinds[0] for s, w in _side(entry[key], f"{where}: {key}"))


def _side(value: Any, where: str) -> list[tuple[str, float]]:
    if isinstance(value, str):
        return [(value, 1.0)]
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{where} is neither a symbol nor weights by symbol")
    return [(symbol, _number(value, symbol, where)) for symbol in value]


def _number(values: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = values.get(key, default)
    if not is_number(value):
        raise ConfigError(f"{where}: {key!r} is missing or not a number")
    return float(value)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number: not a boolean, and not an integer beyond every float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX <= value <= MAX


def _check(view: View, known: Mapping[str, int], where: str) -> None:
    names = [symbol for symbol, _ in view.weights]
    weights = [weight for _, weight in view.weights]
    for symbol in names:
        if symbol not in known:
            raise ConfigError(f"{where}: unknown asset {symbol!r}; known are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: an asset comes twice")
    if not all(math.isfinite(w) and w != 0 for w in weights):
        raise ConfigError(f"{where}: a weight is 0 or not a number")
    bought, sold = (sum(w for w in weights if (w > 0) == is_bought) for is_bought in (True, False))
    if abs(bought - 1) > _TOLERANCE or (abs(sold + 1) > _TOLERANCE and any(w < 0 for w in weights)):
        raise ConfigError(f"{where}: the weights of a side sum to {bought if abs(bought - 1) > _TOLERANCE else -sold:g}, not to 1")
    if not math.isfinite(view.daily_return):
        raise ConfigError(f"{where}: the expected return is not a number")
    if not 0.0 <= view.confidence <= 1.0:
        raise ConfigError(f"{where}: confidence {view.confidence:g} lies outside 0..1")


def _check_pairs(views: Sequence[View]) -> None:
    seen: dict[tuple[tuple[str, float], ...], tuple[int, float]] = {}
    for number, view in enumerate(views, 1):
        ordered = sorted(view.weights)
        sign = math.copysign(1.0, ordered[0][1])  # B - A is A - B the other way round
        portfolio = tuple((symbol, round(sign * weight, 9)) for symbol, weight in ordered)
        first, expected = seen.setdefault(portfolio, (number, sign * view.daily_return))
        if first != number:
            is_same = math.isclose(expected, sign * view.daily_return, rel_tol=1e-9, abs_tol=1e-15)
            words = "say the same twice" if is_same else "contradict each other"
            raise ConfigError(f"views {first} and {number} ({view.label}) {words}")


def _check_certain(made: ViewMatrix) -> None:
    # Certain views are equations; they can all hold only if one solution meets them all.
    P, Q = made.P[made.confidences == 1.0], made.Q[made.confidences == 1.0]
    if len(Q) < 2:
        return
    solution = np.linalg.lstsq(P, Q, rcond=None)[0]
    if np.abs(P @ solution - Q).max() > 1e-9 * max(float(np.abs(Q).max()), 1e-12):
        raise ConfigError("the views with confidence 1 contradict each other: they cannot all be true")

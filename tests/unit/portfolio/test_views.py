"""Views: what is accepted, what each wrong one says, and the matrices they become."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from helios.errors import ConfigError
from helios.portfolio.views import View, parse_views, view_matrix

SYMBOLS = ("A", "B", "C")


def test_absolute_relative_and_basket_views_become_rows() -> None:
    basket = View((("A", 0.5), ("B", 0.5), ("C", -1.0)), 0.003, 0.2)
    made = view_matrix([View.absolute("B", 0.001, 1.0), View.relative("C", "A", 0.002, 0.5), basket], SYMBOLS)
    np.testing.assert_array_equal(made.P, [[0, 1, 0], [-1, 0, 1], [0.5, 0.5, -1]])
    np.testing.assert_array_equal(made.Q, [0.001, 0.002, 0.003])
    np.testing.assert_array_equal(made.confidences, [1.0, 0.5, 0.2])


def test_no_views_are_matrices_without_rows() -> None:
    made = view_matrix([], SYMBOLS)
    assert (made.P.shape, made.Q.shape, made.confidences.shape) == ((0, 3), (0,), (0,))


def test_a_file_says_the_same_in_words() -> None:
    entries: list[dict[str, Any]] = [
        {"asset": "A", "return": 0.73, "confidence": 0.5},
        {"long": "B", "short": {"A": 0.25, "C": 0.75}, "return": 0.02, "horizon_days": 10, "confidence": 0},
        {"assets": {"B": 0.4, "C": 0.6}, "return": -0.1, "confidence": 1},
    ]
    views = parse_views(json.dumps({"views": entries}))
    assert views == parse_views(json.dumps(entries))
    assert views[0] == View.absolute("A", 0.002, 0.5)
    assert views[1] == View((("B", 1.0), ("A", -0.25), ("C", -0.75)), 0.002, 0.0)
    assert views[1].label == "B - 0.25 A - 0.75 C"
    assert views[2].weights == (("B", 0.4), ("C", 0.6))


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ([View.absolute("X", 0.1, 0.5)], "view 1 (X): unknown asset 'X'; known are A, B, C"),
        ([View((("A", 0.5), ("A", 0.5)), 0.1, 0.5)], "an asset comes twice"),
        ([View((("A", 0.7),), 0.1, 0.5)], "the weights of a side sum to 0.7, not to 1"),
        ([View((("A", 1.0), ("B", -0.5)), 0.1, 0.5)], "the weights of a side sum to 0.5, not to 1"),
        ([View((("A", -1.0),), 0.1, 0.5)], "sum to 0, not to 1"),
        ([View((), 0.1, 0.5)], "sum to 0, not to 1"),
        ([View((("A", 1.0), ("B", 0.0)), 0.1, 0.5)], "a weight is 0 or not a number"),
        ([View((("A", math.nan),), 0.1, 0.5)], "a weight is 0 or not a number"),
        ([View.absolute("A", math.inf, 0.5)], "the expected return is not a number"),
        ([View.absolute("A", 0.1, 1.01)], "confidence 1.01 lies outside 0..1"),
        ([View.absolute("A", 0.1, -0.1)], "confidence -0.1 lies outside 0..1"),
        ([View.absolute("A", 0.1, math.nan)], "confidence nan lies outside 0..1"),
        ([View.absolute("A", 0.1, 0.5), View.absolute("A", 0.1, 0.6)], "views 1 and 2 (A) say the same twice"),
        ([View.absolute("A", 0.1, 0.5), View.absolute("A", 0.2, 0.5)], "views 1 and 2 (A) contradict each other"),
        ([View.relative("A", "B", 0.1, 0.5), View.relative("B", "A", -0.1, 0.5)], "say the same twice"),
        ([View.relative("A", "B", 0.1, 0.5), View.relative("B", "A", 0.1, 0.5)], "contradict each other"),
    ],
)  # fmt: skip
def test_each_wrong_view_has_its_error(views: list[View], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        view_matrix(views, SYMBOLS)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_certain_views_must_be_possible_together() -> None:
    chain = [View.relative("A", "B", 0.01, 1.0), View.relative("B", "C", 0.01, 1.0)]
    view_matrix([*chain, View.relative("A", "C", 0.02, 1.0)], SYMBOLS)
    view_matrix([*chain, View.relative("A", "C", 0.5, 0.9)], SYMBOLS)  # not certain: a matter of weight
    with pytest.raises(ConfigError, match="cannot all be true"):
        view_matrix([*chain, View.relative("A", "C", 0.5, 1.0)], SYMBOLS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "v.json is not JSON"),
        ("[" * 100_000, "v.json is not JSON"),
        ("3", "neither a list of views"),
        ('{"view": []}', "neither a list of views"),
        ("[1]", "view 1 is not an object"),
        ('[{"asset": "A", "return": 0.1, "confidence": 1, "weight": 1}]', "unknown key 'weight'"),
        ('[{"return": 0.1, "confidence": 1}]', "needs one of"),
        ('[{"long": "A", "return": 0.1, "confidence": 1}]', "needs one of"),
        ('[{"asset": "A", "long": "B", "short": "C", "return": 0.1, "confidence": 1}]', "needs one of"),
        ('[{"asset": "A", "confidence": 1}]', "'return' is missing or not a number"),
        ('[{"asset": "A", "return": true, "confidence": 1}]', "'return' is missing or not a number"),
        ('[{"asset": "A", "return": NaN, "confidence": 1}]', "'return' is missing or not a number"),
        ('[{"asset": "A", "return": 0.1, "confidence": "high"}]', "'confidence' is missing or not a number"),
        ('[{"asset": "A", "return": 0.1, "confidence": 1, "horizon_days": 0}]', "horizon_days must be above 0"),
        ('[{"assets": {}, "return": 0.1, "confidence": 1}]', "assets is neither a symbol nor weights"),
        ('[{"assets": {"A": "all"}, "return": 0.1, "confidence": 1}]', "'A' is missing or not a number"),
    ],
    ids=range(16),
)  # fmt: skip
def test_each_wrong_file_has_its_error(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_views(text, "v.json")
    assert words in str(caught.value)

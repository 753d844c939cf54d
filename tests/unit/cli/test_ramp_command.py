"""What `helios ramp` says of a step."""

from __future__ import annotations

import json
import math

import pytest

from helios.cli.ramp import _lines, ramp_answer
from helios.risk.ramp import RampFacts

GOOD = RampFacts(1_700_000_000_000_000_000, 7.25, 6, 0.031, 0, is_halted=False)


def test_a_good_week_names_the_next_step_and_who_sets_it() -> None:
    answer = ramp_answer(2, GOOD, 0.15)
    assert (answer["step"], answer["share"], answer["permitted"]) == (2, 0.25, 3)
    assert answer["facts"] == {
        "since": "2023-11-14T22:13:20+00:00", "days": 7.25, "closed_trades": 6, "drawdown": 0.031, "limits_broken": 0,
        "halted": False,
    }  # fmt: skip
    text = "\n".join(_lines(answer))
    assert text.startswith("step 2 of 5: 25% of the capital")
    assert "permitted is step 3: 50% of the intended capital is permitted; a person sets risk.ramp_step" in text


@pytest.mark.parametrize(("step", "facts", "words"), [
    (None, None, "there is no ramp"),
    (0, None, "no run has begun at this step"),
    (3, RampFacts(1, 6.0, 9, 0.01, 0, is_halted=False), "stay: 6.0 days at this step, 7 are needed"),
    (3, RampFacts(1, 9.0, 9, math.nan, 0, is_halted=False), "stay: drawdown"),
    (3, RampFacts(1, 9.0, 9, 0.01, 0, is_halted=True), "permitted is step 2: trading was halted"),
])  # fmt: skip
def test_everything_else_says_why(step: int | None, facts: RampFacts | None, words: str) -> None:
    answer = ramp_answer(step, facts, 0.15)
    assert words in "\n".join(_lines(answer))
    json.dumps(answer, allow_nan=False)

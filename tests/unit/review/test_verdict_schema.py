"""The forced answer: aliases, clipping, refusal of what does not fit."""

from __future__ import annotations

import math

import pytest

from helios.domain.enums import VerdictKind
from helios.errors import ProtocolError
from helios.review.schema import clip, tool_schema
from tests.support.review_values import make_plan

PLAN = make_plan()


def answer(**changes: object) -> dict[str, object]:
    return {"decision": "APPROVE", "size_multiplier": 1.0, "reasoning": "Fine.", "risk_flags": ["TREND"], **changes}


@pytest.mark.parametrize(
    ("decision", "multiplier", "kind", "kept"),
    [
        ("APPROVE", 1.0, VerdictKind.APPROVE, 1.0),
        ("EXECUTE", 1, VerdictKind.APPROVE, 1.0),
        ("approve_reduced", 0.5, VerdictKind.MODIFY, 0.5),
        ("MODIFY", 0.25, VerdictKind.MODIFY, 0.25),
        ("APPROVE", 0.4, VerdictKind.MODIFY, 0.4),
        ("MODIFY", 0.0, VerdictKind.REJECT, 0.0),
        ("REJECT", 0.8, VerdictKind.REJECT, 0.0),
    ],
)
def test_words_and_multiplier_make_one_consistent_verdict(decision: str, multiplier: float, kind: VerdictKind, kept: float) -> None:
    verdict = clip(answer(decision=decision, size_multiplier=multiplier), PLAN, "m")
    assert (verdict.kind, verdict.multiplier) == (kind, kept)
    assert verdict.risk_flags == ("TREND",)


@pytest.mark.parametrize(("asked", "kept"), [(3.0, 1.0), (-1.0, 0.0), (1e300, 1.0)])
def test_a_multiplier_outside_is_clipped_and_flagged(asked: float, kept: float) -> None:
    verdict = clip(answer(size_multiplier=asked), PLAN, "m")
    assert verdict.multiplier == kept
    assert "CLIPPED" in verdict.risk_flags


@pytest.mark.parametrize(
    "bad",
    [
        {"decision": "DOUBLE"},
        {"size_multiplier": "1.0"},
        {"size_multiplier": math.nan},
        {"size_multiplier": None},
        {"reasoning": ""},
        {"risk_flags": "none"},
        {"decision": 1},
    ],
)
def test_bad_output_is_a_protocol_error(bad: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        clip(answer(**bad), PLAN, "m")


def test_a_missing_field_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        clip({"decision": "APPROVE"}, PLAN, "m")


def test_text_is_cut_to_one_printable_line() -> None:
    verdict = clip(answer(reasoning="a\n\x1b[31m" + "b" * 5_000, risk_flags=["X" * 99] * 50), PLAN, "m")
    assert len(verdict.reasoning) < 700
    assert verdict.reasoning.isprintable()
    assert len(verdict.risk_flags) == 8
    assert max(map(len, verdict.risk_flags)) == 40


def test_the_tool_offers_exactly_the_three_decisions() -> None:
    properties = tool_schema()["input_schema"]["properties"]
    assert properties["decision"]["enum"] == ["APPROVE", "MODIFY", "REJECT"]
    assert not {"leverage", "stop_loss_pct", "take_profit_pct"} & set(properties)

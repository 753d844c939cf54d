"""What a language model may answer, and how the answer is cut to what a reviewer may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from helios.domain.decisions import TradePlan, Verdict
from helios.domain.enums import VerdictKind
from helios.errors import ProtocolError
from helios.review.rules import kind_of, strategy

TOOL_NAME = "submit_verdict"
MAX_REASONING_CHARS = 600
MAX_FLAGS = 8
MAX_FLAG_CHARS = 40

ALIASES: Mapping[str, VerdictKind] = {
    "APPROVE": VerdictKind.APPROVE,
    "EXECUTE": VerdictKind.APPROVE,
    "MODIFY": VerdictKind.MODIFY,
    "APPROVE_REDUCED": VerdictKind.MODIFY,
    "REJECT": VerdictKind.REJECT,
}


class VerdictInput(BaseModel):
    """Input of the forced tool call. Anything else the model adds (leverage, stop, target) is dropped unread."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    decision: str = Field(description="APPROVE, MODIFY (take a smaller size) or REJECT")
    size_multiplier: float = Field(description="Share of the planned size to take, 0 to 1")
    reasoning: str = Field(min_length=1, description="Two to four sentences that name the confidence and the volatility")
    strategy: str = Field(default="", description="Name of the strategy, such as MOMENTUM_LONG")
    risk_flags: list[str] = Field(default_factory=list, description="Short codes of the risks seen")


def tool_schema() -> dict[str, Any]:
    """Return the tool definition for the Messages API."""
    schema = VerdictInput.model_json_schema()
    schema["properties"]["decision"]["enum"] = [kind.value for kind in VerdictKind]
    return {"name": TOOL_NAME, "description": "Submit the verdict on the trade plan.", "input_schema": schema}


def clip(raw: Mapping[str, Any], plan: TradePlan, reviewer: str) -> Verdict:
    """Turn a model's tool input into a verdict that can only keep, shrink or veto the plan.

    The multiplier is clipped to 0..1 (flag CLIPPED). REJECT is 0 whatever the multiplier; APPROVE with less than 1 is a MODIFY;
    the kind always follows the final multiplier.

    Raises
    ------
    ProtocolError
        If the input does not fit the schema or the decision is not a known word.
    """
    try:
        answer = VerdictInput.model_validate(dict(raw))
    except ValidationError as error:
        raise ProtocolError(f"verdict does not fit its schema: {error.errors()[0]['loc']} {error.errors()[0]['msg']}") from None
    said = ALIASES.get(answer.decision.strip().upper())
    if said is None:
        raise ProtocolError(f"unknown decision {answer.decision[:40]!r}")
    flags = [_plain(flag, MAX_FLAG_CHARS) for flag in answer.risk_flags[:MAX_FLAGS]]
    multiplier = min(max(answer.size_multiplier, 0.0), 1.0)
    if multiplier != answer.size_multiplier:
        flags.append("CLIPPED")
    if said is VerdictKind.REJECT:
        multiplier = 0.0
    words = f"{_plain(answer.strategy, MAX_FLAG_CHARS) or strategy(plan)}: {_plain(answer.reasoning, MAX_REASONING_CHARS)}"
    return Verdict(plan.decision_id, plan.symbol, kind_of(multiplier), multiplier, words, tuple(flags), reviewer)


def _plain(text: str, limit: int) -> str:
    """One line of printable text, cut to `limit` characters: it goes into logs, tables and the dashboard."""
    return "".join(c if c.isprintable() else " " for c in text)[:limit].strip()

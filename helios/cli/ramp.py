"""helios ramp: at which step of the capital ramp the desk is, what happened there, and which step is permitted."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from helios.cli.app import app
from helios.cli.control import AsJson, StateDir
from helios.cli.queries import _answer
from helios.config import load_config
from helios.risk.ramp import LIVE_RAMP, RampFacts, advise
from helios.store.ramp import PostgresRamp


@app.command()
def ramp(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """The step of the capital ramp, what happened since it began, and the step that is permitted now."""
    config = load_config()
    step, most = config.risk.ramp_step, config.limits.max_drawdown
    facts = None if step is None else _answer(state_dir, lambda pool: PostgresRamp(pool).facts(step))
    answer = ramp_answer(step, facts, most)
    print(json.dumps(answer) if as_json else "\n".join(_lines(answer)))


def ramp_answer(step: int | None, facts: RampFacts | None, max_drawdown: float) -> dict[str, Any]:
    """Return step, share of the capital, facts and advice as plain JSON; None where something is not known."""
    if step is None:
        return {"step": None, "share": 1.0, "permitted": None, "reason": "risk.ramp_step is not set: there is no ramp", "facts": None}
    if facts is None:
        return {"step": step, "share": LIVE_RAMP[step], "permitted": step, "reason": "no run has begun at this step", "facts": None}
    advice = advise(step, facts, max_drawdown)
    known = {
        "since": datetime.fromtimestamp(facts.since / 1e9, UTC).isoformat(timespec="seconds"),
        "days": round(facts.days, 3),
        "closed_trades": facts.trades,
        "drawdown": None if math.isnan(facts.drawdown) else facts.drawdown,
        "limits_broken": facts.limits_broken,
        "halted": facts.is_halted,
    }
    return {"step": step, "share": LIVE_RAMP[step], "permitted": advice.step, "reason": advice.reason, "facts": known}


def _lines(answer: dict[str, Any]) -> list[str]:
    if answer["step"] is None:
        return [answer["reason"]]
    lines = [f"step {answer['step']} of {len(LIVE_RAMP) - 1}: {answer['share']:.0%} of the capital"]
    lines += [f"{name.replace('_', ' '):>14}  {value}" for name, value in (answer["facts"] or {}).items()]
    if answer["permitted"] == answer["step"]:
        return [*lines, f"stay: {answer['reason']}"]
    return [*lines, f"permitted is step {answer['permitted']}: {answer['reason']}; a person sets risk.ramp_step"]

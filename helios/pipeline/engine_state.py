"""States of the engine and who may go where.

One table, one writer (the Supervisor). Entries are allowed only in RUNNING; exits in every state but STOPPED.
"""

from __future__ import annotations

from helios.domain.enums import EngineState, TradingMode
from helios.errors import RejectedError

LIVE_CONFIRMATION = "I_CONFIRM_LIVE_TRADING"

_S = EngineState
TRANSITIONS: dict[EngineState, frozenset[EngineState]] = {
    _S.STOPPED: frozenset({_S.STARTING}),
    _S.STARTING: frozenset({_S.RUNNING, _S.PAUSED, _S.STOPPED, _S.ERROR, _S.EMERGENCY_STOP}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.REDUCING, _S.STOPPED, _S.ERROR, _S.EMERGENCY_STOP}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.REDUCING, _S.STOPPED, _S.ERROR, _S.EMERGENCY_STOP}),
    _S.REDUCING: frozenset({_S.RUNNING, _S.PAUSED, _S.STOPPED, _S.ERROR, _S.EMERGENCY_STOP}),
    # Halted until a person clears it: clearing leads to PAUSED, never straight back to trading.
    _S.EMERGENCY_STOP: frozenset({_S.PAUSED, _S.STOPPED, _S.EMERGENCY_STOP}),
    _S.ERROR: frozenset({_S.STARTING, _S.STOPPED, _S.EMERGENCY_STOP}),
}


def next_state(present: EngineState, wanted: EngineState) -> EngineState:
    """Return `wanted` where the table allows it.

    Raises
    ------
    RejectedError
        With one line that names both states.
    """
    if wanted not in TRANSITIONS[present]:
        raise RejectedError(f"the engine cannot go from {present} to {wanted}")
    return wanted


def resumed_state(stored: EngineState) -> EngineState:
    """Return the state a new run starts trading in: an emergency stop and a pause outlive a restart."""
    return stored if stored in (_S.EMERGENCY_STOP, _S.PAUSED) else _S.RUNNING


def allows_entries(state: EngineState) -> bool:
    """Whether new positions may be opened."""
    return state is _S.RUNNING


def next_mode(wanted: TradingMode, confirmation: str, live_blockers: list[str]) -> TradingMode:
    """Return the mode to switch to. PAPER is always possible; LIVE needs the exact words and no blocker.

    Raises
    ------
    RejectedError
        With the first thing that is missing.
    """
    if wanted is TradingMode.LIVE:
        if confirmation != LIVE_CONFIRMATION:
            raise RejectedError(f"LIVE needs the exact confirmation {LIVE_CONFIRMATION}")
        if live_blockers:
            raise RejectedError("LIVE refused: " + "; ".join(live_blockers))
    return wanted

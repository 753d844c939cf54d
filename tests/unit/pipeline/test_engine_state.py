from __future__ import annotations

import pytest

from helios.domain.enums import EngineState, TradingMode
from helios.errors import RejectedError
from helios.pipeline.engine_state import LIVE_CONFIRMATION, TRANSITIONS, allows_entries, next_mode, next_state, resumed_state

S = EngineState
ALL_PAIRS = [(a, b) for a in S for b in S]


def test_table_names_every_state() -> None:
    assert set(TRANSITIONS) == set(S)


@pytest.mark.parametrize(("present", "wanted"), ALL_PAIRS)
def test_every_pair_is_either_allowed_or_refused_in_one_line_with_both_names(present: S, wanted: S) -> None:
    if wanted in TRANSITIONS[present]:
        assert next_state(present, wanted) is wanted
        return
    with pytest.raises(RejectedError) as caught:
        next_state(present, wanted)
    assert present.value in str(caught.value)
    assert wanted.value in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [s for s in S if s is not S.STOPPED])
def test_an_emergency_stop_can_be_called_from_everywhere_but_stopped(state: S) -> None:
    assert S.EMERGENCY_STOP in TRANSITIONS[state]


def test_no_path_leads_from_an_emergency_stop_to_trading_but_through_a_person_or_a_new_start() -> None:
    assert TRANSITIONS[S.EMERGENCY_STOP] == {S.PAUSED, S.STOPPED, S.EMERGENCY_STOP}


@pytest.mark.parametrize("state", list(S))
def test_every_state_can_be_stopped_and_reached_from_stopped(state: S) -> None:
    assert state is S.STOPPED or S.STOPPED in TRANSITIONS[state]
    reached, frontier = {S.STOPPED}, [S.STOPPED]
    while frontier:
        new = TRANSITIONS[frontier.pop()] - reached
        reached |= new
        frontier += new
    assert state in reached


@pytest.mark.parametrize(("stored", "resumed"), [
    (S.EMERGENCY_STOP, S.EMERGENCY_STOP), (S.PAUSED, S.PAUSED), (S.RUNNING, S.RUNNING),
    (S.STOPPED, S.RUNNING), (S.ERROR, S.RUNNING), (S.REDUCING, S.RUNNING),
])  # fmt: skip
def test_only_pause_and_emergency_stop_outlive_a_restart(stored: S, resumed: S) -> None:
    assert resumed_state(stored) is resumed
    assert resumed in TRANSITIONS[S.STARTING]


def test_entries_are_allowed_while_running_alone() -> None:
    assert [s for s in S if allows_entries(s)] == [S.RUNNING]


@pytest.mark.parametrize("words", ["", "yes", LIVE_CONFIRMATION.lower(), LIVE_CONFIRMATION + " ", " " + LIVE_CONFIRMATION])
def test_live_needs_the_exact_words(words: str) -> None:
    with pytest.raises(RejectedError, match="exact confirmation"):
        next_mode(TradingMode.LIVE, words, [])


def test_live_needs_all_checks_and_paper_needs_nothing() -> None:
    assert next_mode(TradingMode.LIVE, "I_CONFIRM_LIVE_TRADING", []) is TradingMode.LIVE
    with pytest.raises(RejectedError, match="no broker; clock off"):
        next_mode(TradingMode.LIVE, LIVE_CONFIRMATION, ["no broker", "clock off"])
    assert next_mode(TradingMode.PAPER, "", ["no broker"]) is TradingMode.PAPER

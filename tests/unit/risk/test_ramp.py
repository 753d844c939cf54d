from __future__ import annotations

import math

import pytest

from helios.risk.ramp import LIVE_RAMP, next_ramp_step, ramp_share

GOOD = {"days_at_step": 7.0, "trades": 5, "drawdown": 0.02, "max_drawdown": 0.15}


def test_shares_of_the_intended_capital() -> None:
    assert LIVE_RAMP == (0.0, 0.10, 0.25, 0.50, 0.75, 1.0)
    assert [ramp_share(step) for step in (None, 0, 1, 5)] == [1.0, 0.0, 0.10, 1.0]


def test_a_good_week_permits_one_step() -> None:
    assert [next_ramp_step(step, **GOOD).step for step in range(6)] == [1, 2, 3, 4, 5, 5]  # type: ignore[arg-type]


@pytest.mark.parametrize("trouble", [
    {"days_at_step": 6.99}, {"days_at_step": math.nan}, {"days_at_step": -1.0}, {"trades": 4}, {"limits_broken": 1},
    {"drawdown": 0.075}, {"drawdown": math.nan}, {"max_drawdown": math.nan}, {"max_drawdown": 0.04},
])  # fmt: skip
def test_anything_else_keeps_the_step_and_says_why(trouble: dict[str, float]) -> None:
    advice = next_ramp_step(2, **(GOOD | trouble))  # type: ignore[arg-type]
    assert advice.step == 2
    assert advice.reason


def test_watching_needs_no_trades() -> None:
    assert next_ramp_step(0, 7.0, 0, 0.0).step == 1


@pytest.mark.parametrize(("step", "expected"), [(0, 0), (1, 0), (3, 2), (5, 4)])
def test_a_halt_goes_back_one_step_however_good_the_week(step: int, expected: int) -> None:
    assert next_ramp_step(step, **GOOD, is_halted=True).step == expected  # type: ignore[arg-type]

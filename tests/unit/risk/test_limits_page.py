"""docs/limits.md names every limit and every breaker, with the values and the rules that the program has."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from helios.config import LimitConfig
from helios.risk import limits
from helios.risk.breakers import BREAKERS, VOLATILITY
from helios.risk.trips import TripCode

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "limits.md").read_text()
FIRST, SECOND = PAGE.split("## Breakers")
DEFAULTS = LimitConfig()


def rows(part: str) -> list[list[str]]:
    lines = [line for line in part.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_code_of_a_limit_has_its_row() -> None:
    emitted = set(re.findall(r'_Measure\(\s*"([A-Z_]+)"', inspect.getsource(limits)))
    assert len(emitted) > 20
    assert emitted == {code for row in rows(FIRST) for code in re.findall(r"`([A-Z_]+)`", row[0])}


@pytest.mark.parametrize("row", [row for row in rows(FIRST) if row[2]], ids=lambda row: row[2])
def test_defaults_are_those_of_the_configuration(row: list[str]) -> None:
    assert row[3] == str(getattr(DEFAULTS, row[2].strip("`")))


def test_every_breaker_has_its_row_and_its_state() -> None:
    shown = {row[0].strip("`"): row for row in rows(SECOND)}
    assert set(shown) == set(TripCode)
    for breaker in (*BREAKERS, VOLATILITY):
        row = shown[breaker.code.value]
        assert row[2].startswith(breaker.state.value)
        assert all(hasattr(DEFAULTS, name) for name in re.findall(r"`(\w+)`", row[4]))


def test_numbers_in_the_rules_are_the_defaults() -> None:
    told = (
        (f"more than {DEFAULTS.max_trades_in_window} entries within an hour", DEFAULTS.trade_window_s == 3_600),
        ("after an hour", DEFAULTS.trade_cooldown_s == 3_600),
        (f"{DEFAULTS.max_unhealthy} parts of the desk", True),
        ("older than half an hour", DEFAULTS.max_account_age_s == 1_800),
        (f"below {DEFAULTS.volatility_release:g} times the limit", True),
        (f"From {DEFAULTS.warn_utilisation:.0%}".replace("%", " %"), True),
        (f"of {DEFAULTS.warn_correlation:g} (`limits.warn_correlation`)", True),
    )
    assert [words for words, is_so in told if words not in PAGE or not is_so] == []

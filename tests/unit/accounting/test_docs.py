"""The examples of docs/accounting.md say what the program says."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path

from helios.domain.enums import Side
from helios.domain.events import Mark
from helios.domain.orders import Fill
from helios.portfolio.accounting import Account
from helios.portfolio.attribution import AssetPeriod, Period, attribute
from helios.portfolio.lots import LotMethod, fold_lots
from helios.portfolio.stages import stage_effects
from tests.support.execution_fakes import DAY, T0, D, fill, record
from tests.unit.portfolio.test_stages import TRADE, steps

PAGE = Path(__file__).resolve().parents[3] / "docs" / "accounting.md"


def traded(side: Side, name: str, quantity: str, price: str, day: int) -> Fill:
    return fill(record(name=name, side=side, quantity=quantity), price=price, ts=T0 + day * DAY)


def bought(name: str, quantity: str, price: str, day: int) -> Fill:
    return traded(Side.BUY, name, quantity, price, day)


def sold(name: str, quantity: str, price: str, day: int) -> Fill:
    return traded(Side.SELL, name, quantity, price, day)


def test_the_page_says_what_the_program_says() -> None:
    names = {
        "Account": Account, "AssetPeriod": AssetPeriod, "D": D, "LotMethod": LotMethod, "Mark": Mark, "Period": Period, "Side": Side,
        "T0": T0, "attribute": attribute, "bought": bought, "fill": fill, "fold_lots": fold_lots, "record": record,
        "replace": replace, "sold": sold, "stage_effects": stage_effects, "steps": steps(), "trade": TRADE,
    }  # fmt: skip
    result = doctest.testfile(str(PAGE), module_relative=False, globs=names)
    assert result.attempted > 30
    assert result.failed == 0

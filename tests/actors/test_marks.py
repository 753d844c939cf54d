"""Which prices execution is told: a quiet market must not make the account look old, a silent one must."""

from __future__ import annotations

import pytest

from actors.symbol import is_news
from helios.domain.enums import TradingState
from helios.domain.events import Mark
from tests.support.execution_fakes import NS, T0, intent
from tests.unit.execution.test_engine import Desk, desk

QUIET, BUSY = "BTC/ZAR", "BTC/USDT:USDT"
MINUTE = 60 * NS


@pytest.mark.parametrize(
    ("price", "after_ns", "expected"),
    [(100.0, 0, False), (100.0, MINUTE - 1, False), (100.0, MINUTE, True), (100.5, 1, True)],
)
def test_an_unchanged_price_is_told_again_each_minute(price: float, after_ns: int, expected: bool) -> None:
    assert is_news(Mark(QUIET, price, T0 + after_ns), Mark(QUIET, 100.0, T0)) is expected
    assert is_news(Mark(QUIET, price, T0), None)


async def after_two_hours(is_heard_of: bool) -> TradingState:
    """Hold a symbol whose price stands still for two hours, beside one that moves; return what the breakers say."""
    world: Desk = await desk()
    await world.submit(intent(quantity="0.01"))
    told: dict[str, Mark] = {}
    for step in range(240):
        now = T0 + step * MINUTE // 2
        marks = [Mark(QUIET, 850_000.0, now if is_heard_of else T0), Mark(BUSY, 50_000.0 + step, now)]
        news = [mark for mark in marks if is_news(mark, told.get(mark.symbol))]
        told |= {mark.symbol: mark for mark in news}
        state = (await world.engine.account(news)).trading_state
    return state


async def test_a_price_that_stands_still_for_hours_is_not_an_old_one() -> None:
    assert await after_two_hours(is_heard_of=True) is TradingState.ACTIVE


async def test_a_market_that_nothing_is_heard_of_is_old() -> None:
    assert await after_two_hours(is_heard_of=False) is TradingState.REDUCING

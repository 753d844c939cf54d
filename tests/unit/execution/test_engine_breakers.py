"""Breakers in the engine: they latch, refuse entries only, outlive a restart, and go by their own rules."""

from __future__ import annotations

import pytest

from helios.config import LimitConfig
from helios.domain.enums import MovementKind, OrderStatus, Side, TradingMode, TradingState
from helios.domain.events import Mark
from helios.domain.orders import Movement
from helios.errors import RejectedError
from helios.execution.guard import AccountGuard
from helios.risk.trips import TripCode
from tests.support.execution_fakes import DAY, T0, D, intent
from tests.unit.execution.test_engine import Desk, desk
from tests.unit.risk.builders import account

SYMBOL = "BTC/ZAR"


async def invested() -> Desk:
    world = await desk()
    await world.submit(intent(quantity="1"))  # 850,000 of 1,000,000
    return world


async def marked(world: Desk, price: float, ts: int) -> TradingState:
    return (await world.engine.account([Mark(SYMBOL, price, ts)])).trading_state


async def test_a_drawdown_halts_entries_even_after_the_price_came_back() -> None:
    world = await invested()
    assert await marked(world, 690_000.0, T0 + 1) is TradingState.HALTED  # equity 840,000: 16 %
    assert await marked(world, 850_000.0, T0 + 2) is TradingState.HALTED
    [entry, exit_] = await world.submit(intent("e", ts=T0 + 3), intent("x", side=Side.SELL, reduce_only=True, ts=T0 + 3))
    assert "MAX_DRAWDOWN" in entry.record.deny_codes
    assert exit_.record.status is OrderStatus.FILLED


async def test_a_halt_outlives_a_restart() -> None:
    world = await invested()
    await marked(world, 690_000.0, T0 + 1)
    await marked(world, 850_000.0, T0 + 2)
    await world.restart()
    account = await world.engine.account([])
    assert account.trading_state is TradingState.HALTED
    assert "MAX_DRAWDOWN" in account.trips


async def test_a_reset_measures_drawdown_from_the_equity_of_then_over_restarts_too() -> None:
    world = await invested()
    await marked(world, 690_000.0, T0 + 1)
    account = await world.engine.reset_breakers("MAX_DRAWDOWN")
    assert (account.peak_equity_quote, account.drawdown) == (D(840_000), 0.0)
    assert "MAX_DRAWDOWN" not in account.trips
    await world.restart()
    assert await marked(world, 700_000.0, T0 + 3) is not TradingState.HALTED  # above the equity at the reset
    assert await marked(world, 560_000.0, T0 + 4) is TradingState.HALTED  # 290,000 of 850,000 lost since


async def test_a_day_s_loss_reduces_until_midnight_whatever_the_price_does() -> None:
    world = await invested()
    assert await marked(world, 790_000.0, T0 + 1) is TradingState.REDUCING  # 6 % of the day's first equity
    assert await marked(world, 860_000.0, T0 + 2) is TradingState.REDUCING
    midnight = (T0 // DAY + 1) * DAY
    assert await marked(world, 860_000.0, midnight + 1) is TradingState.ACTIVE


async def test_a_day_s_loss_is_not_undone_by_a_click_and_unknown_breakers_are_named() -> None:
    world = await invested()
    await marked(world, 790_000.0, T0 + 1)
    assert (await world.engine.reset_breakers("MAX_DAILY_LOSS")).trading_state is TradingState.REDUCING
    with pytest.raises(RejectedError, match="unknown breaker"):
        await world.engine.reset_breakers("WRONG")


async def test_silent_components_stop_entries_until_they_answer() -> None:
    world = await desk()
    world.engine.set_unhealthy(["risk", "recorder"])
    [refused] = await world.submit(intent("a"))
    assert refused.record.deny_codes == ("COMPONENTS_UNHEALTHY",)
    world.engine.set_unhealthy([])
    [taken] = await world.submit(intent("b", ts=T0 + 1))
    assert taken.record.status is OrderStatus.FILLED


async def test_a_memory_of_breakers_that_cannot_be_read_halts_until_a_person_looks() -> None:
    world = await invested()
    saved = await world.ledger.load_account()
    assert saved is not None
    snapshot = await world.engine.account([])
    await world.ledger.save_account(snapshot, world.engine.epoch, "{broken")
    await world.restart()
    account = await world.engine.account([])
    assert (account.trading_state, account.trips) == (TradingState.HALTED, (TripCode.STATE_UNREADABLE.value,))
    assert (await world.engine.reset_breakers()).trading_state is TradingState.ACTIVE


async def test_an_account_that_rests_on_an_old_price_opens_nothing_until_the_price_moves_again() -> None:
    world = await invested()
    other, half_an_hour = "ETH/ZAR", 1_800_000_000_000
    account = await world.engine.account([Mark(other, 50_000.0, T0 + half_an_hour)])
    assert account.trading_state is TradingState.ACTIVE
    account = await world.engine.account([Mark(other, 50_000.0, T0 + half_an_hour + 2_000_000_000)])
    assert (account.trading_state, account.trips) == (TradingState.REDUCING, ("ACCOUNT_STALE",))
    assert await marked(world, 850_000.0, T0 + half_an_hour + 3_000_000_000) is TradingState.ACTIVE


async def test_a_volatile_symbol_opens_nothing_until_it_is_well_below_the_limit_even_over_a_restart() -> None:
    world = await desk()

    async def codes(name: str, ratio: float, symbol: str = SYMBOL) -> tuple[str, ...]:
        await world.engine.note_volatility({SYMBOL: ratio})
        [outcome] = await world.submit(intent(name, quantity="0.001", symbol=symbol))
        return outcome.record.deny_codes

    assert await codes("a", 3.01) == ("VOLATILITY_BREAKER",)
    await world.restart()
    assert await codes("b", 2.9) == ("VOLATILITY_BREAKER",)  # below 3, and not yet below 2.7
    assert await codes("c", 2.9, symbol="BTC/USDT:USDT") == ()  # the other symbol has nothing to do with it
    assert await codes("d", float("nan")) == ("VOLATILITY_BREAKER",)
    assert await codes("e", 2.69) == ()


async def test_a_volatile_symbol_may_be_left_and_halts_nobody() -> None:
    world = await invested()
    await world.engine.note_volatility({SYMBOL: 5.0})
    account = await world.engine.account([])
    assert (account.trading_state, account.trips) == (TradingState.ACTIVE, ("VOLATILITY_BREAKER",))
    [outcome] = await world.submit(intent("x", side=Side.SELL, reduce_only=True))
    assert outcome.record.status is OrderStatus.FILLED


async def test_a_second_volatile_symbol_is_saved_too() -> None:
    world = await desk()
    for symbol in (SYMBOL, "BTC/USDT:USDT"):
        await world.engine.note_volatility({symbol: 4.0})
    await world.restart()
    assert {trip.symbol for trip in world.engine.trips} == {SYMBOL, "BTC/USDT:USDT"}


def test_a_live_desk_keeps_to_its_three_losses_over_a_restart() -> None:
    guard = AccountGuard(LimitConfig())
    guard.set_mode(TradingMode.LIVE)
    guard.restore(guard.to_json(), T0)
    guard.observe(account(consecutive_losses=3))
    assert [trip.code for trip in guard.trips] == [TripCode.MAX_CONSECUTIVE_LOSSES]


async def test_a_withdrawal_in_a_drawdown_halts_nobody_and_a_deposit_hides_none() -> None:
    world = await invested()  # cash of 150,000 beside one coin of 850,000
    assert await marked(world, 750_000.0, T0 + DAY) is not TradingState.HALTED  # 10 %
    account = await world.engine.move([Movement("out", MovementKind.TRANSFER, D(-140_000), T0 + DAY + 1)])
    assert (account.drawdown, account.trading_state is TradingState.HALTED) == (pytest.approx(0.1), False)
    account = await world.engine.move([Movement("in", MovementKind.TRANSFER, D(5_000_000), T0 + DAY + 2)])
    assert account.drawdown == pytest.approx(0.1)
    assert await marked(world, 300_000.0, T0 + DAY + 3) is TradingState.HALTED  # 450,000 more of 5,760,000 lost

"""Funding, transfers and the reset of the peak through the engine and its ledger."""

from __future__ import annotations

import pytest

from helios.domain.enums import MovementKind, Side
from helios.domain.events import Mark
from helios.domain.orders import Movement
from helios.errors import RejectedError, StoreUnavailableError
from helios.execution.engine import ExecutionEngine
from helios.execution.memory import MemoryLedger
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import DAY, INSTRUMENTS, T0, D, FlakyLedger, ScriptedBroker, allow_all, intent, market

DEPOSIT = Movement("t", MovementKind.TRANSFER, D(500), T0)


def engine(ledger: MemoryLedger) -> ExecutionEngine:
    return ExecutionEngine(ledger, ScriptedBroker(), Account(D(1_000_000), T0, quote="ZAR"), INSTRUMENTS, allow_all, "test")


async def test_deposit_is_in_the_ledger_before_it_is_in_the_account() -> None:
    ledger = FlakyLedger()
    desk = engine(ledger)
    await desk.start()
    ledger.is_down = True
    with pytest.raises(StoreUnavailableError):
        await desk.move([DEPOSIT])
    assert (await desk.account_snapshot([])).equity_quote == D(1_000_000)
    ledger.is_down = False
    for _ in range(2):
        shown = await desk.move([DEPOSIT])
    assert (shown.equity_quote, len(await ledger.movements())) == (D(1_000_500), 1)


@pytest.mark.parametrize("bad", [
    Movement("u", MovementKind.TRANSFER, D(1), T0, currency="BNB"), Movement("u", MovementKind.FUNDING, D("NaN"), T0, "BTC/ZAR"),
    Movement("u", MovementKind.TRANSFER, D("Infinity"), T0),
], ids=["no value", "NaN", "infinite"])  # fmt: skip
async def test_movement_without_a_worth_changes_neither_ledger_nor_account(bad: Movement) -> None:
    ledger = MemoryLedger()
    desk = engine(ledger)
    await desk.start()
    with pytest.raises(RejectedError):
        await desk.move([DEPOSIT, bad])
    assert await ledger.movements() == []
    assert (await desk.account_snapshot([])).equity_quote == D(1_000_000)


async def test_account_is_the_same_after_a_restart() -> None:
    ledger = MemoryLedger()
    desk = engine(ledger)
    await desk.start()
    await desk.submit([intent()], {"BTC/ZAR": market()})
    shown = await desk.move([
        DEPOSIT, Movement("f", MovementKind.FUNDING, D("-7.25"), T0 + 1, "BTC/ZAR"),
        Movement("b", MovementKind.TRANSFER, D(2), T0 + 1, currency="BNB", value_quote=D(30)),
    ])  # fmt: skip
    again = engine(ledger)
    await again.start()
    assert await again.account_snapshot([]) == shown


async def test_funding_stays_with_its_trade_after_a_restart() -> None:
    ledger = MemoryLedger()
    desk = engine(ledger)
    await desk.start()
    await desk.submit([intent()], {"BTC/ZAR": market()})
    await desk.move([Movement("f", MovementKind.FUNDING, D(-9), T0 + 5, "BTC/ZAR")])
    close = intent("c", Side.SELL, ts=T0 + 10, reduce_only=True)
    [outcome] = await desk.submit([close], {"BTC/ZAR": market(ts=T0 + 10)})
    assert outcome.record.filled_base == D("0.5")
    shown = await desk.account_snapshot([])
    assert (shown.closed_pnl_quote, shown.consecutive_losses) == (D(-9), 1)
    again = engine(ledger)
    await again.start()
    assert await again.account_snapshot([]) == shown


async def test_reset_of_the_peak_outlives_the_process_and_its_fills() -> None:
    ledger = MemoryLedger()
    desk = engine(ledger)
    await desk.start()
    await desk.submit([intent()], {"BTC/ZAR": market()})
    await desk.account_snapshot([Mark("BTC/ZAR", 500_000.0, T0 + 1)])
    shown = await desk.reset_breakers("MAX_DRAWDOWN")
    assert (shown.drawdown, shown.peak_equity_quote) == (0.0, D(825_000))
    again = engine(ledger)
    await again.start()
    later = await again.account_snapshot([Mark("BTC/ZAR", 400_000.0, T0 + DAY // 9)])
    assert later.drawdown == pytest.approx(50_000 / 825_000)


async def test_without_a_reset_the_peak_is_found_again() -> None:
    ledger = MemoryLedger()
    desk = engine(ledger)
    await desk.start()
    await desk.submit([intent()], {"BTC/ZAR": market()})
    await desk.account_snapshot([Mark("BTC/ZAR", 950_000.0, T0 + 1)])
    again = engine(ledger)
    await again.start()
    assert (await again.account_snapshot([])).peak_equity_quote == D(1_050_000)


async def test_start_of_the_day_outlives_two_restarts_without_a_price() -> None:
    ledger = MemoryLedger()
    desk = engine(ledger)
    await desk.start()
    await desk.submit([intent()], {"BTC/ZAR": market()})
    await desk.account_snapshot([Mark("BTC/ZAR", 950_000.0, T0 + 1)])
    lived = await desk.account_snapshot([Mark("BTC/ZAR", 900_000.0, T0 + 2 * DAY)])
    for _ in range(2):
        desk = engine(ledger)
        await desk.start()
    shown = await desk.account_snapshot([Mark("BTC/ZAR", 900_000.0, T0 + 2 * DAY)])
    assert shown.day_start_equity_quote == lived.day_start_equity_quote == D(1_050_000)
    assert shown.daily_loss == lived.daily_loss > 0


async def test_restart_over_midnight_starts_the_day_at_the_last_saved_prices() -> None:
    ledger = MemoryLedger()
    desk = engine(ledger)
    await desk.start()
    await desk.submit([intent()], {"BTC/ZAR": market()})
    await desk.account_snapshot([Mark("BTC/ZAR", 700_000.0, T0 + DAY // 24)])
    again = engine(ledger)
    await again.start()
    shown = await again.account_snapshot([Mark("BTC/ZAR", 680_000.0, T0 + DAY)])
    assert shown.day_start_equity_quote == D(925_000)  # not the million of the fill's price: that loss was yesterday's
    assert shown.daily_loss == pytest.approx(10_000 / 925_000)


async def test_prices_are_saved_once_a_minute() -> None:
    ledger = MemoryLedger()
    desk = engine(ledger)
    await desk.start()
    await desk.submit([intent()], {"BTC/ZAR": market()})
    for seconds, price in ((30, 840_000.0), (61, 830_000.0), (90, 820_000.0)):
        await desk.account_snapshot([Mark("BTC/ZAR", price, T0 + seconds * 1_000_000_000)])
    state = await ledger.load_account()
    assert state is not None
    assert state.marks == (("BTC/ZAR", "830000.0", T0 + 61_000_000_000),)

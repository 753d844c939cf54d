"""Deposits and withdrawals through the execution actor: once each, over restarts, and never more than there is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from actors.base import DeskSpec
from actors.execution import ExecutionActor
from helios.config import HeliosConfig
from helios.errors import RejectedError
from helios.portfolio.movements import movement_of
from tests.support.execution_fakes import DAY, INSTRUMENTS, T0

ZAR = {s: i for s, i in INSTRUMENTS.items() if i.quote == "ZAR"}


def actor(dsn: str, folder: Path) -> ExecutionActor:
    return ExecutionActor(DeskSpec(HeliosConfig(), dsn, "run", tuple(ZAR), None, None, str(folder)), ZAR)


async def test_money_counts_once_is_no_profit_and_outlives_a_restart(pg_dsn: str, tmp_path: Path) -> None:
    first = actor(pg_dsn, tmp_path)
    began = await first.account([])
    for _ in range(2):
        paid_in = await first.move(movement_of("bank-1", "transfer", "2500.5", T0))
    assert paid_in.equity_quote == began.equity_quote + Decimal("2500.5")
    assert (paid_in.realised_pnl_quote, paid_in.drawdown, paid_in.transfers_quote) == (0, 0.0, Decimal("2500.5"))
    everything = movement_of("bank-2", "transfer", str(-paid_in.cash_quote), T0 + DAY)
    for _ in range(2):  # told again it is no second withdrawal, and no refusal
        assert (await first.move(everything)).cash_quote == 0
    with pytest.raises(RejectedError, match="there are 0"):
        await first.move(movement_of("bank-3", "transfer", "-1", T0 + DAY))
    with pytest.raises(RejectedError, match="nobody says what"):
        await first.move(movement_of("coins", "transfer", "1", T0 + DAY, currency="BNB"))
    await first.stop()
    again = actor(pg_dsn, tmp_path)
    shown = await again.account([])
    assert (shown.cash_quote, shown.transfers_quote, shown.drawdown) == (0, -began.equity_quote, 0.0)
    await again.stop()

"""Days: profit without the transfers, gaps that are left out, and a Sharpe ratio that scipy's arithmetic confirms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helios.portfolio.daily import daily_figures
from tests.support.execution_fakes import DAY, T0, D

START = T0 // DAY * DAY


def point(day: int, equity: str, transfers: str = "0") -> dict[str, Any]:
    return {
        "ts_ns": START + day * DAY + 5, "equity_quote": D(equity), "open_positions": 1, "transfers_quote": D(transfers),
        "drawdown": 0.01,
    }  # fmt: skip


def test_deposit_is_no_return() -> None:
    first, second = daily_figures([point(0, "1000"), point(1, "1650", "500")])
    assert (first.pnl_quote, first.daily_return, second.pnl_quote) == (None, None, D(150))
    assert second.daily_return == pytest.approx(0.1)
    assert second.day == "2023-11-15"


def test_day_after_a_gap_has_no_return() -> None:
    lines = daily_figures([point(0, "1000"), point(2, "1100"), point(3, "1210")])
    assert [line.daily_return for line in lines] == [None, None, pytest.approx(0.1)]


def test_sharpe_ratio_is_annualised_and_waits_for_enough_days() -> None:
    equity = np.cumprod(1 + np.random.default_rng(7).normal(0.001, 0.02, 40)) * 1_000
    lines = daily_figures([point(n, f"{value:.8f}") for n, value in enumerate(equity)])
    returns = np.diff([float(f"{v:.8f}") for v in equity]) / np.array([float(f"{v:.8f}") for v in equity[:-1]])
    assert lines[29].sharpe is None
    assert lines[-1].sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(365), rel=1e-9)


def test_flat_days_have_no_sharpe_ratio() -> None:
    assert daily_figures([point(n, "1000") for n in range(40)])[-1].sharpe is None


def test_no_points_no_lines() -> None:
    assert daily_figures([]) == []


def test_the_accounts_first_day_counts_from_what_was_put_in() -> None:
    first = point(0, "1600", "500") | {"realised_pnl_quote": D(60), "unrealised_pnl_quote": D(40)}
    line, later = daily_figures([first, point(1, "1680", "500")], is_from_start=True)
    assert (line.pnl_quote, line.daily_return) == (D(100), pytest.approx(100 / 1500))  # 1000 to begin with, 500 paid in
    assert (later.pnl_quote, later.daily_return) == (D(80), 0.05)
    assert daily_figures([first])[0].pnl_quote is None

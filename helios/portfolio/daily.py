"""The account by days: value, profit, return, drawdown and Sharpe ratio of each UTC day, and the record as a whole.

A day's profit is its change of equity less what was paid in or out, and its return is that profit over the equity it began with plus
the payments: the convention of `Account`, where a transfer moves the start of the day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from helios.domain.orders import AccountSnapshot
from helios.portfolio.accounting import NS_PER_DAY, utc_day

DAYS_PER_YEAR = 365
"""Crypto trades all days."""
MIN_SHARPE_DAYS = 30
"""With fewer returns a Sharpe ratio is noise, and None is said instead."""


@dataclass(frozen=True, slots=True)
class DailyFigures:
    """One UTC day at its last point. Returns and drawdown are fractions; None where the day before is missing.

    `sharpe` is annualised (365 days, no risk-free rate), from all returns up to this day, sample deviation (n - 1); None below
    MIN_SHARPE_DAYS returns or without any variation.
    """

    day: str
    equity_quote: Decimal
    open_positions: int
    transfers_quote: Decimal
    pnl_quote: Decimal | None
    daily_return: float | None
    drawdown: float
    sharpe: float | None


def daily_figures(points: Sequence[Mapping[str, Any]], is_from_start: bool = False) -> list[DailyFigures]:
    """Return one line per point of `EngineStore.daily_equity`, oldest first.

    Parameters
    ----------
    points : sequence of mapping
    is_from_start : bool
        Whether the first point is of the account's first day: it then counts from what was put in, for it has no day before it.

    Notes
    -----
    After a day without a point the change is that of several days: it is left out of returns and Sharpe ratio.
    """
    lines: list[DailyFigures] = []
    returns: list[float] = []
    before = _beginning(points[0]) if points and is_from_start else None
    for point in points:
        pnl, change = _change(before, point)
        if change is not None:
            returns.append(change)
        lines.append(
            DailyFigures(
                utc_day(point["ts_ns"]), point["equity_quote"], point["open_positions"], point["transfers_quote"],
                pnl, change, point["drawdown"], _sharpe(returns),
            )
        )  # fmt: skip
        before = point
    return lines


def performance(account: AccountSnapshot, initial_cash: Decimal) -> dict[str, Any]:
    """Return the account's record: total return, drawdown, win rate, trades, mean P&L and open positions, as plain JSON.

    Total return is over what was put in (initial cash and net transfers); shares are None where nothing stands under them.
    """
    put_in = initial_cash + account.transfers_quote
    n = account.closed_trades
    return {
        "total_return": float((account.equity_quote - put_in) / put_in) if put_in > 0 else None,
        "total_pnl_quote": str(account.equity_quote - put_in),
        "drawdown": account.drawdown,
        "win_rate": account.winning_trades / n if n else None,
        "closed_trades": n,
        "mean_pnl_quote": str((account.closed_pnl_quote / n).quantize(Decimal("0.01"))) if n else None,
        "open_positions": len(account.open_positions),
    }


def _beginning(first: Mapping[str, Any]) -> Mapping[str, Any]:
    # The evening before: all that was put in and nothing earned yet, whatever was paid in on the first day itself.
    put_in = first["equity_quote"] - first["realised_pnl_quote"] - first["unrealised_pnl_quote"]
    return {"ts_ns": first["ts_ns"] - NS_PER_DAY, "equity_quote": put_in, "transfers_quote": first["transfers_quote"]}


def _change(before: Mapping[str, Any] | None, point: Mapping[str, Any]) -> tuple[Decimal | None, float | None]:
    if before is None or point["ts_ns"] // NS_PER_DAY != before["ts_ns"] // NS_PER_DAY + 1:
        return None, None
    start: Decimal = before["equity_quote"] + point["transfers_quote"] - before["transfers_quote"]
    pnl: Decimal = point["equity_quote"] - start
    return pnl, float(pnl / start) if start > 0 else None


def _sharpe(returns: Sequence[float]) -> float | None:
    n = len(returns)
    if n < MIN_SHARPE_DAYS:
        return None
    mean = math.fsum(returns) / n
    variance = math.fsum((r - mean) ** 2 for r in returns) / (n - 1)
    return mean / math.sqrt(variance) * math.sqrt(DAYS_PER_YEAR) if variance > 0 else None

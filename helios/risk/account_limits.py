"""What the account's own figures say: how much is lost, how much of each limit is used, what is still permitted.

Two counters of the account reset by rules of the account's keeper: `entries_today` and `day_start_equity_quote` at 00:00 UTC;
`consecutive_losses` at a winning trade and at 00:00 UTC. Nothing here remembers anything; the breakers do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from helios.config import LimitConfig
from helios.domain.enums import TradingMode, TradingState
from helios.domain.orders import AccountSnapshot
from helios.risk.sectors import DEFAULT_SECTORS, sector_of

LIVE_CONSECUTIVE_LOSSES = 3
INFINITY = Decimal("Infinity")
ZERO = Decimal(0)


def trading_state(account: AccountSnapshot, config: LimitConfig, mode: TradingMode = TradingMode.PAPER) -> TradingState:
    """Return HALTED at the drawdown limit or without equity, REDUCING (exits only) at the loss limits, else ACTIVE.

    The view of one moment, without memory: what a new `BreakerBoard` says of the same account. A board that has tripped stays so
    after the figures recover, and is therefore never milder than this.
    """
    if not has_equity(account) or not drawdown_of(account) < exact(config.max_drawdown):
        return TradingState.HALTED
    if not daily_loss_of(account) < exact(config.max_daily_loss):
        return TradingState.REDUCING
    if is_money_lost(account, config):
        return TradingState.REDUCING
    if account.consecutive_losses >= consecutive_loss_limit(config, mode):
        return TradingState.REDUCING
    return TradingState.ACTIVE


def worst_state(*states: TradingState) -> TradingState:
    """Return the state that permits least."""
    return max(states, key=tuple(TradingState).index)


def has_equity(account: AccountSnapshot) -> bool:
    """Whether the account is worth a known amount above 0."""
    return account.equity_quote.is_finite() and account.equity_quote > 0


def drawdown_of(account: AccountSnapshot) -> Decimal:
    """Return the larger of the reported drawdown and the one equity and peak imply, so that neither can go stale alone."""
    return max(exact(account.drawdown), fall(account.peak_equity_quote, account.equity_quote))


def daily_loss_of(account: AccountSnapshot) -> Decimal:
    """Return the larger of the reported daily loss and the one equity and the day's first equity imply."""
    return max(exact(account.daily_loss), fall(account.day_start_equity_quote, account.equity_quote))


def daily_loss_quote(account: AccountSnapshot) -> Decimal:
    """Return the money lost since 00:00 UTC, at least 0; infinite where it cannot be known."""
    start, now = account.day_start_equity_quote, account.equity_quote
    return max(ZERO, start - now) if start.is_finite() and now.is_finite() else INFINITY


def free_cash(account: AccountSnapshot) -> Decimal:
    """Return what new orders may be paid or backed with: cash, less what the open positions still need of it.

    The whole value of a perpetual goes through the cash, though it ties up only value / leverage: a long has taken more out than
    that, a short has even put its proceeds in, which belong to whoever lent the coins. What was paid for in full needs no more.
    Below 0 where the margins of what is held are no longer covered, or a holding has no known value.
    """
    free = account.cash_quote
    for position in account.positions:
        value = position.quantity_base * position.mark_price
        if not value.is_finite():
            return -INFINITY
        if value < 0 or position.leverage > 1:
            free += value - abs(value) / exact(max(position.leverage, 1.0))
    return free


def consecutive_loss_limit(config: LimitConfig, mode: TradingMode) -> int:
    """Return how many losses in a row end entries: the configured number, at most 3 in LIVE."""
    limit = config.max_consecutive_losses
    return min(limit, LIVE_CONSECUTIVE_LOSSES) if mode is TradingMode.LIVE else limit


def limit_utilisation(
    account: AccountSnapshot,
    config: LimitConfig,
    mode: TradingMode = TradingMode.PAPER,
    sectors: Mapping[str, str] = DEFAULT_SECTORS,
) -> list[dict[str, Any]]:
    """Return how much of each limit the account uses, as plain JSON.

    One entry a limit: `name`, `of` (the largest position's symbol or sector, else empty), `value` and `limit` in the same unit
    (fractions of equity, counts, quote currency), `share` of the limit. None where the figure cannot be known.
    """
    equity = account.equity_quote
    positions = {p.symbol: p.notional_quote for p in account.positions}
    by_sector: dict[str, Decimal] = {}
    for symbol, notional in positions.items():
        name = sector_of(symbol.split("/")[0], sectors)
        by_sector[name] = by_sector.get(name, ZERO) + notional
    (symbol, position), (sector, in_sector) = _largest(positions), _largest(by_sector)
    rows: list[tuple[str, str, Decimal | int, float | int | Decimal]] = [
        ("drawdown", "", drawdown_of(account), config.max_drawdown),
        ("daily_loss", "", daily_loss_of(account), config.max_daily_loss),
        ("position", symbol, share_of(position, equity), config.max_position),
        ("sector", sector, share_of(in_sector, equity), config.max_sector),
        ("leverage", "", share_of(sum(positions.values(), ZERO), equity), config.max_portfolio_leverage),
        ("open_positions", "", sum(p.quantity_base != 0 for p in account.open_positions), config.max_open_positions),
        ("entries_today", "", account.entries_today, config.max_entries_per_day),
        ("consecutive_losses", "", account.consecutive_losses, consecutive_loss_limit(config, mode)),
    ]
    if config.max_daily_loss_quote > 0:
        rows.append(("daily_loss_quote", "", daily_loss_quote(account), config.max_daily_loss_quote))
    return [_utilisation(*row) for row in rows]


def is_money_lost(account: AccountSnapshot, config: LimitConfig) -> bool:
    """Whether the day has cost as much money as it may; never where that limit is off."""
    return config.max_daily_loss_quote > 0 and not daily_loss_quote(account) < config.max_daily_loss_quote


def _largest(amounts: Mapping[str, Decimal]) -> tuple[str, Decimal]:
    # one that is no number counts as the largest: its share cannot be known either
    def rank(item: tuple[str, Decimal]) -> tuple[bool, Decimal]:
        return (False, item[1]) if item[1].is_finite() else (True, ZERO)

    return max(amounts.items(), key=rank, default=("", ZERO))


def _utilisation(name: str, of: str, value: Decimal | int, limit: float | int | Decimal) -> dict[str, Any]:
    found, bound = float(value), float(limit)
    is_known = math.isfinite(found)
    share = found / bound if is_known and bound > 0 else None
    return {"name": name, "of": of, "value": found if is_known else None, "limit": bound, "share": share}


@lru_cache(maxsize=512)
def exact(value: float) -> Decimal:
    """Return the float as it is written: 0.15 is 15 %, not the binary number beside it; NaN fails every comparison as infinity."""
    return Decimal(str(value)) if value == value else INFINITY


def share_of(amount: Decimal, equity: Decimal) -> Decimal:
    """Return the share of equity; infinite where either is not known or equity is not above 0."""
    return amount / equity if amount.is_finite() and equity.is_finite() and equity > 0 else INFINITY


def fall(start: Decimal, now: Decimal) -> Decimal:
    """Return the share of `start` that is lost at `now`; infinite where one of them is not a number, 0 without a start."""
    if not (start.is_finite() and now.is_finite()):
        return INFINITY  # what is not known counts as lost
    return (start - now) / start if start > 0 else ZERO

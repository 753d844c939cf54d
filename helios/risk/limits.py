"""The checks before every order: all are evaluated, all violations are reported, with codes a machine can read.

Two counters of the account reset by rules of the account's keeper: `entries_today` and `day_start_equity_quote` at 00:00 UTC;
`consecutive_losses` at a winning trade and at 00:00 UTC. So a day that ended in a row of losses lets the next one start, and
nothing here remembers anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from helios.config import LimitConfig
from helios.domain.enums import MarketKind, Side, TradingMode
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, PositionView
from helios.errors import RejectedError
from helios.risk.account_limits import (
    INFINITY,
    ZERO,
    consecutive_loss_limit,
    daily_loss_of,
    daily_loss_quote,
    drawdown_of,
    exact,
    free_cash,
    is_money_lost,
    share_of,
)
from helios.risk.sectors import DEFAULT_SECTORS, sector_of

NS_PER_HOUR = 3_600_000_000_000


class Severity(StrEnum):
    """Whether a finding ends the order or only accompanies it."""

    REFUSE = "REFUSE"
    WARN = "WARN"


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit that an order would break or come near to: its code, the reason in words, the limit and the value found."""

    code: str
    detail: str
    limit: str
    value: str
    severity: Severity = Severity.REFUSE


class PastOrder(NamedTuple):
    """An order that was let through before, for the search for duplicates."""

    symbol: str
    side: Side
    quantity_base: Decimal
    ts_event: int


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """An order and what is known around it.

    Attributes
    ----------
    price : Decimal
        What the order is valued at (for a market order the reference price).
    limit_price : Decimal or None
        The price the venue will see; None for a market order, which has no tick to respect.
    market : MarketSnapshot or None
        None where there is no market: stale, and no price to compare with.
    data_age_s : float
        Age of `market` in market seconds; NaN counts as stale.
    correlations : mapping
        Correlation of this symbol's returns with each other open position's; missing and NaN ones refuse nothing (a symbol's first
        days have none) but are warned of.
    volatility_ratio : float
        Present volatility over its mean; NaN where unknown, which refuses nothing here.
    recent : tuple of PastOrder
        Orders let through before this one.

    Raises
    ------
    RejectedError
        If price or quantity is not a finite number above 0.
    """

    symbol: str
    side: Side
    quantity_base: Decimal
    price: Decimal
    instrument: Instrument
    account: AccountSnapshot
    market: MarketSnapshot | None
    now_ns: int
    data_age_s: float
    reduce_only: bool = False
    leverage: float = 1.0
    mode: TradingMode = TradingMode.PAPER
    correlations: Mapping[str, float] = field(default_factory=dict)
    volatility_ratio: float = float("nan")
    limit_price: Decimal | None = None
    recent: tuple[PastOrder, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("price", self.price), ("quantity", self.quantity_base)):
            if not value.is_finite() or value <= 0:
                raise RejectedError(f"{self.symbol}: {name} {value} is not a finite number above 0")

    @property
    def notional_quote(self) -> Decimal:
        """Value of the order."""
        return self.quantity_base * self.price

    @property
    def position(self) -> PositionView | None:
        """What is held in the symbol."""
        return self.account.position(self.symbol)

    @property
    def held_base(self) -> Decimal:
        """Signed quantity held in the symbol."""
        return self.position.quantity_base if self.position is not None else ZERO

    @property
    def notional_after_quote(self) -> Decimal:
        """Absolute value of the whole holding in the symbol once the order has filled."""
        mark = self.position.mark_price if self.position is not None else self.price
        return abs(self.held_base * mark + self.side.value * self.notional_quote)


class _Measure(NamedTuple):
    """What one check found. `is_near` None: near the limit from the configured share of it on."""

    code: str
    reason: str
    limit: Any
    value: Any
    is_broken: bool
    is_near: bool | None = False


Check = Callable[[LimitRequest, LimitConfig, Mapping[str, str]], Iterator[_Measure]]


def check_limits(request: LimitRequest, config: LimitConfig, sectors: Mapping[str, str] = DEFAULT_SECTORS) -> tuple[Violation, ...]:
    """Return every limit the order would break, in a fixed order; empty means it may go.

    A reduce-only order is held to the venue's steps and sizes and to being a reduction, to nothing else: a limit must never
    stand between a stop and its order. Reaching a loss limit counts as breaking it; sizes may equal their limit. What has to be
    known and is not (equity, cash, the market and its age) counts as broken.

    Parameters
    ----------
    sectors : mapping
        Base asset to sector.
    """
    return limit_findings(request, config, sectors)[0]


def limit_warnings(request: LimitRequest, config: LimitConfig, sectors: Mapping[str, str] = DEFAULT_SECTORS) -> tuple[Violation, ...]:
    """Return the limits the order keeps but comes near to: from `warn_utilisation` of a limit, and from `warn_correlation`.

    They refuse nothing. A reduce-only order has none.
    """
    return limit_findings(request, config, sectors)[1]


def limit_findings(
    request: LimitRequest, config: LimitConfig, sectors: Mapping[str, str] = DEFAULT_SECTORS
) -> tuple[tuple[Violation, ...], tuple[Violation, ...]]:
    """Return what `check_limits` and `limit_warnings` do, from one look."""
    broken: list[Violation] = []
    near: list[Violation] = []
    for measure in _measures(request, config, sectors):
        if measure.is_broken:
            broken.append(_violation(measure, Severity.REFUSE))
        elif _is_near(measure, config):
            near.append(_violation(measure, Severity.WARN))
    return tuple(broken), tuple(near)


# --- the order's own shape: for every order ---------------------------------------------------------------------------


def _tick(r: LimitRequest, _c: LimitConfig, _s: Mapping[str, str]) -> Iterator[_Measure]:
    tick = r.instrument.tick_size
    if r.limit_price is not None and tick > 0:
        yield _Measure("TICK_SIZE", "price is off the tick grid", tick, r.limit_price, r.limit_price % tick != 0)


def _quantity(r: LimitRequest, _c: LimitConfig, _s: Mapping[str, str]) -> Iterator[_Measure]:
    i, quantity = r.instrument, r.quantity_base
    lot, low, high = i.lot_size_base, i.min_quantity_base, i.max_quantity_base
    yield _Measure("LOT_SIZE", "quantity is off the lot grid", lot, quantity, lot > 0 and quantity % lot != 0)
    yield _Measure("MIN_QUANTITY", "quantity is below the venue's minimum", low, quantity, quantity < low)
    yield _Measure("MAX_QUANTITY", "quantity is above the venue's maximum", high, quantity, quantity > high)


def _reduction(r: LimitRequest, _c: LimitConfig, _s: Mapping[str, str]) -> Iterator[_Measure]:
    if r.reduce_only:
        is_more = r.held_base * r.side.value >= 0 or r.quantity_base > abs(r.held_base)
        yield _Measure("REDUCE_ONLY_WOULD_INCREASE", "order does not only reduce the holding", r.held_base, r.quantity_base, is_more)


# --- the account and the market: for entries --------------------------------------------------------------------------


def _losses(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[_Measure]:
    drawdown, daily = drawdown_of(r.account), daily_loss_of(r.account)
    most, of_day = exact(c.max_drawdown), exact(c.max_daily_loss)
    yield _Measure("MAX_DRAWDOWN", "max drawdown exceeded", most, drawdown, not drawdown < most, None)
    yield _Measure("MAX_DAILY_LOSS", "max daily loss exceeded", of_day, daily, not daily < of_day, None)
    if c.max_daily_loss_quote > 0:
        lost, money = daily_loss_quote(r.account), c.max_daily_loss_quote
        yield _Measure("MAX_DAILY_LOSS_QUOTE", "the day's loss in money", money, lost, is_money_lost(r.account, c), None)
    row, allowed = r.account.consecutive_losses, consecutive_loss_limit(c, r.mode)
    yield _Measure("MAX_CONSECUTIVE_LOSSES", "too many losses in a row", allowed, row, row >= allowed, None)


def _exposure(r: LimitRequest, c: LimitConfig, sectors: Mapping[str, str]) -> Iterator[_Measure]:
    equity, limit = r.account.equity_quote, exact(c.max_position)
    after = r.notional_after_quote
    share = share_of(after, equity)
    yield _Measure("MAX_POSITION", "holding with the order exceeds max_position_size", limit, share, share > limit, None)
    sector = sector_of(r.instrument.base, sectors)
    in_sector = total = after
    for position in r.account.positions:
        if position.symbol != r.symbol:
            notional = position.notional_quote
            total += notional
            if sector_of(position.symbol.split("/")[0], sectors) == sector:
                in_sector += notional
    share, limit = share_of(in_sector, equity), exact(c.max_sector)
    yield _Measure("MAX_SECTOR", f"sector {sector} exceeds its share", limit, share, share > limit, None)
    share, limit = share_of(total, equity), exact(c.max_portfolio_leverage)
    yield _Measure("MAX_LEVERAGE", "exposure over equity exceeds the portfolio's", limit, share, share > limit, None)
    venue_max = Decimal(1) if r.instrument.kind is MarketKind.SPOT else r.instrument.max_leverage
    is_above = not exact(r.leverage) <= venue_max
    yield _Measure("MAX_LEVERAGE", "order leverage exceeds the venue's", venue_max, r.leverage, is_above)


def _correlation(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[_Measure]:
    # signed by side: a short against a long in the same thing spreads risk, it does not add it
    unknown = []
    for position in r.account.positions:
        if position.symbol == r.symbol or position.quantity_base == 0 or position.is_dust:
            continue
        sign = r.side.value * (1 if position.quantity_base > 0 else -1)
        value = r.correlations.get(position.symbol, math.nan) * sign
        if value > c.warn_correlation or value > c.max_correlation:
            reason, is_broken = f"moves like the holding in {position.symbol}", value > c.max_correlation
            yield _Measure("MAX_CORRELATION", reason, c.max_correlation, value, is_broken, True)
        elif math.isnan(value):
            unknown.append(position.symbol)
    if unknown:
        reason = f"correlation with {', '.join(unknown)} is not known"
        yield _Measure("MAX_CORRELATION", reason, c.max_correlation, math.nan, False, True)


def _frequency(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[_Measure]:
    n_open = sum(p.quantity_base != 0 for p in r.account.open_positions)
    if r.held_base == 0 or r.account.open_position(r.symbol) is None:
        most = c.max_open_positions
        yield _Measure("MAX_OPEN_POSITIONS", "too many open positions", most, n_open, n_open >= most, None)
    most, today = c.max_entries_per_day, r.account.entries_today
    yield _Measure("MAX_ENTRIES_PER_DAY", "too many entries today", most, today, today >= most, None)
    last = max((at for symbol, at in r.account.last_entry_at if symbol == r.symbol), default=None)
    if last is not None:
        elapsed_s, least = (r.now_ns - last) / 1e9, c.min_entry_interval_s
        yield _Measure("ENTRY_INTERVAL", "too soon after the last entry", least, elapsed_s, elapsed_s < least)
    yield from _duplicate(r, c)
    if c.trading_hours_utc:
        start, end = c.trading_hours_utc
        hour = r.now_ns // NS_PER_HOUR % 24
        is_open = start <= hour < end if start < end else hour >= start or hour < end
        yield _Measure("OUTSIDE_TRADING_HOURS", "hour (UTC) is outside the trading hours", f"{start}-{end}", hour, not is_open)


def _duplicate(r: LimitRequest, c: LimitConfig) -> Iterator[_Measure]:
    window_ns = c.duplicate_window_s * 1e9
    for past in r.recent:
        is_same = (past.symbol, past.side, past.quantity_base) == (r.symbol, r.side, r.quantity_base)
        if is_same and abs(r.now_ns - past.ts_event) < window_ns:
            elapsed_s = (r.now_ns - past.ts_event) / 1e9
            yield _Measure("DUPLICATE_ORDER", "same symbol, side and size as before", c.duplicate_window_s, elapsed_s, True)
            return


def _market(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[_Measure]:
    ratio, most = r.volatility_ratio, c.max_volatility_ratio
    yield _Measure("VOLATILITY_BREAKER", "volatility far above its mean", most, ratio, ratio > most, None)
    if r.market is not None:
        last, price, limit = r.market.last, r.price if r.limit_price is None else r.limit_price, exact(c.max_price_deviation)
        is_known = last.is_finite() and last > 0 and price.is_finite()
        deviation = abs(price / last - 1) if is_known else INFINITY
        yield _Measure("PRICE_DEVIATION", "price is far from the market", limit, deviation, deviation > limit, None)
    is_stale = r.market is None or not 0.0 <= r.data_age_s <= c.max_data_age_s
    yield _Measure("STALE_DATA", "market data too old", c.max_data_age_s, r.data_age_s, is_stale, None)


def _money(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[_Measure]:
    low = max(c.min_notional_quote, r.instrument.min_notional_quote)
    high = min(c.max_notional_quote, r.instrument.max_notional_quote)
    notional, cash = r.notional_quote, free_cash(r.account)
    yield _Measure("MIN_NOTIONAL", "order is too small", low, notional, notional < low)
    yield _Measure("MAX_NOTIONAL", "order is too large", high, notional, notional > high, None)
    if r.side is Side.SELL and not r.instrument.can_short:
        is_short = r.quantity_base > max(r.held_base, ZERO)
        yield _Measure("SHORT_NOT_ALLOWED", "a spot market cannot be sold short", r.held_base, r.quantity_base, is_short)
    else:
        needed = notional / exact(max(r.leverage, 1.0)) * (1 + exact(c.balance_cushion))
        is_short = not cash.is_finite() or needed > cash
        yield _Measure("INSUFFICIENT_BALANCE", "free cash does not cover margin and cushion", cash, needed, is_short, None)
    equity, least = r.account.equity_quote, c.min_balance_quote
    if least > 0:
        yield _Measure("MIN_BALANCE", "the account is too small to trade", least, equity, not equity.is_finite() or equity < least)


_SHAPE: tuple[Check, ...] = (_tick, _quantity, _reduction)
_ENTRY: tuple[Check, ...] = (_losses, _exposure, _correlation, _frequency, _market, _money)


def _measures(r: LimitRequest, config: LimitConfig, sectors: Mapping[str, str]) -> Iterator[_Measure]:
    for check in _SHAPE if r.reduce_only else (*_SHAPE, *_ENTRY):
        yield from check(r, config, sectors)


def _is_near(m: _Measure, config: LimitConfig) -> bool:
    if m.is_near is not None:
        return m.is_near
    # as they are written: 0.16 of 0.2 is 80 %, which its binary neighbours are not
    value, limit = (Decimal(str(v)) for v in (m.value, m.limit))
    return not value.is_nan() and limit > 0 and value >= exact(config.warn_utilisation) * limit


def _violation(m: _Measure, severity: Severity) -> Violation:
    shown, bound = (f"{v:.6g}" if isinstance(v, float | Decimal) else str(v) for v in (m.value, m.limit))
    reason = m.reason if severity is Severity.REFUSE else f"near its limit, {m.reason}"
    return Violation(m.code, f"{reason}: {shown} against {bound}", bound, shown, severity)

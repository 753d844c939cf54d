"""The checks before every order: all are evaluated, all violations are reported, with codes a machine can read.

Two counters of the account reset by rules of the account's keeper: `entries_today` and `day_start_equity_quote` at 00:00 UTC;
`consecutive_losses` at a winning trade and at 00:00 UTC. So a day that ended in a row of losses lets the next one start, and
nothing here remembers anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from helios.config import LimitConfig
from helios.domain.enums import MarketKind, Side, TradingMode
from helios.domain.enums import TradingState as TradingState
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, PositionView
from helios.errors import RejectedError
from helios.risk.sectors import DEFAULT_SECTORS, sector_of

LIVE_CONSECUTIVE_LOSSES = 3
_INFINITY = Decimal("Infinity")
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit that an order would break: its code, the reason in words, the limit and the value found."""

    code: str
    detail: str
    limit: str
    value: str


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """An order and what is known around it.

    Attributes
    ----------
    price : Decimal
        What the order is valued at (for a market order the reference price).
    limit_price : Decimal or None
        The price the venue will see; None for a market order, which has no tick to respect.
    data_age_s : float
        Age of `market` in market seconds; NaN counts as stale.
    correlations : mapping
        Correlation of this symbol's returns with each other open position's; missing and NaN ones are not checked.
    volatility_ratio : float
        Present volatility over its mean; NaN where unknown, which is not checked here.

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
    market: MarketSnapshot
    now_ns: int
    data_age_s: float
    reduce_only: bool = False
    leverage: float = 1.0
    mode: TradingMode = TradingMode.PAPER
    correlations: Mapping[str, float] = field(default_factory=dict)
    volatility_ratio: float = float("nan")
    limit_price: Decimal | None = None

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
        return self.position.quantity_base if self.position is not None else _ZERO

    @property
    def notional_after_quote(self) -> Decimal:
        """Absolute value of the whole holding in the symbol once the order has filled."""
        mark = self.position.mark_price if self.position is not None else self.price
        return abs(self.held_base * mark + self.side.value * self.notional_quote)


Check = Callable[[LimitRequest, LimitConfig, Mapping[str, str]], Iterator[Violation]]


def check_limits(request: LimitRequest, config: LimitConfig, sectors: Mapping[str, str] = DEFAULT_SECTORS) -> tuple[Violation, ...]:
    """Return every limit the order would break, in a fixed order; empty means it may go.

    A reduce-only order is held to the venue's steps and sizes and to being a reduction, to nothing else: a limit must never
    stand between a stop and its order. Reaching a loss limit counts as breaking it; sizes may equal their limit.

    Parameters
    ----------
    sectors : mapping
        Base asset to sector.
    """
    checks = (*_SHAPE, *(() if request.reduce_only else _ENTRY))
    return tuple(violation for check in checks for violation in check(request, config, sectors))


def trading_state(account: AccountSnapshot, config: LimitConfig, mode: TradingMode = TradingMode.PAPER) -> TradingState:
    """Return HALTED at the drawdown limit or without equity, REDUCING (exits only) at the loss limits, else ACTIVE.

    The view of one moment, without memory: what a new `BreakerBoard` says of the same account. A board that has tripped stays so
    after the figures recover, and is therefore never milder than this.
    """
    if not has_equity(account) or not drawdown_of(account) < _exact(config.max_drawdown):
        return TradingState.HALTED
    if not daily_loss_of(account) < _exact(config.max_daily_loss):
        return TradingState.REDUCING
    if account.consecutive_losses >= consecutive_loss_limit(config, mode):
        return TradingState.REDUCING
    return TradingState.ACTIVE


def has_equity(account: AccountSnapshot) -> bool:
    """Whether the account is worth a known amount above 0."""
    return account.equity_quote.is_finite() and account.equity_quote > 0


def drawdown_of(account: AccountSnapshot) -> Decimal:
    """Return the larger of the reported drawdown and the one equity and peak imply, so that neither can go stale alone."""
    return max(_exact(account.drawdown), fall(account.peak_equity_quote, account.equity_quote))


def daily_loss_of(account: AccountSnapshot) -> Decimal:
    """Return the larger of the reported daily loss and the one equity and the day's first equity imply."""
    return max(_exact(account.daily_loss), fall(account.day_start_equity_quote, account.equity_quote))


def consecutive_loss_limit(config: LimitConfig, mode: TradingMode) -> int:
    """Return how many losses in a row end entries: the configured number, at most 3 in LIVE."""
    limit = config.max_consecutive_losses
    return min(limit, LIVE_CONSECUTIVE_LOSSES) if mode is TradingMode.LIVE else limit


# --- the order's own shape: for every order ---------------------------------------------------------------------------


def _tick(r: LimitRequest, _c: LimitConfig, _s: Mapping[str, str]) -> Iterator[Violation]:
    tick = r.instrument.tick_size
    if r.limit_price is not None and tick > 0 and r.limit_price % tick != 0:
        yield _violation("TICK_SIZE", "price is off the tick grid", tick, r.limit_price)


def _quantity(r: LimitRequest, _c: LimitConfig, _s: Mapping[str, str]) -> Iterator[Violation]:
    instrument, quantity = r.instrument, r.quantity_base
    if instrument.lot_size_base > 0 and quantity % instrument.lot_size_base != 0:
        yield _violation("LOT_SIZE", "quantity is off the lot grid", instrument.lot_size_base, quantity)
    if quantity < instrument.min_quantity_base:
        yield _violation("MIN_QUANTITY", "quantity is below the venue's minimum", instrument.min_quantity_base, quantity)
    if quantity > instrument.max_quantity_base:
        yield _violation("MAX_QUANTITY", "quantity is above the venue's maximum", instrument.max_quantity_base, quantity)


def _reduction(r: LimitRequest, _c: LimitConfig, _s: Mapping[str, str]) -> Iterator[Violation]:
    if r.reduce_only and (r.held_base * r.side.value >= 0 or r.quantity_base > abs(r.held_base)):
        yield _violation("REDUCE_ONLY_WOULD_INCREASE", "order does not only reduce the holding", r.held_base, r.quantity_base)


# --- the account and the market: for entries --------------------------------------------------------------------------


def _losses(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[Violation]:
    drawdown, daily = drawdown_of(r.account), daily_loss_of(r.account)
    if not drawdown < _exact(c.max_drawdown):
        yield _violation("MAX_DRAWDOWN", "max drawdown exceeded", c.max_drawdown, drawdown)
    if not daily < _exact(c.max_daily_loss):
        yield _violation("MAX_DAILY_LOSS", "max daily loss exceeded", c.max_daily_loss, daily)
    row, allowed = r.account.consecutive_losses, consecutive_loss_limit(c, r.mode)
    if row >= allowed:
        yield _violation("MAX_CONSECUTIVE_LOSSES", "too many losses in a row", allowed, row)


def _exposure(r: LimitRequest, c: LimitConfig, sectors: Mapping[str, str]) -> Iterator[Violation]:
    equity = r.account.equity_quote
    share = _share(r.notional_after_quote, equity)
    if share > _exact(c.max_position):
        yield _violation("MAX_POSITION", "holding and order exceed max_position_size", c.max_position, share)
    sector = sector_of(r.instrument.base, sectors)
    others = [p for p in r.account.positions if p.symbol != r.symbol]
    peers = [p for p in others if sector_of(p.symbol.split("/")[0], sectors) == sector]
    in_sector = _share(sum((p.notional_quote for p in peers), r.notional_after_quote), equity)
    if in_sector > _exact(c.max_sector):
        yield _violation("MAX_SECTOR", f"sector {sector} exceeds its share", c.max_sector, in_sector)
    total = _share(sum((p.notional_quote for p in others), r.notional_after_quote), equity)
    if total > _exact(c.max_portfolio_leverage):
        yield _violation("MAX_LEVERAGE", "exposure over equity exceeds the portfolio's", c.max_portfolio_leverage, total)
    venue_max = Decimal(1) if r.instrument.kind is MarketKind.SPOT else r.instrument.max_leverage
    if not _exact(r.leverage) <= venue_max:
        yield _violation("MAX_LEVERAGE", "order leverage exceeds the venue's", venue_max, r.leverage)


def _correlation(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[Violation]:
    # signed by side: a short against a long in the same thing spreads risk, it does not add it
    for position in r.account.positions:
        if position.symbol == r.symbol or position.quantity_base == 0:
            continue
        sign = r.side.value * (1 if position.quantity_base > 0 else -1)
        value = r.correlations.get(position.symbol, float("nan")) * sign
        if value > c.max_correlation:
            yield _violation("MAX_CORRELATION", f"moves like the holding in {position.symbol}", c.max_correlation, value)


def _frequency(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[Violation]:
    n_open = sum(p.quantity_base != 0 for p in r.account.positions)
    if r.held_base == 0 and n_open >= c.max_open_positions:
        yield _violation("MAX_OPEN_POSITIONS", "too many open positions", c.max_open_positions, n_open)
    if r.account.entries_today >= c.max_entries_per_day:
        yield _violation("MAX_ENTRIES_PER_DAY", "too many entries today", c.max_entries_per_day, r.account.entries_today)
    last = max((at for symbol, at in r.account.last_entry_at if symbol == r.symbol), default=None)
    elapsed_s = None if last is None else (r.now_ns - last) / 1e9
    if elapsed_s is not None and elapsed_s < c.min_entry_interval_s:
        yield _violation("ENTRY_INTERVAL", "too soon after the last entry", c.min_entry_interval_s, elapsed_s)


def _market(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[Violation]:
    if r.volatility_ratio > c.max_volatility_ratio:
        yield _violation("VOLATILITY_BREAKER", "volatility far above its mean", c.max_volatility_ratio, r.volatility_ratio)
    last, price = r.market.last, r.price if r.limit_price is None else r.limit_price
    deviation = abs(price / last - 1) if last.is_finite() and last > 0 else _INFINITY
    if deviation > _exact(c.max_price_deviation):
        yield _violation("PRICE_DEVIATION", "price is far from the market", c.max_price_deviation, deviation)
    if not 0.0 <= r.data_age_s <= c.max_data_age_s:
        yield _violation("STALE_DATA", "market data too old", c.max_data_age_s, r.data_age_s)


def _money(r: LimitRequest, c: LimitConfig, _s: Mapping[str, str]) -> Iterator[Violation]:
    low = max(c.min_notional_quote, r.instrument.min_notional_quote)
    high = min(c.max_notional_quote, r.instrument.max_notional_quote)
    if r.notional_quote < low:
        yield _violation("MIN_NOTIONAL", "order is too small", low, r.notional_quote)
    if r.notional_quote > high:
        yield _violation("MAX_NOTIONAL", "order is too large", high, r.notional_quote)
    is_sale_of_holding = r.side is Side.SELL and not r.instrument.can_short
    needed = r.notional_quote / _exact(max(r.leverage, 1.0)) * (1 + _exact(c.balance_cushion))
    if not is_sale_of_holding and needed > r.account.cash_quote:
        yield _violation("INSUFFICIENT_BALANCE", "cash does not cover margin and cushion", r.account.cash_quote, needed)
    if is_sale_of_holding and r.quantity_base > max(r.held_base, _ZERO):
        yield _violation("SHORT_NOT_ALLOWED", "a spot market cannot be sold short", r.held_base, r.quantity_base)


_SHAPE: tuple[Check, ...] = (_tick, _quantity, _reduction)
_ENTRY: tuple[Check, ...] = (_losses, _exposure, _correlation, _frequency, _market, _money)


def _exact(value: float) -> Decimal:
    # the float as it is written: 0.15 is 15 %, not the binary number beside it; NaN fails every comparison as infinity
    return Decimal(str(value)) if value == value else _INFINITY


def _share(amount: Decimal, equity: Decimal) -> Decimal:
    return amount / equity if equity > 0 else _INFINITY


def fall(start: Decimal, now: Decimal) -> Decimal:
    """Return the share of `start` that is lost at `now`; infinite where one of them is not a number, 0 without a start."""
    if not (start.is_finite() and now.is_finite()):
        return _INFINITY  # what is not known counts as lost
    return (start - now) / start if start > 0 else _ZERO


def _violation(code: str, reason: str, limit: object, value: object) -> Violation:
    shown, bound = (f"{v:.6g}" if isinstance(v, float | Decimal) else str(v) for v in (value, limit))
    return Violation(code, f"{reason}: {shown} against {bound}", bound, shown)

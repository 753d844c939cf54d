"""Orders, fills, positions, exits and account views. Money is Decimal, in quote currency unless named otherwise."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from decimal import Decimal

from helios.domain.enums import ExitReason, MovementKind, OrderStatus, Side, TradingState
from helios.domain.market import MarketSnapshot


def client_order_id(decision_id: str, leg: str) -> str:
    """Return the venue-safe id of one leg of one decision: the same decision can never become two orders.

    Matches VALR's `^[0-9a-zA-Z-]{0,50}$` and the 36-character limit of other venues.
    """
    return "hx-" + hashlib.sha256(f"{decision_id}|{leg}".encode()).hexdigest()[:28]


@dataclass(frozen=True, slots=True)
class ExitRule:
    """How a new position will be left. Fractions of the entry price; times in ns. NaN or 0 switches a rule off.

    Attributes
    ----------
    breakeven_activate_pct, breakeven_offset_pct : float
        From this favourable move on the stop is the entry price, moved by the offset (the costs) in our favour. An offset that is
        not below the activation would fire at once: it switches the rule off.
    scale_out_fraction, scale_out_at : float
        Share of the opened quantity that is closed once, and where: as a fraction of the way from entry to target.
    """

    stop_loss_pct: float
    take_profit_pct: float
    trailing_activate_pct: float
    trailing_pct: float
    timeout_ns: int
    breakeven_activate_pct: float = 0.0
    breakeven_offset_pct: float = 0.0
    scale_out_fraction: float = 0.0
    scale_out_at: float = 0.0


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """An order that the portfolio tier wants; `quantity_base` is positive and on the lot grid.

    `volatility_ratio` (forecast over its mean) and `correlations` (with every other holding, by symbol) are what the limits before
    the order need to know and the account cannot say; NaN and missing ones are unknown.
    """

    client_order_id: str
    decision_id: str
    symbol: str
    side: Side
    quantity_base: Decimal
    reference_price: Decimal
    reduce_only: bool
    leg: str
    leverage: float
    ts_event: int
    exit_rule: ExitRule | None = None
    reason: str = ""
    volatility_ratio: float = math.nan
    correlations: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """One row of the ledger."""

    client_order_id: str
    decision_id: str
    symbol: str
    side: Side
    quantity_base: Decimal
    reference_price: Decimal
    reduce_only: bool
    leg: str
    leverage: float
    status: OrderStatus
    filled_base: Decimal
    average_price: Decimal
    fee_quote: Decimal
    ts_event: int
    ts_updated: int
    epoch: int
    reason: str = ""
    deny_codes: tuple[str, ...] = ()
    exit_rule: ExitRule | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """Our execution. `fee` is in `fee_currency` as the broker reports it; `fee_quote` is its value in quote currency.

    `quantity_base` is what was traded, before any fee that the venue keeps back in the base asset.
    """

    fill_id: str
    client_order_id: str
    symbol: str
    side: Side
    quantity_base: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str
    fee_quote: Decimal
    ts_event: int


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that came or went without a trade. `amount` is signed: what the account gained.

    Attributes
    ----------
    symbol : str
        Of the perpetual, for FUNDING; empty otherwise.
    currency : str
        Empty: the account's own; otherwise the currency that was transferred.
    value_quote : Decimal or None
        What a transfer of another currency was worth then; None where nobody said.
    """

    movement_id: str
    kind: MovementKind
    amount: Decimal
    ts_event: int
    symbol: str = ""
    currency: str = ""
    value_quote: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PositionView:
    """A position as others see it: signed quantity, average entry, last mark and when (ns) that price came, the best mark since the
    opening (None before the first), and the stop that holds now as far as marks tell. `is_dust`: less than any order that the venue
    takes could close, at this mark. It is part of the equity but no position that could be left, so limits count it as none.
    """

    symbol: str
    quantity_base: Decimal
    average_price: Decimal
    mark_price: Decimal
    realised_pnl_quote: Decimal
    unrealised_pnl_quote: Decimal
    opened_at: int
    leverage: float
    decision_id: str
    stop_price: float
    target_price: float
    expires_at: int
    marked_at: int = 0
    best_mark: Decimal | None = None
    is_dust: bool = False

    @property
    def notional_quote(self) -> Decimal:
        """Absolute marked value."""
        return abs(self.quantity_base) * self.mark_price

    @property
    def unrealised_return(self) -> float:
        """Unrealised P&L as a fraction of what the position cost; 0.0 where it cost nothing."""
        cost = abs(self.quantity_base) * self.average_price
        return float(self.unrealised_pnl_quote / cost) if cost > 0 else 0.0


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """The account marked to market at `ts_event`. Drawdown and daily loss are positive fractions.

    `equity == initial cash + transfers + realised + unrealised`, to the last digit.

    Attributes
    ----------
    realised_pnl_quote : Decimal
        After all fees paid, funding included.
    unrealised_pnl_quote : Decimal
        Of the open positions and of the balances in other currencies, whose part is `currency_pnl_quote`.
    funding_quote, transfers_quote : Decimal
        Sums of all funding received less paid, and of all deposits less withdrawals.
    closed_pnl_quote : Decimal
        What the `closed_trades` brought in all.
    balances : tuple of (currency, amount)
        Other currencies held, or owed where negative; fees were paid in them.
    rates : tuple of (currency, rate, ns)
        Their last known prices in quote currency per unit, and when they came.
    unvalued : tuple of str
        Those of them whose value in quote currency nobody has said yet: they count as nothing.
    oldest_mark_ns : int
        When the price came that is the oldest among those of the open positions, dust left out; 0 where nothing is open.
    peak_rebased_at : int
        When a person last reset the peak; 0 for never.
    trading_state : TradingState
        What the circuit breakers of the execution engine permit.
    trips : tuple of str
        Codes of those that are open.
    reduce_only : tuple of str
        Symbols in which nothing new is opened.
    """

    ts_event: int
    equity_quote: Decimal
    cash_quote: Decimal
    peak_equity_quote: Decimal
    day_start_equity_quote: Decimal
    realised_pnl_quote: Decimal
    unrealised_pnl_quote: Decimal
    fees_quote: Decimal
    drawdown: float
    daily_loss: float
    positions: tuple[PositionView, ...]
    entries_today: int
    consecutive_losses: int
    last_entry_at: tuple[tuple[str, int], ...]
    closed_trades: int
    winning_trades: int
    trading_state: TradingState = TradingState.ACTIVE
    trips: tuple[str, ...] = ()
    funding_quote: Decimal = Decimal(0)
    transfers_quote: Decimal = Decimal(0)
    currency_pnl_quote: Decimal = Decimal(0)
    closed_pnl_quote: Decimal = Decimal(0)
    balances: tuple[tuple[str, Decimal], ...] = ()
    rates: tuple[tuple[str, Decimal, int], ...] = ()
    unvalued: tuple[str, ...] = ()
    oldest_mark_ns: int = 0
    peak_rebased_at: int = 0
    reduce_only: tuple[str, ...] = ()

    @property
    def mark_age_ns(self) -> int:
        """Age of the oldest price that the equity rests on; 0 where nothing is open."""
        return max(0, self.ts_event - self.oldest_mark_ns) if self.oldest_mark_ns else 0

    def position(self, symbol: str) -> PositionView | None:
        """What is held in `symbol`, if anything; it may be dust."""
        return next((p for p in self.positions if p.symbol == symbol), None)

    def open_position(self, symbol: str) -> PositionView | None:
        """The position in `symbol` that can be left, if any."""
        return next((p for p in self.positions if p.symbol == symbol and not p.is_dust), None)

    @property
    def open_positions(self) -> tuple[PositionView, ...]:
        """The positions that can be left."""
        return tuple(p for p in self.positions if not p.is_dust)

    @property
    def dust(self) -> tuple[str, ...]:
        """Symbols of which so little is held that no order can close it."""
        return tuple(p.symbol for p in self.positions if p.is_dust)


@dataclass(frozen=True, slots=True)
class ExitPlan:
    """What the symbol's own state watches for one open position. A NaN price is a rule that is off.

    Attributes
    ----------
    scale_out_price : float
        NaN also once the part was closed, or where it is too small for the venue.
    opened_base : Decimal
        Everything that was ever bought (or sold short) into the position: what `scale_out_fraction` is a share of.
    best_price : float
        Best price since the opening that execution knows of; NaN where it saw none.
    attempts : int
        How many exits of the whole position have ended without closing it; a change lets the plan fire again.
    """

    position_id: str
    symbol: str
    side: Side
    entry_price: float
    stop_price: float
    target_price: float
    trailing_activate_pct: float
    trailing_pct: float
    expires_at: int
    breakeven_activate_pct: float = 0.0
    breakeven_price: float = math.nan
    scale_out_fraction: float = 0.0
    scale_out_price: float = math.nan
    opened_base: Decimal = Decimal(0)
    opened_at: int = 0
    best_price: float = math.nan
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class ExitTriggered:
    """An exit fired at `trigger_price`. A `fraction` below 1 asks for that part of the opened quantity, else all that is held."""

    position_id: str
    symbol: str
    reason: ExitReason
    trigger_price: float
    ts_event: int
    market: MarketSnapshot
    fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class OrderOutcome:
    """What became of an intent: its record, its fills so far, and which limits it came near to when it was let through."""

    record: OrderRecord
    fills: tuple[Fill, ...] = ()
    warnings: tuple[str, ...] = ()

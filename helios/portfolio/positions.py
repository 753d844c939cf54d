"""One position of the account and what its partial closes left behind. Sums here run in the caller's decimal context."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal

from helios.domain.enums import Side
from helios.domain.market import Instrument
from helios.domain.orders import ExitPlan, ExitRule, PositionView
from helios.execution.exit_rules import is_dust, protective_stop

ZERO = Decimal(0)
SHARE = Decimal("1e-12")


def share(total: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Return the share of `total` that `part` of `whole` has, cut at 1e-12; the rest stays where it was."""
    return (total * part / whole).quantize(SHARE)


def plain(value: Decimal) -> Decimal:
    """Drop trailing zeros without falling into exponent form (8.5E+5)."""
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value.normalize()


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """What one closing order took out of a position; `is_final` where that ended it: it left nothing, or only dust.

    `pnl_quote` is after the fees of the exit and the closed part's share of the entry fees, which `fees_quote` sums, and contains
    the closed part's share of the funding received (or, below zero, paid) while it was open.
    """

    position_id: str
    closing_order_id: str
    symbol: str
    side: Side
    entry_price: Decimal
    exit_price: Decimal
    quantity_base: Decimal
    pnl_quote: Decimal
    fees_quote: Decimal
    reason: str
    opened_at: int
    closed_at: int
    is_final: bool
    funding_quote: Decimal = ZERO

    @property
    def status(self) -> str:
        """CLOSED, or PARTIALLY_CLOSED where something was left open."""
        return "CLOSED" if self.is_final else "PARTIALLY_CLOSED"

    @property
    def price_return(self) -> float:
        """Direction x (exit - entry) / entry: before costs, and without leverage, which is in the quantity."""
        return float(self.side * (self.exit_price - self.entry_price) / self.entry_price)

    def joined(self, later: ClosedTrade) -> ClosedTrade:
        """Return this trade and a later fill of its closing order as one; the exit price is their mean by quantity."""
        quantity = self.quantity_base + later.quantity_base
        value = self.exit_price * self.quantity_base + later.exit_price * later.quantity_base
        return replace(
            later,
            entry_price=self.entry_price,
            exit_price=plain((value / quantity).quantize(SHARE)),
            quantity_base=quantity,
            pnl_quote=self.pnl_quote + later.pnl_quote,
            fees_quote=self.fees_quote + later.fees_quote,
            funding_quote=self.funding_quote + later.funding_quote,
            is_final=self.is_final or later.is_final,
        )


@dataclass(slots=True)
class Position:
    """`quantity` and `cost` carry the sign of the side; `entry_fees` and `funding` are those of the part still open.

    `has_ended`: it was left but for dust, and has been counted as won or lost.
    """

    position_id: str
    decision_id: str
    symbol: str
    quantity: Decimal
    cost: Decimal
    entry_fees: Decimal
    opened_at: int
    leverage: float
    exit_rule: ExitRule | None
    realised: Decimal = ZERO
    funding: Decimal = ZERO
    opened: Decimal = ZERO
    best_mark: Decimal | None = None
    has_ended: bool = False

    @property
    def side(self) -> Side:
        return Side.BUY if self.quantity > 0 else Side.SELL

    @property
    def average_price(self) -> Decimal:
        average = self.cost / self.quantity
        rounded = average.quantize(SHARE)
        return plain(rounded)

    def begin_anew(self, position_id: str, decision_id: str, opened_at: int, leverage: float) -> None:
        """Let an entry that meets dust be a position of its own: the exits, the time and the best price of the old one are over."""
        self.position_id, self.decision_id, self.opened_at, self.leverage = position_id, decision_id, opened_at, leverage
        self.exit_rule, self.best_mark, self.opened = None, None, abs(self.quantity)
        if self.has_ended:
            self.has_ended, self.realised = False, ZERO

    def see(self, price: Decimal) -> None:
        """Remember the best price since the opening: what a symbol's owner that was restarted cannot know."""
        if self.best_mark is None or self.side * price > self.side * self.best_mark:
            self.best_mark = price

    def view(self, mark: Decimal, marked_at: int, instrument: Instrument | None = None) -> PositionView:
        """Return the position valued at `mark`, a price of `marked_at` (ns); without its instrument nothing is dust."""
        plan = self.exit_plan()
        return PositionView(
            symbol=self.symbol,
            quantity_base=self.quantity,
            average_price=self.average_price,
            mark_price=mark,
            realised_pnl_quote=self.realised,
            unrealised_pnl_quote=self.quantity * mark - self.cost,
            opened_at=self.opened_at,
            leverage=self.leverage,
            decision_id=self.decision_id,
            stop_price=math.nan if plan is None else protective_stop(plan, plan.best_price)[0],
            target_price=math.nan if plan is None else plan.target_price,
            expires_at=0 if plan is None else plan.expires_at,
            marked_at=marked_at,
            best_mark=self.best_mark,
            is_dust=is_dust(self.quantity, mark, instrument),
        )

    def exit_plan(self) -> ExitPlan | None:
        """Return what must be watched; None where the opening order brought no rule."""
        rule = self.exit_rule
        if rule is None:
            return None
        entry, side = float(self.average_price), self.side
        has_breakeven = 0 <= rule.breakeven_offset_pct < rule.breakeven_activate_pct
        has_scale_out = 0 < rule.scale_out_fraction < 1 and 0 < rule.scale_out_at < 1
        return ExitPlan(
            position_id=self.position_id,
            symbol=self.symbol,
            side=side,
            entry_price=entry,
            stop_price=_away(entry, -side, rule.stop_loss_pct),
            target_price=_away(entry, side, rule.take_profit_pct),
            trailing_activate_pct=rule.trailing_activate_pct,
            trailing_pct=rule.trailing_pct,
            expires_at=self.opened_at + rule.timeout_ns if rule.timeout_ns > 0 else 0,
            breakeven_activate_pct=rule.breakeven_activate_pct if has_breakeven else 0.0,
            breakeven_price=entry * (1.0 + side * rule.breakeven_offset_pct) if has_breakeven else math.nan,
            scale_out_fraction=rule.scale_out_fraction if has_scale_out else 0.0,
            scale_out_price=_away(entry, side, rule.take_profit_pct * rule.scale_out_at) if has_scale_out else math.nan,
            opened_base=self.opened,
            opened_at=self.opened_at,
            best_price=math.nan if self.best_mark is None else float(self.best_mark),
        )


def _away(entry: float, direction: int, fraction: float) -> float:
    return entry * (1.0 + direction * fraction) if fraction > 0 else math.nan  # NaN and 0: switched off

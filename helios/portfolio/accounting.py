"""The account: a fold of our fills, marked to market on every price.

Exactness: sums and products run with 60 digits and the only division (the share of cost or fee that a partial close takes out)
is cut at 1e-12 and the rest stays in the position, so `equity == initial + realised + unrealised` holds to the last digit.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Context, Decimal, localcontext

from helios.domain.enums import Side
from helios.domain.events import Mark
from helios.domain.orders import AccountSnapshot, ExitPlan, ExitRule, Fill, OrderRecord, PositionView
from helios.errors import InvariantError
from helios.execution.ports import AccountState

NS_PER_DAY = 86_400 * 1_000_000_000
ZERO = Decimal(0)
_EXACT = Context(prec=60)
_SHARE = Decimal("1e-12")
_EPOCH_DAY = date(1970, 1, 1)


def utc_day(ts: int) -> str:
    """Return the UTC date of `ts` (ns) as YYYY-MM-DD."""
    return (_EPOCH_DAY + timedelta(days=ts // NS_PER_DAY)).isoformat()


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """What one closing order took out of a position; `is_final` where it left nothing.

    `pnl_quote` is after the fees of the exit and the closed part's share of the entry fees, which `fees_quote` sums.
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


@dataclass(slots=True)
class _Position:
    """`quantity` and `cost` carry the sign of the side; `entry_fees` are those of the part still open."""

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
    opened: Decimal = ZERO
    best_mark: Decimal | None = None

    @property
    def side(self) -> Side:
        return Side.BUY if self.quantity > 0 else Side.SELL

    @property
    def average_price(self) -> Decimal:
        average = self.cost / self.quantity
        rounded = average.quantize(_SHARE)
        return _plain(rounded)

    def see(self, price: Decimal) -> None:
        """Remember the best price since the opening: what a symbol's owner that was restarted cannot know."""
        if self.best_mark is None or self.side * price > self.side * self.best_mark:
            self.best_mark = price


class Account:
    """Cash, positions and their history in one quote currency.

    Buying takes the cost out of cash and selling short adds the proceeds, so equity is cash + sum(quantity x mark).
    Leverage is kept for display; it is in the quantity already and never multiplies P&L.

    Parameters
    ----------
    initial_cash : Decimal
        Quote currency, before any fill.
    started_at : int
        ns UTC; its UTC day is the first day of the daily loss.
    history_limit : int
        How many closed trades are kept in `closed`; the oldest go first.
    """

    def __init__(self, initial_cash: Decimal, started_at: int, history_limit: int = 1_000) -> None:
        self.initial_cash = initial_cash
        self.closed: deque[ClosedTrade] = deque(maxlen=history_limit)
        self.bad_marks = 0
        self._cash = initial_cash
        self._peak = initial_cash
        self._day = started_at // NS_PER_DAY
        self._day_start = initial_cash
        self._positions: dict[str, _Position] = {}
        self._marks: dict[str, tuple[Decimal, int]] = {}
        self._fill_ids: set[str] = set()
        self._realised = ZERO
        self._fees = ZERO
        self._entries_today: set[str] = set()
        self._last_entry_at: dict[str, int] = {}
        self._consecutive_losses = 0
        self._closed_positions = 0
        self._winning_positions = 0

    @property
    def day(self) -> str:
        """UTC date of the newest mark or fill."""
        return utc_day(self._day * NS_PER_DAY)

    def has_fill(self, fill_id: str) -> bool:
        """Whether a fill is booked already."""
        return fill_id in self._fill_ids

    def apply(self, record: OrderRecord, fill: Fill) -> None:
        """Book one fill of `record`; a known fill id changes nothing.

        Raises
        ------
        InvariantError
            If the fill is of another order or its price or quantity is not positive.
        """
        if fill.fill_id in self._fill_ids:
            return
        if fill.client_order_id != record.client_order_id or fill.symbol != record.symbol or fill.side is not record.side:
            raise InvariantError(f"fill {fill.fill_id} is not of order {record.client_order_id}")
        if not (_is_positive(fill.price) and _is_positive(fill.quantity_base) and fill.fee_quote.is_finite()):
            raise InvariantError(f"fill {fill.fill_id} has no positive price and quantity")
        self._fill_ids.add(fill.fill_id)
        with localcontext(_EXACT):
            self._roll(fill.ts_event)
            self._cash -= fill.side * fill.quantity_base * fill.price + fill.fee_quote
            self._fees += fill.fee_quote
            self._realised -= fill.fee_quote
            self._trade(record, fill)
            if fill.ts_event > self._marks.get(fill.symbol, (ZERO, -1))[1]:
                self._marks[fill.symbol] = (fill.price, fill.ts_event)
            self._peak = max(self._peak, self._equity())

    def mark(self, mark: Mark) -> None:
        """Value a symbol anew. Prices that are not positive numbers are counted in `bad_marks`, older ones ignored."""
        if not (math.isfinite(mark.price) and mark.price > 0):
            self.bad_marks += 1
            return
        if mark.ts_event < self._marks.get(mark.symbol, (ZERO, 0))[1]:
            return
        with localcontext(_EXACT):
            self._roll(mark.ts_event)
            self._marks[mark.symbol] = (Decimal(str(mark.price)), mark.ts_event)
            if mark.symbol in self._positions:
                self._positions[mark.symbol].see(self._marks[mark.symbol][0])
            self._peak = max(self._peak, self._equity())

    def snapshot(self, ts: int) -> AccountSnapshot:
        """Return the account as of `ts`; `realised_pnl_quote` is after all fees paid."""
        with localcontext(_EXACT):
            self._roll(ts)
            equity = self._equity()
            views = tuple(self._view(self._positions[symbol]) for symbol in sorted(self._positions))
            return AccountSnapshot(
                ts_event=ts,
                equity_quote=equity,
                cash_quote=self._cash,
                peak_equity_quote=self._peak,
                day_start_equity_quote=self._day_start,
                realised_pnl_quote=self._realised,
                unrealised_pnl_quote=sum((view.unrealised_pnl_quote for view in views), ZERO),
                fees_quote=self._fees,
                drawdown=_loss(self._peak, equity),
                daily_loss=_loss(self._day_start, equity),
                positions=views,
                entries_today=len(self._entries_today),
                consecutive_losses=self._consecutive_losses,
                last_entry_at=tuple(sorted(self._last_entry_at.items())),
                closed_trades=self._closed_positions,
                winning_trades=self._winning_positions,
            )

    def exit_plans(self) -> list[ExitPlan]:
        """Return what must be watched: one plan per open position whose opening order brought an exit rule."""
        with localcontext(_EXACT):
            plans = [self._plan(self._positions[symbol]) for symbol in sorted(self._positions)]
        return [plan for plan in plans if plan is not None]

    def position_id(self, symbol: str) -> str | None:
        """Return the id of the open position in `symbol`: the client order id that opened it."""
        position = self._positions.get(symbol)
        return None if position is None else position.position_id

    def position(self, position_id: str) -> PositionView | None:
        """Return the open position with this id."""
        with localcontext(_EXACT):
            return next((self._view(p) for p in self._positions.values() if p.position_id == position_id), None)

    def restore(self, state: AccountState) -> None:
        """Take over the peak and the start of the day, which fills alone cannot rebuild. Call it after the fills."""
        self._peak = max(self._peak, Decimal(state.peak_equity_quote))
        day = (date.fromisoformat(state.day) - _EPOCH_DAY).days
        if day > self._day:
            self._entries_today.clear()
            self._consecutive_losses = 0  # a losing streak stops the day, not the desk for ever
        if day >= self._day:
            self._day, self._day_start = day, Decimal(state.day_start_equity_quote)

    def _roll(self, ts: int) -> None:
        # The first event of a new UTC day: what the account was worth up to now is where the day starts.
        day = ts // NS_PER_DAY
        if day > self._day:
            self._day, self._day_start = day, self._equity()
            self._entries_today.clear()
            self._consecutive_losses = 0  # a losing streak stops the day, not the desk for ever

    def _equity(self) -> Decimal:
        return self._cash + sum((p.quantity * self._marks[p.symbol][0] for p in self._positions.values()), ZERO)

    def _trade(self, record: OrderRecord, fill: Fill) -> None:
        position = self._positions.get(fill.symbol)
        quantity, fee = fill.quantity_base, fill.fee_quote
        if position is not None and position.side is not fill.side:
            closing = min(quantity, abs(position.quantity))
            closing_fee = fee if closing == quantity else _share(fee, closing, quantity)
            self._close(position, record, fill, closing, closing_fee)
            quantity, fee = quantity - closing, fee - closing_fee
        if quantity > 0:
            self._open(record, fill, quantity, fee)

    def _open(self, record: OrderRecord, fill: Fill, quantity: Decimal, fee: Decimal) -> None:
        if fill.ts_event // NS_PER_DAY == self._day:
            self._entries_today.add(record.client_order_id)
        self._last_entry_at[fill.symbol] = max(fill.ts_event, self._last_entry_at.get(fill.symbol, 0))
        position = self._positions.get(fill.symbol)
        if position is None:
            position = self._positions[fill.symbol] = _Position(
                record.client_order_id, record.decision_id, fill.symbol, ZERO, ZERO, ZERO, fill.ts_event, record.leverage, None
            )
        position.quantity += fill.side * quantity
        position.opened += quantity
        position.cost += fill.side * quantity * fill.price
        position.entry_fees += fee
        position.exit_rule = position.exit_rule or record.exit_rule

    def _close(self, position: _Position, record: OrderRecord, fill: Fill, quantity: Decimal, exit_fee: Decimal) -> None:
        held, entry_price = abs(position.quantity), position.average_price
        is_final = quantity == held
        cost = position.cost if is_final else _share(position.cost, quantity, held)
        entry_fee = position.entry_fees if is_final else _share(position.entry_fees, quantity, held)
        gross = position.side * quantity * fill.price - cost
        pnl = gross - entry_fee - exit_fee
        self._realised += gross
        position.realised += pnl
        self._note(
            ClosedTrade(
                position.position_id, record.client_order_id, fill.symbol, position.side, entry_price, fill.price, quantity,
                pnl, entry_fee + exit_fee, record.reason, position.opened_at, fill.ts_event, is_final,
            )
        )  # fmt: skip
        position.quantity += fill.side * quantity
        position.cost -= cost
        position.entry_fees -= entry_fee
        if is_final:
            self._count(position)
            del self._positions[fill.symbol]

    def _note(self, trade: ClosedTrade) -> None:
        # Fills of one closing order make one trade, so that a thin book does not look like many trades.
        last = self.closed[-1] if self.closed else None
        same = last is not None and (last.position_id, last.closing_order_id) == (trade.position_id, trade.closing_order_id)
        if last is None or not same:
            self.closed.append(trade)
            return
        quantity = last.quantity_base + trade.quantity_base
        value = last.exit_price * last.quantity_base + trade.exit_price * trade.quantity_base
        self.closed[-1] = replace(
            trade,
            entry_price=last.entry_price,
            exit_price=_plain((value / quantity).quantize(_SHARE)),
            quantity_base=quantity,
            pnl_quote=last.pnl_quote + trade.pnl_quote,
            fees_quote=last.fees_quote + trade.fees_quote,
        )

    def _count(self, position: _Position) -> None:
        # A position counts once, with everything its partial closes brought; break-even neither ends nor lengthens a streak.
        self._closed_positions += 1
        if position.realised > 0:
            self._winning_positions += 1
            self._consecutive_losses = 0
        elif position.realised < 0:
            self._consecutive_losses += 1

    def _view(self, position: _Position) -> PositionView:
        mark = self._marks[position.symbol][0]
        plan = self._plan(position)
        return PositionView(
            symbol=position.symbol,
            quantity_base=position.quantity,
            average_price=position.average_price,
            mark_price=mark,
            realised_pnl_quote=position.realised,
            unrealised_pnl_quote=position.quantity * mark - position.cost,
            opened_at=position.opened_at,
            leverage=position.leverage,
            decision_id=position.decision_id,
            stop_price=math.nan if plan is None else plan.stop_price,
            target_price=math.nan if plan is None else plan.target_price,
            expires_at=0 if plan is None else plan.expires_at,
        )

    @staticmethod
    def _plan(position: _Position) -> ExitPlan | None:
        rule = position.exit_rule
        if rule is None:
            return None
        entry, side = float(position.average_price), position.side
        has_breakeven = 0 <= rule.breakeven_offset_pct < rule.breakeven_activate_pct
        has_scale_out = 0 < rule.scale_out_fraction < 1 and 0 < rule.scale_out_at < 1
        return ExitPlan(
            position_id=position.position_id,
            symbol=position.symbol,
            side=side,
            entry_price=entry,
            stop_price=_away(entry, -side, rule.stop_loss_pct),
            target_price=_away(entry, side, rule.take_profit_pct),
            trailing_activate_pct=rule.trailing_activate_pct,
            trailing_pct=rule.trailing_pct,
            expires_at=position.opened_at + rule.timeout_ns if rule.timeout_ns > 0 else 0,
            breakeven_activate_pct=rule.breakeven_activate_pct if has_breakeven else 0.0,
            breakeven_price=entry * (1.0 + side * rule.breakeven_offset_pct) if has_breakeven else math.nan,
            scale_out_fraction=rule.scale_out_fraction if has_scale_out else 0.0,
            scale_out_price=_away(entry, side, rule.take_profit_pct * rule.scale_out_at) if has_scale_out else math.nan,
            opened_base=position.opened,
            opened_at=position.opened_at,
            best_price=math.nan if position.best_mark is None else float(position.best_mark),
        )


def _away(entry: float, direction: int, fraction: float) -> float:
    return entry * (1.0 + direction * fraction) if fraction > 0 else math.nan  # NaN and 0: switched off


def _is_positive(value: Decimal) -> bool:
    return value.is_finite() and value > 0


def _share(total: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    return (total * part / whole).quantize(_SHARE)


def _plain(value: Decimal) -> Decimal:
    # Drop trailing zeros without falling into exponent form (8.5E+5).
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value.normalize()


def _loss(start: Decimal, now: Decimal) -> float:
    return max(0.0, float((start - now) / start)) if start > 0 else 0.0

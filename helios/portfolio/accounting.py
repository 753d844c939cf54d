"""The account: a fold of our fills, of funding and of transfers, marked to market on every price.

Exactness: sums and products run with 60 digits and the only division (the share of cost, fee or funding that a partial close takes
out) is cut at 1e-12 and the rest stays in the position, so `equity == initial + transfers + realised + unrealised` holds to the
last digit. docs/accounting.md has the definitions and worked figures.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Context, Decimal, localcontext

from helios.domain.enums import MovementKind
from helios.domain.events import Mark
from helios.domain.market import Instrument
from helios.domain.orders import AccountSnapshot, ExitPlan, Fill, Movement, OrderRecord, PositionView
from helios.errors import InvariantError, RejectedError
from helios.execution.exit_rules import is_dust
from helios.execution.ports import AccountState
from helios.portfolio.currency import BookedFill, CurrencyBalances, base_of, book_fill, is_spot, quote_of, valued
from helios.portfolio.positions import SHARE, ZERO, ClosedTrade, Position, share

NS_PER_DAY = 86_400 * 1_000_000_000
_EXACT = Context(prec=60)
_EPOCH_DAY = date(1970, 1, 1)


def utc_day(ts: int) -> str:
    """Return the UTC date of `ts` (ns) as YYYY-MM-DD."""
    return (_EPOCH_DAY + timedelta(days=ts // NS_PER_DAY)).isoformat()


class Account:
    """Cash, positions and their history in one quote currency.

    Buying takes the cost out of cash and selling short adds the proceeds, so equity is cash + sum(quantity x mark).
    Leverage is kept for display; it is in the quantity already and never multiplies P&L. All symbols are quoted in one currency;
    fees taken in another are balances of it (see `helios.portfolio.currency`).

    Parameters
    ----------
    initial_cash : Decimal
        Quote currency, before any fill.
    started_at : int
        ns UTC; its UTC day is the first day of the daily loss.
    history_limit : int
        How many closed trades are kept in `closed`; the oldest go first.
    quote : str
        The account's currency; empty takes that of the first fill.
    """

    def __init__(self, initial_cash: Decimal, started_at: int, history_limit: int = 1_000, quote: str = "") -> None:
        self.initial_cash = initial_cash
        self.closed: deque[ClosedTrade] = deque(maxlen=history_limit)
        self.bad_marks = 0
        self._cash = initial_cash
        self._peak = initial_cash
        self._as_of = started_at
        self._day = started_at // NS_PER_DAY
        self._day_start = initial_cash
        self._positions: dict[str, Position] = {}
        self._marks: dict[str, tuple[Decimal, int]] = {}
        self._held = ZERO  # value of all positions, kept up by differences: with hundreds of symbols a sum per price is too slow
        self._peak_rebased_at = 0
        self._fill_ids: set[str] = set()
        self._movement_ids: set[str] = set()
        self._quote = quote
        self._others = CurrencyBalances()
        self._realised = ZERO
        self._fees = ZERO
        self._funding = ZERO
        self._transfers = ZERO
        self._closed_pnl = ZERO
        self._entries_today: set[str] = set()
        self._last_entry_at: dict[str, int] = {}
        self._consecutive_losses = 0
        self._closed_positions = 0
        self._winning_positions = 0
        self._instruments: Mapping[str, Instrument] = {}

    def know(self, instruments: Mapping[str, Instrument]) -> None:
        """Take the venue's smallest orders, by symbol, without which no rest of a position is dust. Call it before any fill."""
        self._instruments = instruments

    @property
    def day(self) -> str:
        """UTC date of the newest mark or fill."""
        return utc_day(self._day * NS_PER_DAY)

    @property
    def as_of(self) -> int:
        """Newest time (ns) the account knows of: of a fill, price or payment, of a question, or of the day it was restored to."""
        return self._as_of

    def has_fill(self, fill_id: str) -> bool:
        """Whether a fill is booked already."""
        return fill_id in self._fill_ids

    def has_movement(self, movement_id: str) -> bool:
        """Whether a transfer or a funding payment is booked already."""
        return movement_id in self._movement_ids

    def apply(self, record: OrderRecord, fill: Fill) -> None:
        """Book one fill of `record`; a known fill id changes nothing.

        Raises
        ------
        InvariantError
            If the fill is of another order, its price or quantity is not positive, or its fee is not a number or eats the
            quantity.
        """
        if fill.fill_id in self._fill_ids:
            return
        if fill.client_order_id != record.client_order_id or fill.symbol != record.symbol or fill.side is not record.side:
            raise InvariantError(f"fill {fill.fill_id} is not of order {record.client_order_id}")
        with localcontext(_EXACT):
            booked = book_fill(fill, self._others.rates)
            self._fill_ids.add(fill.fill_id)
            self._quote = self._quote or quote_of(fill.symbol)
            self._roll(fill.ts_event)
            self._cash -= fill.side * booked.quantity_base * fill.price
            if booked.foreign is None:
                self._cash -= booked.fee_quote
            else:
                self._others.add(*booked.foreign)
            self._fees += booked.fee_quote
            self._realised -= booked.fee_quote
            before = self._value(fill.symbol)
            self._trade(record, fill, booked)
            if fill.ts_event > self._marks.get(fill.symbol, (ZERO, -1))[1]:
                self._marks[fill.symbol] = (fill.price, fill.ts_event)
            self._held += self._value(fill.symbol) - before
            self._peak = max(self._peak, self._equity())

    def valued(self, fill: Fill) -> Fill:
        """Return `fill` with a fee in another currency valued at the last rate or price of its pair, where the broker did not."""
        pair = self._marks.get(f"{fill.fee_currency}/{quote_of(fill.symbol)}")
        rates = self._others.rates if pair is None else {fill.fee_currency: pair[0]} | self._others.rates
        with localcontext(_EXACT):
            return valued(fill, rates)

    def mark(self, mark: Mark) -> None:
        """Value a symbol anew. Prices that are not positive numbers are counted in `bad_marks`, older ones ignored."""
        if not (math.isfinite(mark.price) and mark.price > 0):
            self.bad_marks += 1
            return
        if mark.ts_event < self._marks.get(mark.symbol, (ZERO, 0))[1]:
            return
        with localcontext(_EXACT):
            self._roll(mark.ts_event)
            price = Decimal(str(mark.price))
            self._price(mark.symbol, price, mark.ts_event)
            if mark.symbol in self._positions:
                self._positions[mark.symbol].see(price)
            if is_spot(mark.symbol) and quote_of(mark.symbol) == self._quote and base_of(mark.symbol) in self._others:
                self._others.rate(base_of(mark.symbol), price, mark.ts_event)
            self._peak = max(self._peak, self._equity())

    def rate(self, currency: str, rate: Decimal, ts: int) -> None:
        """Value the balance of another currency at `rate` quote currency per unit; a mark of its spot pair does the same.

        Rates that are not positive numbers are counted in `bad_marks`, older ones ignored.
        """
        if not (rate.is_finite() and rate > 0):
            self.bad_marks += 1
            return
        with localcontext(_EXACT):
            self._roll(ts)
            self._others.rate(currency, rate, ts)
            self._peak = max(self._peak, self._equity())

    def fund(self, symbol: str, amount_quote: Decimal, ts: int, movement_id: str) -> None:
        """Book funding of a perpetual, positive where it was received; a known id changes nothing.

        It is realised profit, and that of the position open in `symbol`. Where none is open any more (a late payment) it belongs to
        the account alone.

        Raises
        ------
        InvariantError
            If the amount is not a number.
        """
        if not self._is_news(movement_id, amount_quote):
            return
        with localcontext(_EXACT):
            self._roll(ts)
            self._cash += amount_quote
            self._realised += amount_quote
            self._funding += amount_quote
            position = self._positions.get(symbol)
            if position is not None:
                position.funding += amount_quote
            self._peak = max(self._peak, self._equity())

    def transfer(self, amount: Decimal, ts: int, movement_id: str, currency: str = "", value_quote: Decimal | None = None) -> None:
        """Book a deposit, or below zero a withdrawal: it is no profit and no loss.

        Cash and the start of the day move by it, so that the day's loss keeps its size in money; the peak moves so that the
        drawdown keeps its fraction, for whoever takes out half of an account in a drawdown has not lost anything by it.

        A known id changes nothing. Another currency than the quote (`currency`) becomes a balance, at `value_quote` or, without
        it, at the last known rate.

        Raises
        ------
        InvariantError
            If the amount is not a number.
        RejectedError
            If nobody says what another currency is worth: counted as nothing it would later look like profit.
        """
        value = self.value_of(amount, currency, value_quote)
        if not self._is_news(movement_id, amount):
            return
        with localcontext(_EXACT):
            self._roll(ts)
            before = self._equity()
            if currency in ("", self._quote):
                self._cash += amount
            else:
                self._others.add(currency, amount, value)
            self._transfers += value
            self._day_start += value
            self._peak = max(_moved(self._peak, before, self._equity()), self._equity())

    def value_of(self, amount: Decimal, currency: str = "", value_quote: Decimal | None = None) -> Decimal:
        """Return what an amount is worth in quote currency: the value given, or the last rate.

        Raises
        ------
        RejectedError
            If neither is known.
        """
        if currency in ("", self._quote):
            return amount
        if value_quote is not None and value_quote.is_finite():
            return value_quote
        rate = self._others.rates.get(currency)
        if rate is None:
            raise RejectedError(f"nobody says what {amount} {currency} are worth in quote currency")
        with localcontext(_EXACT):
            return amount * rate

    def book(self, movement: Movement) -> None:
        """Book one transfer or funding payment as the ledger keeps it; a known id changes nothing."""
        m = movement
        if m.kind is MovementKind.FUNDING:
            self.fund(m.symbol, m.amount, m.ts_event, m.movement_id)
        else:
            self.transfer(m.amount, m.ts_event, m.movement_id, m.currency, m.value_quote)

    def rebase_peak(self, ts: int) -> None:
        """Let drawdown start anew: the peak becomes the equity of now. A person's decision; it survives a restart.

        Raises
        ------
        RejectedError
            If there is no equity left to start from.
        """
        with localcontext(_EXACT):
            equity = self._equity()
            if equity <= 0:
                raise RejectedError(f"drawdown cannot start anew from an equity of {equity}")
            self._roll(ts)
            self._peak = equity
        self._peak_rebased_at = ts

    def snapshot(self, ts: int) -> AccountSnapshot:
        """Return the account as of `ts`; `mark_age_ns` of the answer says how old the prices are on which it rests."""
        with localcontext(_EXACT):
            self._roll(ts)
            equity = self._equity()
            currency_pnl = self._others.gain()
            views = tuple(self._shown(self._positions[symbol]) for symbol in sorted(self._positions))
            return AccountSnapshot(
                ts_event=ts,
                equity_quote=equity,
                cash_quote=self._cash,
                peak_equity_quote=self._peak,
                day_start_equity_quote=self._day_start,
                realised_pnl_quote=self._realised,
                unrealised_pnl_quote=sum((view.unrealised_pnl_quote for view in views), currency_pnl),
                fees_quote=self._fees,
                drawdown=_loss(self._peak, equity),
                daily_loss=_loss(self._day_start, equity),
                positions=views,
                entries_today=len(self._entries_today),
                consecutive_losses=self._consecutive_losses,
                last_entry_at=tuple(sorted(self._last_entry_at.items())),
                closed_trades=self._closed_positions,
                winning_trades=self._winning_positions,
                funding_quote=self._funding,
                transfers_quote=self._transfers,
                currency_pnl_quote=currency_pnl,
                closed_pnl_quote=self._closed_pnl,
                balances=self._others.amounts,
                rates=self._others.rated,
                unvalued=self._others.unvalued,
                oldest_mark_ns=min((view.marked_at for view in views if not view.is_dust), default=0),
                peak_rebased_at=self._peak_rebased_at,
            )

    def exit_plans(self) -> list[ExitPlan]:
        """Return what must be watched: one plan per open position, dust left out, whose opening order brought an exit rule."""
        with localcontext(_EXACT):
            closable = [s for s in sorted(self._positions) if not self._is_dust(self._positions[s], self._marks[s][0])]
            plans = [self._positions[symbol].exit_plan() for symbol in closable]
        return [plan for plan in plans if plan is not None]

    def position_id(self, symbol: str) -> str | None:
        """Return the id of the open position in `symbol`: the client order id that opened it."""
        position = self._positions.get(symbol)
        return None if position is None else position.position_id

    def last_price(self, symbol: str) -> tuple[Decimal, int] | None:
        """Return the newest known price of a symbol and when (ns) it came, held or not."""
        return self._marks.get(symbol)

    def position(self, position_id: str) -> PositionView | None:
        """Return the open position with this id."""
        with localcontext(_EXACT):
            return next((self._shown(p) for p in self._positions.values() if p.position_id == position_id), None)

    def restore(self, state: AccountState) -> None:
        """Take over peak, start of the day and last prices, which fills alone cannot rebuild. Call it after fills and movements.

        Fills are replayed without the prices between them: with one symbol still at an old high and another at a new one they show
        peaks that never were, or that a person took back. So the saved peak holds; the equity of now may exceed it only where it was
        not a person's.
        """
        with localcontext(_EXACT):
            for symbol, price, ts in state.marks:
                if ts > self._marks.get(symbol, (ZERO, 0))[1]:
                    self._price(symbol, Decimal(price), ts)
                    self._as_of = max(self._as_of, ts)
            for symbol, price, opened_at in state.bests:
                position = self._positions.get(symbol)
                if position is not None and position.opened_at == opened_at:  # not of an earlier position in the symbol
                    position.see(Decimal(price))
            for currency, rate, ts in state.rates:
                self._others.rate(currency, Decimal(rate), ts)
        saved = Decimal(state.peak_equity_quote)
        with localcontext(_EXACT):
            self._peak = saved if state.peak_rebased_at else max(saved, self._equity())
        self._peak_rebased_at = state.peak_rebased_at
        day = (date.fromisoformat(state.day) - _EPOCH_DAY).days
        if day > self._day:
            self._entries_today.clear()
            self._consecutive_losses = 0  # a losing streak stops the day, not the desk for ever
        if day >= self._day:
            self._as_of = max(self._as_of, day * NS_PER_DAY)
            self._day, self._day_start = day, Decimal(state.day_start_equity_quote)

    def _roll(self, ts: int) -> None:
        # The first event of a new UTC day: what the account was worth up to now is where the day starts.
        self._as_of = max(self._as_of, ts)
        day = ts // NS_PER_DAY
        if day > self._day:
            self._day, self._day_start = day, self._equity()
            self._entries_today.clear()
            self._consecutive_losses = 0  # a losing streak stops the day, not the desk for ever

    def _equity(self) -> Decimal:
        return self._cash + self._held + self._others.worth()

    def _price(self, symbol: str, price: Decimal, ts: int) -> None:
        before = self._value(symbol)
        self._marks[symbol] = (price, ts)
        self._held += self._value(symbol) - before

    def _value(self, symbol: str) -> Decimal:
        position = self._positions.get(symbol)
        return ZERO if position is None else position.quantity * self._marks[symbol][0]

    def _is_news(self, movement_id: str, amount: Decimal) -> bool:
        if movement_id in self._movement_ids:
            return False
        if not amount.is_finite():
            raise InvariantError(f"movement {movement_id} has no amount")
        self._movement_ids.add(movement_id)
        return True

    def _trade(self, record: OrderRecord, fill: Fill, booked: BookedFill) -> None:
        position = self._positions.get(fill.symbol)
        quantity, fee = booked.quantity_base, booked.fee_quote
        if position is not None and position.side is not fill.side:
            closing = min(quantity, abs(position.quantity))
            closing_fee = fee if closing == quantity else share(fee, closing, quantity)
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
            position = self._positions[fill.symbol] = Position(
                record.client_order_id, record.decision_id, fill.symbol, ZERO, ZERO, ZERO, fill.ts_event, record.leverage, None
            )
        elif position.has_ended or (position.position_id != record.client_order_id and self._is_dust(position, fill.price)):
            position.begin_anew(record.client_order_id, record.decision_id, fill.ts_event, record.leverage)
        position.quantity += fill.side * quantity
        position.opened += quantity
        position.cost += fill.side * quantity * fill.price
        position.entry_fees += fee
        position.exit_rule = position.exit_rule or record.exit_rule

    def _close(self, position: Position, record: OrderRecord, fill: Fill, quantity: Decimal, exit_fee: Decimal) -> None:
        held, entry_price = abs(position.quantity), position.average_price
        is_all = quantity == held
        cost = position.cost if is_all else share(position.cost, quantity, held)
        entry_fee = position.entry_fees if is_all else share(position.entry_fees, quantity, held)
        funding = position.funding if is_all else share(position.funding, quantity, held)
        gross = -fill.side * quantity * fill.price - cost
        pnl = gross - entry_fee - exit_fee + funding
        self._realised += gross
        position.realised += pnl
        position.quantity += fill.side * quantity
        ends = not position.has_ended and (is_all or self._is_dust(position, fill.price))
        self._note(
            ClosedTrade(
                position.position_id, record.client_order_id, fill.symbol, fill.side.opposite, entry_price, fill.price, quantity,
                pnl, entry_fee + exit_fee, record.reason, position.opened_at, fill.ts_event, ends, funding,
            )
        )  # fmt: skip
        position.cost -= cost
        position.entry_fees -= entry_fee
        position.funding -= funding
        if position.has_ended:
            self._closed_pnl += pnl  # of dust that an order has taken along after all
        elif ends:
            position.has_ended = True
            self._count(position)
        if is_all:
            del self._positions[fill.symbol]

    def _note(self, trade: ClosedTrade) -> None:
        # Fills of one closing order make one trade, so that a thin book does not look like many trades.
        last = self.closed[-1] if self.closed else None
        same = last is not None and (last.position_id, last.closing_order_id) == (trade.position_id, trade.closing_order_id)
        if last is None or not same:
            self.closed.append(trade)
            return
        self.closed[-1] = last.joined(trade)

    def _count(self, position: Position) -> None:
        # A position counts once, with everything its partial closes brought; break-even neither ends nor lengthens a streak.
        self._closed_positions += 1
        self._closed_pnl += position.realised
        if position.realised > 0:
            self._winning_positions += 1
            self._consecutive_losses = 0
        elif position.realised < 0:
            self._consecutive_losses += 1

    def _shown(self, position: Position) -> PositionView:
        return position.view(*self._marks[position.symbol], self._instruments.get(position.symbol))

    def _is_dust(self, position: Position, price: Decimal) -> bool:
        return is_dust(position.quantity, price, self._instruments.get(position.symbol))


def _moved(peak: Decimal, before: Decimal, after: Decimal) -> Decimal:
    # a fraction of nothing cannot be kept: then the money can
    return (peak * after / before).quantize(SHARE) if before > 0 and after > 0 else peak + after - before


def _loss(start: Decimal, now: Decimal) -> float:
    if start > 0:
        return max(0.0, float((start - now) / start))
    return 1.0 if now < 0 else 0.0  # no fraction of nothing, but who owes has lost all there was: a limit must see it

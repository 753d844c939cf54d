"""The execution engine: the only place where money moves.

Every order is committed before it is sent, checked against the account as it is at that moment, sent under an id that the same
decision can only have once, and never sent again before the broker was asked. Start-up and crash recovery are one path.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import count

from helios.config import LimitConfig
from helios.domain.enums import ExitReason, MovementKind, OrderStatus
from helios.domain.events import Mark
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import (
    AccountSnapshot,
    ExitPlan,
    ExitTriggered,
    Movement,
    OrderIntent,
    OrderOutcome,
    OrderRecord,
    client_order_id,
)
from helios.errors import RejectedError, StoreUnavailableError
from helios.execution.checks import LEDGER_UNAVAILABLE, PreTradeCheck
from helios.execution.exit_rules import SCALE_OUT_LEG, exit_quantity, scale_out_quantity
from helios.execution.gate import Findings, OrderGate, Ruling
from helios.execution.guard import AccountGuard
from helios.execution.journal import ExitJournal, MemoryJournal
from helios.execution.leaving import Leaving, exit_record
from helios.execution.lifecycle import is_open, new_record
from helios.execution.ports import Broker, LedgerStore
from helios.execution.sender import OrderSender
from helios.portfolio.accounting import Account
from helios.portfolio.positions import ClosedTrade
from helios.risk.trips import Trip

SAVE_EVERY_NS = 60_000_000_000
"""How old the saved prices of the positions may be when the process dies, in market time."""


class ExecutionEngine:
    """Checks, commits, sends and books orders; closes positions whose exit fired.

    Entries run one after the other, so that two of one batch cannot both pass a limit that fits only one. Exits wait for
    nothing but an order of their own symbol that is on its way. `FencedError` and `InvariantError` pass through every method:
    the holder must stop.

    Parameters
    ----------
    store : LedgerStore
    broker : Broker
    account : Account
        Without fills; `start` books those of the ledger.
    instruments : mapping
        By symbol.
    check : callable
        Limits: (intent, account, market, ns) -> deny codes. It sees the account after every earlier fill of the batch, and
        the intent's `ts_event` as time.
    owner : str
        Name of this incarnation, for the ledger.
    journal : ExitJournal or None
        Where exits go while the ledger is away; None keeps them in memory.
    guard : AccountGuard or None
        The circuit breakers, fed with every account this engine gives out; None takes the default limits.
    findings : callable or None
        What `check` found at its last look at an order, in figures; None leaves refusals without words.
    """

    def __init__(
        self,
        store: LedgerStore,
        broker: Broker,
        account: Account,
        instruments: Mapping[str, Instrument],
        check: PreTradeCheck,
        owner: str,
        journal: ExitJournal | None = None,
        guard: AccountGuard | None = None,
        findings: Findings | None = None,
    ) -> None:
        self._store = store
        self._account = account
        account.know(instruments)
        self._instruments = instruments
        self._owner = owner
        self._sender = OrderSender(store, broker, account, MemoryJournal() if journal is None else journal)
        self._guard = AccountGuard(LimitConfig()) if guard is None else guard
        self._gate = OrderGate(check, findings, instruments, account, self._guard)
        self._saved: tuple[str, Decimal, int, tuple[str, ...]] = ("", Decimal(0), 0, ())
        self._saved_at = 0
        self._now = 0
        self._entry_lock = asyncio.Lock()
        self._symbol_locks: dict[str, asyncio.Lock] = {}
        self._attempts: dict[str, int] = {}  # exits of a whole position that left something of it

    @property
    def epoch(self) -> int:
        """The fencing epoch; 0 before `start`."""
        return self._sender.epoch

    @property
    def pending_exits(self) -> tuple[OrderRecord, ...]:
        """Reducing orders that never reached the broker; `reconcile` sends them once it is given their market."""
        return tuple(self._sender.pending_exits.values())

    @property
    def open_orders(self) -> tuple[OrderRecord, ...]:
        """Orders whose end is not known."""
        return tuple(self._sender.open.values())

    async def start(self) -> None:
        """Take trading over, rebuild the account from the ledger and ask the broker about every open order.

        Raises
        ------
        StoreUnavailableError
            If the ledger cannot be read; nothing may be traded, call it again.
        """
        self._sender.epoch = await self._store.acquire_epoch(self._owner)
        await self._sender.load()
        state = await self._store.load_account()
        if state is not None:
            self._account.restore(state)
        self._now = self._account.as_of  # saved under an older time, the start of the day would be lost to the next restart
        if state is not None:
            self._guard.restore(state.breakers, self._now)
        await self.reconcile({})

    def set_trading(self, entries_allowed: bool) -> None:
        """Allow or refuse entries (TRADING_PAUSED); reducing orders and exits always pass."""
        self._gate.entries_allowed = entries_allowed

    def set_reduce_only(self, symbols: Iterable[str]) -> None:
        """Open nothing in these symbols any more (SYMBOL_REDUCE_ONLY), and again in those that are no longer among them."""
        self._guard.reduce_only = tuple(sorted(symbols))

    async def submit(self, intents: Sequence[OrderIntent], markets: Mapping[str, MarketSnapshot]) -> list[OrderOutcome]:
        """Check, commit and send in the given order; one outcome per intent.

        A known client order id returns what became of it. A refusal is recorded with all its codes and figures. With the
        ledger away an entry is refused with LEDGER_UNAVAILABLE, unrecorded, and may be tried again.
        """
        async with self._entry_lock:
            outcomes = [await self._submit(intent, markets) for intent in intents]
        await self._save(max((intent.ts_event for intent in intents), default=0))
        return outcomes

    async def exits(self, triggers: Sequence[ExitTriggered]) -> list[OrderOutcome]:
        """Close positions, or a part of them once, whose exit fired; a position that is gone is left out.

        Goes out without the ledger too. A doubled trigger never sells twice: every order of a position has one id per leg, and what
        may be on its way already is not sold again.
        """
        outcomes: list[OrderOutcome] = []
        for trigger in triggers:
            price = Decimal(str(trigger.trigger_price))
            leaving = Leaving(trigger.position_id, trigger.reason, price, trigger.ts_event, trigger.market)
            outcome = await (self._exit(leaving) if trigger.fraction >= 1 else self._scale_out(leaving))
            if outcome is not None:
                outcomes.append(outcome)
        await self._save(max((trigger.ts_event for trigger in triggers), default=0))
        return outcomes

    async def flatten(
        self, markets: Mapping[str, MarketSnapshot], reason: ExitReason = ExitReason.EMERGENCY, *, for_good: bool = True
    ) -> list[str]:
        """Stop entries, cancel open orders, close every position that has a market; return the symbols left open, without dust.

        One attempt per position and call: repeat it with fresh markets until nothing is left. Entries stay stopped until
        `set_trading`; where it is not `for_good` only as long as the breakers say so.
        """
        if for_good:
            self.set_trading(False)
        await self.reconcile({})
        for record in self.open_orders:
            if record.client_order_id not in self._sender.pending_exits:
                await self._cancel(record)
        for view in self._account.snapshot(self._now).positions:
            position_id, market = self._account.position_id(view.symbol), markets.get(view.symbol)
            if position_id is not None and market is not None:
                await self._exit(Leaving(position_id, reason, market.last, market.ts_event, market))
        after = await self._save(max((market.ts_event for market in markets.values()), default=0))
        return [position.symbol for position in after.open_positions]

    async def reconcile(self, markets: Mapping[str, MarketSnapshot]) -> list[OrderOutcome]:
        """Ask the broker about every open order, send pending exits that have a market, bring the journal into the ledger.

        Call it at intervals while anything is open; every call asks once.
        """
        records = dict(self._sender.open)
        try:
            await self._sender.replay_journal()
            records = {record.client_order_id: record for record in await self._store.open_orders()} | records
        except StoreUnavailableError:
            pass  # what this incarnation sent can still be asked about
        ordered = sorted(records.values(), key=lambda record: (record.ts_event, record.client_order_id))
        outcomes = [await self._reconcile(record, markets.get(record.symbol)) for record in ordered]
        await self._save(max((record.ts_event for record in ordered), default=0))
        return outcomes

    async def account_snapshot(self, marks: Sequence[Mark]) -> AccountSnapshot:
        """Mark to market in the given order and return the account; a new UTC day or peak is saved."""
        for mark in marks:
            self._account.mark(mark)
        return await self._save(max((mark.ts_event for mark in marks), default=0))

    async def account(self, marks: Sequence[Mark]) -> AccountSnapshot:
        """`account_snapshot` under the name that the decision cycle's port has."""
        return await self.account_snapshot(marks)

    async def move(self, movements: Sequence[Movement]) -> AccountSnapshot:
        """Write funding and transfers to the ledger, then into the account; a known id changes nothing.

        Raises
        ------
        RejectedError
            If an amount is not a number, or nobody says what a transfer in another currency is worth; nothing happened.
        StoreUnavailableError
            If the ledger is away; nothing is booked, call it again with the same ids.
        """
        valued = [self._valued(movement) for movement in movements]
        await self._store.record_movements(valued, self.epoch)
        for movement in valued:
            self._account.book(movement)
        self._sender.has_unsaved_fills = True  # peak and day start have moved
        return await self._save(max((movement.ts_event for movement in movements), default=0))

    def has_movement(self, movement_id: str) -> bool:
        """Whether a transfer or funding of this id is booked already."""
        return self._account.has_movement(movement_id)

    @property
    def closed_trades(self) -> tuple[ClosedTrade, ...]:
        """The newest closed trades, oldest first."""
        return tuple(self._account.closed)

    @property
    def trips(self) -> tuple[Trip, ...]:
        """The circuit breakers that are open, oldest first."""
        return self._guard.trips

    async def reset_breakers(self, code: str | None = None) -> AccountSnapshot:
        """Release what tripped under `code` (None: everything) and no longer holds: a person's decision, kept over a restart.

        Releasing the drawdown starts it anew from the present equity.

        Raises
        ------
        RejectedError
            If there is no breaker of that code.
        """
        if self._guard.reset(code, self._account.snapshot(self._now)):
            self._account.rebase_peak(self._now)
        return await self._save(self._now)

    def set_unhealthy(self, components: Sequence[str]) -> None:
        """Note the components of the desk that do not answer, for the breaker that counts them."""
        self._guard.set_unhealthy(components)

    async def note_volatility(self, ratios: Mapping[str, float]) -> None:
        """Show the breakers each symbol's present volatility over its mean: what trips stays so until it has calmed down."""
        self._guard.set_volatility(ratios)
        await self._save(self._now)

    async def exit_plans(self) -> list[ExitPlan]:
        """Return what the symbols must watch now; a scale-out that was tried or does not fit the venue's minimum is off."""
        return [self._watchable(plan) for plan in self._account.exit_plans()]

    async def _submit(self, intent: OrderIntent, markets: Mapping[str, MarketSnapshot]) -> OrderOutcome:
        sender, market = self._sender, markets.get(intent.symbol)
        if intent.client_order_id in sender.records:
            return sender.outcome(sender.records[intent.client_order_id])
        if sender.open:
            await self.reconcile(markets)
        async with self._lock(intent.symbol):
            intent = self._clipped(intent)
            ruling = self._ruling(intent, market)
            codes = ruling.codes
            record = new_record(intent, self.epoch, OrderStatus.REJECTED if codes else OrderStatus.PENDING, codes)
            if codes and ruling.reason:
                record = replace(record, reason=ruling.reason)
            if intent.reduce_only and not codes and market is not None:
                reduced = await self._reduce(record, market)
                return reduced or sender.outcome(sender.records[intent.client_order_id])
            try:
                inserted = await sender.commit(record)
            except StoreUnavailableError:
                codes = (*codes, LEDGER_UNAVAILABLE)
                return OrderOutcome(replace(record, status=OrderStatus.REJECTED, deny_codes=codes))
            if not inserted:
                return sender.outcome(await sender.recorded(intent.client_order_id))
            outcome = sender.outcome(record) if codes or market is None else await sender.send(record, market)
            return replace(outcome, warnings=ruling.warnings)

    def _valued(self, movement: Movement) -> Movement:
        # What a deposit was worth is settled when it is written: no later rate may change it in a replay.
        if not movement.amount.is_finite():
            raise RejectedError(f"movement {movement.movement_id} has no amount")
        if movement.kind is MovementKind.FUNDING:
            return movement
        return replace(movement, value_quote=self._account.value_of(movement.amount, movement.currency, movement.value_quote))

    def _clipped(self, intent: OrderIntent) -> OrderIntent:
        # Reduce-only ends at zero, as at an exchange: the position may have shrunk since the intent was made.
        position = self._account.snapshot(self._now).position(intent.symbol) if intent.reduce_only else None
        if position is None or position.quantity_base * intent.side >= 0 or intent.quantity_base <= abs(position.quantity_base):
            return intent
        return replace(intent, quantity_base=abs(position.quantity_base))

    def _ruling(self, intent: OrderIntent, market: MarketSnapshot | None) -> Ruling:
        account = self._judged(self._account.snapshot(intent.ts_event))
        return self._gate.rule(intent, account, market, self._is_blocked(intent))

    def _is_blocked(self, intent: OrderIntent) -> bool:
        # Entries wait for every open order, for no limit can be checked while the account may be about to change. Reducing
        # orders wait for those that may have reduced the same position already.
        return any(
            not intent.reduce_only or (record.symbol == intent.symbol and record.side is intent.side)
            for record in self._sender.open.values()
        )

    async def _reduce(self, record: OrderRecord, market: MarketSnapshot) -> OrderOutcome | None:
        # With the symbol's lock held; None where this order had ended before. Not inserted means known, or the ledger is away:
        # either way the broker is asked before anything is sent.
        if await self._sender.commit_exit(record):
            return await self._sender.send(record, market)
        known = await self._sender.recorded(record.client_order_id)
        return self._sender.outcome(await self._resolve(known, market)) if is_open(known) else None

    def _watchable(self, plan: ExitPlan) -> ExitPlan:
        done = client_order_id(plan.position_id, SCALE_OUT_LEG) in self._sender.records
        fits = not math.isnan(plan.scale_out_price) and self._scale_out_quantity(plan, Decimal(str(plan.scale_out_price))) > 0
        return replace(
            plan,
            scale_out_price=plan.scale_out_price if fits and not done else math.nan,
            attempts=self._attempts.get(plan.position_id, 0),
        )

    def _scale_out_quantity(self, plan: ExitPlan, price: Decimal) -> Decimal:
        position, instrument = self._account.position(plan.position_id), self._instruments.get(plan.symbol)
        if position is None or instrument is None:
            return Decimal(0)
        return scale_out_quantity(plan, abs(position.quantity_base), price, instrument)

    async def _exit(self, leaving: Leaving) -> OrderOutcome | None:
        async with self._lock(leaving.market.symbol):
            outcome = await self._close_out(leaving)
            if self._account.position(leaving.position_id) is None:
                self._attempts.pop(leaving.position_id, None)
            else:
                self._attempts[leaving.position_id] = self._attempts.get(leaving.position_id, 0) + 1
            return outcome

    async def _close_out(self, leaving: Leaving) -> OrderOutcome | None:
        settled, on_the_way = await self._settle(leaving.position_id, leaving.market)
        position = self._account.position(leaving.position_id)
        if position is None or position.symbol != leaving.market.symbol:
            return settled
        # What an order without an answer may have closed already is not sold again; the rest need not wait for it.
        quantity = abs(position.quantity_base) - on_the_way
        if quantity <= 0:
            return settled
        instrument = self._instruments.get(position.symbol)
        if instrument is not None:
            # One wild price must not make a position look like dust: the better one of trigger and mark says what an order is worth.
            quantity = exit_quantity(quantity, max(leaving.price, position.mark_price), instrument)
        if quantity <= 0:
            return settled
        # An earlier attempt that ended although something is still held failed or filled in part: the next id is due.
        for attempt in count():
            leg = f"exit-{attempt}" if attempt else "exit"
            record = exit_record(leaving, position, leg, quantity, self.epoch)
            if record.client_order_id in self._sender.records:
                continue
            outcome = await self._reduce(record, leaving.market)
            if outcome is not None:
                return outcome
        return None

    async def _scale_out(self, leaving: Leaving) -> OrderOutcome | None:
        # One id, one order, however it ends: a part that could not be closed stays under the stop with the rest.
        async with self._lock(leaving.market.symbol):
            settled, on_the_way = await self._settle(leaving.position_id, leaving.market)
            position = self._account.position(leaving.position_id)
            plan = next((plan for plan in self._account.exit_plans() if plan.position_id == leaving.position_id), None)
            if position is None or plan is None or plan.symbol != leaving.market.symbol or on_the_way > 0:
                return settled
            quantity = self._scale_out_quantity(plan, leaving.price)
            record = exit_record(leaving, position, SCALE_OUT_LEG, quantity, self.epoch)
            if quantity <= 0 or record.client_order_id in self._sender.records:
                return settled
            return await self._reduce(record, leaving.market)

    async def _settle(self, position_id: str, market: MarketSnapshot) -> tuple[OrderOutcome | None, Decimal]:
        # Ask about every open order that reduces the position; the last outcome, and how much may still be on its way.
        settled: OrderOutcome | None = None
        on_the_way = Decimal(0)
        for record in self._closing_orders(position_id):
            settled = self._sender.outcome(await self._resolve(record, market))
            if is_open(settled.record):
                on_the_way += settled.record.quantity_base - settled.record.filled_base
        return settled, on_the_way

    def _closing_orders(self, position_id: str) -> list[OrderRecord]:
        position = self._account.position(position_id)
        if position is None:
            return []
        return [
            record
            for record in self._sender.open.values()
            if record.symbol == position.symbol and record.side * position.quantity_base < 0
        ]

    async def _resolve(self, record: OrderRecord, market: MarketSnapshot | None) -> OrderRecord:
        # With the symbol's lock held.
        record = await self._sender.resolve(record)
        if record.client_order_id not in self._sender.pending_exits:
            return record
        if not self._covers(record):
            return await self._sender.expire(record, "NOTHING_TO_REDUCE")
        return record if market is None else (await self._sender.send(record, market)).record

    def _covers(self, record: OrderRecord) -> bool:
        # Whether the position is still there for a reducing order to reduce.
        position = self._account.snapshot(record.ts_event).position(record.symbol)
        return position is not None and -record.side * position.quantity_base >= record.quantity_base

    async def _reconcile(self, record: OrderRecord, market: MarketSnapshot | None) -> OrderOutcome:
        async with self._lock(record.symbol):
            current = await self._sender.recorded(record.client_order_id)
            if is_open(current):
                current = await self._resolve(current, market)
            return self._sender.outcome(current)

    async def _cancel(self, record: OrderRecord) -> None:
        async with self._lock(record.symbol):
            current = await self._sender.recorded(record.client_order_id)
            if is_open(current):
                await self._sender.cancel(current)

    async def _save(self, ts: int) -> AccountSnapshot:
        # Fills, a new day or a new peak: what a restart could not find out again. And the prices, once a minute of market time.
        self._now = max(self._now, ts)
        snapshot = self._judged(self._account.snapshot(self._now))
        state = (
            self._account.day,
            snapshot.peak_equity_quote,
            snapshot.peak_rebased_at,
            tuple(trip.key for trip in self._guard.trips),
        )
        is_old = bool(snapshot.positions) and self._now - self._saved_at >= SAVE_EVERY_NS
        if self._sender.has_unsaved_fills or state != self._saved or is_old:
            try:
                await self._store.save_account(snapshot, self.epoch, self._guard.to_json())
            except StoreUnavailableError:
                return snapshot  # tried again with the next event
            self._sender.has_unsaved_fills, self._saved, self._saved_at = False, state, self._now
        return snapshot

    def _judged(self, snapshot: AccountSnapshot) -> AccountSnapshot:
        # Every account that leaves this engine has been before the breakers and says what they permit.
        if self._guard.observe(snapshot):
            self._account.rebase_peak(snapshot.ts_event)
            snapshot = self._account.snapshot(snapshot.ts_event)
        return self._guard.stamped(snapshot)

    def _lock(self, symbol: str) -> asyncio.Lock:
        return self._symbol_locks.setdefault(symbol, asyncio.Lock())

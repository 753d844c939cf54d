"""The engine: write ahead, checks, lost answers, recovery, exits without a ledger, flattening."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from helios.domain.enums import ExitReason, OrderStatus, Side
from helios.domain.events import Mark
from helios.domain.market import MarketSnapshot
from helios.domain.orders import ExitTriggered, OrderIntent, OrderOutcome, OrderRecord, client_order_id
from helios.errors import FencedError
from helios.execution.engine import ExecutionEngine
from helios.execution.journal import MemoryJournal
from helios.execution.ports import BrokerReport
from helios.portfolio.accounting import Account
from tests.support.execution_fakes import (
    DAY,
    INSTRUMENTS,
    T0,
    D,
    FlakyLedger,
    ScriptedBroker,
    allow_all,
    intent,
    market,
    one_position_of,
    record,
)

S = OrderStatus
PERP = "BTC/USDT:USDT"
MARKETS = {"BTC/ZAR": market(), PERP: market(symbol=PERP)}


class Desk:
    """An engine with its world; `restart` kills it and starts the next incarnation."""

    def __init__(self, script: Sequence[str] = (), check: Any = allow_all) -> None:
        self.ledger, self.broker, self.journal = FlakyLedger(), ScriptedBroker(script), MemoryJournal()
        self.check = check
        self.build()

    def build(self) -> None:
        self.account = Account(D(1_000_000), T0)
        self.engine = ExecutionEngine(self.ledger, self.broker, self.account, INSTRUMENTS, self.check, "test", self.journal)

    async def start(self) -> Desk:
        await self.engine.start()
        return self

    async def restart(self) -> None:
        self.build()
        await self.engine.start()

    async def submit(self, *intents: OrderIntent) -> list[OrderOutcome]:
        return await self.engine.submit(intents, MARKETS)

    async def exit(self, position_id: str, price: float = 816_000.0, **book: Any) -> list[OrderOutcome]:
        snapshot = market(str(price), ts=T0 + 9, **book)
        return await self.engine.exits([ExitTriggered(position_id, "BTC/ZAR", ExitReason.STOP, price, T0 + 9, snapshot)])

    @property
    def held(self) -> Any:
        return sum((position.quantity_base for position in self.account.snapshot(T0).positions), D(0))


async def desk(*script: str, check: Any = allow_all) -> Desk:
    return await Desk(script, check).start()


async def test_entry_fills_and_arms_its_exits() -> None:
    world = await desk()
    [outcome] = await world.submit(intent())
    assert outcome.record.status is S.FILLED
    assert [event.status for event in world.ledger.events] == [S.PENDING, S.SUBMITTED, S.FILLED]
    [plan] = await world.engine.exit_plans()
    assert (plan.stop_price, plan.target_price) == (pytest.approx(816_000), pytest.approx(918_000))


async def test_intent_is_in_the_ledger_before_the_broker_sees_it() -> None:
    world = await desk()
    world.ledger.writes_until_down = 0
    [outcome] = await world.submit(intent())
    assert (outcome.record.status, outcome.record.deny_codes) == (S.REJECTED, ("LEDGER_UNAVAILABLE",))
    assert world.broker.calls == []


async def test_entry_refused_for_the_ledger_may_be_tried_again() -> None:
    world = await desk()
    world.ledger.is_down = True
    await world.submit(intent())
    world.ledger.is_down = False
    [outcome] = await world.submit(intent())
    assert outcome.record.status is S.FILLED


async def test_same_intent_returns_its_first_outcome_also_after_a_restart() -> None:
    world = await desk()
    [first] = await world.submit(intent())
    assert await world.submit(intent(), intent()) == [first, first]
    await world.restart()
    assert await world.submit(intent()) == [first]
    assert len(world.broker.received) == 1


async def test_refusal_is_recorded_with_all_codes_and_never_sent() -> None:
    world = await desk(check=lambda *_: ("DRAWDOWN", "DAILY_LOSS"))
    world.engine.set_trading(False)
    [outcome] = await world.submit(intent(side=Side.SELL))
    assert outcome.record.deny_codes == ("SHORT_NOT_ALLOWED", "DRAWDOWN", "DAILY_LOSS", "TRADING_PAUSED")
    assert await world.ledger.order(outcome.record.client_order_id) == outcome.record
    assert world.broker.calls == []


async def test_two_entries_of_one_batch_cannot_share_a_limit_that_fits_one() -> None:
    world = await desk(check=one_position_of("425000"))
    outcomes = await world.submit(intent("a"), intent("b"))
    assert [outcome.record.status for outcome in outcomes] == [S.FILLED, S.REJECTED]


async def test_paper_sale_without_a_holding_is_refused() -> None:
    world = await desk()
    [short] = await world.submit(intent(side=Side.SELL))
    [reduce] = await world.submit(intent("r", side=Side.SELL, reduce_only=True))
    assert short.record.deny_codes == ("SHORT_NOT_ALLOWED",)
    assert "NOTHING_TO_REDUCE" in reduce.record.deny_codes
    assert world.broker.calls == []


async def test_reducing_order_ends_at_zero() -> None:
    world = await desk()
    await world.submit(intent(symbol=PERP))
    [reduce] = await world.submit(intent("r", side=Side.SELL, quantity="2", symbol=PERP, reduce_only=True))
    assert (reduce.record.quantity_base, world.held) == (D("0.5"), 0)


async def test_perpetual_can_be_sold_short() -> None:
    world = await desk()
    await world.submit(intent(side=Side.SELL, symbol=PERP))
    assert world.held == D("-0.5")


@pytest.mark.parametrize("word", ["late", "garbled"])
async def test_answer_lost_after_arrival_is_found_by_asking(word: str) -> None:
    world = await desk(word)
    [outcome] = await world.submit(intent())
    assert (outcome.record.status, world.held) == (S.SUBMITTED, 0)
    [found] = await world.engine.reconcile({})
    assert (found.record.status, world.held) == (S.FILLED, D("0.5"))
    assert world.broker.calls == ["send entry", "status entry"]


async def test_lost_request_expires_when_unknown_twice_and_is_never_resent() -> None:
    world = await desk("lost")
    await world.submit(intent())
    [once] = await world.engine.reconcile(MARKETS)
    [twice] = await world.engine.reconcile(MARKETS)
    assert (once.record.status, twice.record.status, twice.record.reason) == (S.SUBMITTED, S.EXPIRED, "NEVER_SENT")
    assert world.broker.calls.count("send entry") == 1


async def test_entries_wait_while_an_outcome_is_unknown() -> None:
    world = await desk("late")
    world.broker.status_is_down = True
    await world.submit(intent("a"))
    [second] = await world.submit(intent("b", symbol=PERP))
    assert second.record.deny_codes == ("UNRESOLVED_ORDER",)
    world.broker.status_is_down = False
    [third] = await world.submit(intent("c", symbol=PERP))
    assert (third.record.status, len(world.account.snapshot(T0).positions)) == (S.FILLED, 2)


async def test_crash_between_commit_and_send_expires_the_entry() -> None:
    world = await desk()
    world.ledger.writes_until_down = 1  # the commit passes, nothing after it
    await world.submit(intent())
    world.ledger.is_down = False
    world.journal, world.broker = MemoryJournal(), ScriptedBroker()  # the machine died before anything left it
    await world.restart()
    stored = await world.ledger.order(intent().client_order_id)
    assert stored is not None
    assert (stored.status, stored.reason, world.held) == (S.EXPIRED, "NEVER_SENT", 0)


async def test_crash_after_the_fill_but_before_its_booking_loses_nothing() -> None:
    world = await desk()
    world.ledger.writes_until_down = 1
    await world.submit(intent())
    world.ledger.is_down, world.journal = False, MemoryJournal()
    await world.restart()
    assert world.held == D("0.5")
    assert len(await world.ledger.fills()) == 1


async def test_fill_that_the_ledger_could_not_take_counts_and_is_written_later() -> None:
    world = await desk()
    world.ledger.writes_until_down = 1
    [outcome] = await world.submit(intent())
    assert (outcome.record.status, world.held) == (S.FILLED, D("0.5"))
    world.ledger.is_down = False
    await world.engine.reconcile({})
    assert [found.status for found in [await world.ledger.order(outcome.record.client_order_id)] if found] == [S.FILLED]
    assert len(await world.ledger.fills()) == 1
    assert await world.journal.entries() == []


async def test_exit_closes_the_whole_position_once() -> None:
    world = await desk()
    [entry] = await world.submit(intent())
    position_id = entry.record.client_order_id
    [outcome] = await world.exit(position_id)
    assert (outcome.record.client_order_id, outcome.record.reason) == (client_order_id(position_id, "exit"), "STOP")
    assert outcome.record.reduce_only
    assert world.held == 0
    assert await world.exit(position_id) == []
    assert world.account.closed[0].reason == "STOP"


async def test_exit_of_an_unknown_position_is_ignored() -> None:
    world = await desk()
    assert await world.exit("nobody") == []
    assert world.broker.calls == []


async def test_exit_that_filled_in_part_goes_on_under_the_next_id() -> None:
    world = await desk()
    [entry] = await world.submit(intent())
    position_id = entry.record.client_order_id
    [first] = await world.exit(position_id, bids=[("816000", "0.2")])
    assert (first.record.status, world.held) == (S.CANCELED, D("0.3"))
    [second] = await world.exit(position_id)
    assert (second.record.leg, second.record.quantity_base, world.held) == ("exit-1", D("0.3"), 0)


async def test_rejected_exit_of_an_earlier_incarnation_does_not_block_the_next() -> None:
    world = await desk("ok", "reject")
    [entry] = await world.submit(intent())
    await world.exit(entry.record.client_order_id)
    await world.restart()
    [outcome] = await world.exit(entry.record.client_order_id)
    assert (outcome.record.leg, outcome.record.status, world.held) == ("exit-1", S.FILLED, 0)


async def test_exit_lost_on_the_way_is_sent_again_under_the_same_id() -> None:
    world = await desk("ok", "lost")
    [entry] = await world.submit(intent())
    [lost] = await world.exit(entry.record.client_order_id)
    await world.engine.reconcile({})
    assert [pending.client_order_id for pending in world.engine.pending_exits] == [lost.record.client_order_id]
    await world.engine.reconcile(MARKETS)
    assert (world.held, world.engine.pending_exits) == (0, ())
    assert world.broker.received[-1] == lost.record.client_order_id


async def test_exit_whose_answer_was_lost_is_not_sent_again() -> None:
    world = await desk("ok", "late")
    [entry] = await world.submit(intent())
    await world.exit(entry.record.client_order_id)
    [outcome] = await world.exit(entry.record.client_order_id)
    assert (outcome.record.status, world.held) == (S.FILLED, 0)
    assert world.broker.calls.count("send exit") == 1


async def test_reducing_order_waits_while_an_exit_of_the_position_is_unknown() -> None:
    world = await desk("ok", "late")
    [entry] = await world.submit(intent())
    await world.exit(entry.record.client_order_id)
    world.broker.status_is_down = True
    [reduce] = await world.submit(intent("r", side=Side.SELL, reduce_only=True))
    assert reduce.record.deny_codes == ("UNRESOLVED_ORDER",)
    assert world.broker.position("BTC/ZAR") == 0


async def test_exit_waits_while_a_reducing_order_of_the_position_is_unknown() -> None:
    world = await desk("ok", "late")
    [entry] = await world.submit(intent())
    [reduce] = await world.submit(intent("r", side=Side.SELL, reduce_only=True))
    world.broker.status_is_down = True
    [blocked] = await world.exit(entry.record.client_order_id)
    assert blocked.record.client_order_id == reduce.record.client_order_id
    world.broker.status_is_down = False
    await world.exit(entry.record.client_order_id)
    assert (world.held, world.broker.position("BTC/ZAR")) == (0, 0)


async def test_exits_go_out_without_the_ledger_and_are_replayed_at_the_next_start() -> None:
    world = await desk()
    [entry] = await world.submit(intent())
    world.ledger.is_down = True
    [outcome] = await world.exit(entry.record.client_order_id)
    assert (outcome.record.status, world.held) == (S.FILLED, 0)
    world.ledger.is_down = False
    await world.restart()
    assert world.held == 0
    stored = await world.ledger.order(outcome.record.client_order_id)
    assert stored is not None
    assert stored.status is S.FILLED
    assert len(world.broker.received) == 2


async def test_exit_without_the_ledger_asks_whether_an_earlier_incarnation_sent_it() -> None:
    world = await desk()
    [entry] = await world.submit(intent())
    world.ledger.is_down = True
    await world.exit(entry.record.client_order_id)
    world.ledger.is_down, world.journal = False, MemoryJournal()  # the disk with the journal was lost as well
    world.broker.status_is_down = True
    await world.restart()
    assert world.held == D("0.5")
    world.ledger.is_down, world.broker.status_is_down = True, False
    await world.exit(entry.record.client_order_id)
    assert world.held == 0
    assert world.broker.calls.count("send exit") == 1


async def test_unsent_reducing_order_expires_where_nothing_is_left_to_reduce() -> None:
    world = await desk()
    unsent = record(side=Side.SELL, reduce_only=True)
    await world.ledger.commit_intents([unsent], world.engine.epoch)
    await world.restart()
    stored = await world.ledger.order(unsent.client_order_id)
    assert stored is not None
    assert (stored.status, stored.reason) == (S.EXPIRED, "NOTHING_TO_REDUCE")
    assert world.broker.received == []


async def test_triggers_of_one_position_at_the_same_moment_close_it_once() -> None:
    world = await desk()
    [entry] = await world.submit(intent())
    send = world.broker.send

    async def slow_send(*order: Any) -> Any:
        await asyncio.sleep(0)
        return await send(*order)

    world.broker.send = slow_send  # type: ignore[method-assign]
    position_id = entry.record.client_order_id
    both = await asyncio.gather(world.exit(position_id), world.exit(position_id))
    assert sorted(len(outcomes) for outcomes in both) == [0, 1]
    assert world.broker.position("BTC/ZAR") == 0


async def test_server_error_is_unknown_and_client_error_is_a_refusal() -> None:
    world = await desk("error 503", "error 400")
    [unknown] = await world.submit(intent("a"))
    await world.engine.reconcile({})
    await world.engine.reconcile({})
    [refused] = await world.submit(intent("b"))
    assert (unknown.record.status, refused.record.status) == (S.SUBMITTED, S.REJECTED)
    assert "insufficient balance" in refused.record.reason


async def test_emergency_with_three_positions_in_a_row_of_failures_ends_flat() -> None:
    world = await desk()
    await world.submit(intent("a"), intent("b"), intent("c", side=Side.SELL, symbol=PERP))
    world.broker.script = ["reject", "lost"]
    assert len(await world.engine.flatten(MARKETS)) == 2
    assert await world.engine.flatten(MARKETS) == []
    assert (world.broker.position("BTC/ZAR"), world.broker.position(PERP)) == (0, 0)


async def test_older_incarnation_cannot_trade() -> None:
    world = await desk()
    old = world.engine
    await world.restart()
    with pytest.raises(FencedError):
        await old.submit([intent()], MARKETS)
    assert world.broker.calls == []


async def test_flatten_closes_everything_and_stops_entries() -> None:
    world = await desk()
    await world.submit(intent("a"), intent("b", side=Side.SELL, symbol=PERP))
    assert await world.engine.flatten(MARKETS) == []
    [refused] = await world.submit(intent("c"))
    assert refused.record.deny_codes == ("TRADING_PAUSED",)
    assert [trade.reason for trade in world.account.closed] == ["EMERGENCY", "EMERGENCY"]


async def test_flatten_for_a_breaker_leaves_entries_to_the_breaker() -> None:
    world = await desk()
    await world.submit(intent("a"))
    assert await world.engine.flatten(MARKETS, for_good=False) == []
    [entry] = await world.submit(intent("c"))
    assert entry.record.status is S.FILLED


async def test_flatten_returns_what_it_could_not_close() -> None:
    world = await desk()
    await world.submit(intent("a"), intent("b", symbol=PERP))
    left = await world.engine.flatten({"BTC/ZAR": market()})
    assert left == [PERP]


async def test_flatten_works_with_the_ledger_down() -> None:
    world = await desk()
    await world.submit(intent())
    world.ledger.is_down = True
    assert await world.engine.flatten(MARKETS) == []


async def test_peak_and_day_start_survive_a_restart() -> None:
    world = await desk()
    await world.submit(intent())
    await world.engine.account([Mark("BTC/ZAR", 900_000.0, T0 + 1)])
    await world.restart()
    snapshot = await world.engine.account([Mark("BTC/ZAR", 875_000.0, T0 + 2)])
    assert snapshot.peak_equity_quote == D(1_025_000)
    assert snapshot.drawdown == pytest.approx(12_500 / 1_025_000)


class CoinFees(ScriptedBroker):
    """Takes its fee in a coin and does not say what it is worth."""

    async def send(self, record: OrderRecord, market: MarketSnapshot) -> BrokerReport:
        report = await super().send(record, market)
        fills = tuple(replace(f, fee=D("0.01"), fee_currency="BNB", fee_quote=D("NaN")) for f in report.fills)
        return replace(report, fills=fills)


async def test_a_fee_that_only_we_can_value_is_written_with_its_value() -> None:
    desk = Desk()
    desk.broker = CoinFees()
    desk.build()
    await desk.start()
    await desk.engine.account_snapshot([Mark("BNB/ZAR", 6_000.0, T0 - 1)])
    await desk.submit(intent("a"))
    lived = await desk.engine.account_snapshot([])
    assert (lived.fees_quote, lived.unvalued) == (D(60), ())
    await desk.restart()
    again = await desk.engine.account_snapshot([])
    assert (again.fees_quote, again.realised_pnl_quote, again.equity_quote) == (D(60), D(-60), lived.equity_quote)


async def test_new_day_saves_its_start() -> None:
    world = await desk()
    await world.submit(intent())
    await world.engine.account([Mark("BTC/ZAR", 840_000.0, T0 + 1)])
    await world.engine.account([Mark("BTC/ZAR", 830_000.0, T0 + DAY)])
    state = await world.ledger.load_account()
    assert state is not None
    assert D(state.day_start_equity_quote) == D(995_000)


async def test_bad_price_does_not_move_the_account() -> None:
    world = await desk()
    before = await world.engine.account([Mark("BTC/ZAR", 850_000.0, T0)])
    after = await world.engine.account([Mark("BTC/ZAR", math.nan, T0)])
    assert before == after

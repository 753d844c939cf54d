"""A ledger told in parts gives the report of the whole; what does not follow is said, and settled lines are kept as they are."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest

from helios.domain.enums import MovementKind, OrderStatus, Side
from helios.domain.orders import Fill, Movement, OrderRecord
from helios.execution.lifecycle import TERMINAL
from helios.portfolio.attribution_report import Books, Question, stage_report
from helios.portfolio.stage_book import LedgerOrder, OutOfOrderError, StageBook
from tests.support.execution_fakes import DAY, T0, D, fill, record

UNIT = D(1_000)
STEPS: dict[str, Any] = {"plan": {"notional_quote": "3000"}, "review": {"multiplier": 0.5}, "allocation": {"quantity_base": "12"}}


def order(name: str, side: Side, status: OrderStatus = OrderStatus.FILLED, reason: str = "") -> OrderRecord:
    made = record(name=name, side=side, quantity="12", price="100" if side is Side.BUY else "120")
    return replace(made, status=status, reason=reason)


def told(made: OrderRecord) -> LedgerOrder:
    is_final = made.status in TERMINAL
    return LedgerOrder(
        made.client_order_id, made.decision_id, made.symbol, made.leg, made.reason, made.reference_price, is_final
    )  # fmt: skip


ENTRY, EXIT = order("e", Side.BUY), order("x", Side.SELL)
BOUGHT, SOLD = fill(ENTRY, 0, "10", "101", "2"), fill(EXIT, 0, "4", "119", "3", T0 + DAY)


def book(*fills: tuple[OrderRecord, Fill]) -> StageBook:
    made = StageBook(UNIT)
    made.tell_orders(told(of) for of, _ in fills)
    made.tell(list(enumerate((each for _, each in fills), 1)), ())
    return made


def shown(found: StageBook, question: Question, decisions: dict[str, Any]) -> Any:
    return orjson.loads(orjson.dumps(found.report(question, found.settle(decisions))))


@pytest.mark.parametrize("by", ["stage", "symbol", "sector", "day"])
@pytest.mark.parametrize("days", [(None, None), (T0 // DAY + 1, None), (None, T0 // DAY)])
def test_parts_of_a_trade_settled_and_not_make_the_whole_report(by: Any, days: tuple[int | None, int | None]) -> None:
    last = order("y", Side.SELL, OrderStatus.PARTIALLY_FILLED, "STOP")
    rest = fill(last, 0, "3", "118", "1", T0 + DAY + 9)
    found, question = book((ENTRY, BOUGHT), (EXIT, SOLD)), Question(by, *days, UNIT)
    for history in ([(ENTRY, BOUGHT), (EXIT, SOLD)], [(ENTRY, BOUGHT), (EXIT, SOLD), (last, rest)]):
        if history[-1][1] is rest:
            found.tell_orders([told(last)])
            found.tell([(3, rest)], ())
        assert shown(found, question, {"e": STEPS}) == stage_report(Books(history, (), {"e": STEPS}), question)


def test_a_line_whose_order_may_change_changes_with_it() -> None:
    going = order("x", Side.SELL, OrderStatus.PARTIALLY_FILLED)
    found = book((ENTRY, BOUGHT), (going, SOLD))
    assert shown(found, Question(), {"e": STEPS})["trades"][0]["exit_reason"] == "entry"
    assert found.unsettled_orders == [going.client_order_id]
    found.tell_orders([told(replace(going, status=OrderStatus.CANCELED, reason="TIME"))])
    [line] = shown(found, Question(), {"e": STEPS})["trades"]
    assert (line["exit_reason"], found.unsettled_orders, found.wanted_decisions) == ("TIME", [], set())


def test_a_decision_that_was_not_there_is_named() -> None:
    found = book((ENTRY, BOUGHT), (EXIT, SOLD))
    assert found.wanted_decisions == {"e"}
    assert not shown(found, Question(), {})["is_explained"]
    assert list(found.undecided) == ["e"]


LATE = replace(SOLD, fill_id="late", ts_event=T0 + DAY - 1)
OTHER = order("y", Side.SELL)


@pytest.mark.parametrize(
    "fills", [[(1, replace(LATE, client_order_id=OTHER.client_order_id))], [(1, replace(LATE, ts_event=T0 + 2 * DAY))]],
    ids=["dated before", "of a settled order"],
)  # fmt: skip
def test_what_does_not_follow_needs_a_new_book(fills: list[tuple[int, Fill]]) -> None:
    found = book((ENTRY, BOUGHT), (EXIT, SOLD))
    found.settle({"e": STEPS})
    found.tell_orders([told(OTHER)])
    with pytest.raises(OutOfOrderError):
        found.tell(fills, ())


def test_funding_dated_before_a_fill_of_its_symbol_needs_a_new_book_and_transfers_never_do() -> None:
    found = book((ENTRY, BOUGHT), (EXIT, SOLD))
    found.tell((), [Movement("t", MovementKind.TRANSFER, D(5), T0 - DAY), Movement("g", MovementKind.FUNDING, D(1), T0, "ETH/ZAR")])
    with pytest.raises(OutOfOrderError):
        found.tell((), [Movement("f", MovementKind.FUNDING, D(1), T0 + 1, ENTRY.symbol)])


def test_other_symbols_may_be_behind_and_lines_stand_in_the_order_of_their_closing() -> None:
    entry, close = (replace(order(n, s), symbol="ETH/ZAR") for n, s in (("e2", Side.BUY), ("x2", Side.SELL)))
    behind = [(entry, fill(entry, price="100", ts=T0 + 1)), (close, fill(close, price="90", ts=T0 + 2))]
    found = book((ENTRY, BOUGHT), (EXIT, SOLD))
    found.settle({"e": STEPS})
    found.tell_orders(told(of) for of, _ in behind)
    found.tell([(n, each) for n, (_, each) in enumerate(behind, 3)], ())
    lines = shown(found, Question(unit_notional_quote=UNIT), {})["trades"]
    assert [line["symbol"] for line in lines] == ["ETH/ZAR", "BTC/ZAR"]
    assert sum(Decimal(line["pnl_quote"]) for line in lines) == D("-120") + (D(72) - D("0.8") - 3)

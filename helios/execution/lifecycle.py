"""The life of an order: one table of transitions, and pure functions that move a record along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from helios.domain.enums import OrderStatus
from helios.domain.orders import Fill, OrderIntent, OrderRecord
from helios.errors import InvariantError

_S = OrderStatus
_ENDS = frozenset({_S.FILLED, _S.CANCELED, _S.REJECTED, _S.EXPIRED})

TRANSITIONS: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    _S.PENDING: frozenset({_S.SUBMITTED, _S.CANCELED, _S.REJECTED, _S.EXPIRED}),
    _S.SUBMITTED: frozenset({_S.ACCEPTED, _S.PARTIALLY_FILLED}) | _ENDS,  # a market order may skip ACCEPTED
    _S.ACCEPTED: frozenset({_S.PARTIALLY_FILLED}) | _ENDS,
    _S.PARTIALLY_FILLED: frozenset({_S.PARTIALLY_FILLED, _S.FILLED, _S.CANCELED, _S.EXPIRED}),
    _S.FILLED: frozenset(),
    _S.CANCELED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.EXPIRED: frozenset(),
}
TERMINAL: frozenset[OrderStatus] = frozenset(status for status, targets in TRANSITIONS.items() if not targets)


def is_open(record: OrderRecord) -> bool:
    """Whether the order may still change."""
    return record.status not in TERMINAL


def transition(record: OrderRecord, status: OrderStatus, ts: int, reason: str | None = None) -> OrderRecord:
    """Return `record` in a new status.

    Raises
    ------
    InvariantError
        If the table does not allow the step.
    """
    if status not in TRANSITIONS[record.status]:
        raise InvariantError(f"order {record.client_order_id} cannot go from {record.status} to {status}")
    return replace(record, status=status, ts_updated=max(ts, record.ts_updated), reason=record.reason if reason is None else reason)


def with_fills(record: OrderRecord, fills: Sequence[Fill]) -> OrderRecord:
    """Return `record` with the totals of `fills`, which are all of the order's fills.

    Raises
    ------
    InvariantError
        If they exceed the order's quantity.
    """
    filled = sum((fill.quantity_base for fill in fills), Decimal(0))
    if filled > record.quantity_base:
        raise InvariantError(f"order {record.client_order_id} has fills of {filled}, more than {record.quantity_base}")
    value = sum((fill.quantity_base * fill.price for fill in fills), Decimal(0))
    return replace(
        record,
        filled_base=filled,
        average_price=value / filled if filled else Decimal(0),
        fee_quote=sum((fill.fee_quote for fill in fills), Decimal(0)),
    )


def advance_to(record: OrderRecord, report: OrderRecord) -> list[OrderRecord]:
    """Return the records of every status between ours and the broker's, last the newest; empty where nothing is new.

    Identity and terms of the order stay ours; status, totals and reason are the broker's. A report that is behind what we
    know (it was overtaken on the way) changes nothing.
    """
    if not is_open(record) or report.status is OrderStatus.PENDING:
        return []
    steps: list[OrderRecord] = []
    if record.status is OrderStatus.PENDING:
        record = transition(record, OrderStatus.SUBMITTED, report.ts_updated)
        steps.append(record)
    if report.filled_base > record.filled_base and report.status in {OrderStatus.CANCELED, OrderStatus.EXPIRED}:
        record = _take(transition(record, OrderStatus.PARTIALLY_FILLED, report.ts_updated), report)
        steps.append(record)
    if report.filled_base >= record.filled_base and report.status in TRANSITIONS[record.status]:
        changed = report.status is not record.status or report.filled_base > record.filled_base
        if changed:
            steps.append(_take(transition(record, report.status, report.ts_updated, report.reason or None), report))
    return steps


def _take(record: OrderRecord, report: OrderRecord) -> OrderRecord:
    return replace(record, filled_base=report.filled_base, average_price=report.average_price, fee_quote=report.fee_quote)


def new_record(
    intent: OrderIntent, epoch: int, status: OrderStatus = OrderStatus.PENDING, deny_codes: tuple[str, ...] = ()
) -> OrderRecord:
    """Return the first ledger row of an intent."""
    return OrderRecord(
        client_order_id=intent.client_order_id,
        decision_id=intent.decision_id,
        symbol=intent.symbol,
        side=intent.side,
        quantity_base=intent.quantity_base,
        reference_price=intent.reference_price,
        reduce_only=intent.reduce_only,
        leg=intent.leg,
        leverage=intent.leverage,
        status=status,
        filled_base=Decimal(0),
        average_price=Decimal(0),
        fee_quote=Decimal(0),
        ts_event=intent.ts_event,
        ts_updated=intent.ts_event,
        epoch=epoch,
        reason=intent.reason,
        deny_codes=deny_codes,
        exit_rule=intent.exit_rule,
    )

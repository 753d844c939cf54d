"""That a position is left, and the order that does it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from helios.domain.enums import ExitReason, Side
from helios.domain.market import MarketSnapshot
from helios.domain.orders import OrderIntent, OrderRecord, PositionView, client_order_id
from helios.execution.lifecycle import new_record


@dataclass(frozen=True, slots=True)
class Leaving:
    """That a position is to be left, or a part of it: why, at which price the rule fired, and the market of that moment."""

    position_id: str
    reason: ExitReason
    price: Decimal
    ts: int
    market: MarketSnapshot


def exit_record(leaving: Leaving, position: PositionView, leg: str, quantity: Decimal, epoch: int) -> OrderRecord:
    """Return the reducing order of one leg; its client order id is made of position and leg, so each can exist once."""
    intent = OrderIntent(
        client_order_id=client_order_id(leaving.position_id, leg),
        decision_id=position.decision_id,
        symbol=position.symbol,
        side=Side.SELL if position.quantity_base > 0 else Side.BUY,
        quantity_base=quantity,
        reference_price=leaving.price,
        reduce_only=True,
        leg=leg,
        leverage=position.leverage,
        ts_event=leaving.ts,
        reason=leaving.reason.value,
    )
    return new_record(intent, epoch)

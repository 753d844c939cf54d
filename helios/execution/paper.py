"""The paper broker: fills market orders from a market snapshot and never calls an exchange."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from helios.config import ExecutionConfig
from helios.domain.enums import OrderStatus, Side
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import Fill, OrderRecord
from helios.execution.lifecycle import is_open, transition, with_fills
from helios.execution.ports import BrokerReport

ZERO = Decimal(0)
_BPS = Decimal(10_000)


class PaperBroker:
    """Broker whose orders are market orders, immediate or cancel.

    With a book the order walks the levels of the other side, one fill a level; what ten levels cannot fill is cancelled.
    Without one it fills whole at the last price moved against us by half the spread and the slippage, rounded to the tick
    against us. The fee is the instrument's taker fee in quote currency; venues that charge the received currency report it so
    themselves, and the account books `fee_quote` either way.

    Parameters
    ----------
    config : ExecutionConfig
        Slippage (fraction) and the half spread (bps) for symbols whose spread is unknown.
    instruments : mapping
        By symbol; fees and ticks.
    """

    def __init__(self, config: ExecutionConfig, instruments: Mapping[str, Instrument]) -> None:
        self._config = config
        self._instruments = instruments
        self._reports: dict[str, BrokerReport] = {}

    async def send(self, record: OrderRecord, market: MarketSnapshot) -> BrokerReport:
        """Fill or reject an order; an id that was sent before gets its first report again."""
        known = self._reports.get(record.client_order_id)
        if known is not None:
            return known
        report = self._fill(record, market)
        self._reports[record.client_order_id] = report
        return report

    async def status(self, record: OrderRecord) -> BrokerReport | None:
        """Return the report of an order, None where it was never sent."""
        return self._reports.get(record.client_order_id)

    async def cancel(self, record: OrderRecord) -> BrokerReport:
        """Cancel what is open; paper orders end as they are sent, so a known one keeps its report."""
        known = self._reports.get(record.client_order_id)
        if known is None:
            closed = transition(record, OrderStatus.CANCELED, record.ts_updated) if is_open(record) else record
            known = self._reports[record.client_order_id] = BrokerReport(closed, ())
        return known

    def _fill(self, record: OrderRecord, market: MarketSnapshot) -> BrokerReport:
        instrument = self._instruments.get(record.symbol)
        if instrument is None or market.symbol != record.symbol:
            return _rejected(record, "UNKNOWN_INSTRUMENT")
        slices = self._slices(record, market, instrument)
        if not slices:
            return _rejected(record, "NO_PRICE")
        fills = tuple(_fill(record, index, price, quantity, instrument) for index, (price, quantity) in enumerate(slices))
        totals = with_fills(record, fills)
        if totals.filled_base == record.quantity_base:
            return BrokerReport(transition(totals, OrderStatus.FILLED, record.ts_event), fills)
        partial = transition(totals, OrderStatus.PARTIALLY_FILLED, record.ts_event)
        return BrokerReport(transition(partial, OrderStatus.CANCELED, record.ts_event), fills)

    def _slices(self, record: OrderRecord, market: MarketSnapshot, instrument: Instrument) -> list[tuple[Decimal, Decimal]]:
        levels = market.asks if record.side is Side.BUY else market.bids
        usable = [level for level in levels if _is_positive(level[0]) and _is_positive(level[1])]
        if usable:
            return walk(usable, record.quantity_base)
        price = self._price_without_book(record.side, market, instrument)
        return [] if price is None else [(price, record.quantity_base)]

    def _price_without_book(self, side: Side, market: MarketSnapshot, instrument: Instrument) -> Decimal | None:
        if not _is_positive(market.last):
            return None
        known = math.isfinite(market.spread_bps) and market.spread_bps >= 0
        half_bps = market.spread_bps / 2 if known else self._config.default_half_spread_bps
        against = Decimal(str(half_bps)) / _BPS + Decimal(str(self._config.slippage_pct))
        price = _to_tick(market.last * (1 + side * against), instrument.tick_size, side)
        return price if price > 0 else None


def walk(levels: list[tuple[Decimal, Decimal]], quantity: Decimal) -> list[tuple[Decimal, Decimal]]:
    """Return (price, quantity) taken from each level, best first, until `quantity` or the levels are used up."""
    taken: list[tuple[Decimal, Decimal]] = []
    for price, available in levels:
        part = min(quantity, available)
        if part <= 0:
            break
        taken.append((price, part))
        quantity -= part
    return taken


def _fill(record: OrderRecord, index: int, price: Decimal, quantity: Decimal, instrument: Instrument) -> Fill:
    fee = quantity * price * instrument.taker_fee
    return Fill(
        fill_id=f"{record.client_order_id}-{index}",
        client_order_id=record.client_order_id,
        symbol=record.symbol,
        side=record.side,
        quantity_base=quantity,
        price=price,
        fee=fee,
        fee_currency=instrument.quote,
        fee_quote=fee,
        ts_event=record.ts_event,
    )


def _rejected(record: OrderRecord, reason: str) -> BrokerReport:
    return BrokerReport(replace(transition(record, OrderStatus.REJECTED, record.ts_event), reason=reason), ())


def _to_tick(price: Decimal, tick: Decimal, side: Side) -> Decimal:
    rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
    return (price / tick).to_integral_value(rounding=rounding) * tick


def _is_positive(value: Decimal) -> bool:
    return value.is_finite() and value > 0

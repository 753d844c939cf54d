"""Paper fills: price, fee, partial fills, refusals, idempotence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helios.config import ExecutionConfig
from helios.domain.enums import OrderStatus, Side
from helios.domain.market import MarketSnapshot
from helios.domain.orders import OrderRecord
from helios.execution.lifecycle import transition
from helios.execution.paper import PaperBroker
from helios.execution.ports import BrokerReport
from tests.support.execution_fakes import SPOT, T0, D, market, record


async def sent(order: OrderRecord, snapshot: MarketSnapshot, fee: str = "0.001") -> BrokerReport:
    broker = PaperBroker(ExecutionConfig(), {SPOT.symbol: replace(SPOT, taker_fee=D(fee))})
    return await broker.send(transition(order, OrderStatus.SUBMITTED, T0), snapshot)


async def test_buy_walks_the_asks_level_by_level() -> None:
    book = market(asks=[("101", "0.2"), ("103", "1")], bids=[("99", "9")])
    report = await sent(record(quantity="0.5"), book)
    assert [(fill.price, fill.quantity_base) for fill in report.fills] == [(D(101), D("0.2")), (D(103), D("0.3"))]
    assert report.record.average_price == D("102.2")
    assert report.record.status is OrderStatus.FILLED


async def test_sell_takes_the_bids() -> None:
    report = await sent(record(side=Side.SELL), market(asks=[("101", "9")], bids=[("99", "9")]))
    assert report.record.average_price == D(99)


async def test_what_the_book_cannot_fill_is_cancelled() -> None:
    report = await sent(record(quantity="0.5"), market(asks=[("101", "0.2")]))
    assert (report.record.status, report.record.filled_base) == (OrderStatus.CANCELED, D("0.2"))


async def test_fee_is_the_instruments_taker_fee_in_quote() -> None:
    report = await sent(record(quantity="0.5"), market(asks=[("1000", "1")]), fee="0.0035")
    assert (report.fills[0].fee_quote, report.fills[0].fee_currency) == (D("1.75"), "ZAR")


@pytest.mark.parametrize(
    ("side", "spread_bps", "price"),
    [
        (Side.BUY, 20.0, "10015"),  # 10,000 x (1 + 10 bps half spread + 5 bps slippage)
        (Side.SELL, 20.0, "9985"),
        (Side.BUY, float("nan"), "10007"),  # 2 bps from the configuration + 5 bps
        (Side.BUY, 0.3, "10006"),  # 10,005.15 rounds to the tick against us
        (Side.SELL, 0.3, "9994"),
    ],
)
async def test_without_a_book_the_price_is_moved_against_us(side: Side, spread_bps: float, price: str) -> None:
    report = await sent(record(side=side), market("10000", spread_bps=spread_bps))
    assert report.fills[0].price == D(price)


@pytest.mark.parametrize("last", ["0", "-1", "NaN", "Infinity"])
async def test_no_book_and_no_price_is_a_rejection(last: str) -> None:
    report = await sent(record(), market(last))
    assert (report.record.status, report.record.reason, report.fills) == (OrderStatus.REJECTED, "NO_PRICE", ())


async def test_same_id_fills_once_and_status_answers() -> None:
    broker = PaperBroker(ExecutionConfig(), {SPOT.symbol: SPOT})
    order = transition(record(), OrderStatus.SUBMITTED, T0)
    assert await broker.status(order) is None
    first = await broker.send(order, market("850000"))
    assert await broker.send(order, market("900000")) == first
    assert await broker.status(order) == first


async def test_fill_ids_and_times_are_deterministic() -> None:
    report = await sent(record(), market(ts=T0 + 99))
    assert (report.fills[0].fill_id, report.fills[0].ts_event) == (f"{report.record.client_order_id}-0", T0)

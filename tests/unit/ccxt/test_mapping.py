"""ccxt's structures into Helios' values."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from typing import Any

import pytest

from helios.domain.enums import MarketKind, Side, Timeframe
from helios.domain.market import VenueCandle
from helios.errors import DataError
from helios.venues.ccxt.mapping import (
    DECIMAL_PLACES,
    SIGNIFICANT_DIGITS,
    TICK_SIZE,
    ExactNumber,
    exact,
    exact_ns,
    kind_of,
    to_candle,
    to_instrument,
    to_levels,
    to_trade,
    with_ids,
)

SPOT: dict[str, Any] = {
    "id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "spot": True, "active": True,
    "precision": {"price": ExactNumber("0.01"), "amount": ExactNumber("0.00001000")},
    "limits": {"amount": {"min": 0.00001, "max": 9000}, "cost": {"min": ExactNumber("5"), "max": None}, "leverage": None},
    "maker": 0.001, "taker": ExactNumber("0.0015"),
}  # fmt: skip
PERP = SPOT | {
    "id": "BTC-USDT-SWAP", "symbol": "BTC/USDT:USDT", "spot": False, "swap": True, "linear": True, "settle": "USDT",
    "contractSize": 0.01,
    "precision": {"price": 0.1, "amount": 1}, "limits": {"amount": {"min": 1, "max": 100}, "leverage": {"max": 125}},
}  # fmt: skip
TRADE = {"id": "7", "price": ExactNumber("0.10"), "amount": 3, "side": "buy", "timestamp": 1_786_309_542_514, "datetime": None}


def test_a_spot_market_keeps_every_digit() -> None:
    made = to_instrument(SPOT, "binance", TICK_SIZE)
    assert (made.symbol, made.venue, made.venue_symbol, made.kind) == ("BTC/USDT", "binance", "BTCUSDT", MarketKind.SPOT)
    assert (str(made.tick_size), str(made.lot_size_base)) == ("0.01", "0.00001000")
    assert (made.min_quantity_base, made.max_quantity_base) == (Decimal("0.00001"), Decimal(9000))
    assert (made.min_notional_quote, made.maker_fee, made.taker_fee) == (Decimal(5), Decimal("0.001"), Decimal("0.0015"))
    assert made.max_leverage == 1


def test_a_perpetual_is_counted_in_base_units() -> None:
    made = to_instrument(PERP, "okx", TICK_SIZE)
    assert (made.kind, made.lot_size_base, made.min_quantity_base) == (MarketKind.PERP, Decimal("0.01"), Decimal("0.01"))
    assert (made.max_quantity_base, made.max_leverage, made.can_short) == (Decimal(1), Decimal(125), True)


def test_decimal_places_are_a_step_too() -> None:
    made = to_instrument(SPOT | {"precision": {"price": 2, "amount": 0}}, "v", DECIMAL_PLACES)
    assert (made.tick_size, made.lot_size_base) == (Decimal("0.01"), Decimal(1))


@pytest.mark.parametrize("change", [
    {"precision": {"price": None, "amount": 1}}, {"precision": {"price": 0, "amount": 1}}, {"precision": None}, {"symbol": ""},
    {"precision": {"price": float("nan"), "amount": 1}}, {"spot": False}, {"maker": "cheap"}, {"base": None},
])  # fmt: skip
def test_a_market_without_exact_steps_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        to_instrument(SPOT | change, "v", TICK_SIZE)


def test_significant_digits_are_no_step() -> None:
    with pytest.raises(DataError, match="significant"):
        to_instrument(SPOT, "v", SIGNIFICANT_DIGITS)


@pytest.mark.parametrize("change", [{"linear": False, "inverse": True}, {"swap": False, "future": True}, {"settle": "BTC"}])
def test_only_spot_and_linear_perpetuals_count(change: dict[str, Any]) -> None:
    assert kind_of(PERP) is MarketKind.PERP
    assert kind_of(PERP | change) is None


def test_a_trade_names_the_taker() -> None:
    trade = to_trade(TRADE, "A/B", 5, Decimal("0.01"))
    assert (trade.trade_id, trade.price, trade.quantity, trade.taker_side, trade.ts_init) == ("7", 0.1, 0.03, Side.BUY, 5)
    assert to_trade(TRADE, "A/B", 5, is_maker_side=True).taker_side is Side.SELL


@pytest.mark.parametrize("change", [
    {"side": None}, {"side": "maker"}, {"id": None}, {"id": ""}, {"price": 0}, {"price": None}, {"amount": -1}, {"amount": "x"},
    {"timestamp": None}, {"timestamp": 1.5}, {"timestamp": True}, {"price": float("inf")},
])  # fmt: skip
def test_a_trade_that_lacks_something_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        to_trade(TRADE | change, "A/B", 0)


def test_a_finer_time_is_taken_where_it_agrees() -> None:
    assert exact_ns(1_786_309_542_514, "2026-08-09T21:05:42.514318Z") == 1_786_309_542_514_318_000
    assert exact_ns(1_786_309_542_514, "2026-08-09T21:05:42.514318123Z") == 1_786_309_542_514_318_123
    assert exact_ns(1_786_309_542_514, "2026-08-09T21:05:43.514318Z") == 1_786_309_542_514_000_000
    assert exact_ns(1_786_309_542_514, "2026-08-09T21:05:42.51x318Z") == 1_786_309_542_514_000_000


def test_prints_without_id_are_named_and_equal_ones_kept_apart() -> None:
    page = [TRADE | {"id": None}, TRADE | {"id": None}, TRADE, TRADE | {"id": None, "side": "sell"}]
    ids = [trade["id"] for trade in with_ids(page)]
    assert len(set(ids)) == 4
    assert ids[2] == "7"
    assert [trade["id"] for trade in with_ids(page + page[:1])][:4] == ids  # a later page gives the same names


def test_a_row_becomes_a_candle() -> None:
    row = [60_000, ExactNumber("1.5"), 2.0, "1.25", 1.75, ExactNumber("10")]
    candle = to_candle(row, "A/B", Timeframe.M1, Decimal("0.5"))
    assert candle == VenueCandle("A/B", Timeframe.M1, 60_000_000_000, 1.5, 2.0, 1.25, 1.75, 5.0, candle.volume_quote)


@pytest.mark.parametrize("row", [
    [60_000, 1, 1, 1, 1], "text", [None, 1, 1, 1, 1, 1], [60_001, 1, 1, 1, 1, 1], [60_000, 1, 0.5, 0.4, 1, 1],
    [60_000, 1, 1, 1, 1, -1],
    [60_000, 1, 1, 1, None, 1], [-60_000, 1, 1, 1, 1, 1], [60_000, 0, 1, 0, 1, 1], [60_000, 1, 1, 1, 1, float("nan")],
])  # fmt: skip
def test_an_impossible_row_is_refused(row: Any) -> None:
    with pytest.raises(DataError):
        to_candle(row, "A/B", Timeframe.M1)


def test_levels_keep_the_venues_text() -> None:
    side = [[ExactNumber("0.35210000"), ExactNumber("672.00000000"), 3], [ExactNumber("1e-7"), ExactNumber("0")]]
    assert to_levels(side, 5) == (("0.35210000", "672.00000000"), ("1e-7", "0"))
    assert to_levels(side, 1, Decimal("0.1")) == (("0.35210000", "67.200000000"),)
    assert to_levels([[0.1, 5]], 5) == (("0.1", "5"),)


@pytest.mark.parametrize(
    "level", [[ExactNumber("0"), ExactNumber("1")], [ExactNumber("nan"), ExactNumber("1")], [1.0, None], [1.0, -1.0]]
)
def test_a_level_without_a_number_is_refused(level: list[Any]) -> None:
    with pytest.raises(DataError):
        to_levels([level], 5)


def test_an_exact_number_is_a_float_with_a_text() -> None:
    number = ExactNumber("12345678.123456789012")
    assert isinstance(number, float)
    assert -number == -12345678.123456789012
    for twin in (copy.deepcopy(number), pickle.loads(pickle.dumps(number)), ExactNumber(number)):
        assert (twin, twin.text) == (number, "12345678.123456789012")
    assert exact(number, "n") == Decimal("12345678.123456789012")  # a double would have lost the end
    assert ExactNumber(0.1).text == "0.1"
    with pytest.raises(ValueError):
        ExactNumber("abc")

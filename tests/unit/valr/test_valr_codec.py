"""Recorded and documented frames in, events out."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest

from helios.domain.enums import Side, Timeframe
from helios.domain.market import BookUpdate, Trade, VenueCandle
from helios.errors import ProtocolError
from helios.venues.valr import build
from helios.venues.valr.codec import decode_frame, ping_frame, subscribe_frame
from helios.venues.valr.events import (
    AllowedOrderTypes,
    Authenticated,
    FundingRunCompleted,
    Ignored,
    MarketSummary,
    MarkPrice,
    OrdersUpdate,
    PnlRunCompleted,
    Pong,
    Refused,
    ServerError,
    Subscribed,
    Unsubscribed,
    ValrEvent,
)
from helios.venues.valr.fields import FieldError
from tests.support import valr_frames as frames

NOW_NS = 1_790_133_278_000_000_000


def decode(text: str | bytes) -> ValrEvent:
    (event,) = decode_frame(text, frames.PAIR_SYMBOLS, NOW_NS)
    return event


def altered(text: str, **changes: Any) -> str:
    """Change fields of the payload; None removes one."""
    frame = json.loads(text)
    payload = frame["data"] if "data" in frame else frame["d"]
    payload.update(changes)
    for name in [name for name, value in changes.items() if value is None]:
        del payload[name]
    return json.dumps(frame)


def test_trade() -> None:
    assert decode(frames.TRADE) == Trade(
        "BTC/ZAR", "31934cc3-ec36-11ee-92bb-8f9d774e71b6", 1360468.0, 0.0004402, Side.BUY, 1711542799918000000, NOW_NS
    )


def test_trade_as_bytes_equals_trade_as_text() -> None:
    assert decode(frames.TRADE.encode()) == decode(frames.TRADE)


def test_trade_without_id_is_named_by_its_contents() -> None:
    first, again = decode(altered(frames.TRADE, id=None)), decode(altered(frames.TRADE, id=None))
    other = decode(altered(frames.TRADE, id=None, quantity="0.5"))
    assert isinstance(first, Trade)
    assert isinstance(other, Trade)
    assert first == again
    assert first.trade_id != other.trade_id


def test_book_snapshot_keeps_the_strings_the_checksum_runs_over() -> None:
    assert decode(frames.SNAPSHOT) == BookUpdate(
        symbol="BTC/USDT:USDT",
        is_snapshot=True,
        bids=(("86476", "0.0115"),),
        asks=(("86491", "0.0598"),),
        sequence=907135,
        checksum=915468303,
        ts_event=1790133277857000000,
        ts_init=NOW_NS,
    )


def test_book_diff_carries_removals_and_an_empty_side() -> None:
    event = decode(frames.DIFF)
    assert isinstance(event, BookUpdate)
    assert (event.is_snapshot, event.bids, event.asks[2]) == (False, (), ("46126", "0"))
    assert (event.sequence, event.checksum) == (589628111, 604745093)


@pytest.mark.parametrize(
    ("text", "ts_event", "ask"),
    [(frames.DEPTH, 1644301604645000000, ("45363", "0.01102078")), (frames.AGGREGATED, 1591012491634000000, ("9500", "0.005"))],
)
def test_books_without_sequence_are_snapshots(text: str, ts_event: int, ask: tuple[str, str]) -> None:
    event = decode(text)
    assert isinstance(event, BookUpdate)
    assert (event.is_snapshot, event.sequence, event.checksum) == (True, None, None)
    assert (event.ts_event, event.asks) == (ts_event, (ask,))


def test_an_order_level_snapshot_lists_every_order() -> None:
    entries = (("45363", "0.0019", "1d2e7745-5020-4d48-a77e-afc787ad048d"),)
    bids = (("45147", "0.00014782", "763080a8-9154-4c41-98de-ae09a0cf48cd"),)
    expected = OrdersUpdate("BTC/USDC", True, bids, entries, 589628037, 1074477335, 1644301604645000000, NOW_NS)
    assert decode(frames.ORDERS_SNAPSHOT) == expected


def test_an_order_level_update_keeps_removals() -> None:
    event = decode(frames.ORDERS_UPDATE)
    assert isinstance(event, OrdersUpdate)
    assert (event.is_snapshot, event.bids, [entry[1] for entry in event.asks]) == (False, (), ["0.00102078", "0"])


def test_the_comma_of_the_documented_order_level_sample_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(frames.ORDERS_UPDATE.replace("0.00102078", "0,00102078"))


@pytest.mark.parametrize(
    "asks", [[{"Price": "1"}], [{"Orders": []}, 3], [{"Price": "0", "Orders": [{"orderId": "a", "quantity": "1"}]}],
             [{"Price": "1", "Orders": [{"orderId": "", "quantity": "1"}]}], [{"Price": "1", "Orders": [{"orderId": "a"}]}]],
)  # fmt: skip
def test_a_malformed_order_level_book_is_refused(asks: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        decode(altered(frames.ORDERS_SNAPSHOT, Asks=asks))


@pytest.mark.parametrize("depth", [1, 5, 10, 20, 40, 60, 80])
def test_every_documented_depth_is_a_snapshot(depth: int) -> None:
    event = decode(frames.DEPTH.replace("OB_L1_D10_", f"OB_L1_D{depth}_"))
    assert isinstance(event, BookUpdate)
    assert event.is_snapshot


@pytest.mark.parametrize(
    ("text", "field"),
    [(altered(frames.TRADE, price="-100.50"), "price"), (altered(frames.TRADE, quantity="0"), "quantity"), ("nonsense", "json"),
     (frames.TRADE.replace("BTCZAR", ""), "ps"), ("[]", "frame"), (altered(frames.TRADE, tradedAt="x"), "tradedAt")],
)  # fmt: skip
def test_a_refusal_names_the_field(text: str, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        decode(text)
    assert caught.value.field == field
    assert str(pickle.loads(pickle.dumps(caught.value))) == caught.value.message


def test_values_of_the_hot_path_equal_those_of_the_constructors() -> None:
    levels = (("1", "2"),)
    book = build.book_update("A/B", False, levels, (), 5, 6, 7, 8)
    trade = build.trade("A/B", "id", 1.0, 2.0, Side.SELL, 3, 4)
    assert book == BookUpdate("A/B", False, levels, (), 5, 6, 7, 8)
    assert trade == Trade("A/B", "id", 1.0, 2.0, Side.SELL, 3, 4)
    assert pickle.loads(pickle.dumps((book, trade))) == (book, trade)


def test_bucket_is_a_closed_candle_named_by_its_open_time() -> None:
    assert decode(frames.BUCKET) == VenueCandle(
        "BTC/USDC", Timeframe.M1, 1712307780000000000, 67500.0, 67500.0, 67500.0, 67500.0, 0.0, 0.0
    )


def test_bucket_of_five_minutes_and_without_quote_volume() -> None:
    event = decode(altered(frames.BUCKET, bucketPeriodInSeconds=300, quoteVolume=None))
    assert isinstance(event, VenueCandle)
    assert event.timeframe is Timeframe.M5
    assert math.isnan(event.volume_quote)


def test_bucket_of_half_an_hour_is_ignored() -> None:
    assert decode(altered(frames.BUCKET, bucketPeriodInSeconds=1800)) == Ignored("NEW_TRADE_BUCKET")


def test_a_bucket_of_before_the_first_trade_is_no_candle() -> None:
    prices = dict.fromkeys(("open", "high", "low", "close"), "0")
    assert decode(altered(frames.BUCKET, **prices, volume="0", quoteVolume="0")) == Ignored("NEW_TRADE_BUCKET")
    with pytest.raises(ProtocolError):
        decode(altered(frames.BUCKET, low="0"))


def test_market_summary_is_read_under_data() -> None:
    event = decode(frames.SUMMARY)
    assert isinstance(event, MarketSummary)
    assert (event.symbol, event.bid, event.ask, event.last, event.mark) == ("BTC/USDT:USDT", 86476, 86491, 86355, 86476)
    assert (event.high_24h, event.low_24h, event.volume_base_24h) == (86706, 85117, 10.0569)
    assert event.change_pct_24h == 0.97
    assert event.ts_event == 1790133275175000000


def test_a_fallen_price_has_a_negative_change_and_an_unknown_one_none() -> None:
    fallen, unknown = (
        decode(altered(frames.SUMMARY, changeFromPrevious="-1.12")),
        decode(altered(frames.SUMMARY, changeFromPrevious=None)),
    )
    assert isinstance(fallen, MarketSummary)
    assert isinstance(unknown, MarketSummary)
    assert fallen.change_pct_24h == -1.12
    assert math.isnan(unknown.change_pct_24h)


def test_market_summary_of_an_illiquid_pair_has_no_quotes() -> None:
    text = altered(frames.SUMMARY, bidPrice="0", lowPrice="0", quoteVolume=None, created="2026-09-23T03:14:35Z")
    event = decode(text)
    assert isinstance(event, MarketSummary)
    assert [math.isnan(value) for value in (event.bid, event.low_24h, event.volume_quote_24h)] == [True] * 3
    assert event.ts_event == 1790133275000000000


def test_the_older_inner_name_of_the_pair_is_understood() -> None:
    frame = json.loads(frames.SUMMARY)
    del frame["currencyPairSymbol"]
    frame["data"]["currencyPair"] = frame["data"].pop("currencyPairSymbol")
    assert decode(json.dumps(frame)) == decode(frames.SUMMARY)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (frames.MARK, MarkPrice("BTC/USDT:USDT", 86476.0, NOW_NS)),
        (frames.SUBSCRIBED, Subscribed("OB_L1_DIFF", "BTCUSDTPERP")),
        (frames.UNSUBSCRIBED, Unsubscribed("OB_L1_DIFF", "BTCUSDTPERP")),
        (frames.PONG, Pong("")),
        (frames.PONG_IDLE, Pong("NO_SUBSCRIPTIONS")),
        (frames.AUTHENTICATED, Authenticated()),
        (frames.ERROR, ServerError("Channel OB_L1_DIFF, pair NOPEUSDTPERP combination invalid")),
        ('{"type":"FUNDING_RUN_COMPLETED","currencyPairSymbol":"BTCUSDTPERP"}', FundingRunCompleted("BTC/USDT:USDT", NOW_NS)),
        (frames.PNL_RUN, PnlRunCompleted("BTC/USDT:USDT", 116048.0, NOW_NS)),
        (frames.ORDER_TYPES, AllowedOrderTypes("BTC/ZAR", ("LIMIT", "LIMIT_POST_ONLY", "MARKET"), NOW_NS)),
        ('{"type":"UNAUTHORIZED"}', Refused("UNAUTHORIZED")),
        ('{"type":"UNSUPPORTED","message":"no such type"}', Refused("UNSUPPORTED", "no such type")),
        ('{"type":"SOMETHING_NEW","data":7}', Ignored("SOMETHING_NEW")),
        (frames.TRADE.replace("BTCZAR", "XRPZAR"), Ignored("NEW_TRADE")),
    ],
)
def test_small_frames(text: str, event: ValrEvent) -> None:
    assert decode(text) == event


@pytest.mark.parametrize(
    "changes",
    [
        {"price": "-100.50"}, {"quantity": "0"}, {"price": "0"}, {"quantity": "-1"}, {"price": None}, {"price": 1360468},
        {"price": "1,360"}, {"price": "NaN"}, {"price": "Infinity"}, {"price": "1E999"}, {"price": "1" * 65}, {"price": "١"},
        {"takerSide": "both"}, {"takerSide": None}, {"tradedAt": "yesterday"}, {"tradedAt": "2024-02-30T00:00:00Z"},
        {"tradedAt": 1711542799918}, {"tradedAt": "1969-12-31T23:59:59Z"}, {"tradedAt": "9999-12-31T23:59:59Z"}, {"id": 7},
    ],
)  # fmt: skip
def test_a_malformed_trade_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode(altered(frames.TRADE, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"sq": None}, {"sq": -1}, {"sq": "907136"}, {"sq": True}, {"cs": 2**32}, {"cs": 1.5}, {"lc": 2**63}, {"a": None},
        {"a": {}}, {"a": [["1"]]}, {"a": [["1", "2", "3"]]}, {"a": ["12"]}, {"a": [["0", "1"]]}, {"a": [["1", "-1"]]},
        {"b": [["1", 2]]}, {"b": [["1e400", "1"]]},
    ],
)  # fmt: skip
def test_a_malformed_book_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode(altered(frames.SNAPSHOT, **changes))


@pytest.mark.parametrize("changes", [{"high": "1"}, {"low": "67501"}, {"open": "0"}, {"volume": "-1"}, {"startTime": None}])
def test_an_impossible_candle_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode(altered(frames.BUCKET, **changes))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", "{}", '{"type":5}', '{"type":""}', b"\xff\xfe", "[" * 2000, '{"type":"SUBSCRIBED"}',
     '{"type":"SUBSCRIBED","message":":BTCZAR"}', '{"type":"PONG","message":3}', '{"type":"NEW_TRADE","currencyPairSymbol":""}',
     '{"type":"NEW_TRADE","currencyPairSymbol":"BTCZAR","data":[]}', '{"type":"OB_L1_DIFF","ps":"BTCZAR"}'],
)  # fmt: skip
def test_nonsense_is_refused(text: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(text)


def test_subscribe_frame_lists_every_event_with_its_pairs() -> None:
    frame = json.loads(subscribe_frame({"OB_L1_DIFF": ["BTCZAR", "ETHZAR"], "NEW_TRADE": []}))
    assert frame == {
        "type": "SUBSCRIBE",
        "subscriptions": [{"event": "OB_L1_DIFF", "pairs": ["BTCZAR", "ETHZAR"]}, {"event": "NEW_TRADE", "pairs": []}],
    }


def test_ping_frame() -> None:
    assert json.loads(ping_frame()) == {"type": "PING"}

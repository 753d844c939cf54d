"""Bodies of REST calls."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from helios.domain.enums import MarketKind
from helios.errors import ProtocolError
from helios.venues.valr.rest_codec import decode_buckets, decode_error, decode_pairs, decode_status, decode_time
from tests.support.valr_frames import BUCKET_ROW, SPOT_ROW


def pairs_body(**changes: Any) -> str:
    return json.dumps([json.loads(SPOT_ROW) | changes])


def perpetual_body(**changes: Any) -> str:
    names = {"symbol": "BTCUSDTPERP", "baseCurrency": "BTC", "quoteCurrency": "USDT", "shortName": "BTC/USDTPERP"}
    return pairs_body(**names, currencyPairType="FUTURE", **changes)


def test_a_spot_pair_keeps_its_limits_exactly() -> None:
    (instrument,) = decode_pairs(pairs_body())
    assert (instrument.symbol, instrument.venue_symbol, instrument.venue) == ("ETH/ZAR", "ETHZAR", "valr")
    assert (instrument.base, instrument.quote, instrument.kind) == ("ETH", "ZAR", MarketKind.SPOT)
    assert (instrument.tick_size, instrument.lot_size_base) == (Decimal(1), Decimal("0.00000001"))
    assert (instrument.min_quantity_base, instrument.max_quantity_base) == (Decimal("0.0002"), Decimal("69.21"))
    assert (instrument.min_notional_quote, instrument.max_notional_quote) == (Decimal(10), Decimal(5_000_000))
    assert instrument.max_leverage == 1  # margin is allowed on the pair, a spot holding still has none


def test_a_future_becomes_a_linear_perpetual_with_leverage() -> None:
    (instrument,) = decode_pairs(perpetual_body(initialMarginFraction="0.1"))
    assert (instrument.symbol, instrument.kind, instrument.can_short) == ("BTC/USDT:USDT", MarketKind.PERP, True)
    assert instrument.max_leverage == 10


@pytest.mark.parametrize("changes", [{"active": False}, {"currencyPairType": "OPTION"}])
def test_inactive_and_unknown_kinds_are_left_out(changes: dict[str, Any]) -> None:
    assert decode_pairs(pairs_body(**changes)) == []


@pytest.mark.parametrize(
    "changes",
    [{"tickSize": "0"}, {"tickSize": 1}, {"minBaseAmount": "-1"}, {"baseDecimalPlaces": "1.5"}, {"baseDecimalPlaces": "31"},
     {"shortName": ""}, {"symbol": None}],
)  # fmt: skip
def test_a_malformed_pair_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode_pairs(pairs_body(**changes))


def test_a_malformed_pair_costs_the_others_nothing() -> None:
    good = json.loads(SPOT_ROW)
    rows = [good | {"symbol": "XZAR", "tickSize": "0"}, good | {"currencyPairType": None}, "strange", good]
    assert [instrument.symbol for instrument in decode_pairs(json.dumps(rows))] == ["ETH/ZAR"]


@pytest.mark.parametrize("fraction", ["0", "1.1", "x"])
def test_a_perpetual_with_an_impossible_margin_is_refused(fraction: str) -> None:
    with pytest.raises(ProtocolError):
        decode_pairs(perpetual_body(initialMarginFraction=fraction))


def test_buckets_come_newest_first_and_leave_oldest_first() -> None:
    newer = json.loads(BUCKET_ROW)
    older = newer | {"startTime": "2025-07-22T12:55:00Z", "close": "119349", "low": "119349"}
    candles = decode_buckets(json.dumps([newer, older]), "BTC/USDC")
    assert [(candle.open_time // 1_000_000_000, candle.close) for candle in candles] == [
        (1753188900, 119349.0),
        (1753188960, 119350.0),
    ]


def bucket(**changes: Any) -> dict[str, Any]:
    return json.loads(BUCKET_ROW) | changes  # type: ignore[no-any-return]


VOID = dict.fromkeys(("open", "high", "low", "close", "volume", "quoteVolume"), "0")


def test_buckets_of_before_the_first_trade_are_no_candles() -> None:
    rows = [bucket(), bucket(startTime="2025-07-22T12:55:00Z", **VOID), bucket(startTime="2025-07-22T12:54:00Z", **VOID)]
    assert [candle.open_time // 1_000_000_000 for candle in decode_buckets(json.dumps(rows), "BTC/USDC")] == [1753188960]
    assert decode_buckets(json.dumps(rows[1:]), "BTC/USDC") == []


@pytest.mark.parametrize("bad", [bucket(high="1"), bucket(volume="-1"), bucket(low="0"), bucket(open=None), bucket(startTime=""), 7])
def test_an_impossible_bucket_becomes_a_hole_and_costs_the_others_nothing(bad: Any) -> None:
    good = bucket(startTime="2025-07-22T12:55:00Z")
    (candle,) = decode_buckets(json.dumps([bad, good]), "BTC/USDC")
    assert candle.open_time == 1753188900 * 1_000_000_000
    with pytest.raises(ProtocolError):
        decode_buckets(json.dumps([bad, bad]), "BTC/USDC")


@pytest.mark.parametrize("body", ['{"code":1}', "null", "[[]]", '["x"]'])
def test_what_is_no_list_of_rows_is_refused(body: str) -> None:
    for decode in (lambda text: decode_buckets(text, "BTC/USDC"), decode_pairs):
        with pytest.raises(ProtocolError):
            decode(body)


def test_buckets_of_another_length_are_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_buckets(json.dumps([json.loads(BUCKET_ROW) | {"bucketPeriodInSeconds": 1800}]), "BTC/USDC")


def test_time_is_exact_to_the_nanosecond() -> None:
    assert decode_time('{"epochTime":1750165361,"time":"2025-06-17T13:02:41.280178906Z"}') == 1750165361280178906


def test_status() -> None:
    assert decode_status('{"status":"read-only"}') == "read-only"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ('{"code":-111,"message":"Market summary not found"}', -111, "Market summary not found"),
        (
            '{"code":-11,"message":"Bad","validationErrors":{"errors":[{"field":"s","message":"s must be specified"}, 3]}}',
            -11,
            "Bad; s must be specified",
        ),
        (b"<html>\n <b>malformed</b>\n</html>", None, "<html> <b>malformed</b> </html>"),
        ('{"code":"-1","validationErrors":[]}', None, '{"code":"-1","validationErrors":[]}'),
        (b"\xff", None, "\ufffd"),
        ("", None, ""),
    ],
)
def test_error_bodies(body: str | bytes, code: int | None, message: str) -> None:
    error = decode_error(400, body)
    assert (error.status, error.code, error.message) == (400, code, message)


def test_a_long_page_is_cut_short() -> None:
    assert len(decode_error(503, "<p>" * 5000).message) == 200

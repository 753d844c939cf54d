"""Whatever arrives, VALR's decoders give events or the one documented error."""

from __future__ import annotations

import copy
import json
import random
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.market import BookUpdate, Trade, VenueCandle
from helios.errors import ProtocolError
from helios.venues.valr.codec import decode_frame
from helios.venues.valr.events import OrdersUpdate
from helios.venues.valr.rest_codec import (
    decode_book,
    decode_buckets,
    decode_error,
    decode_pairs,
    decode_status,
    decode_time,
    decode_trades,
)
from helios.venues.valr.session import TradeSession
from tests.support.valr_frames import AGGREGATED, BUCKET_ROW, FRAMES, PAIR_SYMBOLS, SPOT_ROW, TRADE

NUMBERS = st.sampled_from(["0", "-1", "1", "1e999", "1E-999", "NaN", "inf", "", " 1", "1_0", "٣", "9" * 80, "0.1", "-0"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | NUMBERS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3))
TRADES_BODY = json.dumps([json.loads(TRADE)["data"]])
BOOK_BODY = json.dumps(json.loads(AGGREGATED)["data"])
TYPES = st.sampled_from([json.loads(frame)["type"] for frame in FRAMES])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in [(*path, key), *places(inner, (*path, key))]]


@st.composite
def mutations(draw: st.DrawFn, originals: list[str]) -> str:
    """Return a real message with up to three of its parts replaced or removed."""
    value = json.loads(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 3))):
        paths = places(value)
        if not paths:
            break
        *way, last = draw(st.sampled_from(paths))
        parent = value
        for key in way:
            parent = parent[key]
        if draw(st.booleans()):
            parent[last] = copy.deepcopy(draw(VALUES))
        else:
            del parent[last]
    return json.dumps(value)


def check(text: str | bytes) -> None:
    try:
        events = decode_frame(text, PAIR_SYMBOLS, 1)
    except ProtocolError:
        return
    assert events
    for event in events:
        if isinstance(event, Trade):
            assert 0 < event.price < float("inf")
            assert 0 < event.quantity < float("inf")
        elif isinstance(event, BookUpdate):
            assert all(float(price) > 0 and float(quantity) >= 0 for price, quantity in event.bids + event.asks)
            assert 0 <= event.ts_event < 2**63
        elif isinstance(event, OrdersUpdate):
            assert all(float(price) > 0 and float(quantity) >= 0 and name for price, quantity, name in event.bids + event.asks)
        elif isinstance(event, VenueCandle):
            assert 0 < event.low <= min(event.open, event.close) <= max(event.open, event.close) <= event.high


@settings(max_examples=300, deadline=None)
@given(mutations(FRAMES))
def test_mutated_frames_give_sound_events_or_protocol_errors(text: str) -> None:
    check(text)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["data", "d", "ps", "currencyPairSymbol", "message"]), VALUES), TYPES)
def test_invented_frames_give_sound_events_or_protocol_errors(frame: dict[str, Any], kind: str) -> None:
    check(json.dumps({"type": kind, **frame}))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40))
def test_random_bytes_and_text_give_only_protocol_errors(text: str | bytes) -> None:
    check(text)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FRAMES), st.data())
def test_truncated_frames_are_protocol_errors(text: str, data: st.DataObject) -> None:
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert_refused(cut)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FRAMES), st.lists(st.integers(0, 2**20), min_size=1, max_size=4))
def test_flipped_bits_give_sound_events_or_protocol_errors(text: str, flips: list[int]) -> None:
    frame = bytearray(text.encode())
    for flip in flips:
        frame[flip // 8 % len(frame)] ^= 1 << flip % 8
    check(bytes(frame))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FRAMES), st.integers(0, 2**16), st.binary(min_size=1, max_size=4))
def test_bytes_that_are_no_text_inside_a_frame_are_refused_or_harmless(text: str, at: int, noise: bytes) -> None:
    frame = text.encode()
    at %= len(frame)
    check(frame[:at] + noise + frame[at:])
    check(frame[:at] + b"\xff\xfe" + frame[at:])


@pytest.mark.parametrize("opening", ["[", '{"type":', '{"type":"NEW_TRADE","currencyPairSymbol":"BTCZAR","data":'])
def test_deep_nesting_is_refused(opening: str) -> None:
    for depth in (100, 1_000, 100_000):
        assert_refused(opening + "[" * depth + "]" * depth + "}" * opening.count("{"))
        check('{"type":"X","data":' * depth + "1" + "}" * depth)


HUGE = ["9" * 400, "-" + "9" * 400, "1e308", "1e309", "123456789012345678901234567890", "0." + "0" * 400 + "1", "1E+999999999"]


@pytest.mark.parametrize("text", FRAMES)
@pytest.mark.parametrize("number", HUGE)
def test_huge_numbers_in_every_place(text: str, number: str) -> None:
    value = json.loads(text)
    for path in places(value):
        for replacement in (f'"{number}"', number):
            check(json.dumps(_replaced(value, path, "@@")).replace('"@@"', replacement))


@pytest.mark.parametrize("text", FRAMES)
def test_every_type_in_every_place(text: str) -> None:
    value = json.loads(text)
    for path in places(value):
        for swapped in (None, True, 0, -1, 1.5, "", "x", [], {}, [[]], [{}], {"type": "NEW_TRADE"}):
            check(json.dumps(_replaced(value, path, swapped)))


def _replaced(value: Any, path: tuple[Any, ...], inner: Any) -> Any:
    changed = copy.deepcopy(value)
    *way, last = path
    parent = changed
    for key in way:
        parent = parent[key]
    parent[last] = inner
    return changed


def assert_refused(text: str) -> None:
    try:
        decode_frame(text, PAIR_SYMBOLS, 1)
    except ProtocolError:
        return
    raise AssertionError(f"accepted {text!r}")


@settings(max_examples=200, deadline=None)
@given(mutations([f"[{SPOT_ROW}]", f"[{BUCKET_ROW},{BUCKET_ROW}]", '{"status":"online"}', '{"time":"2025-06-17T13:02:41.2Z"}',
                  TRADES_BODY, BOOK_BODY]))  # fmt: skip
def test_mutated_rest_bodies_give_values_or_protocol_errors(text: str) -> None:
    of_a_pair = [partial(decode, symbol="BTC/ZAR", now_ns=1) for decode in (decode_trades, decode_book)]
    for decode in (decode_pairs, decode_status, decode_time, partial(decode_buckets, symbol="BTC/ZAR"), *of_a_pair):
        with suppress(ProtocolError):
            decode(text)
    assert decode_error(400, text).status == 400


@settings(max_examples=60, deadline=None)
@given(st.lists(mutations(FRAMES) | st.sampled_from(FRAMES), max_size=12), st.integers(0, 2**32))
def test_a_session_survives_any_sequence_of_frames(texts: list[str], seed: int) -> None:
    session, rng, now_ns = TradeSession(PAIR_SYMBOLS), random.Random(seed), 0
    session.connected(now_ns)
    for text in texts:
        before = session.protocol_errors
        now_ns += rng.randrange(10**9)
        events = session.receive(text, now_ns)
        assert bool(events) != (session.protocol_errors == before + 1)
        session.due(now_ns)
        session.resubscribe(now_ns)
        assert session.next_wake(now_ns) >= now_ns

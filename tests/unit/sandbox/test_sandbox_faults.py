from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios.errors import ConfigError
from helios.venues.sandbox.chaos import (
    MALFORMED,
    SocketChaos,
    clock_error_ns,
    cut_page,
    refusal,
    reply_faults,
    share_within,
    spoiled,
    with_wrong_checksum,
)
from helios.venues.sandbox.faults import ALL, SHARES, FaultPlan, plan_of, read_plan
from helios.venues.sandbox.switch import FaultSwitch

DIFF = b'{"type":"OB_L1_DIFF","ps":"BTCZAR","d":{"lc":1,"a":[],"b":[["1","2"]],"sq":7,"cs":604745093}}'
TRADE = (
    b'{"type":"NEW_TRADE","currencyPairSymbol":"BTCZAR",'
    b'"data":{"price":"5","quantity":"1","currencyPair":"BTCZAR","id":"0123456789"}}'
)
BOOK, PRINT = ("OB_L1_DIFF", "BTCZAR"), ("NEW_TRADE", "BTCZAR")
N = 20_000


def chaos(seed: int = 1) -> tuple[SocketChaos, Counter[str]]:
    counts: Counter[str] = Counter()
    return SocketChaos(Random(seed), lambda kind: counts.update([kind])), counts


def within(count: int, share: float, n: int = N) -> bool:
    """Whether a count is within five standard errors of its share."""
    return abs(count - share * n) < 5.0 * math.sqrt(n * share * (1.0 - share))


def test_nothing_happens_by_default() -> None:
    decider, counts = chaos()
    for channel, frame in ((BOOK, DIFF), (PRINT, TRADE)):
        (delivery,) = decider.deliveries(FaultPlan(), channel, frame)
        assert (delivery.frame, delivery.late_market_s, delivery.pause_wall_s) == (frame, 0.0, 0.0)
    assert not decider.is_cut(FaultPlan(), 1e6)
    assert not decider.falls_silent(FaultPlan(), 1e6)
    assert not counts
    assert FaultPlan().is_quiet
    assert not ALL.is_quiet


def test_the_preset_has_every_fault_on() -> None:
    rates = (*SHARES, "cut_socket_every_s", "silence_every_s", "clock_skew_ms", "clock_drift_ppm")
    assert all(getattr(ALL, name) for name in rates)


@pytest.mark.parametrize(("kind", "channel"), [
    ("drop_diff", BOOK), ("double_diff", BOOK), ("wrong_checksum", BOOK), ("slow_frames", BOOK), ("double_trade", PRINT),
    ("late_trade", PRINT), ("malformed", PRINT),
])  # fmt: skip
def test_each_frame_fault_happens_as_often_as_planned(kind: str, channel: tuple[str, str]) -> None:
    decider, counts = chaos()
    plan = FaultPlan(**{kind: 0.03})
    frames = [len(decider.deliveries(plan, channel, DIFF if channel is BOOK else TRADE)) for _ in range(N)]
    assert within(counts[kind], 0.03)
    extra = {"drop_diff": -1, "double_diff": 1, "double_trade": 1, "malformed": 1}.get(kind, 0)
    assert sum(frames) == N + extra * counts[kind]
    others = {name for name in counts if not name.startswith("malformed_")}
    assert others == {kind}


def test_reordered_frames_swap_places_and_none_is_lost() -> None:
    decider, counts = chaos()
    plan = FaultPlan(reorder=0.1)
    sent = [b"%d" % number for number in range(N)]
    got = [delivery.frame for frame in sent for delivery in decider.deliveries(plan, PRINT, frame)]
    assert len(set(got)) == len(got) >= N - 1  # the last one may still be held
    # A frame that releases a held one is not held itself, so every hold swaps one pair.
    swaps = sum(int(a) > int(b) for a, b in pairwise(got))
    assert swaps in (counts["reorder"], counts["reorder"] - 1)
    assert within(counts["reorder"], 0.1 / 1.1)


def test_late_trades_are_late_by_up_to_the_planned_market_time() -> None:
    decider, _ = chaos()
    plan = FaultPlan(late_trade=1.0, late_trade_market_s=20.0)
    delays = [decider.deliveries(plan, PRINT, TRADE)[0].late_market_s for _ in range(2_000)]
    assert 1.0 <= min(delays) < 1.5
    assert 19.5 < max(delays) <= 20.0


def test_other_events_are_never_dropped_or_doubled() -> None:
    decider, _ = chaos()
    plan = FaultPlan(drop_diff=1.0, double_diff=1.0, double_trade=1.0, late_trade=1.0, malformed=1.0, reorder=1.0)
    for event in ("NEW_TRADE_BUCKET", "MARKET_SUMMARY_UPDATE", "OB_L1_D10_SNAPSHOT"):
        assert [delivery.frame for delivery in decider.deliveries(plan, (event, "BTCZAR"), b"{}")] == [b"{}"]


def test_equal_seeds_give_equal_faults_and_others_others() -> None:
    def run(seed: int) -> list[Any]:
        decider, _ = chaos(seed)
        return [decider.deliveries(ALL, PRINT, TRADE) for _ in range(500)]

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize(("every_s", "elapsed_s"), [(30.0, 0.1), (0.3, 0.1), (2.0, 0.5)])
def test_intervals_have_the_planned_mean_whatever_the_rhythm_of_looking(every_s: float, elapsed_s: float) -> None:
    decider, counts = chaos()
    plan = FaultPlan(cut_socket_every_s=every_s)
    looks = 50_000
    for _ in range(looks):
        decider.is_cut(plan, elapsed_s)
    assert within(counts["cut_socket"], 1.0 - math.exp(-elapsed_s / every_s), looks)
    assert share_within(0.0, 10.0) == 0.0


@pytest.mark.parametrize(("kind", "route"), [
    ("rate_limited", "time"), ("html_errors", "pairs"), ("slow_response", "status"), ("stale_cache", "orderbook"),
    ("stale_cache", "trades"), ("candle_lag", "buckets"),
])  # fmt: skip
def test_each_reply_fault_happens_as_often_as_planned(kind: str, route: str) -> None:
    counts: Counter[str] = Counter()
    random, plan = Random(3), FaultPlan(**{kind: 0.05})
    found = [reply_faults(plan, route, random, lambda kind: counts.update([kind])) for _ in range(N)]
    assert set(counts) == {kind}
    assert within(counts[kind], 0.05)
    if kind == "rate_limited":
        assert within(sum(f.retry_after_s is not None for f in found if f.status == 429), 0.5, counts[kind])
    if kind == "stale_cache":
        ages = [fault.age_market_s for fault in found if fault.age_market_s]
        assert 0.0 <= min(ages) < 1.0 < 29.0 < max(ages) <= 30.0


@pytest.mark.parametrize("page", ["empty_page", "short_page", "missing_newest"])
def test_pages_are_cut_as_often_as_planned_and_only_of_buckets(page: str) -> None:
    random, plan = Random(3), FaultPlan(**{page: 0.05})
    found = [reply_faults(plan, "buckets", random, lambda kind: None).page for _ in range(N)]
    assert within(found.count(page), 0.05)
    assert reply_faults(FaultPlan(**{page: 1.0}), "trades", random, lambda kind: None).page == ""


def test_pages_lose_their_newest_or_oldest_rows() -> None:
    rows = [{"n": number} for number in range(5)]
    assert cut_page("", rows) == rows
    assert cut_page("empty_page", rows) == []
    assert cut_page("short_page", rows) == rows[:3]
    assert cut_page("missing_newest", rows) == rows[1:]
    assert [cut_page(page, []) for page in ("empty_page", "short_page", "missing_newest")] == [[], [], []]


def test_refusals_are_429_and_503_as_often_as_planned() -> None:
    random, plan = Random(4), FaultPlan(refuse_connect=0.2)
    found = Counter(refusal(plan, random, lambda kind: None) for _ in range(N))
    assert set(found) == {0, 429, 503}
    assert within(found[429], 0.1)
    assert within(found[503], 0.1)


def test_clock_error_is_a_constant_and_a_drift() -> None:
    plan = FaultPlan(clock_skew_ms=-250.0, clock_drift_ppm=50.0)
    assert clock_error_ns(plan, 0) == -250_000_000
    assert clock_error_ns(plan, 3_600 * 10**9) == -250_000_000 + 180_000_000


def test_spoiled_frames_are_what_they_are_called() -> None:
    made = {kind: spoiled(kind, TRADE) for kind in MALFORMED}
    with pytest.raises(json.JSONDecodeError):
        json.loads(made.pop("truncated_json"))
    messages = {kind: json.loads(frame) for kind, frame in made.items()}
    assert messages["negative_price"]["data"]["price"] == "-100.50"
    assert messages["zero_quantity"]["data"]["quantity"] == "0"
    assert messages["empty_symbol"]["currencyPairSymbol"] == ""
    assert messages["unknown_type"]["type"] not in ("NEW_TRADE", "OB_L1_DIFF")
    assert {message["data"]["id"] for message in messages.values()} == {"bad0456789"}
    assert json.loads(with_wrong_checksum(DIFF))["d"]["cs"] == 604745092


@pytest.mark.parametrize("text", ['{"drop_diff": 0.5, "seed": 9}', "FILE"])
def test_plans_come_as_json_or_from_a_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text('{"drop_diff": 0.5, "seed": 9}')
    assert read_plan(str(file) if text == "FILE" else text) == FaultPlan(seed=9, drop_diff=0.5)
    assert (read_plan(""), read_plan(" all ")) == (FaultPlan(), ALL)
    assert plan_of(ALL.to_json()) == ALL


@pytest.mark.parametrize(("text", "word"), [
    ('{"drop_dif": 1}', "drop_dif"), ("{", "JSON"), ('"most"', "all"),
    ('{"drop_diff": 1.5}', "share"), ('{"drop_diff": true}', "number"), ('{"malformed": "x"}', "number"),
    ('{"silence_wall_s": -1}', "below"), ('{"seed": 1.5}', "whole"), ("/no/such/file", "cannot be read"),
])  # fmt: skip
def test_wrong_plans_are_one_clear_line(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        read_plan(text)
    assert len(str(caught.value).splitlines()) == 1


@given(st.dictionaries(st.sampled_from(SHARES), st.floats(0.0, 1.0)), st.lists(st.sampled_from([BOOK, PRINT]), max_size=40))
def test_any_plan_keeps_trades(plan: dict[str, float], channels: list[tuple[str, str]]) -> None:
    # Faults lose book changes only: trades come late, twice or in another order, but they come.
    decider, _ = chaos()
    sent: Counter[bytes] = Counter()
    got: Counter[bytes] = Counter()
    for number, channel in enumerate(channels):
        frame = (DIFF if channel is BOOK else TRADE).replace(b"0123456789", b"%010d" % number)
        sent.update([frame] if channel is PRINT else [])
        got.update(delivery.frame for delivery in decider.deliveries(FaultPlan(**plan), channel, frame))
    missing = [frame for frame in sent if frame not in got]
    assert len(missing) <= 1  # the one that is held until the next


def test_a_switch_changes_plan_clock_and_quiet_at_once() -> None:
    now = [1_000]
    switch = FaultSwitch(FaultPlan(), lambda: now[0])
    assert switch.is_quiet
    assert switch.refusal() == 0
    switch.put(FaultPlan(clock_drift_ppm=1e6, refuse_connect=1.0))
    now[0] += 5
    assert (switch.clock_error_ns(), switch.is_quiet) == (5, False)
    assert switch.refusal() in (429, 503)
    assert switch.counts.as_dict() == {"refuse_connect": 1}

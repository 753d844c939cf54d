"""Each fault of the sandbox exchange alone, seen through a raw client; and the truth it is compared with."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cluster.sandbox import sandbox_exchange
from helios.config import HeliosConfig
from helios.venues.sandbox.faults import ALL, FaultPlan
from helios.venues.sandbox.server import SandboxExchange
from tests.support.sandbox_client import LevelMirror, Message, client_of, decoded, frames, running, subscribe
from tests.support.waiting import awake

ROOT = Path(__file__).resolve().parents[2]


async def book_frames(socket: ClientConnection, count: int) -> tuple[Message, list[Message]]:
    await subscribe(socket, OB_L1_DIFF=["BTCZAR"])
    found = await frames(socket, lambda texts: len(texts) >= count + 2)
    return decoded(found, "OB_L1_SNAPSHOT")[0]["d"], [message["d"] for message in decoded(found, "OB_L1_DIFF")]


async def trade_frames(socket: ClientConnection, count: int) -> list[str]:
    await subscribe(socket, NEW_TRADE=["BTCZAR"])
    return (await frames(socket, lambda texts: len(texts) > count))[1:]


def counted(sandbox: SandboxExchange, kind: str) -> int:
    return sandbox.switch.counts.as_dict().get(kind, 0)


async def test_dropped_diffs_leave_gaps_in_the_sequence_that_goes_on() -> None:
    async with running(speed=240.0, faults=FaultPlan(drop_diff=0.2)) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        snapshot, diffs = await book_frames(socket, 200)
    numbers = [snapshot["sq"], *(diff["sq"] for diff in diffs)]
    gaps = sum(b - a - 1 for a, b in pairwise(numbers))
    assert numbers == sorted(set(numbers))
    assert 0.1 < gaps / (gaps + len(diffs)) < 0.3
    assert counted(sandbox, "drop_diff") >= gaps


async def test_double_diffs_come_twice_byte_for_byte() -> None:
    async with running(speed=240.0, faults=FaultPlan(double_diff=1.0)) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        snapshot, diffs = await book_frames(socket, 40)
    assert diffs[0::2] == diffs[1::2]
    assert [diff["sq"] for diff in diffs[0::2]] == list(range(snapshot["sq"] + 1, snapshot["sq"] + 21))


async def test_wrong_checksums_are_off_on_a_right_book() -> None:
    async with (
        running(speed=240.0, faults=FaultPlan(wrong_checksum=0.5)) as sandbox,
        connect(sandbox.ws_url, max_queue=None) as socket,
    ):
        snapshot, diffs = await book_frames(socket, 100)
    mirror, wrong = LevelMirror(snapshot), 0
    for diff in diffs:
        mirror.apply(diff)
        wrong += mirror.crc() != diff["cs"]
        assert mirror.crc() in (diff["cs"], diff["cs"] ^ 1)
    assert 30 < wrong < 70


async def test_reordered_frames_come_after_their_successors_and_none_is_lost() -> None:
    async with running(speed=240.0, faults=FaultPlan(reorder=0.3)) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        snapshot, diffs = await book_frames(socket, 100)
    numbers = [diff["sq"] for diff in diffs]
    assert numbers != sorted(numbers)
    assert max(abs(number - (snapshot["sq"] + 1 + i)) for i, number in enumerate(numbers)) == 1
    assert len(set(numbers)) == len(numbers)


async def test_double_trades_have_the_same_id() -> None:
    async with running(speed=240.0, faults=FaultPlan(double_trade=1.0)) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        found = await trade_frames(socket, 20)
    assert found[0::2] == found[1::2]
    assert len(set(found)) == 10


async def test_late_trades_come_after_younger_ones_and_some_in_the_next_minute() -> None:
    # How late at most is the decision's to bound, and tested there: on the wire a busy machine adds its own stalls, times the speed.
    plan = FaultPlan(late_trade=0.3, late_trade_market_s=40.0)
    async with running(speed=120.0, faults=plan) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        found = [message["data"]["tradedAt"] for message in decoded(await trade_frames(socket, 120), "NEW_TRADE")]
    newest, late_minutes = found[0], 0
    delays = []
    for when in found:
        newest = max(newest, when)
        delays.append((datetime.fromisoformat(newest) - datetime.fromisoformat(when)).total_seconds())
        late_minutes += newest[:16] > when[:16]
    assert max(delays) > 10.0
    assert late_minutes > 0
    assert len(set(found)) > 100


async def test_malformed_frames_are_extra_and_of_every_kind() -> None:
    async with running(speed=240.0, faults=FaultPlan(malformed=0.5)) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        found = await trade_frames(socket, 60)
        counts = sandbox.switch.counts.as_dict()
    trades = [message for message in decoded(found, "NEW_TRADE") if not message["data"]["id"].startswith("bad0")]
    bad = [message for message in decoded(found, "NEW_TRADE") if message["data"]["id"].startswith("bad0")]
    assert any(message["data"]["price"] == "-100.50" for message in bad)
    assert any(message["data"]["quantity"] == "0" for message in bad)
    assert any(message["currencyPairSymbol"] == "" == message["data"]["currencyPair"] for message in bad)
    assert decoded(found, "NEW_TRADE_OF_TOMORROW")
    assert any(text.startswith('{"type":"NEW_TRADE"') and not text.endswith("}") for text in found)
    assert len(trades) > 30
    assert all(counts[f"malformed_{kind}"] for kind in ("negative_price", "zero_quantity", "empty_symbol", "truncated_json"))


async def test_a_cut_socket_ends_without_a_close_frame() -> None:
    async with running(faults=FaultPlan(cut_socket_every_s=0.3)) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        await subscribe(socket, NEW_TRADE=["BTCZAR"])
        with pytest.raises(ConnectionClosed) as caught:
            await frames(socket, lambda _: False)
    assert caught.value.rcvd is None
    assert counted(sandbox, "cut_socket") == 1


async def test_a_silent_socket_stays_open_without_data_or_pongs_and_goes_on_later() -> None:
    plan = FaultPlan(silence_every_s=0.15, silence_wall_s=0.8)
    async with running(speed=240.0, faults=plan) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        await subscribe(socket, OB_L1_DIFF=["BTCZAR"])
        while True:  # a busy machine makes pauses of its own: they are not what is looked for
            try:
                await asyncio.wait_for(socket.recv(), 0.5)
            except TimeoutError:
                if counted(sandbox, "silence"):
                    break
            await socket.send('{"type":"PING"}')
        assert socket.state.name == "OPEN"
        sandbox.switch.put(FaultPlan())
        await socket.send('{"type":"PING"}')
        await frames(socket, lambda texts: '{"type":"PONG"}' in texts and any("OB_L1_DIFF" in text for text in texts))


async def test_refused_upgrades_are_429_or_503() -> None:
    statuses = set()
    async with running(faults=FaultPlan(refuse_connect=1.0)) as sandbox:
        for _ in range(12):
            with pytest.raises(InvalidStatus) as caught:
                await connect(sandbox.ws_url, open_timeout=2.0).__aenter__()
            statuses.add(caught.value.response.status_code)
            limited = caught.value.response.headers.get("x-valr-ratelimited")
            assert (limited == "true") == (caught.value.response.status_code == 429)
    assert statuses == {429, 503}


async def test_slow_frames_hold_up_everything_behind_them() -> None:
    plan = FaultPlan(slow_frames=1.0, slow_frames_wall_s=0.1)
    async with running(speed=600.0, faults=plan) as sandbox, connect(sandbox.ws_url, max_queue=None) as socket:
        await subscribe(socket, OB_L1_DIFF=["BTCZAR"])
        await frames(socket, lambda texts: len(texts) >= 3)
        before = time.monotonic()
        await frames(socket, lambda texts: len(texts) >= 5)
        assert time.monotonic() - before > 0.4


async def test_stale_books_and_trades_are_older_than_their_age_header_says_at_most_thirty_seconds() -> None:
    async with running(speed=60.0, faults=FaultPlan(stale_cache=1.0)) as sandbox, client_of(sandbox) as client:
        await asyncio.sleep(1.5)
        ages = []
        for _ in range(20):
            before = sandbox.clock.now_ns()
            answer = await client.get("/v1/public/BTCZAR/trades?limit=1")
            book = await client.get("/v1/public/BTCZAR/orderbook")
            after = sandbox.clock.now_ns()
            for seen, when in ((answer, answer.json()[0]["tradedAt"]), (book, book.json()["LastChange"])):
                # An event of the moment that the answer shows is at least as old as the header says, and not much older.
                assert after / 1e9 - _at(when).timestamp() >= int(seen.headers["age"])
                assert before / 1e9 - _at(when).timestamp() < 30.0 + 90.0  # a stall of a second is a minute of this market
            ages.append(int(answer.headers["age"]))
            assert book.headers["cache-control"] == "max-age=30,public"
    assert max(ages) > 10
    assert max(ages) <= 30


async def test_lagging_candles_lack_the_last_minute() -> None:
    async with running(speed=60.0, faults=FaultPlan(candle_lag=1.0)) as sandbox, client_of(sandbox) as client:
        await asyncio.sleep(1.2)
        newest = (await client.get("/v1/public/BTCZAR/buckets")).json()[0]
        assert _at(newest["startTime"]).timestamp() <= sandbox.clock.now_ns() / 1e9 - 120
        assert counted(sandbox, "candle_lag") == 1


async def test_limited_requests_are_429_with_and_without_retry_after() -> None:
    async with running(faults=FaultPlan(rate_limited=1.0)) as sandbox, client_of(sandbox) as client:
        answers = [await client.get("/v1/public/time") for _ in range(12)]
    assert {answer.status_code for answer in answers} == {429}
    assert {answer.headers["x-valr-ratelimited"] for answer in answers} == {"true"}
    assert {"retry-after" in answer.headers for answer in answers} == {True, False}


async def test_html_errors_come_from_the_front_end() -> None:
    async with running(faults=FaultPlan(html_errors=1.0)) as sandbox, client_of(sandbox) as client:
        answers = [await client.get("/v1/public/BTCZAR/buckets") for _ in range(12)]
    assert {(answer.status_code, answer.headers["via"]) for answer in answers} == {(502, "1.1 google"), (400, "1.1 google")}
    assert all(answer.headers["content-type"].startswith("text/html") for answer in answers)
    assert all(answer.text.startswith("<!DOCTYPE html>") for answer in answers)


async def test_slow_responses_are_slow_and_hold_up_nobody_else() -> None:
    plan = FaultPlan(slow_response=1.0, slow_response_wall_s=1.0)
    async with running(faults=plan) as sandbox, client_of(sandbox) as client:
        before = time.monotonic()
        async with awake() as turns:
            await asyncio.gather(*(client.get("/v1/public/status") for _ in range(4)))
        assert time.monotonic() - before >= 1.0
        assert turns.seconds < 3.5  # one after the other they would take longer


@pytest.mark.parametrize(("page", "rows"), [("empty_page", []), ("short_page", [0, 1, 2]), ("missing_newest", [1, 2, 3, 4])])
async def test_pages_of_buckets_lack_rows(page: str, rows: list[int]) -> None:
    async with running(admin=True) as sandbox, client_of(sandbox) as client:
        path = "/v1/public/BTCZAR/buckets?startTime=1749990000&endTime=1749990300"
        whole = (await client.get(path)).json()
        await client.put("/sandbox/faults", json={page: 1.0})
        assert (await client.get(path)).json() == [whole[row] for row in rows]
        assert counted(sandbox, page) == 1


async def test_the_venues_clock_is_off_and_drifts() -> None:
    plan = FaultPlan(clock_skew_ms=-90_000.0, clock_drift_ppm=10_000_000.0)
    async with running(speed=1.0, faults=plan) as sandbox, client_of(sandbox) as client:
        errors = []
        for _ in range(2):
            shown = _at((await client.get("/v1/public/time")).json()["time"]).timestamp()
            errors.append(shown - sandbox.clock.now_ns() / 1e9)
            await asyncio.sleep(0.5)
    assert errors[0] == pytest.approx(-90.0, abs=20.0)
    assert errors[1] - errors[0] > 4.0  # ten seconds for each second of the market, of which there was half a one


async def test_truth_equals_the_buckets_when_nothing_is_wrong() -> None:
    async with (
        running(speed=600.0, admin=True) as sandbox,
        client_of(sandbox) as client,
        connect(sandbox.ws_url, max_queue=None) as socket,
    ):
        await subscribe(socket, NEW_TRADE_BUCKET=["BTCZAR"], NEW_TRADE=["BTCZAR"])
        found = await frames(socket, lambda texts: sum("NEW_TRADE_BUCKET" in text for text in texts) > 6)
        truth = (await client.get("/sandbox/truth/btczar/minutes?start=1750000020")).json()
        buckets = (await client.get("/v1/public/BTCZAR/buckets?startTime=1750000020&endTime=1750018020&includeEmpty=true")).json()
    assert len(truth) > 5
    assert truth[0]["start"] == 1_750_000_020
    same = ("startTime", "open", "high", "low", "close", "volume", "quoteVolume")
    by_start = {bucket["startTime"]: bucket for bucket in buckets}
    for row in truth:
        assert [row[name] for name in same] == [by_start[row["startTime"]][name] for name in same]
    trades = decoded(found, "NEW_TRADE")
    second = truth[2]
    mine = [m["data"] for m in trades if int(_at(m["data"]["tradedAt"]).timestamp()) // 60 * 60 == second["start"]]
    assert second["tradeCount"] == len(mine)
    assert float(second["buyVolume"]) == pytest.approx(sum(float(t["quantity"]) for t in mine if t["takerSide"] == "buy"))


async def test_truth_does_not_notice_faults() -> None:
    rows: list[Any] = []
    for faults in (FaultPlan(), FaultPlan(drop_diff=0.5, double_trade=0.5, malformed=0.5, late_trade=0.5, missing_newest=1.0)):
        async with running(speed=600.0, admin=True, faults=faults) as sandbox, client_of(sandbox) as client:
            minutes: list[Any] = []
            while len(minutes) < 4:
                await asyncio.sleep(0.1)
                minutes = (await client.get("/sandbox/truth/ETHZAR/minutes?start=1750000020&end=1750000260")).json()
            rows.append(minutes)
    assert rows[0] == rows[1]


async def test_faults_are_switched_while_the_exchange_runs() -> None:
    async with running(admin=True) as sandbox, client_of(sandbox) as client, connect(sandbox.ws_url, max_queue=None) as socket:
        seen = (await client.get("/sandbox/faults")).json()
        assert (seen["plan"], seen["counters"]) == (FaultPlan().to_json(), {})
        changed = (await client.put("/sandbox/faults", json={"double_trade": 1.0})).json()
        assert changed["plan"]["double_trade"] == 1.0
        await trade_frames(socket, 5)
        assert (await client.get("/sandbox/faults")).json()["counters"]["double_trade"] >= 2
        assert (await client.put("/sandbox/faults", content=b'"all"')).json()["plan"] == ALL.to_json()
        assert sandbox.switch.plan == ALL
        for bad in (b'{"drop_dif":1}', b'{"drop_diff":2}', b"{", b"[]", b'{"seed":"x"}'):
            answer = await client.put("/sandbox/faults", content=bad)
            assert (answer.status_code, sandbox.switch.plan) == (400, ALL)
            assert answer.json()["message"]


async def test_admin_routes_are_absent_unless_asked_for() -> None:
    async with running() as sandbox, client_of(sandbox) as client:
        answers = [
            await client.get("/sandbox/faults"), await client.put("/sandbox/faults", json={"drop_diff": 1.0}),
            await client.get("/sandbox/truth/BTCZAR/minutes"), await client.put("/v1/public/time", content=b"x" * 5_000),
        ]  # fmt: skip
        assert [answer.status_code for answer in answers] == [404] * 4
        assert sandbox.switch.is_quiet


async def test_everything_at_once_still_lets_a_patient_client_see_trades() -> None:
    plan = replace(ALL, refuse_connect=0.0)
    seen: set[str] = set()
    async with running(speed=120.0, admin=True, faults=plan) as sandbox:
        deadline = time.monotonic() + 40.0
        while len(seen) <= 50:
            assert time.monotonic() < deadline
            # Each socket is cut sooner or later, or falls silent for longer than anybody waits.
            with suppress(ConnectionClosed, TimeoutError):
                async with connect(sandbox.ws_url, max_queue=None) as socket:
                    await subscribe(socket, NEW_TRADE=["BTCZAR"])
                    while len(seen) <= 50:
                        text = str(await asyncio.wait_for(socket.recv(), 4.0))
                        seen |= {message["data"]["id"] for message in decoded([text], "NEW_TRADE")}
        async with client_of(sandbox) as client:
            assert json.dumps((await client.get("/sandbox/faults")).json()["counters"])


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_desks_exchange_takes_its_faults_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    changes = {"faults": '{"drop_diff": 0.25}', "admin": True, "symbols": ["SYM01/ZAR", "BTC/ZAR"]}
    config = HeliosConfig.model_validate({"sandbox": changes})
    with sandbox_exchange(config, tmp_path) as ready:
        seen = httpx.get(f"{ready['rest_url']}/sandbox/faults").json()
        pairs = httpx.get(f"{ready['rest_url']}/v1/public/pairs").json()
    assert seen["plan"] == FaultPlan(drop_diff=0.25).to_json()
    assert [pair["shortName"] for pair in pairs] == ["SYM01/ZAR", "BTC/ZAR"]


@pytest.mark.parametrize("arguments", [
    ("--faults", '{"drop": 1}'), ("--faults", "/no/such/file"), ("--api-key", "key"), ("--recorded", "/no/such/directory"),
    ("--recorded", ".", "--state-file", "x"), ("--symbols", "btc/zar"),
])  # fmt: skip
def test_wrong_arguments_are_one_line(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "helios.venues.sandbox", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30.0)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.strip().splitlines()) == 1

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from helios.errors import ConfigError
from helios.venues.sandbox.server import SandboxConfig, SandboxExchange

ROOT = Path(__file__).resolve().parents[2]
Message = dict[str, Any]


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[SandboxExchange]:
    sandbox = SandboxExchange(SandboxConfig(**({"symbols": ("BTC/ZAR", "ETH/ZAR")} | changes)))
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.stop()


@asynccontextmanager
async def client_of(sandbox: SandboxExchange) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandbox.rest_url + "/v1/public", timeout=5.0) as client:
        yield client


async def subscribe(socket: ClientConnection, **pairs: list[str]) -> None:
    subscriptions = [{"event": event, "pairs": names} for event, names in pairs.items()]
    await socket.send(json.dumps({"type": "SUBSCRIBE", "subscriptions": subscriptions}))


async def receive(socket: ClientConnection) -> Message:
    message: Message = json.loads(await asyncio.wait_for(socket.recv(), 5.0))
    return message


async def until(socket: ClientConnection, kind: str) -> Message:
    while True:
        message = await receive(socket)
        if message["type"] == kind:
            return message


def crc(bids: dict[float, list[str]], asks: dict[float, list[str]]) -> int:
    pairs = zip_longest((bids[p] for p in sorted(bids, reverse=True)[:25]), (asks[p] for p in sorted(asks)[:25]), fillvalue=[])
    return zlib.crc32(":".join(chain.from_iterable(chain.from_iterable(pairs))).encode())


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


async def test_public_routes_have_the_venues_shape() -> None:
    async with running() as sandbox, client_of(sandbox) as client:
        now = (await client.get("/time")).json()
        assert seconds(now["time"][:19] + "Z") == now["epochTime"]
        assert (await client.get("/status")).json() == {"status": "online"}
        pairs = (await client.get("/pairs")).json()
        assert [pair["symbol"] for pair in pairs] == ["BTCZAR", "ETHZAR"]
        assert pairs[0]["tickSize"] == "1"
        book = (await client.get("/BTCZAR/orderbook")).json()
        assert float(book["Asks"][0]["price"]) > float(book["Bids"][0]["price"])
        summary = (await client.get("/ETHZAR/marketsummary")).json()
        assert float(summary["lowPrice"]) <= float(summary["lastTradedPrice"]) <= float(summary["highPrice"])
        assert len((await client.get("/marketsummary")).json()) == 2


@pytest.mark.parametrize(("path", "status", "code"), [
    ("/NOPEZAR/marketsummary", 404, -111),
    ("/NOPEZAR/buckets", 400, -21),
    ("/BTCZAR/buckets?periodSeconds=14400", 400, -11),
    ("/BTCZAR/buckets?startTime=1700000000&endTime=1700018061", 400, -11),
    ("/BTCZAR/buckets?limit=301", 400, -11),
    ("/BTCZAR/buckets?startTime=soon", 400, -11),
    ("/BTCZAR/trades?limit=101", 400, -11),
    ("/nothing", 404, -11),
])  # fmt: skip
async def test_bad_requests_get_the_venues_error_body(path: str, status: int, code: int) -> None:
    async with running() as sandbox, client_of(sandbox) as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["message"]


async def test_buckets_page_back_newest_first_without_holes() -> None:
    async with running() as sandbox, client_of(sandbox) as client:
        end = (await client.get("/time")).json()["epochTime"] // 60 * 60
        newer, older = [
            (await client.get("/BTCZAR/buckets", params={"startTime": e - 18_000, "endTime": e, "includeEmpty": "true"})).json()
            for e in (end, end - 18_000)
        ]
        starts = [seconds(bucket["startTime"]) for bucket in newer + older]
        assert starts == list(range(end - 60, end - 36_001, -60))
        days = (await client.get("/BTCZAR/buckets?periodSeconds=86400&limit=99")).json()
        assert len(days) == 99


async def test_hour_is_the_aggregate_of_its_minutes() -> None:
    async with running() as sandbox, client_of(sandbox) as client:
        hour = (await client.get("/BTCZAR/buckets?periodSeconds=3600&limit=1")).json()[0]
        start = seconds(hour["startTime"])
        minutes = (await client.get(f"/BTCZAR/buckets?startTime={start}&endTime={start + 3600}")).json()
        assert hour["open"] == minutes[-1]["open"]
        assert hour["close"] == minutes[0]["close"]
        assert float(hour["high"]) == max(float(minute["high"]) for minute in minutes)
        assert float(hour["volume"]) == pytest.approx(sum(float(minute["volume"]) for minute in minutes))


async def test_second_subscribe_replaces_the_first() -> None:
    async with running() as sandbox, connect(sandbox.ws_url) as socket:
        await subscribe(socket, MARK_PRICE_UPDATE=["btczar"])
        assert await receive(socket) == {"type": "SUBSCRIBED", "message": "MARK_PRICE_UPDATE:BTCZAR"}
        assert (await receive(socket))["currencyPairSymbol"] == "BTCZAR"
        await subscribe(socket, MARK_PRICE_UPDATE=["ETHZAR", "NOPEZAR"])
        kinds = [await receive(socket) for _ in range(3)]
        assert kinds == [
            {"type": "UNSUBSCRIBED", "message": "MARK_PRICE_UPDATE:BTCZAR"},
            {"type": "SUBSCRIBED", "message": "MARK_PRICE_UPDATE:ETHZAR"},
            {"type": "ERROR", "message": "Channel MARK_PRICE_UPDATE, pair NOPEZAR combination invalid"},
        ]
        await subscribe(socket, MARK_PRICE_UPDATE=[])
        assert (await until(socket, "UNSUBSCRIBED"))["message"] == "MARK_PRICE_UPDATE:ETHZAR"


async def test_ping_and_nonsense_are_answered() -> None:
    async with running() as sandbox, connect(sandbox.ws_url) as socket:
        await socket.send('{"type":"PING"}')
        assert await receive(socket) == {"type": "PONG", "message": "NO_SUBSCRIPTIONS"}
        await socket.send("{nonsense")
        assert await receive(socket) == {"type": "ERROR", "message": "Invalid message - Invalid JSON"}
        await subscribe(socket, NEW_TRADE_BUCKET=["BTCZAR"])
        await socket.send('{"type":"PING"}')
        assert await until(socket, "PONG") == {"type": "PONG"}


async def test_diffs_continue_the_snapshot_with_right_checksums() -> None:
    async with running(speed=120.0) as sandbox, connect(sandbox.ws_url) as socket:
        await subscribe(socket, OB_L1_DIFF=["ETHZAR"])
        snapshot = (await until(socket, "OB_L1_SNAPSHOT"))["d"]
        sides = {side: {float(price): [price, quantity] for price, quantity in snapshot[side]} for side in "ba"}
        assert crc(sides["b"], sides["a"]) == snapshot["cs"]
        for number in range(1, 101):
            diff = (await until(socket, "OB_L1_DIFF"))["d"]
            assert diff["sq"] == snapshot["sq"] + number
            for side in "ba":
                sides[side] |= {float(price): [price, quantity] for price, quantity in diff[side]}
                sides[side] = {price: level for price, level in sides[side].items() if level[1] != "0"}
            assert crc(sides["b"], sides["a"]) == diff["cs"]


async def test_pushed_bucket_is_the_aggregate_of_the_pushed_trades_and_rest_has_it() -> None:
    async with running(speed=240.0) as sandbox, connect(sandbox.ws_url) as socket, client_of(sandbox) as client:
        await subscribe(socket, NEW_TRADE=["BTCZAR"], NEW_TRADE_BUCKET=["BTCZAR"])
        await until(socket, "NEW_TRADE_BUCKET")
        trades: list[Message] = []
        while (message := await receive(socket))["type"] != "NEW_TRADE_BUCKET":
            trades.append(message["data"])
        bucket = message["data"]
        prices = [float(trade["price"]) for trade in trades]
        assert [float(bucket[name]) for name in ("open", "high", "low", "close")] == [
            prices[0], max(prices), min(prices), prices[-1],
        ]  # fmt: skip
        assert float(bucket["volume"]) == pytest.approx(sum(float(trade["quantity"]) for trade in trades), abs=1e-8)
        start = seconds(bucket["startTime"])
        answer = await client.get(f"/BTCZAR/buckets?startTime={start}&endTime={start + 60}&includeEmpty=true")
        assert answer.json() == [bucket]
        known = (await client.get("/BTCZAR/trades?limit=100")).json()
        assert {trade["id"] for trade in trades} & {trade["id"] for trade in known}


async def test_trades_page_back_by_id() -> None:
    async with running(speed=600.0) as sandbox, client_of(sandbox) as client:
        await asyncio.sleep(0.5)
        first = (await client.get("/BTCZAR/trades?limit=5")).json()
        second = (await client.get("/BTCZAR/trades", params={"limit": 5, "beforeId": first[-1]["id"]})).json()
        ids = [trade["sequenceId"] for trade in first + second]
        assert len(ids) == 10
        assert ids == sorted(ids, reverse=True)


async def test_summary_and_aggregated_book_come_at_once() -> None:
    async with running() as sandbox, connect(sandbox.ws_url) as socket:
        await subscribe(socket, MARKET_SUMMARY_UPDATE=["BTCZAR"], AGGREGATED_ORDERBOOK_UPDATE=["BTCZAR"])
        summary = await until(socket, "MARKET_SUMMARY_UPDATE")
        assert summary["data"]["currencyPairSymbol"] == "BTCZAR"
        book = (await until(socket, "AGGREGATED_ORDERBOOK_UPDATE"))["data"]
        assert {"Asks", "Bids", "LastChange", "SequenceNumber"} == set(book)


async def test_market_time_runs_at_the_speed_from_the_given_start() -> None:
    start_ns = 1_750_000_020 * 10**9
    before_s = time.monotonic()
    async with running(speed=600.0, start_ns=start_ns) as sandbox, client_of(sandbox) as client:
        await asyncio.sleep(0.3)
        market_s = (await client.get("/time")).json()["epochTime"] - 1_750_000_020
        assert 100 < market_s <= 600 * (time.monotonic() - before_s) + 1


async def test_idle_socket_without_subscriptions_is_dropped_without_a_close_frame() -> None:
    async with running(idle_s=0.2) as sandbox, connect(sandbox.ws_url) as idle, connect(sandbox.ws_url) as busy:
        await subscribe(busy, NEW_TRADE=["BTCZAR"])
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(idle.recv(), 5.0)
        assert caught.value.rcvd is None
        assert (await receive(busy))["type"] == "SUBSCRIBED"
        assert await until(busy, "NEW_TRADE")


async def test_every_socket_is_cut_at_the_end_of_its_lifetime() -> None:
    async with running(lifetime_s=0.2) as sandbox, connect(sandbox.ws_url) as socket:
        await subscribe(socket, NEW_TRADE_BUCKET=["BTCZAR"])
        with pytest.raises(ConnectionClosed):
            await until(socket, "NEVER")


async def test_slow_client_is_cut_with_1008_while_others_go_on() -> None:
    async with running(speed=600.0, queue_frames=20) as sandbox, connect(sandbox.ws_url) as socket:
        await subscribe(socket, OB_L1_DIFF=["BTCZAR", "ETHZAR"], NEW_TRADE=["BTCZAR", "ETHZAR"])
        with pytest.raises(ConnectionClosed) as caught:
            await until(socket, "NEVER")
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
        async with connect(sandbox.ws_url) as other:
            await subscribe(other, NEW_TRADE_BUCKET=["BTCZAR"])
            assert await until(other, "NEW_TRADE_BUCKET")


async def test_taken_port_is_a_configuration_error() -> None:
    async with running() as sandbox:
        second = SandboxExchange(SandboxConfig(symbols=("BTC/ZAR",), port=sandbox.port))
        with pytest.raises(ConfigError, match=str(sandbox.port)):
            await second.start()


def start_process(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "helios.venues.sandbox", "--symbols", "BTC/ZAR", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_process_announces_itself_and_ends_on_sigterm() -> None:
    process = start_process("--port", "0")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["pid"] == process.pid
    assert httpx.get(ready["rest_url"] + "/v1/public/status").json() == {"status": "online"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(5.0) == 0
    process.communicate()


def test_process_says_in_one_line_that_the_port_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start_process("--port", str(taken.getsockname()[1]))
        output, errors = process.communicate(timeout=10.0)
    assert process.returncode == 1
    assert output == ""
    assert len(errors.strip().splitlines()) == 1


def test_process_ends_when_its_parent_is_gone() -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = start_process("--parent-pid", str(parent.pid))
    assert process.stdout is not None
    assert process.stdout.readline()
    parent.communicate(b"\n")
    assert not os.path.exists(f"/proc/{parent.pid}")
    assert process.wait(5.0) == 0
    process.communicate()


LONG_AGO_S = 1_750_000_020  # so that a jump to the wall clock would show


def kept_process(file: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = start_process("--state-file", str(file), "--start-ns", str(LONG_AGO_S * 10**9), *arguments)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["rest_url"] + "/v1/public"


def epoch(url: str) -> int:
    return int(httpx.get(url + "/time").json()["epochTime"])


def last_buckets(url: str, end: int) -> list[Message]:
    """The 300 minutes before `end`, newest first."""
    params: dict[str, int | str] = {"startTime": end - 18_000, "endTime": end, "includeEmpty": "true"}
    found: list[Message] = httpx.get(url + "/BTCZAR/buckets", params=params).json()
    return found


def wait_for_time(url: str, end: int) -> None:
    deadline = time.monotonic() + 20.0
    while epoch(url) < end:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate(timeout=10.0)
    return process.returncode


def test_a_restarted_process_goes_on_with_its_market(tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    process, url = kept_process(file, "--speed", "60")
    wait_for_time(url, LONG_AGO_S + 150)
    end = epoch(url) // 60 * 60
    buckets, trades = last_buckets(url, end), httpx.get(url + "/BTCZAR/trades?limit=100").json()
    stopped = epoch(url)
    assert ended(process, signal.SIGTERM) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    time.sleep(1.0)  # a market minute at this speed, during which the venue's clock stands still

    process, url = kept_process(file, "--speed", "60")
    assert stopped <= epoch(url) < stopped + 600
    assert last_buckets(url, end) == buckets
    wait_for_time(url, end + 180)
    after = httpx.get(url + "/BTCZAR/trades?limit=100").json()
    starts = [seconds(bucket["startTime"]) for bucket in last_buckets(url, end + 180)]
    assert starts == list(range(end + 120, end - 17_821, -60))
    assert ended(process, signal.SIGINT) == 0
    known = {trade["sequenceId"]: trade["id"] for trade in trades}
    fresh = {trade["sequenceId"]: trade["id"] for trade in after if trade["sequenceId"] > max(known)}
    assert len(fresh) > 20
    assert not set(known.values()) & set(fresh.values())
    assert float(after[-1]["price"]) == pytest.approx(float(trades[0]["price"]), rel=0.01)


def test_a_killed_process_goes_on_from_its_last_save_and_confirms_what_was_lost(tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    process, url = kept_process(file, "--speed", "60", "--state-every-s", "1")
    wait_for_time(url, LONG_AGO_S + 120)
    before, deadline = file.stat().st_mtime_ns, time.monotonic() + 20.0
    while file.stat().st_mtime_ns == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    end = epoch(url) // 60 * 60
    wait_for_time(url, end + 60)
    buckets = last_buckets(url, end + 60)
    assert ended(process, signal.SIGKILL) == -signal.SIGKILL

    process, url = kept_process(file, "--speed", "60")
    assert LONG_AGO_S + 60 <= epoch(url) < end + 600
    wait_for_time(url, end + 60)
    assert last_buckets(url, end + 60) == buckets
    assert ended(process, signal.SIGTERM) == 0


def test_a_broken_state_file_ends_the_process_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    file.write_bytes(b"no market")
    process = start_process("--state-file", str(file))
    output, errors = process.communicate(timeout=20.0)
    assert (process.returncode, output) == (1, "")
    assert errors.strip().endswith("delete it to start a new market")
    assert len(errors.strip().splitlines()) == 1


def test_another_seed_starts_a_new_market_and_says_so_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    process, _ = kept_process(file)
    assert ended(process, signal.SIGTERM) == 0
    process, url = kept_process(file, "--seed", "8", "--start-ns", "1760000040000000000")
    assert epoch(url) >= 1_760_000_040
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10.0)
    assert process.returncode == 0
    assert len(errors.strip().splitlines()) == 1
    assert "seed 7 is now 8" in errors

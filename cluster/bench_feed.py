"""`helios bench feed_actors`: symbol actors under load on a local Ray, with a process of its own as the venue."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import psutil
import ray

from actors.base import DeskSpec
from actors.peers import Peers
from actors.symbol import SymbolActor
from actors.wiring import as_actor
from cluster.ray_runtime import ray_session
from cluster.sink import Sink
from helios.cli.bench import Figure
from helios.config import load_config
from helios.domain.market import Instrument
from helios.errors import RetryableError

N_SYMBOLS = 10
MESSAGES_PER_S = 1_000
WARM_UP_S = 5.0
START_LIMIT_S = 240.0
MEASURED_S = 20.0
MB = 1e6


def feed_actors() -> list[Figure]:
    """Ten symbols at 1,000 messages a second each, one actor per symbol: delay from sending to processed, memory, throughput."""
    pairs = [f"T{i:02d}ZAR" for i in range(N_SYMBOLS)]
    with tempfile.TemporaryDirectory() as folder, _venue(pairs) as port, ray_session(None):
        config = load_config(overrides={
            "venue.name": "valr", "venue.rest_url": f"http://127.0.0.1:{port}", "venue.ws_url": f"ws://127.0.0.1:{port}/ws/trade",
            "store.state_dir": folder,
        })  # fmt: skip
        spec = DeskSpec(config, "postgresql://127.0.0.1:9/none", "bench", tuple(map(_symbol, pairs)), None, None, folder)
        return _measured(spec, pairs)


def _measured(spec: DeskSpec, pairs: list[str]) -> list[Figure]:
    sinks = [as_actor(Sink, name, 1).remote() for name in ("recorder", "execution", "signal")]
    peers = Peers()
    actors = [as_actor(SymbolActor, f"symbol:{pair}", 16).remote(spec, [_instrument(pair)], peers) for pair in pairs]
    _wait_until_live(actors)
    time.sleep(WARM_UP_S)
    before = ray.get([actor.status.remote() for actor in actors])
    time.sleep(MEASURED_S)
    after = ray.get([actor.status.remote() for actor in actors])
    assert sinks
    messages = sum(b["feed"]["messages"] - a["feed"]["messages"] for a, b in zip(before, after))
    desyncs = sum(s["book_desyncs"] for status in after for s in status["symbols"])
    processes = [psutil.Process(status["pid"]) for status in after]
    load = f"{N_SYMBOLS} actors x {MESSAGES_PER_S} messages a second"
    note = f"{load} for {MEASURED_S:.0f} s on {os.cpu_count()} cores; {desyncs} books lost"
    return [
        _figure("messages processed", "per s", messages / MEASURED_S, note),
        _figure("p99 delay, worst symbol", "ms", 1e3 * max(_delay_s(status["feed"], "lag_p99_s") for status in after)),
        _figure("p50 delay, worst symbol", "ms", 1e3 * max(_delay_s(status["feed"], "lag_p50_s") for status in after)),
        _figure("resident memory of an actor", "MB", sum(p.memory_info().rss for p in processes) / len(processes) / MB),
        _figure("memory of its own of an actor", "MB", sum(p.memory_full_info().uss for p in processes) / len(processes) / MB),
    ]


def _wait_until_live(actors: list[Any]) -> None:
    """Wait until every owner knows its past and builds candles: after the first whole minute."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        feeds = [status["feed"] for status in ray.get([actor.status.remote() for actor in actors], timeout=START_LIMIT_S)]
        if all(feed["messages"] and not feed["syncing"] for feed in feeds):
            return
        time.sleep(1.0)
    raise RetryableError(f"the owners were not ready after {START_LIMIT_S:.0f} s: is the machine busy?")


def _delay_s(feed: dict[str, Any], name: str) -> float:
    """Return a delay by this machine's clock, which is the venue's here; the owner's idea of it may be off by its round trip."""
    return float(feed[name]) - (feed["market_time_ns"] / 1e9 - feed["as_of"])


def _figure(work: str, unit: str, value: float, note: str = "") -> Figure:
    return Figure("feed_actors", work, unit, value, "", None, None, 1, note)


@contextlib.contextmanager
def _venue(pairs: list[str]) -> Iterator[int]:
    command = [sys.executable, "-m", "cluster.blaster", "--pairs", ",".join(pairs), "--per-s", str(MESSAGES_PER_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(json.loads(process.stdout.readline())["port"])
        finally:
            process.terminate()


def _symbol(pair: str) -> str:
    return f"{pair.removesuffix('ZAR')}/ZAR"


def _instrument(pair: str) -> Instrument:
    return Instrument(_symbol(pair), pair.removesuffix("ZAR"), "ZAR", "valr", pair)

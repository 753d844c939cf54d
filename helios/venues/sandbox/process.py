"""The sandbox exchange as a process: its command line, its signals and its parent."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from helios.errors import ConfigError, DataError
from helios.venues.sandbox.faults import read_plan
from helios.venues.sandbox.options import SandboxConfig
from helios.venues.sandbox.server import SandboxExchange
from helios.venues.sandbox.specs import SPECS

PARENT_WATCH_S = 1.0


async def serve(config: SandboxConfig) -> None:
    """Run until SIGTERM, SIGINT or the parent's end; print one JSON line with the addresses when ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sandbox = SandboxExchange(config)
    await sandbox.start()
    ready = {"rest_url": sandbox.rest_url, "ws_url": sandbox.ws_url, "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
    watch = asyncio.create_task(_watch_parent(config.parent_pid, stop))
    stopped, failed = asyncio.create_task(stop.wait()), asyncio.create_task(sandbox.failed())
    done, _ = await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()
    failed_error = failed.exception() if failed in done else None
    failed.cancel()
    await sandbox.stop()
    if failed_error is not None:
        raise failed_error


async def _watch_parent(parent_pid: int | None, stop: asyncio.Event) -> None:
    if parent_pid is None:
        return
    try:
        parent = psutil.Process(parent_pid)
        # is_running knows the process by its start time, so a reused number does not count.
        while not stop.is_set() and parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PARENT_WATCH_S)
    except psutil.NoSuchProcess:
        pass
    stop.set()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments, run, return the exit code; a taken port, a wrong value or a broken state file is one line on stderr and 1."""
    args = _parser().parse_args(argv)
    try:
        config = SandboxConfig(
            host=args.host, port=args.port, speed=args.speed, seed=args.seed,
            symbols=tuple(args.symbols.split(",")), flow_strength=args.flow_strength, start_ns=args.start_ns,
            jump_probability=args.jump_probability, jump_size=args.jump_size,
            idle_s=args.idle_s, lifetime_s=args.lifetime_s, parent_pid=args.parent_pid,
            state_file=args.state_file, state_every_s=args.state_every_s,
            faults=read_plan(args.faults), admin=args.admin, rate_limits=args.rate_limits, compress=args.compress,
            api_keys=tuple(_key(text) for text in args.api_key), recorded=args.recorded,
        )  # fmt: skip
        asyncio.run(serve(config))
    except (ConfigError, DataError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    default = SandboxConfig()
    parser = argparse.ArgumentParser(prog="helios sandbox", description="The sandbox exchange: VALR's public protocol on a port.")
    parser.add_argument("--host", default=default.host)
    parser.add_argument("--port", type=int, default=default.port, help="0 takes a free port")
    parser.add_argument("--speed", type=float, default=default.speed, help="market seconds per wall second")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--symbols", default=",".join(SPECS), help="comma-separated BASE/QUOTE, also beyond the usual six")
    parser.add_argument("--flow-strength", type=float, default=default.flow_strength, help="0: unpredictable returns")
    parser.add_argument("--jump-probability", type=float, default=default.jump_probability, help="of a jump in a draw of noise")
    parser.add_argument("--jump-size", type=float, default=default.jump_size, help="in volatilities of that draw")
    parser.add_argument("--start-ns", type=int, default=None, help="first market time, ns UTC; the present minute by default")
    parser.add_argument("--idle-s", type=float, default=default.idle_s, help="cut sockets idle for so long")
    parser.add_argument("--lifetime-s", type=float, default=default.lifetime_s, help="cut every socket after so long")
    parser.add_argument("--parent-pid", type=int, default=None, help="stop when this process is gone")
    parser.add_argument("--state-file", type=Path, default=None, help="keep the market here over restarts")
    parser.add_argument("--state-every-s", type=float, default=default.state_every_s, help="wall seconds between saves")
    parser.add_argument("--faults", default="", help="all, JSON, or a file with JSON: what goes wrong (see docs/sandbox.md)")
    parser.add_argument("--admin", action="store_true", help="serve /sandbox/faults and /sandbox/truth")
    parser.add_argument("--rate-limits", action="store_true", help="hold clients to the venue's request limits (wall time)")
    parser.add_argument("--compress", action="store_true", help="agree to permessage-deflate")
    parser.add_argument("--api-key", action="append", default=[], metavar="KEY:SECRET", help="who may authenticate a socket")
    parser.add_argument("--recorded", type=Path, default=None, help="trade recorded candles or raw captures of this directory")
    return parser


def _key(text: str) -> tuple[str, str]:
    key, colon, secret = text.partition(":")
    if not (key and colon and secret):
        raise ConfigError("--api-key: expected KEY:SECRET")
    return key, secret

"""The sandbox exchange as a child process of the desk."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helios.config import HeliosConfig
from helios.errors import ConfigError

MARKET_START_NS = 1_767_571_200_000_000_000
"""2026-01-05 00:00 UTC. A fixed start makes the synthetic market the same for everybody; a state file goes on from its own time."""


@contextmanager
def sandbox_exchange(config: HeliosConfig, state_dir: Path, timeout_s: float = 30.0) -> Iterator[dict[str, object]]:
    """Start the exchange, yield what it printed (`rest_url`, `ws_url`, `pid`), end it afterwards."""
    log = (state_dir / "logs" / "sandbox.log").open("ab")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "helios.venues.sandbox", "--port", str(config.sandbox.port)),
            *("--speed", str(config.venue.speed), "--seed", str(config.sandbox.seed)),
            *("--flow-strength", str(config.sandbox.flow_strength), "--parent-pid", str(os.getpid())),
            *("--start-ns", str(MARKET_START_NS), "--state-file", str(state_dir / "sandbox_state.npz")),
            *("--faults", config.sandbox.faults, *(("--admin",) if config.sandbox.admin else ())),
            *(("--symbols", ",".join(config.sandbox.symbols)) if config.sandbox.symbols else ()),
        ],
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,  # Ctrl-C reaches the desk alone, which ends the exchange last
    )
    try:
        yield _first_line(process, timeout_s)
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _first_line(process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, object]:
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline and process.poll() is None:
            if selector.select(timeout=0.2):
                line = process.stdout.readline()
                if line:
                    return dict(json.loads(line))
    raise ConfigError(f"the sandbox exchange did not start (exit code {process.poll()}); see logs/sandbox.log")

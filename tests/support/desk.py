"""A real desk in a child process: `helios up`, its API and its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120.0


def eventually(probe: Callable[[], T], timeout_s: float = 30.0, what: str = "") -> T:
    """Return the first true answer of `probe`; asserts that there is one in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what or probe}"
        time.sleep(0.2)


def helios(*arguments: str, timeout_s: float = 60.0, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a helios command and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class RunningDesk:
    """A desk that was started with `helios up`."""

    def __init__(self, process: subprocess.Popen[str], state_dir: Path) -> None:
        self.process = process
        self.state_dir = state_dir
        self.client: httpx.Client | None = None

    def connect(self) -> None:
        """Wait until the API answers and the engine runs."""
        info = eventually(self._info, START_TIMEOUT_S, "run.json")
        token = (self.state_dir / "token").read_text().strip()
        self.client = httpx.Client(base_url=info["api_url"], headers={"Authorization": f"Bearer {token}"}, timeout=10.0)
        eventually(lambda: self._state() not in ("", "STOPPED", "STARTING"), START_TIMEOUT_S, "engine running")

    def _info(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, f"helios up ended with {self.process.poll()}: {self.errors()}"
        path = self.state_dir / "run.json"
        if not path.exists():
            return None
        info = json.loads(path.read_text())
        return info if info["pid"] == self.process.pid else None

    def _state(self) -> str:
        assert self.process.poll() is None, f"helios up ended: {self.errors()}"
        assert self.client is not None
        try:
            answer = self.client.get("/api/v1/status")
        except httpx.HTTPError:
            return ""
        return str(answer.json().get("state", "")) if answer.status_code == 200 else ""

    def get(self, path: str) -> Any:
        """GET as JSON; asserts success."""
        assert self.client is not None
        answer = self.client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        assert self.client is not None
        return self.client.post(path, json=body)

    def status(self) -> dict[str, Any]:
        """Return the snapshot; a Supervisor that is just being restarted is waited for."""

        def probe() -> dict[str, Any] | None:
            assert self.client is not None
            answer = self.client.get("/api/v1/status")
            if answer.status_code == 503:
                return None
            assert answer.status_code == 200, f"{answer.status_code} {answer.text[:300]}"
            return dict(answer.json())

        return eventually(probe, 20.0, "status")

    def pid_of(self, component: str) -> int:
        """Return the process id of a component, once it is healthy."""

        def probe() -> int | None:
            found = [c for c in self.status()["components"] if c["name"] == component and c["healthy"]]
            return int(found[0]["pid"]) if found else None

        return eventually(probe, what=component)

    def processes(self, title: str) -> list[psutil.Process]:
        """Return this desk's processes whose title holds `title`."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if title in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def all_pids(self) -> set[int]:
        return {p.pid for p in psutil.Process(self.process.pid).children(recursive=True)}

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> float:
        """Stop it and return how long that took."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout_s)
        return time.monotonic() - started

    def errors(self) -> str:
        return (self.state_dir.parent / (self.state_dir.name + ".err")).read_text()[-2000:]

    def summary(self) -> dict[str, Any]:
        """Return the JSON object that the finished desk printed."""
        return dict(json.loads((self.state_dir.parent / (self.state_dir.name + ".out")).read_text()))


@contextmanager
def running_desk(state_dir: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[RunningDesk]:
    """Start `helios up` on a free port; whatever is left at the end is killed."""
    out = (state_dir.parent / (state_dir.name + ".out")).open("w")
    err = (state_dir.parent / (state_dir.name + ".err")).open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster", "up", "--port", "0", "--state-dir", str(state_dir), "--json", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        stdout=out,
        stderr=err,
        text=True,
    )
    desk = RunningDesk(process, state_dir)
    try:
        yield desk
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(25)
            except subprocess.TimeoutExpired:
                process.kill()
        for child in children:
            if child.is_running():
                child.kill()
        out.close()
        err.close()

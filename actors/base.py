"""What all actors share: a lazy start that survives restarts, a status, JSON logs.

Ray runs the constructor again after a crash but calls nothing else. So every public method first awaits `ready()`, which
starts the actor's own tasks and loads its state once per incarnation; the Supervisor's ping does so within a second.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helios.config import HeliosConfig
from helios.logs import get_logger

NAMESPACE = "helios"


@dataclass(frozen=True, slots=True)
class DeskSpec:
    """What every actor is told at construction; enough to rebuild everything after a crash.

    Attributes
    ----------
    config : HeliosConfig
    dsn : str
        PostgreSQL address (may hold a password: never logged, never shown).
    run_id : str
    symbols : tuple of str
    reference_symbol : str or None
    replay_path : str or None
        Recorded data instead of a live venue.
    state_dir : str
    """

    config: HeliosConfig
    dsn: str
    run_id: str
    symbols: tuple[str, ...]
    reference_symbol: str | None
    replay_path: str | None
    state_dir: str


class HeliosActor:
    """Base of the actors: plain classes, wrapped by Ray only in wiring.py."""

    name = "actor"

    def __init__(self, spec: DeskSpec) -> None:
        self.spec = spec
        self.config = spec.config
        self.born = time.time()
        self.log = get_logger(f"helios.{self.name}", Path(spec.state_dir) / "logs")
        self._lock: asyncio.Lock | None = None
        self._is_ready = False
        self._tasks: list[asyncio.Task[None]] = []
        self.faults = 0

    async def ready(self) -> None:
        """Start this incarnation once; concurrent callers wait for the same start."""
        if self._is_ready:
            return
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if not self._is_ready:
                await self.on_start()
                self._is_ready = True
                self.log.info("ready", extra={"pid": os.getpid()})

    async def on_start(self) -> None:
        """Load state and start tasks; runs once per incarnation."""

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run a background task whose failure is logged, counted and ends the process: Ray then restarts the actor."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        task.add_done_callback(self._on_task_done)
        self._tasks.append(task)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        self.log.error("task failed", exc_info=task.exception(), extra={"task": task.get_name()})
        # A dead loop inside a live actor would look healthy; crash instead and let Ray start a fresh incarnation.
        os._exit(70)

    async def status(self) -> dict[str, Any]:
        """Return health for the Supervisor: plain JSON."""
        await self.ready()
        return {
            "name": self.name,
            "pid": os.getpid(),
            "born": self.born,
            "healthy": True,
            "faults": self.faults,
        } | self.details()

    def details(self) -> dict[str, Any]:
        """Return what is particular to this actor; plain JSON."""
        return {}

    async def stop(self) -> None:
        """Cancel tasks and release connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.on_stop()

    async def on_stop(self) -> None:
        """Release what on_start took."""

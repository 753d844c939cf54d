"""Owners of symbols that come while a desk runs, made and ended by the process that started it: an actor dies with its maker."""

from __future__ import annotations

import time
from collections.abc import Callable

import ray

from actors.wiring import Desk, start_owner
from helios.errors import HeliosError

ASK_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 4.0


class OwnerKeeper:
    """Makes the owners that the Supervisor asks for and ends those it lets go of; no call waits for anybody.

    A Supervisor that does not answer is asked again; an owner that died is restarted by Ray, not here.

    Parameters
    ----------
    desk : Desk
    say : callable
        Told in words of who comes and goes.
    """

    def __init__(self, desk: Desk, say: Callable[[str], None]) -> None:
        self._desk = desk
        self._say = say
        self._made: set[str] = set()
        self._asked: ray.ObjectRef | None = None
        self._asked_s = 0.0
        self._stopping: dict[str, tuple[ray.ObjectRef, float]] = {}

    def look(self) -> None:
        """Ask, or take the answer if it has come."""
        now_s = time.monotonic()
        self._end_stopped(now_s)
        if self._asked is None:
            if now_s - self._asked_s >= ASK_INTERVAL_S:
                self._asked, self._asked_s = self._desk["supervisor"].own.remote(sorted(self._made - self._stopping.keys())), now_s
        elif ray.wait([self._asked], timeout=0)[0]:
            asked, self._asked = self._asked, None
            try:
                wanted = dict(ray.get(asked))
            except (ray.exceptions.RayError, HeliosError):
                return  # it is being restarted, or reads its state
            for name in sorted(wanted.keys() - self._made):
                self._say(f"{name.removeprefix('symbol:')} is followed from now on")
                start_owner(self._desk, name, wanted[name])
                self._made.add(name)
            for name in sorted(self._made - wanted.keys() - self._stopping.keys()):
                self._say(f"{name.removeprefix('symbol:')} is not followed any more")
                self._stopping[name] = (self._desk[name].stop.remote(), now_s)

    def _end_stopped(self, now_s: float) -> None:
        for name, (stopped, since_s) in list(self._stopping.items()):
            if ray.wait([stopped], timeout=0)[0] or now_s - since_s > STOP_TIMEOUT_S:
                ray.kill(self._desk.handles.pop(name))
                del self._stopping[name]
                self._made.discard(name)

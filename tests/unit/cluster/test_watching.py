"""The process that started the desk watches it to its end, whoever is just being restarted meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import application
from cluster.application import StopRequest, _watch
from helios.errors import RetryableError

SNAPSHOT = {"state": "RUNNING", "counters": {"candles": 7}, "currency": "ZAR"}
INFO = SimpleNamespace(run_id="r", venue="sandbox", currency="ZAR", started_at=0.0)


class Control:
    """Answers with what `answers` holds; nothing is waited for."""

    answers: Iterator[dict[str, Any] | Exception] = iter(())
    calls: list[str] = []  # noqa: RUF012

    def __init__(self, desk: object) -> None:
        Control.calls = []

    def begin(self) -> str:
        return "RUNNING"

    def snapshot(self) -> dict[str, Any]:
        answer = next(Control.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def last_snapshot(self) -> dict[str, Any]:
        return self.snapshot()

    def flush(self) -> None:
        Control.calls.append("flush")

    def finish(self) -> None:
        Control.calls.append("finish")


class Owners:
    looks = 0

    def __init__(self, desk: object, say: object) -> None: ...

    def look(self) -> None:
        Owners.looks += 1


class Say:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.shown: list[dict[str, Any]] = []

    def __call__(self, text: str) -> None:
        self.told.append(text)

    def status(self, snapshot: dict[str, Any]) -> None:
        self.shown.append(snapshot)


def test_a_supervisor_that_is_away_when_the_status_is_due_does_not_end_the_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.ray_runtime.Control", Control)
    monkeypatch.setattr("cluster.owners.OwnerKeeper", Owners)
    monkeypatch.setattr(application, "STATUS_INTERVAL_S", 0.0)
    Control.answers = iter([RetryableError("a component did not answer: ActorUnavailableError"), SNAPSHOT, SNAPSHOT])
    stop, say, waits = StopRequest(), Say(), iter([False, False, True])
    monkeypatch.setattr(stop, "wait", lambda _: next(waits))
    spec, options = SimpleNamespace(symbols=("BTC/ZAR",)), SimpleNamespace(duration_s=None, speed=None)
    summary = _watch(object(), spec, options, None, stop, say, INFO)  # type: ignore[arg-type]
    assert "a component did not answer: ActorUnavailableError" in say.told
    assert (say.shown, summary["candles"], Owners.looks) == ([SNAPSHOT], 7, 2)
    assert Control.calls == ["flush", "finish"]

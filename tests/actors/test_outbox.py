"""What is told to a recorder that is away, slow or dead."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from actors import outbox as module
from actors.outbox import Message, Outbox
from helios.errors import TransportError
from tests.support.waiting import until


class Recorder:
    """Takes messages into memory and writes them when told; what it has not written dies with it."""

    def __init__(self) -> None:
        self.name, self.is_away = "first", False
        self.held: list[int] = []
        self.written: list[int] = []

    async def take(self, message: Message) -> str:
        await asyncio.sleep(0)
        if self.is_away:
            raise TransportError("away")
        self.held.append(message.arguments[0])
        return self.name

    def write(self) -> None:
        self.written += self.held
        self.held = []

    def die(self) -> None:
        self.held, self.name = [], self.name + "'"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.001)


async def test_messages_arrive_in_order_and_once_while_nothing_happens() -> None:
    recorder = Recorder()
    outbox = Outbox("x", recorder.take)
    for n in range(50):
        outbox.put("add", n, n_rows=1)
        if n % 7 == 0:
            await outbox.deliver()
    await outbox.deliver()
    assert (recorder.held, outbox.n_waiting, outbox.dropped, outbox.faults) == (list(range(50)), 0, 0, 0)


async def test_a_recorder_that_is_away_is_told_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRIES", 10**9)
    recorder = Recorder()
    outbox = Outbox("x", recorder.take)
    running = asyncio.create_task(outbox.run())
    recorder.is_away = True
    for n in range(5):
        outbox.put("add", n, n_rows=1)
    await until(lambda: outbox.faults >= 3)
    recorder.is_away = False
    await until(lambda: not outbox.n_waiting)
    assert recorder.held == list(range(5))
    running.cancel()


async def test_the_oldest_are_lost_and_counted_beyond_the_bound() -> None:
    recorder = Recorder()
    outbox = Outbox("x", recorder.take, rows_waiting=10)
    for n in range(6):
        outbox.put("add", n, n_rows=4)
    await outbox.deliver()
    assert (recorder.held, outbox.dropped) == ([4, 5], 16)


async def test_a_successor_is_told_again_what_died_with_its_predecessor() -> None:
    recorder = Recorder()
    outbox = Outbox("x", recorder.take)
    for n in range(20):
        outbox.put("add", n, n_rows=1)
        await outbox.deliver()
        if n == 8:
            recorder.write()
        if n in (12, 15):
            recorder.die()
    recorder.write()
    assert set(recorder.written) == set(range(20))
    assert max(Counter(recorder.written).values()) <= 3


async def test_a_later_word_on_a_row_is_repeated_after_the_earlier_one() -> None:
    recorder = Recorder()
    rows: dict[str, int] = {}

    async def take(message: Message) -> str:
        name = await recorder.take(message)
        rows["row"] = message.arguments[0]
        return name

    outbox = Outbox("x", take)
    for n in (1, 2):
        outbox.put("add", n, n_rows=1)
    await outbox.deliver()
    recorder.die()
    outbox.put("add", 3, n_rows=1)
    outbox.put("add", 4, n_rows=1)
    await outbox.deliver()
    assert rows["row"] == 4
    assert recorder.held == [3, 1, 2, 3, 4]


async def test_what_was_taken_is_kept_within_its_bound() -> None:
    recorder = Recorder()
    outbox = Outbox("x", recorder.take, rows_kept=10)
    for n in range(100):
        outbox.put("add", n, n_rows=2)
    await outbox.deliver()
    recorder.die()
    outbox.put("add", 100, n_rows=2)
    await outbox.deliver()
    assert recorder.held == [100, 95, 96, 97, 98, 99, 100]


async def test_one_message_that_is_never_taken_does_not_hold_up_the_others_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRIES", 3)
    taken: list[int] = []

    async def take(message: Message) -> str:
        if message.arguments[0] == 1:
            raise TransportError("it breaks on that")
        taken.append(message.arguments[0])
        return "first"

    outbox = Outbox("x", take)
    for n in range(3):
        outbox.put("add", n, n_rows=5)
    await outbox.deliver()
    assert (taken, outbox.dropped, outbox.faults) == ([0, 2], 5, 3)

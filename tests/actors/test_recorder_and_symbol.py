from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from actors import symbol as symbol_module
from actors.base import HeliosActor
from actors.recorder import RecorderActor
from actors.symbol import SymbolActor
from helios.domain.decisions import DecisionTrace
from helios.domain.enums import ExitReason, Side
from helios.domain.market import Bar, Instrument
from helios.domain.orders import ExitPlan, ExitTriggered
from helios.errors import StoreUnavailableError, TransportError
from helios.pipeline.symbol import SymbolStep
from tests.support.local_desks import write_synthetic
from tests.support.peers import Peer, Peers, spec
from tests.support.pipeline_values import BAR_NS, T0, bar, snapshot, window
from tests.support.waiting import until

BTC, ETH = (Instrument(s, s[:3], "ZAR", "test", s.replace("/", "")) for s in ("BTC/ZAR", "ETH/ZAR"))


# ---- base --------------------------------------------------------------------------------------------------------------


class Counting(HeliosActor):
    name = "counting"
    starts = 0

    async def on_start(self) -> None:
        await asyncio.sleep(0.01)
        self.starts += 1


async def test_an_actor_starts_once_however_many_ask(tmp_path: Path) -> None:
    actor = Counting(spec(tmp_path))
    await asyncio.gather(*(actor.status() for _ in range(5)))
    assert actor.starts == 1
    assert (await actor.status())["pid"] == os.getpid()


async def test_a_background_task_that_fails_ends_the_process_and_a_cancelled_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("actors.base.os._exit", ended.append)

    async def failing() -> None:
        raise ValueError("a bug")

    async def waiting() -> None:
        await asyncio.sleep(60)

    actor = Counting(spec(tmp_path))
    actor.spawn(waiting(), "waiting")
    await actor.stop()
    assert ended == []
    actor.spawn(failing(), "failing")
    await until(lambda: bool(ended))
    assert ended == [70]


# ---- recorder ----------------------------------------------------------------------------------------------------------


class Traces:
    """A trace store that can be away."""

    def __init__(self) -> None:
        self.is_down = False
        self.stored: list[str] = []

    async def record(self, traces: Sequence[DecisionTrace], forecasts: Sequence[Any]) -> None:
        if self.is_down:
            raise StoreUnavailableError("away")
        if any("\0" in t.symbol for t in traces):
            raise asyncpg.CharacterNotInRepertoireError("no text")
        self.stored += [t.symbol for t in traces]


class Market:
    """The market recorder's buffer."""

    dropped_candles = dropped_trades = 0
    down_s = 0.0
    is_filling = False

    def counters(self) -> dict[str, float]:
        return {}

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.revised: list[Bar] = []
        self.rows: list[tuple[str, int]] = []
        self.is_down = False
        self.retained: list[int] = []

    def revise_bars(self, bars: list[Bar]) -> None:
        self.revised += bars

    def add_bars(self, bars: Sequence[Bar]) -> None:
        self.bars += bars

    def add_features(self, symbol: str, bar_time: int, values: np.ndarray) -> None:
        self.rows.append((symbol, bar_time))

    async def flush(self) -> bool:
        return not self.is_down

    async def apply_retention(self, now_ns: int) -> dict[str, int]:
        if self.is_down:
            raise StoreUnavailableError("away")
        self.retained.append(now_ns)
        return {}


def recorder(tmp_path: Path) -> tuple[RecorderActor, Traces, Market]:
    actor, traces, market = RecorderActor(spec(tmp_path)), Traces(), Market()
    actor._is_ready = True
    actor._traces, actor._market = traces, market  # type: ignore[assignment]
    return actor, traces, market


def trace(symbol: str) -> DecisionTrace:
    return DecisionTrace(symbol, symbol, T0)


async def test_traces_wait_while_the_database_is_away_and_are_written_once_each_in_order(tmp_path: Path) -> None:
    actor, traces, _ = recorder(tmp_path)
    await actor.record_traces([trace("A")], [])
    traces.is_down = True
    await actor.record_traces([trace("B")], [])
    await actor.record_traces([trace("C"), trace("D")], [])
    assert (traces.stored, actor.details()["traces_waiting"], actor.outages) == (["A"], 2, 2)
    traces.is_down = False
    await asyncio.gather(actor.record_traces([trace("E")], []), actor.flush())
    assert traces.stored == ["A", "B", "C", "D", "E"]
    assert (actor.details()["traces_waiting"], actor.traces_written) == (0, 5)


async def test_a_decision_the_database_refuses_is_counted_and_holds_up_no_other(tmp_path: Path) -> None:
    actor, traces, _ = recorder(tmp_path)
    await actor.record_traces([trace("A"), trace("B\0"), trace("C")], [])
    await actor.record_traces([trace("D")], [])
    assert traces.stored == ["A", "C", "D"]
    details = actor.details()
    assert (details["refused"], details["traces_waiting"], details["decisions"]) == (1, 0, 3)


async def test_an_event_the_database_refuses_is_counted_and_holds_up_no_other(tmp_path: Path) -> None:
    actor, _, _ = recorder(tmp_path)
    stored: list[str] = []

    def note(text: str) -> Callable[[], Awaitable[None]]:
        async def write() -> None:
            if "\0" in text:
                raise asyncpg.CharacterNotInRepertoireError("no text")
            stored.append(text)

        return write

    for text in ("first", "bad\0", "last"):
        await actor._note(note(text))
    assert (stored, actor.details()["refused"], actor.details()["notes_waiting"]) == (["first", "last"], 1, 0)


async def test_waiting_traces_are_bounded_and_what_is_dropped_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.recorder.TRACES_KEPT", 2)
    actor, traces, _ = recorder(tmp_path)
    traces.is_down = True
    for name in "ABC":
        await actor.record_traces([trace(name)], [])
    traces.is_down = False
    await actor.flush()
    assert (traces.stored, actor.faults) == (["B", "C"], 1)


async def test_bars_and_feature_rows_are_buffered_and_counted(tmp_path: Path) -> None:
    actor, _, market = recorder(tmp_path)
    await actor.add([bar(0), bar(1)], [("BTC/ZAR", T0, np.zeros((3, 30)))])
    assert (len(market.bars), market.rows, actor.candles, actor.feature_rows) == (2, [("BTC/ZAR", T0)], 2, 1)


async def test_five_minutes_without_the_database_are_told_once_and_taken_back(tmp_path: Path) -> None:
    actor, _, market = recorder(tmp_path)
    market.is_down = True
    for down_s, healthy in ((299.0, True), (301.0, False), (302.0, False)):
        market.down_s = down_s
        assert not await actor._flush_once()
        assert (await actor.status())["healthy"] is healthy
    market.is_down = False
    assert await actor._flush_once()
    assert (await actor.status())["healthy"] is True
    assert actor.outages == 3


async def test_retention_runs_once_a_day_of_the_market_and_again_where_the_database_was_away(tmp_path: Path) -> None:
    actor, _, market = recorder(tmp_path)
    await actor._retain_once()
    assert market.retained == []  # nothing is known of the market's time yet
    await actor.add([bar(0), bar(1)], [])
    market.is_down = True
    await actor._retain_once()
    market.is_down = False
    for _ in range(3):
        await actor._retain_once()
    assert market.retained == [bar(1).close_time]
    await actor.add([bar(24 * 60)], [])
    await actor._retain_once()
    assert len(market.retained) == 2


# ---- symbol ------------------------------------------------------------------------------------------------------------


def trigger() -> ExitTriggered:
    return ExitTriggered("p1", BTC.symbol, ExitReason.STOP, 90.0, T0, snapshot(BTC.symbol))


def plan(symbol: str = BTC.symbol, name: str = "p1") -> ExitPlan:
    return ExitPlan(name, symbol, Side.BUY, 100.0, 95.0, 110.0, 0.0, 0.0, 0)


def owner(tmp_path: Path, **execution: Any) -> tuple[SymbolActor, Peers]:
    peers = Peers(execution=Peer(**execution), signal=Peer(submit=None), recorder=Peer(add=None))
    actor = SymbolActor(spec(tmp_path), [BTC, ETH], peers)
    actor._is_ready = True
    return actor, peers


async def test_a_triggered_exit_is_offered_until_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbol_module, "EXIT_RETRY_S", 0.0)
    answers: list[Any] = [TransportError("down"), TransportError("down"), []]
    actor, peers = owner(tmp_path, exits=lambda triggers: answers.pop(0), exit_plans=lambda: [plan(ETH.symbol)])
    actor.states[BTC.symbol].arm([plan()])
    await actor._exit(trigger())
    assert len(peers("execution").called("exits")) == 3
    assert actor.exits_sent == 1
    assert (actor.states[BTC.symbol].exits.armed, actor.states[ETH.symbol].exits.armed) == ((), ("p1",))


async def test_positions_stay_watched_while_execution_cannot_say_which_there_are(tmp_path: Path) -> None:
    actor, _ = owner(tmp_path, exit_plans=TransportError("down"))
    await actor.arm([plan(), plan(ETH.symbol, "p2")])
    await actor._rearm()
    assert (actor.states[BTC.symbol].exits.armed, actor.states[ETH.symbol].exits.armed) == (("p1",), ("p2",))


async def test_peers_that_are_slow_to_find_are_found_before_the_feed_begins_and_off_its_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, peers = owner(tmp_path, exit_plans=[])
    asked: list[tuple[str, bool]] = []
    begun: list[str] = []

    def find(name: str) -> Peer:
        asked.append((name, threading.current_thread() is threading.main_thread()))
        return peers(name)

    monkeypatch.setattr(actor, "_peers", find)
    monkeypatch.setattr(symbol_module, "make_venue", lambda *_: None)
    monkeypatch.setattr(symbol_module, "request_budget", lambda _: None)
    monkeypatch.setattr(symbol_module, "LiveFeed", lambda *_: SilentFeed(lambda: begun.extend(name for name, _ in asked)))
    monkeypatch.setattr(actor, "spawn", lambda coroutine, name: coroutine.close())
    await actor.on_start()
    assert {"signal", "recorder"} <= set(begun)
    assert [is_main for name, is_main in asked if name in ("signal", "recorder")] == [False, False]


class SilentFeed:
    """A feed that only says when its loop is made."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin

    def run(self) -> Coroutine[Any, Any, None]:
        self._begin()
        return asyncio.sleep(0)

    def tick(self) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(0)

    repair = keep_time = tick


async def test_only_warm_windows_are_sent_and_all_bars_are_recorded(tmp_path: Path) -> None:
    actor, peers = owner(tmp_path)
    cold, warm = window(BTC.symbol, T0, is_warm=False), window(BTC.symbol, T0 + BAR_NS)
    steps = [SymbolStep(BTC.symbol, (bar(0),), (cold,), (), ()), SymbolStep(BTC.symbol, (bar(1),), (warm,), (), ())]
    actor.states[BTC.symbol].drain = lambda: steps.pop(0)  # type: ignore[method-assign]
    for _ in range(2):
        await actor._publish(actor.states[BTC.symbol])
    await actor.outbox.deliver()
    assert [w.bar_time for (windows,) in peers("signal").called("submit") for w in windows] == [T0 + BAR_NS]
    recorded = peers("recorder").called("add")
    assert [len(bars) for bars, *_ in recorded] == [1, 1]
    assert [rows[0][1] for _, rows, *_ in recorded] == [T0, T0 + BAR_NS]


async def test_an_exit_leaves_before_the_windows_of_the_same_events(tmp_path: Path) -> None:
    actor, peers = owner(tmp_path, exits=lambda triggers: [], exit_plans=list)
    step = SymbolStep(BTC.symbol, (), (), (), (trigger(),))
    actor.states[BTC.symbol].drain = lambda: step  # type: ignore[method-assign]
    await actor._publish(actor.states[BTC.symbol])
    await until(lambda: bool(peers("execution").called("exits")))
    assert [t.position_id for (triggers,) in peers("execution").called("exits") for t in triggers] == ["p1"]


async def test_an_alarm_before_the_venue_has_told_its_time_bears_ours(tmp_path: Path) -> None:
    actor, peers = owner(tmp_path)
    peers("recorder").answers["record_event"] = None
    before_ns = time.time_ns()
    actor._alert("feed_down", "no market data")
    ((event,),) = peers("recorder").called("record_event")
    assert (event.kind, event.severity) == ("feed_down", "CRITICAL")
    assert before_ns <= event.ts_event <= time.time_ns()


async def test_replay_advances_every_symbol_and_sends_its_bars_to_the_recorder_alone(tmp_path: Path) -> None:
    data = write_synthetic(tmp_path / "candles-spot-1m", 30)
    peers = Peers(recorder=Peer(add=None))
    actor = SymbolActor(replace(spec(tmp_path), replay_path=str(data)), [BTC, ETH], peers)
    await actor.ready()
    end = actor._sources[BTC.symbol].end_ns
    steps = await actor.advance(end, [plan()])
    assert [(s.symbol, s.bars, len(s.marks)) for s in steps] == [(BTC.symbol, (), 5), (ETH.symbol, (), 5)]
    assert [w.bar_time for w in steps[0].windows][-1] == end // BAR_NS * BAR_NS
    ((bars, rows, _books, _revised),) = peers("recorder").called("add")
    assert (sum(b.timeframe.value == "1m" for b in bars), len(rows)) == (60, 2 * 6)
    assert [h.symbol for h in await actor.histories([ETH.symbol])] == [ETH.symbol]


async def test_a_recorder_that_is_away_costs_the_replay_a_pause_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbol_module, "RECORD_TIMEOUT_S", 0.05)
    data = write_synthetic(tmp_path / "candles-spot-1m", 30)
    peer = Peer(add=TransportError("down"))
    actor = SymbolActor(replace(spec(tmp_path), replay_path=str(data)), [BTC], Peers(recorder=peer))
    await actor.ready()
    (step,) = await actor.advance(actor._sources[BTC.symbol].end_ns, [])
    assert (len(step.marks), actor.faults) == (5, 1)
    assert actor.details()["to_recorder"]["waiting"] > 30
    peer.answers["add"] = "back"
    await actor.outbox.deliver()
    assert (actor.outbox.n_waiting, actor.outbox.dropped) == (0, 0)

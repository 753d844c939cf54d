from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from actors import supervisor as module
from actors.supervisor import KILL_SWITCH, Supervisor
from helios.config import load_config
from helios.domain.enums import EngineState, TradingMode, TradingState
from helios.domain.events import EngineEvent
from helios.domain.market import Instrument
from helios.domain.orders import AccountSnapshot
from helios.errors import RejectedError, StoreUnavailableError, TransportError
from tests.support.peers import Peer, Peers, spec
from tests.support.pipeline_values import account, position, snapshot
from tests.support.waiting import until

S = EngineState
SYMBOL = "symbol:BTC"
INSTRUMENTS = {s: Instrument(s, s[:3], "ZAR", "v", s.replace("/", "")) for s in ("BTC/ZAR", "ETH/ZAR")}
SOL = Instrument("SOL/ZAR", "SOL", "ZAR", "v", "SOLZAR")


class MemoryEngineStore:
    """The engine's state without a database."""

    def __init__(self) -> None:
        self.saved: list[EngineState] = []
        self.events: list[EngineEvent] = []
        self.is_down = False
        self.fails = 0
        self.runs: list[tuple[str, str, str]] = []

    async def save_state(self, state: EngineState, mode: TradingMode) -> None:
        if self.is_down:
            raise StoreUnavailableError("away")
        self.saved.append(state)

    async def add_event(self, event: EngineEvent) -> None:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailableError("away")
        self.events.append(event)

    async def start_run(self, run_id: str, digest: str, config: dict[str, Any], venue: str) -> None:
        self.runs.append((run_id, config["desk"]["initial_cash_quote"], venue))

    async def orders(self, limit: int) -> list[dict[str, Any]]:
        return []


class Desk:
    def __init__(self, tmp_path: Path) -> None:
        self.peers = Peers(
            execution=Peer(
                set_trading=None,
                set_mode=None,
                flatten=lambda markets, *_: [],
                account=lambda marks: account(),
                status=self.status,
                reset_breakers=lambda code: account(),
                set_unhealthy=None,
                move=lambda movement: account(),
            ),
            recorder=Peer(record_equity=None, status=self.status),
            symbol__BTC=Peer(markets=lambda: [snapshot("BTC/ZAR")], status=self.status),
        )
        self.pid = 1
        self.store = MemoryEngineStore()
        self.actor = Supervisor(spec(tmp_path), ["execution", "recorder", SYMBOL], INSTRUMENTS, self.peers, {"venue": "test"})
        self.actor._is_ready = True
        self.actor._store = self.store  # type: ignore[assignment]
        self.path = tmp_path

    def status(self) -> dict[str, Any]:
        return {"name": "x", "pid": self.pid, "born": 0.0, "healthy": True, "faults": 0}

    @property
    def told(self) -> list[bool]:
        return [allowed for (allowed,) in self.peers("execution").called("set_trading")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(module, "FLATTEN_ATTEMPTS", 1, raising=False)
    return Desk(tmp_path)


async def test_a_run_starts_pauses_resumes_and_ends_and_execution_is_told_each_time(desk: Desk) -> None:
    assert await desk.actor.begin() == "RUNNING"
    assert await desk.actor.pause() == "PAUSED"
    assert await desk.actor.resume() == "RUNNING"
    await desk.actor.finish()
    assert desk.told == [True, False, True, False]
    assert desk.store.saved == [S.RUNNING, S.PAUSED, S.RUNNING, S.STOPPED]


@pytest.mark.parametrize("stored", [S.PAUSED, S.EMERGENCY_STOP])
async def test_a_pause_and_an_emergency_stop_outlive_a_clean_stop_and_a_restart(desk: Desk, stored: EngineState) -> None:
    await desk.actor.begin()
    await (desk.actor.pause() if stored is S.PAUSED else desk.actor.emergency_stop("test"))
    await desk.actor.finish()
    assert desk.store.saved[-1] is stored
    desk.actor.state = desk.store.saved[-1]
    assert await desk.actor.begin() == stored.value
    assert desk.told[-1] is False


async def test_a_run_is_noted_with_what_it_began_with(desk: Desk) -> None:
    await desk.actor.begin()
    assert desk.store.runs == [(desk.actor.spec.run_id, "100000", "test")]


async def test_transitions_that_the_table_forbids_change_nothing(desk: Desk) -> None:
    with pytest.raises(RejectedError):
        await desk.actor.pause()
    assert (desk.actor.state, desk.told, desk.store.saved) == (S.STOPPED, [], [])


async def test_an_emergency_stop_flattens_with_all_markets_and_must_be_cleared_first(desk: Desk) -> None:
    await desk.actor.begin()
    desk.peers("execution").answers["flatten"] = lambda markets, *_: [f"{s} left" for s in markets]
    answer = await desk.actor.emergency_stop("operator")
    assert answer == {"state": "EMERGENCY_STOP", "still_open": ["BTC/ZAR left"], "dust": []}
    assert (desk.told[-1], desk.store.events[-1].severity) == (False, "CRITICAL")
    with pytest.raises(RejectedError, match="must be cleared"):
        await desk.actor.resume()
    assert await desk.actor.clear() == "PAUSED"
    assert await desk.actor.resume() == "RUNNING"
    with pytest.raises(RejectedError, match="nothing to clear"):
        await desk.actor.clear()


async def test_an_emergency_stop_is_called_though_everybody_is_away(desk: Desk) -> None:
    await desk.actor.begin()
    desk.store.is_down = True
    for name in ("execution", SYMBOL):
        desk.peers(name).answers = {}
        desk.peers(name).answers |= dict.fromkeys(("set_trading", "flatten", "markets"), TransportError("down"))
    assert await desk.actor.emergency_stop("operator") == {"state": "EMERGENCY_STOP", "still_open": ["unknown"], "dust": []}


async def test_live_is_refused_and_paper_is_always_possible(desk: Desk) -> None:
    for words in ("", "I_CONFIRM_LIVE_TRADING"):
        with pytest.raises(RejectedError):
            await desk.actor.set_mode("live", words)
    with pytest.raises(RejectedError, match="unknown mode"):
        await desk.actor.set_mode("demo")
    assert desk.peers("execution").called("set_mode") == []
    assert await desk.actor.set_mode("Paper") == "PAPER"
    assert desk.peers("execution").called("set_mode") == [(TradingMode.PAPER,)]


async def test_a_new_process_counts_as_a_restart_and_execution_is_told_the_state_again(desk: Desk) -> None:
    await desk.actor.begin()
    for pid in (1, 1, 2, 3):
        desk.pid = pid
        await desk.actor._ping("execution")
        await desk.actor._ping("recorder")
    shown = await desk.actor.snapshot()
    assert {c["name"]: c["restarts"] for c in shown["components"]} == {"execution": 2, "recorder": 2, SYMBOL: 0, "supervisor": 0}
    assert shown["counters"]["restarts"] == 4
    assert desk.told == [True, True, True]


async def test_an_execution_actor_that_dies_while_it_is_told_does_not_end_the_health_loop(desk: Desk) -> None:
    await desk.actor._ping("execution")
    desk.pid = 2
    desk.peers("execution").answers["set_trading"] = RayActorError()
    await desk.actor._ping("execution")
    assert (await desk.actor.snapshot())["counters"]["restarts"] == 1


async def test_a_component_that_does_not_answer_is_unhealthy_until_it_does(desk: Desk) -> None:
    execution = desk.peers("execution")
    await desk.actor._ping("execution")
    execution.answers["status"] = TransportError("down")
    await desk.actor._ping("execution")
    shown = {c["name"]: c for c in (await desk.actor.snapshot())["components"]}
    assert (shown["execution"]["healthy"], shown["execution"]["error"], shown["execution"]["pid"]) == (False, "down", 1)
    execution.answers["status"] = desk.status
    await desk.actor._ping("execution")
    assert {c["name"]: c for c in (await desk.actor.snapshot())["components"]}["execution"]["healthy"]


def tripped(state: TradingState) -> AccountSnapshot:
    return replace(account(), trading_state=state, trips=("MAX_DAILY_LOSS",))


@pytest.mark.parametrize(("permitted", "wanted"), [
    (TradingState.ACTIVE, S.RUNNING), (TradingState.REDUCING, S.REDUCING), (TradingState.HALTED, S.EMERGENCY_STOP),
])  # fmt: skip
async def test_what_the_breakers_permit_restricts_trading(desk: Desk, permitted: TradingState, wanted: EngineState) -> None:
    await desk.actor.begin()
    desk.actor._account = tripped(permitted)
    await desk.actor._enforce()
    assert desk.actor.state is wanted
    assert len(desk.peers("execution").called("flatten")) == (wanted is S.EMERGENCY_STOP)


async def test_reducing_ends_when_the_limits_are_kept_again_but_a_pause_stays(desk: Desk) -> None:
    await desk.actor.begin()
    for permitted, wanted in ((TradingState.REDUCING, S.REDUCING), (TradingState.ACTIVE, S.RUNNING)):
        desk.actor._account = tripped(permitted)
        await desk.actor._enforce()
        assert desk.actor.state is wanted
    await desk.actor.pause()
    desk.actor._account = tripped(TradingState.REDUCING)
    await desk.actor._enforce()
    assert desk.actor.state is S.PAUSED


async def test_a_pause_does_not_keep_a_halted_account_from_being_closed(desk: Desk) -> None:
    await desk.actor.begin()
    await desk.actor.pause()
    desk.actor._account = tripped(TradingState.HALTED)
    await desk.actor._enforce()
    assert desk.actor.state is S.EMERGENCY_STOP
    assert len(desk.peers("execution").called("flatten")) == 1


async def test_what_an_emergency_stop_could_not_close_is_closed_as_soon_as_it_can_be(desk: Desk) -> None:
    await desk.actor.begin()
    desk.peers("execution").answers["flatten"] = TransportError("down")
    await desk.actor.emergency_stop("operator")
    desk.peers("execution").answers["flatten"] = lambda markets, *_: []
    desk.actor._account = replace(account(), positions=(position("BTC/ZAR"),))
    await desk.actor._enforce()
    assert desk.actor._emergency_left == []
    n_sent = len(desk.peers("execution").called("flatten"))
    desk.actor._account = account()
    await desk.actor._enforce()
    assert (desk.actor.state, len(desk.peers("execution").called("flatten"))) == (S.EMERGENCY_STOP, n_sent)


async def test_dust_is_named_and_not_offered_again(desk: Desk) -> None:
    await desk.actor.begin()
    dusty = replace(account(), positions=(replace(position("BTC/ZAR"), is_dust=True),))
    desk.peers("execution").answers["account"] = lambda marks: dusty
    answer = await desk.actor.emergency_stop("operator")
    assert answer == {"state": "EMERGENCY_STOP", "still_open": [], "dust": ["BTC/ZAR"]}
    desk.actor._flatten_again = 0.0
    await desk.actor._enforce()
    assert len(desk.peers("execution").called("flatten")) == 1


async def test_positions_found_after_a_restart_in_an_emergency_stop_are_closed(desk: Desk) -> None:
    desk.actor.state = S.EMERGENCY_STOP
    desk.actor._account = replace(account(), positions=(position("BTC/ZAR"),))
    desk.actor._flatten_pause_s, before = 40.0, time.monotonic()
    for _ in range(3):  # one attempt, then a pause that grows: dust that nobody takes is not offered twice a second
        await desk.actor._enforce()
    assert len(desk.peers("execution").called("flatten")) == 1
    assert desk.actor._flatten_again >= before + 40
    assert desk.actor._flatten_pause_s == 60  # twice as long, at most a minute
    desk.actor._flatten_again = 0.0
    await desk.actor._enforce()
    assert len(desk.peers("execution").called("flatten")) == 2


@pytest.mark.parametrize(("auto_reset_h", "before", "wanted"), [
    (0.0, S.RUNNING, S.EMERGENCY_STOP), (12.0, S.RUNNING, S.RUNNING), (12.0, S.PAUSED, S.PAUSED),
])  # fmt: skip
async def test_a_halt_ends_by_itself_only_where_that_is_configured(
    desk: Desk, auto_reset_h: float, before: EngineState, wanted: EngineState
) -> None:
    desk.actor.config = load_config(env={}, overrides={"limits.auto_reset_h": auto_reset_h})
    await desk.actor.begin()
    if before is S.PAUSED:
        await desk.actor.pause()
    desk.actor._account = tripped(TradingState.HALTED)
    for permitted in (TradingState.HALTED, TradingState.HALTED, TradingState.ACTIVE):
        assert desk.actor.state is (before if not desk.peers("execution").called("flatten") else S.EMERGENCY_STOP)
        desk.actor._account = tripped(permitted)
        await desk.actor._enforce()
    assert desk.actor.state is wanted
    assert desk.told[-1] is (wanted is S.RUNNING)


async def test_a_person_s_emergency_stop_is_ended_by_a_person_whatever_the_breakers_do(desk: Desk) -> None:
    desk.actor.config = load_config(env={}, overrides={"limits.auto_reset_h": 12.0})
    await desk.actor.begin()
    desk.actor._account = tripped(TradingState.HALTED)
    await desk.actor._enforce()
    await desk.actor.emergency_stop("operator")
    desk.actor._account = account()
    await desk.actor._enforce()
    assert desk.actor.state is S.EMERGENCY_STOP


async def test_trips_become_events_once_and_a_failed_write_is_tried_again(desk: Desk) -> None:
    trip = {"code": "MAX_DRAWDOWN", "state": "HALTED", "detail": "why", "tripped_at": 5, "released_at": 0}
    desk.actor._status["execution"] = {"pid": 1, "trip_log": [(1, trip), (2, trip | {"released_at": 9})]}
    desk.store.fails = 1
    for _ in range(3):
        await desk.actor._follow_breakers()
    assert [(e.kind, e.severity, e.ts_event) for e in desk.store.events] == [
        ("MAX_DRAWDOWN", "CRITICAL", 5),
        ("MAX_DRAWDOWN", "INFO", 9),
    ]
    desk.actor._status["execution"]["pid"] = 2  # a new incarnation counts from 1 again
    await desk.actor._follow_breakers()
    assert len(desk.store.events) == 4


async def test_execution_is_told_who_is_silent_and_when_they_are_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_AFTER_S", 0.0)
    await desk.actor._follow_breakers()
    assert desk.peers("execution").called("set_unhealthy") == []  # who has just been started is not silent yet
    monkeypatch.setattr(module, "START_GRACE_S", 0.0)
    desk.actor._heard = dict.fromkeys(("execution", SYMBOL), 1e12)
    await desk.actor._follow_breakers()
    desk.actor._heard["recorder"] = 1e12
    for _ in range(2):
        await desk.actor._follow_breakers()
    assert desk.peers("execution").called("set_unhealthy") == [(["recorder"],), ([],)]


async def test_a_person_resets_breakers_and_it_is_written_down(desk: Desk) -> None:
    assert await desk.actor.reset_breakers("MAX_DRAWDOWN") == {"trading_state": "ACTIVE", "trips": []}
    assert desk.peers("execution").called("reset_breakers") == [("MAX_DRAWDOWN",)]
    assert desk.store.events[-1].kind == "BREAKERS_RESET"


async def test_money_is_told_at_market_time_and_written_down(desk: Desk) -> None:
    with pytest.raises(RejectedError, match="market's time"):
        await desk.actor.move("bank-1", "transfer", "5", "", "", "")
    desk.actor._status["signal"] = {"bar_time": 77}
    answer = await desk.actor.move("bank-1", "transfer", "5", "", "", "")
    assert (answer["movement_id"], answer["equity"]) == ("bank-1", str(account().equity_quote))
    [(told,)] = desk.peers("execution").called("move")
    assert (told.movement_id, told.amount, told.ts_event) == ("bank-1", 5, 77)
    assert [(e.kind, e.message, e.data) for e in desk.store.events] == [("MOVEMENT", "TRANSFER of 5", {"movement_id": "bank-1"})]
    with pytest.raises(RejectedError, match="is nothing"):
        await desk.actor.move("bank-2", "transfer", "0", "", "", "")
    assert len(desk.peers("execution").called("move")) == 1


async def test_the_kill_switch_file_stops_trading_and_must_be_removed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.actor.begin()
    (desk.path / KILL_SWITCH).touch()
    task = asyncio.get_running_loop().create_task(desk.actor._watch_kill_switch())
    await until(lambda: desk.actor.state is S.EMERGENCY_STOP)
    assert desk.actor.state is S.EMERGENCY_STOP
    await desk.actor.clear()
    with pytest.raises(RejectedError, match="kill switch"):
        await desk.actor.resume()
    task.cancel()
    (desk.path / KILL_SWITCH).unlink()
    assert await desk.actor.resume() == "RUNNING"


def test_the_health_loop_looks_more_often_than_once_a_second() -> None:
    assert module.HEALTH_INTERVAL_S < 1.0


async def test_a_symbol_that_comes_later_is_shown_watched_and_forgotten_when_it_leaves(desk: Desk) -> None:
    actor = desk.actor
    actor._universe._universe.add(SOL)
    shown = {row["symbol"]: row for row in (await actor.snapshot())["symbols"]}
    assert list(shown) == ["BTC/ZAR", "ETH/ZAR", "SOL/ZAR"]
    assert (shown["SOL/ZAR"]["origin"], shown["SOL/ZAR"]["is_warm"], shown["SOL/ZAR"]["last_price"]) == ("ADDED", False, None)
    assert await actor.own([]) == [("symbol:SOL/ZAR", (SOL,))]
    assert "symbol:SOL/ZAR" not in actor._components  # nobody asks for an actor that is not there yet
    market = {"symbol": "SOL/ZAR", "last_price": 3240.0, "is_warm": True, "is_stale": False}
    desk.peers.known["symbol:SOL/ZAR"] = Peer(status=lambda: desk.status() | {"symbols": [market]})
    await actor.own(["symbol:SOL/ZAR"])
    await actor._ping("symbol:SOL/ZAR")
    assert {c["name"]: c["healthy"] for c in (await actor.snapshot())["components"]}["symbol:SOL/ZAR"]
    assert (await actor.snapshot())["symbols"][2] | market == (await actor.snapshot())["symbols"][2]
    actor._universe._universe.remove("SOL/ZAR")
    assert (await actor.snapshot())["symbols"][2]["reduce_only"]
    actor._universe._universe.retire(())
    actor._universe._held = set()  # the account is known, and nothing is held
    assert await actor.own(["symbol:SOL/ZAR"]) == []
    assert "symbol:SOL/ZAR" not in {c["name"] for c in (await actor.snapshot())["components"]} | actor._status.keys()

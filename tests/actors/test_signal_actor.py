from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.remote import RemoteExecution, RemoteSeeds
from actors.signal import SignalActor, quantiles_ms
from helios.domain.market import Instrument
from helios.domain.universe import Member, Origin
from helios.errors import TransportError
from helios.pipeline.cycle import DecisionCycle
from helios.pipeline.series import SymbolHistory
from tests.support.peers import Peer, Peers, spec
from tests.support.pipeline_values import BAR_NS, T0, ScriptedTiers, account, ticking, window
from tests.support.waiting import until

BTC, ETH = "BTC/ZAR", "ETH/ZAR"
GROUPS = (((BTC,), "symbol:BTC"), ((ETH,), "symbol:ETH"))
DEADLINE_MS = 60


class Desk:
    """A signal actor over scripted tiers."""

    def __init__(self, tmp_path: Path) -> None:
        self.script = ScriptedTiers()
        history = SymbolHistory(BTC, np.ones(3), T0, np.array([T0]), np.ones(1), 1.0)
        owner = {"histories": lambda symbols: [history for _ in symbols], "arm": None}
        self.peers = Peers(
            symbol__BTC=Peer(**owner), symbol__ETH=Peer(**owner), risk=Peer(seed=None), portfolio=Peer(seed=None),
            execution=Peer(account=lambda marks: account(), exit_plans=list),
        )  # fmt: skip
        self.actor = SignalActor(spec(tmp_path, **{"desk.gather_deadline_ms": DEADLINE_MS}), GROUPS, self.peers)
        self.actor._is_ready = True
        self.actor._execution = RemoteExecution(self.peers("execution"), "execution", 1.0)
        self.actor._seeds = RemoteSeeds([(n, self.peers(n)) for n in ("risk", "portfolio")], 1.0)
        self.actor._cycle = DecisionCycle(self.script.tiers(), BTC, ticking())

    def outcomes(self) -> list[tuple[str, int, str]]:
        return [(t.symbol, (t.bar_time - T0) // BAR_NS, t.outcome) for t in self.script.traces]

    async def warmed(self) -> Desk:
        await self.actor.submit([window(BTC), window(ETH)])
        await self.decided(2)
        self.script.traces.clear()
        return self

    async def decided(self, n: int) -> None:
        """Wait until there are `n` traces."""
        await until(lambda: len(self.script.traces) >= n)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def at(index: int, *symbols: str) -> list[Any]:
    return [window(s, T0 + index * BAR_NS) for s in symbols]


async def test_the_first_bar_waits_for_the_deadline_and_seeds_each_symbol_once(desk: Desk) -> None:
    await desk.actor.submit(at(0, BTC))
    await desk.actor.submit(at(0, ETH))
    assert desk.outcomes() == []
    await desk.decided(2)
    assert desk.outcomes() == [(BTC, 0, "ORDERED"), (ETH, 0, "ORDERED")]
    assert desk.peers("symbol:BTC").called("histories") == [([BTC],)]
    await desk.actor.submit(at(1, BTC, ETH))
    assert len(desk.peers("risk").called("seed")) == len(desk.peers("portfolio").called("seed")) == 1


async def test_the_last_expected_window_starts_the_cycle_at_once(desk: Desk) -> None:
    await desk.warmed()
    await desk.actor.submit(at(1, ETH))
    assert desk.outcomes() == []
    await desk.actor.submit(at(1, BTC))
    assert desk.outcomes() == [(BTC, 1, "ORDERED"), (ETH, 1, "ORDERED")]
    await asyncio.sleep(1.5 * DEADLINE_MS / 1e3)
    assert len(desk.outcomes()) == 2


async def test_at_the_deadline_the_bar_is_decided_without_the_late_symbol(desk: Desk) -> None:
    await desk.warmed()
    await desk.actor.submit(at(1, BTC))
    await desk.decided(2)
    assert desk.outcomes() == [(BTC, 1, "ORDERED"), (ETH, 1, "DATA_MISSING")]
    await desk.actor.submit(at(1, ETH))
    assert len(desk.outcomes()) == 2
    assert desk.actor.counters["late_windows"] == 1


async def test_a_second_window_of_a_decided_bar_changes_nothing(desk: Desk) -> None:
    await desk.warmed()
    await desk.actor.submit(at(1, BTC, ETH))
    await desk.actor.submit(at(1, BTC))
    await desk.actor.submit(at(0, BTC, ETH))
    assert len(desk.outcomes()) == 2
    assert desk.actor.counters["late_windows"] == 3


async def test_a_newer_bar_overtakes_one_that_still_waits(desk: Desk) -> None:
    await desk.warmed()
    await desk.actor.submit(at(1, BTC))
    await desk.actor.submit(at(2, BTC, ETH))
    await asyncio.sleep(1.5 * DEADLINE_MS / 1e3)
    assert desk.outcomes() == [(BTC, 2, "ORDERED"), (ETH, 2, "ORDERED")]
    assert desk.actor.counters["late_windows"] == 1


async def test_orders_are_watched_by_the_owners_of_their_symbols_alone(desk: Desk) -> None:
    desk.script.refusals = {ETH: "LOW_CONFIDENCE"}
    await desk.warmed()
    await desk.actor.submit(at(1, BTC, ETH))
    assert len(desk.peers("symbol:BTC").called("arm")) == 2
    assert desk.peers("symbol:ETH").called("arm") == []


async def test_an_execution_actor_that_is_away_costs_the_bar_and_not_the_desk(desk: Desk) -> None:
    await desk.warmed()
    execution = desk.peers("execution")
    healthy, execution.answers["account"] = execution.answers["account"], TransportError("down")
    await desk.actor.submit(at(1, BTC, ETH))
    assert desk.actor.details()["error_count"] == 1
    execution.answers["account"] = healthy
    await desk.actor.submit(at(2, BTC, ETH))
    assert desk.outcomes() == [(BTC, 2, "ORDERED"), (ETH, 2, "ORDERED")]


async def test_figures_count_what_the_cycle_did(desk: Desk) -> None:
    await desk.warmed()
    await desk.actor.submit(at(1, BTC, ETH))
    details = desk.actor.details()
    wanted = {"cycles": 2, "predictions": 4, "plans": 4, "reviews": 4, "orders": 4, "decisions": 4, "feature_windows": 4}
    assert {name: details["counters"][name] for name in wanted} == wanted
    assert details["outcomes"] == {"ORDERED": 4}
    assert [d["symbol"] for d in details["decisions"]][:2] == [ETH, BTC]
    assert details["known"] == [BTC, ETH]
    assert details["bar_time"] == T0 + BAR_NS


@pytest.mark.parametrize(("values", "wanted"), [
    ([], {}), ([0.002], {"p50": 2.0, "p95": 2.0, "p99": 2.0}),
    ([i / 1e3 for i in range(100, 0, -1)], {"p50": 50.0, "p95": 95.0, "p99": 99.0}),
])  # fmt: skip
def test_quantiles_are_nearest_rank_in_milliseconds(values: Sequence[float], wanted: dict[str, float]) -> None:
    assert quantiles_ms(values) == wanted


SOL = "SOL/ZAR"


def follow(desk: Desk, *later: str) -> Any:
    members = [Member(Instrument(s, s[:3], "ZAR", "v", s), Origin.ADDED, owner=f"symbol:{s[:3]}") for s in later]
    return desk.actor.follow(members)


async def test_a_symbol_that_comes_later_is_waited_for_once_it_is_warm_and_not_any_more_when_it_left(desk: Desk) -> None:
    await desk.warmed()
    await desk.actor.submit(at(1, SOL))  # its owner was quicker than the word of it
    assert desk.actor.counters["feature_windows"] == 2
    history = SymbolHistory(SOL, np.ones(3), T0, np.array([T0]), np.ones(1), 1.0)
    desk.peers.known["symbol:SOL"] = Peer(histories=lambda symbols: [history], arm=None)
    await follow(desk, SOL)
    await desk.actor.submit(at(1, BTC, ETH, SOL))
    await desk.decided(3)
    assert desk.outcomes() == [(BTC, 1, "ORDERED"), (ETH, 1, "ORDERED"), (SOL, 1, "ORDERED")]
    assert desk.peers("risk").called("seed")[-1] == ([history],)
    assert len(desk.peers("symbol:BTC").called("histories")) == 1  # nobody else is asked for its past
    await desk.actor.submit(at(2, BTC, ETH))
    assert len(desk.outcomes()) == 3  # it waits for the third
    await desk.actor.submit(at(2, SOL))
    assert len(desk.outcomes()) == 6
    await follow(desk)
    assert desk.peers.forgotten == ["symbol:SOL"]
    await desk.actor.submit(at(3, SOL))
    await desk.actor.submit(at(3, BTC, ETH))
    assert desk.outcomes()[6:] == [(BTC, 3, "ORDERED"), (ETH, 3, "ORDERED")]
    assert [row["symbol"] for row in desk.actor.details()["predictions"]] == [BTC, ETH]


async def test_a_symbol_that_leaves_while_its_bar_waits_is_not_decided_upon(desk: Desk) -> None:
    desk.peers.known["symbol:SOL"] = Peer(histories=lambda symbols: [], arm=None)
    await follow(desk, SOL)
    await desk.warmed()
    await desk.actor.submit(at(1, SOL, BTC))
    await follow(desk)
    await desk.actor.submit(at(1, ETH))
    await desk.decided(2)
    assert desk.outcomes() == [(BTC, 1, "ORDERED"), (ETH, 1, "ORDERED")]
    await desk.actor.submit(at(2, BTC, ETH))
    assert len(desk.outcomes()) == 4  # at once: nobody waits for who left

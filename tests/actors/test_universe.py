"""Adding, removing and following symbols, with hand-written peers and a venue that answers from memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors import universe as module
from actors.universe import FOLLOWERS, UniverseWatch
from helios.domain.events import EngineEvent
from helios.domain.market import Instrument
from helios.domain.universe import Member, Origin
from helios.errors import ConfigError, RejectedError, StoreUnavailableError, TransportError
from tests.support.peers import Peer, Peers, spec
from tests.support.pipeline_values import account, position

T0 = 1_750_000_000_000_000_000


def instrument(symbol: str) -> Instrument:
    base, quote = symbol.split("/")
    return Instrument(symbol, base, quote, "v", base + quote)


OFFERED = [instrument(s) for s in ("BTC/ZAR", "ETH/ZAR", "SOL/ZAR", "XRP/ZAR", "BTC/USDT")]


class Venue:
    def __init__(self) -> None:
        self.offered = list(OFFERED)
        self.error: Exception | None = None
        self.asked = self.closed = 0

    async def instruments(self) -> list[Instrument]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.offered

    async def aclose(self) -> None:
        self.closed += 1


class Store:
    def __init__(self) -> None:
        self.saved: list[tuple[Member, ...]] = []
        self.events: list[EngineEvent] = []
        self.is_down = False

    async def load(self) -> list[Member]:
        return list(self.saved[-1]) if self.saved else []

    async def save(self, members: Sequence[Member]) -> None:
        if self.is_down:
            raise StoreUnavailableError("away")
        self.saved.append(tuple(members))

    async def add_event(self, event: EngineEvent) -> None:
        if self.is_down:
            raise StoreUnavailableError("away")
        self.events.append(event)


class Desk:
    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.venue, self.store = Venue(), Store()
        monkeypatch.setattr(module, "make_venue", lambda *_: self.venue)
        self.peers = Peers(**{name: Peer(follow=None) for name in FOLLOWERS})
        self.spec = spec(tmp_path, ("BTC/ZAR", "ETH/ZAR"))
        self.pids = dict.fromkeys(FOLLOWERS, 1)

    async def watch(self) -> UniverseWatch:
        made = UniverseWatch(self.spec, {i.symbol: i for i in OFFERED[:2]}, self.peers, logging.getLogger("test"))
        await made.load(self.store, self.store)  # type: ignore[arg-type]
        made.own([])
        return made

    def told(self, name: str) -> list[list[tuple[str, bool, str]]]:
        return [[(m.symbol, m.reduce_only, m.owner) for m in members] for (members,) in self.peers(name).called("follow")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def holding(*symbols: str) -> Any:
    return replace(account(), positions=tuple(position(s) for s in symbols))


async def test_a_desk_that_is_as_it_was_started_tells_nobody_anything(desk: Desk) -> None:
    watch = await desk.watch()
    await watch.look(account(), desk.pids)
    assert (desk.told("execution"), desk.venue.asked, desk.store.saved) == ([], 0, [])


async def test_an_added_symbol_is_stored_before_anybody_is_told_and_its_owner_is_asked_for(desk: Desk) -> None:
    watch = await desk.watch()
    member = await watch.add("sol-zar", T0)
    assert member == Member(OFFERED[2], Origin.ADDED)
    assert desk.store.saved == [(member,)]
    assert (desk.store.events[-1].kind, desk.venue.closed) == ("SYMBOL_ADDED", 1)
    assert watch.own([]) == [("symbol:SOL/ZAR", (OFFERED[2],))]
    await watch.look(account(), desk.pids)
    everybody = [("BTC/ZAR", False, ""), ("ETH/ZAR", False, ""), ("SOL/ZAR", False, "")]
    assert [desk.told(name) for name in FOLLOWERS] == [[everybody]] * 4
    assert watch.own(["symbol:SOL/ZAR"]) == [("symbol:SOL/ZAR", (OFFERED[2],))]
    assert watch.owners == ("symbol:SOL/ZAR",)
    await watch.look(account(), desk.pids)
    await watch.look(account(), desk.pids)
    assert desk.told("signal")[1:] == [[*everybody[:2], ("SOL/ZAR", False, "symbol:SOL/ZAR")]]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("DOGE/ZAR", ConfigError, "offered: BTC/USDT"),
        ("BTC/USDT", ConfigError, "one quote currency"),
        ("eth/zar", RejectedError, "traded already"),
    ],
)
async def test_what_cannot_be_added_changes_nothing(desk: Desk, name: str, error: type[Exception], words: str) -> None:
    watch = await desk.watch()
    with pytest.raises(error, match=words):
        await watch.add(name, T0)
    assert (desk.store.saved, len(watch.members)) == ([], 2)


async def test_a_venue_or_database_that_is_away_refuses_and_leaves_everything_as_it_was(desk: Desk) -> None:
    watch = await desk.watch()
    desk.venue.error = TransportError("no route")
    with pytest.raises(TransportError):
        await watch.add("SOL/ZAR", T0)
    desk.venue.error, desk.store.is_down = None, True
    with pytest.raises(StoreUnavailableError):
        await watch.add("SOL/ZAR", T0)
    with pytest.raises(StoreUnavailableError):
        await watch.remove("ETH/ZAR", T0)
    assert watch.members == (Member(OFFERED[0]), Member(OFFERED[1]))
    assert desk.venue.closed == 2


async def test_who_was_restarted_or_did_not_answer_is_told_again(desk: Desk) -> None:
    watch = await desk.watch()
    await watch.remove("ETH/ZAR", T0)
    desk.peers("risk").answers["follow"] = TransportError("silent")
    await watch.look(account(), desk.pids)
    await watch.look(account(), desk.pids)
    assert [len(desk.told(name)) for name in FOLLOWERS] == [1, 2, 1, 1]
    desk.peers("risk").answers["follow"] = None
    await watch.look(account(), desk.pids | {"execution": 2})
    await watch.look(account(), desk.pids | {"execution": 2})
    assert [len(desk.told(name)) for name in FOLLOWERS] == [2, 3, 1, 1]
    assert desk.told("execution")[-1] == [("BTC/ZAR", False, ""), ("ETH/ZAR", True, "")]


async def test_a_new_incarnation_goes_on_with_the_same_symbols(desk: Desk) -> None:
    first = await desk.watch()
    await first.add("SOL/ZAR", T0)
    await first.remove("BTC/ZAR", T0)
    second = await desk.watch()
    assert second.members == (Member(OFFERED[0], reduce_only=True), Member(OFFERED[1]), Member(OFFERED[2], Origin.ADDED))
    await second.look(account(), desk.pids)
    assert len(desk.told("execution")) == 1


async def test_a_new_incarnation_lets_go_of_no_owner_before_it_has_heard_of_them(desk: Desk) -> None:
    await (await desk.watch()).add("SOL/ZAR", T0)
    again = UniverseWatch(desk.spec, {i.symbol: i for i in OFFERED[:2]}, desk.peers, logging.getLogger("test"))
    await again.load(desk.store, desk.store)  # type: ignore[arg-type]
    await again.look(account(), desk.pids)
    assert desk.told("signal") == []
    again.own(["symbol:SOL/ZAR"])
    await again.look(account(), desk.pids)
    assert desk.told("signal") == [[("BTC/ZAR", False, ""), ("ETH/ZAR", False, ""), ("SOL/ZAR", False, "symbol:SOL/ZAR")]]


async def test_what_is_held_and_not_followed_is_followed_for_closing_even_without_the_database(desk: Desk) -> None:
    watch = await desk.watch()
    desk.store.is_down = True
    await watch.look(holding("BTC/ZAR", "XRP/ZAR"), desk.pids)
    assert watch.own([]) == [("symbol:XRP/ZAR", (OFFERED[3],))]
    assert desk.told("execution") == [[("BTC/ZAR", False, ""), ("ETH/ZAR", False, ""), ("XRP/ZAR", True, "")]]
    watch.own(["symbol:XRP/ZAR"])
    await watch.look(holding("BTC/ZAR"), desk.pids)
    assert watch.own(["symbol:XRP/ZAR"]) == []
    assert desk.peers.forgotten == ["symbol:XRP/ZAR"]
    assert desk.told("signal")[-1] == [("BTC/ZAR", False, ""), ("ETH/ZAR", False, "")]


async def test_a_new_incarnation_keeps_the_owner_of_what_is_held_while_it_learns_of_it(desk: Desk) -> None:
    again = await desk.watch()
    assert again.own(["symbol:XRP/ZAR"]) == [("symbol:XRP/ZAR", ())]  # the account is not known yet
    desk.venue.error = TransportError("no route")
    await again.look(holding("XRP/ZAR"), desk.pids)
    assert again.own(["symbol:XRP/ZAR"]) == [("symbol:XRP/ZAR", ())]  # nor what the venue offers
    desk.venue.error = None
    again._not_offered_until.clear()
    await again.look(holding("XRP/ZAR"), desk.pids)
    assert again.own(["symbol:XRP/ZAR"]) == [("symbol:XRP/ZAR", (OFFERED[3],))]
    await again.look(account(), desk.pids)
    assert again.own(["symbol:XRP/ZAR"]) == []


async def test_a_held_symbol_that_the_venue_does_not_offer_is_told_once_a_minute_not_at_each_look(desk: Desk) -> None:
    watch = await desk.watch()
    desk.venue.offered = OFFERED[:2]
    for _ in range(3):
        await watch.look(holding("XRP/ZAR"), desk.pids)
    assert [(e.kind, e.severity) for e in desk.store.events] == [("POSITION_WITHOUT_MARKET", "CRITICAL")]
    assert desk.venue.asked == 1
    watch._not_offered_until["XRP/ZAR"] = 0.0
    desk.venue.offered = OFFERED
    await watch.look(holding("XRP/ZAR"), desk.pids)
    assert watch.own([]) == [("symbol:XRP/ZAR", (OFFERED[3],))]


async def test_the_symbols_of_a_replay_are_those_of_its_recording(desk: Desk) -> None:
    desk.spec = replace(desk.spec, replay_path="/somewhere")
    watch = await desk.watch()
    for change in (watch.add, watch.remove):
        with pytest.raises(RejectedError, match="recording"):
            await change("ETH/ZAR", T0)
    await watch.look(holding("XRP/ZAR"), desk.pids)
    assert (desk.venue.asked, len(watch.members)) == (0, 2)

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios.domain.market import Instrument
from helios.domain.universe import Member, Origin
from helios.errors import RejectedError
from helios.pipeline.universe import Universe


def instrument(symbol: str) -> Instrument:
    return Instrument(symbol, symbol.split("/")[0], "ZAR", "v", symbol.replace("/", ""))


BTC, ETH, SOL, XRP = (instrument(f"{base}/ZAR") for base in ("BTC", "ETH", "SOL", "XRP"))


@pytest.fixture
def universe() -> Universe:
    return Universe({i.symbol: i for i in (BTC, ETH)})


def names(members: tuple[Member, ...]) -> list[str]:
    return [m.symbol for m in members]


def test_an_added_symbol_needs_an_owner_and_has_it_once_it_exists(universe: Universe) -> None:
    assert universe.add(SOL) == Member(SOL, Origin.ADDED)
    assert names(universe.wanted()) == ["SOL/ZAR"]
    assert not universe.own([])
    assert universe.own(["symbol:SOL/ZAR"])
    assert universe.get("SOL/ZAR") == Member(SOL, Origin.ADDED, owner="symbol:SOL/ZAR")
    assert universe.own([])  # its maker has lost it
    assert universe.wanted()[0].owner == ""


def test_what_is_traded_is_not_added_twice_and_what_is_not_traded_is_not_removed(universe: Universe) -> None:
    with pytest.raises(RejectedError, match="BTC/ZAR is traded already"):
        universe.add(BTC)
    with pytest.raises(RejectedError, match="SOL/ZAR is not traded; traded: BTC/ZAR, ETH/ZAR"):
        universe.remove("SOL/ZAR")
    universe.remove("ETH/ZAR")
    with pytest.raises(RejectedError, match="ETH/ZAR is not traded; traded: BTC/ZAR"):
        universe.remove("ETH/ZAR")


def test_a_configured_symbol_that_was_removed_stays_followed_and_may_come_back(universe: Universe) -> None:
    universe.remove("ETH/ZAR")
    assert universe.retire(held=()) == ()
    assert universe.get("ETH/ZAR") == Member(ETH, reduce_only=True)
    assert universe.wanted() == ()
    assert universe.add(ETH) == Member(ETH)


def test_an_added_symbol_that_was_removed_leaves_when_nothing_of_it_is_held(universe: Universe) -> None:
    universe.add(SOL)
    assert universe.retire(held=()) == ()
    universe.remove("SOL/ZAR")
    assert universe.retire(held=("SOL/ZAR",)) == ()
    assert names(universe.retire(held=("BTC/ZAR",))) == ["SOL/ZAR"]
    assert "SOL/ZAR" not in universe


def test_a_held_stranger_is_followed_for_closing_only_and_leaves_by_itself(universe: Universe) -> None:
    assert universe.hold(SOL) == Member(SOL, Origin.HELD, reduce_only=True)
    assert universe.hold(BTC) == Member(BTC)  # known: nothing changes
    assert names(universe.wanted()) == ["SOL/ZAR"]
    assert names(universe.retire(held=())) == ["SOL/ZAR"]


def test_a_held_stranger_that_a_person_adds_is_traded_and_stays(universe: Universe) -> None:
    universe.hold(SOL)
    assert universe.add(SOL) == Member(SOL, Origin.ADDED)
    assert universe.retire(held=()) == ()


def test_what_is_saved_makes_the_same_universe_again_but_for_owners_and_strangers(universe: Universe) -> None:
    universe.add(SOL)
    universe.remove("ETH/ZAR")
    universe.hold(XRP)
    universe.own(["symbol:SOL/ZAR"])
    again = Universe({i.symbol: i for i in (BTC, ETH)}, universe.to_save())
    assert again.members == (Member(BTC), Member(ETH, reduce_only=True), Member(SOL, Origin.ADDED))


def test_what_was_saved_of_a_configured_symbol_does_not_outlive_the_configuration() -> None:
    assert Universe({"BTC/ZAR": BTC}, [Member(ETH, reduce_only=True)]).members == (Member(BTC),)


COMMANDS = st.lists(st.tuples(st.sampled_from(["add", "remove", "hold", "own", "retire"]), st.sampled_from([BTC, ETH, SOL, XRP])))


@given(COMMANDS, st.sets(st.sampled_from(["BTC/ZAR", "ETH/ZAR", "SOL/ZAR", "XRP/ZAR"])))
def test_nothing_that_is_held_is_ever_let_go_and_no_stranger_is_traded_unasked(
    commands: list[tuple[str, Instrument]], held: set[str]
) -> None:
    universe, asked = Universe({"BTC/ZAR": BTC}), {"BTC/ZAR"}
    for command, chosen in commands:
        before = set(names(universe.members))
        try:
            if command == "add":
                universe.add(chosen)
                asked.add(chosen.symbol)
            elif command == "remove":
                universe.remove(chosen.symbol)
                asked.discard(chosen.symbol)
            elif command == "hold":
                universe.hold(chosen)
            elif command == "own":
                universe.own([f"symbol:{chosen.symbol}"])
            else:
                universe.retire(held)
        except RejectedError:
            assert set(names(universe.members)) == before
        assert before - set(names(universe.members)) <= before - held - {"BTC/ZAR"}
        assert {m.symbol for m in universe.members if not m.reduce_only} == asked
        assert all(replace(m, owner="").owner == "" and m.owner in ("", f"symbol:{m.symbol}") for m in universe.members)

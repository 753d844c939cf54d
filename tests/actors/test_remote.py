from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from actors import remote as module
from actors.remote import RemoteExecution, RemoteSeeds, RemoteSymbols, RemoteTraces, call
from helios.errors import RejectedError, SolverError, TransportError, VenueError
from helios.pipeline.symbol import SymbolStep
from tests.support.peers import Peer


async def failing(error: Exception) -> None:
    raise error


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("plan", "traceback", cause)


async def test_an_answer_comes_through() -> None:
    assert await call(asyncio.sleep(0, "yes"), 1.0, "risk") == "yes"


@pytest.mark.parametrize("cause", [SolverError("no optimum"), RejectedError("no"), VenueError(400, 7, "refused")])
async def test_our_own_errors_come_through_as_they_are(cause: Exception) -> None:
    with pytest.raises(type(cause)) as caught:
        await call(failing(task_error(cause)), 1.0, "risk")
    assert caught.value is cause


@pytest.mark.parametrize("error", [task_error(ZeroDivisionError("x")), RayActorError(), GetTimeoutError("late")])
async def test_everything_else_of_ray_means_that_the_effect_is_unknown(error: Exception) -> None:
    with pytest.raises(TransportError, match=r"^risk: "):
        await call(failing(error), 1.0, "risk")


async def test_silence_ends_at_the_deadline() -> None:
    with pytest.raises(TransportError, match=r"no answer within 0\.01 s"):
        await call(asyncio.sleep(5), 0.01, "risk")


async def test_an_order_is_sent_once_even_if_its_answer_is_lost() -> None:
    peer = Peer(submit=RayActorError())
    with pytest.raises(TransportError):
        await RemoteExecution(peer, "execution", 1.0).submit([], {})
    assert len(peer.called("submit")) == 1


async def test_traces_are_offered_again_while_the_recorder_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORD_RETRY_S", (0.0, 0.0, 0.0))
    answers: list[Any] = [RayActorError(), RayActorError(), None]
    peer = Peer(record_traces=lambda traces, forecasts: answers.pop(0))
    await RemoteTraces(peer, "recorder", 1.0).record([], [])
    assert len(peer.called("record_traces")) == 3
    dead = Peer(record_traces=RayActorError())
    with pytest.raises(TransportError):
        await RemoteTraces(dead, "recorder", 1.0).record([], [])
    assert len(dead.called("record_traces")) == 4


async def test_symbols_are_asked_together_and_answer_in_order_of_their_names() -> None:
    def owner(*symbols: str) -> Peer:
        return Peer(advance=lambda until, plans: [SymbolStep(s, (), (), (), ()) for s in symbols], histories=lambda asked: asked)

    first, second = owner("SOL", "ETH"), owner("BTC")
    remote = RemoteSymbols([(("SOL", "ETH"), first), (("BTC",), second)], 1.0)
    assert [s.symbol for s in await remote.advance(7, [])] == ["BTC", "ETH", "SOL"]
    assert await remote.histories(["BTC", "ETH"]) == ["ETH", "BTC"]
    assert second.called("advance") == [(7, [])]


async def test_both_tiers_are_seeded_or_the_error_is_told() -> None:
    good, bad = Peer(seed=None), Peer(seed=RayActorError())
    with pytest.raises(TransportError, match="portfolio"):
        await RemoteSeeds([("risk", good), ("portfolio", bad)], 1.0).seed([])
    assert len(good.called("seed")) == 1

"""Which actors share a request budget."""

from __future__ import annotations

from actors.base import DeskSpec
from actors.budget import request_budget
from helios.config import HeliosConfig
from helios.store.request_budget import PostgresBudget

SYMBOLS = tuple(f"S{n}/ZAR" for n in range(5))


def spec(venue: str, replay_path: str | None = None) -> DeskSpec:
    config = HeliosConfig.model_validate({"venue": {"name": venue}, "desk": {"symbols_per_actor": 2}})
    return DeskSpec(config, "postgresql://nowhere/none", "run", SYMBOLS, None, replay_path, "/nonexistent")


def test_actors_of_a_limiting_venue_share_one_budget() -> None:
    budget = request_budget(spec("valr"))
    assert isinstance(budget, PostgresBudget)
    assert budget._key == ("valr", "cluster")


def test_the_sandbox_and_a_replay_need_none() -> None:
    assert request_budget(spec("sandbox")) is None
    assert request_budget(spec("valr", "/data")) is None

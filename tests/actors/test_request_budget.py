"""Which actors share a request budget."""

from __future__ import annotations

from typing import Any

import pytest

from actors.base import DeskSpec
from actors.budget import request_budget
from helios.config import HeliosConfig
from helios.store.request_budget import PostgresBudget
from helios.venues.gcra import NS_PER_S

SYMBOLS = tuple(f"S{n}/ZAR" for n in range(5))


def spec(venue: str, replay_path: str | None = None, **more: Any) -> DeskSpec:
    config = HeliosConfig.model_validate({"venue": {"name": venue} | more, "desk": {"symbols_per_actor": 2}})
    return DeskSpec(config, "postgresql://nowhere/none", "run", SYMBOLS, None, replay_path, "/nonexistent")


def test_actors_of_a_limiting_venue_share_one_budget() -> None:
    budget = request_budget(spec("valr"))
    assert isinstance(budget, PostgresBudget)
    assert budget._key == ("valr", "cluster")


@pytest.mark.parametrize(
    ("venue", "name"),
    [({"name": "kraken"}, "kraken"), ({"name": "kraken", "market_kind": "perp"}, "krakenfutures"),
     ({"name": "bybit", "sandbox": True}, "bybit-test")],
)  # fmt: skip
def test_venues_behind_ccxt_are_shared_by_site_and_at_their_own_pace(venue: dict[str, Any], name: str) -> None:
    budget = request_budget(spec(venue.pop("name"), None, **venue))
    assert isinstance(budget, PostgresBudget)
    assert budget._key == (name, "cluster")
    per_s = {"kraken": 1.0, "krakenfutures": 1 / 0.6, "bybit-test": 50.0}[name]
    assert 0.7 * per_s < NS_PER_S / budget._rates["public"].interval_ns < per_s


def test_the_sandbox_and_a_replay_need_none() -> None:
    assert request_budget(spec("sandbox")) is None
    assert request_budget(spec("valr", "/data")) is None

"""A command that asks a venue beside a running desk keeps to the same budget."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from helios.cli.desk_budget import desk_budget
from helios.cli.rundir import RunDir, RunInfo
from helios.config import VenueConfig
from helios.store.request_budget import CLUSTER_ADDRESS, PostgresBudget
from helios.venues.valr.limits import BUCKETS, PUBLIC, valr_rates


@pytest.fixture
def directory(tmp_path: Path, pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """Of a desk on VALR whose data are in the database of DATABASE_URL."""
    monkeypatch.setenv("DATABASE_URL", pg_dsn)
    made = RunDir(tmp_path)
    made.prepare()
    made.write(RunInfo(1, "", "url", "public", "run", "valr", "ZAR", time.time()))
    return made


async def test_a_download_beside_a_desk_waits_for_what_the_desk_has_used(directory: RunDir, pg_dsn: str) -> None:
    directory.lock()
    desk = PostgresBudget(pg_dsn, "valr", CLUSTER_ADDRESS, valr_rates(), n_processes=4)
    rate = valr_rates()[PUBLIC]
    for _ in range(rate.at_once):
        await desk.admit(PUBLIC)
    async with desk_budget(VenueConfig(name="valr"), directory) as budget:
        assert budget is not None
        assert await budget._reserve(PUBLIC, rate) > 0.5  # the burst of all together is spent
        assert await budget._reserve(BUCKETS, valr_rates()[BUCKETS]) <= 0.0
        await budget.pause(BUCKETS, 30.0)  # a 429 of the download keeps the desk from asking too
        assert await desk._reserve(BUCKETS, valr_rates()[BUCKETS]) > 20.0
    await desk.aclose()
    directory.unlock()


@pytest.mark.parametrize("name", ["sandbox", "binance"])
async def test_another_venue_than_the_desks_is_its_own_affair(directory: RunDir, name: str) -> None:
    directory.lock()
    async with desk_budget(VenueConfig(name=name), directory) as budget:
        assert budget is None
    directory.unlock()


async def test_without_a_desk_there_is_nothing_to_share(directory: RunDir, tmp_path: Path) -> None:
    async with desk_budget(VenueConfig(name="valr"), directory) as budget:  # its files are there, but it does not run
        assert budget is None
    async with desk_budget(VenueConfig(name="valr"), RunDir(tmp_path / "none")) as budget:
        assert budget is None

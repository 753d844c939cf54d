"""The cluster's request budget against a real PostgreSQL: many processes, pauses, and a database that goes away."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from helios.errors import ConfigError, TransportError
from helios.store.embedded import EmbeddedPostgres
from helios.store.request_budget import PostgresBudget
from helios.venues.gcra import Rate
from tests.support.pg import FAST, execute, migrate_dsn

RATES = {"fast": Rate(20, 1.0), "slow": Rate(2, 60.0), "wide": Rate(5_000, 1.0)}
HAMMER = """
import asyncio, json, sys, time
from helios.store.request_budget import PostgresBudget
from helios.venues.gcra import Rate

async def main(dsn, venue):
    budget = PostgresBudget(dsn, venue, "here", {"fast": Rate(20, 1.0)}, 8)
    await budget._connected()
    print("ready", flush=True)
    until_s, sent = float(sys.stdin.readline()), []
    while time.time() < until_s:
        await budget.admit("fast")
        sent.append(time.monotonic())
    print(json.dumps([sent, budget.fallbacks]))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.fixture
async def budget(pg_dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[PostgresBudget]:
    made = PostgresBudget(pg_dsn, request.node.name, "here", RATES, 4, max_wait_s=30.0)
    yield made
    await made.aclose()


def like(budget: PostgresBudget) -> PostgresBudget:
    """Another process's view of the same budget."""
    return PostgresBudget(budget._dsn, budget._key[0], budget._key[1], RATES, 4, max_wait_s=30.0)


def most_in_window(sent: list[float], window_s: float) -> int:
    return max(sum(start <= at <= start + window_s for at in sent) for start in sent)


# What was granted when, by the server's own clock: when a process wakes up to it is up to the machine.
GRANTS = """
    CREATE TABLE grants (at_us bigint NOT NULL);
    CREATE FUNCTION log_grant() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO grants VALUES (new.granted_us); RETURN new; END';
    CREATE TRIGGER log_grant AFTER INSERT OR UPDATE OF granted_us ON request_budgets
        FOR EACH ROW WHEN (new.venue = 'eight') EXECUTE FUNCTION log_grant()"""


async def granted(dsn: str) -> list[float]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT at_us FROM grants ORDER BY at_us")
    await connection.close()
    return [row["at_us"] / 1e6 for row in rows]


def test_eight_processes_together_never_exceed_the_rate_in_any_window(pg_dsn: str) -> None:
    asyncio.run(execute(pg_dsn, GRANTS))
    command = [sys.executable, "-c", HAMMER, pg_dsn, "eight"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    until_s = f"{time.time() + 5.0}\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(until_s)
        process.stdin.flush()
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    sent = asyncio.run(granted(pg_dsn))
    assert len(sent) == sum(len(times) for times, _ in answers)
    assert [fallbacks for _, fallbacks in answers] == [0] * 8
    assert most_in_window(sent, 1.0) <= 20
    assert sum(bool(times) for times, _ in answers) >= 4  # nobody has it all
    assert len(sent) / (sent[-1] - sent[0]) > 10.0  # 15.2 a second are due


class FrozenClock:
    """The server's clock, standing still but for what somebody sleeps: no busy machine has a part in what is granted when.

    Statements find its function before the system's own.
    """

    SCHEMA = """
        CREATE SCHEMA IF NOT EXISTS frozen;
        CREATE TABLE IF NOT EXISTS frozen.clock AS SELECT pg_catalog.clock_timestamp() AS at;
        CREATE OR REPLACE FUNCTION frozen.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT at FROM frozen.clock'"""

    def __init__(self, dsn: str, woken_early_us: int = 0) -> None:
        self.dsn = f"{dsn}&search_path=frozen,pg_catalog,public"
        self.slept: list[float] = []
        self._dsn = dsn
        self._woken_early_us = woken_early_us

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.advance(int(seconds * 1e6) - self._woken_early_us)

    async def advance(self, us: int) -> None:
        await execute(self._dsn, f"UPDATE frozen.clock SET at = at + {us} * interval '1 microsecond'")

    def budget(self, venue: str, sleep: Callable[[float], Awaitable[None]] | None = None) -> PostgresBudget:
        """Return one process's view of a budget."""
        return PostgresBudget(self.dsn, venue, "here", RATES, 4, sleep=sleep or self.sleep)


@pytest.fixture
async def clock(pg_dsn: str) -> FrozenClock:
    await execute(pg_dsn, FrozenClock.SCHEMA)
    return FrozenClock(pg_dsn)


async def test_a_pause_by_one_stops_all_and_then_they_come_one_by_one(clock: FrozenClock) -> None:
    budgets = [clock.budget("paused") for _ in range(2)]
    for budget in budgets:
        await budget.admit("fast")
    await budgets[0].pause("fast", 0.5)
    granted_s = [await budget._reserve("fast", RATES["fast"]) for budget in (*budgets, *budgets)]
    assert granted_s == pytest.approx([0.5 + n * 1.05 / 16 for n in range(4)], abs=1e-4)
    assert clock.slept == []
    for budget in budgets:
        assert not budget.fallbacks
        await budget.aclose()


async def test_who_waits_for_a_slot_when_the_pause_begins_waits_for_its_end(clock: FrozenClock) -> None:
    other = clock.budget("waiting")

    async def pausing_sleep(seconds: float) -> None:
        if not clock.slept:
            await other.pause("fast", 0.6)
        await clock.sleep(seconds)

    waiting = clock.budget("waiting", pausing_sleep)
    for _ in range(4):
        await other.admit("fast")  # the burst
    clock.slept.clear()
    await waiting.admit("fast")
    assert clock.slept == pytest.approx([1.05 / 16, 0.6 - 1.05 / 16], abs=1e-4)
    for budget in (other, waiting):
        assert not budget.fallbacks
        await budget.aclose()


async def test_waking_a_moment_too_early_costs_no_second_slot(clock: FrozenClock, pg_dsn: str) -> None:
    early = FrozenClock(pg_dsn, woken_early_us=500)
    budget = early.budget("early")
    await budget.pause("fast", 30.0)
    await budget.admit("fast")
    async with budget._session() as connection:
        admitted = await connection.fetchval("SELECT admitted FROM request_budgets WHERE venue = 'early'")
    assert (early.slept, admitted, budget.fallbacks) == ([pytest.approx(30.0)], 1, 0)
    await budget.aclose()


async def test_a_wait_beyond_the_limit_is_refused_and_takes_nothing(budget: PostgresBudget) -> None:
    await budget.admit("slow")
    for _ in range(3):
        with pytest.raises(TransportError, match="30 s"):
            await budget.admit("slow")
    await budget.admit("fast")  # other routes go on


async def test_an_unknown_route_is_a_configuration_error(budget: PostgresBudget) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        await budget.admit("nowhere")


async def test_venues_and_addresses_do_not_share(pg_dsn: str) -> None:
    budgets = [PostgresBudget(pg_dsn, venue, address, RATES, 4, max_wait_s=1.0) for venue in "ab" for address in "xy"]
    async with asyncio.timeout(5.0):
        await asyncio.gather(*(budget.admit("slow") for budget in budgets))
    for budget in budgets:
        await budget.aclose()


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="helios-test-budget-"))
    server = EmbeddedPostgres(folder / "data", settings=FAST)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


async def test_without_the_database_a_process_keeps_to_its_share_and_comes_back(
    own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helios.store.request_budget.RETRY_S", 0.2)
    dsn = own_server.dsn()
    await migrate_dsn(dsn)
    sent: list[float] = []  # when each was due: a busy machine may send it later

    async def noting_sleep(seconds: float) -> None:
        sent.append(time.monotonic() + seconds)
        await asyncio.sleep(seconds)

    budget = PostgresBudget(dsn, "valr", "here", {"fast": Rate(20, 1.0)}, 4, sleep=noting_sleep)
    await budget.admit("fast")
    assert budget.is_shared
    await asyncio.to_thread(own_server.stop)
    async with asyncio.timeout(20.0):
        for n in range(6):
            await budget.admit("fast")
            sent += [time.monotonic()] if len(sent) == n else []
    assert not budget.is_shared
    assert budget.fallbacks == 1
    assert most_in_window(sent, 1.0) <= 5  # a quarter of twenty
    await asyncio.to_thread(own_server.start)
    async with asyncio.timeout(20.0):
        while not budget.is_shared:
            await budget.admit("fast")
    await budget.aclose()


async def test_a_database_that_hangs_holds_a_request_up_for_seconds_only(own_server: EmbeddedPostgres) -> None:
    dsn = own_server.dsn()
    await migrate_dsn(dsn)
    budget = PostgresBudget(dsn, "valr", "here", RATES, 2)
    await budget.admit("fast")
    async with budget._session() as connection:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)
    try:
        started_s = time.monotonic()
        await budget.admit("fast")
        first_s = time.monotonic() - started_s
        await budget.admit("fast")
        assert not budget.is_shared
        assert first_s < 6.0
        assert time.monotonic() - started_s - first_s < 1.0  # the next one does not ask again
    finally:
        os.kill(backend, signal.SIGCONT)
    await budget.aclose()


async def test_a_database_that_was_never_there_stops_nobody() -> None:
    budget = PostgresBudget("postgresql://postgres@127.0.0.1:9/none", "valr", "here", RATES, 2)
    async with asyncio.timeout(5.0):
        await budget.admit("fast")
        await budget.pause("fast", 0.01)
        await budget.admit("fast")
    assert (budget.fallbacks, budget.is_shared) == (1, False)
    await budget.aclose()


async def test_a_database_without_the_table_stops_nobody(own_server: EmbeddedPostgres) -> None:
    budget = PostgresBudget(own_server.dsn(), "valr", "here", RATES, 2)
    async with asyncio.timeout(5.0):
        await budget.admit("fast")
    assert not budget.is_shared
    await budget.aclose()

"""The embedded server as processes see it: address, adoption, end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from helios.errors import StoreUnavailableError
from helios.store.embedded import EmbeddedPostgres, is_alive, short_socket_dir
from helios.store.pool import connect

SELECT = "import asyncio, asyncpg, sys\nasync def main():\n    c = await asyncpg.connect(sys.argv[1])\n" \
         "    print(await c.fetchval('SELECT 6 * 7'))\n    await c.close()\nasyncio.run(main())"  # fmt: skip
OWNER = (
    "import sys, time\nfrom pathlib import Path\nfrom helios.store.embedded import EmbeddedPostgres\n"
    "print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)\ntime.sleep(60)"
)


def postgres_processes(folder: Path) -> list[psutil.Process]:
    found = [p for p in psutil.process_iter(["name", "cmdline", "cwd"]) if p.info["name"] == "postgres" and is_alive(p)]
    return [p for p in found if str(folder) in " ".join([*(p.info["cmdline"] or []), p.info["cwd"] or ""])]


def kill_postmaster(folder: Path) -> None:
    process = psutil.Process(int((folder / "data/postmaster.pid").read_text().split()[0]))
    process.kill()
    while is_alive(process):
        time.sleep(0.01)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="helios-test-own-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folder(initialised: Path) -> Iterator[Path]:
    """The parent of a data directory with no server running; set up once, as that takes the longest."""
    yield initialised
    EmbeddedPostgres(initialised / "data").stop()


async def ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def test_another_process_can_use_the_address(pg_dsn: str) -> None:
    answer = subprocess.run([sys.executable, "-c", SELECT, pg_dsn], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout.strip() == "42"


def test_start_adopts_the_server_of_a_killed_owner_and_stop_leaves_no_process(folder: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder / "data")], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    dsn = owner.stdout.readline().strip()
    postmaster = int((folder / "data/postmaster.pid").read_text().split()[0])
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()

    server = EmbeddedPostgres(folder / "data")
    assert server.is_running
    assert server.start() == dsn
    assert int((folder / "data/postmaster.pid").read_text().split()[0]) == postmaster
    assert asyncio.run(ask(dsn, "SELECT 1")) == 1

    assert len(postgres_processes(folder)) > 1
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 3
    assert not server.is_running
    assert postgres_processes(folder) == []


async def test_stop_is_fast_with_an_open_transaction_and_data_survive_a_crash(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    dsn = server.start()
    assert server.start() == dsn
    await ask(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    kill_postmaster(folder)

    dsn = server.start()
    assert await ask(dsn, "SELECT n FROM kept") == 7
    pool = await connect(dsn)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO kept VALUES (8)")
        started = time.monotonic()
        await asyncio.to_thread(server.stop)
        assert time.monotonic() - started < 3
    pool.terminate()
    assert await ask(server.start(), "SELECT count(*) FROM kept") == 1


def test_a_deep_directory_with_spaces_gets_a_short_socket(folder: Path) -> None:
    deep = folder / ("deep and wide " * 8).strip() / "data"
    EmbeddedPostgres(folder / "data").start()
    EmbeddedPostgres(folder / "data").stop()
    deep.parent.mkdir()
    (folder / "data").rename(deep)
    server = EmbeddedPostgres(deep)
    dsn = server.start()
    try:
        assert asyncio.run(ask(dsn, "SHOW data_directory")) == str(deep)
        assert asyncio.run(ask(dsn, "SHOW max_connections")) == "200"
    finally:
        server.stop()
        deep.rename(folder / "data")
        short_socket_dir(deep).rmdir()


def test_a_stale_pid_file_of_another_program_does_not_block_the_start(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    server.stop()
    lines = [str(os.getpid()), str(folder / "data"), "1700000000", "5432", str(folder / "data"), "", "1 1", "ready"]
    (folder / "data/postmaster.pid").write_text("\n".join(lines) + "\n")
    assert not server.is_running
    assert asyncio.run(ask(server.start(), "SELECT 1")) == 1


def test_a_set_up_that_died_half_way_is_begun_anew(tmp_path: Path) -> None:
    half = tmp_path / ".data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(tmp_path / "data")
    try:
        assert asyncio.run(ask(server.start(), "SELECT 1")) == 1
        assert not half.exists()
    finally:
        server.stop()


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/letter.txt").write_text("mine")
    with pytest.raises(StoreUnavailableError, match="no database can be made in"):
        EmbeddedPostgres(tmp_path / "data").start()
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["letter.txt"]
    assert not (tmp_path / ".data.new").exists()


async def test_connecting_to_a_server_that_is_not_there_says_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        EmbeddedPostgres(tmp_path / "none").dsn()
    with pytest.raises(StoreUnavailableError):
        await connect(f"postgresql://postgres@/postgres?host={tmp_path}")

"""Checks of this machine and installation, one line each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer

from helios.cli.app import app
from helios.cli.control import AsJson, StateDir, run_dir
from helios.config import database_url, load_config
from helios.errors import HeliosError
from helios.learn.cards import model_card

MIN_FREE_GB = 2.0
MIN_MEMORY_GB = 4.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    detail: str


@app.command()
def doctor(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Check Python, Ray, GPU, database, clock, model and disk; exit code 1 if any fails."""
    checks = [_guard(name, check) for name, check in _checks(state_dir)]
    if as_json:
        print(json.dumps([{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]))
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<10} {check.detail}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _checks(state_dir: str | None) -> list[tuple[str, Callable[[], tuple[bool, str]]]]:
    return [
        ("python", lambda: (sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}")),
        ("ray", _ray),
        ("gpu", _gpu),
        ("memory", _memory),
        ("disk", lambda: _disk(state_dir)),
        ("database", lambda: _database(state_dir)),
        ("clock", _clock),
        ("model", _model),
        ("desk", lambda: _desk(state_dir)),
    ]


def _guard(name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    try:
        ok, detail = check()
    except (HeliosError, OSError, ImportError) as error:
        return Check(name, False, str(error))
    return Check(name, ok, detail)


def _ray() -> tuple[bool, str]:
    # Only the installed version: Helios' own tools never import Ray.
    found = importlib.util.find_spec("ray") is not None
    return found, importlib.metadata.version("ray") if found else "not installed"


def _gpu() -> tuple[bool, str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return True, "none: the predictor runs on the CPU"
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    return answer.returncode == 0, answer.stdout.strip().replace("\n", "; ") or answer.stderr.strip()


def _memory() -> tuple[bool, str]:
    total_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return total_gb >= MIN_MEMORY_GB, f"{total_gb:.1f} GB"


def _disk(state_dir: str | None) -> tuple[bool, str]:
    path = run_dir(state_dir).path
    free_gb = shutil.disk_usage(path if path.exists() else Path.cwd()).free / 1e9
    return free_gb >= MIN_FREE_GB, f"{free_gb:.1f} GB free for {path}"


def _database(state_dir: str | None) -> tuple[bool, str]:
    import asyncio

    from helios.store.embedded import EmbeddedPostgres
    from helios.store.pool import connect

    async def version(dsn: str) -> str:
        pool = await connect(dsn, max_size=1)
        try:
            return str(await pool.fetchval("SHOW server_version"))
        finally:
            await pool.close()

    given = database_url()
    if given is not None:
        return True, f"PostgreSQL {asyncio.run(version(given))} at DATABASE_URL"
    directory = run_dir(state_dir)
    directory.prepare()
    server = EmbeddedPostgres(directory.path / "postgres")
    was_running = server.is_running
    dsn = server.start()
    try:
        return True, f"PostgreSQL {asyncio.run(version(dsn))}, embedded in {directory.path / 'postgres'}"
    finally:
        if not was_running:
            server.stop()


def _clock() -> tuple[bool, str]:
    year = time.gmtime().tm_year
    return year >= 2025, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def _model() -> tuple[bool, str]:
    card = model_card(load_config().model)
    beats = card.get("beats_baselines")
    words = {True: "beats its baselines", False: "does NOT beat its baselines"}.get(bool(beats), "")
    return True, f"{card['version']} ({card['parameter_count']} parameters, trained on {card.get('trained_on')}; {words})"


def _desk(state_dir: str | None) -> tuple[bool, str]:
    directory = run_dir(state_dir)
    info = directory.read()
    if info is None or not directory.is_locked:
        return True, "none running"
    return True, f"running as pid {info.pid} at {info.api_url}"

"""Writers in processes of their own: killed at any point, and two at once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helios.store.archive import CandleArchive
from tests.support.archive_writer import ROWS, SERIES, day_of

ROOT = Path(__file__).resolve().parents[2]


def writer(root: Path, seed: int, first: int, step: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.archive_writer", str(root), str(seed), str(first), str(step)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def killed_after(process: subprocess.Popen[str], n_days: int, delay_s: float) -> list[int]:
    """Let it commit some days, kill it a moment later and return every day it said was committed."""
    assert process.stdout is not None
    days = [int(process.stdout.readline()) for _ in range(n_days)]
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    process.wait()
    return days + [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]


def days_there(archive: CandleArchive, seeds: dict[int, int]) -> list[int]:
    """Return the days in the archive after checking that each is whole and is what was written."""
    times, bars = archive.bars(SERIES)
    numbers = np.unique((times - day_of(0, 0)[0][0]) // 86_400_000_000_000).tolist()
    wanted = [day_of(day, seeds[day]) for day in numbers]
    np.testing.assert_array_equal(times, np.concatenate([part[0] for part in wanted]))
    np.testing.assert_array_equal(bars, np.concatenate([part[1] for part in wanted]))
    return numbers


@pytest.mark.slow
def test_a_writer_killed_at_any_point_loses_nothing_committed_and_breaks_no_file(tmp_path: Path) -> None:
    archive, rng = CandleArchive(tmp_path), random.Random(11)
    committed: list[int] = []
    for _ in range(12):
        first = len(committed) and max(committed) + 1
        committed += killed_after(writer(tmp_path, 1, first), rng.randint(1, 6), rng.uniform(0.0, 0.04))
        there = days_there(archive, dict.fromkeys(range(10_000), 1))
        assert set(committed) <= set(there)
        assert len(set(there) - set(committed)) <= 12  # a day may be on disk that could not be said any more
        archive.coverage()
    assert len(committed) > 40


@pytest.mark.slow
def test_two_writers_of_one_month_lose_nothing_of_each_other(tmp_path: Path) -> None:
    even, odd = writer(tmp_path, 1, 0, 2), writer(tmp_path, 2, 1, 2)
    try:
        said = killed_after(even, 12, 0.0), killed_after(odd, 12, 0.0)
    finally:
        even.kill()
        odd.kill()
    there = days_there(CandleArchive(tmp_path), {day: 1 + day % 2 for day in range(10_000)})
    assert set(said[0] + said[1]) <= set(there)


@pytest.mark.slow
def test_a_reader_beside_a_writer_always_sees_whole_months(tmp_path: Path) -> None:
    process = writer(tmp_path, 1, 0)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        archive, seen = CandleArchive(tmp_path), 0
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            there = len(days_there(archive, dict.fromkeys(range(10_000), 1)))
            assert there >= seen
            assert archive.scan(SERIES).collect().height >= there * ROWS
            seen = there
        assert seen > 10
    finally:
        process.kill()
        process.communicate()

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from helios.cli.rundir import RunDir, RunInfo
from helios.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
INFO = RunInfo(7, "http://127.0.0.1:1", "embedded", "s", "run", "sandbox", "ZAR", 1.5)
TRY = "import sys; from pathlib import Path; from helios.cli.rundir import RunDir; RunDir(Path(sys.argv[1])).lock(); print('got it')"


def other_process(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", TRY, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_second_process_is_kept_out_and_told_who_is_in(tmp_path: Path) -> None:
    first = RunDir(tmp_path)
    first.write(INFO)
    first.lock()
    second = other_process(tmp_path)
    assert second.returncode != 0
    assert "already running" in second.stderr
    assert "pid 7, http://127.0.0.1:1" in second.stderr
    assert RunDir(tmp_path).is_locked
    first.unlock()
    assert not RunDir(tmp_path).is_locked
    assert other_process(tmp_path).stdout == "got it\n"


def test_the_lock_of_a_process_that_died_is_free(tmp_path: Path) -> None:
    assert other_process(tmp_path).stdout == "got it\n"
    assert not RunDir(tmp_path).is_locked


def test_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    token = RunDir(tmp_path).token()
    assert len(token) >= 40
    assert RunDir(tmp_path).token() == token
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_the_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    directory = RunDir(tmp_path / "a" / "b")
    directory.prepare()
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the state directory"):
        RunDir(tmp_path / "file" / "x").prepare()


@pytest.mark.parametrize("text", [None, "", "{", '{"pid": 1}', "[]"])
def test_run_information_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert RunDir(tmp_path).read() is None


def test_run_information_is_read_back(tmp_path: Path) -> None:
    RunDir(tmp_path).write(INFO)
    assert RunDir(tmp_path).read() == INFO

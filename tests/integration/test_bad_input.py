"""Bad input to `helios up`: one clear line, a non-zero exit, no traceback, nothing left running."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.desk import helios

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def refused(tmp_path: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Return the one line that a refused start prints."""
    answer = helios("up", "--state-dir", str(tmp_path / "state"), *arguments, env=env)
    assert answer.returncode in (1, 2), answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    line = answer.stderr.strip().splitlines()[-1]
    assert line.startswith("helios: ")
    return line


def test_unknown_symbol_names_what_is_offered(tmp_path: Path) -> None:
    line = refused(tmp_path, "--port", "0", "--symbols", "NOPE/ZAR")
    assert "NOPE/ZAR" in line
    assert "BTC/ZAR" in line


def test_corrupt_parquet_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "perp"
    folder.mkdir()
    (folder / "BTCUSDT_1m.parquet").write_bytes(b"PAR1 this is not parquet")
    assert "BTCUSDT_1m.parquet" in refused(tmp_path, "--port", "0", "--replay", str(folder))


def test_empty_replay_directory(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "nothing" in refused(tmp_path, "--port", "0", "--replay", str(tmp_path / "nothing"))


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port}" in refused(tmp_path, "--port", str(port))


def test_wrong_configuration_key(tmp_path: Path) -> None:
    path = tmp_path / "helios.toml"
    path.write_text("[risk]\nmin_confidense = 0.6\n")
    assert "risk.min_confidense" in refused(tmp_path, "--config", str(path))


def test_missing_model(tmp_path: Path) -> None:
    assert "no model version 'nobody'" in refused(tmp_path, "--port", "0", env={"HELIOS__MODEL__VERSION": "nobody"})


def test_no_database(tmp_path: Path) -> None:
    line = refused(tmp_path, "--port", "0", env={"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/none"})
    assert "cannot reach the database" in line
    assert "secret" not in line


def test_unknown_venue_and_bad_speed(tmp_path: Path) -> None:
    assert "unknown venue" in refused(tmp_path, "--venue", "mtgox")
    assert "--speed" in refused(tmp_path, "--speed", "fast")


def test_live_cannot_be_started_by_an_option(tmp_path: Path) -> None:
    assert "only paper" in refused(tmp_path, "--mode", "live")

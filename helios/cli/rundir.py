"""The state directory: who runs, where the API is, the bearer token, the lock that keeps a second desk out."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from helios.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What other commands need to find a running desk, or the data of the last one. Holds no secret."""

    pid: int
    api_url: str
    database: str  # "embedded" or "url": then DATABASE_URL says where
    schema: str
    run_id: str
    venue: str
    currency: str
    started_at: float
    ray_dashboard: str = ""


class RunDir:
    """Files of one desk under `path` (default `.helios`), readable by the owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_file: IO[str] | None = None

    def prepare(self) -> None:
        """Create the directory.

        Raises
        ------
        ConfigError
            If it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise ConfigError(f"cannot write the state directory {self.path}: {error.strerror}") from None

    def lock(self) -> None:
        """Keep a second desk out of this directory until the process ends.

        Raises
        ------
        ConfigError
            If another desk holds it.
        """
        self._lock_file = (self.path / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            info = self.read()
            who = f" (pid {info.pid}, {info.api_url})" if info is not None else ""
            raise ConfigError(f"a desk is already running in {self.path}{who}; stop it with: helios down") from None

    def unlock(self) -> None:
        """Let others in."""
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    @property
    def is_locked(self) -> bool:
        """Whether a desk runs here."""
        try:
            with (self.path / "lock").open("r+") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def token(self) -> str:
        """Return the bearer token of the API, made at the first call; file mode 600."""
        path = self.path / "token"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as handle:
                handle.write(secrets.token_urlsafe(32))
        return path.read_text().strip()

    def write(self, info: RunInfo) -> None:
        """Store who runs."""
        temporary = self.path / "run.json.new"
        temporary.write_text(json.dumps(asdict(info), indent=1))
        temporary.replace(self.path / "run.json")

    def read(self) -> RunInfo | None:
        """Return who runs or ran last; None where nothing ever did."""
        try:
            return RunInfo(**json.loads((self.path / "run.json").read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

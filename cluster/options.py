"""What `helios up` was asked to do, validated before anything is started."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helios.config import HeliosConfig
from helios.domain.market import Instrument
from helios.errors import ConfigError
from helios.venues.replay.open import open_replay


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Options of one run.

    Attributes
    ----------
    replay : Path or None
        Recorded data instead of a live venue.
    speed : float or None
        Market seconds per wall second of a replay; None means as fast as possible.
    duration_s : float or None
        Stop after this long in the running state.
    address : str or None
        An existing Ray cluster; None starts a local one.
    """

    config: HeliosConfig
    replay: Path | None
    speed: float | None
    duration_s: float | None
    address: str | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The recorded markets of a run."""

    instruments: dict[str, Instrument]
    start_ns: int
    end_ns: int


def plan_replay(path: Path, symbols: Sequence[str]) -> ReplayPlan:
    """Open recorded data to learn its symbols and range.

    Raises
    ------
    DataError, ConfigError
        With one clear line.
    """
    sources = open_replay(str(path), list(symbols) or None)
    return ReplayPlan(
        instruments={s: source.instrument for s, source in sources.items()},
        start_ns=min(s.start_ns for s in sources.values()),
        end_ns=max(s.end_ns for s in sources.values()),
    )


def check_port(host: str, port: int) -> int:
    """Return `port`, or a free one where it is 0.

    Raises
    ------
    ConfigError
        If somebody else listens there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"port {port} on {host} is in use or not allowed ({error.strerror})") from None
        return int(probe.getsockname()[1])


def new_run_id() -> str:
    """Return a readable, unique name of a run."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{time.time_ns() % 1_000_000:06d}"

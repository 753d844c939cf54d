"""How the sandbox exchange runs."""

from __future__ import annotations

from dataclasses import dataclass

from helios.errors import ConfigError
from helios.venues.sandbox.specs import SPECS


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """How the exchange runs.

    Attributes
    ----------
    host, port : str, int
        Port 0 takes a free one.
    speed : float
        Market seconds per wall second.
    seed : int
    symbols : tuple of str
    flow_strength : float
        See MarketConfig.
    start_ns : int, optional
        First market time; the wall clock's minute by default.
    idle_s, lifetime_s : float
        Wall seconds after which a socket without subscriptions and frames, and any socket, is cut.
    queue_frames : int
        Frames that may wait for one client before it is cut as too slow.
    parent_pid : int, optional
        Stop when this process is gone.
    """

    host: str = "127.0.0.1"
    port: int = 0
    speed: float = 60.0
    seed: int = 7
    symbols: tuple[str, ...] = tuple(SPECS)
    flow_strength: float = 1.0
    start_ns: int | None = None
    idle_s: float = 60.0
    lifetime_s: float = 900.0
    queue_frames: int = 5_000
    parent_pid: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.speed <= 600:
            raise ConfigError(f"sandbox speed {self.speed}: must be above 0 and at most 600")

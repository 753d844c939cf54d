"""How the sandbox exchange runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from helios.errors import ConfigError
from helios.venues.sandbox.faults import NO_FAULTS, FaultPlan
from helios.venues.sandbox.specs import JUMP_PROBABILITY, JUMP_SIZE, SPECS


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
    flow_strength, jump_probability, jump_size : float
        See MarketConfig.
    start_ns : int, optional
        First market time; the wall clock's minute by default.
    idle_s, lifetime_s : float
        Wall seconds after which a socket without subscriptions and frames, and any unauthenticated socket, is cut.
    queue_frames : int
        Frames that may wait for one client before it is cut as too slow.
    parent_pid : int, optional
        Stop when this process is gone.
    state_file : Path, optional
        Where the market is kept over restarts; with a market in it `start_ns` does not count.
    state_every_s : float
        Wall seconds between saves, besides the one at the end.
    faults : FaultPlan
        What goes wrong; nothing by default.
    admin : bool
        Whether the routes under /sandbox/ exist.
    rate_limits : bool
        Whether the venue's request limits hold; they count wall time, so a fast market may need them off.
    compress : bool
        Whether permessage-deflate is agreed to.
    api_keys : tuple of (key, secret)
        Who may authenticate a socket.
    recorded : Path, optional
        Directory of minute candles or raw captures to trade instead of the synthetic market.
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
    state_file: Path | None = None
    state_every_s: float = 10.0
    faults: FaultPlan = NO_FAULTS
    admin: bool = False
    rate_limits: bool = False
    compress: bool = False
    api_keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    recorded: Path | None = None
    jump_probability: float = JUMP_PROBABILITY
    jump_size: float = JUMP_SIZE

    def __post_init__(self) -> None:
        if not 0 < self.speed <= 600:
            raise ConfigError(f"sandbox speed {self.speed}: must be above 0 and at most 600")
        if not self.state_every_s > 0:
            raise ConfigError(f"sandbox state_every_s {self.state_every_s}: must be above 0")
        if self.recorded is not None and self.state_file is not None:
            raise ConfigError("sandbox: a recorded market is not kept in a state file")

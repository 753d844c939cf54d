"""Where the connection to a venue stands, for whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """Stages of a connection, in the order in which they are gone through."""

    DOWN = "DOWN"
    CONNECTING = "CONNECTING"
    SUBSCRIBING = "SUBSCRIBING"
    LIVE = "LIVE"


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """A stream's connection at one moment.

    Attributes
    ----------
    phase : Phase
    since_ns : int
        When the phase began, ns UTC.
    down_since_ns : int or None
        When the last live connection was lost (or the first attempt began), ns UTC; None while live.
    connections, outages, handovers : int
        Sockets opened, live connections lost, and sockets replaced without an outage.
    frames, protocol_errors, server_errors : int
        Frames received, malformed ones among them, and messages of ours that the venue refused.
    malformed : mapping of str to int
        Malformed frames by what was wrong with them.
    refused : tuple of (str, str)
        Event and pair that the venue does not offer.
    """

    phase: Phase = Phase.DOWN
    since_ns: int = 0
    down_since_ns: int | None = None
    connections: int = 0
    outages: int = 0
    handovers: int = 0
    frames: int = 0
    protocol_errors: int = 0
    server_errors: int = 0
    malformed: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[tuple[str, str], ...] = ()

    def down_s(self, now_ns: int) -> float:
        """Return for how many seconds there has been no live connection."""
        return 0.0 if self.down_since_ns is None else max(0.0, (now_ns - self.down_since_ns) / 1e9)

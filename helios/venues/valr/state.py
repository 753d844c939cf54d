"""Where the connection to a venue stands, for whoever asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from helios.venues.valr.session import TradeSession


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
    frames, protocol_errors, server_errors, mutes : int
        Frames received, malformed ones among them, messages of ours that the venue refused, and channels of trades that were
        started anew because they had fallen silent alone.
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
    mutes: int = 0
    malformed: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[tuple[str, str], ...] = ()

    def down_s(self, now_ns: int) -> float:
        """Return for how many seconds there has been no live connection."""
        return 0.0 if self.down_since_ns is None else max(0.0, (now_ns - self.down_since_ns) / 1e9)


class ConnectionRecord:
    """What a driver notes down while sockets come and go.

    Parameters
    ----------
    clock : callable
        Wall clock, ns UTC.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.phase = Phase.DOWN
        self.connections = self.outages = self.handovers = 0
        self._since_ns = clock()
        self._down_since_ns: int | None = None
        self._frames = self._server_errors = self._mutes = 0  # of closed sockets
        self._malformed = Counter[str]()

    def enter(self, phase: Phase) -> None:
        """Note that `phase` begins."""
        now_ns = self._clock()
        if phase is Phase.LIVE:
            self._down_since_ns = None
        elif self._down_since_ns is None:
            self._down_since_ns = now_ns
        self.phase, self._since_ns = phase, now_ns

    def lose(self) -> None:
        """Note that the connection was lost, or could not be made."""
        self.outages += self.phase is Phase.LIVE
        self.enter(Phase.DOWN)

    def end(self, session: TradeSession) -> None:
        """Keep what a session counted; its socket is gone."""
        self._frames += session.frames
        self._server_errors += session.server_errors
        self._mutes += session.mutes
        self._malformed.update(session.malformed)

    def state(self, sessions: Sequence[TradeSession]) -> ConnectionState:
        """Return everything noted, with what the open `sessions` have counted so far."""
        malformed = sum((session.malformed for session in sessions), Counter(self._malformed))
        return ConnectionState(
            phase=self.phase,
            since_ns=self._since_ns,
            down_since_ns=self._down_since_ns,
            connections=self.connections,
            outages=self.outages,
            handovers=self.handovers,
            frames=self._frames + sum(session.frames for session in sessions),
            protocol_errors=malformed.total(),
            server_errors=self._server_errors + sum(session.server_errors for session in sessions),
            mutes=self._mutes + sum(session.mutes for session in sessions),
            malformed=dict(malformed),
            refused=tuple(sorted({key for session in sessions for key in session.refused})),
        )

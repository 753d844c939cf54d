"""Where a recording knows nothing, per symbol: before the first connection, between a loss and its repair, and where it is damaged.

Read off the tape in one pass: the connection's states, the gaps, and the candles that the recording desk fetched to close them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from helios.domain.enums import Timeframe
from helios.domain.market import Bar, Instrument
from helios.errors import DataError
from helios.store.raw_format import FRAME, GAP, HEADER, Record
from helios.venues.tape import (
    CANDLES,
    CLOCK,
    STATUS,
    CandleAnswer,
    MarketClock,
    read_candles,
    read_clock,
    read_instrument,
)

MINUTE_NS = Timeframe.M1.ns
MAX_OUTAGE_NS = 30 * Timeframe.D1.ns


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch of the tape whose minutes are not built from trades.

    Attributes
    ----------
    lost_index, restored_index : int, int or None
        Record at which the feed was lost, and the answer that repaired it; None where none came. The book counts from there on.
    start_ns, boundary_ns : int
        First minute not observed, and the end of the last one; trades count from there on.
    """

    lost_index: int
    restored_index: int | None
    start_ns: int
    boundary_ns: int


@dataclass(slots=True)
class Survey:
    """What one pass over a recording found, besides its frames."""

    instruments: dict[str, Instrument] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)  # venue's name -> symbol
    protocol: str = ""
    clock: MarketClock | None = None
    first_ns: int | None = None  # market time of the first frame
    last_ns: int = 0
    frames: int = 0
    history: dict[str, dict[Timeframe, tuple[Bar, ...]]] = field(default_factory=dict)
    minutes: dict[str, dict[int, Bar]] = field(default_factory=dict)
    outages: dict[str, list[Outage]] = field(default_factory=dict)


def survey(records: Iterable[Record], grace_ms: float) -> Survey:
    """Read a whole recording once.

    Raises
    ------
    DataError
        If it has no header, a note of the recorder cannot be read, or a stretch of over 30 days is missing.
    """
    surveyor = _Surveyor(grace_ms)
    for index, record in enumerate(records):
        surveyor.take(index, record)
    return surveyor.finish()


class _Surveyor:
    def __init__(self, grace_ms: float) -> None:
        self._grace_ms = grace_ms
        self._found = Survey()
        self._trackers: dict[str, _Tracker] = {}
        self._recording: int | None = None
        self._is_gap_open = True  # the next frame tells since when we listen

    def take(self, index: int, record: Record) -> None:
        found = self._found
        if record.kind == FRAME:
            if found.clock is None:
                return  # the header was lost to damage; frames before one have no names and no time
            market_ns = found.clock.market(record.local_ns)
            if self._is_gap_open:
                self._is_gap_open = False
                self._tell_all(lambda tracker: tracker.connected(index, market_ns))
            found.first_ns = market_ns if found.first_ns is None else found.first_ns
            found.last_ns = market_ns
            found.frames += 1
        else:
            self._take_note(index, record)

    def finish(self) -> Survey:
        found = self._found
        if found.clock is None or found.first_ns is None:
            raise DataError("the recording has no whole header" if found.clock is None else "the recording holds no frames")
        found.outages = {symbol: tracker.finish() for symbol, tracker in self._trackers.items()}
        return found

    def _take_note(self, index: int, record: Record) -> None:
        if record.kind == HEADER:
            self._take_header(index, record)
        elif record.kind == CLOCK:
            self._found.clock = read_clock(record.json())
        elif record.kind == CANDLES:
            self._take_candles(index, read_candles(record.json()))
        elif record.kind == GAP:
            self._gap(index)
        elif record.kind == STATUS and self._found.clock is not None:
            market_ns, status = self._found.clock.market(record.local_ns), record.json().get("status")
            if status == "CONNECTED":
                self._is_gap_open = False
                self._tell_all(lambda tracker: tracker.connected(index, market_ns))
            elif status == "DISCONNECTED":
                self._tell_all(lambda tracker: tracker.lost(index, market_ns - self._grace_ns()))

    def _take_header(self, index: int, record: Record) -> None:
        value, found = record.json(), self._found
        try:
            recording, found.protocol = int(value["recording"]), str(value["protocol"])
            pairs = {str(pair): str(symbol) for pair, symbol in value["pairs"].items()}
            instruments = [read_instrument(row) for row in value["instruments"]]
            clock = read_clock(value["clock"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"recording: header cannot be read: {error!r}") from error
        if recording == self._recording:
            return  # the next file of the same run; the clock may have been set since
        if self._recording is not None:
            self._gap(index)
        self._recording, found.clock = recording, clock
        found.pairs |= pairs
        for instrument in instruments:
            found.instruments[instrument.symbol] = instrument
            self._trackers.setdefault(instrument.symbol, _Tracker())

    def _take_candles(self, index: int, answer: CandleAnswer) -> None:
        tracker = self._trackers.get(answer.symbol)
        if tracker is None:
            return
        if not tracker.has_connected:
            self._found.history.setdefault(answer.symbol, {})[answer.timeframe] = answer.bars
        if answer.timeframe is Timeframe.M1:
            self._found.minutes.setdefault(answer.symbol, {}).update((bar.open_time, bar) for bar in answer.bars)
            tracker.answered(index, answer)

    def _gap(self, index: int) -> None:
        # The line may still have been up, so nobody fetched anything: from the next frame's minute on it counts again.
        if self._found.first_ns is not None:
            last_ns = self._found.last_ns
            self._tell_all(lambda tracker: tracker.cut(index, last_ns))
            self._is_gap_open = True

    def _tell_all(self, tell: Callable[[_Tracker], None]) -> None:
        for tracker in self._trackers.values():
            tell(tracker)

    def _grace_ns(self) -> int:
        assert self._found.clock is not None
        return int(self._grace_ms * 1e6 * self._found.clock.speed)


class _Tracker:
    # One symbol's way through lost, connected, whole. It begins lost: a desk that starts knows the past from candles alone.
    def __init__(self) -> None:
        self.has_connected = False
        self._outages: list[Outage] = []
        self._lost_index: int | None = -1
        self._start_ns: int | None = None
        self._boundary_ns: int | None = None
        self._is_cut = False
        self._answer_index: int | None = None

    def lost(self, index: int, market_ns: int) -> None:
        if self._boundary_ns is not None and market_ns >= self._boundary_ns:
            self._end(self._answer_index)  # not all was fetched, but the boundary had passed: whole minutes have come since
        self._boundary_ns = None
        if self._lost_index is None:
            self._lost_index, self._start_ns = index, market_ns // MINUTE_NS * MINUTE_NS

    def cut(self, index: int, market_ns: int) -> None:
        """The tape, not the feed, has a hole: what the desk closed meanwhile is not known."""
        self.lost(index, market_ns)
        self._is_cut = True

    def connected(self, index: int, market_ns: int) -> None:
        if self._lost_index is None:
            self.lost(index, market_ns)
        self.has_connected, self._answer_index = True, None
        self._boundary_ns = (market_ns // MINUTE_NS + 1) * MINUTE_NS

    def answered(self, index: int, answer: CandleAnswer) -> None:
        if not self.has_connected:
            self._start_ns = answer.end_ns
        elif self._boundary_ns is not None and answer.end_ns >= self._boundary_ns:
            # The question tells exactly which minutes the desk that asked had not closed.
            missed = answer.start_ns if self._start_ns is None or not self._is_cut else min(answer.start_ns, self._start_ns)
            self._start_ns, self._boundary_ns, self._answer_index = missed, answer.end_ns, index
            if len(answer.bars) * MINUTE_NS >= answer.end_ns - answer.start_ns:
                self._end(index)  # else the venue had not closed its last minute yet, and the desk asked again

    def finish(self) -> list[Outage]:
        if self._boundary_ns is not None:
            self._end(self._answer_index)
        return self._outages

    def _end(self, restored_index: int | None) -> None:
        assert self._lost_index is not None and self._boundary_ns is not None
        start = min(self._boundary_ns - MINUTE_NS if self._start_ns is None else self._start_ns, self._boundary_ns)
        if self._boundary_ns - start > MAX_OUTAGE_NS:
            raise DataError(f"the recording misses {(self._boundary_ns - start) / Timeframe.D1.ns:.0f} days; replay its parts")
        self._outages.append(Outage(self._lost_index, restored_index, start, self._boundary_ns))
        self._lost_index = self._start_ns = self._boundary_ns = self._answer_index = None
        self._is_cut = False

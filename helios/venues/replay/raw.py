"""Replay of raw recordings: the venue's frames decoded as live, its outages lived through as live.

What a desk did with the feed is repeated event by event: warm-up from the candles it fetched, nothing built from trades until the
first whole minute, an empty book after each loss, missed minutes from the venue's candles. So the same bars and features come out.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from helios.clock import is_ahead
from helios.domain.enums import Timeframe
from helios.domain.market import NAN, Bar, BookUpdate, Instrument, Trade, VenueCandle
from helios.errors import DataError, ProtocolError
from helios.market.minute import MinuteTrades, flat_minute, traded_minute
from helios.store.raw_format import FRAME, HEADER, Damage, Record
from helios.store.raw_recording import RawRecording
from helios.venues.base import FeedLost, FeedRestored, Held, MissedMinute, ReplayEvent, TimePassed, Warmup
from helios.venues.replay.candles import choose
from helios.venues.replay.outages import MINUTE_NS, Outage, Survey, survey
from helios.venues.tape import CANDLES, CLOCK, VALR_PROTOCOL, MarketClock, read_candles, read_clock
from helios.venues.valr.codec import decode_frame

GRACE_MS = 150.0
REMEMBERED_TRADES = 10_000

Known = tuple[int, ReplayEvent]
"""An event and the venue time at which it is known."""


class RawReplay:
    """One symbol of a raw recording, a ReplaySource.

    Events come in the order of arrival. One is known once `read_until` reaches the latest venue time so far.

    Parameters
    ----------
    recording : RawRecording
    symbol : str
    found : Survey
        Of the same recording.
    grace_ms : float
        How long the recording desk kept a minute open for late trades (wall time); a later one corrects a minute given out.

    Notes
    -----
    Frames are decoded as they are asked for, so memory does not grow with the recording.
    """

    def __init__(self, recording: RawRecording, symbol: str, found: Survey, grace_ms: float = GRACE_MS) -> None:
        assert found.clock is not None
        self._recording = recording
        self._found = found
        self._symbol = symbol
        self._end_ns = found.last_ns - int(grace_ms * 1e6 * found.clock.speed)
        self.player = _Player(symbol, found, grace_ms)
        self._events = self._play()
        self._next = next(self._events, None)

    @property
    def instrument(self) -> Instrument:
        return self._found.instruments[self._symbol]

    @property
    def start_ns(self) -> int:
        """Market time of the first frame."""
        assert self._found.first_ns is not None
        return self._found.first_ns

    @property
    def end_ns(self) -> int:
        """Market time up to which the recording is whole."""
        return max(self.start_ns, self._end_ns)

    @property
    def damage(self) -> Damage:
        """What was wrong with the files, as far as they have been read."""
        return self._recording.damage

    def read_until(self, until_ns: int) -> Sequence[ReplayEvent]:
        """Return the events known by `until_ns` that were not returned before."""
        events: list[ReplayEvent] = []
        while self._next is not None and self._next[0] <= until_ns:
            events.append(self._next[1])
            self._next = next(self._events, None)
        return events

    def _play(self) -> Iterator[Known]:
        history = self._found.history.get(self._symbol)
        if history:
            yield 0, Warmup(history)
        for index, record in enumerate(self._recording.records()):
            yield from self.player.take(index, record)


class _Player:
    # Turns one symbol's records into events and keeps the place in its outages.
    def __init__(self, symbol: str, found: Survey, grace_ms: float) -> None:
        self.protocol_errors = self.repeated_trades = self.late_trades = 0
        self._symbol = symbol
        self._to_symbol = {pair: name for pair, name in found.pairs.items() if name == symbol}
        self._marks = [f'"{pair}"'.encode() for pair in self._to_symbol]
        self._minutes = found.minutes.get(symbol, {})
        self._outages = deque(found.outages[symbol])
        self._outage: Outage | None = None
        self._next_missed = 0
        self._boundary_ns = 0  # of the newest outage: minutes before it are not ours to build
        self._known_ns = 0
        self._clock: MarketClock | None = None
        self._recording: int | None = None
        self._grace_ms = grace_ms
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._open_minute = 0
        self._trades = MinuteTrades()
        minutes = found.history.get(symbol, {}).get(Timeframe.M1, ())
        self._price: float | None = minutes[-1].close if minutes else None

    def take(self, index: int, record: Record) -> Iterator[Known]:
        if record.kind == CANDLES:
            yield from self._enter_outage(index)
            yield from self._check(record)
        elif record.kind != FRAME:
            self._follow_clock(record)
        else:
            yield from self._enter_outage(index)
            for event in self._decode(record):
                if isinstance(event, VenueCandle):
                    yield from self._pass_time(event.open_time, record.local_ns)
                    yield self._told(event)
                else:
                    yield from self._place(index, event, record.local_ns)

    def _check(self, record: Record) -> Iterator[Known]:
        # Asked for while the feed was whole: the desk compared its own minutes with the venue's.
        answer = read_candles(record.json())
        if self._outage is None and self._boundary_ns and (answer.symbol, answer.timeframe) == (self._symbol, Timeframe.M1):
            yield from self._pass_time(answer.start_ns, record.local_ns)
            for candle in answer.candles():
                yield self._told(candle)

    def _told(self, candle: VenueCandle) -> Known:
        self._known_ns = max(self._known_ns, candle.open_time + candle.timeframe.ns)
        return self._known_ns, candle

    def _follow_clock(self, record: Record) -> None:
        if record.kind == CLOCK:
            self._clock = read_clock(record.json())
        elif record.kind == HEADER and record.json()["recording"] != self._recording:
            self._recording, self._clock = record.json()["recording"], read_clock(record.json()["clock"])

    def _decode(self, record: Record) -> list[Trade | BookUpdate | VenueCandle]:
        # Most frames are of other symbols: a look for the name is a tenth of decoding them.
        if self._clock is None or not any(mark in record.payload for mark in self._marks):
            return []
        try:
            events = decode_frame(record.payload, self._to_symbol, record.local_ns)
        except ProtocolError:
            self.protocol_errors += 1
            return []
        known = [event for event in events if isinstance(event, Trade | BookUpdate | VenueCandle)]
        return [event for event in known if not self._is_ahead(event, record.local_ns) and not self._is_repeated(event)]

    def _is_ahead(self, event: Trade | BookUpdate | VenueCandle, local_ns: int) -> bool:
        # As the desk that listened would have judged.
        assert self._clock is not None
        if isinstance(event, VenueCandle) or not is_ahead(event.ts_event, self._clock.market(local_ns), self._clock.speed):
            return False
        self.protocol_errors += 1
        return True

    def _is_repeated(self, event: Trade | BookUpdate | VenueCandle) -> bool:
        # Two sockets overlap when one relieves the other, and both are on tape. Books repeat harmlessly.
        if not isinstance(event, Trade):
            return False
        if event.trade_id in self._seen:
            self.repeated_trades += 1
            return True
        self._seen[event.trade_id] = None
        if len(self._seen) > REMEMBERED_TRADES:
            self._seen.popitem(last=False)
        return False

    def _enter_outage(self, index: int) -> Iterator[Known]:
        while self._outages and self._outages[0].lost_index < index:
            if self._outage is not None:
                yield from self._miss(self._outage, self._outage.boundary_ns)
            self._outage = outage = self._outages.popleft()
            self._next_missed, self._boundary_ns = outage.start_ns, outage.boundary_ns
            self._known_ns = max(self._known_ns, outage.start_ns)
            yield self._known_ns, FeedLost(outage.start_ns)

    def _place(self, index: int, event: Trade | BookUpdate, local_ns: int) -> Iterator[Known]:
        self._known_ns = max(self._known_ns, event.ts_event)
        outage = self._outage
        if outage is not None:
            restored = outage.restored_index
            if restored is not None and index > restored:
                self._known_ns = max(self._known_ns, outage.boundary_ns)
            yield from self._miss(outage, self._known_ns)
            if self._next_missed > outage.boundary_ns and (restored is None or index > restored):
                self._outage = None
        if self._is_held(event):
            yield self._known_ns, Held(event)
            return
        if isinstance(event, Trade):
            self.late_trades += self._outage is None and event.ts_event < self._closed_ns(local_ns)
            yield from self._pass_time(event.ts_event, local_ns)
            self._note(event)
        yield self._known_ns, event

    def _is_held(self, event: Trade | BookUpdate) -> bool:
        # A trade of after the boundary counts as soon as the minutes before it are there; the book once the desk was done.
        if isinstance(event, Trade) and event.ts_event < self._boundary_ns:
            return True
        outage = self._outage
        return outage is not None and (not isinstance(event, Trade) or self._next_missed <= outage.boundary_ns)

    def _pass_time(self, ts_ns: int, local_ns: int) -> Iterator[Known]:
        # Where the clock had closed the minute of `ts_ns` before this came, it corrects a minute that was given out.
        closed_ns = self._closed_ns(local_ns)
        if ts_ns < closed_ns and self._outage is None:
            self._known_ns = max(self._known_ns, closed_ns)
            yield self._known_ns, TimePassed(closed_ns)

    def _closed_ns(self, local_ns: int) -> int:
        assert self._clock is not None
        now_ns = self._clock.market(local_ns) - int(self._grace_ms * 1e6 * self._clock.speed)
        return now_ns - now_ns % MINUTE_NS

    def _miss(self, outage: Outage, until_ns: int) -> Iterator[Known]:
        while self._next_missed < outage.boundary_ns and self._next_missed + MINUTE_NS <= until_ns:
            bar = self._minutes.get(self._next_missed) or self._unknown(self._next_missed)
            self._next_missed += MINUTE_NS
            if bar is not None:
                self._price = bar.close
                yield self._next_missed, MissedMinute(bar)
        if self._next_missed == outage.boundary_ns <= until_ns:
            self._next_missed += 1  # all told
            yield outage.boundary_ns, FeedRestored()

    def _unknown(self, open_time: int) -> Bar | None:
        # Nobody told this minute. What was seen of it gives prices; flow is unknown.
        if self._trades.count and self._open_minute == open_time:
            seen = traded_minute(self._symbol, open_time, self._trades)
            return replace(seen, quote_volume=NAN, trade_count=NAN, buy_volume=NAN)
        return None if self._price is None else flat_minute(self._symbol, open_time, self._price, is_observed=False)

    def _note(self, trade: Trade) -> None:
        minute = trade.ts_event // MINUTE_NS * MINUTE_NS
        if minute > self._open_minute:
            self._open_minute, self._trades = minute, MinuteTrades()
        if minute == self._open_minute:
            self._trades.add(trade)
            self._price = self._trades.close


def open_raw_replay(directory: Path, symbols: Sequence[str] | None = None, grace_ms: float = GRACE_MS) -> dict[str, RawReplay]:
    """Open the raw recording in `directory`; it is read through once.

    Raises
    ------
    ConfigError
        If a symbol is asked for that was not recorded.
    DataError
        If there is no recording, its header is lost, or a protocol is spoken in it that is not known here.
    """
    recording = RawRecording(directory)
    found = survey(recording.records(), grace_ms)
    if found.protocol != VALR_PROTOCOL:
        raise DataError(f"{directory}: recorded in the protocol {found.protocol!r}; known is {VALR_PROTOCOL}")
    known = dict.fromkeys(found.instruments, directory)
    return {symbol: RawReplay(RawRecording(directory), symbol, found, grace_ms) for symbol in choose(known, symbols)}

"""The life of one trade socket, sans-I/O: frames in, events and frames out, time always an argument.

All `now_ns` are nanoseconds of one monotonic wall clock. A driver sends `connected()`, feeds `receive()`, sends `due()`
whenever `next_wake()` has passed, and drops the socket when `is_dead()` or `must_reconnect()`.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from helios.domain.market import BookUpdate, Trade, VenueCandle
from helios.errors import ProtocolError
from helios.venues.valr.codec import decode_event, ping_frame, subscribe_frame
from helios.venues.valr.events import Authenticated, Pong, Refused, ServerError, Subscribed, Unsubscribed, ValrEvent
from helios.venues.valr.fields import NS_PER_S, FieldError
from helios.venues.valr.mute import MuteWatch

log = logging.getLogger(__name__)

BOOK_EVENT = "OB_L1_DIFF"
TRADE_EVENT = "NEW_TRADE"
CANDLE_EVENT = "NEW_TRADE_BUCKET"
FALLBACK_EVENT = "AGGREGATED_ORDERBOOK_UPDATE"  # the best 40 levels whole, about once a second, without sequence or checksum
BOOK_PATIENCE_NS = 5 * NS_PER_S
_NEVER_NS = 2**63 - 1
MAX_REPEATS = 3
PROBE_SHARE = 0.45
_INVALID = re.compile(r"Channel (\S+), pair (\S+) combination invalid")


class TradeSession:
    """What is subscribed on one socket and whether the socket is alive. One object per connection.

    The book's event is an alpha feature of VALR: a pair for which it is refused gets aggregated books instead.

    Parameters
    ----------
    pairs : mapping of str to str
        VALR pair to Helios symbol: everything the socket listens to.
    events : sequence of str
        VALR event names, each subscribed for all pairs.
    ping_interval_s : float, default=20.0
        Keep-alive; the venue asks for one in 30 s.
    pong_timeout_s : float, default=10.0
        Longest wait for any frame after a PING.
    silence_timeout_s : float, default=5.0
        Time within which a dead link is noticed. 45 % of it without a frame trigger a PING, 45 % are left for the answer and
        the rest for the driver: a quiet market is not taken for a dead one.
    ack_timeout_s : float, default=5.0
        Longest wait for the first acknowledgement after connecting; what is still unacknowledged so long after it was asked
        for is asked for again, three times at most before all is acknowledged.
    max_age_s : float, default=840.0
        Age at which to reconnect of our own will: VALR cuts sockets at 15 minutes unless they are authenticated.
    """

    def __init__(
        self,
        pairs: Mapping[str, str],
        events: Sequence[str] = (BOOK_EVENT, TRADE_EVENT),
        *,
        ping_interval_s: float = 20.0,
        pong_timeout_s: float = 10.0,
        silence_timeout_s: float = 5.0,
        ack_timeout_s: float = 5.0,
        max_age_s: float = 840.0,
    ) -> None:
        self._to_symbol = dict(pairs)
        self._events = tuple(events)
        self._ping_interval_ns = _ns(ping_interval_s)
        self._probe_ns = _ns(silence_timeout_s * PROBE_SHARE)
        self._answer_ns = _ns(min(pong_timeout_s, silence_timeout_s * PROBE_SHARE))
        self._ack_timeout_ns = _ns(ack_timeout_s)
        self._max_age_ns = _ns(max_age_s)
        self._connected_ns = 0
        self._last_frame_ns = 0
        self._last_ping_ns = 0
        self._unanswered_ping_ns: int | None = None
        self._answered = False
        self._lost = False
        self._authenticated = False
        self._book_asked_ns: dict[str, int] = {}
        self._has_fallen_back = False
        self._mute = MuteWatch()
        self._outbox: list[str] = []
        self._asked_ns = 0  # when the subscriptions were last asked for
        self._repeats = 0
        self.acknowledged: set[tuple[str, str]] = set()
        self.refused: set[tuple[str, str]] = set()
        self.malformed: Counter[str] = Counter()
        self.mutes = 0
        self.protocol_errors = 0
        self.server_errors = 0
        self.frames = 0

    @property
    def is_acknowledged(self) -> bool:
        """Whether the venue has answered the subscription, by an acknowledgement or by data (either may come first)."""
        return self._answered

    @property
    def is_complete(self) -> bool:
        """Whether every event is acknowledged for every pair that the venue did not refuse."""
        return not self.missing

    @property
    def missing(self) -> set[tuple[str, str]]:
        """What was asked for and neither acknowledged nor refused yet: (event, pair)."""
        events = (*self._events, FALLBACK_EVENT)
        return {(event, pair) for event in events for pair in self._wanted(event)} - self.acknowledged

    def connected(self, now_ns: int) -> list[str]:
        """Start counting from `now_ns`. After calling this you must send the returned frames."""
        self._connected_ns = self._last_frame_ns = self._last_ping_ns = self._asked_ns = now_ns
        return [subscribe_frame({event: list(self._to_symbol) for event in self._events})]

    def set_pairs(self, pairs: Mapping[str, str], now_ns: int) -> list[str]:
        """Listen to `pairs` instead. After calling this you must send the returned frames.

        What the venue sends of the pairs left out until it has understood comes out as `Ignored`.
        """
        self._to_symbol = dict(pairs)
        self._book_asked_ns = {pair: ns for pair, ns in self._book_asked_ns.items() if pair in pairs}
        self.acknowledged = {(event, pair) for event, pair in self.acknowledged if pair in pairs and event in self._events}
        self.refused.clear()  # it may have been listed since
        self._asked_ns, self._repeats = now_ns, 0
        lists = {event: list(self._to_symbol) for event in self._events}
        return [subscribe_frame(lists | ({FALLBACK_EVENT: []} if self._has_fallen_back else {}))]

    def heard(self, now_ns: int) -> None:
        """Note that a frame has arrived, whatever it says."""
        self._last_frame_ns = now_ns
        self._unanswered_ping_ns = None

    def receive(self, frame: str | bytes, now_ns: int, ts_init: int = 0) -> list[ValrEvent]:
        """Decode a frame; see `decode`, whose answer comes in a list of one or none."""
        event = self.decode(frame, now_ns, ts_init)
        return [] if event is None else [event]

    def decode(self, frame: str | bytes, now_ns: int, ts_init: int = 0) -> ValrEvent | None:
        """Return what a frame says. A malformed one is counted in `malformed` by its reason and says nothing.

        After calling this you must send what `due` returns.

        Parameters
        ----------
        frame : str or bytes
            As received.
        now_ns : int
            Monotonic time of arrival.
        ts_init : int, default=0
            UTC time of arrival, stamped on the event.
        """
        self.frames += 1
        self._last_frame_ns = now_ns
        self._unanswered_ping_ns = None
        try:
            event = decode_event(frame, self._to_symbol, ts_init)
        except ProtocolError as error:
            self._refuse(error)
            return None
        kind = type(event)
        if kind is BookUpdate or kind is Trade or kind is VenueCandle:
            self._answered = True
            if kind is Trade:
                self._mute.traded.add(event.symbol)  # type: ignore[union-attr]
            elif self._book_asked_ns or kind is VenueCandle:
                self._observe_data(event)
        else:
            self._observe_control(event, now_ns)
        return event

    @property
    def has_frames(self) -> bool:
        """Whether `due` would return a frame whatever the time."""
        return bool(self._outbox)

    def due(self, now_ns: int) -> list[str]:
        """Return the frames to send by now: subscriptions to repeat, a PING. After calling this you must send them."""
        if now_ns >= self._repeat_due_ns():
            self._asked_ns, self._repeats = now_ns, self._repeats + 1
            self._outbox.append(self._subscribe(sorted({event for event, _ in self.missing})))
        frames, self._outbox = self._outbox, []
        if now_ns >= self._ping_due_ns():
            self._last_ping_ns = self._unanswered_ping_ns = now_ns
            frames.append(ping_frame())
        return frames

    def is_dead(self, now_ns: int) -> bool:
        """Return whether the link must be given up: a PING or the subscription stays unanswered, or subscriptions were lost.

        Ask only after taking every frame that has already arrived.
        """
        ping_ns = self._unanswered_ping_ns
        if self._lost or (ping_ns is not None and now_ns - ping_ns >= self._answer_ns):
            return True
        return not self._answered and now_ns - self._connected_ns >= self._ack_timeout_ns

    def must_reconnect(self, now_ns: int) -> bool:
        """Return whether the socket is old enough to be replaced before the venue cuts it."""
        return not self._authenticated and now_ns - self._connected_ns >= self._max_age_ns

    def next_wake(self, now_ns: int) -> int:
        """Return the next time at which `due`, `is_dead` or `must_reconnect` may change without a frame, at least `now_ns`."""
        times = [self._ping_due_ns(), self._repeat_due_ns()]
        if not self._authenticated and now_ns < self._connected_ns + self._max_age_ns:
            times.append(self._connected_ns + self._max_age_ns)
        if self._unanswered_ping_ns is not None:
            times.append(self._unanswered_ping_ns + self._answer_ns)
        if not self._answered:
            times.append(self._connected_ns + self._ack_timeout_ns)
        return max(now_ns, min(times))

    def resubscribe(self, now_ns: int, pair: str | None = None) -> list[str]:
        """Return the frames that bring a fresh book snapshot of `pair`, or of all pairs.

        A SUBSCRIBE replaces the list of its event, so the pair is left out once and put back: the venue then starts it
        anew. Nothing is returned while a snapshot asked for in the last 5 s is still on its way.

        Parameters
        ----------
        now_ns : int
            Monotonic time.
        pair : str or None
            VALR pair; None for all.
        """
        if BOOK_EVENT not in self._events:
            return []
        wanted = [p for p in self._wanted(BOOK_EVENT) if pair is None or p == pair]
        dropped = {p for p in wanted if now_ns - self._book_asked_ns.get(p, now_ns - BOOK_PATIENCE_NS) >= BOOK_PATIENCE_NS}
        if not dropped:
            return []
        self._book_asked_ns.update(dict.fromkeys(dropped, now_ns))
        self._asked_ns = now_ns  # the pair is unsubscribed for a moment: that is no loss to be made good by asking again
        kept = [p for p in self._wanted(BOOK_EVENT) if p not in dropped]
        return [subscribe_frame({BOOK_EVENT: kept}), self._subscribe([BOOK_EVENT])]

    def _wanted(self, event: str) -> list[str]:
        pairs = [pair for pair in self._to_symbol if (event, pair) not in self.refused]
        return pairs if event in self._events else [pair for pair in pairs if (BOOK_EVENT, pair) in self.refused]

    def _subscribe(self, events: Sequence[str]) -> str:
        # A SUBSCRIBE replaces the list of its event, so it always names every pair.
        return subscribe_frame({event: self._wanted(event) for event in events})

    def _repeat_due_ns(self) -> int:
        if not self._answered or self._repeats >= MAX_REPEATS or self.is_complete:
            return _NEVER_NS  # without any answer the socket is given up instead
        return self._asked_ns + self._ack_timeout_ns

    def _ping_due_ns(self) -> int:
        due_ns = self._last_ping_ns + self._ping_interval_ns
        if self._unanswered_ping_ns is None:
            # The second term keeps probes apart when the clock jumps over several deadlines at once.
            due_ns = min(due_ns, max(self._last_frame_ns, self._last_ping_ns) + self._probe_ns)
        return due_ns

    def _refuse(self, error: ProtocolError) -> None:
        self.protocol_errors += 1
        self.malformed[error.field if isinstance(error, FieldError) else "other"] += 1
        if self.protocol_errors & (self.protocol_errors - 1) == 0:  # the 1st, 2nd, 4th, 8th: a flood stays readable
            log.warning("malformed frame dropped (%d so far): %s", self.protocol_errors, error)

    def _observe_data(self, event: ValrEvent) -> None:
        if isinstance(event, BookUpdate) and event.is_snapshot:
            self._book_asked_ns = {p: ns for p, ns in self._book_asked_ns.items() if self._to_symbol[p] != event.symbol}
        elif isinstance(event, VenueCandle) and TRADE_EVENT in self._events and self._mute.is_mute(event):
            self.mutes += 1
            log.warning("minutes of %s had volume and brought no trade: the channel is started anew", event.symbol)
            others = [pair for pair in self._wanted(TRADE_EVENT) if self._to_symbol[pair] != event.symbol]
            self._outbox += [subscribe_frame({TRADE_EVENT: others}), self._subscribe([TRADE_EVENT])]

    def _observe_control(self, event: ValrEvent, now_ns: int) -> None:
        match event:
            case Subscribed(event=name, pair=pair):
                self._answered = True
                self.acknowledged.add((name, pair))
                self.refused.discard((name, pair))
                if self.is_complete:
                    self._repeats = 0  # a later loss gets as many tries
            case Unsubscribed(event=name, pair=pair):
                self.acknowledged.discard((name, pair))
            case Pong(message="NO_SUBSCRIPTIONS"):
                self._lost = self._answered and bool(self._to_symbol)
            case Authenticated():
                self._authenticated = True
            case ServerError(message=message):
                self.server_errors += 1
                self._drop_refused(message, now_ns)
            case Refused():
                self.server_errors += 1

    def _drop_refused(self, message: str, now_ns: int) -> None:
        # One pair that the venue does not know must not cost the others their subscription: the list is sent again without it.
        match = _INVALID.fullmatch(message.strip())
        if match is None:
            return
        key = match[1], match[2].upper()
        if key[0] not in (*self._events, FALLBACK_EVENT) or key[1] not in self._to_symbol or key in self.refused:
            return
        self.refused.add(key)
        self._asked_ns = now_ns
        self._outbox.append(self._subscribe([key[0]]))
        if key[0] == BOOK_EVENT and FALLBACK_EVENT not in self._events:
            self._has_fallen_back = True
            self._outbox.append(self._subscribe([FALLBACK_EVENT]))


def _ns(seconds: float) -> int:
    return int(seconds * NS_PER_S)

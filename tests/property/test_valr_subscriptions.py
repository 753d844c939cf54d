"""Whatever is subscribed, dropped, asked for again or refused, and however the answers are delayed: both sides end up agreeing."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.venues.sandbox.subscriptions import Subscriptions
from helios.venues.valr.session import BOOK_EVENT, CANDLE_EVENT, FALLBACK_EVENT, TRADE_EVENT, TradeSession

S = 1_000_000_000
EVENTS = (BOOK_EVENT, TRADE_EVENT, CANDLE_EVENT)
LISTED = ("BTCZAR", "ETHZAR", "SOLZAR")
PAIRS = (*LISTED, "NOPEZAR")  # the last one the venue does not know
wanted = st.sets(st.sampled_from(PAIRS), min_size=1).filter(lambda pairs: bool(pairs & set(LISTED)))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), wanted),
        st.tuples(st.just("book"), st.sampled_from((*PAIRS, None))),
        st.tuples(st.just("lose"), st.sampled_from(LISTED)),
        st.tuples(st.just("hear"), st.integers(0, 6)),
        st.tuples(st.just("answer"), st.integers(0, 12)),
        st.tuples(st.just("pass"), st.integers(1, 8)),
    ),
    max_size=30,
)


class Wire:
    """A session and the sandbox's side of the protocol, with all frames on their way held back until they are let through."""

    def __init__(self, pairs: set[str]) -> None:
        self.session = TradeSession(symbols(pairs), EVENTS, max_age_s=1e6)
        self.venue = Subscriptions(LISTED)
        self.now_ns = 0
        self.asked: deque[str] = deque(self.session.connected(0))
        self.answers: deque[bytes] = deque()

    def hear(self, n_frames: int) -> None:
        """Let the venue take some of our frames."""
        for _ in range(min(n_frames, len(self.asked))):
            self.answers.extend(self.venue.receive(self.asked.popleft())[0])

    def answer(self, n_frames: int) -> None:
        """Let some of its frames through, and what they make us say."""
        for _ in range(min(n_frames, len(self.answers))):
            self.session.receive(self.answers.popleft(), self.now_ns)
        self.asked.extend(self.session.due(self.now_ns))

    def lose(self, pair: str) -> None:
        """The venue ends a subscription by itself."""
        if (TRADE_EVENT, pair) in self.venue.channels:
            self.venue.channels.discard((TRADE_EVENT, pair))
            self.answers.append(f'{{"type":"UNSUBSCRIBED","message":"{TRADE_EVENT}:{pair}"}}'.encode())

    def settle(self) -> None:
        """Let time pass until nobody has anything to say."""
        for _ in range(12):
            self.now_ns += 5 * S
            self.asked.extend(self.session.due(self.now_ns))
            while self.asked or self.answers:
                self.hear(len(self.asked))
                self.answer(len(self.answers))


def symbols(pairs: set[str]) -> dict[str, str]:
    return {pair: f"{pair[:3]}/ZAR" for pair in sorted(pairs)}


@settings(max_examples=200, deadline=None)
@given(wanted, steps)
def test_both_sides_agree_in_the_end(pairs: set[str], script: list[tuple[str, object]]) -> None:
    wire = Wire(pairs)
    for kind, value in script:
        match kind, value:
            case "set", set() as pairs:
                wire.asked.extend(wire.session.set_pairs(symbols(pairs), wire.now_ns))
            case "book", (str() | None) as pair:
                wire.asked.extend(wire.session.resubscribe(wire.now_ns, pair))
            case "lose", str() as pair:
                wire.lose(pair)
            case "hear", int() as n:
                wire.hear(n)
            case "answer", int() as n:
                wire.answer(n)
            case "pass", int() as n:
                wire.now_ns += n * S
                wire.asked.extend(wire.session.due(wire.now_ns))
    wire.settle()
    assert wire.venue.channels == {(event, pair) for event in EVENTS for pair in pairs & set(LISTED)}
    assert wire.session.is_complete
    assert wire.session.refused == {(event, pair) for event in (*EVENTS, FALLBACK_EVENT) for pair in pairs - set(LISTED)}

"""The session on a clock that is only a number."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from helios.domain.market import BookUpdate, Trade
from helios.venues.valr.events import Subscribed
from helios.venues.valr.session import ConnectBudget, TradeSession, backoff_delays
from tests.support import valr_frames as frames
from tests.support.valr_server import book_frame, trade_frame

S = 1_000_000_000
PAIRS = {"BTCZAR": "BTC/ZAR", "ETHZAR": "ETH/ZAR"}
ACK = '{"type":"SUBSCRIBED","message":"OB_L1_DIFF:BTCZAR"}'


def subscriptions(frame: str) -> dict[str, list[str]]:
    return {row["event"]: row["pairs"] for row in json.loads(frame)["subscriptions"]}


@pytest.fixture
def session() -> TradeSession:
    """A session connected at 0 and acknowledged at once."""
    made = TradeSession(PAIRS)
    made.connected(0)
    made.receive(ACK, 0)
    return made


def test_connecting_subscribes_every_event_for_every_pair_in_one_frame() -> None:
    (frame,) = TradeSession(PAIRS).connected(0)
    assert subscriptions(frame) == {"OB_L1_DIFF": ["BTCZAR", "ETHZAR"], "NEW_TRADE": ["BTCZAR", "ETHZAR"]}


def test_acknowledgements_are_kept_until_all_are_there(session: TradeSession) -> None:
    assert session.is_acknowledged
    assert not session.is_complete
    for event, pair in itertools.product(("OB_L1_DIFF", "NEW_TRADE"), PAIRS):
        assert session.receive(f'{{"type":"SUBSCRIBED","message":"{event}:{pair}"}}', 1) == [Subscribed(event, pair)]
    assert session.is_complete
    session.receive('{"type":"UNSUBSCRIBED","message":"NEW_TRADE:BTCZAR"}', 2)
    assert not session.is_complete
    assert session.is_acknowledged


def test_data_before_the_acknowledgement_count_as_an_answer() -> None:
    session = TradeSession(PAIRS)
    session.connected(0)
    (trade,) = session.receive(json.dumps(trade_frame("BTCZAR")), 1, ts_init=5)
    assert isinstance(trade, Trade)
    assert trade.ts_init == 5
    assert session.is_acknowledged


def test_no_answer_within_five_seconds_of_connecting_is_death() -> None:
    session = TradeSession(PAIRS, silence_timeout_s=60)
    session.connected(0)
    session.receive(frames.ERROR, 4 * S)
    assert not session.is_dead(5 * S - 1)
    assert session.is_dead(5 * S)
    assert session.next_wake(4 * S) == 5 * S
    assert session.server_errors == 1


def test_malformed_frames_are_counted_and_do_not_end_the_session(session: TradeSession) -> None:
    assert session.receive("nonsense", 1) == []
    assert session.receive(json.dumps(trade_frame("BTCZAR", price="-100.50")), 1) == []
    assert session.protocol_errors == 2
    assert len(session.receive(json.dumps(trade_frame("BTCZAR")), 2)) == 1


def test_a_busy_socket_pings_every_twenty_seconds(session: TradeSession) -> None:
    pings = []
    for second in range(1, 65):
        session.receive(json.dumps(trade_frame("BTCZAR")), second * S)
        pings += [second for _ in session.due(second * S)]
    assert pings == [20, 40, 60]


def test_a_quiet_socket_is_probed_and_an_answer_keeps_it(session: TradeSession) -> None:
    assert session.due(int(2.5 * S) - 1) == []
    assert session.next_wake(S) == int(2.5 * S)
    assert [json.loads(frame) for frame in session.due(int(2.5 * S))] == [{"type": "PING"}]
    assert session.due(3 * S) == []
    session.receive(frames.PONG, 3 * S)
    assert not session.is_dead(int(5.4 * S))


def test_an_unanswered_probe_is_death_five_seconds_after_the_last_frame(session: TradeSession) -> None:
    session.due(int(2.5 * S))
    assert session.next_wake(3 * S) == 5 * S
    assert not session.is_dead(5 * S - 1)
    assert session.is_dead(5 * S)


def test_a_driver_that_was_away_probes_before_it_gives_up(session: TradeSession) -> None:
    assert not session.is_dead(60 * S)
    assert len(session.due(60 * S)) == 1
    assert not session.is_dead(61 * S)
    assert session.is_dead(63 * S)


def test_with_a_long_silence_limit_a_ping_must_be_answered_within_ten_seconds() -> None:
    session = TradeSession(PAIRS, silence_timeout_s=300)
    session.connected(0)
    session.receive(ACK, 0)
    assert len(session.due(20 * S)) == 1
    assert not session.is_dead(30 * S - 1)
    assert session.is_dead(30 * S)


def test_lost_subscriptions_are_death(session: TradeSession) -> None:
    session.receive(frames.PONG_IDLE, S)
    assert session.is_dead(S)


def test_a_socket_is_replaced_at_fourteen_minutes(session: TradeSession) -> None:
    assert not session.must_reconnect(840 * S - 1)
    assert session.must_reconnect(840 * S)


def test_resubscribing_all_empties_the_list_and_fills_it_again(session: TradeSession) -> None:
    drop, restore = session.resubscribe(S)
    assert subscriptions(drop) == {"OB_L1_DIFF": []}
    assert subscriptions(restore) == {"OB_L1_DIFF": ["BTCZAR", "ETHZAR"]}


def test_resubscribing_one_pair_leaves_the_others_alone(session: TradeSession) -> None:
    drop, restore = session.resubscribe(S, "BTCZAR")
    assert subscriptions(drop) == {"OB_L1_DIFF": ["ETHZAR"]}
    assert subscriptions(restore) == {"OB_L1_DIFF": ["BTCZAR", "ETHZAR"]}


def test_a_snapshot_on_its_way_is_not_asked_for_again(session: TradeSession) -> None:
    session.resubscribe(S, "BTCZAR")
    assert session.resubscribe(2 * S, "BTCZAR") == []
    assert subscriptions(session.resubscribe(2 * S)[0]) == {"OB_L1_DIFF": ["BTCZAR"]}
    (book,) = session.receive(json.dumps(book_frame("BTCZAR", True, 5)), 3 * S)
    assert isinstance(book, BookUpdate)
    assert len(session.resubscribe(3 * S, "BTCZAR")) == 2


def test_a_snapshot_that_never_came_is_asked_for_again_after_five_seconds(session: TradeSession) -> None:
    session.resubscribe(S, "BTCZAR")
    assert session.resubscribe(6 * S - 1, "BTCZAR") == []
    assert len(session.resubscribe(6 * S, "BTCZAR")) == 2


def test_nothing_is_resubscribed_without_a_book_or_for_a_strange_pair(session: TradeSession) -> None:
    assert TradeSession(PAIRS, ("NEW_TRADE",)).resubscribe(S) == []
    assert session.resubscribe(S, "XRPZAR") == []


def test_back_off_grows_to_its_cap_with_full_jitter() -> None:
    runs = [list(itertools.islice(backoff_delays(random.Random(seed)), 8)) for seed in range(200)]
    highest = [max(run[step] for run in runs) for step in range(8)]
    for step, limit_s in enumerate([0.5, 1, 2, 4, 8, 10, 10, 10]):
        assert 0.9 * limit_s < highest[step] <= limit_s
    assert min(run[6] for run in runs) < 1.0


def test_connections_stay_within_sixty_in_any_minute() -> None:
    budget, now_ns, made = ConnectBudget(60), 0, []
    for _ in range(200):
        now_ns += int(budget.reserve(now_ns) * S)
        made.append(now_ns)
    assert made[9] == 0
    assert max(sum(start <= at < start + 60 * S for at in made) for start in made) <= 60
    assert len([at for at in made if at < 180 * S]) >= 150

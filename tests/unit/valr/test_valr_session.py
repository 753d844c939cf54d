"""The session on a clock that is only a number."""

from __future__ import annotations

import itertools
import json

import pytest

from helios.domain.market import BookUpdate, Trade
from helios.venues.valr.codec import ping_frame
from helios.venues.valr.events import Ignored, Subscribed
from helios.venues.valr.session import TradeSession
from tests.support import valr_frames as frames
from tests.support.valr_server import book_frame, trade_frame

S = 1_000_000_000
PAIRS = {"BTCZAR": "BTC/ZAR", "ETHZAR": "ETH/ZAR"}
ACK = '{"type":"SUBSCRIBED","message":"OB_L1_DIFF:BTCZAR"}'


def ack(event: str, pair: str) -> str:
    return f'{{"type":"SUBSCRIBED","message":"{event}:{pair}"}}'


def subscriptions(frame: str) -> dict[str, list[str]]:
    return {row["event"]: row["pairs"] for row in json.loads(frame)["subscriptions"]}


@pytest.fixture
def session() -> TradeSession:
    """A session connected at 0 and acknowledged at once."""
    made = TradeSession(PAIRS)
    made.connected(0)
    for event, pair in itertools.product(("OB_L1_DIFF", "NEW_TRADE"), PAIRS):
        made.receive(ack(event, pair), 0)
    return made


def test_connecting_subscribes_every_event_for_every_pair_in_one_frame() -> None:
    (frame,) = TradeSession(PAIRS).connected(0)
    assert subscriptions(frame) == {"OB_L1_DIFF": ["BTCZAR", "ETHZAR"], "NEW_TRADE": ["BTCZAR", "ETHZAR"]}


def test_acknowledgements_are_kept_until_all_are_there() -> None:
    session = TradeSession(PAIRS)
    session.connected(0)
    for event, pair in itertools.product(("OB_L1_DIFF", "NEW_TRADE"), PAIRS):
        assert not session.is_complete
        assert session.receive(ack(event, pair), 1) == [Subscribed(event, pair)]
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
    assert session.due(int(2.25 * S) - 1) == []
    assert session.next_wake(S) == int(2.25 * S)
    assert [json.loads(frame) for frame in session.due(int(2.25 * S))] == [{"type": "PING"}]
    assert session.due(3 * S) == []
    session.receive(frames.PONG, 3 * S)
    assert not session.is_dead(int(5.2 * S))


def test_an_unanswered_probe_is_death_within_five_seconds_of_the_last_frame(session: TradeSession) -> None:
    session.due(int(2.25 * S))
    assert session.next_wake(3 * S) == int(4.5 * S)
    assert not session.is_dead(int(4.5 * S) - 1)
    assert session.is_dead(int(4.5 * S))


def test_a_driver_that_was_away_probes_before_it_gives_up(session: TradeSession) -> None:
    assert not session.is_dead(60 * S)
    assert len(session.due(60 * S)) == 1
    assert not session.is_dead(61 * S)
    assert session.is_dead(63 * S)


def test_with_a_long_silence_limit_a_ping_must_be_answered_within_ten_seconds() -> None:
    session = TradeSession(PAIRS, silence_timeout_s=300)
    session.connected(0)
    session.receive(ACK, 0)
    assert session.due(20 * S)[-1:] == [ping_frame()]
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


def test_what_stays_unacknowledged_is_asked_for_again_three_times_at_most() -> None:
    session = TradeSession(PAIRS)
    session.connected(0)
    for event, pair in (("OB_L1_DIFF", "BTCZAR"), ("OB_L1_DIFF", "ETHZAR"), ("NEW_TRADE", "BTCZAR")):
        session.receive(ack(event, pair), 0)
    assert session.missing == {("NEW_TRADE", "ETHZAR")}
    asked = []
    for second in range(1, 60):
        session.heard(second * S)
        asked += [(second, subscriptions(frame)) for frame in session.due(second * S) if "SUBSCRIBE" in frame]
    assert asked == [(second, {"NEW_TRADE": ["BTCZAR", "ETHZAR"]}) for second in (5, 10, 15)]
    session.receive(ack("NEW_TRADE", "ETHZAR"), 60 * S)
    assert session.is_complete


def test_the_moment_without_a_pair_during_its_resubscription_is_no_lost_subscription(session: TradeSession) -> None:
    session.resubscribe(100 * S, "BTCZAR")
    session.receive('{"type":"UNSUBSCRIBED","message":"OB_L1_DIFF:BTCZAR"}', 100 * S)
    assert [frame for frame in session.due(100 * S) if "SUBSCRIBE" in frame] == []
    session.heard(105 * S)
    (again, *_) = session.due(105 * S)  # but if it lasts, the list is sent once more
    assert subscriptions(again) == {"OB_L1_DIFF": ["BTCZAR", "ETHZAR"]}


def test_each_lost_subscription_is_asked_for_anew_however_many_went_before(session: TradeSession) -> None:
    asked = 0
    for minute in range(1, 6):
        session.receive('{"type":"UNSUBSCRIBED","message":"NEW_TRADE:ETHZAR"}', 60 * minute * S)
        asked += sum("SUBSCRIBE" in frame for frame in session.due(60 * minute * S))
        session.receive(ack("NEW_TRADE", "ETHZAR"), 60 * minute * S)
    assert asked == 5


def test_a_refused_pair_is_left_out_and_the_others_keep_their_subscription(session: TradeSession) -> None:
    refusal = '{"type":"ERROR","message":"Channel NEW_TRADE, pair ETHZAR combination invalid"}'
    assert session.receive(refusal, S)
    assert session.has_frames
    (frame,) = session.due(S)
    assert subscriptions(frame) == {"NEW_TRADE": ["BTCZAR"]}
    session.receive(refusal, S)
    assert not session.has_frames  # said once is enough
    assert session.refused == {("NEW_TRADE", "ETHZAR")}
    session.receive('{"type":"UNSUBSCRIBED","message":"NEW_TRADE:ETHZAR"}', S)
    assert session.is_complete
    assert subscriptions(session.resubscribe(2 * S)[1]) == {"OB_L1_DIFF": ["BTCZAR", "ETHZAR"]}


def minute(volume: str = "0.5", **changes: object) -> str:
    frame = json.loads(frames.BUCKET)
    frame["currencyPairSymbol"] = "BTCZAR"
    frame["data"] |= {"volume": volume, **changes}
    return json.dumps(frame)


def test_a_channel_of_trades_that_died_alone_is_started_anew(session: TradeSession) -> None:
    session.receive(minute(), 60 * S)  # may have happened before we came
    assert session.due(60 * S)[:-1] == []
    session.receive(minute("0"), 120 * S)  # a quiet minute says nothing
    session.receive(json.dumps(trade_frame("ETHZAR")), 121 * S)  # nor does another pair
    assert not session.has_frames
    session.receive(minute(), 180 * S)
    drop, restore = map(subscriptions, session.due(180 * S)[:2])
    assert (drop, restore) == ({"NEW_TRADE": ["ETHZAR"]}, {"NEW_TRADE": ["BTCZAR", "ETHZAR"]})
    assert session.mutes == 1
    session.receive(minute(), 240 * S)
    assert session.mutes == 1  # it gets two minutes again


def test_a_channel_with_trades_is_not_mute(session: TradeSession) -> None:
    for n in range(1, 6):
        session.receive(json.dumps(trade_frame("BTCZAR")), 60 * n * S)
        session.receive(minute(), 60 * n * S)
        session.receive(minute(bucketPeriodInSeconds=300), 60 * n * S)
    assert (session.mutes, session.has_frames) == (0, False)


def test_who_does_not_listen_to_trades_misses_none() -> None:
    session = TradeSession(PAIRS, ("NEW_TRADE_BUCKET",))
    session.connected(0)
    for n in range(1, 6):
        session.receive(minute(), 60 * n * S)
    assert not session.has_frames


NO_BOOK = '{"type":"ERROR","message":"Channel OB_L1_DIFF, pair ETHZAR combination invalid"}'


def test_a_pair_whose_book_is_refused_gets_aggregated_books(session: TradeSession) -> None:
    session.receive(NO_BOOK, S)
    books, instead = map(subscriptions, session.due(S))
    assert (books, instead) == ({"OB_L1_DIFF": ["BTCZAR"]}, {"AGGREGATED_ORDERBOOK_UPDATE": ["ETHZAR"]})
    assert session.missing == {("AGGREGATED_ORDERBOOK_UPDATE", "ETHZAR")}
    session.receive(ack("AGGREGATED_ORDERBOOK_UPDATE", "ETHZAR"), S)
    assert session.is_complete
    (book,) = session.receive(frames.AGGREGATED.replace("BTCUSDT", "ETHZAR"), S)
    assert isinstance(book, BookUpdate)
    assert (book.symbol, book.is_snapshot, book.sequence, book.checksum) == ("ETH/ZAR", True, None, None)
    assert session.resubscribe(S, "ETHZAR") == []  # each of them is whole
    assert subscriptions(session.resubscribe(S)[1]) == {"OB_L1_DIFF": ["BTCZAR"]}


def test_other_pairs_end_the_aggregated_books_of_those_before(session: TradeSession) -> None:
    session.receive(NO_BOOK, S)
    session.receive(ack("AGGREGATED_ORDERBOOK_UPDATE", "ETHZAR"), S)
    (frame,) = session.set_pairs({"BTCZAR": "BTC/ZAR"}, 2 * S)
    assert subscriptions(frame) == {"OB_L1_DIFF": ["BTCZAR"], "NEW_TRADE": ["BTCZAR"], "AGGREGATED_ORDERBOOK_UPDATE": []}
    assert session.is_complete


def test_a_pair_that_has_no_book_at_all_is_not_asked_for_for_ever(session: TradeSession) -> None:
    session.receive(NO_BOOK, S)
    session.due(S)
    session.receive(NO_BOOK.replace("OB_L1_DIFF", "AGGREGATED_ORDERBOOK_UPDATE"), S)
    assert [subscriptions(frame) for frame in session.due(S)] == [{"AGGREGATED_ORDERBOOK_UPDATE": []}]
    assert session.is_complete


@pytest.mark.parametrize("message", ["Channel NEW_TRADE, pair XRPZAR combination invalid", "Invalid message - Invalid JSON"])
def test_errors_about_nothing_of_ours_change_no_subscription(session: TradeSession, message: str) -> None:
    session.receive(json.dumps({"type": "ERROR", "message": message}), S)
    assert (session.due(S), session.refused, session.server_errors) == ([], set(), 1)


def test_pairs_are_changed_at_run_time_by_the_full_new_list(session: TradeSession) -> None:
    (frame,) = session.set_pairs({"ETHZAR": "ETH/ZAR", "SOLZAR": "SOL/ZAR"}, S)
    assert subscriptions(frame) == {"OB_L1_DIFF": ["ETHZAR", "SOLZAR"], "NEW_TRADE": ["ETHZAR", "SOLZAR"]}
    assert session.missing == {("OB_L1_DIFF", "SOLZAR"), ("NEW_TRADE", "SOLZAR")}
    assert session.receive(json.dumps(trade_frame("BTCZAR")), S) == [Ignored("NEW_TRADE")]
    (trade,) = session.receive(json.dumps(trade_frame("SOLZAR")), S)
    assert isinstance(trade, Trade)
    assert trade.symbol == "SOL/ZAR"
    assert session.resubscribe(S, "BTCZAR") == []


def test_an_authenticated_socket_is_not_replaced(session: TradeSession) -> None:
    session.receive(frames.AUTHENTICATED, S)
    assert not session.must_reconnect(10_000 * S)
    assert session.next_wake(839 * S) <= 841 * S


def test_malformed_frames_are_counted_by_reason(session: TradeSession) -> None:
    bad = [trade_frame("BTCZAR", price="-100.50"), trade_frame("BTCZAR", quantity="0"), trade_frame("")]
    for frame in ["nonsense", *map(json.dumps, bad)]:
        assert session.receive(frame, S) == []
    assert session.malformed == {"price": 1, "quantity": 1, "ps": 1, "json": 1}
    assert session.protocol_errors == 4


def test_a_frame_heard_is_a_sign_of_life_before_it_is_decoded(session: TradeSession) -> None:
    session.due(int(2.25 * S))
    session.heard(5 * S)
    assert not session.is_dead(6 * S)


def test_refusals_of_the_key_or_a_message_are_counted(session: TradeSession) -> None:
    session.receive('{"type":"UNAUTHORIZED"}', S)
    session.receive('{"type":"UNSUPPORTED","message":"x"}', S)
    assert (session.server_errors, session.protocol_errors) == (2, 0)

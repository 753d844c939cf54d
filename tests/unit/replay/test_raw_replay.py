"""Recordings written by hand and what a symbol's state makes of them: outages, damage, repeats, lateness."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Timeframe
from helios.domain.market import Bar, Trade
from helios.errors import ConfigError, DataError
from helios.pipeline.symbol import SymbolState
from helios.store.raw_recording import RawRecorder, find_recordings
from helios.venues.base import FeedLost, FeedRestored, Held, MissedMinute, ReplayEvent, Warmup
from helios.venues.replay.open import open_replay
from helios.venues.replay.raw import RawReplay, open_raw_replay
from helios.venues.tape import CANDLES, candles_json
from tests.support.tape import BTC, ETH, MINUTE_NS, VENUE_VOLUME, Tape, at


def follow(tape: Tape, first: float, last: float, price: float = 100.0) -> None:
    """Half-minute trades and books of both symbols from `first` on."""
    for half in range(round(first * 2), round(last * 2)):
        minute = half / 2 + 0.2
        tape.trade(minute, price + half % 5)
        tape.book(minute + 0.05, 99.0 + half % 2 / 2)
        tape.trade(minute + 0.1, 7.0, pair="ETHZAR")


def connect(tape: Tape, minute: float) -> None:
    tape.status("CONNECTED", minute)
    tape.book(minute, is_snapshot=True)
    tape.book(minute, is_snapshot=True, pair="ETHZAR")


def whole(directory: Path, last: float = 10.0) -> Tape:
    """History to minute 0, connected in minute 0, repaired at 1, followed to `last`."""
    tape = Tape(directory)
    for symbol in (BTC.symbol, ETH.symbol):
        tape.candles(-300, 0, arrives=0.1, symbol=symbol)
    connect(tape, 0.2)
    follow(tape, 0.5, 1.0)
    for symbol in (BTC.symbol, ETH.symbol):
        tape.candles(0, 1, arrives=1.05, symbol=symbol)
    follow(tape, 1.0, last)
    return tape


def opened(directory: Path, symbol: str = BTC.symbol) -> RawReplay:
    return open_raw_replay(directory, [symbol], grace_ms=150.0)[symbol]


def run(directory: Path, symbol: str = BTC.symbol, step_ns: int = MINUTE_NS) -> tuple[dict[int, Bar], SymbolState]:
    """Minutes by their number, and the state in the end."""
    source = opened(directory, symbol)
    state, bars = SymbolState(source.instrument), []
    for until in (*range(source.start_ns, source.end_ns, step_ns), source.end_ns):
        state.on_events(source.read_until(until), until)
        bars += state.drain().bars
    minutes = [b for b in bars if b.timeframe is Timeframe.M1]
    assert len({b.open_time for b in minutes}) == len(minutes)
    return {(b.open_time - at(0)) // MINUTE_NS: b for b in minutes}, state


def is_observed(bar: Bar) -> bool:
    return not math.isnan(bar.buy_volume)


def test_a_recording_is_found_by_its_files_and_offers_its_symbols(tmp_path: Path) -> None:
    whole(tmp_path).close()
    sources = open_replay(str(tmp_path))
    assert {s: source.instrument for s, source in sources.items()} == {BTC.symbol: BTC, ETH.symbol: ETH}
    assert at(0.2) <= sources[BTC.symbol].start_ns < at(0.2) + 10
    assert at(9.5) < sources[BTC.symbol].end_ns < at(10)
    with pytest.raises(ConfigError, match="NOPE/ZAR"):
        open_raw_replay(tmp_path, ["NOPE/ZAR"])


def test_a_print_ahead_of_the_clock_counts_as_little_as_it_did_live(tmp_path: Path) -> None:
    tape = whole(tmp_path / "odd", last=5.0)
    tape.trade(5.0 + 45, 1.0, arrives=5.01)
    follow(tape, 5.1, 10.0)
    tape.close()
    tape = whole(tmp_path / "plain", last=5.0)
    follow(tape, 5.1, 10.0)
    tape.close()
    (odd, state), (plain, _) = run(tmp_path / "odd"), run(tmp_path / "plain")
    assert sorted(odd) == list(range(9))
    assert repr(odd) == repr(plain)
    assert state.last_price > 90.0


def test_the_minute_of_the_connection_is_the_venues_and_the_next_is_ours(tmp_path: Path) -> None:
    whole(tmp_path).close()
    minutes, state = run(tmp_path)
    assert sorted(minutes) == list(range(9))
    assert (minutes[0].volume, is_observed(minutes[0])) == (VENUE_VOLUME, False)
    assert [(minutes[m].volume, minutes[m].buy_volume, minutes[m].trade_count) for m in range(1, 9)] == [(4.0, 4.0, 2.0)] * 8
    assert not state.is_stale
    assert state.book_desyncs == 0
    assert state.book.is_synced


def test_the_order_of_a_start_is_history_loss_held_events_missed_minutes_restored(tmp_path: Path) -> None:
    whole(tmp_path).close()
    events = opened(tmp_path).read_until(at(1.5))
    assert isinstance(events[0], Warmup)
    assert len(events[0].bars[Timeframe.M1]) == 300
    assert events[1] == FeedLost(at(0))
    restored = events.index(FeedRestored())
    assert all(isinstance(e, Held) for e in events[2 : restored - 1])
    missed = events[restored - 1]
    assert isinstance(missed, MissedMinute)
    assert missed.bar.open_time == at(0)
    assert all(isinstance(e, Trade) or not isinstance(e, Held) for e in events[restored + 1 :])


@pytest.mark.parametrize("is_fetched", [True, False])
def test_minutes_of_an_outage_have_unknown_flow_and_the_book_is_empty(tmp_path: Path, is_fetched: bool) -> None:
    tape = whole(tmp_path, 4.0)
    tape.trade(4.3, 120.0)
    tape.status("DISCONNECTED", 4.4)
    connect(tape, 7.3)
    tape.trade(7.5, 130.0)
    if is_fetched:
        tape.candles(4, 8, arrives=8.05)
    follow(tape, 8.0, 10.0)
    tape.close()
    source, state = opened(tmp_path), SymbolState(BTC)
    state.on_events(source.read_until(at(6)), at(6))
    assert state.is_stale
    assert not state.book.is_synced
    minutes, state = run(tmp_path)
    assert sorted(minutes) == list(range(9))
    assert [m for m in minutes if not is_observed(minutes[m])] == [0, 4, 5, 6, 7]
    assert [minutes[m].volume for m in (4, 5, 6, 7)] == ([VENUE_VOLUME] * 4 if is_fetched else [2.0, 0.0, 0.0, 0.0])
    assert minutes[4].high == (100.0 if is_fetched else 120.0)  # what was seen of the cut minute is not lost
    assert math.isnan(minutes[5].spread_bps)
    assert minutes[8].trade_count == 2.0
    assert not state.is_stale


def test_an_answer_that_lacks_the_last_minute_is_followed_by_the_whole_one(tmp_path: Path) -> None:
    tape = whole(tmp_path, 3.0)
    tape.status("DISCONNECTED", 3.4)
    connect(tape, 4.3)
    short = candles_json(BTC.symbol, Timeframe.M1, at(3), at(5), [])
    tape.trade(5.0 + 0.1 / 60)
    tape.recorder.note(CANDLES, short)
    tape.book(5.1)
    tape.candles(3, 5, arrives=5.2)
    follow(tape, 5.5, 8.0)
    tape.close()
    minutes, state = run(tmp_path)
    assert [minutes[m].volume for m in (3, 4)] == [VENUE_VOLUME] * 2
    assert [e for e in opened(tmp_path).read_until(at(5.15)) if isinstance(e, Held)][-1].event.ts_event == at(5.1)
    assert minutes[5].trade_count == 2.0
    assert not state.is_stale


def test_candles_that_the_desk_asked_for_while_it_was_whole_correct_its_minutes(tmp_path: Path) -> None:
    tape = whole(tmp_path, 4.0)
    tape.candles(2, 4, arrives=6.5)
    follow(tape, 6.6, 8.0)
    tape.close()
    source, state = opened(tmp_path), SymbolState(BTC)
    state.on_events(source.read_until(source.end_ns), source.end_ns)
    revised = [b for b in state.drain().revised if b.timeframe is Timeframe.M1]
    told = {b.open_time: b.volume for b in revised}  # the flat minutes that follow take the corrected close
    assert told == {at(2): VENUE_VOLUME, at(3): VENUE_VOLUME, at(4): 0.0, at(5): 0.0}


def test_a_second_loss_before_the_repair_is_one_longer_outage(tmp_path: Path) -> None:
    tape = whole(tmp_path, 3.0)
    tape.status("DISCONNECTED", 3.4)
    connect(tape, 4.2)
    tape.status("DISCONNECTED", 4.6)
    connect(tape, 5.2)
    tape.candles(3, 6, arrives=6.1)
    follow(tape, 6.0, 9.0)
    tape.close()
    minutes, _ = run(tmp_path)
    assert [m for m in sorted(minutes) if not is_observed(minutes[m])] == [0, 3, 4, 5]


def test_a_minute_that_the_desk_had_closed_before_the_loss_stays_observed(tmp_path: Path) -> None:
    tape = whole(tmp_path, 3.0)  # nothing came in minute 3: the clock alone closed it
    tape.status("DISCONNECTED", 4.4)
    connect(tape, 5.2)
    tape.candles(4, 6, arrives=6.1)
    follow(tape, 6.0, 8.0)
    tape.close()
    minutes, _ = run(tmp_path)
    assert [m for m in sorted(minutes) if not is_observed(minutes[m])] == [0, 4, 5]
    assert (minutes[3].volume, minutes[3].trade_count) == (0.0, 0.0)


def damaged(directory: Path) -> None:
    """Six flushed minutes, the chunk of minute 3 destroyed."""
    tape = whole(directory, 1.0)
    tape.flush()
    for minute in range(1, 9):
        follow(tape, minute, minute + 1)
        tape.flush()
    tape.close()
    [path] = find_recordings(directory)
    data = bytearray(path.read_bytes())
    heads = [at for at in range(len(data)) if data.startswith(b"HRAW", at)]
    data[heads[4] + 40] ^= 255
    path.write_bytes(data)


def test_a_damaged_stretch_is_an_outage_and_its_book_is_not_trusted(tmp_path: Path) -> None:
    damaged(tmp_path)
    minutes, state = run(tmp_path)
    assert sorted(minutes) == list(range(8))
    assert [m for m in sorted(minutes) if not is_observed(minutes[m])] == [0, 2, 3, 4]
    assert not state.book.is_synced  # diffs alone never make a book
    assert opened(tmp_path).damage.missing_chunks == 0  # counted while it is read
    source = opened(tmp_path)
    source.read_until(source.end_ns)
    assert source.damage.missing_chunks == 1


def same(left: dict[int, Bar], right: dict[int, Bar]) -> bool:
    return {m: repr(b) for m, b in left.items()} == {m: repr(b) for m, b in right.items()}


def test_a_doubled_recording_gives_the_same_bars(tmp_path: Path) -> None:
    whole(tmp_path / "once").close()
    once, _ = run(tmp_path / "once")
    tape = Tape(tmp_path / "twice")
    keep = tape.recorder._keep
    tape.recorder._keep = lambda line, ns: keep(line, ns) and keep(line, ns)  # type: ignore[method-assign]
    for symbol in (BTC.symbol, ETH.symbol):
        tape.candles(-300, 0, arrives=0.1, symbol=symbol)
    connect(tape, 0.2)
    follow(tape, 0.5, 1.0)
    for symbol in (BTC.symbol, ETH.symbol):
        tape.candles(0, 1, arrives=1.05, symbol=symbol)
    follow(tape, 1.0, 10.0)
    tape.close()
    [path] = find_recordings(tmp_path / "twice")
    path.with_name(path.name.replace("-000", "-001")).write_bytes(path.read_bytes() * 2)
    twice, state = run(tmp_path / "twice")
    assert same(once, twice)
    assert state.book_desyncs == 0


def test_a_torn_recording_gives_the_same_bars_as_far_as_it_goes(tmp_path: Path) -> None:
    tape = Tape(tmp_path)
    tape.candles(-300, 0, arrives=0.1)
    connect(tape, 0.2)
    tape.candles(0, 1, arrives=1.05)
    for minute in range(1, 8):
        follow(tape, minute, minute + 1)
        tape.flush()
    tape.close()
    complete, _ = run(tmp_path)
    [path] = find_recordings(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    torn, _ = run(tmp_path)
    assert sorted(torn) == list(range(6))
    assert same(torn, {m: complete[m] for m in torn})


def test_a_trade_that_came_after_the_clock_had_closed_its_minute_corrects_what_was_given_out(tmp_path: Path) -> None:
    tape = whole(tmp_path, 2.0)
    tape.trade(2.2)
    tape.trade(2.9, 555.0, arrives=3.0 + 0.1 / 60)  # within the grace
    tape.trade(2.9, 777.0, arrives=3.0 + 0.2 / 60)
    follow(tape, 3.0, 5.0)
    tape.close()
    minutes, _ = run(tmp_path)
    assert (minutes[2].high, minutes[2].trade_count) == (555.0, 2.0)
    source, state = opened(tmp_path), SymbolState(BTC)
    state.on_events(source.read_until(source.end_ns), source.end_ns)
    [revised] = [b for b in state.drain().revised if b.timeframe is Timeframe.M1]
    assert (revised.open_time, revised.high, revised.trade_count) == (at(2), 777.0, 3.0)
    assert source.player.late_trades == 1


def test_frames_that_are_no_frames_are_counted_and_left_out(tmp_path: Path) -> None:
    tape = whole(tmp_path, 2.0)
    for broken in ('{"type":"NEW_TRADE","currencyPairSymbol":"BTCZAR","data":{}}', '"BTCZAR" {', '["BTCZAR"]', "x"):
        tape.frame(broken, 2.0)
    follow(tape, 2.0, 4.0)
    tape.close()
    source = opened(tmp_path)
    source.read_until(source.end_ns)
    assert source.player.protocol_errors == 3
    assert sorted(run(tmp_path)[0]) == [0, 1, 2]


def test_a_later_run_of_the_recorder_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    whole(tmp_path, 3.0).close()
    tape = Tape(tmp_path, 6.1)
    for symbol in (BTC.symbol, ETH.symbol):
        tape.candles(-294, 6, arrives=6.2, symbol=symbol)
    connect(tape, 6.3)
    tape.candles(6, 7, arrives=7.1)
    follow(tape, 7.0, 9.0)
    tape.close()
    minutes, _ = run(tmp_path)
    assert sorted(minutes) == list(range(8))
    assert [m for m in sorted(minutes) if not is_observed(minutes[m])] == [0, 2, 3, 4, 5, 6]
    assert [minutes[m].volume for m in (3, 4, 5, 6)] == [VENUE_VOLUME] * 4


def test_without_a_header_or_frames_or_in_another_protocol_nothing_is_made_up(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "silent")
    tape.status("CONNECTED", 1)
    tape.close()
    with pytest.raises(DataError, match="no frames"):
        open_raw_replay(tmp_path / "silent")
    other = RawRecorder(tmp_path / "other", {"venue": "x"})
    other.frame("{}", 1)
    other.close()
    with pytest.raises(DataError, match="header"):
        open_raw_replay(tmp_path / "other")
    foreign = whole(tmp_path / "foreign", 2.0)
    foreign.recorder._header = foreign.recorder._header | {"protocol": "smoke-signals"}
    foreign.close()
    with pytest.raises(DataError, match="smoke-signals"):
        open_raw_replay(tmp_path / "foreign")


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start, an outage, a quiet minute."""
    directory = tmp_path_factory.mktemp("eventful")
    tape = whole(directory, 3.0)
    tape.status("DISCONNECTED", 3.4)
    connect(tape, 5.2)
    tape.candles(3, 6, arrives=6.1)
    follow(tape, 6.0, 7.0)
    follow(tape, 8.0, 11.0)
    tape.close()
    return directory


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.integers(min_value=1, max_value=90), min_size=1, max_size=12))
def test_however_it_is_read_the_events_are_the_same_and_none_is_early(eventful: Path, steps: list[int]) -> None:
    source = opened(eventful)
    everything = list(opened(eventful).read_until(at(100)))
    read: list[ReplayEvent] = []
    until = source.start_ns
    while until < at(12):
        until += steps[len(read) % len(steps)] * 10**9
        part = source.read_until(until)
        assert all(known_ns(event) <= until for event in part)
        read += part
    assert read == everything
    assert source.read_until(at(100)) == []


def known_ns(event: ReplayEvent) -> int:
    match event:
        case Held(event=held):
            return held.ts_event
        case MissedMinute(bar=bar):
            return bar.close_time
        case Warmup() | FeedRestored():
            return 0
        case FeedLost(start_ns=start_ns):
            return start_ns
        case _:
            return event.ts_event  # type: ignore[union-attr]


@settings(max_examples=15, deadline=None)
@given(step_s=st.integers(min_value=1, max_value=400))
def test_bars_do_not_depend_on_how_far_each_step_reads(eventful: Path, step_s: int) -> None:
    reference, _ = run(eventful)
    minutes, _ = run(eventful, step_ns=step_s * 10**9)
    assert same(reference, minutes)


def test_a_change_of_what_comes_later_changes_nothing_before(tmp_path: Path) -> None:
    for name, price in (("a", 100.0), ("b", 300.0)):
        tape = whole(tmp_path / name, 5.0)
        follow(tape, 5.0, 8.0, price)
        tape.close()
    left, right = run(tmp_path / "a")[0], run(tmp_path / "b")[0]
    assert same({m: left[m] for m in range(5)}, {m: right[m] for m in range(5)})
    assert not same(left, right)

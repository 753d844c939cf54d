"""Whatever happens to a recording's bytes: it replays to contiguous minutes, and no minute that claims to be observed is wrong."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Timeframe
from helios.domain.market import Bar
from helios.errors import DataError
from helios.pipeline.symbol import SymbolState
from helios.store.raw_recording import find_recordings
from helios.venues.replay.raw import open_raw_replay
from tests.support.tape import BTC, MINUTE_NS, Tape, at

MINUTES = 12


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve minutes in chunks of twenty seconds, with an outage that the venue's candles close."""
    directory = tmp_path_factory.mktemp("tape")
    tape = Tape(directory)
    tape.candles(-30, 0, arrives=0.1)
    tape.status("CONNECTED", 0.2)
    tape.book(0.2, is_snapshot=True)
    for third in range(1, 3 * MINUTES):
        minute = third / 3
        if third == 3:
            tape.candles(0, 1, arrives=1.01)
        if third == 19:
            tape.status("DISCONNECTED", minute)
            tape.status("CONNECTED", minute + 0.1)
            tape.book(minute + 0.1, is_snapshot=True)
        if third == 22:
            tape.candles(6, 7, arrives=minute)
        tape.trade(minute + 0.15, 100.0 + third % 7)
        tape.book(minute + 0.2, 99.0 + third % 2 / 2)
        tape.flush()
    tape.close()
    return directory


def minutes(directory: Path) -> list[Bar]:
    source = open_raw_replay(directory)[BTC.symbol]
    state, bars = SymbolState(BTC), []
    for until in (*range(source.start_ns, source.end_ns, MINUTE_NS), source.end_ns):
        state.on_events(source.read_until(until), until)
        bars += state.drain().bars
    return [b for b in bars if b.timeframe is Timeframe.M1]


def told(bar: Bar) -> tuple[float, ...]:
    return (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, bar.trade_count, bar.buy_volume)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_may_cost_minutes_but_never_falsifies_one(
    tape: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    truth = {bar.open_time: bar for bar in minutes(tape)}
    assert sum(math.isnan(b.buy_volume) for b in truth.values()) == 2
    broken = tmp_path_factory.mktemp("broken")
    shutil.copytree(tape, broken, dirs_exist_ok=True)
    [path] = find_recordings(broken)
    path.write_bytes(damaged(bytearray(path.read_bytes()), data))
    try:
        found = minutes(broken)
    except DataError:
        return  # nothing whole was left of the header
    opens = [bar.open_time for bar in found]
    assert opens == list(range(opens[0], opens[0] + len(opens) * MINUTE_NS, MINUTE_NS)) if opens else True
    for bar in found:
        if not math.isnan(bar.buy_volume):
            assert told(bar) == told(truth[bar.open_time]), (bar.open_time - at(0)) / MINUTE_NS


def damaged(content: bytearray, data: st.DataObject) -> bytes:
    """Flip, cut out, double, overwrite and truncate, one to four times."""
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(("flip", "cut", "double", "zero", "truncate")))
        start = data.draw(st.integers(0, max(0, len(content) - 2)))
        length = data.draw(st.integers(1, 600))
        if kind == "flip" and content:
            content[start] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del content[start : start + length]
        elif kind == "double":
            content[start:start] = content[start : start + length]
        elif kind == "zero":
            content[start : start + length] = bytes(len(content[start : start + length]))
        elif kind == "truncate":
            del content[max(start, len(content) // 2) :]
    return bytes(content)

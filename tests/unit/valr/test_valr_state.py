"""What is noted of a connection while its sockets come and go."""

from __future__ import annotations

from helios.venues.valr.session import TradeSession
from helios.venues.valr.state import ConnectionRecord, Phase

S = 1_000_000_000


class SteppingClock:
    """A second later each time it is read."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += S
        return self.now_ns


def test_down_time_runs_from_the_loss_until_the_next_live_connection() -> None:
    record = ConnectionRecord(SteppingClock())
    for phase in (Phase.CONNECTING, Phase.SUBSCRIBING, Phase.LIVE):
        record.enter(phase)
    assert record.state([]).down_s(10**12) == 0.0
    record.lose()
    lost_ns = record.state([]).since_ns
    record.enter(Phase.CONNECTING)
    record.lose()  # an attempt that failed is no second outage
    record.enter(Phase.CONNECTING)
    state = record.state([])
    assert (state.outages, state.phase, state.down_since_ns) == (1, Phase.CONNECTING, lost_ns)
    assert state.down_s(lost_ns + 7 * S) == 7.0


def test_a_stream_that_its_consumer_ends_is_no_outage() -> None:
    record = ConnectionRecord(SteppingClock())
    record.enter(Phase.LIVE)
    record.enter(Phase.DOWN)
    assert record.state([]).outages == 0


def test_counters_outlive_their_sockets() -> None:
    record, first, second = ConnectionRecord(SteppingClock()), TradeSession({"BTCZAR": "BTC/ZAR"}), TradeSession({})
    first.receive("nonsense", 1)
    first.receive('{"type":"ERROR","message":"no"}', 1)
    record.end(first)
    second.receive("nonsense", 1)
    state = record.state([second])
    assert (state.frames, state.protocol_errors, state.server_errors, state.malformed) == (3, 2, 1, {"json": 2})

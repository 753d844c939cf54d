"""Every fault at once, shorter than by hand (`python -m tests.chaos.feed_soak`) and denser, and nothing that was built is wrong."""

from __future__ import annotations

import json

import pytest

from tests.chaos.feed_soak import run, verdict

DENSE = json.dumps({
    "drop_diff": 0.01, "double_diff": 0.01, "wrong_checksum": 0.005, "double_trade": 0.05, "late_trade": 0.05,
    "late_trade_market_s": 40.0, "reorder": 0.02, "malformed": 0.05, "cut_socket_every_s": 6.0, "silence_every_s": 30.0,
    "silence_wall_s": 7.0, "slow_response": 0.1, "empty_page": 0.1, "short_page": 0.1, "missing_newest": 0.1, "html_errors": 0.2,
    "candle_lag": 0.1, "clock_skew_ms": 250.0,
})  # fmt: skip


# Often enough that none can have fallen wholly into a cut or a silence; and so rarely that in the longest wait, in which each of them
# is expected ten times as often or more, none is missing once in ten thousand runs.
WANTED = {"drop_diff": 5, "double_trade": 5, "late_trade": 3, "malformed": 5, "cut_socket": 1, "html_errors": 2}


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(330)
async def test_every_candle_is_true_in_the_end_and_everything_is_counted() -> None:
    report = await run(30.0, DENSE, WANTED)
    assert verdict(report) == []
    assert report["wrong"] == []
    counters, injected = report["counters"], report["injected"]
    assert {fault: injected.get(fault, 0) for fault, count in WANTED.items() if injected.get(fault, 0) < count} == {}
    for kind in ("reconnects", "duplicate_trades", "book_sequence_gap", "malformed", "requests_failed"):
        assert counters[kind] > 0, kind

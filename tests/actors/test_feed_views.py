from __future__ import annotations

from typing import Any

import pytest

from actors.snapshot import feed_views

FEED = {
    "messages": 10, "lag_p50_s": 0.002, "lag_p99_s": 0.04, "reconnects": 1, "minutes_repaired": 3, "minutes_confirmed": 8,
    "minutes_corrected": 2, "late_trades_joined": 1, "syncing": [], "book_sequence_gap": 4, "book_checksum_mismatch": 1,
    "malformed": 1, "events_failed": 1, "refusals": 0, "duplicate_trades": 2, "late_trades_dropped": 0, "minutes_unrepaired": 1,
    "fetches_failed": 5,
}  # fmt: skip


def view(healthy: bool = True, **changes: Any) -> dict[str, Any]:
    (row,) = feed_views({"symbol:BTC/ZAR": {"healthy": healthy, "feed": FEED | changes}, "signal": {"healthy": True}})
    return row


def test_a_row_sums_what_was_lost_and_repaired() -> None:
    row = view()
    assert (row["symbols"], row["status"], row["books_lost"], row["minutes_corrected"], row["faults"]) == (
        "BTC/ZAR",
        "live",
        5,
        3,
        10,
    )
    assert row["lag_p99_ms"] == pytest.approx(40.0)


def test_status_says_what_is_wrong() -> None:
    assert view(down_s=None)["status"] == "live"
    assert view(down_s=3.0, syncing=["BTC/ZAR"])["status"] == "disconnected"
    assert view(syncing=["BTC/ZAR"])["status"] == "repairing"
    assert view(healthy=False)["status"] == "offline"


def test_a_replay_has_no_feed() -> None:
    assert feed_views({"symbol:BTC/ZAR": {"healthy": True, "feed": {"replay": True}}}) == []


def test_a_delay_that_is_not_known_is_not_zero() -> None:
    assert view(lag_p50_s=None, lag_p99_s=None)["lag_p99_ms"] is None

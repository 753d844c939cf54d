"""What the feed counts reaches Prometheus: each count once, by kind and owner."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

import pytest

from actors import metrics as module
from actors.metrics import FeedMetrics


class Instrument:
    """Stands in for Ray's counters and gauges."""

    all: dict[str, Instrument] = {}  # noqa: RUF012 (emptied by the fixture)

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        self.values: Tally[tuple[str, ...]] = Tally()
        self._tag_keys = tag_keys
        Instrument.all[name] = self

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0  # Ray refuses others
        self.values[tuple(tags[key] for key in self._tag_keys)] += value  # type: ignore[assignment]

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[tuple(tags[key] for key in self._tag_keys)] = value  # type: ignore[assignment]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> dict[str, Instrument]:
    Instrument.all = {}
    monkeypatch.setattr(module, "Counter", Instrument)
    monkeypatch.setattr(module, "Gauge", Instrument)
    return Instrument.all


def details(**changes: Any) -> dict[str, Any]:
    return {"lag_p50_s": None, "lag_p99_s": None, "syncing": [], "down_s": None} | changes


def test_running_totals_become_increments(exported: dict[str, Instrument]) -> None:
    metrics = FeedMetrics("BTC/ZAR")
    metrics.observe(details(), {"malformed": 3, "reconnects": 0})
    metrics.observe(details(), {"malformed": 3, "reconnects": 1})
    metrics.observe(details(), {"malformed": 5, "reconnects": 1, "book_sequence_gap": 2})
    assert exported["helios_feed_events_total"].values == {
        ("malformed", "BTC/ZAR"): 5, ("reconnects", "BTC/ZAR"): 1, ("book_sequence_gap", "BTC/ZAR"): 2,
    }  # fmt: skip


def test_an_outage_and_its_end_show(exported: dict[str, Instrument]) -> None:
    metrics, key = FeedMetrics("BTC/ZAR"), ("BTC/ZAR",)
    metrics.observe(details(down_s=12.5, syncing=["BTC/ZAR"]), {})
    assert exported["helios_feed_down_seconds"].values[key] == 12.5
    assert exported["helios_feed_symbols_in_repair"].values[key] == 1
    metrics.observe(details(lag_p50_s=0.004, lag_p99_s=0.02), {})
    assert exported["helios_feed_down_seconds"].values[key] == 0.0
    assert exported["helios_feed_symbols_in_repair"].values[key] == 0
    assert exported["helios_feed_lag_seconds"].values == {("0.5", "BTC/ZAR"): 0.004, ("0.99", "BTC/ZAR"): 0.02}

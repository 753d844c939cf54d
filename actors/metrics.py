"""What the desk exports through Ray's metrics (Prometheus names get the prefix `ray_`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from helios.domain.orders import AccountSnapshot
from helios.pipeline.cycle import CycleResult

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]


class DeskMetrics:
    """Counters and histograms of the decision cycle."""

    def __init__(self) -> None:
        self._signals = Counter("helios_signal_total", "Predictions by action", ("action", "symbol"))
        self._decisions = Counter("helios_decision_total", "Decisions by outcome", ("outcome",))
        self._orders = Counter("helios_orders_total", "Orders by status", ("status",))
        self._denied = Counter("helios_order_denied_total", "Orders refused before sending, by code", ("reason",))
        self._verdicts = Counter("helios_llm_verdict_total", "Review verdicts", ("verdict",))
        self._tiers = Histogram("helios_tier_seconds", "Wall seconds per tier and cycle", _SECONDS, ("tier",))
        self._cycle = Histogram("helios_cycle_seconds", "Wall seconds per decision cycle", _SECONDS)
        self._errors = Counter("helios_tier_errors_total", "Tiers that could not answer", ("tier",))

    def observe(self, result: CycleResult, total_s: float) -> None:
        """Count one cycle."""
        for prediction in result.predictions:
            self._signals.inc(tags={"action": prediction.action.name, "symbol": prediction.symbol})
        for trace in result.traces:
            self._decisions.inc(tags={"outcome": trace.outcome})
        for outcome in result.outcomes:
            self._orders.inc(tags={"status": outcome.record.status.value})
            for code in outcome.record.deny_codes:
                self._denied.inc(tags={"reason": code})
        for verdict in result.verdicts:
            self._verdicts.inc(tags={"verdict": verdict.kind.value})
        for tier, seconds in result.durations_s.items():
            self._tiers.observe(max(seconds, 1e-9), tags={"tier": tier})
        for error in result.errors:
            self._errors.inc(tags={"tier": error.split(":", 1)[0]})
        self._cycle.observe(max(total_s, 1e-9))


class StoreMetrics:
    """Gauges of the way to the database, set by the Recorder; totals are of its present incarnation."""

    def __init__(self) -> None:
        self._gauges = {
            "buffered": Gauge("helios_store_buffered_rows", "Market data rows waiting for the database"),
            "dropped": Gauge("helios_store_dropped_rows", "Market data rows lost because a buffer was full"),
            "written": Gauge("helios_store_written_rows", "Market data rows written"),
            "refused": Gauge("helios_store_refused_rows", "Market data rows the database would not take"),
            "failures": Gauge("helios_store_failures", "Flushes that found the database away"),
            "seconds_since_success": Gauge("helios_store_seconds_since_success", "Seconds since the database last answered"),
        }

    def observe(self, counters: Mapping[str, float]) -> None:
        """Set all gauges."""
        for name, gauge in self._gauges.items():
            gauge.set(counters[name])


class AccountMetrics:
    """Gauges of the account, set by the Supervisor."""

    def __init__(self) -> None:
        self._equity = Gauge("helios_equity_quote", "Equity marked to market, quote currency")
        self._drawdown = Gauge("helios_drawdown_ratio", "Drawdown from the peak, positive fraction")
        self._positions = Gauge("helios_open_positions", "Open positions")
        self._state = Gauge("helios_engine_state", "1 for the present engine state", ("state",))
        self._restarts = Gauge("helios_component_restarts", "Restarts seen by the supervisor", ("component",))
        self._last_state = ""

    def observe(self, account: AccountSnapshot, state: str, restarts: dict[str, int]) -> None:
        """Set all gauges."""
        self._equity.set(float(account.equity_quote))
        self._drawdown.set(account.drawdown)
        self._positions.set(len(account.open_positions))
        if self._last_state and self._last_state != state:
            self._state.set(0, tags={"state": self._last_state})
        self._state.set(1, tags={"state": state})
        self._last_state = state
        for component, count in restarts.items():
            self._restarts.set(count, tags={"component": component})


class FeedMetrics:
    """What happened to market data on its way in, per owner of symbols. Counters of the feed come in as running totals."""

    def __init__(self, owner: str) -> None:
        self._events = Counter("helios_feed_events_total", "Messages, faults, repairs and revisions by kind", ("kind", "owner"))
        self._lag = Gauge("helios_feed_lag_seconds", "Venue time to processed, wall seconds", ("quantile", "owner"))
        self._syncing = Gauge("helios_feed_symbols_in_repair", "Symbols out of trading until their candles are whole", ("owner",))
        self._down = Gauge("helios_feed_down_seconds", "Without a connection to the venue, 0 while there is one", ("owner",))
        self._owner = owner
        self._known: dict[str, int] = {}

    def observe(self, details: Mapping[str, Any], totals: Mapping[str, int]) -> None:
        """Export what was counted since the last call and the present delays."""
        for kind, total in totals.items():
            grown = total - self._known.get(kind, 0)
            if grown > 0:
                self._events.inc(grown, tags={"kind": kind, "owner": self._owner})
        self._known = dict(totals)
        for name, quantile in (("lag_p50_s", "0.5"), ("lag_p99_s", "0.99")):
            if details[name] is not None:
                self._lag.set(details[name], tags={"quantile": quantile, "owner": self._owner})
        self._syncing.set(len(details["syncing"]), tags={"owner": self._owner})
        self._down.set(details["down_s"] or 0.0, tags={"owner": self._owner})

"""The one JSON object a finished run prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helios.cli.rundir import RunInfo

COUNTED = (
    "candles",
    "trades",
    "feature_rows",
    "feature_windows",
    "predictions",
    "plans",
    "reviews",
    "orders",
    "fills",
    "exits",
    "decisions",
    "denied",
)


def summarise(snapshot: Mapping[str, Any], info: RunInfo, wall_s: float) -> dict[str, Any]:
    """Return what the run did; money as decimal strings, latencies in milliseconds per tier."""
    counters = snapshot.get("counters", {})
    first = snapshot.get("first_prediction_at")
    return {
        "run_id": info.run_id,
        "venue": info.venue,
        "state": snapshot.get("state"),
        "mode": snapshot.get("mode"),
        "running_s": round(wall_s, 1),
        "first_prediction_s": round(first - info.started_at, 1) if first else None,
        **{name: counters.get(name, 0) for name in COUNTED},
        "outcomes": snapshot.get("outcomes", {}),
        "equity": snapshot.get("equity"),
        "currency": info.currency,
        "realised_pnl": snapshot.get("realised_pnl"),
        "unrealised_pnl": snapshot.get("unrealised_pnl"),
        "fees": snapshot.get("fees"),
        "drawdown": snapshot.get("drawdown"),
        "open_positions": sum(not p.get("is_dust") for p in snapshot.get("positions", [])),
        "closed_trades": snapshot.get("closed_trades", 0),
        "market_time_ns": snapshot.get("market_time_ns"),
        "replay": snapshot.get("replay"),
        "flow_features": snapshot.get("flow_features", {}),
        "latency_ms": snapshot.get("latency_ms", {}),
        "restarts": counters.get("restarts", 0),
        "late_windows": counters.get("late_windows", 0),
        "errors": counters.get("errors", 0),
        "last_errors": snapshot.get("errors", []),
        "model": snapshot.get("model", {}).get("version"),
        "is_synthetic": snapshot.get("is_synthetic", False),
    }

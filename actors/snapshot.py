"""Plain JSON views of the account and the tiers, for the API and the dashboard."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from helios.domain.orders import AccountSnapshot, PositionView
from helios.domain.universe import Member
from helios.portfolio.daily import performance

TIERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("data", "Data", ("symbol:",)),
    ("prediction", "Prediction", ("signal",)),
    ("risk", "Risk", ("risk",)),
    ("review", "Review", ("review",)),
    ("portfolio", "Portfolio", ("portfolio",)),
    ("execution", "Execution", ("execution",)),
    ("storage", "Storage", ("recorder",)),
)

NO_MARKET: Mapping[str, Any] = {
    "last_price": None, "spread_bps": None, "best_bid": None, "best_ask": None, "is_warm": False, "is_stale": True,
    "last_event_ns": 0, "book_desyncs": 0, "late_trades": 0, "duplicate_trades": 0,
}  # fmt: skip
"""Of a symbol whose owner has not spoken yet."""


def account_view(account: AccountSnapshot, initial_cash: Decimal) -> dict[str, Any]:
    """Return the account with money as decimal strings, and its record over what was paid in (`initial_cash` and transfers)."""
    return {
        "equity": str(account.equity_quote),
        "cash": str(account.cash_quote),
        "peak_equity": str(account.peak_equity_quote),
        "day_start_equity": str(account.day_start_equity_quote),
        "realised_pnl": str(account.realised_pnl_quote),
        "unrealised_pnl": str(account.unrealised_pnl_quote),
        "fees": str(account.fees_quote),
        "drawdown": account.drawdown,
        "daily_loss": account.daily_loss,
        "closed_trades": account.closed_trades,
        "winning_trades": account.winning_trades,
        "entries_today": account.entries_today,
        "consecutive_losses": account.consecutive_losses,
        "performance": performance(account, initial_cash),
        "positions": [position_view(p) for p in account.positions],
    }


def position_view(position: PositionView) -> dict[str, Any]:
    """Return one position; P&L percent is of the entry value."""
    cost = abs(position.quantity_base) * position.average_price
    return {
        "symbol": position.symbol,
        "side": "LONG" if position.quantity_base > 0 else "SHORT",
        "quantity": str(abs(position.quantity_base)),
        "average_price": str(position.average_price),
        "mark_price": str(position.mark_price),
        "notional": str(position.notional_quote),
        "unrealised_pnl": str(position.unrealised_pnl_quote),
        "unrealised_pnl_pct": float(position.unrealised_pnl_quote / cost) if cost else 0.0,
        "stop_price": position.stop_price,
        "target_price": position.target_price,
        "expires_at": position.expires_at,
        "opened_at": position.opened_at,
        "leverage": position.leverage,
        "decision_id": position.decision_id,
        "is_dust": position.is_dust,
    }


def member_view(member: Member) -> dict[str, Any]:
    """Return one symbol of the desk; nothing of its market is known."""
    return {"symbol": member.symbol, "origin": member.origin.value, "reduce_only": member.reduce_only}


def symbol_views(members: Sequence[Member], status: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per symbol, in alphabetical order: why it is followed, and its market as its owner last told."""
    markets = {row["symbol"]: row for each in status.values() for row in each.get("symbols", [])}
    rows = [NO_MARKET | markets.get(m.symbol, {}) | member_view(m) for m in members]
    return sorted(rows, key=lambda row: str(row["symbol"]))


def tier_views(status: Mapping[str, Mapping[str, Any]], restarts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return one row per tier. A tier nobody has heard from is `unknown`, never assumed healthy."""
    latency = status.get("signal", {}).get("latency_ms", {})
    rows = []
    for tier, title, prefixes in TIERS:
        members = {n: s for n, s in status.items() if n.startswith(prefixes)}
        rows.append(
            {
                "id": tier,
                "name": title,
                "status": _tier_status(members),
                "members": len(members),
                "restarts": sum(restarts.get(n, 0) for n in members),
                "errors": sum(int(s.get("faults", 0)) for s in members.values()),
                "latency_ms": latency.get(tier, {}),
            }
        )
    return rows


def _tier_status(members: Mapping[str, Mapping[str, Any]]) -> str:
    if not members:
        return "unknown"
    healthy = sum(bool(s.get("healthy")) for s in members.values())
    if healthy == 0:
        return "offline"
    if any(s.get("model_answers") is False for s in members.values()):
        return "critical"  # the last bar had no prediction: nothing is traded until the model answers again
    if any(s.get("is_away") for s in members.values()):
        return "critical"  # the database does not answer: what was seen waits, no entry is sent until it does
    stale = any(symbol.get("is_stale") for s in members.values() for symbol in s.get("symbols", []))
    return "healthy" if healthy == len(members) and not stale else "degraded"


FEED_FAULTS = (
    "malformed",
    "events_failed",
    "refusals",
    "duplicate_trades",
    "late_trades_dropped",
    "minutes_unrepaired",
    "fetches_failed",
)


def feed_views(status: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per owner of symbols: how market data comes in and what had to be repaired. Empty in a replay."""
    rows = []
    for name, owner in sorted(status.items()):
        feed = owner.get("feed", {})
        if name.startswith("symbol:") and "messages" in feed:
            books_lost = sum(count for kind, count in feed.items() if kind.startswith("book_"))
            rows.append(
                {
                    "symbols": name.removeprefix("symbol:"),
                    "status": _feed_status(owner, feed),
                    "lag_p50_ms": None if feed["lag_p50_s"] is None else 1e3 * feed["lag_p50_s"],
                    "lag_p99_ms": None if feed["lag_p99_s"] is None else 1e3 * feed["lag_p99_s"],
                    "messages": feed["messages"],
                    "reconnects": feed["reconnects"],
                    "books_lost": books_lost,
                    "minutes_repaired": feed["minutes_repaired"],
                    "minutes_confirmed": feed["minutes_confirmed"],
                    "minutes_corrected": feed["minutes_corrected"] + feed["late_trades_joined"],
                    "faults": sum(feed[kind] for kind in FEED_FAULTS),
                }
            )
    return rows


def _feed_status(owner: Mapping[str, Any], feed: Mapping[str, Any]) -> str:
    if not owner.get("healthy"):
        return "offline"
    if feed.get("down_s") is not None:
        return "disconnected"
    return "repairing" if feed["syncing"] else "live"


def newest_market_time(status: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the newest market time that any component has reported, ns UTC; 0 before any."""
    times = [s.get("feed", {}).get("market_time_ns", 0) for s in status.values()]
    return max([*times, status.get("signal", {}).get("bar_time", 0)])


def counters(status: Mapping[str, Mapping[str, Any]], restarts: Mapping[str, int]) -> dict[str, int]:
    """Return what the desk has done since its components began; who has not answered yet counts nothing."""
    recorder, execution, signal = (status.get(name, {}) for name in ("recorder", "execution", "signal"))
    return {
        **{name: recorder.get(name, 0) for name in ("candles", "feature_rows", "trades")},
        **signal.get("counters", {}),
        **{name: execution.get(name, 0) for name in ("orders", "fills", "denied", "exits")},
        "restarts": sum(restarts.values()),
        "errors": signal.get("error_count", 0),
    }


def component_views(
    names: Sequence[str], status: Mapping[str, Mapping[str, Any]], restarts: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return one row per component; one that has never answered is unhealthy."""
    now = time.time()
    return [
        {
            "name": name,
            "pid": each.get("pid"),
            "healthy": bool(each.get("healthy")),
            "uptime_s": round(now - each["born"], 1) if "born" in each else None,
            "restarts": restarts.get(name, 0),
            "error": each.get("error", ""),
        }
        for name, each in ((n, status.get(n, {})) for n in names)
    ]

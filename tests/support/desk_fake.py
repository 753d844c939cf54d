"""A desk for tests of the API: hand-written answers, no Ray, no database. Implements serve.backend.Backend."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helios.domain.enums import Timeframe
from helios.domain.events import EngineEvent
from helios.errors import HeliosError, RejectedError
from helios.portfolio.daily import daily_figures

MINUTE_NS = 60_000_000_000
START_NS = 1_767_225_600_000_000_000
SYMBOLS = ("BTC/ZAR", "ETH/ZAR", "SOL/ZAR", "XRP/ZAR")
TIERS = ("data", "prediction", "risk", "review", "portfolio", "execution", "storage")


class FakeDesk:
    """Four symbols, two positions; `equity` may be moved, `error` makes every question fail."""

    def __init__(self) -> None:
        self.equity = Decimal(101500)
        self.state = "RUNNING"
        self.market_time_ns = START_NS + 600 * MINUTE_NS
        self.error: HeliosError | None = None
        self.has_account = True
        self.has_status = True
        self.commands: list[tuple[str, ...]] = []
        self.n_snapshots = 0
        self.predicted: list[NDArray[np.float32]] = []
        self.trading_state = "ACTIVE"
        self.trips: list[dict[str, Any]] = []
        self.attributed: list[tuple[Any, ...]] = []
        self.left: set[str] = set()
        self.has_dust = False
        self.note = "Signal below the entry threshold"

    # ---- Backend -------------------------------------------------------------------------------------------------------

    async def snapshot(self) -> dict[str, Any]:
        self._check()
        self.n_snapshots += 1
        return self._about() | self._engine() | (self._account() if self.has_account else {})

    async def command(self, name: str, *args: str) -> Any:
        self._check()
        self.commands.append((name, *args))
        if name == "resume" and self.state == "EMERGENCY_STOP":
            raise RejectedError("the emergency stop must be cleared first (helios emergency-stop --clear)")
        if name == "set_mode":
            if args[0] == "live" and args[1] != "I_CONFIRM_LIVE_TRADING":
                raise RejectedError("live trading needs the exact confirmation I_CONFIRM_LIVE_TRADING")
            return args[0].upper()
        if name in ("add_symbol", "remove_symbol"):
            if args[0] == "BTC/ZAR":
                raise RejectedError("BTC/ZAR is traded already")
            self.left = {*self.left, args[0]} if name == "remove_symbol" else self.left - {args[0]}
            return {"symbol": args[0], "origin": "ADDED", "reduce_only": name == "remove_symbol"}
        states = {"pause": "PAUSED", "resume": "RUNNING", "emergency_stop": "EMERGENCY_STOP", "clear": "PAUSED"}
        self.state = states.get(name, self.state)
        if name == "move":
            if args[2] == "-1e9":
                raise RejectedError("1000000000 ZAR cannot be withdrawn: there are 88211.44")
            return {"movement_id": args[0], "equity": str(self.equity)}
        if name == "reset_breakers":
            return {"trading_state": "ACTIVE", "trips": []}
        return {"state": self.state, "still_open": []} if name == "emergency_stop" else self.state

    async def predict(self, values: NDArray[np.float32]) -> dict[str, Any]:
        self._check()
        self.predicted.append(values)
        n = len(values)
        return {
            "probabilities": np.tile(np.float32([0.2, 0.7, 0.1]), (n, 1)),
            "attention": np.tile(np.float32([0.5, 0.3, 0.2]), (n, 1)),
            "model_version": "starter",
        }

    async def orders(self, limit: int) -> list[dict[str, Any]]:
        self._check()
        return self._orders()[:limit]

    async def fills(self, limit: int) -> list[dict[str, Any]]:
        self._check()
        row = {
            "fill_id": "f1",
            "symbol": "BTC/ZAR",
            "price": Decimal("1845000.10"),
            "executed_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        return [row][:limit]

    async def events(self, limit: int) -> list[Any]:
        self._check()
        return [EngineEvent("STATE", "INFO", "supervisor", "STARTING -> RUNNING: start", START_NS, {})][:limit]

    async def decisions(self, limit: int, symbol: str | None, after: tuple[int, str] | None) -> list[dict[str, Any]]:
        self._check()
        rows = [d | {"bar_time_ns": d["bar_time"]} for d in self._decisions() if symbol in (None, d["symbol"])]
        if after is not None:
            rows = [d for d in rows if (-d["bar_time_ns"], d["symbol"]) > (-after[0], after[1])]
        return rows[:limit]

    async def candles(self, symbol: str, timeframe: Timeframe, limit: int) -> list[dict[str, Any]]:
        self._check()
        bars = [{"open_time": START_NS + i * timeframe.ns, "close": 100.0 + i, "buy_volume": float("nan")} for i in range(600)]
        return bars[-limit:] if symbol in SYMBOLS else []

    async def explain(self, decision_id: str) -> dict[str, Any]:
        self._check()
        found = [d for d in self._decisions() if d["decision_id"].startswith(decision_id)]
        if len(found) != 1:
            raise RejectedError(f"no decision has an id that starts with {decision_id!r}")
        steps = {
            "prediction": {"action": "BUY", "confidence": 0.72, "probabilities": [0.72, 0.1, 0.18], "model_version": "starter"},
            "plan": {"side": "BUY", "notional_quote": "4200.00", "leverage": 1.4, "regime": "NORMAL", "notes": ["half Kelly"]},
            "review": {"verdict": "APPROVE", "reasoning": "Trend and flow agree.", "reviewer": "rules", "risk_flags": []},
        }
        return found[0] | {"steps": steps, "orders": self._orders()[:1], "order_events": [], "fills": []}

    async def attribution(self, by: str, first_day: int | None, last_day: int | None) -> dict[str, Any]:
        self._check()
        self.attributed.append((by, first_day, last_day))
        return {"by": by, "stages": {"totals": {"pnl_quote": Decimal("12.50")}, "groups": []}}

    async def daily(self, days: int) -> list[dict[str, Any]]:
        self._check()
        points = [
            {"ts_ns": START_NS + n * 86_400_000_000_000, "equity_quote": Decimal(f"10000{n}.10"), "transfers_quote": Decimal(0),
             "open_positions": 2, "drawdown": 0.01}
            for n in range(4)
        ]  # fmt: skip
        return [asdict(line) for line in daily_figures(points)][-days:]

    async def aclose(self) -> None:
        return

    # ---- values --------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _about(self) -> dict[str, Any]:
        return {
            "version": "0.1.0", "venue": "sandbox", "is_synthetic": True, "speed": 60.0, "currency": "ZAR",
            "decision_timeframe": "1m", "config_digest": "abc123", "run_id": "run-1",
            "model": {
                "version": "starter", "preset": "small", "parameter_count": 412_345, "trained_on": "synthetic sandbox history",
                "phase": "starter", "beats_baselines": False, "verdict": "Not evaluated.", "created": "2026-01-01",
            },
            "disclaimer": "Research software. Paper trading. Nothing here is financial advice.",
        }  # fmt: skip

    def _symbols(self) -> list[dict[str, Any]]:
        prices = (1_835_000.0, 69_895.0, 3_240.0, 41.5)
        return [
            {"symbol": s, "origin": "CONFIGURED", "reduce_only": s in self.left, "is_warm": s != "XRP/ZAR", "is_stale": False,
             "last_price": p + float(self.equity) % 7, "spread_bps": 2.6, "best_bid": p, "best_ask": p}
            for s, p in zip(SYMBOLS, prices)
        ]  # fmt: skip

    def _engine(self) -> dict[str, Any]:
        return {
            "state": self.state, "mode": "PAPER", "market_time_ns": self.market_time_ns, "uptime_s": 612.4,
            "heartbeat": 1.0, "symbols": self._symbols(), "outcomes": {"ORDERED": 3, "NO_EDGE": 41},
            "counters": {"restarts": 1, "errors": 0},
            "predictions": self._predictions() if self.has_status else [], "decisions": self._decisions(),
            "latency_ms": {"prediction": {"p50": 2.9, "p95": 4.4, "p99": 6.0}}, "first_prediction_at": 5.0, "replay": None,
            "errors": [], "orders": self._orders(), "tiers": self._tiers(),
            "trading_state": self.trading_state, "trips": self.trips, "risk": self._risk(), "volatility": self._volatility(),
            "feeds": self._feeds(), "components": [], "emergency_still_open": [],
            "equity_history": [[(START_NS + i * MINUTE_NS) // 1_000_000, 100_000 + 2.5 * i + 60 * ((i // 7) % 11 - 5)]
                               for i in range(600)],
        }  # fmt: skip

    def _account(self) -> dict[str, Any]:
        return {
            "equity": str(self.equity), "cash": "88211.4400", "peak_equity": "102000", "day_start_equity": "100000",
            "realised_pnl": "1210.55", "unrealised_pnl": "-289.45", "fees": "61.2", "drawdown": 0.0049, "daily_loss": 0.0,
            "closed_trades": 7, "winning_trades": 4, "entries_today": 9, "consecutive_losses": 1,
            "performance": {"total_return": 0.015, "total_pnl_quote": "1500", "win_rate": 4 / 7, "closed_trades": 7},
            "positions": [_position("BTC/ZAR", "LONG", "0.00345", "1845000.1", "1851200", "21.39", 0.0034),
                          _position("XRP/ZAR", "SHORT", "1500", "39.871", "40.08", "-313.5", -0.0052) | {"is_dust": self.has_dust}],
        }  # fmt: skip

    def _predictions(self) -> list[dict[str, Any]]:
        actions = (("BUY", 0.72), ("HOLD", 0.51), ("SELL", 0.64), ("HOLD", 0.44))
        return [
            {
                "symbol": symbol, "bar_time": self.market_time_ns, "action": action, "confidence": confidence,
                "probabilities": [0.2, 0.3, 0.5], "attention": [0.5, 0.3, 0.2], "model_version": "starter",
            }
            for symbol, (action, confidence) in zip(SYMBOLS, actions)
        ]  # fmt: skip

    def _decisions(self) -> list[dict[str, Any]]:
        codes = (("ORDERED", "execution", "FILLED"), ("HOLD", "prediction", self.note), ("NO_EDGE", "risk", "Kelly 0.00"))
        return [
            {
                "decision_id": f"{bar:02d}{i}{'abcdef0123456789abcde'}", "symbol": symbol,
                "bar_time": START_NS + (600 - bar) * MINUTE_NS, "outcome": codes[(bar + i) % 3][0],
                "tier": codes[(bar + i) % 3][1], "detail": codes[(bar + i) % 3][2],
            }
            for bar in range(5)
            for i, symbol in enumerate(SYMBOLS)
        ]  # fmt: skip

    def _orders(self) -> list[dict[str, Any]]:
        return [
            {
                "client_order_id": f"h-{i}", "decision_id": "000abcdef", "symbol": SYMBOLS[i % 4], "side": 1 if i % 2 else -1,
                "quantity_base": Decimal("0.0034500"), "filled_base": Decimal("0.0034500"), "status": "FILLED", "leg": "entry",
                "average_price": Decimal("1845000.10"), "reason": "", "deny_codes": [], "reduce_only": False,
                "ts_event": START_NS + (600 - i) * MINUTE_NS, "ts_updated": START_NS, "fee_quote": Decimal("6.36"),
            }
            for i in range(6)
        ]  # fmt: skip

    def _tiers(self) -> list[dict[str, Any]]:
        status = {"review": "degraded"} if self.has_status else dict.fromkeys(TIERS, "unknown")
        latency = {"p50": 2.91, "p95": 4.4, "p99": 6.0} if self.has_status else {}
        return [
            {"id": t, "name": t.title(), "status": status.get(t, "healthy"), "members": 1, "restarts": 0, "errors": 0,
             "latency_ms": {} if t == "data" else latency}
            for t in TIERS
        ]  # fmt: skip

    def _risk(self) -> dict[str, Any] | None:
        if not self.has_account:
            return None
        rows = (("drawdown", "", 0.0049, 0.15), ("position", "BTC/ZAR", 0.17, 0.20), ("open_positions", "", 2.0, 10.0))
        return {
            "limit_utilisation": [{"name": n, "of": of, "value": v, "limit": m, "share": v / m} for n, of, v, m in rows],
            "tails": [{"method": "historical", "level": 0.95, "var": 0.0213, "cvar": 0.0305}],
            "risk_score": 31.4, "gross_exposure": 0.24, "beta_market": 0.81, "sharpe_30d": None, "max_drawdown": 0.031,
            "mean_correlation": 0.56, "correlation_regime": "COUPLED",
        }  # fmt: skip

    def _volatility(self) -> list[dict[str, Any]]:
        regimes = ("LOW", "MEDIUM", "HIGH", "EXTREME")
        return [
            {"symbol": s, "daily_volatility": 0.02 + 0.01 * i, "annualized_volatility": 0.38 + 0.19 * i, "regime": regimes[i],
             "method": "GARCH", "ratio": 0.9 + 0.5 * i}
            for i, s in enumerate(SYMBOLS)
        ]  # fmt: skip

    def _feeds(self) -> list[dict[str, Any]]:
        return [
            {"symbols": symbol, "status": "repairing" if i == 1 else "live", "lag_p50_ms": 3.2, "lag_p99_ms": 18.4,
             "messages": 48_211, "reconnects": i, "books_lost": 2 * i, "minutes_repaired": 5 * i, "minutes_confirmed": 612,
             "minutes_corrected": i, "faults": i}
            for i, symbol in enumerate(SYMBOLS)
        ]  # fmt: skip


def _position(symbol: str, side: str, quantity: str, entry: str, mark: str, pnl: str, pct: float) -> dict[str, Any]:
    return {
        "symbol": symbol, "side": side, "quantity": quantity, "average_price": entry, "mark_price": mark, "notional": "6386.64",
        "unrealised_pnl": pnl, "unrealised_pnl_pct": pct, "stop_price": float(entry) * 0.98, "target_price": None,
        "expires_at": 0, "opened_at": START_NS, "leverage": 1.0, "decision_id": "000abcdef",
    }  # fmt: skip

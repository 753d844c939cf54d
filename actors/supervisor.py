"""Supervisor: the one writer of the engine's state, the health loop, the kill switch, and the snapshot everybody shows.

A component that does not answer is reported as such until its next answer; Ray restarts it, the ping makes it load its state.
Killed itself: the stored state is loaded again; trading goes on meanwhile, since no tier waits for the Supervisor.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.base import DeskSpec, HeliosActor
from actors.breakers import BreakerWatch
from actors.metrics import AccountMetrics
from actors.peers import PeerLookup
from actors.remote import call
from actors.snapshot import (
    account_view,
    component_views,
    counters,
    feed_views,
    member_view,
    newest_market_time,
    symbol_views,
    tier_views,
)
from actors.universe import UniverseWatch
from helios.domain.enums import EngineState, TradingMode, TradingState
from helios.domain.events import EngineEvent
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot
from helios.domain.universe import Member
from helios.errors import HeliosError, RejectedError
from helios.pipeline.engine_state import allows_entries, next_mode, next_state, resumed_state
from helios.portfolio.movements import movement_of
from helios.store.engine_store import EngineStore
from helios.store.pool import connect
from helios.store.universe import UniverseStore

HEALTH_INTERVAL_S = 0.5
PING_TIMEOUT_S = 3.0
EQUITY_INTERVAL_S = 1.0
MOVE_TIMEOUT_S = 8.0
KILL_SWITCH = ".kill_switch"
FLATTEN_ATTEMPTS = 8
FLATTEN_PAUSE_S, MAX_FLATTEN_PAUSE_S = 1.0, 60.0
"""Between later attempts; it doubles, for a rest that no venue takes (dust) would be offered for ever."""
RISK_INTERVAL_S = 5.0
START_GRACE_S = 60.0
"""How much longer who has not answered yet may take: a cold machine starts its actors slowly."""
SILENT_AFTER_S = 10.0
"""A killed actor is back within three seconds; who has not answered for so long is counted as unhealthy."""


class Supervisor(HeliosActor):
    """Own the engine state.

    Parameters
    ----------
    spec : DeskSpec
    components : sequence of str
        Names of the actors to watch from the start on.
    instruments : mapping
        Of the symbols the desk is started with.
    peers : PeerLookup
    about : mapping
        What does not change during the run (venue, model card, currency ...), shown in the snapshot.
    """

    name = "supervisor"

    def __init__(
        self,
        spec: DeskSpec,
        components: Sequence[str],
        instruments: Mapping[str, Instrument],
        peers: PeerLookup,
        about: Mapping[str, Any],
    ) -> None:
        super().__init__(spec)
        self._first_components = tuple(components)
        self._peers = peers
        self._about = dict(about)
        self.state = EngineState.STOPPED
        self.mode = TradingMode.PAPER
        self._store: EngineStore | None = None
        self._account: AccountSnapshot | None = None
        self._status: dict[str, dict[str, Any]] = {}
        self._pids: dict[str, int] = {}
        self._restarts: dict[str, int] = {}
        self._equity: deque[tuple[int, float]] = deque(maxlen=600)
        self._orders: list[dict[str, Any]] = []
        self._turn = asyncio.Lock()
        self._metrics: AccountMetrics | None = None
        self._emergency_left: list[str] = []
        self._halted_from: EngineState | None = None
        self._flatten_pause_s = FLATTEN_PAUSE_S
        self._flatten_again = 0.0
        self._heard: dict[str, float] = {}
        self._born_mono = time.monotonic()
        self._breakers = BreakerWatch(lambda: peers("execution"), self.log)
        self._universe = UniverseWatch(spec, instruments, peers, self.log)
        self._beat = time.time()
        self._risk: dict[str, Any] | None = None

    async def on_start(self) -> None:
        pool = await connect(self.spec.dsn, max_size=2)
        self._store = EngineStore(pool)
        await self._universe.load(UniverseStore(pool, self.spec.run_id), self._store)
        self.state, self.mode = await self._store.load_state()
        self._metrics = AccountMetrics()
        self.spawn(self._health(), "health")
        self.spawn(self._watch_kill_switch(), "kill-switch")
        self.spawn(self._watch_risk(), "risk-report")
        self.spawn(self._watch_universe(), "universe")

    # ---- commands ------------------------------------------------------------------------------------------------------

    async def begin(self) -> str:
        """Start trading, or stay paused or halted if that is how the last run ended."""
        await self.ready()
        wanted = resumed_state(self.state)
        async with self._turn:
            # In memory through the table; stored is the final state alone, so that a crash here forgets no emergency stop.
            self.state = next_state(next_state(EngineState.STOPPED, EngineState.STARTING), wanted)
            await self._told_and_stored(f"start: {self.state.value}")
        await self._note_run()
        return self.state.value

    async def _note_run(self) -> None:
        """Write down what the run depends on, once a run id; secrets are no part of the configuration."""
        assert self._store is not None
        config = self.config.model_dump(mode="json")
        try:
            await self._store.start_run(self.spec.run_id, self.config.digest(), config, str(self._about.get("venue", "")))
        except HeliosError as error:
            self.log.warning("run not noted: %s", error)

    async def pause(self) -> str:
        """Open nothing new; exits go on."""
        return await self._command(EngineState.PAUSED, "pause")

    async def resume(self) -> str:
        """Trade again after a pause or while reducing."""
        await self.ready()
        if self.state is EngineState.EMERGENCY_STOP:
            raise RejectedError("the emergency stop must be cleared first (helios emergency-stop --clear)")
        if (Path(self.spec.state_dir) / KILL_SWITCH).exists():
            raise RejectedError("the kill switch file is still there")
        return await self._command(EngineState.RUNNING, "resume")

    async def emergency_stop(self, reason: str) -> dict[str, Any]:
        """Cancel, flatten, verify flat; stay halted until cleared. Returns what is still open, and of what only dust is left."""
        await self.ready()
        async with self._turn:
            await self._go(EngineState.EMERGENCY_STOP, reason)
            self._halted_from, self._flatten_pause_s = None, FLATTEN_PAUSE_S
            self._emergency_left = await self._flatten(FLATTEN_ATTEMPTS)
            await self._mark_account()
        dust = [] if self._account is None else list(self._account.dust)
        return {"state": self.state.value, "still_open": self._emergency_left, "dust": dust}

    async def clear(self) -> str:
        """Acknowledge an emergency stop: the breakers behind it are reset and the engine is paused, not trading."""
        await self.ready()
        if self.state is not EngineState.EMERGENCY_STOP:
            raise RejectedError(f"nothing to clear: the engine is {self.state.value}")
        await self.reset_breakers()
        return await self._command(EngineState.PAUSED, "emergency stop cleared")

    async def reset_breakers(self, code: str | None = None) -> dict[str, Any]:
        """Release what has tripped (under `code`, or all) and no longer holds; a drawdown then counts from the present equity."""
        await self.ready()
        assert self._store is not None
        self._account = await self._breakers.reset(code, self._store, self.market_time_ns)
        return {"trading_state": self._account.trading_state.value, "trips": list(self._account.trips)}

    async def move(self, movement_id: str, kind: str, amount: str, symbol: str, currency: str, value: str) -> dict[str, Any]:
        """Book a deposit, a withdrawal or funding at the present market time and write down who says so; see `movement_of`."""
        await self.ready()
        if not self.market_time_ns:
            raise RejectedError("the desk does not know the market's time yet")
        movement = movement_of(movement_id, kind, amount, self.market_time_ns, symbol, currency, value)
        self._account = await call(self._peers("execution").move.remote(movement), MOVE_TIMEOUT_S, "execution")
        told = f"{movement.kind.value} of {movement.amount} {movement.symbol or movement.currency}".rstrip()
        await self._note("MOVEMENT", told, {"movement_id": movement_id})
        shown = account_view(self._account, self.config.desk.initial_cash_quote)
        return {"movement_id": movement_id} | {name: shown[name] for name in ("equity", "cash", "drawdown", "performance")}

    async def _note(self, kind: str, message: str, data: dict[str, Any]) -> None:
        assert self._store is not None
        try:
            await self._store.add_event(EngineEvent(kind, "INFO", self.name, message, self.market_time_ns, data))
        except HeliosError as error:
            self.log.warning("event not stored: %s", error)

    async def add_symbol(self, name: str) -> dict[str, Any]:
        """Trade a symbol from now on; see `UniverseWatch.add`."""
        await self.ready()
        return await self._told_of(await self._universe.add(name, self.market_time_ns))

    async def remove_symbol(self, name: str) -> dict[str, Any]:
        """Open nothing more in a symbol; see `UniverseWatch.remove`."""
        await self.ready()
        return await self._told_of(await self._universe.remove(name, self.market_time_ns))

    async def _told_of(self, member: Member) -> dict[str, Any]:
        await self._universe.look(None, self._pids)
        return member_view(member)

    async def own(self, owners: Sequence[str]) -> list[tuple[str, tuple[Instrument, ...]]]:
        """Hear from the process that owns the actors which owners of later symbols exist; say which should, with their symbols."""
        await self.ready()
        wanted = self._universe.own(owners)
        for name in self._status.keys() - {*self._components}:
            for known in (self._status, self._pids, self._restarts, self._heard):
                known.pop(name, None)
        return wanted

    async def set_mode(self, mode: str, confirmation: str = "") -> str:
        """Switch between PAPER and LIVE."""
        await self.ready()
        try:
            wanted = TradingMode(mode.upper())
        except ValueError:
            raise RejectedError(f"unknown mode {mode!r}: paper or live") from None
        async with self._turn:
            self.mode = next_mode(wanted, confirmation, self._live_blockers())
            await self._persist("mode", f"mode {self.mode.value}")
            await self._tell("set_mode", self.mode)
        return self.mode.value

    async def finish(self) -> None:
        """Record a clean stop; a pause or an emergency stop is remembered for the next start."""
        await self.ready()
        async with self._turn:
            if self.state not in (EngineState.PAUSED, EngineState.EMERGENCY_STOP):
                self.state = next_state(self.state, EngineState.STOPPED)
            await self._told_and_stored(f"stop: {self.state.value}")

    async def refresh(self) -> None:
        """Ask everybody now, so that the next snapshot holds the last figures."""
        await self.ready()
        await asyncio.gather(*(self._ping(name) for name in self._components))
        await self._mark_account()

    async def _command(self, wanted: EngineState, reason: str) -> str:
        await self.ready()
        async with self._turn:
            await self._go(wanted, reason)
        return self.state.value

    async def _go(self, wanted: EngineState, reason: str) -> None:
        before = self.state
        self.state = next_state(before, wanted)
        await self._told_and_stored(f"{before.value} -> {self.state.value}: {reason}")

    async def _told_and_stored(self, message: str) -> None:
        await self._tell_execution()
        await self._persist("state", message)

    async def _tell_execution(self) -> None:
        await self._tell("set_trading", allows_entries(self.state))

    async def _tell(self, method: str, value: Any) -> None:
        # a new incarnation of execution reads state and mode from the store
        try:
            await call(getattr(self._peers("execution"), method).remote(value), PING_TIMEOUT_S, "execution")
        except HeliosError as error:
            self.log.warning("execution not told yet: %s", error)

    async def _persist(self, kind: str, message: str) -> None:
        assert self._store is not None
        self.log.info("%s", message)
        severity = "CRITICAL" if self.state is EngineState.EMERGENCY_STOP else "INFO"
        try:
            await self._store.save_state(self.state, self.mode)
            code = "EMERGENCY_STOP_ACTIVATED" if self.state is EngineState.EMERGENCY_STOP else kind.upper()
            await self._store.add_event(EngineEvent(code, severity, self.name, message, self.market_time_ns, {}))
        except HeliosError as error:
            self.faults += 1
            self.log.warning("state not stored: %s", error)

    async def _flatten(self, attempts: int) -> list[str]:
        """Close everything, again and again with fresh markets, until execution reports that nothing is open."""
        left = ["unknown"]
        for attempt in range(attempts):
            markets = await self._markets()
            try:
                left = list(await call(self._peers("execution").flatten.remote(markets), 10.0, "execution"))
            except HeliosError as error:
                self.log.error("flatten failed: %s", error)
            if not left or attempt + 1 == attempts:
                break
            await asyncio.sleep(0.5)
        return left

    async def _markets(self) -> dict[str, MarketSnapshot]:
        markets: dict[str, MarketSnapshot] = {}
        for name in self._components:
            if name.startswith("symbol:"):
                try:
                    answers = await call(self._peers(name).markets.remote(), PING_TIMEOUT_S, name)
                except HeliosError as error:
                    self.log.warning("no market: %s", error)
                    continue
                markets |= {m.symbol: m for m in answers if m.last > 0}
        return markets

    def _live_blockers(self) -> list[str]:
        return ["no live broker is configured in this version: paper trading only"]

    @property
    def _components(self) -> tuple[str, ...]:
        return (*self._first_components, *self._universe.owners)

    # ---- health --------------------------------------------------------------------------------------------------------

    async def _health(self) -> None:
        last_equity = 0.0
        while True:
            await asyncio.gather(*(self._ping(name) for name in self._components))
            await self._mark_account()
            await self._follow_breakers()
            if time.time() - last_equity >= EQUITY_INTERVAL_S and self._account is not None:
                last_equity = time.time()
                await self._keep_equity(self._account)
            await self._enforce()
            self._beat = time.time()
            await asyncio.sleep(HEALTH_INTERVAL_S)

    async def _ping(self, name: str) -> None:
        try:
            status = await call(self._peers(name).status.remote(), PING_TIMEOUT_S, name)
        except HeliosError as error:
            previous = self._status.get(name, {})
            self._status[name] = previous | {"name": name, "healthy": False, "error": str(error)}
            return
        if name in self._pids and self._pids[name] != status["pid"]:
            self._restarts[name] = self._restarts.get(name, 0) + 1
            self.log.warning("restarted", extra={"restarted": name})
            if name == "execution":
                await self._tell_execution()
        self._pids[name] = status["pid"]
        self._status[name] = status
        self._heard[name] = time.monotonic()

    async def _follow_breakers(self) -> None:
        execution = self._status.get("execution", {})
        assert self._store is not None
        await self._breakers.write(execution, self._store)
        if self.spec.replay_path is None:  # in a replay decisions must not depend on wall time
            since = time.monotonic() - SILENT_AFTER_S
            silent = sorted(n for n in self._components if self._heard.get(n, self._born_mono + START_GRACE_S) < since)
            await self._breakers.tell_silent(silent, self._pids.get("execution", 0))

    async def _mark_account(self) -> None:
        try:
            self._account = await call(self._peers("execution").account.remote([]), PING_TIMEOUT_S, "execution")
        except HeliosError as error:
            self.log.warning("account not known: %s", error)
            return
        if self._metrics is not None:
            self._metrics.observe(self._account, self.state.value, self._restarts)

    async def _keep_equity(self, account: AccountSnapshot) -> None:
        point = (account.ts_event // 1_000_000, float(account.equity_quote))
        if point[0] > (self._equity[-1][0] if self._equity else 0):  # no mark has come yet: no point in time either
            self._equity.append(point)
            self._peers("recorder").record_equity.remote(account)
        assert self._store is not None
        try:
            self._orders = await self._store.orders(20)
        except HeliosError as error:
            self.log.warning("orders not read: %s", error)

    async def _enforce(self) -> None:
        """Follow the breakers: flatten what they halt, open nothing while they reduce.

        Not in a replay: there the conductor does it bar by bar, and a health loop on wall time beside it would make the decisions
        depend on how fast the machine is.
        """
        if self.spec.replay_path is not None:
            return
        if self.state is EngineState.EMERGENCY_STOP:
            await self._after_emergency()
        if self._account is None or self.state not in (EngineState.RUNNING, EngineState.REDUCING, EngineState.PAUSED):
            return
        wanted, why = self._account.trading_state, ", ".join(self._account.trips)
        if wanted is TradingState.HALTED:
            before = self.state
            await self.emergency_stop(f"{why}, drawdown {self._account.drawdown:.1%}")
            self._halted_from = before
        elif wanted is TradingState.REDUCING and self.state is EngineState.RUNNING:
            await self._command(EngineState.REDUCING, why)
        elif wanted is TradingState.ACTIVE and self.state is EngineState.REDUCING:
            await self._command(EngineState.RUNNING, "limits are kept again")

    async def _after_emergency(self) -> None:
        """Go on closing what the stop could not; where `auto_reset_h` is set and its breaker has let go, trade as before it."""
        account, before = self._account, self._halted_from
        if self._emergency_left or (account is not None and account.open_positions):
            if time.monotonic() >= self._flatten_again:
                async with self._turn:
                    self._emergency_left = await self._flatten(1)
                self._flatten_again = time.monotonic() + self._flatten_pause_s
                self._flatten_pause_s = min(2 * self._flatten_pause_s, MAX_FLATTEN_PAUSE_S)
            return
        is_over = account is not None and account.trading_state is not TradingState.HALTED and self.config.limits.auto_reset_h > 0
        if before is None or not is_over or (Path(self.spec.state_dir) / KILL_SWITCH).exists():
            return
        self._halted_from = None
        await self._command(EngineState.PAUSED, "the breaker's cool-down is over")
        if before is not EngineState.PAUSED:
            await self._command(EngineState.RUNNING, "the breaker's cool-down is over")

    async def _watch_kill_switch(self) -> None:
        path = Path(self.spec.state_dir) / KILL_SWITCH
        while True:
            if path.exists() and self.state not in (EngineState.EMERGENCY_STOP, EngineState.STOPPED):
                await self.emergency_stop("kill switch file")
            await asyncio.sleep(0.25)

    async def _watch_universe(self) -> None:
        while True:  # apart from the health loop: it may wait for the venue
            await self._universe.look(self._account, self._pids)
            await asyncio.sleep(HEALTH_INTERVAL_S)

    async def _watch_risk(self) -> None:
        while True:
            await asyncio.sleep(RISK_INTERVAL_S)
            await self._report_risk()

    async def _report_risk(self) -> None:
        """Have the risk of what is held reported anew; without an answer the last report stays, with its time."""
        if self._account is None or self._account.ts_event <= 0:
            return
        try:
            profits = await call(self._peers("execution").profits.remote(), PING_TIMEOUT_S, "execution")
            self._risk = await call(self._peers("portfolio").risk_report.remote(self._account, profits), RISK_INTERVAL_S, "portfolio")
        except HeliosError as error:
            self.log.warning("no risk report: %s", error)

    # ---- what everybody shows ------------------------------------------------------------------------------------------

    @property
    def market_time_ns(self) -> int:
        """Newest market time any component has reported."""
        return newest_market_time(self._status)

    def _own_view(self) -> dict[str, Any]:
        uptime_s = round(time.time() - self.born, 1)
        return {"name": self.name, "pid": os.getpid(), "healthy": True, "uptime_s": uptime_s, "restarts": 0}

    async def snapshot(self) -> dict[str, Any]:
        """Return everything the API and the dashboard show, as plain JSON."""
        await self.ready()
        signal = self._status.get("signal", {})
        return {
            **self._about,
            "run_id": self.spec.run_id,
            "state": self.state.value,
            "mode": self.mode.value,
            "trading_state": self._account.trading_state.value if self._account is not None else None,
            "risk": self._risk,
            "volatility": self._status.get("risk", {}).get("volatility", []),
            "allocation": self._status.get("portfolio", {}).get("allocation"),
            "trips": self._status.get("execution", {}).get("trips", []),
            "market_time_ns": self.market_time_ns,
            "heartbeat": self._beat,
            "uptime_s": round(time.time() - self.born, 1),
            "symbols": symbol_views(self._universe.members, self._status),
            "predictions": signal.get("predictions", []),
            "decisions": signal.get("decisions", []),
            "outcomes": signal.get("outcomes", {}),
            "counters": counters(self._status, self._restarts),
            "latency_ms": signal.get("latency_ms", {}),
            "first_prediction_at": signal.get("first_prediction_at"),
            "replay": signal.get("replay"),
            "flow_features": self._status.get("recorder", {}).get("flow_features", {}),
            "errors": signal.get("errors", []),
            "orders": self._orders,
            "tiers": tier_views(self._status, self._restarts),
            "feeds": feed_views(self._status),
            "components": [*component_views(self._components, self._status, self._restarts), self._own_view()],
            "equity_history": list(self._equity),
            "emergency_still_open": self._emergency_left,
            **(account_view(self._account, self.config.desk.initial_cash_quote) if self._account is not None else {}),
        }

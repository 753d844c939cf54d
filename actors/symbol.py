"""SymbolActor: one owner for a symbol's stream, book, candles, features and exits.

Doubled trades are dropped, late ones join their minute (see `helios.market.settling`), both counted. Feed silent or cut: the symbol
is stale (no entries) until the missing minutes are fetched. Book out of sequence: emptied and asked for again. Execution away: a
triggered exit is offered again until it is taken; it is idempotent by position. Recorder away or dead: see `outbox`. Killed: a new
incarnation reloads bars from the store and the rest from the venue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.base import DeskSpec, HeliosActor
from actors.budget import request_budget
from actors.feed import LiveFeed
from actors.metrics import FeedMetrics
from actors.outbox import Message, Outbox
from actors.remote import call
from helios.domain.enums import Timeframe
from helios.domain.events import EngineEvent, Mark
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import ExitPlan, ExitTriggered
from helios.errors import HeliosError, RetryableError
from helios.pipeline.series import SymbolHistory
from helios.pipeline.symbol import SymbolState, SymbolStep
from helios.venues.base import ReplaySource
from helios.venues.factory import make_venue

MARK_INTERVAL_S = 0.25
MARK_AGAIN_NS = 60_000_000_000
"""A price that stands still is told again so often, in market time, while its market is heard of: it is quiet, not old."""
EXIT_RETRY_S = 0.2
RECORD_TIMEOUT_S = 10.0
LAST_WORD_S = 1.0
METRICS_INTERVAL_S = 2.0


class SymbolActor(HeliosActor):
    """Own one or more symbols.

    Parameters
    ----------
    spec : DeskSpec
    instruments : sequence of Instrument
        The symbols owned here.
    peers : callable
        Returns the named actor's handle ("signal", "execution", "recorder").
    """

    def __init__(self, spec: DeskSpec, instruments: Sequence[Instrument], peers: Callable[[str], Any]) -> None:
        self.name = "symbol:" + ",".join(i.symbol for i in instruments)
        super().__init__(spec)
        self.instruments = tuple(instruments)
        self._peers = peers
        timeframe = Timeframe(spec.config.desk.decision_timeframe)
        self.states = {i.symbol: SymbolState(i, timeframe, spec.config.risk.exit_price) for i in instruments}
        self._feed: LiveFeed | None = None
        self._sources: dict[str, ReplaySource] = {}
        self._marked: dict[str, Mark] = {}
        self.outbox = Outbox(self.name, self._tell)
        self.exits_sent = 0

    async def on_start(self) -> None:
        if self.spec.replay_path is not None:
            from helios.venues.replay.open import open_replay  # pyarrow: 50 MB that a live owner does without

            self._sources = open_replay(self.spec.replay_path, list(self.states))
            return
        venue = make_venue(self.config.venue, request_budget(self.spec), self.instruments)
        self._feed = LiveFeed(self.spec, self.states, venue, self._publish, self._alert)
        await self._rearm()
        for peer in ("signal", "recorder"):  # found in a thread: while everything starts that takes seconds, and the feed would stand
            await asyncio.to_thread(self._peers, peer)
        self.spawn(self._feed.run(), "feed")
        self.spawn(self._feed.tick(), "timer")
        self.spawn(self._feed.repair(), "repair")
        self.spawn(self._feed.keep_time(), "clock")
        self.spawn(self._marks(), "marks")
        self.spawn(self._guard_exits(), "exits")
        self.spawn(self.outbox.run(), "outbox")
        self.spawn(self._export(), "metrics")

    # ---- lockstep replay -----------------------------------------------------------------------------------------------

    async def advance(self, until_ns: int, plans: Sequence[ExitPlan]) -> list[SymbolStep]:
        """Watch `plans`, take the recorded events known by `until_ns`, return one step per symbol."""
        await self.ready()
        steps, missed = [], []
        for symbol, state in self.states.items():
            missed += self._catch_up(symbol, until_ns)
            state.arm([p for p in plans if p.symbol == symbol])
            state.on_events(self._sources[symbol].read_until(until_ns), until_ns)
            steps.append(state.drain())
        self._record([*missed, *steps])
        await self._deliver(RECORD_TIMEOUT_S)
        return [_without_bars(step) for step in steps]

    def _catch_up(self, symbol: str, until_ns: int) -> list[SymbolStep]:
        """Read a recording up to the bar before, with nothing armed: a new incarnation must not judge the past's prices."""
        state, before_ns = self.states[symbol], until_ns - Timeframe(self.config.desk.decision_timeframe).ns
        if state.last_open(Timeframe.M1) is None and before_ns > self._sources[symbol].start_ns:
            state.on_events(self._sources[symbol].read_until(before_ns), before_ns)
            return [state.drain()]
        return []

    async def histories(self, symbols: Sequence[str]) -> list[SymbolHistory]:
        """Return what tiers 3 and 5 are seeded with."""
        await self.ready()
        return [self.states[s].history() for s in symbols]

    # ---- live ----------------------------------------------------------------------------------------------------------

    async def arm(self, plans: Sequence[ExitPlan]) -> None:
        """Watch exactly these positions from now on."""
        await self.ready()
        for symbol, state in self.states.items():
            state.arm([p for p in plans if p.symbol == symbol])

    async def markets(self) -> list[MarketSnapshot]:
        """Return the present market of each symbol."""
        await self.ready()
        return [state.market() for state in self.states.values()]

    async def _publish(self, state: SymbolState) -> None:
        """Send what a batch of events brought: exits first, then windows, then records."""
        step = state.drain()
        for trigger in step.exits:
            self.spawn_exit(trigger)
        windows = [w for w in step.windows if w.is_warm]
        if windows:
            self._peers("signal").submit.remote(windows)
        self._record([step])

    def spawn_exit(self, trigger: ExitTriggered) -> None:
        """Hand a triggered exit to execution without waiting for anybody else."""
        task = asyncio.get_running_loop().create_task(self._exit(trigger))
        task.add_done_callback(self._on_task_done)

    async def _exit(self, trigger: ExitTriggered) -> None:
        self.log.info("exit", extra={"symbol": trigger.symbol, "reason": trigger.reason, "price": trigger.trigger_price})
        while True:
            try:
                await call(self._peers("execution").exits.remote([trigger]), 5.0, "execution")
            except RetryableError as error:
                self.log.warning("exit not taken yet: %s", error, extra={"symbol": trigger.symbol})
                await asyncio.sleep(EXIT_RETRY_S)
            else:
                self.exits_sent += 1
                await self._rearm()
                return

    async def _rearm(self) -> None:
        try:
            plans = await call(self._peers("execution").exit_plans.remote(), 5.0, "execution")
        except HeliosError as error:
            self.log.warning("exit plans not known yet: %s", error)
            return
        for symbol, state in self.states.items():
            state.arm([p for p in plans if p.symbol == symbol])

    async def _guard_exits(self) -> None:
        """Ask execution now and then what must be watched, so that a lost message cannot leave a position unguarded."""
        while True:
            await asyncio.sleep(2.0)
            await self._rearm()

    async def _marks(self) -> None:
        """Send the newest prices, conflated, and the prints since the last time; never more than one message under way."""
        while True:
            await asyncio.sleep(MARK_INTERVAL_S)
            present = [Mark(s, state.mark_price, state.last_event_ns) for s, state in self.states.items() if state.last_price > 0]
            marks = [mark for mark in present if is_news(mark, self._marked.get(mark.symbol))]
            if marks and await self._quietly(call(self._peers("execution").mark.remote(marks), 2.0, "execution")):
                self._marked |= {m.symbol: m for m in marks}
            self._record_prints()

    async def _export(self) -> None:
        """Count for Prometheus what happens to market data on its way in."""
        assert self._feed is not None
        metrics = FeedMetrics(self.name.removeprefix("symbol:"))
        while True:
            await asyncio.sleep(METRICS_INTERVAL_S)
            counted = self._feed.counters() | {"rows_unrecorded": self.outbox.dropped}
            metrics.observe(self._feed.details(time.time()), counted)

    def _record_prints(self) -> None:
        assert self._feed is not None
        trades = self._feed.take_trades()
        if trades:
            self.outbox.put("add_trades", trades, n_rows=len(trades))

    async def _tell(self, message: Message) -> str:
        method = getattr(self._peers("recorder"), message.method)
        return str(await call(method.remote(*message.arguments), RECORD_TIMEOUT_S, "recorder"))

    def _record(self, steps: Sequence[SymbolStep]) -> None:
        bars = [bar for step in steps for bar in step.bars]
        revised = [bar for step in steps for bar in step.revised]
        rows = [(step.symbol, w.bar_time, w.values[:, -1, :].copy()) for step in steps for w in step.windows]
        books = [self.states[step.symbol].market() for step in steps if step.windows]
        if bars or rows or revised:
            n_rows = len(bars) + len(rows) + len(books) + len(revised)
            self.outbox.put("add", bars, rows, [b for b in books if b.bids], revised, n_rows=n_rows)

    async def _deliver(self, timeout_s: float) -> None:
        # What is not taken by then waits for the next time.
        try:
            await asyncio.wait_for(self.outbox.deliver(), timeout_s)
        except TimeoutError:
            self.faults += 1

    def _alert(self, kind: str, message: str) -> None:
        """Let a person know: an event for the record, which the dashboard and the log show."""
        self.log.error(message, extra={"kind": kind})
        # Before the venue has told its time, ours is the best there is.
        now_ns = (self._feed.now_ns if self._feed is not None else 0) or time.time_ns()
        event = EngineEvent(kind, "CRITICAL", self.name, message, now_ns, {"symbols": list(self.states)})
        self._peers("recorder").record_event.remote(event)

    async def _quietly(self, answer: Awaitable[Any]) -> bool:
        """Await something that may fail without harm; whether it succeeded."""
        try:
            await answer
        except RetryableError as error:
            self.faults += 1
            self.log.warning("%s", error)
            return False
        return True

    async def on_stop(self) -> None:
        if self._feed is not None:
            self._record_prints()
            await self._deliver(LAST_WORD_S)
            await self._feed.aclose()

    def details(self) -> dict[str, Any]:
        now = time.time()
        return {
            "symbols": [
                {
                    "symbol": symbol,
                    "last_price": state.last_price if state.last_price == state.last_price else None,
                    "spread_bps": state.book.spread_bps() if state.book.is_synced else None,
                    "best_bid": state.book.best_bid,
                    "best_ask": state.book.best_ask,
                    "is_warm": state.features.is_warm,
                    "is_stale": state.is_stale,
                    "book_desyncs": state.book_desyncs,
                    "late_trades": state.builder.late_trades,
                    "duplicate_trades": state.builder.duplicate_trades,
                    "last_event_ns": state.last_event_ns,
                }
                for symbol, state in self.states.items()
            ],
            "to_recorder": {"waiting": self.outbox.n_waiting, "dropped": self.outbox.dropped, "faults": self.outbox.faults},
            "feed": self._feed.details(now) if self._feed is not None else {"replay": True},
        }


def _without_bars(step: SymbolStep) -> SymbolStep:
    """Bars are recorded here; the conductor needs only what is decided upon."""
    return SymbolStep(step.symbol, (), step.windows, step.marks, step.exits)


def is_news(mark: Mark, told: Mark | None) -> bool:
    """Whether execution should hear of a price: it is another one, or the last word of it is getting old."""
    return told is None or mark.price != told.price or mark.ts_event >= told.ts_event + MARK_AGAIN_NS

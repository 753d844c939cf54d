"""What a live desk saw and what a recording of it gives back: the same bars and the same ninety features, to the last bit."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from actors.base import DeskSpec
from actors.feed import LiveFeed
from helios.config import load_config
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, Bar
from helios.pipeline.symbol import SymbolState, SymbolStep
from helios.venues.local_budget import LocalBudget
from helios.venues.recording import RecordingVenue, open_recorder
from helios.venues.replay.raw import open_raw_replay
from helios.venues.sandbox.server import SandboxConfig, SandboxExchange
from helios.venues.valr.limits import relaxed_rates
from helios.venues.valr.session import BOOK_EVENT, CANDLE_EVENT, TRADE_EVENT
from helios.venues.valr.transport import ValrVenue

SYMBOLS = ("BTC/ZAR", "ETH/ZAR")
SPEED = 60.0
EVENTS = (BOOK_EVENT, TRADE_EVENT, CANDLE_EVENT)
GRACE_MS = 1_000  # a machine busy with other tests must not make a trade late between two looks at the clock
MINUTE_NS = Timeframe.M1.ns


class Desk:
    """Symbol states on a live feed, and all that came out of them."""

    def __init__(self, venue: RecordingVenue, tmp_path: Path, symbols: Sequence[str]) -> None:
        config = load_config(env={}, overrides={"desk.candle_close_grace_ms": GRACE_MS})
        spec = DeskSpec(config, "postgresql:///none?host=/nowhere", "run", tuple(symbols), None, None, str(tmp_path))
        self.bars: dict[str, list[Bar]] = {s: [] for s in symbols}
        self.windows: dict[str, dict[int, np.ndarray]] = {s: {} for s in symbols}
        self.states: dict[str, SymbolState] = {}
        self._venue = venue
        self._spec = spec

    async def prepare(self) -> None:
        contracts = {i.symbol: i for i in await self._venue.instruments()}
        self.states = {s: SymbolState(contracts[s]) for s in self.bars}
        self.feed = LiveFeed(self._spec, self.states, self._venue, self.publish, lambda kind, message: None)

    async def publish(self, state: SymbolState) -> None:
        self.keep(state)

    def keep(self, state: SymbolState) -> None:
        step = state.drain()
        self.bars[step.symbol] = corrected(self.bars[step.symbol], step)
        self.windows[step.symbol] |= {w.bar_time: w.values for w in step.windows}


def corrected(bars: Sequence[Bar], step: SymbolStep) -> list[Bar]:
    """Bars with those of the step, a bar given out again in the place of its first version."""
    return list({(b.timeframe, b.open_time): b for b in (*bars, *step.bars, *step.revised)}.values())


def replayed(directory: Path, step_ns: int) -> tuple[dict[str, list[Bar]], dict[str, dict[int, np.ndarray]], dict[str, SymbolState]]:
    bars: dict[str, list[Bar]] = {}
    windows: dict[str, dict[int, np.ndarray]] = {}
    states: dict[str, SymbolState] = {}
    for symbol, source in open_raw_replay(directory, grace_ms=GRACE_MS).items():
        state = states[symbol] = SymbolState(source.instrument)
        bars[symbol], windows[symbol] = [], {}
        for until in (*range(source.start_ns // step_ns * step_ns, source.end_ns, step_ns), source.end_ns):
            state.on_events(source.read_until(until), until)
            step = state.drain()
            bars[symbol] = corrected(bars[symbol], step)
            windows[symbol] |= {w.bar_time: w.values for w in step.windows}
    return bars, windows, states


def table(bars: Sequence[Bar]) -> tuple[list[tuple[str, int]], np.ndarray]:
    return [(b.timeframe.value, b.open_time) for b in bars], np.array([[getattr(b, n) for n in BAR_VALUES] for b in bars])


@contextlib.asynccontextmanager
async def exchange() -> AsyncIterator[tuple[SandboxExchange, ValrVenue]]:
    sandbox = SandboxExchange(SandboxConfig(speed=SPEED, symbols=SYMBOLS, seed=11))
    await sandbox.start()
    # Sockets live so short that each session has one relieved by the next, with frames of both on tape.
    venue = ValrVenue(sandbox.rest_url, sandbox.ws_url, SPEED, budget=LocalBudget(relaxed_rates(200.0)), events=EVENTS, max_age_s=3.0)
    try:
        yield sandbox, venue
    finally:
        await venue.aclose()
        await sandbox.stop()


async def until(is_true: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@contextlib.contextmanager
def cancelled(*tasks: asyncio.Task[None]) -> Iterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


def minutes(bars: Sequence[Bar]) -> list[Bar]:
    return [b for b in bars if b.timeframe is Timeframe.M1]


async def live_session(tmp_path: Path, n_minutes: int, cut_after: int | None) -> tuple[Desk, Path]:
    """Run a desk on the sandbox while everything is recorded; cut its connection once where asked."""
    directory = tmp_path / "tape"
    async with exchange() as (sandbox, venue):
        recorder = await open_recorder(venue, SYMBOLS, directory, "sandbox")
        with recorder:
            desk = Desk(RecordingVenue(venue, recorder), tmp_path, SYMBOLS)
            await desk.prepare()
            desk.feed.repairs._stored = lambda symbol: asyncio.sleep(0, {})  # type: ignore[method-assign, assignment]
            tasks = [asyncio.create_task(work) for work in (desk.feed.run(), desk.feed.tick(), desk.feed.repair())]
            with cancelled(*tasks):
                if cut_after is not None:
                    await until(lambda: all(len(minutes(b)) >= cut_after for b in desk.bars.values()))
                    for line in list(sandbox._lines):
                        line.client.cut()
                await until(lambda: all(len(minutes(b)) >= n_minutes for b in desk.bars.values()))
            await asyncio.gather(*tasks, return_exceptions=True)
    return desk, directory


@pytest.mark.parametrize("cut_after", [None, 3])
async def test_a_replayed_recording_gives_the_same_bars_and_features(tmp_path: Path, cut_after: int | None) -> None:
    desk, directory = await live_session(tmp_path, 8, cut_after)
    for step_ns in (Timeframe.M5.ns, 7 * 10**9):
        bars, windows, states = replayed(directory, step_ns)
        assert set(bars) == set(SYMBOLS)
        for symbol in SYMBOLS:
            assert_same(desk.bars[symbol], bars[symbol])
            shared = sorted(set(desk.windows[symbol]) & set(windows[symbol]))
            assert shared, "no decision bar closed"
            for bar_time in shared:
                assert desk.windows[symbol][bar_time].shape == (3, 60, 30)
                np.testing.assert_array_equal(desk.windows[symbol][bar_time], windows[symbol][bar_time], strict=True)
            assert states[symbol].book_desyncs == 0
    if cut_after is not None:
        assert desk.feed.reconnects >= 1
        unobserved = [b for b in minutes(bars["BTC/ZAR"]) if np.isnan(b.buy_volume)]
        assert len(unobserved) >= 2  # the minute of the first connection, and that of the second


def assert_same(live: list[Bar], again: list[Bar]) -> None:
    n = min(len(live), len(again))  # the desk was stopped and the tape ends a moment apart
    assert len(minutes(again[:n])) >= 6
    assert table(live[:n])[0] == table(again[:n])[0]
    np.testing.assert_array_equal(table(live[:n])[1], table(again[:n])[1], strict=True)

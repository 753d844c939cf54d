"""Run a feed against the sandbox exchange with every fault on, then compare what it built with the exchange's own truth.

    python -m tests.chaos.feed_soak --seconds 600

prints one JSON object and exits with 1 if `verdict` finds anything: a wrong or missing candle, an open or given-up gap, a crossed
book that was accepted, features that are not those of the candles, a fault that was injected and is in no counter, too few minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from actors.base import DeskSpec
from actors.feed import LiveFeed
from cluster.sandbox import sandbox_exchange
from helios.config import load_config
from helios.domain.enums import FEATURE_TIMEFRAMES, Timeframe
from helios.domain.market import BAR_VALUES, Bar, BookUpdate
from helios.features.batch import features_of, resample
from helios.features.definitions import CANDLE_COLUMNS
from helios.market.book import OrderBook
from helios.pipeline.symbol import SymbolState
from helios.venues.factory import make_venue
from helios.venues.sandbox.faults import FaultPlan, read_plan
from tests.support.peers import spec

SYMBOLS = ("BTC/ZAR", "ETH/ZAR", "SOL/ZAR")
MINUTE_NS = Timeframe.M1.ns
SPEED = 20.0  # market seconds per wall second: the longest pause after a 429 is shorter than minutes stay open to correction

CALM_S = 15.0  # wall seconds without faults at the end, once no gap is open
LONGEST_PAUSE_S = 75.0  # who met a 429 as the last fault waits for a minute before anything is asked again
LONGEST_WAIT = 5.0
NOTHING: Mapping[str, int] = {}
Truth = Mapping[str, list[dict[str, Any]]]
Series = dict[tuple[str, Timeframe, int], Bar]


class Soak:
    """Collects what a feed gives out, the newest version of each bar."""

    def __init__(self) -> None:
        self.bars: Series = {}
        self.doubled = self.crossed = self.books = 0
        self.alerts: list[str] = []

    async def publish(self, state: SymbolState) -> None:
        step = state.drain()
        for bar in step.bars:
            key = (bar.symbol, bar.timeframe, bar.open_time)
            self.doubled += key in self.bars
            self.bars[key] = bar
        self.bars |= {(bar.symbol, bar.timeframe, bar.open_time): bar for bar in step.revised}

    def watch(self, book: OrderBook) -> None:
        """Look at `book` after each update that it accepts."""
        accept = book.apply

        def apply(update: BookUpdate) -> None:
            accept(update)
            bid, ask = book.best_bid, book.best_ask
            self.books += 1
            self.crossed += bid is not None and ask is not None and bid >= ask

        book.apply = apply  # type: ignore[method-assign]

    def alert(self, kind: str, message: str) -> None:
        self.alerts.append(f"{kind}: {message}")


async def run(seconds: float, faults: str = "all", wanted: Mapping[str, int] = NOTHING) -> dict[str, Any]:
    """Return what was compared, what was wrong, what the feed counted and what the exchange injected.

    Faults come by chance: they stay on for `seconds`, and on, up to `LONGEST_WAIT` times that, until each of `wanted` came so often.
    """
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"sandbox.admin": True, "sandbox.symbols": SYMBOLS, "venue.speed": SPEED}
        (Path(folder) / "logs").mkdir()
        with sandbox_exchange(load_config(overrides=overrides), Path(folder)) as address:
            urls = {f"venue.{name}": address[name] for name in ("rest_url", "ws_url")}
            desk = spec(Path(folder), SYMBOLS, **urls, **{"venue.speed": SPEED})
            return await _against(desk, read_plan(faults), seconds, wanted)


async def _against(desk: DeskSpec, plan: FaultPlan, seconds: float, wanted: Mapping[str, int]) -> dict[str, Any]:
    symbols, rest_url = desk.symbols, desk.config.venue.rest_url
    async with httpx.AsyncClient(base_url=rest_url, timeout=30.0) as admin:
        # Without faults until everybody knows the past: a start against a broken venue only waits.
        venue = make_venue(desk.config.venue)
        instruments = {i.symbol: i for i in await venue.instruments()}
        states = {symbol: SymbolState(instruments[symbol]) for symbol in symbols}
        soak = Soak()
        for state in states.values():
            soak.watch(state.book)
        feed = LiveFeed(desk, states, venue, soak.publish, soak.alert)
        tasks = [asyncio.create_task(loop) for loop in (feed.run(), feed.tick(), feed.repair())]
        try:
            while feed.repairs.repaired < len(symbols):
                await asyncio.wait(tasks, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
            (await admin.put("/sandbox/faults", json=plan.to_json())).raise_for_status()
            faulty_s, injected = await _until_injected(admin, tasks, seconds, wanted)
            (await admin.put("/sandbox/faults", json={})).raise_for_status()
            deadline = time.monotonic() + LONGEST_PAUSE_S
            while feed.repairs.open_symbols and time.monotonic() < deadline and not any(task.done() for task in tasks):
                await asyncio.wait(tasks, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
            await asyncio.wait(tasks, timeout=CALM_S, return_when=asyncio.FIRST_EXCEPTION)
            truth = {s: (await admin.get(f"/sandbox/truth/{instruments[s].venue_symbol}/minutes")).json() for s in symbols}
            end_ns = feed.now_ns - int(CALM_S * 0.7 * SPEED) * 1_000_000_000
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(OSError):
                await feed.aclose()
    failures = [repr(e) for e in ended if isinstance(e, Exception)]
    report = _compared(soak, truth, states, end_ns)
    counters = feed.counters()
    report |= {
        "alerts": soak.alerts, "failures": failures, "books_accepted": soak.books, "crossed_books": soak.crossed,
        "bars_given_out_twice": soak.doubled, "expected_minutes": int(faulty_s * SPEED / 60.0) * len(symbols),
        "open_gaps": feed.repairs.open_symbols, "counters": counters, "injected": injected,
    }  # fmt: skip
    return report


async def _until_injected(
    admin: httpx.AsyncClient, tasks: list[asyncio.Task[None]], seconds: float, wanted: Mapping[str, int]
) -> tuple[float, dict[str, int]]:
    """Let the faults come; return after how many seconds they had, and how often each came."""
    began = time.monotonic()
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    while True:
        injected: dict[str, int] = (await admin.get("/sandbox/faults")).json()["counters"]
        elapsed_s = time.monotonic() - began
        enough = all(injected.get(fault, 0) >= count for fault, count in wanted.items())
        if enough or elapsed_s > LONGEST_WAIT * seconds or any(task.done() for task in tasks):
            return elapsed_s, injected
        await asyncio.wait(tasks, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)


COUNTED_AS = {
    "malformed_negative_price": ("malformed",), "malformed_zero_quantity": ("malformed",), "malformed_empty_symbol": ("malformed",),
    "malformed_truncated_json": ("malformed",), "drop_diff": ("book_sequence_gap",), "double_diff": ("book_sequence_gap",),
    "wrong_checksum": ("book_checksum_mismatch",), "double_trade": ("duplicate_trades",),
    "late_trade": ("late_trades_joined", "late_trades_dropped", "minutes_corrected"), "cut_socket": ("reconnects",),
    "silence": ("reconnects",), "rate_limited": ("requests_limited",), "html_errors": ("requests_failed",),
}  # fmt: skip
"""Fault of the exchange, and the feed's counters of which one must show it."""
MANY = 5  # of a rarer fault every case may have fallen into a cut or a silence


def verdict(report: dict[str, Any]) -> list[str]:
    """Return what is wrong with a run, in words; nothing if it passed."""
    counters, injected = report["counters"], report["injected"]
    found = [f"{report['n_wrong']} wrong candles"] if report["n_wrong"] else []
    found += [f"{key}: {report[key]}" for key in ("crossed_books", "bars_given_out_twice", "open_gaps", "failures") if report[key]]
    found += [f"{key}: {counters[key]}" for key in ("minutes_unrepaired", "events_failed") if counters[key]]
    found += ["features are not those of the candles"] if not report["largest_feature_error"] < 1e-9 else []
    if report["minutes"] < 0.8 * report["expected_minutes"] or not report["books_accepted"]:
        found.append(f"only {report['minutes']} of {report['expected_minutes']} minutes")
    for fault, kinds in COUNTED_AS.items():
        if injected.get(fault, 0) >= MANY and not sum(counters.get(kind, 0) for kind in kinds):
            found.append(f"{injected[fault]} x {fault} injected, none counted")
    return found


def _compared(
    soak: Soak, truth: Mapping[str, list[dict[str, Any]]], states: Mapping[str, SymbolState], end_ns: int
) -> dict[str, Any]:
    minutes = higher = flow_known = 0
    wrong: list[str] = []
    features_off: dict[str, float] = {}
    for symbol, rows in truth.items():
        opens = np.array([row["start"] * 1_000_000_000 for row in rows], dtype=np.int64)
        bars = np.full((len(rows), len(BAR_VALUES)), np.nan)
        for i, row in enumerate(rows):
            values = [row[n] for n in ("open", "high", "low", "close", "volume", "quoteVolume", "tradeCount", "buyVolume")]
            bars[i, : len(values)] = [float(v) for v in values]
        for timeframe in (Timeframe.M1, Timeframe.M5, Timeframe.M15):
            rolled, starts = (bars, opens) if timeframe is Timeframe.M1 else resample(bars, opens, timeframe)
            for start, true in zip(starts.tolist(), rolled.tolist()):
                bar = soak.bars.get((symbol, timeframe, start))
                if bar is None or bar.close_time > end_ns:
                    continue
                minutes += timeframe is Timeframe.M1
                higher += timeframe is not Timeframe.M1
                flow_known += timeframe is Timeframe.M1 and not math.isnan(bar.buy_volume)
                wrong += _differences(bar, true)
        seen = sorted(o for s, tf, o in soak.bars if s == symbol and tf is Timeframe.M1 and o + MINUTE_NS <= end_ns)
        holes = (seen[-1] - seen[0]) // MINUTE_NS + 1 - len(seen) if seen else -1
        wrong += [f"{symbol}: {holes} minutes missing"] if holes else []
        features_off[symbol] = _feature_error(states[symbol], soak.bars)
    return {
        "minutes": minutes, "higher_bars": higher, "minutes_with_known_flow": flow_known, "wrong": wrong[:20], "n_wrong": len(wrong),
        "largest_feature_error": max(features_off.values()),
    }  # fmt: skip


def _differences(bar: Bar, true: list[float]) -> list[str]:
    names = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "buy_volume")
    found = []
    for name, expected in zip(names, true):
        value = getattr(bar, name)
        if not math.isnan(value) and not math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-7):
            found.append(f"{bar.symbol} {bar.timeframe.value} {bar.open_time}: {name} {value} is {expected}")
    return found


def _feature_error(state: SymbolState, bars: Series) -> float:
    """Largest difference between the features that the feed ends with and those of its final bars, computed anew."""
    latest, worst = state.features.latest(), 0.0
    for row, timeframe in zip(latest, FEATURE_TIMEFRAMES):
        chosen = sorted((k[2], b) for k, b in bars.items() if k[0] == state.symbol and k[1] is timeframe)
        if len(chosen) < 60:
            continue
        values = features_of(np.array([[getattr(b, n) for n in BAR_VALUES] for _, b in chosen]))[-1]
        # Windowed ones only: what remembers everything began earlier in the feed than here.
        columns = [c for c in CANDLE_COLUMNS if c not in RECURSIVE]
        worst = max(worst, float(np.nanmax(np.abs(row[columns] - values[columns]))))
    return worst


RECURSIVE = frozenset(range(15, 19)) | {21, 22}  # RSI, MACD, EMA


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--faults", default="all")
    options = parser.parse_args()
    started = time.monotonic()
    report = asyncio.run(run(options.seconds, options.faults))
    report["wall_s"] = round(time.monotonic() - started, 1)
    report["verdict"] = verdict(report)
    print(json.dumps(report, indent=1))
    return 1 if report["verdict"] else 0


if __name__ == "__main__":
    sys.exit(main())

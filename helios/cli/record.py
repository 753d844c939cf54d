"""`helios data record` and `helios data retention`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer

from helios.cli.control import AsJson, StateDir, run_dir
from helios.cli.desk_budget import desk_budget
from helios.cli.history import data
from helios.cli.queries import _answer
from helios.config import HeliosConfig, load_config
from helios.errors import ConfigError
from helios.store.raw_recording import RawRecorder, RawRecording
from helios.store.recorder import MarketRecorder
from helios.venues.base import MarketVenue
from helios.venues.factory import make_venue
from helios.venues.recording import RecordingVenue, TapeDriver, open_recorder
from helios.venues.replay.outages import survey

PROGRESS_S = 1.0


@data.command()
def record(
    symbols: Annotated[str, typer.Option(help="Comma-separated, e.g. BTC/ZAR,ETH/ZAR.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory; files go to <venue>/<date>/<HH>-<NNN>.raw.zst below it.")],
    venue: Annotated[str | None, typer.Option(help="valr or sandbox; the configured one without it.")] = None,
    duration: Annotated[float | None, typer.Option(min=0.0, help="Wall seconds; without it until Ctrl-C.")] = None,
    as_json: AsJson = False,
) -> None:
    """Record what a venue sends, as it comes, for helios up --replay; history for the warm-up is recorded first."""
    chosen = tuple(dict.fromkeys(s.strip() for s in symbols.split(",") if s.strip()))
    if not chosen:
        raise ConfigError("--symbols names none")
    config = load_config(overrides={"venue.name": venue})
    summary = asyncio.run(_record(config, chosen, out, duration))
    if as_json:
        print(json.dumps(summary))
    else:
        print(
            f"{summary['frames']} frames, {summary['written_bytes'] / 1e6:.2f} MB in {summary['files']} file(s) -> {summary['out']}"
        )


async def _record(config: HeliosConfig, symbols: tuple[str, ...], out: Path, duration_s: float | None) -> dict[str, Any]:
    stop = _stop_on_signals()
    started_s = time.monotonic()
    async with _venue(config, symbols) as venue:
        recorder = await open_recorder(venue, symbols, out, config.venue.name)
        with recorder:
            driver = TapeDriver(RecordingVenue(venue, recorder), symbols, config.desk.candle_close_grace_ms / 1e3)
            tasks = [asyncio.create_task(driver.run()), asyncio.create_task(stop.wait())]
            progress = asyncio.create_task(_tell_progress(recorder, driver, started_s))
            try:
                done, _ = await asyncio.wait(tasks, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # what ended the driver
            finally:
                for task in (*tasks, progress):
                    task.cancel()
                await asyncio.gather(*tasks, progress, return_exceptions=True)
    elapsed_s = time.monotonic() - started_s
    return {
        "venue": config.venue.name, "symbols": list(symbols), "out": str(out), "elapsed_s": round(elapsed_s, 3),
        **recorder.counters(), "outages": driver.outages, "repairs": driver.repairs,
    }  # fmt: skip


@asynccontextmanager
async def _venue(config: HeliosConfig, symbols: tuple[str, ...]) -> AsyncIterator[Any]:
    # The sandbox needs no address: without one an exchange of its own runs here for as long as the recording.
    async with contextlib.AsyncExitStack() as stack:
        if config.venue.name == "sandbox" and not config.venue.rest_url:
            from helios.venues.sandbox.options import SandboxConfig
            from helios.venues.sandbox.server import SandboxExchange  # a second to import, needed only here

            exchange = SandboxExchange(
                SandboxConfig(
                    speed=config.venue.speed,
                    seed=config.sandbox.seed,
                    symbols=symbols,
                    flow_strength=config.sandbox.flow_strength,
                )
            )
            await exchange.start()
            stack.push_async_callback(exchange.stop)
            address = {"rest_url": exchange.rest_url, "ws_url": exchange.ws_url}
            config = config.model_copy(update={"venue": config.venue.model_copy(update=address)})
        budget = await stack.enter_async_context(desk_budget(config.venue, run_dir(config.store.state_dir)))
        venue: MarketVenue = make_venue(config.venue, budget)
        stack.push_async_callback(venue.aclose)
        yield venue


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _tell_progress(recorder: RawRecorder, driver: TapeDriver, started_s: float) -> None:
    is_terminal, before = sys.stderr.isatty(), 0
    while True:
        await asyncio.sleep(PROGRESS_S)
        rate, before = (recorder.frames - before) / PROGRESS_S, recorder.frames
        state = "listening" if driver.is_connected else "history or connecting"
        text = (
            f"{time.monotonic() - started_s:6.0f} s  {recorder.frames} frames  {rate:.0f}/s  {recorder.written_bytes / 1e6:.2f} MB"
            f"  {state}" + (f"  {recorder.dropped_frames} dropped" if recorder.dropped_frames else "")
        )
        print(f"\r{text:<78}" if is_terminal else text, end="" if is_terminal else "\n", file=sys.stderr, flush=True)


@data.command("show-recording")
def show_recording(
    directory: Annotated[Path, typer.Argument(help="What helios data record was given as --out.")], as_json: AsJson = False
) -> None:
    """What a raw recording holds and what is wrong with it."""
    recording = RawRecording(directory)
    found = survey(recording.records(), 0.0)
    assert found.first_ns is not None
    answer: dict[str, Any] = {
        "symbols": sorted(found.instruments),
        "files": len(recording.files),
        "frames": found.frames,
        "market_start_ns": found.first_ns,
        "market_end_ns": found.last_ns,
        "market_seconds": round((found.last_ns - found.first_ns) / 1e9, 3),
        "history_bars": {s: {tf.value: len(bars) for tf, bars in h.items()} for s, h in sorted(found.history.items())},
        "outages": max((len(outages) - 1 for outages in found.outages.values()), default=0),
        "damage": asdict(recording.damage),
    }
    if as_json:
        print(json.dumps(answer))
        return
    for name, value in answer.items():
        print(f"{name:>16}  {value}")


@data.command()
def retention(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Delete market data older than its time (candles two years), as the desk does daily; money and decisions stay."""
    deleted = _answer(state_dir, _retain)
    if as_json:
        print(json.dumps(deleted))
        return
    for table, rows in deleted.items():
        print(f"{table:>16}  {rows} rows deleted")


async def _retain(pool: asyncpg.Pool) -> dict[str, int]:
    # Market time, which in a replay or a fast sandbox is not the wall's; the newest candle tells it.
    recorder = MarketRecorder(pool)
    newest_ns = await recorder.newest_ns()
    return await recorder.apply_retention(time.time_ns() if newest_ns is None else newest_ns)

"""`helios data record` against the sandbox exchange, with a cut line and with Ctrl-C; and `helios data retention`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from helios.cli.app import main
from helios.domain.enums import Timeframe
from helios.errors import ConfigError
from helios.pipeline.symbol import SymbolState
from helios.store.raw_recording import RawRecording, find_recordings
from helios.venues.local_budget import LocalBudget
from helios.venues.recording import RecordingVenue, TapeDriver, open_recorder
from helios.venues.replay.open import open_replay
from helios.venues.sandbox.server import SandboxConfig, SandboxExchange
from helios.venues.valr.limits import relaxed_rates
from helios.venues.valr.transport import ValrVenue

ROOT = Path(__file__).resolve().parents[2]
SYMBOLS = ("BTC/ZAR", "ETH/ZAR")
SPEED = 60.0


async def eventually(is_true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true")


@contextlib.asynccontextmanager
async def exchange(symbols: tuple[str, ...] = SYMBOLS) -> AsyncIterator[tuple[SandboxExchange, ValrVenue]]:
    sandbox = SandboxExchange(SandboxConfig(speed=SPEED, symbols=symbols))
    await sandbox.start()
    venue = ValrVenue(sandbox.rest_url, sandbox.ws_url, SPEED, budget=LocalBudget(relaxed_rates(200.0)))
    try:
        yield sandbox, venue
    finally:
        await venue.aclose()
        await sandbox.stop()


@contextlib.asynccontextmanager
async def driving(driver: TapeDriver) -> AsyncIterator[None]:
    task = asyncio.create_task(driver.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_missed_while_the_line_was_cut_is_on_the_tape(tmp_path: Path) -> None:
    async with exchange() as (sandbox, venue):
        with await open_recorder(venue, SYMBOLS, tmp_path, "sandbox") as recorder:
            driver = TapeDriver(RecordingVenue(venue, recorder), SYMBOLS)
            async with driving(driver):
                await eventually(lambda: driver.repairs >= 2)
                for line in list(sandbox._lines):
                    line.client.cut()
                await eventually(lambda: driver.repairs >= 4)
                await asyncio.sleep(2 * 60 / SPEED)
    assert driver.outages >= 1
    for symbol, source in open_replay(str(tmp_path)).items():
        state = SymbolState(source.instrument)
        state.on_events(source.read_until(source.end_ns), source.end_ns)
        step = state.drain()
        minutes = [b for b in step.bars if b.timeframe is Timeframe.M1]
        opens = [b.open_time for b in minutes]
        assert opens == list(range(opens[0], opens[0] + len(opens) * Timeframe.M1.ns, Timeframe.M1.ns)), symbol
        missed = [b for b in minutes if b.buy_volume != b.buy_volume]
        assert len(missed) >= 2
        assert all(b.quote_volume > 0 for b in missed)  # told by the venue, not made up
        assert state.features.is_warm
        assert state.book.is_synced
        assert not state.is_stale
        assert state.book_desyncs == 0


async def test_a_venue_that_hides_its_frames_or_lacks_the_symbol_is_refused(tmp_path: Path) -> None:
    async with exchange(("BTC/ZAR",)) as (_, venue):
        with pytest.raises(ConfigError, match="NOPE/ZAR"):
            await open_recorder(venue, ("BTC/ZAR", "NOPE/ZAR"), tmp_path, "sandbox")
    with pytest.raises(ConfigError, match="frames"):
        await open_recorder(object(), ("BTC/ZAR",), tmp_path, "other")  # type: ignore[arg-type]
    assert find_recordings(tmp_path) == []


def test_ctrl_c_ends_a_recording_cleanly_and_it_replays(tmp_path: Path) -> None:
    command = ["-c", "import sys; from helios.cli.app import main; sys.exit(main())", "data", "record"]
    options = ["--venue", "sandbox", "--symbols", "BTC/ZAR", "--out", str(tmp_path / "tape"), "--json"]
    process = subprocess.Popen(
        [sys.executable, *command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    deadline = time.monotonic() + 40
    for line in process.stderr:
        assert time.monotonic() < deadline
        if "listening" in line and " 0/s" not in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    summary = json.loads(out)
    assert summary["frames"] > 0
    assert (summary["dropped_frames"], summary["write_failures"]) == (0, 0)
    recording = RawRecording(tmp_path / "tape")
    assert sum(r.kind == "frame" for r in recording.records()) == summary["frames"]
    assert list(open_replay(str(tmp_path / "tape"))) == ["BTC/ZAR"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["record", "--symbols", ",", "--out", "x"], "--symbols"),
    (["record", "--symbols", "BTC/ZAR", "--out", "x", "--venue", "nowhere"], "nowhere"),
    (["record", "--symbols", "nope", "--out", "x", "--venue", "sandbox", "--duration", "5"], "nope"),
    (["show-recording", "x"], "no raw recording"),
    (["retention", "--state-dir", "x"], "no desk has run"),
])  # fmt: skip
def test_a_wrong_value_is_one_line_and_exit_code_1(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["helios", "data", *arguments])
    assert main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("helios: ")
    assert words in err
    assert err.count("\n") == 1

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from actors import repair as module
from helios.domain.enums import Timeframe
from helios.domain.market import Bar
from tests.support.feed_bench import Bench
from tests.support.waiting import turns


@pytest.fixture(autouse=True)
def _own_log_files() -> Iterator[None]:
    """Actors keep their log file for the life of a process; here each test has its own directory."""
    yield
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if name.startswith("helios.") and isinstance(logger, logging.Logger):
            for handler in logger.handlers[:]:
                handler.close()
                logger.removeHandler(handler)
            logger.propagate = True


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "HISTORY_BARS", {Timeframe.H1: 2, Timeframe.M15: 2, Timeframe.M5: 4, Timeframe.M1: 10})
    made = Bench(tmp_path)

    async def nothing_stored(symbol: str) -> dict[Timeframe, list[Bar]]:
        return {}

    monkeypatch.setattr(made.feed.repairs, "_stored", nothing_stored)
    monkeypatch.setattr(module, "CHECK_PAUSE_S", 0.02)
    monkeypatch.setattr(module, "MAX_PAUSE_S", 0.02)
    tasks = [asyncio.create_task(loop) for loop in (made.feed.run(), made.feed.tick(), made.feed.repair())]
    await turns(0.02)
    yield made
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task

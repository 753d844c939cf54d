"""`helios data check --stored`: whole histories out of the database, and the report on them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import numpy as np
import pytest

from helios.cli import history_stored
from helios.cli.app import main
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, Bar
from helios.store.candle_history import StoredCandles
from helios.store.pool import connect
from helios.store.recorder import MarketRecorder

MINUTE = Timeframe.M1.ns
START = 1_750_000_200_000_000_000 // Timeframe.H1.ns * Timeframe.H1.ns


def bar(n: int, symbol: str = "BTC/ZAR", timeframe: Timeframe = Timeframe.M1, **values: float) -> Bar:
    numbers = {"open": 100.0 + n % 7, "high": 108.0, "low": 99.0, "close": 100.0 + n % 5, "volume": 1.0 + n % 3} | values
    return Bar(symbol, timeframe, START + n * timeframe.ns, **numbers)


async def test_a_history_comes_back_as_columns(pg_pool: asyncpg.Pool) -> None:
    recorder, stored = MarketRecorder(pg_pool), StoredCandles(pg_pool)
    assert await stored.series() == []
    bars = [bar(n, spread_bps=0.5 * n) for n in range(10)]
    recorder.add_bars([*bars, bar(0, timeframe=Timeframe.H1), bar(0, "ETH/ZAR", Timeframe.M5), bar(0, "ETH/ZAR")])
    assert await recorder.flush()
    assert await stored.series() == [
        ("BTC/ZAR", Timeframe.M1), ("BTC/ZAR", Timeframe.H1), ("ETH/ZAR", Timeframe.M1), ("ETH/ZAR", Timeframe.M5),
    ]  # fmt: skip
    open_times, values = await stored.bars("BTC/ZAR", Timeframe.M1)
    assert open_times.tolist() == [b.open_time for b in bars]
    assert np.array_equal(values, np.array([[getattr(b, name) for name in BAR_VALUES] for b in bars]), equal_nan=True)
    some, _ = await stored.bars("BTC/ZAR", Timeframe.M1, START + 3 * MINUTE, START + 5 * MINUTE)
    assert some.tolist() == [START + 3 * MINUTE, START + 4 * MINUTE]
    empty_times, empty = await stored.bars("NOPE/ZAR", Timeframe.M1)
    assert (len(empty_times), empty.shape) == (0, (0, 13))


def test_holes_in_the_database_are_named_and_are_exit_code_1(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(_state_dir: str | None, question: Callable[[asyncpg.Pool], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            pool = await connect(pg_dsn, max_size=1)
            try:
                return await question(pool)
            finally:
                await pool.close()

        return asyncio.run(run())

    def check(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", "data", "check", "--stored", *arguments])
        return (main(), *capsys.readouterr())

    async def store(bars: list[Bar]) -> None:
        pool = await connect(pg_dsn, max_size=1)
        recorder = MarketRecorder(pool)
        recorder.add_bars(bars)
        assert await recorder.flush()
        await pool.close()

    monkeypatch.setattr(history_stored, "_answer", answer)
    asyncio.run(store([bar(n, "GAP/ZAR") for n in range(100) if n not in (40, 41)]))
    code, out, err = check("--symbol", "GAP/ZAR", "--json")
    assert (code, err) == (1, "")
    (report,) = json.loads(out)["reports"]
    assert (report["series"], report["rows"], report["expected_rows"]) == ("stored GAP/ZAR 1m", 98, 100)
    assert report["findings"]["gaps"]["count"] == 2
    asyncio.run(store([bar(40, "GAP/ZAR"), bar(41, "GAP/ZAR")]))
    assert check("--symbol", "GAP/ZAR", "--timeframe", "1m")[0] == 0
    for wrong, words in ((["--symbol", "NOPE/ZAR"], "has no NOPE/ZAR"), (["--repair"], "archive"), (["x.csv"], "neither files")):
        code, out, err = check(*wrong)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert words in err

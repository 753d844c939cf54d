"""helios data against exchanges on this machine: download, stop, go on, check, repair."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from helios.cli.app import main
from helios.domain.enums import Timeframe
from helios.store.archive import CandleArchive, CandleSeries, Source
from helios.venues.sandbox.server import SandboxConfig, SandboxExchange
from tests.support.candles import MINUTE_NS, START_NS, clean_candles
from tests.support.valr_server import Answer, ValrServer, iso

ROOT = Path(__file__).resolve().parents[2]
DAY_NS = Timeframe.D1.ns
BTC = CandleSeries("valr", "BTC/ZAR", Timeframe.M1)
Cli = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HELIOS__VENUE__REST_REQUESTS_PER_S", "1000")

    async def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", "data", *arguments, "--archive", "archive"])
        code = await asyncio.to_thread(main)  # the exchange goes on in this loop
        out, err = capsys.readouterr()
        return code, out, err

    return call


def archive(tmp_path: Path) -> CandleArchive:
    return CandleArchive(tmp_path / "archive")


def january(server: ValrServer, *more: str, start: str = "2025-01-01", end: str = "2025-01-31") -> list[str]:
    options = ["--venue", "valr", "--symbols", "BTC/ZAR", "--start", start, "--end", end, "--rest-url", server.rest_url]
    return ["download", *options, *more]


class ListedLater(ValrServer):
    """Its first day has a daily candle, though trading began in the middle of it."""

    def _buckets(self, query: dict[str, str]) -> Answer:
        listed_s = self.first_bucket_s
        if query["periodSeconds"] == "86400":
            self.first_bucket_s -= listed_s % 86_400
        answer = super()._buckets(query)
        self.first_bucket_s = listed_s
        return answer


def expected_bars(start_ns: int, n: int) -> np.ndarray:
    """Return what ValrServer says of n minutes."""
    price = 1_000_000 + (start_ns // MINUTE_NS + np.arange(n)) % 1000
    return np.column_stack([price, price + 5, price - 5, price + 1, np.full(n, 0.5), np.full(n, 500_000.0)]).astype(float)


@pytest.mark.slow
async def test_january_has_44640_minutes_and_comes_whole(cli: Cli, tmp_path: Path) -> None:
    begun = time.monotonic()
    async with ValrServer() as server:
        code, out, err = await cli(*january(server, "--json"))
        n_requests = len(server.requests)
        (series,) = json.loads(out)["series"]
        assert (code, err) == (0, "")
        assert (series["rows"], series["expected_rows"], series["verdict"], series["score"]) == (44_640, 44_640, "OK", 1.0)
        assert (series["pages"], series["new"], series["errors"]) == (31, 44_640, [])
        assert time.monotonic() - begun < 300
        times, bars = archive(tmp_path).bars(BTC)
        np.testing.assert_array_equal(times, START_NS + MINUTE_NS * np.arange(44_640))
        np.testing.assert_array_equal(bars[:, :6], expected_bars(START_NS, 44_640))
        # Again: nothing is missing, so nothing is asked for.
        code, out, _ = await cli(*january(server, "--json"))
        assert (code, json.loads(out)["series"][0]["pages"]) == (0, 0)
        assert not [path for path in server.requests[n_requests:] if "/buckets" in path]


async def test_a_pair_listed_later_is_whole_from_its_first_candle_and_its_past_is_not_asked_for(cli: Cli) -> None:
    listed_s = START_NS // 10**9 + 40 * 86_400 + 5 * 3_600
    async with ListedLater(first_bucket_s=listed_s) as server:
        for asked_at_most in (15, 3):
            server.requests.clear()
            code, out, err = await cli(*january(server, "--json", end="2025-02-11"))
            (series,) = json.loads(out)["series"]
            assert (code, err.count("Error"), series["history_begins"], series["start"]) == (0, 0, iso(listed_s), iso(listed_s))
            assert sum("buckets" in path for path in server.requests) <= asked_at_most
        code, out, _ = await cli(*january(server, end="2025-02-11"))
        assert (code, "history begins at 2025-02-10" in out) == (0, True)


async def test_429_is_waited_for_and_leaves_no_gap(cli: Cli, tmp_path: Path) -> None:
    class Limiting(ValrServer):
        limited = pages = 0

        def _buckets(self, query: dict[str, str]) -> Answer:
            self.pages += 1
            if self.pages in (4, 10):
                self.limited += 1
                return 429, {"Retry-After": "1"}, ""
            return super()._buckets(query)

    async with Limiting() as server:
        code, out, _ = await cli(*january(server, "--json", end="2025-01-03"))
        assert server.limited == 2
    (series,) = json.loads(out)["series"]
    assert (code, series["rows"], series["findings"]["gaps"]["count"]) == (0, 3 * 1_440, 0)


async def test_a_gap_that_cannot_be_filled_is_listed_and_is_exit_code_1(cli: Cli, tmp_path: Path) -> None:
    async with ValrServer() as server:
        hole = START_NS // 10**9 + 36_000
        server.skipped_buckets = {hole, hole + 60}
        code, out, _ = await cli(*january(server, end="2025-01-02"))
        assert code == 1
        assert "gaps (2 missing bars in 1 runs, the longest 2): 2025-01-01 10:00 to 10:02" in out
        server.skipped_buckets = set()
        before = len(server.requests)
        code, out, _ = await cli(*january(server, end="2025-01-02"))
        asked = [path for path in server.requests[before:] if "/buckets" in path]
        assert (code, len(asked)) == (0, 1)  # the hole alone
        assert f"startTime={hole}" in asked[0]


async def test_a_page_the_venue_refuses_is_said_and_the_others_are_kept(cli: Cli, tmp_path: Path) -> None:
    class Refusing(ValrServer):
        def _buckets(self, query: dict[str, str]) -> Answer:
            if iso(int(query["startTime"])).startswith("2025-01-02"):
                return 400, {}, '{"code":-11,"message":"not today"}'
            return super()._buckets(query)

    async with Refusing() as server:
        code, out, _ = await cli(*january(server, "--json", end="2025-01-03"))
    (series,) = json.loads(out)["series"]
    assert (code, series["rows"], series["errors"]) == (1, 2 * 1_440, ["refused with status 400 code -11: not today"])
    assert series["findings"]["gaps"]["ranges"] == [["2025-01-02T00:00:00Z", "2025-01-03T00:00:00Z"]]


async def test_the_sandbox_exchange_fills_several_symbols_side_by_side(cli: Cli, tmp_path: Path) -> None:
    sandbox = SandboxExchange(SandboxConfig(symbols=("BTC/ZAR", "ETH/ZAR"), speed=1.0, start_ns=START_NS + 2 * DAY_NS))
    await sandbox.start()
    try:
        options = [
            "--venue",
            "sandbox",
            "--symbols",
            "BTC/ZAR, ETH/ZAR",
            "--start",
            "2024-12-30T06:00",
            "--rest-url",
            sandbox.rest_url,
        ]
        code, out, err = await cli("download", *options, "--json")
        closed = (sandbox.clock.now_ns() - START_NS) // MINUTE_NS
        rows = {pair: sandbox.exchange.buckets[pair].rows()[0].copy() for pair in ("BTCZAR", "ETHZAR")}
        first_ns = sandbox.exchange.buckets["BTCZAR"].start_ns
    finally:
        await sandbox.stop()
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert [series["series"] for series in answer["series"]] == ["sandbox BTC/ZAR 1m", "sandbox ETH/ZAR 1m"]
    for pair, symbol in (("BTCZAR", "BTC/ZAR"), ("ETHZAR", "ETH/ZAR")):
        times, bars = archive(tmp_path).bars(CandleSeries("sandbox", symbol, Timeframe.M1))
        assert abs(len(times) - (42 * 60 + closed)) <= 1
        index = (times - first_ns) // MINUTE_NS
        np.testing.assert_allclose(bars[:, :6], rows[pair][index], rtol=1e-9)
    assert (await cli("check"))[0] in (0, 1)  # its verdict is the market's affair; its clock is not ours, so none is early
    _, out, _ = await cli("check", "--json")
    assert all(report["findings"]["future"]["count"] == 0 for report in json.loads(out)["reports"])


async def test_a_five_day_gap_is_found_and_repaired(cli: Cli, tmp_path: Path) -> None:
    times, bars = START_NS + MINUTE_NS * np.arange(44_640), np.full((44_640, 13), np.nan)
    bars[:, :6] = expected_bars(START_NS, 44_640)
    kept = (times < START_NS + 15 * DAY_NS) | (times >= START_NS + 20 * DAY_NS)
    archive(tmp_path).write(BTC, times[kept], bars[kept], Source("test"))
    code, out, _ = await cli("check", "--start", "2025-01-01", "--end", "2025-01-31", "--json")
    (report,) = json.loads(out)["reports"]
    assert (code, report["rows"], report["expected_rows"], report["verdict"]) == (1, 44_640 - 7_200, 44_640, "WARN")
    assert report["findings"]["gaps"]["ranges"] == [["2025-01-16T00:00:00Z", "2025-01-21T00:00:00Z"]]
    assert report["score"] == pytest.approx(1 - 7_200 / 44_640)
    begun = time.monotonic()
    async with ValrServer() as server:
        code, out, _ = await cli("check", "--repair", "--rest-url", server.rest_url, "--json")
    (report,) = json.loads(out)["reports"]
    assert (code, report["verdict"], report["new"], report["pages"]) == (0, "OK", 7_200, 5)
    assert time.monotonic() - begun < 120
    np.testing.assert_array_equal(archive(tmp_path).bars(BTC)[1], bars)


async def test_an_impossible_bar_is_replaced_by_the_venues_and_no_other(cli: Cli, tmp_path: Path) -> None:
    times, bars = START_NS + MINUTE_NS * np.arange(600), np.full((600, 13), np.nan)
    bars[:, :6] = expected_bars(START_NS, 600)
    bars[100, 1] = 1.0  # the high
    bars[200, 3] = np.nan
    bars[300, 4] = 0.75  # another opinion, but a possible one
    archive(tmp_path).write(BTC, times, bars, Source("test"))
    assert (await cli("check", "--fail-on", "bad"))[0] == 1
    async with ValrServer() as server:
        code, out, _ = await cli("check", "--repair", "--rest-url", server.rest_url)
    assert code == 0
    assert "1 conflicting, 1 replaced" in out
    bars[100, 1], bars[200, 3] = bars[100, 0] + 5, bars[200, 0] + 1
    np.testing.assert_array_equal(archive(tmp_path).bars(BTC)[1], bars)


@pytest.mark.parametrize(("fail_on", "code"), [("warn", 1), ("bad", 0), ("never", 0)])
async def test_the_exit_code_is_a_choice(cli: Cli, tmp_path: Path, fail_on: str, code: int) -> None:
    times, bars = clean_candles(1_000)
    kept = np.arange(1_000) != 500
    archive(tmp_path).write(BTC, times[kept], bars[kept], Source("test"))
    assert (await cli("check", "--fail-on", fail_on))[0] == code


@pytest.mark.parametrize(("arguments", "words"), [
    (["check"], "has no candles"), (["check", "--venue", "x", "--timeframe", "5m"], "has no x 5m"),
    (["check", "--fail-on", "sometimes"], "warn, bad or never"), (["check", "--timeframe", "2m"], "unknown timeframe"),
    (["check", "nowhere.parquet"], "does not exist"), (["import", "nowhere"], "does not exist"),
    (["check", "--start", "soon"], "no date or time"), (["check", "--start", "2025-02-01", "--end", "2025-01-01"], "not before"),
    (["download", "--venue", "nowhere", "--symbols", "A/B", "--start", "2025-01-01"], "unknown venue"),
    (["download", "--venue", "sandbox", "--symbols", "A/B", "--start", "2025-01-01"], "address is not set"),
    (["download", "--venue", "valr", "--symbols", ",", "--start", "2025-01-01"], "names no symbol"),
])  # fmt: skip
async def test_what_makes_no_sense_is_one_line(cli: Cli, arguments: list[str], words: str) -> None:
    code, out, err = await cli(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert words in err


async def test_a_symbol_the_venue_does_not_list_or_a_range_without_candles_is_one_line(cli: Cli) -> None:
    async with ValrServer() as server:
        options = ["download", "--venue", "valr", "--rest-url", server.rest_url, "--symbols"]
        code, _, err = await cli(*options, "DOGE/ZAR", "--start", "2025-01-01", "--end", "2025-01-01")
        assert (code, "does not list DOGE/ZAR" in err) == (1, True)
        code, _, err = await cli(*options, "BTC/ZAR", "--start", "2040-01-01")
        assert (code, "no closed candle" in err) == (1, True)


def candle_files(folder: Path) -> None:
    import pyarrow as pa

    folder.mkdir()
    for seed, pair in enumerate(("BTCUSDT", "ETHUSDT"), 1):
        times, bars = clean_candles(3_000, seed=seed)
        columns = {name: bars[:, i] for i, name in enumerate(("open", "high", "low", "close", "volume"))}
        pq.write_table(
            pa.table({"ts": pa.array(times // 10**6, pa.timestamp("ms", tz="UTC"))} | columns), folder / f"{pair}_1m.parquet"
        )


async def test_import_check_and_list_of_a_folder(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "binance-perp-1m"
    candle_files(folder)
    (folder / "XRPUSDT_1m.parquet").write_text("no parquet")
    code, out, err = await cli("import", str(folder), "--json")
    btc, eth, xrp = json.loads(out)["files"]
    assert (code, err) == (1, "")
    assert "XRPUSDT_1m.parquet" in xrp["error"]
    assert [each["imported"][0]["series"] for each in (btc, eth)] == [f"binance {s}/USDT:USDT 1m" for s in ("BTC", "ETH")]
    assert [each["imported"][0]["new"] for each in (btc, eth)] == [3_000, 3_000]
    (folder / "XRPUSDT_1m.parquet").unlink()
    code, out, _ = await cli("import", str(folder))
    assert (code, out.count("3,000 rows, imported before")) == (0, 2)
    code, out, _ = await cli("check", "--symbol", "ETH/USDT:USDT")
    assert (code, "OK" in out, "BTC" in out) == (0, True, False)
    assert (await cli("check", str(folder / "BTCUSDT_1m.parquet")))[0] == 0
    code, out, _ = await cli("list")
    assert (code, out.count("BTCUSDT_1m.parquet"), out.count("3,000")) == (0, 1, 2)
    listed = json.loads((await cli("list", "--json"))[1])["series"]
    assert [(s["symbol"], s["rows"], s["start"], s["end"]) for s in listed] == [
        (f"{s}/USDT:USDT", 3_000, "2025-01-01T00:00:00Z", "2025-01-03T02:00:00Z") for s in ("BTC", "ETH")
    ]


async def test_files_of_one_name_in_two_folders_have_a_report_each(cli: Cli, tmp_path: Path) -> None:
    for name in ("binance-spot-1m-2024", "binance-spot-1m-2025"):
        candle_files(tmp_path / name)
    code, out, _ = await cli("check", str(tmp_path), "--json")
    assert (code, len(json.loads(out)["reports"])) == (0, 4)


async def test_a_corrupt_month_is_one_line_that_names_it(cli: Cli, tmp_path: Path) -> None:
    archive(tmp_path).write(BTC, *clean_candles(100), Source("test"))
    path = archive(tmp_path).months(BTC)[0].path
    path.write_bytes(path.read_bytes()[:-10])
    for command in (["check"], ["list"], ["check", "--repair", "--rest-url", "http://127.0.0.1:9"]):
        code, out, err = await cli(*command)
        assert (code, out, err.count("\n"), str(path) in err) == (1, "", 1, True)


async def test_an_import_that_contradicts_the_archive_is_exit_code_1_until_it_is_said_to_be_right(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "binance-spot-1m"
    candle_files(folder)
    assert (await cli("import", str(folder / "BTCUSDT_1m.parquet")))[0] == 0
    other = [str(folder / "ETHUSDT_1m.parquet"), "--symbol", "BTC/USDT"]
    code, out, _ = await cli("import", *other)
    assert (code, "3,000 conflicting" in out) == (1, True)
    code, out, _ = await cli("import", *other, "--replace")
    assert (code, "3,000 replaced" in out) == (0, True)


@pytest.mark.slow
async def test_a_download_killed_and_run_again_goes_on_where_it_stopped(cli: Cli, tmp_path: Path) -> None:
    async with ValrServer() as server:
        command = [sys.executable, "-m", "cluster", "data", *january(server), "--archive", str(tmp_path / "archive")]
        environment = {**os.environ, "HELIOS__VENUE__REST_REQUESTS_PER_S": "40"}
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)
        try:
            await eventually_rows(tmp_path, 4 * 1_440)
        finally:
            process.kill()
            await process.wait()
        there = len(archive(tmp_path).bars(BTC)[0])
        assert 4 * 1_440 <= there < 44_640
        assert there % 1_440 == 0  # whole days
        before = len(server.requests)
        code, out, _ = await cli(*january(server, "--json"))
        asked = [path for path in server.requests[before:] if "/buckets" in path]
    (series,) = json.loads(out)["series"]
    assert (code, series["rows"], series["new"], series["conflicting"]) == (0, 44_640, 44_640 - there, 0)
    assert len(asked) == (44_640 - there) // 1_440 * 5


async def eventually_rows(tmp_path: Path, n_rows: int) -> None:
    deadline = time.monotonic() + 60.0
    while (rows := len(archive(tmp_path).bars(BTC, may_be_absent=True)[0])) < n_rows:
        assert time.monotonic() < deadline, f"only {rows} rows"
        await asyncio.sleep(0.05)

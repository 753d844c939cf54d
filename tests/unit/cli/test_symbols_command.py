"""`helios symbols` against an API over a fake desk, on a real port."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from helios.cli.app import main
from helios.cli.rundir import RunDir, RunInfo
from serve.gateway import build_api
from serve.security import Security
from tests.support.desk_fake import FakeDesk

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def run(desk: FakeDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    directory = RunDir(tmp_path)
    directory.prepare()
    directory.lock()
    api = build_api(desk, Security(token=directory.token()))  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(api, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    directory.write(RunInfo(1, f"http://127.0.0.1:{port}", "embedded", "desk", "run", "sandbox", "ZAR", 0.0, ""))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # where nobody listens: our own desk is not asked through it
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["helios", *arguments, "--state-dir", str(tmp_path)])
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    yield call
    server.should_exit = True
    thread.join(10.0)


def test_symbols_are_listed_with_status_and_prices(run: Run, desk: FakeDesk) -> None:
    desk.left = {"SOL/ZAR"}
    code, out, _ = run("symbols")
    assert code == 0
    assert out.splitlines()[0].endswith("2.6 bps")
    words = [" ".join(line.split()[:3]) for line in out.splitlines()]
    assert words == ["BTC/ZAR traded 1835000", "ETH/ZAR traded 69895", "SOL/ZAR closing only", "XRP/ZAR warming up"]
    assert [row["symbol"] for row in json.loads(run("symbols", "--json")[1])["symbols"]] == [
        "BTC/ZAR",
        "ETH/ZAR",
        "SOL/ZAR",
        "XRP/ZAR",
    ]


def test_symbols_are_added_and_removed_and_a_refusal_is_one_line(run: Run, desk: FakeDesk) -> None:
    assert run("symbols", "add", "SOL/ZAR", "ETH/ZAR") == (
        0, "SOL/ZAR is traded from now on\nETH/ZAR is traded from now on\n", ""
    )  # fmt: skip
    code, out, _ = run("symbols", "remove", "BTC/USDT:USDT")
    assert (code, out) == (0, "BTC/USDT:USDT is to be left: nothing more is opened in it\n")
    assert json.loads(run("symbols", "add", "ADA/ZAR", "--no-wait", "--json")[1])["symbols"][0]["symbol"] == "ADA/ZAR"
    assert run("symbols", "add", "BTC/ZAR") == (1, "", "helios: refused with status 409: BTC/ZAR is traded already\n")
    assert desk.commands == [
        ("add_symbol", "SOL/ZAR"), ("add_symbol", "ETH/ZAR"), ("remove_symbol", "BTC/USDT:USDT"), ("add_symbol", "ADA/ZAR"),
        ("add_symbol", "BTC/ZAR"),
    ]  # fmt: skip


def test_a_symbol_that_does_not_get_warm_is_told_after_a_while(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helios.cli.symbols.WARM_TIMEOUT_S", 0.1)
    code, out, err = run("symbols", "add", "XRP/ZAR")
    assert (code, out, err) == (1, "", "helios: added, but without their history after 0.1 s: XRP/ZAR\n")

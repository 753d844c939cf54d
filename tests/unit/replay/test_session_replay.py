from __future__ import annotations

import gzip
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from helios.domain.enums import MarketKind, Side
from helios.domain.market import BookUpdate, Trade
from helios.errors import ConfigError, DataError
from helios.venues.replay.session import SessionReplay, detect_replay, open_session_replay

ROOT = Path(__file__).resolve().parents[3]
RECORDED = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded"))
T0 = 1_721_347_022_000
NS = 1_000_000


def depth(t: int, first: int, last: int, before: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    data = {"e": "depthUpdate", "T": T0 + t, "U": first, "u": last, "pu": before, "b": bids, "a": asks}
    return {"stream": "btcusdt@depth@0ms", "data": data}


def trade(t: int, number: int, maker_bought: bool, x: str = "MARKET") -> dict[str, Any]:
    data = {"e": "trade", "T": T0 + t, "t": number, "p": "100.1", "q": "0.5", "X": x, "m": maker_bought}
    return {"stream": "btcusdt@trade", "data": data}


def ticker(t: int) -> dict[str, Any]:
    return {"stream": "btcusdt@bookTicker", "data": {"e": "bookTicker", "u": 1, "T": T0 + t}}


SNAPSHOT = {"lastUpdateId": 20, "T": T0 + 5, "bids": [["100.0", "1"]], "asks": [["100.1", "2"]]}
SESSION = [
    depth(0, 1, 10, 0, [["99.0", "1"]], []),
    trade(1, 1, True),
    depth(2, 11, 25, 10, [["99.5", "3"]], []),
    SNAPSHOT,
    ticker(6),
    depth(7, 26, 30, 25, [], [["100.1", "0.000"]]),
    trade(9, 2, False),
    trade(9, 3, False, x="INSURANCE_FUND"),
]


def write(directory: Path, messages: list[Any], day: str = "20240718") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"BTCUSDT_{day}.raw.gz"
    with gzip.open(path, "wt") as out:
        out.writelines(f"{(T0 + i) * NS} {json.dumps(message)}\n" for i, message in enumerate(messages))
    return path


def test_early_updates_follow_the_snapshot_and_older_ones_are_dropped(tmp_path: Path) -> None:
    replay = SessionReplay([write(tmp_path, SESSION)])
    books = [event for event in replay.read_until(replay.end_ns) if isinstance(event, BookUpdate)]
    assert [(book.is_snapshot, book.bids, book.asks) for book in books] == [
        (True, (("100.0", "1"),), (("100.1", "2"),)),
        (False, (("99.5", "3"),), ()),
        (False, (), (("100.1", "0"),)),
    ]
    assert all(book.sequence is None and book.checksum is None for book in books)


def test_trades_carry_the_takers_side_and_other_kinds_are_dropped(tmp_path: Path) -> None:
    replay = SessionReplay([write(tmp_path, SESSION)])
    trades = [event for event in replay.read_until(replay.end_ns) if isinstance(event, Trade)]
    assert [(t.trade_id, t.taker_side, t.ts_event) for t in trades] == [
        ("1", Side.SELL, (T0 + 1) * NS), ("2", Side.BUY, (T0 + 9) * NS),
    ]  # fmt: skip


def test_nothing_is_returned_before_the_exchange_said_it(tmp_path: Path) -> None:
    replay = SessionReplay([write(tmp_path, SESSION)])
    seen = []
    for ms in range(12):
        until = (T0 + ms) * NS
        events = replay.read_until(until)
        assert all(event.ts_event <= until for event in events)
        seen += events
    assert len(seen) == 5
    assert (replay.start_ns, replay.end_ns) == ((T0 + 1) * NS, (T0 + 9) * NS)


def test_chain_holds_across_files_and_a_break_is_an_error(tmp_path: Path) -> None:
    first = write(tmp_path, SESSION)
    second = write(tmp_path, [depth(20, 31, 33, 30, [["99.9", "1"]], [])], "20240719")
    assert len(open_session_replay(tmp_path, None)["BTC/USDT:USDT"].read_until(2**62)) == 6
    write(tmp_path, [depth(20, 32, 33, 31, [["99.9", "1"]], [])], "20240719")
    with pytest.raises(DataError, match=f"{second.name}: line 1: book update follows 31"):
        SessionReplay([first, second])


def test_gap_between_snapshot_and_updates_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, [SNAPSHOT, depth(7, 26, 30, 25, [], [])])
    with pytest.raises(DataError, match="after the snapshot's 20"):
        SessionReplay([path])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not gzip", "gzip"),
        (gzip.compress(b"12 {nonsense"), "line 1 is malformed"),
        (gzip.compress(b'12 {"data":{"e":"trade"}}\n'), "line 1 is malformed"),
        (gzip.compress(b"12 7\n"), "line 1 is malformed"),
        (gzip.compress(json.dumps(SNAPSHOT).encode())[:-20], "gzip"),
        (gzip.compress(b""), "without events"),
    ],
    ids=["no gzip", "no json", "no fields", "no object", "cut", "empty"],
)  # fmt: skip  (gzip holds the time: no name for a test)
def test_corrupt_file_is_named_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "BTCUSDT_20240718.raw.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        detect_replay(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_session_is_found_in_usdm_and_unknown_symbols_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "usdm", SESSION)
    instrument = detect_replay(tmp_path)["BTC/USDT:USDT"].instrument
    assert (instrument.kind, instrument.tick_size) == (MarketKind.PERP, Decimal("0.1"))
    with pytest.raises(ConfigError, match="it has BTC/USDT:USDT"):
        detect_replay(tmp_path, ["ETH/USDT:USDT"])


@pytest.mark.realdata
def test_recorded_session_rebuilds_the_recorded_touch_and_trades() -> None:
    directory = RECORDED / "binance-l2-2024-07-18"
    if not directory.is_dir():
        pytest.skip("recorded data absent")
    touch = pq.read_table(directory / "usdm/BTCUSDT_bbo.parquet")
    touch_ms, best = touch.column("event_ms").to_numpy(), np.column_stack([touch.column(c).to_numpy() for c in ("bid", "ask")])
    replay = detect_replay(directory, ["BTC/USDT:USDT"])["BTC/USDT:USDT"]
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    n_books = n_trades = 0
    for event in replay.read_until(replay.end_ns):
        if isinstance(event, Trade):
            n_trades += 1
            continue
        n_books += 1
        for side, levels in zip(sides, (event.bids, event.asks)):
            side.update(levels)
            for price, quantity in levels:
                if quantity == "0":
                    del side[price]
        if n_books % 50 == 0:
            row = np.searchsorted(touch_ms, event.ts_event // NS, side="right") - 1
            assert (max(map(float, sides[0])), min(map(float, sides[1]))) == tuple(best[row])
    kinds = pq.read_table(directory / "usdm/BTCUSDT_trades.parquet").column("x").to_pylist()
    assert n_trades == kinds.count("MARKET")

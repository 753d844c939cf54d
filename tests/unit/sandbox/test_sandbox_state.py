from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helios.errors import DataError
from helios.venues.sandbox import state
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.specs import MarketConfig
from helios.venues.sandbox.ticks import SECOND_NS, MarketEvent, TickTrade

START_NS = 1_767_225_600 * 1_000_000_000
CONFIG = MarketConfig(symbols=("BTC/ZAR", "XRP/ZAR"))


def traded(seconds: int) -> Exchange:
    exchange = Exchange.new(CONFIG, 5, START_NS, history_days=1, daily_days=4)
    exchange.advance(START_NS + seconds * SECOND_NS, seconds)
    return exchange


def save(exchange: Exchange, path: Path) -> None:
    state.write(path, state.snapshot(exchange, 5, exchange.time_ns + 7))


def reopened(exchange: Exchange, path: Path) -> Exchange:
    save(exchange, path)
    found = state.read(path, CONFIG, 5)
    assert found is not None
    assert found[1] == exchange.time_ns + 7
    return found[0]


def onward(exchange: Exchange, seconds: int) -> list[MarketEvent]:
    return exchange.advance(exchange.time_ns + seconds * SECOND_NS, seconds)


@pytest.mark.parametrize("seconds", [0, 60, 147])
def test_a_restored_market_trades_on_exactly_as_the_one_that_never_stopped(seconds: int, tmp_path: Path) -> None:
    exchange = traded(seconds)
    again = reopened(exchange, tmp_path / "state.npz")
    assert again.time_ns == exchange.time_ns == START_NS + seconds * SECOND_NS
    assert again.book("BTCZAR") == exchange.book("BTCZAR")
    events = onward(exchange, 200)
    assert events == onward(again, 200)
    assert any(isinstance(event, TickTrade) for event in events)


def test_bars_are_bit_identical_and_grow_without_a_hole(tmp_path: Path) -> None:
    exchange = traded(150)
    again = reopened(exchange, tmp_path / "state.npz")
    for pair, store in exchange.buckets.items():
        for before, after in zip(store.rows(), again.buckets[pair].rows()):
            assert before.tobytes() == after.tobytes()
    onward(again, 60)
    starts = [bucket.start_ns for bucket in again.buckets["XRPZAR"].query(60, 0, 2 * START_NS)]
    assert set(np.diff(starts)) == {60 * SECOND_NS}
    assert len(starts) == 1440 + 3


def test_identifiers_do_not_repeat(tmp_path: Path) -> None:
    exchange = traded(150)
    again = reopened(exchange, tmp_path / "state.npz")
    known = exchange.trades("BTCZAR")
    assert again.trades("BTCZAR") == known
    fresh = [event for event in onward(again, 120) if isinstance(event, TickTrade)]
    numbers = [trade.sequence_id for trade in fresh]
    assert min(numbers) > max(trade.sequence_id for trade in known)
    assert not {trade.trade_id for trade in fresh} & {trade.trade_id for trade in known}
    assert again.book("BTCZAR").sequence > exchange.book("BTCZAR").sequence


def test_a_snapshot_does_not_change_when_the_market_goes_on(tmp_path: Path) -> None:
    exchange = traded(60)
    early = state.snapshot(exchange, 5, exchange.time_ns)
    state.write(tmp_path / "early.npz", early)
    onward(exchange, 180)
    state.write(tmp_path / "late.npz", early)
    archives = [np.load(tmp_path / name, allow_pickle=False) for name in ("early.npz", "late.npz")]
    assert all(archives[0][name].tobytes() == archives[1][name].tobytes() for name in archives[0].files)


def test_the_file_is_its_owners_alone_and_no_temporary_stays(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    left_over = tmp_path / "state.npz.tmp"
    left_over.write_bytes(b"half")
    left_over.chmod(0o644)
    save(traded(0), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("config", "seed", "word"), [
    (CONFIG, 6, "seed"),
    (replace(CONFIG, symbols=("XRP/ZAR", "BTC/ZAR")), 5, "symbols"),
    (replace(CONFIG, flow_strength=0.5), 5, "flow_strength"),
])  # fmt: skip
def test_another_market_is_kept_aside_and_told(
    config: MarketConfig, seed: int, word: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.npz"
    save(traded(0), path)
    assert state.read(path, config, seed) is None
    assert [word in record.getMessage() for record in caplog.records] == [True]
    assert [file.name for file in tmp_path.iterdir()] == ["state.npz.old"]


def test_no_file_is_no_market(tmp_path: Path) -> None:
    assert state.read(tmp_path / "state.npz", CONFIG, 5) is None


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 and no more", b"\x93NUMPY"])
def test_foreign_bytes_are_one_clear_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"delete it to start a new market$") as caught:
        state.read(path, CONFIG, 5)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == content


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_cut_or_changed_file_is_never_taken_for_a_market(share: float, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    save(traded(60), path)
    content = bytearray(path.read_bytes())
    at = int(share * len(content))
    path.write_bytes(content[:at])
    with pytest.raises(DataError):
        state.read(path, CONFIG, 5)


@pytest.mark.parametrize("name", ["header", "trades", "minutes_XRPZAR", "days_BTCZAR"])
def test_a_flipped_bit_or_missing_part_is_noticed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    save(traded(60), path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    content = bytearray(path.read_bytes())
    content[content.index(arrays[name].tobytes()) + 20] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError):
        state.read(path, CONFIG, 5)
    del arrays[name]
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(DataError):
        state.read(path, CONFIG, 5)


def test_minutes_that_end_elsewhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    save(traded(60), path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    arrays["minutes_BTCZAR"] = arrays["minutes_BTCZAR"][:-1]
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(DataError, match="do not end"):
        state.read(path, CONFIG, 5)

"""Replay of raw Binance USDT-M captures: book diffs and trades as they came over the socket."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from helios.domain.enums import MarketKind, Side
from helios.domain.market import BookUpdate, Instrument, Level, Trade
from helios.errors import ConfigError, DataError
from helios.store.raw_recording import SUFFIX as RAW_SUFFIX
from helios.store.raw_recording import find_recordings
from helios.venues.base import ReplaySource
from helios.venues.replay.archive import open_archive_replay
from helios.venues.replay.candles import choose, open_candle_replay
from helios.venues.replay.contracts import infer_tick, recorded_instrument, symbol_of
from helios.venues.replay.raw import open_raw_replay

SUFFIX = ".raw.gz"
MS_NS = 1_000_000

Json = dict[str, Any]


class SessionReplay:
    """One symbol's recorded session, a ReplaySource.

    Events come in the order of local arrival and carry the exchange's time. An event is known once `read_until` reaches the
    latest exchange time so far, so that nothing is returned before it happened though the recorder's clock ran behind.

    Parameters
    ----------
    paths : sequence of Path
        `<PAIR>_<date>.raw.gz` of one pair in order of time; lines `<local ns> <json>`, one of them a REST book snapshot.

    Raises
    ------
    DataError
        If a file cannot be read, a line is malformed, or the chain of book updates is broken.

    Notes
    -----
    The whole session is held in memory. Book updates carry no sequence and no checksum: their chain is checked here, by
    Binance's rule for futures ("How to manage a local order book correctly"): drop u < lastUpdateId, then pu = u before.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        pair = paths[0].name.split("_")[0]
        symbol = symbol_of(pair, MarketKind.PERP)
        reader = _Reader(symbol)
        self._events = [event for path in paths for event in reader.read(path)]
        if not self._events or not reader.has_snapshot:
            raise DataError(f"{paths[0]}: session without {'a book snapshot' if self._events else 'events'}")
        times = np.array([event.ts_event for event in self._events], dtype=np.int64)
        self._known_ns = np.maximum.accumulate(times)
        self._start_ns = int(times.min())
        self._instrument = recorded_instrument(pair, MarketKind.PERP, infer_tick(_prices(self._events)))
        self._cursor = 0

    @property
    def instrument(self) -> Instrument:
        return self._instrument

    @property
    def start_ns(self) -> int:
        """Exchange time of the earliest event."""
        return self._start_ns

    @property
    def end_ns(self) -> int:
        """Exchange time of the latest event."""
        return int(self._known_ns[-1])

    def read_until(self, until_ns: int) -> Sequence[Trade | BookUpdate]:
        """Return the events known by `until_ns` that were not returned before."""
        first = self._cursor
        self._cursor = max(first, int(np.searchsorted(self._known_ns, until_ns, side="right")))
        return self._events[first : self._cursor]


class _Reader:
    # Turns lines into events and keeps the chain of book updates across files.
    def __init__(self, symbol: str) -> None:
        self.has_snapshot = False
        self._symbol = symbol
        self._early: list[tuple[int, Json]] = []  # diffs that arrived before the snapshot they may belong after
        self._snapshot_id = 0
        self._last_update: int | None = None

    def read(self, path: Path) -> Iterator[Trade | BookUpdate]:
        number = 0
        try:
            with gzip.open(path, "rb") as lines:
                for line in lines:
                    number += 1
                    yield from self._line(line)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: cannot be read as gzip: {error}") from error
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: line {number} is malformed: {error!r}") from error
        except DataError as error:
            raise DataError(f"{path}: line {number}: {error}") from error

    def _line(self, line: bytes) -> Iterator[Trade | BookUpdate]:
        stamp, _, text = line.partition(b" ")
        local_ns, message = int(stamp), orjson.loads(text)
        if "lastUpdateId" in message:
            yield from self._snapshot(local_ns, message)
            return
        data = message["data"]
        if data["e"] == "depthUpdate":
            yield from self._depth(local_ns, data)
        elif data["e"] in ("trade", "aggTrade") and data.get("X", "MARKET") == "MARKET":
            yield self._trade(local_ns, data)

    def _snapshot(self, local_ns: int, data: Json) -> Iterator[BookUpdate]:
        yield self._book(local_ns, data["T"], True, data["bids"], data["asks"])
        self.has_snapshot, self._last_update = True, None
        early, self._early = self._early, []
        self._snapshot_id = int(data["lastUpdateId"])
        for when, diff in early:
            yield from self._depth(when, diff)

    def _depth(self, local_ns: int, data: Json) -> Iterator[BookUpdate]:
        first, last, before = int(data["U"]), int(data["u"]), int(data["pu"])
        if not self.has_snapshot:
            self._early.append((local_ns, data))
            return
        if self._last_update is None:
            if last < self._snapshot_id:
                return
            if before > self._snapshot_id:
                raise DataError(f"book updates start at {first}, after the snapshot's {self._snapshot_id}")
        elif before != self._last_update:
            raise DataError(f"book update follows {before}, but the one before was {self._last_update}")
        self._last_update = last
        yield self._book(local_ns, data["T"], False, data["b"], data["a"])

    def _book(self, local_ns: int, time_ms: int, is_snapshot: bool, bids: list[list[str]], asks: list[list[str]]) -> BookUpdate:
        return BookUpdate(
            self._symbol, is_snapshot, _levels(bids), _levels(asks), None, None, int(time_ms) * MS_NS, local_ns
        )  # fmt: skip

    def _trade(self, local_ns: int, data: Json) -> Trade:
        trade_id = data["t"] if data["e"] == "trade" else data["a"]
        # m: the buyer was the maker, so the taker sold.
        side = Side.SELL if data["m"] else Side.BUY
        return Trade(
            self._symbol, str(trade_id), float(data["p"]), float(data["q"]), side, int(data["T"]) * MS_NS, local_ns
        )  # fmt: skip


def open_session_replay(directory: Path, symbols: Sequence[str] | None = None) -> dict[str, SessionReplay]:
    """Open `<PAIR>_<date>.raw.gz` captures in `directory` or its folder usdm.

    Raises
    ------
    ConfigError
        If a symbol is asked for that is not there.
    DataError
        If there is no capture or one is corrupt.
    """
    known: dict[str, list[Path]] = {}
    for path in _captures(directory):
        known.setdefault(symbol_of(path.name.split("_")[0], MarketKind.PERP), []).append(path)
    if not known:
        raise DataError(f"{directory}: no file is named <PAIR>_<date>{SUFFIX}")
    return {symbol: SessionReplay(known[symbol]) for symbol in choose(known, symbols)}


def detect_replay(path: Path, symbols: Sequence[str] | None = None) -> dict[str, ReplaySource]:
    """Open what `path` holds: a raw recording of ours, minute candles, our archive, or raw captures of Binance.

    Raises
    ------
    ConfigError
        If there is no such directory or symbol.
    DataError
        If the directory holds none of them, or a file is corrupt.
    """
    if not path.is_dir():
        raise ConfigError(f"replay: {path} is not a directory")
    if find_recordings(path):
        return dict(open_raw_replay(path, symbols))
    if _captures(path):
        return dict(open_session_replay(path, symbols))
    if any(path.glob("*_1m.parquet")):
        return dict(open_candle_replay(path, symbols))
    if (path / "candles").is_dir():
        return dict(open_archive_replay(path, symbols))
    kinds = f"minute candles (<PAIR>_1m.parquet), raw captures (<PAIR>_<date>{SUFFIX}) or a recording (*{RAW_SUFFIX})"
    raise DataError(f"{path}: neither {kinds.replace(' or ', ' nor ')}")


def _captures(directory: Path) -> list[Path]:
    return sorted(chain(directory.glob(f"*_*{SUFFIX}"), (directory / "usdm").glob(f"*_*{SUFFIX}")))


def _levels(rows: list[list[str]]) -> tuple[Level, ...]:
    # The domain writes a removed level as "0"; Binance as "0.000".
    return tuple((str(price), "0" if float(quantity) == 0.0 else str(quantity)) for price, quantity in rows)


def _prices(events: Sequence[Trade | BookUpdate]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    prices = [event.price for event in events if isinstance(event, Trade)]
    for event in events:
        if isinstance(event, BookUpdate) and event.is_snapshot:
            prices.extend(float(level[0]) for level in chain(event.bids, event.asks))
    return np.array(prices, dtype=np.float64)

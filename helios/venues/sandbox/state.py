"""The sandbox market in a file, so that it goes on after a restart as if nothing had happened.

The file is an npz without pickles: a JSON header (identity, market time, books, random generators), the kept trades as JSON
lines and the bars as arrays. Since the generators are in it, a market that lost what came after its last save trades the very same
again: clients that saw the lost part see it confirmed.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from helios.domain.enums import Side
from helios.errors import DataError
from helios.venues.sandbox.buckets import BucketStore
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.macro import FloatArray
from helios.venues.sandbox.specs import JUMP_PROBABILITY, JUMP_SIZE, MarketConfig
from helios.venues.sandbox.ticks import SECOND_NS, TickMarket, TickTrade

log = logging.getLogger(__name__)

FORMAT = 1
# What numpy, zipfile and json raise on bytes that are not what they seem.
UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A market at a moment: nothing in it changes when the market goes on, so another thread may write it."""

    header: str  # by json, since orjson refuses the generator's integers of 128 bits
    trades: tuple[TickTrade, ...]
    bars: dict[str, FloatArray]


def identity(config: MarketConfig, seed: int) -> dict[str, Any]:
    """Return what a file and a configuration must agree on."""
    found = {"format": FORMAT, "seed": seed, "symbols": list(config.symbols), "flow_strength": config.flow_strength}
    jumps = [config.jump_probability, config.jump_size]
    # Named only where they are unusual, so that files of before there was a choice stay good.
    return found if jumps == [JUMP_PROBABILITY, JUMP_SIZE] else found | {"jumps": jumps}


def snapshot(exchange: Exchange, seed: int, clock_ns: int) -> Snapshot:
    """Return the market as it is now.

    Parameters
    ----------
    exchange : Exchange
    seed : int
    clock_ns : int
        Market time that clients have been told, at or after the exchange's.
    """
    market = exchange.market
    assert isinstance(market, TickMarket)  # a recorded one is read again from its files
    header = {
        "identity": identity(market.config, seed),
        "clock_ns": clock_ns,
        "starts_ns": {pair: store.start_ns for pair, store in exchange.buckets.items()},
        "market": market.saved(),
    }
    bars: dict[str, FloatArray] = {}
    for pair, store in exchange.buckets.items():
        bars[f"minutes_{pair}"], bars[f"days_{pair}"] = store.rows()
    trades = tuple(trade for pair in exchange.specs for trade in reversed(exchange.trades(pair)))
    return Snapshot(json.dumps(header), trades, bars)


def write(path: Path, state: Snapshot) -> None:
    """Replace the file, readable by its owner alone; a crash leaves the old one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Trade by trade, since one call for all would hold the interpreter, and with it the market, for 30 ms.
    texts = {"header": state.header.encode(), "trades": b"\n".join(orjson.dumps(trade) for trade in state.trades)}
    arrays = {name: np.frombuffer(text, dtype=np.uint8) for name, text in texts.items()} | state.bars
    temporary = path.with_name(path.name + ".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)  # a left-over temporary keeps its own mode
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read(path: Path, config: MarketConfig, seed: int) -> tuple[Exchange, int] | None:
    """Return the saved exchange and its clock's time, or None without a file or with that of another market.

    Another market's file is kept beside as `<name>.old`.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            found, wanted = header["identity"], identity(config, seed)
            if found == wanted:
                return _exchange(header, archive, config, seed), int(header["clock_ns"])
            keys = [key for key in sorted({*wanted, *found}) if found.get(key) != wanted.get(key)]
            differences = ", ".join(f"{key} {found.get(key)} is now {wanted.get(key)}" for key in keys)
    except UNREADABLE as error:
        raise DataError(f"{path}: not a sandbox state ({_line(error)}); delete it to start a new market") from error
    kept = path.with_name(path.name + ".old")
    os.replace(path, kept)
    log.warning("%s: %s; a new market starts, the old one is kept as %s", path, differences, kept.name)
    return None


def _exchange(header: dict[str, Any], archive: Any, config: MarketConfig, seed: int) -> Exchange:
    market = TickMarket.restored(config, seed, header["market"])
    minute_ns = market.time_ns - header["market"]["second"] * SECOND_NS
    buckets = {
        spec.pair: _bucket_store(spec.pair, header["starts_ns"][spec.pair], minute_ns, archive) for spec in config.specs
    }  # fmt: skip
    lines = map(orjson.loads, archive["trades"].tobytes().splitlines())
    trades = [TickTrade(**(line | {"taker_side": Side(line["taker_side"])})) for line in lines]
    return Exchange(market, buckets, trades)


def _bucket_store(pair: str, start_ns: int, end_ns: int, archive: Any) -> BucketStore:
    minutes, days = archive[f"minutes_{pair}"], archive[f"days_{pair}"]
    store = BucketStore(start_ns, minutes, days)
    if minutes.dtype != np.float64 or days.shape[1:] != (6,) or store.end_ns != end_ns:
        raise ValueError(f"{pair}: the minutes do not end where the market goes on")
    return store


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())

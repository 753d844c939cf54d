"""Where market data go in the database: each table's key, its columns, and the row that a value becomes.

A batch goes by COPY into a temporary table of the connection and from there by upsert into its place, so writing it twice (the
answer to a commit was lost) changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncpg

from helios.domain.market import BAR_VALUES, Bar, MarketSnapshot, Trade
from helios.store.pool import utc

Record = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Where a batch goes.

    `record` makes a row of a value. `updated` are the columns a later row may fill in; a NULL never replaces a known number,
    unless the table `is_revising`: then the later row stands as it is.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    record: Callable[[Any], Record]
    updated: tuple[str, ...] = ()
    is_revising: bool = False

    @property
    def stage_name(self) -> str:
        """Name of the connection's staging table."""
        return f"stage_{self.name}_revised" if self.is_revising else f"stage_{self.name}"

    @property
    def stage(self) -> str:
        """Statement that creates the connection's staging table, emptied by every commit."""
        return f"CREATE TEMP TABLE IF NOT EXISTS {self.stage_name} (LIKE {self.name}) ON COMMIT DELETE ROWS"

    @property
    def upsert(self) -> str:
        """Statement that moves the staged rows to their place."""
        names = ", ".join(f'"{column}"' for column in self.columns)
        new = "excluded.{0}" if self.is_revising else f"coalesce(excluded.{{0}}, {self.name}.{{0}})"
        changes = ", ".join(f"{column} = {new.format(column)}" for column in self.updated)
        action = f"UPDATE SET {changes}" if changes else "NOTHING"
        return (
            f"INSERT INTO {self.name} ({names}) SELECT {names} FROM {self.stage_name} ON CONFLICT ({', '.join(self.key)}) DO {action}"
        )


async def copy_rows(connection: asyncpg.Connection, table: Table, values: Sequence[Any]) -> None:
    """Write values within the transaction that the connection is in; raises one of `pool.REFUSED` for a row that cannot be."""
    await connection.execute(table.stage)
    records = [table.record(value) for value in values]
    await connection.copy_records_to_table(table.stage_name, records=records, columns=table.columns)
    await connection.execute(table.upsert)


def _bar(bar: Bar) -> Record:
    numbers = (_known(getattr(bar, name)) for name in BAR_VALUES)
    return (bar.symbol, bar.timeframe.value, utc(bar.open_time), *numbers)


def _trade(t: Trade) -> Record:
    return (t.symbol, t.trade_id, int(t.taker_side), t.price, t.quantity, utc(t.ts_event), t.ts_event, t.ts_init)


def _book(snapshot: MarketSnapshot) -> Record:
    # Depth (quote) and imbalance of the levels that are there; neither without levels.
    bid, ask = (sum((q for _, q in side), Decimal(0)) for side in (snapshot.bids, snapshot.asks))
    depth = sum((p * q for p, q in snapshot.bids + snapshot.asks), Decimal(0))
    imbalance = float((bid - ask) / (bid + ask)) if bid + ask else None
    return (
        snapshot.symbol, snapshot.ts_event, utc(snapshot.ts_event), snapshot.last, snapshot.bids, snapshot.asks,
        _known(snapshot.spread_bps), depth if bid + ask else None, imbalance,
    )  # fmt: skip


def _features(row: tuple[str, int, list[float]]) -> Record:
    symbol, bar_time, values = row
    return (symbol, bar_time, utc(bar_time), values)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


CANDLE_KEY = ("symbol", "timeframe", "open_time")
CANDLES = Table("candles", CANDLE_KEY, CANDLE_KEY + BAR_VALUES, _bar, BAR_VALUES)
REVISIONS = Table("candles", CANDLE_KEY, CANDLE_KEY + BAR_VALUES, _bar, BAR_VALUES, is_revising=True)
TRADES = Table(
    "recent_trades", ("symbol", "trade_id"),
    ("symbol", "trade_id", "taker_side", "price", "quantity", "executed_at", "ts_ns", "ts_init_ns"), _trade,
)  # fmt: skip
BOOKS = Table(
    "book_snapshots", ("symbol", "ts_ns"),
    ("symbol", "ts_ns", "taken_at", "last", "bids", "asks", "spread_bps", "depth_quote", "imbalance"), _book,
)  # fmt: skip
FEATURES = Table("feature_rows", ("symbol", "bar_time_ns"), ("symbol", "bar_time_ns", "bar_time", "values"), _features)

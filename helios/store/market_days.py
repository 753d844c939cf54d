"""Daily closes and turnover of all symbols, from candles: what was found once is remembered in the database until a candle changes.

A remembered day is good while the count of changes of its candles is the one it was found at (`candle_changes`, kept by triggers), so
any process may remember and any other use it. The newest day changes all the time and is found anew each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal

import asyncpg
import orjson

from helios.portfolio.benchmark_book import Market
from helios.store.pool import session

DAYS_AT_ONCE = 32
"""Found by one statement: few enough for the limit of a command, and what was found before an interruption is kept."""
# One step of the primary key per symbol instead of a walk over all candles.
SYMBOLS = """
    WITH RECURSIVE s AS (
        (SELECT symbol FROM candles ORDER BY symbol LIMIT 1)
        UNION ALL
        SELECT (SELECT c.symbol FROM candles c WHERE c.symbol > s.symbol ORDER BY c.symbol LIMIT 1) FROM s WHERE s.symbol IS NOT NULL
    ) SELECT symbol FROM s WHERE symbol IS NOT NULL"""
NEWEST_DAY = "SELECT (extract(epoch FROM max(open_time))::bigint / 86400)::int FROM candles"
CHANGES = "SELECT day, sum(changes)::bigint AS changes FROM candle_changes WHERE day BETWEEN $1 AND $2 GROUP BY day"
REMEMBERED = "SELECT day, changes, closes::text, turnover::text FROM candle_days WHERE day BETWEEN $1 AND $2"
REMEMBER = """
    INSERT INTO candle_days (day, changes, closes, turnover) VALUES ($1, $2, $3, $4)
    ON CONFLICT (day) DO UPDATE SET changes = excluded.changes, closes = excluded.closes, turnover = excluded.turnover
    WHERE candle_days.changes < excluded.changes"""
# The candle that ended last within each day, of those that ended together the shortest; one look into the key per symbol, day and
# length.
CLOSES = """
    SELECT DISTINCT ON (s.symbol, d.day) s.symbol, d.day, c.close
    FROM unnest($1::text[]) AS s(symbol)
    CROSS JOIN (SELECT n AS day, timestamptz 'epoch' + n * interval '24 hours' AS start FROM unnest($2::int[]) n) d
    CROSS JOIN (VALUES ('1m', interval '1 minute'), ('5m', interval '5 minutes'), ('15m', interval '15 minutes'),
        ('1h', interval '1 hour'), ('1d', interval '24 hours')) AS t(timeframe, length)
    CROSS JOIN LATERAL (
        SELECT close, open_time + t.length AS ends FROM candles k
        WHERE k.symbol = s.symbol AND k.timeframe = t.timeframe AND k.open_time >= d.start
            AND k.open_time <= d.start + interval '24 hours' - t.length AND k.close > 0 AND k.close < 'Infinity'
        ORDER BY k.open_time DESC LIMIT 1
    ) AS c ORDER BY s.symbol, d.day, c.ends DESC, t.length"""
# Summed in the order of time: the sum of doubles depends on the order, and the server is free to read them in any.
TURNOVER = """
    SELECT s.symbol, d.day, t.turnover
    FROM unnest($1::text[]) AS s(symbol)
    CROSS JOIN (SELECT n AS day, timestamptz 'epoch' + n * interval '24 hours' AS start FROM unnest($2::int[]) n) d
    CROSS JOIN LATERAL (
        SELECT sum(k.quote_volume) AS turnover FROM (
            SELECT quote_volume FROM candles
            WHERE symbol = s.symbol AND timeframe = '15m' AND open_time >= d.start AND open_time < d.start + interval '24 hours'
                AND quote_volume > 0 AND quote_volume < 'Infinity'
            ORDER BY open_time
        ) AS k
    ) AS t WHERE t.turnover IS NOT NULL"""
Digest = dict[str, str]


class PostgresMarketDays:
    """Reads over a pool of `helios.store.pool.connect`. Any method may raise StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def newest_day(self) -> int | None:
        """Return the day (since 1970) of the newest candle; None without any."""
        async with session(self._pool) as connection:
            newest: int | None = await connection.fetchval(NEWEST_DAY)
        return newest

    async def changes(self, first_day: int, last_day: int) -> dict[int, int]:
        """Return how often the candles of each day have changed; days that never did are missing.

        While a day's number is the same, so are its closes and its turnover.
        """
        async with session(self._pool) as connection:
            return {row["day"]: row["changes"] for row in await connection.fetch(CHANGES, first_day, last_day)}

    async def market(self, first_day: int, last_day: int) -> Market:
        """Return closes and quote turnover of the days `first_day` to `last_day` (since 1970, both included).

        A close is that of the candle that ended last within its UTC day; days without a candle have none.
        """
        async with session(self._pool) as connection:
            changes = {row["day"]: row["changes"] for row in await connection.fetch(CHANGES, first_day, last_day)}
            rows = await connection.fetch(REMEMBERED, first_day, last_day)
        good = await asyncio.to_thread(_parsed, [row for row in rows if row["changes"] == changes.get(row["day"], 0)])
        missing = [day for day in range(first_day, last_day + 1) if day not in good]
        for start in range(0, len(missing), DAYS_AT_ONCE):
            good |= await self._find(missing[start : start + DAYS_AT_ONCE])
        return await asyncio.to_thread(_market, good)

    async def _find(self, days: Sequence[int]) -> dict[int, tuple[Digest, Digest]]:
        # Counts and candles of one moment: a change that comes later has a higher count than what is remembered here.
        async with session(self._pool) as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                newest = await connection.fetchval(NEWEST_DAY)
                rows = await connection.fetch(CHANGES, days[0], days[-1])
                symbols = [row["symbol"] for row in await connection.fetch(SYMBOLS)]
                closes = _by_day(await connection.fetch(CLOSES, symbols, days), "close")
                turnover = _by_day(await connection.fetch(TURNOVER, symbols, days), "turnover")
            changes = {row["day"]: row["changes"] for row in rows}
            found = {day: (closes.get(day, {}), turnover.get(day, {})) for day in days}
            past = [(day, changes.get(day, 0), *found[day]) for day in days if newest is not None and day < newest]
            await connection.executemany(REMEMBER, past)
        return found


def _by_day(rows: Sequence[asyncpg.Record], name: str) -> dict[int, Digest]:
    days: dict[int, Digest] = {}
    for row in rows:
        days.setdefault(row["day"], {})[row["symbol"]] = str(row[name])
    return days


def _parsed(rows: Sequence[asyncpg.Record]) -> dict[int, tuple[Digest, Digest]]:
    return {row["day"]: (orjson.loads(row["closes"]), orjson.loads(row["turnover"])) for row in rows}


def _market(days: Mapping[int, tuple[Digest, Digest]]) -> Market:
    closes, turnover = ({day: _decimals(days[day][nth]) for day in sorted(days) if days[day][nth]} for nth in (0, 1))
    return Market(closes, turnover)


def _decimals(digest: Mapping[str, str]) -> dict[str, Decimal]:
    return {symbol: Decimal(value) for symbol, value in digest.items()}

"""What lots and attribution need of the database: the ledger's whole past, the decisions behind it, and daily prices."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import asyncpg

from helios.portfolio.attribution_report import TURNOVER_DAYS, Books, Market, Question, attribution_report
from helios.store.ledger import PostgresLedger
from helios.store.pool import session, utc

DAY_NS = 86_400 * 1_000_000_000
# Only the steps that the stages read: prompts and reasons of years would fill the memory for nothing.
DECISIONS = """
    SELECT decision_id, jsonb_build_object('plan', steps -> 'plan', 'review', steps -> 'review', 'allocation', steps -> 'allocation')
        AS steps
    FROM decisions
    WHERE decision_id IN (SELECT decision_id FROM orders WHERE client_order_id IN (SELECT client_order_id FROM fills))"""
INITIAL_CASH = "SELECT config -> 'desk' ->> 'initial_cash_quote' FROM runs ORDER BY started_at DESC LIMIT 1"
# One step of the primary key per symbol instead of a walk over all candles.
SYMBOLS = """
    WITH RECURSIVE s AS (
        (SELECT symbol FROM candles ORDER BY symbol LIMIT 1)
        UNION ALL
        SELECT (SELECT c.symbol FROM candles c WHERE c.symbol > s.symbol ORDER BY c.symbol LIMIT 1) FROM s WHERE s.symbol IS NOT NULL
    ) SELECT symbol FROM s WHERE symbol IS NOT NULL"""
# The candle that ended last within each day, of whichever length; one look into the key per symbol, day and length.
CLOSES = """
    SELECT DISTINCT ON (s.symbol, d.day) s.symbol, d.day, c.close
    FROM unnest($1::text[]) AS s(symbol)
    CROSS JOIN (SELECT n AS day, timestamptz 'epoch' + n * interval '24 hours' AS start FROM generate_series($2::int, $3::int) n) d
    CROSS JOIN (VALUES ('1m', interval '1 minute'), ('5m', interval '5 minutes'), ('15m', interval '15 minutes'),
        ('1h', interval '1 hour'), ('1d', interval '24 hours')) AS t(timeframe, length)
    CROSS JOIN LATERAL (
        SELECT close, open_time + t.length AS ends FROM candles k
        WHERE k.symbol = s.symbol AND k.timeframe = t.timeframe AND k.open_time >= d.start
            AND k.open_time <= d.start + interval '24 hours' - t.length AND k.close > 0 AND k.close < 'Infinity'
        ORDER BY k.open_time DESC LIMIT 1
    ) AS c ORDER BY s.symbol, d.day, c.ends DESC"""
TURNOVER = """
    SELECT symbol, (extract(epoch FROM open_time)::bigint / 86400)::int AS day, sum(quote_volume) AS turnover
    FROM candles
    WHERE symbol = ANY($1::text[]) AND timeframe = '15m' AND open_time >= $2 AND open_time < $3 AND quote_volume > 0
        AND quote_volume < 'Infinity'
    GROUP BY 1, 2"""


class PostgresBooks:
    """Reads over a pool of `helios.store.pool.connect`. Any method may raise StoreUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def books(self, initial_cash: Decimal) -> Books:
        """Return the ledger's whole past with the decisions behind it.

        Parameters
        ----------
        initial_cash : Decimal
            Used where no run says with how much it began.
        """
        ledger = PostgresLedger(self._pool)
        history, movements = await ledger.fills(), await ledger.movements()
        async with session(self._pool) as connection:
            rows = await connection.fetch(DECISIONS)
            said = await connection.fetchval(INITIAL_CASH)
        return Books(history, movements, {row["decision_id"]: _steps(row["steps"]) for row in rows}, _cash(said, initial_cash))

    async def attribution(self, question: Question, initial_cash: Decimal, with_benchmark: bool) -> dict[str, Any]:
        """Return `attribution_report` of what is stored, for the API and the command line alike.

        Days outside `span` have nothing to attribute and are not asked for.
        """
        books = await self.books(initial_cash)
        span = await self.span(books) if with_benchmark else None
        if span is None:
            return attribution_report(books, question)
        first = span[0] if question.first_day is None else max(question.first_day, span[0])
        last = span[1] if question.last_day is None else min(question.last_day, span[1])
        asked = replace(question, first_day=first, last_day=last)
        return attribution_report(books, asked, await self.market(first, last))

    async def span(self, books: Books) -> tuple[int, int] | None:
        """Return the days (since 1970) from the first fill to the newest candle or fill, the days an attribution can cover."""
        days = [fill.ts_event // DAY_NS for _, fill in books.history]
        async with session(self._pool) as connection:
            newest = await connection.fetchval("SELECT (extract(epoch FROM max(open_time))::bigint / 86400)::int FROM candles")
        return (min(days), max(*days, newest or 0)) if days else None

    async def market(self, first_day: int, last_day: int) -> Market:
        """Return closes of the days `first_day` - 1 to `last_day` (days since 1970) and the turnover the benchmark's weights need.

        A close is that of the candle that ended last within its UTC day; days without a candle have none.
        """
        start = first_day - TURNOVER_DAYS
        async with session(self._pool) as connection:
            symbols = [row["symbol"] for row in await connection.fetch(SYMBOLS)]
            closes = await connection.fetch(CLOSES, symbols, first_day - 1, last_day)
            turnover = await connection.fetch(TURNOVER, symbols, utc(start * DAY_NS), utc((last_day + 1) * DAY_NS))
        return Market(_by_day(closes, "close"), _by_day(turnover, "turnover"))


def _steps(known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {tier: step for tier, step in known.items() if isinstance(step, dict)}


def _cash(said: str | None, otherwise: Decimal) -> Decimal:
    return otherwise if said is None else Decimal(said)


def _by_day(rows: list[asyncpg.Record], name: str) -> dict[int, dict[str, Decimal]]:
    days: dict[int, dict[str, Decimal]] = {}
    for row in rows:
        days.setdefault(row["day"], {})[row["symbol"]] = Decimal(str(row[name]))
    return days

"""Attribution of a ledger in PostgreSQL that remembers: a second question costs what is new since the first.

What is remembered lives in this process alone and is checked against the database at each question: another ledger under the same
address, other cash at the start or anything that does not follow what is known makes it begin anew. All folding runs in a thread, so
that the loop of whoever asks stays free.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncpg

from helios.domain.orders import Fill, Movement
from helios.execution.lifecycle import TERMINAL
from helios.portfolio.accounting import NS_PER_DAY
from helios.portfolio.attribution_report import UNIT_SHARE, Question, benchmark_groups, tally_json
from helios.portfolio.benchmark_book import TURNOVER_DAYS, BenchmarkBook, Market, Tally, priced_days, rated_currencies
from helios.portfolio.currency import quote_of
from helios.portfolio.periods import AccountDays, DayTerms
from helios.portfolio.stage_book import LedgerOrder, OutOfOrderError, StageBook
from helios.portfolio.stages import Steps
from helios.store.books import INITIAL_CASH
from helios.store.ledger import to_fill, to_movement
from helios.store.market_days import PostgresMarketDays
from helios.store.pool import session

PAGE = 10_000
OPEN_DAYS = 2
"""The newest days are folded again at each question: their candles are still corrected."""
MAX_BENCHMARKS = 8
"""Groupings and ranges of days that are remembered; each holds its sums alone."""
# The file of a table changes when it is emptied, its number when its schema is made anew; the last fill when a copy is restored.
IDENTITY = """
    SELECT 'fills'::regclass::oid::bigint AS number, pg_relation_filenode('fills')::bigint AS file,
        (SELECT fill_id FROM fills WHERE seq = $1) AS fill_id"""
ORDER = "o.decision_id, o.symbol AS order_symbol, o.leg, o.reason, o.reference_price, o.status"
# An order is read with its fills in one statement: where it is final there, all its fills are there too or on a later page.
FILLS = f"""
    SELECT f.seq, f.fill_id, f.client_order_id, f.symbol, f.side, f.quantity_base, f.price, f.fee, f.fee_currency, f.fee_quote,
        f.ts_ns, {ORDER}
    FROM fills f JOIN orders o USING (client_order_id) WHERE f.seq > $1 ORDER BY f.seq LIMIT {PAGE}"""
ORDERS = f"SELECT o.client_order_id, {ORDER} FROM orders o WHERE o.client_order_id = ANY($1::text[])"
MOVEMENTS = f"SELECT * FROM account_movements WHERE seq > $1 ORDER BY seq LIMIT {PAGE}"
# Only the steps that the stages read: prompts and reasons of years would fill the memory for nothing.
STEPS = """
    SELECT decision_id, steps -> 'plan' AS plan, steps -> 'review' AS review, steps -> 'allocation' AS allocation
    FROM decisions WHERE decision_id = ANY($1::text[])"""
DECIDED = "SELECT EXISTS (SELECT FROM decisions WHERE decision_id = ANY($1::text[]))"
FINAL = frozenset(str(status) for status in TERMINAL)
Key = tuple[str, int, int | None]


@dataclass(slots=True)
class _Benchmark:
    book: BenchmarkBook
    currencies: set[str]
    changes: int
    """Of all candles before the book's next day."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """Days `first` to `last`, of which those before `until` may be folded for good, and how often candles have changed by day."""

    question: Question
    first: int
    last: int
    until: int
    changes: dict[int, int]


@dataclass(slots=True)
class _News:
    """What is read of the ledger at one question: orders as they are now, fills and movements with their numbers."""

    orders: list[LedgerOrder]
    fills: list[tuple[int, Fill]] = field(default_factory=list)
    movements: list[tuple[int, Movement]] = field(default_factory=list)

    def add_fills(self, page: Sequence[asyncpg.Record]) -> None:
        """Take a page of fills with their orders."""
        self.orders += [_order(row) for row in page]
        self.fills += [(row["seq"], to_fill(row)) for row in page]


@dataclass(slots=True)
class _Memory:
    """What was read of one ledger; the numbers are those of its newest fill and movement."""

    cash: Decimal
    stages: StageBook
    number: int = -1
    file: int = -1
    fill_seq: int = 0
    fill_id: str | None = None
    movement_seq: int = 0
    quote: str = ""
    fill_days: tuple[int, int] | None = None
    days: AccountDays = field(default_factory=AccountDays)
    benchmarks: OrderedDict[Key, _Benchmark] = field(default_factory=OrderedDict)


class AttributionReader:
    """Answers of `attribution_report.attribution_report` over a pool of `helios.store.pool.connect`, one question at a time.

    Any method may raise StoreUnavailableError.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._market = PostgresMarketDays(pool)
        self._asking = asyncio.Lock()
        self._memory: _Memory | None = None

    async def attribution(self, question: Question, initial_cash: Decimal, with_benchmark: bool) -> dict[str, Any]:
        """Return the report of what is stored, for the API and the command line alike.

        Days outside those from the first fill to the newest candle or fill have nothing to attribute and are not asked for.

        Parameters
        ----------
        question : Question
        initial_cash : Decimal
            Used where no run says with how much it began.
        with_benchmark : bool
            Whether also against the portfolio of turnover weights.

        Raises
        ------
        InvariantError
            If a fill of the ledger has no positive price or quantity.
        """
        async with self._asking:
            # Taken, and put back when all is done: who is cut off in the middle leaves nothing half told behind.
            known, self._memory = self._memory, None
            memory, stages = await self._stages(known, question, initial_cash)
            report = {"by": question.by, "stages": stages}
            if with_benchmark and memory.fill_days is not None:
                report["benchmark"] = await self._benchmark(memory, question, memory.fill_days)
            self._memory = memory
        return report

    async def _stages(self, known: _Memory | None, question: Question, otherwise: Decimal) -> tuple[_Memory, dict[str, Any]]:
        async with session(self._pool) as connection:
            said = await connection.fetchval(INITIAL_CASH)
        cash = otherwise if said is None else Decimal(said)
        unit = cash * UNIT_SHARE if question.unit_notional_quote is None else question.unit_notional_quote
        if known is not None and (known.cash, known.stages.unit_notional_quote) == (cash, unit):
            try:
                return known, await self._told(known, question)
            except OutOfOrderError:
                pass
        fresh = _Memory(cash, StageBook(unit))
        return fresh, await self._told(fresh, question)

    async def _told(self, memory: _Memory, question: Question) -> dict[str, Any]:
        await self._identify(memory)
        news = _News(await self._orders(memory))
        async for page in self._pages(FILLS, memory.fill_seq):
            await asyncio.to_thread(news.add_fills, page)
        async for page in self._pages(MOVEMENTS, memory.movement_seq):
            news.movements += [(row["seq"], to_movement(row)) for row in page]
        await asyncio.to_thread(_tell, memory, news)
        decisions = await self._decisions(memory.stages.wanted_decisions)
        return await asyncio.to_thread(_report, memory, decisions, question)

    async def _identify(self, memory: _Memory) -> None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(IDENTITY, memory.fill_seq)
        if memory.number == -1:
            memory.number, memory.file = row["number"], row["file"]
        elif (row["number"], row["file"], row["fill_id"]) != (memory.number, memory.file, memory.fill_id):
            raise OutOfOrderError("another ledger")

    async def _orders(self, memory: _Memory) -> list[LedgerOrder]:
        async with session(self._pool) as connection:
            if memory.stages.undecided and await connection.fetchval(DECIDED, list(memory.stages.undecided)):
                raise OutOfOrderError("a decision came after its line was settled")
            return [_order(row) for row in await connection.fetch(ORDERS, memory.stages.unsettled_orders)]

    async def _pages(self, query: str, after: int) -> AsyncIterator[list[asyncpg.Record]]:
        page: list[asyncpg.Record] = []
        while not page or len(page) == PAGE:
            async with session(self._pool) as connection:
                page = await connection.fetch(query, page[-1]["seq"] if page else after)
            if not page:
                return
            yield page

    async def _decisions(self, wanted: set[str]) -> dict[str, Steps]:
        ids, decisions = sorted(wanted), dict[str, Steps]()
        for start in range(0, len(ids), PAGE):
            async with session(self._pool) as connection:
                rows = await connection.fetch(STEPS, ids[start : start + PAGE])
            decisions |= await asyncio.to_thread(_steps, rows)
        return decisions

    async def _benchmark(self, memory: _Memory, question: Question, fill_days: tuple[int, int]) -> dict[str, Any]:
        newest = max(fill_days[1], await self._market.newest_day() or 0)
        first = fill_days[0] if question.first_day is None else max(question.first_day, fill_days[0])
        last = newest if question.last_day is None else min(question.last_day, newest)
        key = ("symbol" if question.by == "symbol" else "sector", first, None if last == newest else last)
        changes = await self._market.changes(0, newest)  # before the candles: what changes in between is looked at again
        kept = memory.benchmarks.pop(key, None)
        if kept is not None and (kept.book.next_day > last + 1 or kept.changes != _before(changes, kept.book.next_day)):
            kept = None
        ask = _Ask(question, first, last, min(last + 1, newest + 1 - OPEN_DAYS), changes)
        tally = None if kept is None else await self._folded(memory, key, ask, kept)
        if tally is None:
            tally = await self._folded(memory, key, ask, None)
        assert tally is not None
        return await asyncio.to_thread(tally_json, tally, question.by)

    async def _folded(self, memory: _Memory, key: Key, ask: _Ask, kept: _Benchmark | None) -> Tally | None:
        start = ask.first if kept is None else kept.book.next_day
        market = await self._market.market(start - TURNOVER_DAYS, ask.last)
        return await asyncio.to_thread(_fold, memory, key, ask, kept, market)


def _tell(memory: _Memory, news: _News) -> None:
    told, moved = news.fills, [movement for _, movement in news.movements]
    memory.stages.tell_orders(news.orders)
    memory.stages.tell(told, moved)
    for _, fill in told:
        memory.days.add_fill(fill)
    for movement in moved:
        memory.days.add_movement(movement)
    days = [fill.ts_event // NS_PER_DAY for _, fill in told]
    oldest = min((*days, *(movement.ts_event // NS_PER_DAY for movement in moved)), default=None)
    if oldest is not None:
        for key in [key for key, kept in memory.benchmarks.items() if kept.book.next_day > oldest]:
            del memory.benchmarks[key]
    if told:
        memory.fill_seq, memory.fill_id = told[-1][0], told[-1][1].fill_id
        memory.quote = quote_of(told[0][1].symbol) if memory.fill_days is None else memory.quote
        known = memory.fill_days or (days[0], days[0])
        memory.fill_days = (min(*known, *days), max(*known, *days))
    memory.movement_seq = news.movements[-1][0] if news.movements else memory.movement_seq


def _report(memory: _Memory, decisions: dict[str, Steps], question: Question) -> dict[str, Any]:
    return memory.stages.report(question, memory.stages.settle(decisions))


def _fold(memory: _Memory, key: Key, ask: _Ask, kept: _Benchmark | None, market: Market) -> Tally | None:
    """Return the days asked for; None where a currency has a rate now that had none before: then all days are other than known."""
    start = ask.first if kept is None else kept.book.next_day
    closes = {day: prices for day, prices in market.closes.items() if day >= start - 1}
    currencies = rated_currencies(closes, memory.quote) | (set() if kept is None else kept.currencies)
    terms = DayTerms(memory.cash, "", frozenset(currencies & memory.days.currencies))
    if kept is not None and kept.book.terms != terms:
        return None
    book = BenchmarkBook(memory.days, terms, start, benchmark_groups(ask.question.by)) if kept is None else kept.book
    prices = priced_days(Market(closes, market.turnover), memory.quote, start, ask.last)
    book.settle(ask.until, prices)
    memory.benchmarks[key] = _Benchmark(book, currencies, _before(ask.changes, book.next_day))
    if len(memory.benchmarks) > MAX_BENCHMARKS:
        memory.benchmarks.popitem(last=False)
    return book.tally(ask.last, prices)


def _order(row: asyncpg.Record) -> LedgerOrder:
    return LedgerOrder(
        row["client_order_id"], row["decision_id"], row["order_symbol"], row["leg"], row["reason"], row["reference_price"],
        row["status"] in FINAL,
    )  # fmt: skip


def _steps(rows: Sequence[asyncpg.Record]) -> dict[str, Steps]:
    tiers = ("plan", "review", "allocation")
    return {row["decision_id"]: {tier: row[tier] for tier in tiers if isinstance(row[tier], dict)} for row in rows}


def _before(changes: dict[int, int], day: int) -> int:
    return sum(n for changed, n in changes.items() if changed < day)

"""The attribution that remembers against the whole fold, byte for byte, over a ledger that grows, is corrected and is replaced."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from helios.domain.decisions import DecisionTrace
from helios.domain.enums import MovementKind, OrderStatus, Side
from helios.domain.orders import Fill, Movement, OrderRecord
from helios.portfolio.attribution import attribute
from helios.portfolio.attribution_report import Grouping, Question, attribution_report
from helios.portfolio.benchmark_book import TURNOVER_DAYS, Market
from helios.portfolio.stages import stage_line
from helios.store import attribution as attribution_module
from helios.store.attribution import AttributionReader
from helios.store.books import PostgresBooks
from helios.store.engine_store import EngineStore
from helios.store.ledger import PostgresLedger, to_fill
from helios.store.market_days import PostgresMarketDays
from helios.store.pool import connect, dump_json, nanoseconds, utc
from helios.store.traces import PostgresTraces
from tests.support.execution_fakes import DAY, D, record
from tests.support.pg import execute, migrate_dsn

SYMBOLS = ("BTC/USDT", "BTC/USDT:USDT", "BNB/USDT")
FIRST, N_DAYS = 19_700, 12
LENGTHS = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "1d": 1440}
CANDLE = """
    INSERT INTO candles (symbol, timeframe, open_time, close, quote_volume) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (symbol, timeframe, open_time) DO UPDATE SET close = excluded.close, quote_volume = excluded.quote_volume"""


class Desk:
    """A ledger, its candles and its decisions, written as a desk writes them, by chance but repeatable."""

    def __init__(self, pool: asyncpg.Pool, rng: random.Random) -> None:
        self.pool, self.rng = pool, rng
        self.ledger, self.traces = PostgresLedger(pool), PostgresTraces(pool)
        self.orders: list[OrderRecord] = []
        self.undecided: list[OrderRecord] = []
        self.n = self.now = self.epoch = 0
        self.known_until = FIRST - 3
        self.lateness = rng.choice((0.0, 0.0, 0.02, 0.3))  # half of the desks do nothing late, so that what is known can stand

    def moment(self) -> int:
        """Mostly now, sometimes long ago: what is written late."""
        if self.rng.random() < self.lateness:
            return (FIRST + self.rng.randrange(N_DAYS)) * DAY + self.rng.randrange(DAY)
        self.now = min(self.now + self.rng.randrange(DAY // 3), N_DAYS * DAY - 1)
        return FIRST * DAY + self.now

    async def order(self) -> None:
        self.n += 1
        self.epoch = self.epoch or await self.ledger.acquire_epoch("test")
        quantity, price = str(self.rng.randint(1, 9)), f"{self.rng.uniform(50, 150):.2f}"
        side, symbol, ts = self.rng.choice(list(Side)), self.rng.choice(SYMBOLS), self.moment()
        made = record(name=f"d{self.n}", side=side, quantity=quantity, price=price, symbol=symbol, ts=ts)
        made = replace(made, status=OrderStatus.SUBMITTED, epoch=self.epoch)
        await self.ledger.commit_intents([made], self.epoch)
        self.orders.append(made)
        self.undecided.append(made)
        await self.fill(made)

    async def fill(self, of: OrderRecord | None = None) -> None:
        """Fill an order in part or whole; a late desk whatever its status, for the venue is right."""
        going = [n for n, o in enumerate(self.orders) if o.status in (OrderStatus.SUBMITTED, OrderStatus.PARTIALLY_FILLED)]
        if self.rng.random() < self.lateness:
            going = list(range(len(self.orders)))
        if of is None and not going:
            return
        made = self.orders.pop(self.rng.choice(going)) if of is None else self.orders.pop()
        self.n += 1
        part = D(self.rng.choice(("0.3", "0.5", "1"))) * made.quantity_base
        price, fee = D(f"{self.rng.uniform(50, 150):.2f}"), D(f"{self.rng.uniform(0, 0.2):.4f}")
        currency = self.rng.choice(("USDT", "USDT", "BNB", "BTC"))
        told = Fill(f"f{self.n}", made.client_order_id, made.symbol, made.side, part, price, fee, currency, fee * 7, self.moment())
        status = self.rng.choice((OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED, OrderStatus.FILLED))
        status = made.status if made.status is OrderStatus.FILLED else status
        made = replace(made, status=status, filled_base=made.filled_base + part)
        await self.ledger.advance([made], [told], self.epoch)
        self.orders.append(made)

    async def end(self) -> None:
        """An order ends without a fill, for a reason."""
        for place, made in enumerate(self.orders):
            if made.status is OrderStatus.PARTIALLY_FILLED:
                self.orders[place] = replace(made, status=OrderStatus.CANCELED, reason=f"TIME-{self.n}")
                await self.ledger.advance([self.orders[place]], [], self.epoch)

    async def decide(self) -> None:
        """The decision of an order is stored, at once or long after its fills."""
        if self.undecided:
            made = self.undecided.pop(self.rng.randrange(len(self.undecided)))
            steps = {
                "plan": {"notional_quote": f"{self.rng.uniform(100, 900):.3f}"},
                "review": {"multiplier": self.rng.choice((0.5, 1.0)), "reasoning": "because"},
                "allocation": {"quantity_base": str(made.quantity_base)},
            }
            known = {tier: steps[tier] for tier in self.rng.sample(sorted(steps), self.rng.choice((2, 3, 3)))}
            trace = DecisionTrace(made.decision_id, made.symbol, made.ts_event, "ORDERED", "execution", "", known)
            await self.traces.record([trace], [])

    async def move(self) -> None:
        self.n += 1
        self.epoch = self.epoch or await self.ledger.acquire_epoch("test")
        amount, ts = D(f"{self.rng.uniform(-9, 30):.3f}"), self.moment()
        moved = self.rng.choice(
            (
                Movement(f"m{self.n}", MovementKind.FUNDING, amount, ts, "BTC/USDT:USDT"),
                Movement(f"m{self.n}", MovementKind.TRANSFER, amount, ts),
                Movement(f"m{self.n}", MovementKind.TRANSFER, abs(amount), ts, currency="BNB", value_quote=abs(amount) * 90),
            )
        )
        await self.ledger.record_movements([moved], self.epoch)

    async def candles(self) -> None:
        """Candles of one day and symbol, new or corrected, of any length."""
        newest, n_days = (N_DAYS - 1, TURNOVER_DAYS + N_DAYS) if self.lateness else (self.now // DAY, 2)
        symbol, day = self.rng.choice(SYMBOLS), FIRST + newest - self.rng.randrange(n_days)
        timeframe = self.rng.choice(list(LENGTHS))
        start = day * 1440 + self.rng.randrange(1440 // LENGTHS[timeframe]) * LENGTHS[timeframe]
        values = (self.rng.uniform(50, 150), self.rng.choice((None, self.rng.uniform(0, 1e6))))
        await self.pool.execute(CANDLE, symbol, timeframe, utc(start * 60 * 10**9), *values)

    async def days(self) -> None:
        """A candle for each symbol and day, so that most days can be attributed; a late desk corrects them all each time."""
        until = FIRST + (N_DAYS if self.lateness else self.now // DAY + 1)
        first, self.known_until = FIRST - 3 if self.lateness else self.known_until, until
        rows = [
            (s, "15m", utc(d * DAY + 23 * DAY // 24), self.rng.uniform(50, 150), self.rng.uniform(1, 1e6))
            for s in SYMBOLS
            for d in range(first, until)
        ]
        await self.pool.executemany(CANDLE, rows)

    async def retain(self) -> None:
        if not self.lateness:
            return
        await self.pool.execute("DELETE FROM candles WHERE open_time < $1", utc((FIRST - self.rng.randrange(40)) * DAY))

    async def start(self) -> None:
        self.n += 1
        config = {"desk": {"initial_cash_quote": self.rng.choice(("5000", "7000.5"))}}
        await EngineStore(self.pool).start_run(f"r{self.n}", "d", config, "sandbox")


async def whole(pool: asyncpg.Pool, question: Question) -> bytes:
    """The report folded from everything, with closes and turnover found candle by candle."""
    books = await PostgresBooks(pool).books(D(10_000))
    if not books.history:
        return dump_json(attribution_report(books, question))
    candles = await pool.fetch("SELECT symbol, timeframe, open_time, close, quote_volume FROM candles ORDER BY open_time")
    fill_days = [fill.ts_event // DAY for _, fill in books.history]
    newest = max(*fill_days, *(nanoseconds(c["open_time"]) // DAY for c in candles), 0)
    first = min(fill_days) if question.first_day is None else max(question.first_day, min(fill_days))
    last = newest if question.last_day is None else min(question.last_day, newest)
    asked = replace(question, first_day=first, last_day=last)
    report = attribution_report(books, asked, found_market(candles, first, last))
    return dump_json(report | {"stages": attribution_report(books, question)["stages"]})


def found_market(candles: list[asyncpg.Record], first: int, last: int) -> Market:
    newest: dict[tuple[int, str], tuple[tuple[int, int], Decimal]] = {}
    turnover: dict[int, dict[str, float]] = {}
    for c in candles:
        opened, minutes = nanoseconds(c["open_time"]), LENGTHS[c["timeframe"]]
        day, rank = opened // DAY, (opened + minutes * 60 * 10**9, -minutes)
        if first - 1 <= day <= last and rank > newest.get((day, c["symbol"]), ((0, 0), D(0)))[0]:
            newest[day, c["symbol"]] = rank, D(str(c["close"]))
        if c["timeframe"] == "15m" and (c["quote_volume"] or 0) > 0:
            of_day = turnover.setdefault(day, {})
            of_day[c["symbol"]] = of_day.get(c["symbol"], 0.0) + c["quote_volume"]
    closes: dict[int, dict[str, Decimal]] = {}
    for (day, symbol), (_, close) in newest.items():
        closes.setdefault(day, {})[symbol] = close
    return Market(closes, {day: {s: D(str(v)) for s, v in of_day.items()} for day, of_day in turnover.items()})


DOINGS = (
    "order",
    "order",
    "order",
    "fill",
    "fill",
    "end",
    "decide",
    "decide",
    "move",
    "candles",
    "candles",
    "days",
    "retain",
    "start",
)
QUESTIONS = [
    *(Question(by) for by in ("stage", "symbol", "sector", "day")),
    Question("symbol", FIRST + 3, FIRST + 8), Question("sector", FIRST + 5), Question("day", None, FIRST + 6),
    Question("stage", unit_notional_quote=D(123)), Question("stage", FIRST + 400),
]  # fmt: skip


@pytest.fixture(scope="module")
def own_dsn(pg_dsn: str) -> str:
    return f"{pg_dsn}&search_path=desk"


async def new_desk(pg_dsn: str, own_dsn: str) -> None:
    await execute(pg_dsn, "DROP SCHEMA IF EXISTS desk CASCADE")
    await execute(pg_dsn, "CREATE SCHEMA desk")
    await migrate_dsn(own_dsn)


# Not shrunk: each example takes most of a second.
@settings(max_examples=15, deadline=None, suppress_health_check=[*HealthCheck], phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 2**32), st.lists(st.lists(st.sampled_from(DOINGS), min_size=8, max_size=16), min_size=3, max_size=5))
def test_a_reader_that_remembers_says_what_the_whole_fold_says(
    pg_dsn: str, own_dsn: str, seed: int, chapters: list[list[str]]
) -> None:
    async def live() -> None:
        pool = await connect(own_dsn, max_size=2)
        reader, rng = AttributionReader(pool), random.Random(seed)
        for _ in range(2):  # the second ledger is another one under the same address, for the same reader
            await new_desk(pg_dsn, own_dsn)
            await pool.expire_connections()
            desk, usual = Desk(pool, rng), rng.sample(QUESTIONS[:7], 2)
            for chapter in chapters:
                for doing in ("days", *chapter):
                    await getattr(desk, doing)()
                for question in (*usual, rng.choice(QUESTIONS)):
                    expected = await whole(pool, question)
                    assert dump_json(await reader.attribution(question, D(10_000), with_benchmark=True)) == expected
            fresh = AttributionReader(pool)
            assert dump_json(await fresh.attribution(question, D(10_000), with_benchmark=True)) == expected
        await pool.close()

    asyncio.run(live())


async def trade(desk: Desk, n_orders: int, bnb_fee: str = "0") -> None:
    """Orders one after the other, each filled whole and decided: nothing comes late."""
    for _ in range(n_orders):
        desk.n += 1
        desk.epoch = desk.epoch or await desk.ledger.acquire_epoch("test")
        desk.now += DAY // 9
        ts, side = FIRST * DAY + desk.now, Side.BUY if desk.n % 2 else Side.SELL
        made = record(name=f"d{desk.n}", side=side, quantity="2", price="100", symbol="BTC/USDT", ts=ts)
        made = replace(made, status=OrderStatus.FILLED, epoch=desk.epoch)
        await desk.ledger.commit_intents([made], desk.epoch)
        price, fee = D(100 + desk.n), D(bnb_fee)
        told = Fill(f"f{desk.n}", made.client_order_id, made.symbol, side, D(2), price, fee, "BNB", fee * 7, ts)
        await desk.ledger.advance([made], [told], desk.epoch)
        await desk.traces.record([DecisionTrace(made.decision_id, made.symbol, ts, "ORDERED", "execution", "", {})], [])


async def test_a_second_question_reads_and_folds_what_is_new(pg_dsn: str, own_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await new_desk(pg_dsn, own_dsn)
    pool = await connect(own_dsn, max_size=2)
    desk, reader = Desk(pool, random.Random(1)), AttributionReader(pool)
    await trade(desk, 100)
    await desk.days()
    question, read, folded = Question("symbol"), [], []
    monkeypatch.setattr("helios.store.attribution.to_fill", lambda row: read.append(row["seq"]) or to_fill(row))
    monkeypatch.setattr("helios.portfolio.stage_book.stage_line", lambda *told: folded.append(1) or stage_line(*told))
    monkeypatch.setattr("helios.portfolio.benchmark_book.attribute", lambda p, of: folded.append(p.name) or attribute(p, of))
    first = await reader.attribution(question, D(10_000), with_benchmark=True)
    assert (len(read), folded.count(1), len(first["benchmark"]["days"])) == (100, 50, N_DAYS)
    read.clear(), folded.clear()
    await trade(desk, 2)
    second = await reader.attribution(question, D(10_000), with_benchmark=True)
    assert (len(read), folded) == (2, [1, *first["benchmark"]["days"][-2:]])
    assert dump_json(second) == await whole(pool, question)
    await pool.close()


async def old_candle(desk: Desk) -> None:
    await desk.pool.execute(CANDLE, "BTC/USDT", "1m", utc((FIRST + 3) * DAY - 60 * 10**9), 99.0, None)


async def old_turnover(desk: Desk) -> None:
    await desk.pool.execute(CANDLE, "BNB/USDT", "15m", utc((FIRST - 9) * DAY), None, 5e6)


async def old_transfer(desk: Desk) -> None:
    await desk.ledger.record_movements([Movement("t", MovementKind.TRANSFER, D(500), (FIRST + 2) * DAY)], desk.epoch)


async def first_fee_in_coins(desk: Desk) -> None:
    await trade(desk, 1, bnb_fee="0.5")


async def other_cash(desk: Desk) -> None:
    await EngineStore(desk.pool).start_run("r", "d", {"desk": {"initial_cash_quote": "777"}}, "sandbox")


@pytest.mark.parametrize("by", ["symbol", "day"])
@pytest.mark.parametrize("happens", [old_candle, old_turnover, old_transfer, first_fee_in_coins, other_cash])
async def test_what_changes_the_past_changes_what_was_settled(pg_dsn: str, own_dsn: str, happens: Any, by: Grouping) -> None:
    await new_desk(pg_dsn, own_dsn)
    pool = await connect(own_dsn, max_size=2)
    desk, reader, question = Desk(pool, random.Random(1)), AttributionReader(pool), Question(by)
    await trade(desk, 100)
    await desk.days()
    before = dump_json(await reader.attribution(question, D(10_000), with_benchmark=True))
    await happens(desk)
    after = dump_json(await reader.attribution(question, D(10_000), with_benchmark=True))
    assert after == await whole(pool, question) != before
    await pool.close()


async def test_a_call_cut_off_in_the_middle_leaves_nothing_half_told(
    pg_dsn: str, own_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await new_desk(pg_dsn, own_dsn)
    pool = await connect(own_dsn, max_size=2)
    desk, reader, question = Desk(pool, random.Random(1)), AttributionReader(pool), Question("day")
    await trade(desk, 4)
    await desk.days()
    await reader.attribution(question, D(10_000), with_benchmark=False)
    await trade(desk, 1)
    begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()
    tell = attribution_module._tell

    def held_up(*told: Any) -> None:
        if not begun.is_set():
            begun.set()
            goes_on.wait(30.0)
            tell(*told)
            ended.set()
        else:
            tell(*told)

    monkeypatch.setattr(attribution_module, "_tell", held_up)
    asking = asyncio.create_task(reader.attribution(question, D(10_000), with_benchmark=False))
    await asyncio.to_thread(begun.wait, 30.0)
    asking.cancel()  # its thread goes on, and ends after another has asked
    await asyncio.wait([asking])
    await reader.attribution(question, D(10_000), with_benchmark=False)
    goes_on.set()
    await asyncio.to_thread(ended.wait, 30.0)
    assert dump_json(await reader.attribution(question, D(10_000), with_benchmark=True)) == await whole(pool, question)
    await pool.close()


async def test_days_found_by_one_process_serve_all_until_a_candle_changes(pg_dsn: str, own_dsn: str) -> None:
    await new_desk(pg_dsn, own_dsn)
    pool = await connect(own_dsn, max_size=2)
    desk = Desk(pool, random.Random(1))
    desk.now = N_DAYS * DAY - 1
    await desk.days()
    day, opened = FIRST + 2, utc((FIRST + 2) * DAY + 23 * DAY // 24)
    found = await PostgresMarketDays(pool).market(FIRST, FIRST + N_DAYS - 1)
    assert [row["day"] for row in await pool.fetch("SELECT day FROM candle_days ORDER BY day")] == [*range(FIRST, FIRST + N_DAYS - 1)]
    # Made visible: another answer than the candles' own can only be the remembered one.
    await pool.execute("""UPDATE candle_days SET closes = closes || '{"BTC/USDT": "7"}' WHERE day = $1""", day)
    assert (await PostgresMarketDays(pool).market(day, day)).closes[day]["BTC/USDT"] == 7
    close, volume = await pool.fetchrow(
        "SELECT close, quote_volume FROM candles WHERE symbol = 'BTC/USDT' AND open_time = $1", opened
    )
    await pool.execute(CANDLE, "BTC/USDT", "15m", opened, close, volume)  # as a desk does that starts: the same again
    assert (await PostgresMarketDays(pool).market(day, day)).closes[day]["BTC/USDT"] == 7
    await pool.execute(CANDLE, "BNB/USDT", "1m", opened, 3.0, None)
    changed = await PostgresMarketDays(pool).market(FIRST, FIRST + N_DAYS - 1)
    assert changed.closes[day]["BTC/USDT"] == found.closes[day]["BTC/USDT"]
    assert changed.turnover == found.turnover
    await pool.execute("DELETE FROM candles WHERE symbol = 'BTC/USDT' AND open_time = $1", opened)
    assert "BTC/USDT" not in (await PostgresMarketDays(pool).market(day, day)).closes[day]
    await pool.close()

"""Movements, the reset of the peak, daily equity, lots and attribution over a real database, and the two commands that read it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

from helios.cli.app import main
from helios.cli.rundir import RunDir, RunInfo
from helios.domain.decisions import DecisionTrace
from helios.domain.enums import MovementKind, Side, TradingState
from helios.domain.events import Mark
from helios.domain.orders import Movement
from helios.errors import FencedError
from helios.execution.checks import PreTradeCheck
from helios.execution.engine import ExecutionEngine
from helios.execution.lifecycle import new_record
from helios.execution.paper import PaperBroker
from helios.portfolio.accounting import Account
from helios.portfolio.daily import daily_figures
from helios.store.books import PostgresBooks
from helios.store.engine_store import EngineStore, daily_report
from helios.store.ledger import PostgresLedger
from helios.store.market_days import PostgresMarketDays
from helios.store.pool import connect, utc
from helios.store.traces import PostgresTraces
from tests.support.execution_fakes import DAY, EXACT_FILLS, INSTRUMENTS, T0, D, allow_all, fill, intent, market

CHECK: PreTradeCheck = allow_all
STEPS = {
    "plan": {"side": "BUY", "notional_quote": "425000"}, "review": {"multiplier": 1.0, "reasoning": "fine"},
    "allocation": {"quantity_base": "0.5"},
}  # fmt: skip
MOVED = [
    Movement("t-1", MovementKind.TRANSFER, D("5000.123456789012"), T0, value_quote=D("5000.123456789012")),
    Movement("f-1", MovementKind.FUNDING, D("-1.5"), T0 - DAY, "ETH/USDT:USDT"),
]


def engine(pool: asyncpg.Pool) -> ExecutionEngine:
    account = Account(D(1_000_000), T0)
    return ExecutionEngine(PostgresLedger(pool), PaperBroker(EXACT_FILLS, INSTRUMENTS), account, INSTRUMENTS, CHECK, "test")


async def test_movements_survive_a_restart(pg_pool: asyncpg.Pool) -> None:
    first = engine(pg_pool)
    await first.start()
    for _ in range(2):
        await first.move(MOVED)
    again = engine(pg_pool)
    await again.start()
    shown = await again.account_snapshot([])
    assert shown.equity_quote == D("1004998.623456789012")
    assert (shown.transfers_quote, shown.funding_quote) == (D("5000.123456789012"), D("-1.5"))
    assert await PostgresLedger(pg_pool).movements() == MOVED
    with pytest.raises(FencedError):
        await first.move([Movement("t-2", MovementKind.TRANSFER, D(1), T0)])
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await pg_pool.execute("DELETE FROM account_movements")


async def test_last_point_of_each_day_is_the_days(pg_pool: asyncpg.Pool) -> None:
    store, account, start = EngineStore(pg_pool), Account(D(100), T0), T0 // DAY * DAY
    for day, amount in ((0, 1), (0, 2), (2, 3), (3, 4)):
        ts = start + day * DAY + amount
        account.transfer(D(amount), ts, f"t{ts}")
        await store.add_equity(account.snapshot(ts))
    days = await store.daily_equity(3)
    assert [(row["ts_ns"] - start, row["transfers_quote"]) for row in days] == [(2 * DAY + 3, D(6)), (3 * DAY + 4, D(10))]
    assert daily_figures(days)[-1].pnl_quote == 0
    assert len(await store.daily_equity(4)) == 3
    [third, fourth] = await daily_report(store, 2)
    assert (third["daily_return"], fourth["pnl_quote"], fourth["equity_quote"]) == (None, 0, D(110))
    assert [line["pnl_quote"] for line in await daily_report(store, 9)] == [0, None, 0]  # deposits alone, and a gap of a day
    [only] = await daily_report(store, 1)
    assert only == fourth  # the day before it is looked at, though not shown


async def filled(dsn: str) -> None:
    """Store one closed trade with its decision, and three days of candles."""
    pool = await connect(dsn)
    ledger = PostgresLedger(pool)
    epoch = await ledger.acquire_epoch("books")
    trades = [("b", Side.BUY, "850000", T0), ("c", Side.SELL, "875000", T0 + DAY)]
    for name, side, price, ts in trades:
        order = new_record(intent(name, side, price=price, ts=ts), epoch)
        await ledger.commit_intents([order], epoch)
        await ledger.advance([order], [fill(order, price=price, fee="10", ts=ts)], epoch)
    await PostgresTraces(pool).record([DecisionTrace("b", "BTC/ZAR", T0, "ORDERED", "execution", "", STEPS)], [])
    midnight = utc(T0 // DAY * DAY)
    for day in range(-1, 2):
        for hour in (3, 23):
            opened, close = midnight + timedelta(days=day, hours=hour), 840_000.0 + 10_000 * day + hour
            await pool.execute(
                "INSERT INTO candles (symbol, timeframe, open_time, close, quote_volume) VALUES ('BTC/ZAR', '15m', $1, $2, 5)",
                opened, close,
            )  # fmt: skip
    await EngineStore(pool).start_run("r", "digest", {"desk": {"initial_cash_quote": "2000000"}}, "sandbox")
    await pool.close()


@pytest.fixture(scope="module")
def desk_dir(pg_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    asyncio.run(filled(pg_dsn))
    directory = RunDir(tmp_path_factory.mktemp("desk"))
    directory.prepare()
    directory.write(RunInfo(1, "", "url", "public", "r", "sandbox", "ZAR", 0.0))
    return directory.path


def ask(arguments: list[str], desk_dir: Path, pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("DATABASE_URL", pg_dsn)
    monkeypatch.setattr("sys.argv", ["helios", *arguments, "--state-dir", str(desk_dir)])
    return main()


def test_books_and_market_are_what_was_stored(pg_dsn: str, desk_dir: Path) -> None:
    async def read() -> None:
        pool = await connect(pg_dsn)
        books, market = await PostgresBooks(pool).books(D(1)), await PostgresMarketDays(pool).market(T0 // DAY - 1, T0 // DAY + 1)
        assert await PostgresMarketDays(pool).newest_day() == T0 // DAY + 1
        assert (len(books.history), books.initial_cash_quote) == (2, D(2_000_000))
        assert books.decisions == {"b": STEPS}
        closes = {day - T0 // DAY: prices["BTC/ZAR"] for day, prices in market.closes.items()}
        assert closes == {-1: D("830023.0"), 0: D("840023.0"), 1: D("850023.0")}
        assert market.turnover[T0 // DAY] == {"BTC/ZAR": Decimal("10.0")}
        await pool.close()

    asyncio.run(read())


def test_lots_are_printed_and_written(
    desk_dir: Path, pg_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ask(["lots", "--csv", str(tmp_path / "lots.csv")], desk_dir, pg_dsn, monkeypatch) == 0
    out = capsys.readouterr().out
    assert "12480" in out
    assert "Not tax advice" in out
    assert "12480" in (tmp_path / "lots.csv").read_text()
    assert ask(["lots", "--csv", str(tmp_path / "nowhere" / "lots.csv")], desk_dir, pg_dsn, monkeypatch) == 1
    assert capsys.readouterr().err.startswith(f"helios: cannot write {tmp_path}")
    assert ask(["lots", "--json", "--year", "2020"], desk_dir, pg_dsn, monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["disposals"] == []


def test_attribution_is_printed_and_explained(
    desk_dir: Path, pg_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(["attribution", "--json", "--benchmark", "--unit", "85000"], desk_dir, pg_dsn, monkeypatch) == 0
    report = json.loads(capsys.readouterr().out)
    totals = report["stages"]["totals"]
    assert (totals["signal"], totals["size"], totals["fees"], totals["pnl_quote"]) == ("2500", "10000", "-20", "12480")
    assert (report["stages"]["is_explained"], len(report["benchmark"]["days"])) == (True, 2)
    assert report["benchmark"]["totals"]["portfolio_pnl"] == "12480"
    assert ask(["attribution", "--by", "day", "--benchmark"], desk_dir, pg_dsn, monkeypatch) == 0
    assert "1 closings in whole or in part, 124" in capsys.readouterr().out
    assert ask(["attribution", "--json", "--benchmark", "--from", "2031-01-01"], desk_dir, pg_dsn, monkeypatch) == 0
    nothing = json.loads(capsys.readouterr().out)  # days without anything are no error
    assert (nothing["stages"]["trades"], nothing["benchmark"]["days"], nothing["benchmark"]["skipped"]) == ([], [], [])
    assert ask(["attribution", "--by", "week"], desk_dir, pg_dsn, monkeypatch) == 1
    assert ask(["attribution", "--from", "yesterday"], desk_dir, pg_dsn, monkeypatch) == 1


async def test_a_reset_of_the_drawdown_survives_a_restart(pg_pool: asyncpg.Pool) -> None:
    first, late = engine(pg_pool), T0 + 3 * DAY
    await first.start()
    await first.submit([intent("reset", ts=late)], {"BTC/ZAR": market(ts=late)})
    fallen = await first.account_snapshot([Mark("BTC/ZAR", 500_000.0, late + 2)])
    assert fallen.trading_state is TradingState.HALTED
    lived = await first.reset_breakers("MAX_DRAWDOWN")
    assert (lived.drawdown, lived.peak_equity_quote) == (0.0, fallen.equity_quote)
    again = engine(pg_pool)
    await again.start()
    shown = await again.account_snapshot([])
    assert (shown.equity_quote, shown.peak_equity_quote, shown.peak_rebased_at) == (
        fallen.equity_quote,
        fallen.equity_quote,
        late + 2,
    )
    assert "MAX_DRAWDOWN" not in shown.trips
    assert "MAX_DAILY_LOSS" in shown.trips  # until midnight, whoever clicks

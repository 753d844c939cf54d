"""The desk in one process decides the same twice, sees no future, and its books balance."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from helios.domain.decisions import DecisionTrace
from helios.domain.enums import OrderStatus, Side, Timeframe, TradingState
from helios.pipeline.conductor import StepReport
from helios.pipeline.local import LocalDesk
from helios.risk.explain import explain
from tests.support.local_desks import make_config, make_desk, packed, write_synthetic

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded")) / "binance-perp-1m-2025-05"
CASH = Decimal(make_config().desk.initial_cash_quote)
Run = tuple[LocalDesk, list[StepReport]]
Market = tuple[Path, list[str] | None, int]


@pytest.fixture(scope="module", params=["synthetic", pytest.param("recorded", marks=pytest.mark.realdata)])
def market(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Directory, symbols and number of decision bars; the first 330 warm the fifteen-minute windows."""
    if request.param == "synthetic":
        return write_synthetic(tmp_path_factory.mktemp("candles") / "synthetic-spot-1m", 3_000), None, 590
    if not RECORDED.is_dir():
        pytest.skip(f"recorded candles not found: {RECORDED.name}")
    return RECORDED, ["BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"], 850


@pytest.fixture(scope="module")
def whole(market: Market) -> Run:
    return _run(market)


def _run(market: Market, cut_ns: int | None = None, factor: float | None = None, bars: int | None = None) -> Run:
    directory, symbols, n_bars = market
    desk = make_desk(directory, symbols, cut_ns, factor)
    return desk, asyncio.run(desk.run(bars or n_bars))


def _traces(reports: Sequence[StepReport]) -> list[DecisionTrace]:
    return [t for r in reports if r.result is not None for t in r.result.traces]


def test_the_same_data_give_the_same_bytes(market: Market, whole: Run) -> None:
    desk, reports = _run(market)
    assert packed(_traces(reports)) == packed(_traces(whole[1]))
    assert desk.ledger.events == whole[0].ledger.events
    assert desk.ledger.events


@pytest.mark.parametrize("factor", [None, 1.3], ids=["truncated", "moved"])
def test_what_comes_after_a_bar_changes_nothing_up_to_it(market: Market, whole: Run, factor: float | None) -> None:
    keep = market[2] * 4 // 5
    cut = whole[1][keep - 1].bar_time
    _, reports = _run(market, cut, factor, keep if factor is None else keep + 12)
    past = [t for t in _traces(whole[1]) if t.bar_time <= cut]
    assert len(past) > 50
    assert packed([t for t in _traces(reports) if t.bar_time <= cut]) == packed(past)
    if factor is not None:  # the comparison is worth something only if the future does matter afterwards
        later = reports[-1].bar_time
        assert packed([t for t in _traces(reports) if t.bar_time > cut]) != packed(
            [t for t in _traces(whole[1]) if cut < t.bar_time <= later]
        )


def test_every_decision_of_a_run_is_told_without_a_gap(whole: Run) -> None:
    for trace in _traces(whole[1]):
        stored = orjson.loads(orjson.dumps(trace))
        chapters = explain(stored)
        assert [c.tier for c in chapters] == [*stored["steps"], "outcome"]
        words = " ".join(line for c in chapters for line in c.sentences)
        assert not any(gap in words for gap in ("None", "nan%", " nan", "unknown amount"))


def test_every_symbol_has_exactly_one_trace_per_bar_once_it_is_warm(whole: Run) -> None:
    desk, reports = whole
    warm: set[str] = set()
    for report in reports:
        warm |= {w.symbol for s in report.steps for w in s.windows if w.is_warm}
        found = [t.symbol for t in report.result.traces] if report.result is not None else []
        assert found == sorted(warm)
    assert warm == set(desk.symbols.states)
    ids = [t.decision_id for t in _traces(reports)]
    assert len(ids) == len(set(ids))
    assert desk.traces.traces.keys() == set(ids)
    assert "OPEN" not in {t.outcome for t in _traces(reports)}


def test_it_trades_and_the_ledger_holds_each_client_id_once(whole: Run) -> None:
    desk, reports = whole
    outcomes = Counter(t.outcome for t in _traces(reports))
    sent = [o.record for r in reports if r.result is not None for o in r.result.outcomes]
    committed = Counter(r.client_order_id for r in desk.ledger.events if r.status is OrderStatus.PENDING)
    assert outcomes["ORDERED"] >= 2, outcomes
    assert set(committed.values()) == {1}
    assert {r.client_order_id for r in sent if not r.deny_codes} <= set(committed)
    assert {r.status for r in sent} <= {OrderStatus.FILLED, OrderStatus.REJECTED}


def test_equity_is_cash_at_the_start_plus_what_was_won(whole: Run) -> None:
    for report in whole[1]:
        a = report.account
        assert a.equity_quote == pytest.approx(CASH + a.realised_pnl_quote + a.unrealised_pnl_quote, abs=Decimal("1e-6"))
    assert whole[1][-1].account.closed_trades >= 1


def test_a_backtest_halts_at_the_drawdown_closes_everything_and_stays_so(market: Market) -> None:
    directory, symbols, n_bars = market
    desk = make_desk(directory, symbols, limits__max_drawdown=0.00002)
    reports = asyncio.run(desk.run(n_bars))
    halted = [i for i, r in enumerate(reports) if r.account.trading_state is TradingState.HALTED]
    assert halted
    first = halted[0]
    assert first > 0
    assert halted == list(range(first, len(reports)))  # a person ends it, not a better price
    assert all(not r.account.positions for r in reports[first:])
    later = {t.outcome for t in _traces(reports[first:])}
    assert "ORDERED" not in later
    assert later <= {"TRADING_HALTED", "HOLD", "LOW_CONFIDENCE", "DATA_MISSING", "STALE_DATA"}
    reasons = [r.reason for r in desk.ledger.events if r.reduce_only and r.status is OrderStatus.FILLED]
    assert "EMERGENCY" in reasons


def test_a_holding_that_outgrows_its_cap_is_trimmed_and_told(tmp_path: Path) -> None:
    directory = write_synthetic(tmp_path / "synthetic-spot-1m", 3_000)
    n_bars = 560
    entry = next(t for t in _traces(_run((directory, None, n_bars))[1]) if t.outcome == "ORDERED")
    cut = entry.bar_time + 2 * Timeframe.M5.ns
    # every price is forty-fold after the entry; the target is out of reach, so that the position stays
    desk = make_desk(directory, None, cut, 40.0, risk__reward_to_risk=5_000.0, risk__trailing_pct=0.0)
    reports = asyncio.run(desk.run(n_bars))
    told = [t.steps["rebalance"] for t in _traces(reports) if "rebalance" in t.steps]
    assert told
    assert (told[0]["why"], told[0]["status"], told[0]["side"]) == ("RISK_EVENT", "FILLED", "SELL")
    sold = [r for r in desk.ledger.events if r.leg == "rebalance" and r.status is OrderStatus.FILLED]
    assert all(r.reduce_only and r.side is Side.SELL for r in sold)
    after = next(r.account for r in reports if r.bar_time == sold[0].ts_event + Timeframe.M5.ns)
    assert all(p.notional_quote / after.equity_quote < Decimal("0.215") for p in after.positions)
    last = reports[-1].account
    assert last.equity_quote == CASH + last.realised_pnl_quote + last.unrealised_pnl_quote

"""No sequence of orders and fills passes a limit: the checks before a real account, judged by a recomputation of its own."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from helios.config import LimitConfig
from helios.domain.enums import MarketKind, OrderStatus, Side, TradingState
from helios.domain.events import Mark
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, Fill, OrderIntent
from helios.execution.lifecycle import new_record
from helios.pipeline.checks import LimitCheck
from helios.portfolio.accounting import Account
from helios.risk.breakers import BreakerBoard
from helios.risk.limits import check_limits, limit_warnings
from tests.unit.risk.builders import account, order, position

S = 1_000_000_000
T0 = 1_700_000_000 * S
CASH = Decimal(100_000)
SPOT = {s: Instrument(f"{s}/USDT", s, "USDT", "test", s) for s in ("BTC", "BCH", "ETH", "DOGE")}
PERPS = {s: Instrument(f"{s}/USDT:USDT", s, "USDT", "test", s, kind=MarketKind.PERP, max_leverage=Decimal(3)) for s in ("BTC", "SOL")}
UNIVERSE = {i.symbol: i for i in (*SPOT.values(), *PERPS.values())}
SECTORS = {"BTC": "a", "BCH": "a", "ETH": "b", "SOL": "b", "DOGE": "c"}
LIMITS = LimitConfig(
    max_drawdown=0.06, max_daily_loss=0.05,
    max_position=0.4, max_sector=0.6, max_portfolio_leverage=1.1, max_open_positions=3, max_entries_per_day=4,
    min_entry_interval_s=5, max_notional_quote=Decimal(45_000), duplicate_window_s=30,
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    symbol: str
    side: Side
    share: Decimal  # of the initial cash
    move: float  # of the price before the order
    wait_s: int
    reduce_only: bool


steps = st.builds(
    Step,
    symbol=st.sampled_from(sorted(UNIVERSE)),
    side=st.sampled_from([Side.BUY, Side.BUY, Side.SELL]),
    share=st.sampled_from([Decimal(share) for share in ("0.02", "0.05", "0.2", "0.37", "0.5")]),
    move=st.sampled_from([0.0, 0.0, 0.0, -0.3, -0.12, 0.05]),
    wait_s=st.sampled_from([6, 1, 40, 100_000, 90_000]),
    reduce_only=st.sampled_from([False, False, True]),
)


def is_kept(before: AccountSnapshot, after: AccountSnapshot, intent: OrderIntent) -> list[str]:
    """Name every hard limit that an accepted entry has broken, from the account alone and in floats."""
    equity, n_open = float(before.equity_quote), len(after.positions)
    held = {p.symbol: abs(float(p.quantity_base) * float(p.mark_price)) / equity for p in after.positions}
    sectors: dict[str, float] = {}
    for symbol, share in held.items():
        sectors[SECTORS[symbol.split("/")[0]]] = sectors.get(SECTORS[symbol.split("/")[0]], 0.0) + share
    own, slack = intent.symbol, 1e-9
    margins = sum(abs(float(p.quantity_base) * float(p.mark_price)) / p.leverage for p in before.positions)
    notional = float(intent.quantity_base * intent.reference_price)
    is_backed = intent.side is Side.BUY or UNIVERSE[own].can_short
    broken = {
        "position": held.get(own, 0.0) > LIMITS.max_position + slack,
        "sector": sectors.get(SECTORS[own.split("/")[0]], 0.0) > LIMITS.max_sector + slack,
        "leverage": sum(held.values()) > LIMITS.max_portfolio_leverage + slack,
        "open": n_open > LIMITS.max_open_positions and n_open > len(before.positions),
        "entries": after.entries_today > 4,
        "notional": not 10 - slack <= notional <= 45_000 + slack,
        "drawdown": equity <= float(before.peak_equity_quote) * (1 - 0.06) - slack,
        "day": equity <= float(before.day_start_equity_quote) * (1 - 0.05) - slack,
        "losses": before.consecutive_losses >= 5,
        "margin": is_backed and notional / intent.leverage * 1.05 > equity - margins + slack,
        "interval": any(s == own and intent.ts_event - at < 5 * S for s, at in before.last_entry_at),
        "short": any(p.quantity_base < 0 and UNIVERSE[p.symbol].kind is MarketKind.SPOT for p in after.positions),
    }
    return [name for name, is_broken in broken.items() if is_broken]


@settings(max_examples=120, deadline=None)
@given(st.lists(steps, min_size=10, max_size=25))
def test_no_sequence_of_orders_passes_a_limit_it_breaks(sequence: list[Step]) -> None:
    book, check, now = Account(CASH, T0), LimitCheck(LIMITS, UNIVERSE, sectors=SECTORS), T0
    prices = dict.fromkeys(UNIVERSE, 100.0)
    passed: list[OrderIntent] = []
    for i, step in enumerate(sequence):
        now += step.wait_s * S
        prices[step.symbol] = round(prices[step.symbol] * (1 + step.move), 2)
        for symbol, price in prices.items():
            book.mark(Mark(symbol, price, now))
        before, price = book.snapshot(now), Decimal(str(prices[step.symbol]))
        quantity = round(CASH * step.share / price, 4)
        intent = OrderIntent(f"hx-{i}", f"d{i}", step.symbol, step.side, quantity, price, step.reduce_only, "entry", 1.0, now)
        if check(intent, before, MarketSnapshot(step.symbol, price, now), now):
            continue
        record = new_record(intent, 1, OrderStatus.PENDING, ())
        book.apply(record, Fill(f"f{i}", f"hx-{i}", step.symbol, step.side, quantity, price, Decimal(0), "USDT", Decimal(0), now))
        after = book.snapshot(now)
        if step.reduce_only:
            held, left = before.position(step.symbol), after.position(step.symbol)
            assert held is not None
            assert left is None or 0 < left.quantity_base / held.quantity_base < 1
            continue
        assert is_kept(before, after, intent) == []
        twins = [p for p in passed if (p.symbol, p.side, p.quantity_base) == (intent.symbol, intent.side, intent.quantity_base)]
        assert all(now - p.ts_event >= 30 * S for p in twins)
        passed.append(intent)


def codes(request: Any, limits: LimitConfig) -> set[str]:
    return {v.code for v in check_limits(request, limits, SECTORS)}


TIGHTER: dict[str, st.SearchStrategy[Any]] = {
    "max_drawdown": st.floats(0.01, 0.15), "max_daily_loss": st.floats(0.005, 0.05), "max_position": st.floats(0.01, 0.2),
    "max_sector": st.floats(0.05, 0.6), "max_correlation": st.floats(0.1, 0.9), "max_open_positions": st.integers(1, 10),
    "max_portfolio_leverage": st.floats(0.1, 3.0), "max_entries_per_day": st.integers(1, 20),
    "min_entry_interval_s": st.floats(300.0, 5_000.0), "max_consecutive_losses": st.integers(1, 5),
    "max_volatility_ratio": st.floats(1.0, 3.0), "max_price_deviation": st.floats(0.001, 0.05),
    "balance_cushion": st.floats(0.05, 1.0),
    "max_notional_quote": st.decimals(10, 100_000, places=0), "min_notional_quote": st.decimals(10, 10_000, places=0),
    "max_data_age_s": st.floats(0.1, 5.0), "duplicate_window_s": st.floats(60.0, 600.0),
    "min_balance_quote": st.decimals(0, 200_000, places=0), "max_daily_loss_quote": st.decimals(1_000_000, 2_000_000, places=0),
}  # fmt: skip

requests = st.builds(
    lambda notional, held, other, drawdown, daily, row, entries, correlation, ratio, age, elapsed: order(
        str(notional),
        account=account(
            "100000", *([position("BTC/USDT", str(held), "1")] if held else []), position("ETH/USDT", str(other), "1"),
            drawdown=drawdown, daily_loss=daily, consecutive_losses=row, entries_today=entries,
            last_entry_at=(("BTC/USDT", T0 - round(elapsed * S)),),
        ),
        now_ns=T0, correlations={"ETH/USDT": correlation}, volatility_ratio=ratio, data_age_s=age,
    ),
    st.integers(1, 60_000), st.integers(0, 30_000), st.integers(1, 60_000), st.floats(0, 0.2), st.floats(0, 0.1), st.integers(0, 6),
    st.integers(0, 25), st.floats(-1, 1), st.floats(0.1, 5), st.floats(0, 8), st.floats(0, 10_000),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(requests, st.sampled_from(sorted(TIGHTER)), st.data())
def test_a_tighter_limit_never_lets_more_through(request: Any, name: str, data: st.DataObject) -> None:
    tight = LimitConfig(**{name: data.draw(TIGHTER[name])})
    assert codes(request, LimitConfig()) <= codes(request, tight)


@settings(max_examples=60, deadline=None)
@given(requests)
def test_refusals_and_warnings_never_name_the_same_finding(request: Any) -> None:
    refused = [v.detail for v in check_limits(request, LimitConfig(), SECTORS)]
    warned = [v.detail.removeprefix("near its limit, ") for v in limit_warnings(request, LimitConfig(), SECTORS)]
    assert not set(refused) & set(warned)


looks = st.tuples(
    st.integers(0, 40), st.integers(60_000, 120_000), st.integers(0, 7), st.integers(0, 30), st.floats(0, 6),
    st.lists(st.sampled_from(["feed", "signal", "execution"]), max_size=3),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(looks, min_size=1, max_size=15), st.integers(0, 14))
def test_a_board_is_the_same_after_a_restart_anywhere_and_halts_by_itself_only(sequence: list[Any], cut: int) -> None:
    board, restarted, now = BreakerBoard(LimitConfig()), BreakerBoard(LimitConfig()), T0
    was_halted = False
    for i, (hours, equity, row, entries, ratio, unhealthy) in enumerate(sequence):
        now += hours * 3_600 * S
        seen = account(str(equity), peak_equity_quote=Decimal(120_000), ts_event=now, consecutive_losses=row, entries_today=entries)
        if i == cut:
            restarted = BreakerBoard.from_json(restarted.to_json(), LimitConfig())
        events = board.observe(seen, now, {"BTC/USDT": ratio}, unhealthy)
        assert restarted.observe(seen, now, {"BTC/USDT": ratio}, unhealthy) == events
        assert board.observe(seen, now, {"BTC/USDT": ratio}, unhealthy) == ()
        assert restarted.to_json() == board.to_json()
        was_halted = was_halted or board.state is TradingState.HALTED
        assert (board.state is TradingState.HALTED) == was_halted

"""The exits that a position has are the barriers that labels are made of: the same bars, the same end, the same return."""

from __future__ import annotations

import numpy as np
import pytest

from helios.config import RiskConfig
from helios.domain.decisions import FloatArray
from helios.domain.enums import ExitReason, Side, Timeframe
from helios.domain.market import Bar, MarketSnapshot
from helios.domain.orders import ExitTriggered
from helios.execution.exits import ExitMonitor
from helios.learn.labels import STOP, TARGET, TIME, BarrierSpec, triple_barrier
from helios.portfolio.accounting import Account
from helios.risk.exits import exit_rule
from tests.support.execution_fakes import PERP, T0, D, fill, market, record

M5 = Timeframe.M5
HORIZON = 24
N_BARS = 160
KINDS = {ExitReason.STOP: STOP, ExitReason.TARGET: TARGET, ExitReason.TIMEOUT: TIME}


@pytest.fixture(scope="module")
def bars() -> list[Bar]:
    """Five-minute bars without gaps, wild enough that all three ends come."""
    rng = np.random.default_rng(5)
    close = 50_000 * np.exp(np.cumsum(rng.standard_t(4, N_BARS) * 0.004))
    open_ = np.append(50_000.0, close[:-1])
    reach = rng.uniform(0, 0.006, (2, N_BARS))
    high, low = np.maximum(open_, close) * (1 + reach[0]), np.minimum(open_, close) * (1 - reach[1])
    rows = np.column_stack([open_, high, low, close, np.ones(N_BARS)]).round(4).tolist()
    return [Bar(PERP.symbol, M5, T0 + n * M5.ns, *row) for n, row in enumerate(rows)]


def ending(bars: list[Bar], entry: int, side: Side, volatility: float, config: RiskConfig) -> ExitTriggered:
    """Open at the close of one bar as the desk would and follow the bars after it."""
    account, at = Account(D(10**9), 0), bars[entry].close_time
    order = record(side=side, symbol=PERP.symbol, ts=at, rule=exit_rule(volatility, config))
    account.apply(order, fill(order, price=repr(bars[entry].close), ts=at))
    monitor = ExitMonitor()
    monitor.arm(account.exit_plans())

    def unused() -> MarketSnapshot:
        return market(symbol=PERP.symbol)

    return next(hit for bar in bars[entry + 1 :] for hit in monitor.on_bar(bar, unused))


def test_stop_target_and_time_out_are_those_of_the_labels(bars: list[Bar]) -> None:
    close, high, low = (np.array([getattr(bar, name) for bar in bars]) for name in ("close", "high", "low"))
    config = RiskConfig(timeout_h=HORIZON * M5.seconds / 3600, trailing_pct=0.0)
    volatility: FloatArray = np.full(N_BARS, 0.01)
    labels = triple_barrier(
        close, high, low, volatility, HORIZON, config.stop_daily_volatilities, config.reward_to_risk, cost_pct=0.0
    )
    seen = set()
    for column, side in enumerate((Side.BUY, Side.SELL)):
        for entry in range(N_BARS - HORIZON):
            hit = ending(bars, entry, side, 0.01, config)
            assert KINDS[hit.reason] == labels.exit_kinds[entry, column]
            gain = side * (hit.trigger_price / close[entry] - 1.0)
            assert gain == pytest.approx(labels.exit_returns[entry, column], abs=1e-9)
            seen.add((side, hit.reason))
    assert len(seen) == 6


def test_the_defaults_of_labels_and_of_positions_are_the_same() -> None:
    config, spec = RiskConfig(), BarrierSpec()
    assert (spec.stop_multiple, spec.reward_to_risk) == (config.stop_daily_volatilities, config.reward_to_risk)
    assert spec.horizon_bars * M5.ns == exit_rule(0.02, config).timeout_ns
    assert spec.cost_pct == config.round_trip_cost_pct
    # What labels do not have: the trailing stop, which only ever ends a position before its target.
    assert config.trailing_activate_pct < config.reward_to_risk * config.stop_daily_volatilities * config.volatility_reference


def test_the_trailing_stop_that_labels_leave_out_only_comes_before_their_end(bars: list[Bar]) -> None:
    plain, default = (RiskConfig(timeout_h=HORIZON * M5.seconds / 3600, **more) for more in ({"trailing_pct": 0.0}, {}))
    for entry in range(0, N_BARS - HORIZON, 5):
        label, real = (ending(bars, entry, Side.BUY, 0.02, config) for config in (plain, default))
        assert real == label or (real.reason is ExitReason.TRAILING_STOP and real.ts_event <= label.ts_event)

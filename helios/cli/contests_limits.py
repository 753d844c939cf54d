"""Risk: all checks before one order, the breakers' look at an account, VaR, and the whole report, for an account of ten positions."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from itertools import count

import numpy as np

from helios.cli.contest import Contest, Sizes
from helios.cli.contests import SEED
from helios.config import LimitConfig
from helios.domain.enums import Side
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, OrderIntent, PositionView
from helios.execution.gate import OrderGate
from helios.execution.guard import AccountGuard
from helios.pipeline.checks import LimitCheck
from helios.portfolio.accounting import Account
from helios.risk.breakers import BreakerBoard
from helios.risk.report import DAY_NS, RiskInputs, risk_report
from helios.risk.var import TailMethod, tail_loss

_NOW = 20_000 * DAY_NS
_BASES = ("BTC", "ETH", "SOL", "XRP", "LTC", "LINK", "UNI", "DOGE", "AVAX", "ADA")
_N_ORDERS = 500
_N_RETURNS = 365


def risk(sizes: Sizes) -> list[Contest]:
    """What runs before every order, at every look, and for every page of figures."""
    returns = np.random.default_rng(SEED).standard_t(5, (_N_RETURNS, len(_BASES))) * 0.03
    held = returns.mean(axis=1)
    inputs = _inputs(returns)
    tails = Contest(
        f"VaR and CVaR, five methods, {_N_RETURNS} days", "us", 10, lambda: [tail_loss(held, 0.99, m) for m in list(TailMethod) * 2]
    )
    report = Contest("the whole risk report", "ms", 1, lambda: risk_report(inputs), note="ten positions, a year of days")
    return [_orders(), _looks(), tails, report]


def _orders() -> Contest:
    account, limits = _account(), LimitConfig(max_open_positions=20)
    instruments = {f"{base}/USDT": Instrument(f"{base}/USDT", base, "USDT", "bench", base) for base in _BASES}
    markets = {symbol: MarketSnapshot(symbol, Decimal(100), _NOW) for symbol in instruments}
    check = LimitCheck(limits, instruments)
    gate = OrderGate(check, check.findings, instruments, Account(Decimal(100_000), _NOW), AccountGuard(limits))
    intents = [_intent(i, list(instruments)) for i in range(_N_ORDERS)]

    def one(intent: OrderIntent) -> None:
        gate.rule(intent, account, markets[intent.symbol], is_blocked=False)

    def ours() -> None:
        for intent in intents:
            one(intent)

    note = f"one order at a time: p99 {_percentile_us(one, intents):.0f} us of CPU over {len(intents)}; at most 1,000 are wanted"
    return Contest("all checks of one order, 10 positions held", "us", len(intents), ours, note=note)


def _percentile_us(one: Callable[[OrderIntent], None], intents: list[OrderIntent]) -> float:
    seconds = []
    for intent in intents:
        start = time.thread_time()
        one(intent)
        seconds.append(time.thread_time() - start)
    return float(np.quantile(seconds, 0.99)) * 1e6


def _looks() -> Contest:
    board, times, account = BreakerBoard(LimitConfig()), count(_NOW, 1), _account()
    ratios = {f"S{i}/USDT": 1.0 for i in range(100)}

    def ours() -> None:
        for _ in range(100):
            board.observe(account, next(times), ratios)

    return Contest("the breakers' look at an account, 100 symbols", "us", 100, ours)


def _inputs(returns: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> RiskInputs:
    rng = np.random.default_rng(SEED)
    times = _NOW - DAY_NS // 24 * np.arange(24 * _N_RETURNS, 0, -1)
    equity = 1e5 * np.exp(np.cumsum(rng.standard_normal(times.size) * 0.002))
    symbols = tuple(f"{base}/USDT" for base in _BASES)
    return RiskInputs(_NOW, _account(), LimitConfig(), times, equity, symbols, returns, "BTC/USDT")


def _account() -> AccountSnapshot:
    cash, money = Decimal(100_000), Decimal(0)
    mark = Decimal(100)
    positions = tuple(
        PositionView(f"{base}/USDT", Decimal(40), mark, mark, money, money, 0, 1.0, "d", 0.0, 0.0, 0) for base in _BASES
    )
    return AccountSnapshot(_NOW, cash, cash, cash, cash, money, money, money, 0.01, 0.01, positions, 3, 1, (), 0, 0)


def _intent(i: int, symbols: list[str]) -> OrderIntent:
    symbol = symbols[i % len(symbols)]
    known = tuple((other, 0.6) for other in symbols if other != symbol)
    quantity = Decimal(20) + Decimal(i) / 100
    return OrderIntent(
        f"hx-{i}", f"d{i}", symbol, Side.BUY, quantity, Decimal(100), False, "entry", 1.0, _NOW, volatility_ratio=1.2,
        correlations=known,
    )  # fmt: skip

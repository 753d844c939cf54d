"""Accounts, positions, contexts and price paths for the tests of tier 3."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from helios.domain.decisions import FloatArray, Prediction
from helios.domain.enums import Action, MarketKind, Side
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, PositionView
from helios.pipeline.ports import RiskRequest, SymbolContext
from helios.risk.limits import LimitRequest

BAR_NS = 300_000_000_000
T0 = 1_700_000_100_000_000_000 // BAR_NS * BAR_NS


def position(symbol: str, quantity: str, price: str = "1", leverage: float = 1.0) -> PositionView:
    amount, mark = Decimal(quantity), Decimal(price)
    return PositionView(symbol, amount, mark, mark, Decimal(0), Decimal(0), T0, leverage, "d", 0.0, 0.0, 0)


def account(equity: str = "100000", *positions: PositionView, **changes: Any) -> AccountSnapshot:
    values: dict[str, Any] = {
        "ts_event": T0,
        "equity_quote": Decimal(equity),
        "cash_quote": Decimal(equity),
        "peak_equity_quote": Decimal(equity),
        "day_start_equity_quote": Decimal(equity),
        "realised_pnl_quote": Decimal(0),
        "unrealised_pnl_quote": Decimal(0),
        "fees_quote": Decimal(0),
        "drawdown": 0.0,
        "daily_loss": 0.0,
        "positions": positions,
        "entries_today": 0,
        "consecutive_losses": 0,
        "last_entry_at": (),
        "closed_trades": 0,
        "winning_trades": 0,
    }
    return AccountSnapshot(**(values | changes))


def instrument(symbol: str = "BTC/USDT", kind: MarketKind = MarketKind.SPOT, **changes: Any) -> Instrument:
    base, quote = symbol.split(":")[0].split("/")
    return Instrument(symbol, base, quote, "test", symbol, kind=kind, **changes)


def order(notional: str = "10000", **changes: Any) -> LimitRequest:
    values: dict[str, Any] = {
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "quantity_base": Decimal(notional) / 100,
        "price": Decimal(100),
        "instrument": instrument(),
        "account": account(),
        "market": MarketSnapshot("BTC/USDT", Decimal(100), T0),
        "now_ns": T0,
        "data_age_s": 0.5,
    }
    return LimitRequest(**(values | changes))


def prices(n: int, seed: int = 1, bar_volatility: float = 0.002) -> FloatArray:
    """Closes with GARCH(1,1) log returns: alpha 0.08, beta 0.90, Student t of 6 degrees."""
    return 100.0 * np.exp(np.cumsum(garch_returns(n, seed, bar_volatility)))


def garch_returns(n: int, seed: int = 1, bar_volatility: float = 0.002) -> FloatArray:
    draws = np.random.default_rng(seed).standard_t(6, n) * np.sqrt(4 / 6)
    long_run, variance = bar_volatility**2, bar_volatility**2
    returns = np.empty(n)
    for i, draw in enumerate(draws):
        returns[i] = np.sqrt(variance) * draw
        variance = 0.02 * long_run + 0.08 * returns[i] ** 2 + 0.90 * variance
    return returns


def prediction(action: Action = Action.BUY, confidence: float = 0.72, symbol: str = "BTC/USDT", at: int = T0) -> Prediction:
    return Prediction(symbol, at, action, confidence, (confidence, 0.0, 0.0), (1.0, 0.0, 0.0), "test")


def request(
    *predictions: Prediction,
    close: float = 100.0,
    at: int = T0,
    holder: AccountSnapshot | None = None,
    also: tuple[str, ...] = (),
) -> RiskRequest:
    symbols = tuple(p.symbol for p in predictions) + also
    contexts = {s: SymbolContext(s, at, close, 1e6, MarketSnapshot(s, Decimal(str(round(close, 6))), at)) for s in symbols}
    return RiskRequest(at, predictions, contexts, holder or account())

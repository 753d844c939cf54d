"""The pre-trade check of the execution engine, made of the risk limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from helios.config import LimitConfig
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, OrderIntent
from helios.risk.limits import LimitRequest, check_limits
from helios.risk.sectors import sector_of

PreTradeCheck = Callable[[OrderIntent, AccountSnapshot, MarketSnapshot | None, int], tuple[str, ...]]


def make_check(limits: LimitConfig, instruments: Mapping[str, Instrument]) -> PreTradeCheck:
    """Return a function that gives the codes of every limit an order would break; empty means it may go out."""
    sectors = {symbol: sector_of(i.base) for symbol, i in instruments.items()}

    def check(intent: OrderIntent, account: AccountSnapshot, market: MarketSnapshot | None, now_ns: int) -> tuple[str, ...]:
        if market is None:
            return () if intent.reduce_only else ("STALE_DATA",)
        request = LimitRequest(
            symbol=intent.symbol,
            side=intent.side,
            quantity_base=intent.quantity_base,
            price=intent.reference_price,
            reduce_only=intent.reduce_only,
            leverage=intent.leverage,
            instrument=instruments[intent.symbol],
            account=account,
            market=market,
            data_age_s=max(0, now_ns - market.ts_event) / 1e9,
            now_ns=now_ns,
            correlations=dict(intent.correlations),
            volatility_ratio=intent.volatility_ratio,
        )
        return tuple(v.code for v in check_limits(request, limits, sectors))

    return check
